"""The one line that says how a job in the background is, with a button that cancels it where ipywidgets is installed."""

from __future__ import annotations

import contextlib
import html
import secrets
import threading
import time
from collections.abc import Callable
from typing import Any

from IPython.display import display, update_display

from easyremote import foreign
from easyremote.errors import EasyRemoteError
from easyremote.jobs import Job
from easyremote.tables import INDENT, MUTED

# Legible on white and on black, and told apart by those who don't see red and green as different: the word stands beside it.
_DOTS = {"running": "#1976d2", "succeeded": "#2e8b57", "failed": "#d84315", "cancelled": "#8d6e63", "queued": "#888888"}


class _Line:
    """One state of it: as HTML and as text."""

    def __init__(self, job: str, title: str, state: str, more: str, command: str) -> None:
        self._parts = job, title, state, more, command

    def __repr__(self) -> str:
        job, title, state, more, command = self._parts
        return f"job {job} ({title}) {state}{more}{f'; {command}' if command else ''}"

    def _repr_html_(self) -> str:
        return self.html()

    def html(self, with_command: bool = True) -> str:
        job, title, state, more, command = map(html.escape, self._parts)
        dot = f'<span style="color:{_DOTS.get(state, "#888888")}">&#9679;</span>'
        code = (
            f'<span style="{MUTED}"> · <code style="background:none">{command}</code></span>'
            if command and with_command
            else ""
        )
        return (
            f'<div style="{INDENT};font-size:0.92em;line-height:1.9">{dot} job <code style="background:none">{job}</code> '
            f'<span style="{MUTED}">{title}</span> <b style="font-weight:600">{state}</b>{more}{code}</div>'
        )


class JobLine:
    """Shown where it is made. Its methods may be called from any thread; displays go where that thread shows them."""

    def __init__(self, job: Job[Any], remark: str = "", state: str = "queued") -> None:
        self._job = job
        self._remark = remark
        self._display_id = secrets.token_hex(8)
        self._widget: Any = None
        self._text: Any = None
        is_open = state in ("queued", "running")
        line = self._line(state, "", f"%easyremote cancel {job.id[:8]}" if is_open else "")
        if is_open:
            self._widget, self._text = _widget(line, self._cancel)
        display(self._bundle(line) or line, raw=self._widget is not None, display_id=self._display_id)

    def running(self, node: str) -> None:
        """A node has begun it."""
        since = time.strftime("%H:%M:%S")
        line = self._line(
            "running", f" on {foreign.name(node)} since {since}", f"%easyremote cancel {self._job.id[:8]}"
        )
        self._update(line)

    def ended(self, state: str, more: str = "", command: str = "") -> None:
        """No button is left, and a saved notebook keeps this."""
        widget, self._widget = self._widget, None
        line = self._line(state, more, command)
        update_display(line, display_id=self._display_id)
        if widget is not None:
            with contextlib.suppress(Exception):  # the page that had it may be gone
                widget.close()

    def _line(self, state: str, more: str, command: str) -> _Line:
        remark = f" · {self._remark}" if self._remark and state in ("queued", "running") else ""
        return _Line(self._job.id[:8], foreign.name(self._job.function), state, f"{more}{remark}", command)

    def _update(self, line: _Line) -> None:
        if self._text is not None:
            self._text.value = line.html(with_command=False)  # the button stands for it
        bundle = self._bundle(line)
        if bundle is None:
            update_display(line, display_id=self._display_id)

    def _bundle(self, line: _Line) -> dict[str, Any] | None:
        """With the widget, and what stands for it where no widget can be shown."""
        if self._widget is None:
            return None
        data = self._widget._repr_mimebundle_()
        data = data[0] if isinstance(data, tuple) else data
        return {**data, "text/html": line._repr_html_(), "text/plain": repr(line)}

    def _cancel(self, button: Any) -> None:
        button.disabled = True
        button.description = "Cancelling"
        threading.Thread(target=self._cancel_job, args=(button,), name="easyremote-cancel", daemon=True).start()

    def _cancel_job(self, button: Any) -> None:
        try:
            self._job.cancel("its Cancel button was pressed")
        except EasyRemoteError as error:
            button.disabled = False
            button.description = "Cancel"
            button.tooltip = f"it couldn't be cancelled: {error.message}"


def _widget(line: _Line, cancel: Callable[[Any], None]) -> tuple[Any, Any]:
    """A row of the line and a button, and the part of it that is the line; None where there are no widgets."""
    try:
        import ipywidgets
    except ImportError:
        return None, None
    from easyremote.notebook.clicks import serve_aside
    from easyremote.presenting import running_ipython

    if getattr(running_ipython(), "kernel", None) is None:
        return None, None
    text = ipywidgets.HTML(line.html(with_command=False))
    button = ipywidgets.Button(
        description="Cancel", tooltip="Stop this job", layout={"width": "86px", "height": "26px", "flex": "0 0 auto"}
    )
    button.on_click(cancel)
    serve_aside(button)
    return ipywidgets.HBox([text, button], layout={"align_items": "center", "overflow": "hidden"}), text
