"""What the notebook shows: tables of nodes and functions, progress, values that stayed on their node."""

from __future__ import annotations

import html
import re
import secrets
import socket
from collections.abc import Callable, Iterable
from typing import Any

from IPython.display import display, update_display

from easyremote.model import FunctionInfo, NodeInfo
from easyremote.presenting import DefaultPresenter, count_text, progress_line
from easyremote.wire.v1 import gateway_pb2 as pb

_GIB = 1024**3

_STYLE = (
    "border-collapse:collapse;font-size:0.92em;margin:0.3em 0;color:inherit;background:transparent;"
    "font-variant-numeric:tabular-nums"
)
_CELL = "text-align:left;padding:0.25em 1.1em 0.25em 0;border:none;border-bottom:1px solid rgba(128,128,128,0.28);color:inherit"
_HEAD = _CELL + ";font-weight:600;opacity:0.72"
_MUTED = "opacity:0.65"
_BAR = "width:18em;height:0.8em;margin-right:0.5em;vertical-align:middle;accent-color:#1976d2"
_INDENT = "padding-left:8px"  # as far as JupyterLab's own text outputs


class Table:
    """Rows with a caption, as HTML that follows the page's colours and as text."""

    def __init__(self, caption: str, columns: list[str], rows: Iterable[Iterable[Any]], empty: str = "") -> None:
        self.caption = caption
        self.columns = columns
        self.rows = [[str(value) for value in row] for row in rows]
        self.empty = empty

    def _repr_html_(self) -> str:
        caption = f'<div style="margin-top:0.2em">{_with_code(self.caption)}</div>' if self.caption else ""
        if not self.rows:
            return f'<div style="{_INDENT}">{caption}<div style="{_MUTED}">{html.escape(self.empty)}</div></div>'
        head = "".join(f'<th scope="col" style="{_HEAD}">{html.escape(name)}</th>' for name in self.columns)
        body = "".join(
            '<tr style="background:transparent">'
            + "".join(f'<td style="{_CELL}">{html.escape(value)}</td>' for value in row)
            + "</tr>"
            for row in self.rows
        )
        head = f'<thead><tr style="background:transparent">{head}</tr></thead>'
        return f'<div style="{_INDENT}">{caption}<table style="{_STYLE}">{head}<tbody>{body}</tbody></table></div>'

    def __repr__(self) -> str:
        if not self.rows:
            return "\n".join(filter(None, (self.caption, self.empty)))
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = [
            "  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)).rstrip()
            for row in [self.columns, *self.rows]
        ]
        return "\n".join(filter(None, [self.caption, *lines]))


def _with_code(text: str) -> str:
    """As HTML, with what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))


def nodes_table(nodes: list[NodeInfo], caption: str = "") -> Table:
    """A column for what is known of a node at least; hosts where a node is on another than this."""
    columns = {
        "node": [node.node_id for node in nodes],
        "status": [node.status for node in nodes],
        "slots in use": [f"{node.running} of {node.slots}" for node in nodes],
        "CPU": [_percent(node.resources.get("cpu_percent")) for node in nodes],
        "memory": [_memory(node) for node in nodes],
        "GPUs": [_gpus(node) for node in nodes],
        "functions": [str(len(node.functions)) for node in nodes],
        "host": [node.host for node in nodes] if any(node.host != socket.gethostname() for node in nodes) else [],
        "Python": [node.python for node in nodes],
    }
    known = {name: values for name, values in columns.items() if any(values)}
    return Table(caption, list(known), zip(*known.values(), strict=True), "no node is connected")


def functions_table(functions: list[FunctionInfo], caption: str = "") -> Table:
    rows = [
        [f"{item.name}{item.signature}", item.kind, ", ".join(item.nodes), item.doc.split("\n")[0][:80]]
        for item in functions
    ]
    return Table(caption, ["function", "kind", "nodes", "what it does"], rows, "no function is registered")


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} %"


def _memory(node: NodeInfo) -> str:
    total = node.resources.get("memory_total_bytes")
    if not total:
        return ""
    return f"{node.resources['memory_used_bytes'] / _GIB:.1f} of {total / _GIB:.1f} GiB"


def _gpus(node: NodeInfo) -> str:
    return ", ".join(
        f"{gpu.name} {gpu.memory_used_bytes / _GIB:.1f}/{gpu.memory_total_bytes / _GIB:.0f} GiB, {gpu.utilization_percent:.0f} %"
        for gpu in node.gpus
    )


class RemoteValue:
    """The value of a remote cell's last expression that stayed there, as it looks."""

    def __init__(self, bundle: dict[str, Any]) -> None:
        self._data = bundle.get("data", {})
        self._metadata = bundle.get("metadata", {})

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, Any], dict[str, Any]]:
        return self._data, self._metadata

    def __repr__(self) -> str:
        return str(self._data.get("text/plain", "<value on the node>"))


class _ProgressView:
    def __init__(self, progress: pb.Progress) -> None:
        self._progress = progress

    def _repr_html_(self) -> str:
        done, total = count_text(self._progress.done), count_text(self._progress.total)
        known = self._progress.total > 0
        bar = f'<progress style="{_BAR}"' + (f' value="{done}" max="{total}"></progress>' if known else "></progress>")
        count = f"<span>{done} of {total}</span>" if known else f"<span>{done}</span>"
        text = f'<span style="{_MUTED}">{html.escape(self._progress.text)}</span>'
        return f'<div style="{_INDENT}">{bar} {count} {text}</div>'

    def __repr__(self) -> str:
        return progress_line(self._progress)


class NotebookPresenter(DefaultPresenter):
    """Text and displays as everywhere; progress as one bar that moves. One object a call."""

    def __init__(self) -> None:
        super().__init__()
        self._display_id = ""

    def progress(self, progress: pb.Progress) -> None:
        view = _ProgressView(progress)
        if self._display_id:
            update_display(view, display_id=self._display_id)
        else:
            self._display_id = secrets.token_hex(8)
            display(view, display_id=self._display_id)


def local_bar() -> Callable[[float, float, str], None]:
    """A bar in the cell that runs now, for a loop of the notebook itself."""
    presenter = NotebookPresenter()
    return lambda done, total, text: presenter.progress(pb.Progress(done=done, total=total, text=text))
