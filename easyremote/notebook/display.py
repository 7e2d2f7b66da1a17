"""What the notebook shows: tables of nodes and functions, progress, values that stayed on their node."""

from __future__ import annotations

import html
import secrets
import socket
from collections.abc import Callable, Iterable
from typing import Any

from IPython.display import display, update_display

from easyremote.model import FunctionInfo, NodeInfo
from easyremote.presenting import DefaultPresenter, progress_line
from easyremote.wire.v1 import gateway_pb2 as pb

_GIB = 1024**3

_STYLE = (
    "border-collapse:collapse;font-size:0.92em;margin:0.3em 0;color:inherit;background:transparent;"
    "font-variant-numeric:tabular-nums"
)
_CELL = "text-align:left;padding:0.25em 1.1em 0.25em 0;border:none;border-bottom:1px solid rgba(128,128,128,0.28);color:inherit"
_HEAD = _CELL + ";font-weight:600;opacity:0.72"
_MUTED = "opacity:0.65"


class Table:
    """Rows with a caption, as HTML that follows the page's colours and as text."""

    def __init__(self, caption: str, columns: list[str], rows: Iterable[Iterable[Any]], empty: str = "") -> None:
        self.caption = caption
        self.columns = columns
        self.rows = [[str(value) for value in row] for row in rows]
        self.empty = empty

    def _repr_html_(self) -> str:
        caption = f'<div style="margin-top:0.2em">{html.escape(self.caption)}</div>' if self.caption else ""
        if not self.rows:
            return f'<div>{caption}<div style="{_MUTED}">{html.escape(self.empty)}</div></div>'
        head = "".join(f'<th scope="col" style="{_HEAD}">{html.escape(name)}</th>' for name in self.columns)
        body = "".join(
            '<tr style="background:transparent">'
            + "".join(f'<td style="{_CELL}">{html.escape(value)}</td>' for value in row)
            + "</tr>"
            for row in self.rows
        )
        return (
            f'<div>{caption}<table style="{_STYLE}"><thead><tr style="background:transparent">{head}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>"
        )

    def __repr__(self) -> str:
        if not self.rows:
            return "\n".join(filter(None, (self.caption, self.empty)))
        widths = [max(map(len, column)) for column in zip(self.columns, *self.rows, strict=True)]
        lines = [
            "  ".join(v.ljust(w) for v, w in zip(row, widths, strict=True)).rstrip()
            for row in [self.columns, *self.rows]
        ]
        return "\n".join(filter(None, [self.caption, *lines]))


def nodes_table(nodes: list[NodeInfo], caption: str = "") -> Table:
    """GPUs have a column where a node has one, and hosts where a node is on another."""
    columns: list[tuple[str, list[Any]]] = [
        ("node", [node.node_id for node in nodes]),
        ("status", [node.status for node in nodes]),
        ("slots in use", [f"{node.running} of {node.slots}" for node in nodes]),
        ("CPU", [_percent(node.resources.get("cpu_percent")) for node in nodes]),
        ("memory", [_memory(node) for node in nodes]),
    ]
    if any(node.gpus for node in nodes):
        columns.append(("GPUs", [_gpus(node) for node in nodes]))
    columns.append(("functions", [len(node.functions) for node in nodes]))
    if any(node.host != socket.gethostname() for node in nodes):
        columns.append(("host", [node.host for node in nodes]))
    columns.append(("Python", [node.python for node in nodes]))
    rows = zip(*(values for _, values in columns), strict=True)
    return Table(caption, [name for name, _ in columns], rows, "no node is connected")


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
    def __init__(self, progress: pb.Progress, title: str) -> None:
        self._progress = progress
        self._title = title

    def _repr_html_(self) -> str:
        total = self._progress.total
        bar = f'<progress style="width:18em;vertical-align:middle" value="{self._progress.done:g}"'
        bar += f' max="{total:g}"></progress>' if total else "></progress>"
        count = f"{self._progress.done:g} of {total:g}" if total else f"{self._progress.done:g}"
        return f'<div>{bar} <span>{count}</span> <span style="{_MUTED}">{html.escape(self._progress.text)}</span></div>'

    def __repr__(self) -> str:
        return progress_line(self._progress)


class NotebookPresenter(DefaultPresenter):
    """Text and displays as everywhere; progress as one bar that moves. One object a call."""

    def __init__(self) -> None:
        super().__init__()
        self._display_id = ""

    def progress(self, progress: pb.Progress) -> None:
        view = _ProgressView(progress, "")
        if self._display_id:
            update_display(view, display_id=self._display_id)
        else:
            self._display_id = secrets.token_hex(8)
            display(view, display_id=self._display_id)


def local_bar() -> Callable[[float, float, str], None]:
    """A bar in the cell that runs now, for a loop of the notebook itself."""
    presenter = NotebookPresenter()
    return lambda done, total, text: presenter.progress(pb.Progress(done=done, total=total, text=text))
