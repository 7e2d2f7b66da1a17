"""Displays of remote code: matplotlib figures and IPython's display protocol, without either being imported before it is used.

This module is also the matplotlib backend of worker processes (MPLBACKEND=module://easyremote.execution.rich_display).
"""

from __future__ import annotations

import base64
import functools
import io
import sys
from typing import Any

from easyremote.execution import figures
from easyremote.execution.context import running
from easyremote.execution.import_hooks import when_imported

BACKEND = "module://easyremote.execution.rich_display"


def publish(data: dict[str, Any], metadata: dict[str, Any] | None = None, **fields: Any) -> bool:
    """Send a mime bundle to the caller of the running call. False when no call runs here."""
    emitter = running()
    if emitter is None:
        return False
    emitter.display({"bundle": {"data": _textual(data), "metadata": metadata or {}}, **fields})
    return True


def _textual(data: dict[str, Any]) -> dict[str, Any]:
    return {
        mime: base64.b64encode(value).decode() if isinstance(value, bytes) else value for mime, value in data.items()
    }


# ---- matplotlib ------------------------------------------------------------------------------------------------------


def flush_figures() -> None:
    """Show and close every open figure, as a notebook does at the end of a cell."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    if pyplot is None or sys.modules["matplotlib"].get_backend().lower() != BACKEND:
        return
    for number in pyplot.get_fignums():
        _show_figure(pyplot.figure(number))
    pyplot.close("all")


def _show_figure(figure: Any) -> None:
    if not figure.axes and not figure.lines and not figure.images and not figure.texts:
        return
    data, metadata = figures.bundle(figure)
    if len(data) < 2:  # no image: not a cell's
        stream = io.BytesIO()
        figure.savefig(stream, format="png", bbox_inches="tight", facecolor=figure.get_facecolor())
        data, metadata = {"image/png": stream.getvalue(), "text/plain": repr(figure)}, {}
    publish(data, metadata)


def is_open(value: Any) -> bool:
    """Whether it is a figure that `flush_figures` will show."""
    pyplot = sys.modules.get("matplotlib.pyplot")
    return (
        pyplot is not None and isinstance(value, pyplot.Figure) and getattr(value, "number", 0) in pyplot.get_fignums()
    )


def show(*_: Any, **__: Any) -> None:
    """What plt.show() does here."""
    flush_figures()


def __getattr__(name: str) -> Any:
    """The rest of what matplotlib asks of a backend, made when it asks."""
    if name == "FigureCanvas":
        from matplotlib.backend_bases import FigureManagerBase
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        class FigureManager(FigureManagerBase):
            def show(self) -> None:
                _show_figure(self.canvas.figure)

            @classmethod
            def pyplot_show(cls, *, block: bool | None = None) -> None:
                flush_figures()

        class FigureCanvas(FigureCanvasAgg):
            manager_class = FigureManager  # type: ignore[assignment]

        globals().update(FigureCanvas=FigureCanvas, FigureManager=FigureManager)
        return FigureCanvas
    if name == "FigureManager":
        __getattr__("FigureCanvas")
        return globals()["FigureManager"]
    raise AttributeError(name)


# ---- IPython ---------------------------------------------------------------------------------------------------------


def _with_shell(module: Any) -> None:
    """Make a shell for IPython's `display` when it is used first; without one it would only print.

    What takes its place has its name, so that elsewhere the name in a pickled function means IPython's own.
    """
    display, update = module.display, module.update_display

    @functools.wraps(display)
    def display_here(*objects: Any, **options: Any) -> Any:
        _ensure_shell()
        return display(*objects, **options)

    @functools.wraps(update)
    def update_here(*objects: Any, **options: Any) -> Any:
        _ensure_shell()
        return update(*objects, **options)

    module.display, module.update_display = display_here, update_here


def _ensure_shell() -> None:
    from easyremote.execution.cells import shell

    shell()


def install() -> None:
    """Prepare this process for displays. Imports neither matplotlib nor IPython."""
    when_imported("IPython.core.display_functions", _with_shell)
