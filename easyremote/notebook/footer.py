"""The line below a remote cell that tells what became of it, and the same as metadata that a saved notebook keeps."""

from __future__ import annotations

import functools
import hashlib
import html
import time
from collections.abc import Iterable
from typing import Any

from easyremote import foreign
from easyremote.notebook.outcomes import CellResult
from easyremote.presenting import running_ipython
from easyremote.sizes import format_size
from easyremote.tables import INDENT

METADATA = "easyremote"
"""The key of an output's metadata."""

SETTINGS = ("on", "off", "always")
QUIET_S = 1.0
"""A cell that ran for less, sent nothing and cost nothing has no footer, unless the setting is "always"."""

_STYLE = f"{INDENT};font-size:0.85em;opacity:0.7;line-height:1.5;margin:2px 0"
_CELL = "text-align:left;vertical-align:top;padding:0 1.2em 0 0;border:none;background:transparent;color:inherit"


def code_hash(source: str) -> str:
    """What outputs and cells are compared by: 16 hex digits."""
    return hashlib.sha256(source.strip().encode()).hexdigest()[:16]


class Footer:
    """What became of one cell. As HTML a line that opens, as text the line."""

    def __init__(self, result: CellResult) -> None:
        self._result = result

    @property
    def is_worth_a_line(self) -> bool:
        """Whether it is shown where the setting is "on"."""
        result = self._result
        return result.run_s >= QUIET_S or bool(result.sent) or result.attempts > 1 or result.cost > 0

    def metadata(self, source: str) -> dict[str, Any]:
        """For a saved notebook. `source`: of the whole cell."""
        result = self._result
        ended = time.strftime("%Y-%m-%dT%H:%M:%S%z")
        return {"code": code_hash(source), "ended": ended, **result.facts()}

    def line(self) -> str:
        """The facts that matter first."""
        result = self._result
        gpus = ", ".join(dict.fromkeys(_gpu_name(gpu) for gpu in result.gpus))
        parts = [
            foreign.name(result.node) + (f" ({gpus})" if gpus else ""),
            _span(result.run_s),
            f"attempt {result.attempts}" if result.attempts > 1 else "",
            f"cost {result.cost:.4g}" if result.cost else "",
            f"sent {_names(result.sent)}" if result.sent else "",
        ]
        return " · ".join(filter(None, parts))

    def rows(self) -> list[tuple[str, str]]:
        """All that is known."""
        result = self._result
        gpu = [f"{_gpu_name(gpu)}: {format_size(gpu['peak_memory_bytes'])}" for gpu in result.gpus]
        known = [
            ("node", foreign.name(result.node)),
            ("waited", _span(result.queued_s)),
            ("ran", _span(result.run_s)),
            ("attempts", str(result.attempts)),
            ("peak memory", format_size(result.peak_memory_bytes) if result.peak_memory_bytes else ""),
            ("GPU memory", ", ".join(gpu)),
            ("cost", f"{result.cost:.4g} ({result.price:g} a second)" if result.price else ""),
            ("sent", _names(result.sent, len(result.sent))),
            ("brought back", ", ".join(result.names)),
        ]
        return [(name, text) for name, text in known if text]

    def _repr_html_(self) -> str:
        head = f"{_CELL};font-weight:400;opacity:0.8"
        rows = "".join(
            f'<tr style="background:transparent"><th scope="row" style="{head}">{html.escape(name)}</th>'
            f'<td style="{_CELL}">{html.escape(text)}</td></tr>'
            for name, text in self.rows()
        )
        return (
            f'<details style="{_STYLE}"><summary style="cursor:pointer">{html.escape(self.line())}</summary>'
            f'<table style="border-collapse:collapse;margin:2px 0 4px 1em;color:inherit;font-size:1em">{rows}</table></details>'
        )

    def __repr__(self) -> str:
        return self.line()


def show(results: Iterable[CellResult], setting: str, source: str = "") -> None:
    """Show footers below the cell that runs now, when it has shown everything else. `source`: where there is no notebook."""
    footers = [Footer(result) for result in results]
    chosen = [footer for footer in footers if setting == "always" or (setting == "on" and footer.is_worth_a_line)]
    shell = running_ipython()
    if shell is None or not chosen:
        return
    publish = functools.partial(_publish, shell, chosen, cell_source(shell) or source)

    def once(*_: Any) -> None:
        shell.events.unregister("post_run_cell", once)
        publish()

    shell.events.register("post_run_cell", once)


def _publish(shell: Any, footers: list[Footer], source: str) -> None:
    for footer in footers:
        data = {"text/html": footer._repr_html_(), "text/plain": repr(footer)}
        shell.display_pub.publish(data=data, metadata={METADATA: footer.metadata(source)})


def cell_source(shell: Any) -> str:
    """The whole source of the cell that runs now, as the notebook has it."""
    result = getattr(shell.displayhook, "exec_result", None)
    return getattr(getattr(result, "info", None), "raw_cell", "") or ""


def _names(sizes: dict[str, int], most: int = 3) -> str:
    """The largest first; modules have no size."""
    ordered = sorted(sizes, key=lambda name: -sizes[name])
    shown = [f"{name} {format_size(sizes[name])}" if sizes[name] else name for name in ordered[:most]]
    more = len(ordered) - most
    return ", ".join(shown) + (f" and {more} more" if more > 0 else "")


def _gpu_name(gpu: dict[str, Any]) -> str:
    return foreign.name(f"{gpu['name']} {gpu['index']}", 60)


def _span(seconds: float) -> str:
    if seconds < 0.0995:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"
