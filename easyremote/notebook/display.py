"""What the notebook shows: tables of nodes and functions, progress, values that stayed on their node."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

from IPython.display import display

from easyremote import foreign
from easyremote.model import FunctionInfo, NodeInfo
from easyremote.notebook.bars import BarPlace, places
from easyremote.notebook.in_place import show_in_place
from easyremote.presenting import DefaultPresenter
from easyremote.tables import Table
from easyremote.waiting import WaitingNote
from easyremote.wire.v1 import gateway_pb2 as pb

_GIB = 1024**3


def nodes_table(nodes: list[NodeInfo], caption: str = "") -> Table:
    """A column for what is known of a node at least; hosts where a node is on another than this."""
    columns = {
        "node": [foreign.name(node.node_id) for node in nodes],
        "status": [foreign.name(node.status) for node in nodes],
        "slots in use": [f"{node.running} of {node.slots}" for node in nodes],
        "CPU": [_percent(node.resources.get("cpu_percent")) for node in nodes],
        "memory": [_memory(node) for node in nodes],
        "GPUs": [_gpus(node) for node in nodes],
        "functions": [str(len(node.functions)) for node in nodes],
        "host": [foreign.name(node.host) for node in nodes]
        if any(node.host != socket.gethostname() for node in nodes)
        else [],
        "Python": [foreign.name(node.python) for node in nodes],
    }
    known = {name: values for name, values in columns.items() if any(values)}
    return Table(caption, list(known), zip(*known.values(), strict=True), "no node is connected")


def functions_table(functions: list[FunctionInfo], caption: str = "") -> Table:
    rows = [
        [
            foreign.name(f"{item.name}{item.signature}"),
            item.kind,
            foreign.name(", ".join(item.nodes)),
            foreign.name(item.version),
            foreign.name(_state(item), 300),
            foreign.name(item.doc.split("\n")[0], 80),
        ]
        for item in functions
    ]
    columns = ["function", "kind", "nodes", "version", "state", "what it does"]
    kept = [n for n, name in enumerate(columns) if name != "state" or any(row[n] for row in rows)]
    shown = [[row[n] for n in kept] for row in rows]
    return Table(caption, [columns[n] for n in kept], shown, "no function is registered")


def _state(item: FunctionInfo) -> str:
    """What is to be done about a function that isn't what the notebook has."""
    if item.is_stale:
        return "stale: what it uses has changed here; run its cell again, or %easyremote refresh"
    return f"another version on {', '.join(item.stale_nodes)}" if item.stale_nodes else ""


def _percent(value: float | None) -> str:
    return "" if value is None else f"{value:.0f} %"


def _memory(node: NodeInfo) -> str:
    total = node.resources.get("memory_total_bytes")
    if not total:
        return ""
    return f"{node.resources['memory_used_bytes'] / _GIB:.1f} of {total / _GIB:.1f} GiB"


def _gpus(node: NodeInfo) -> str:
    return ", ".join(
        f"{foreign.name(gpu.name)} {gpu.memory_used_bytes / _GIB:.1f}/{gpu.memory_total_bytes / _GIB:.0f} GiB, "
        f"{gpu.utilization_percent:.0f} %"
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


class _TailView:
    """The newest lines of what a call prints beyond the limit, and where all of it is."""

    def __init__(self, tail: pb.OutputTail, text: str, node: str) -> None:
        left_out = f"… {_megabytes(tail.left_out_bytes)} left out"
        if tail.file:
            which = f"the first {_megabytes(tail.kept_bytes)}" if tail.kept_bytes else "all of it"
            left_out += f"; {which}: {foreign.name(tail.file, 1000)} on {foreign.name(node)}"
        self._text = f"\x1b[90m{left_out}\x1b[0m\n{text}"

    def __repr__(self) -> str:
        return self._text

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        printer.text(self._text)


def _megabytes(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"


class NotebookPresenter(DefaultPresenter):
    """Text and displays as everywhere; progress as bars that move. One object a call."""

    output_limit = 512 * 1024
    """Characters of what a call prints that a cell shows as they are."""

    def __init__(self) -> None:
        super().__init__()
        self._place: BarPlace | None = None
        self._tail_id = ""

    def progress(self, progress: pb.Progress) -> None:
        if self._place is None:
            self._place = places.place()
        self._place.show(self, progress)

    def tail(self, tail: pb.OutputTail, text: str, node: str) -> None:
        self._tail_id = show_in_place(_TailView(tail, text, node), self._tail_id)

    def waiting(self, note: WaitingNote) -> None:
        display(note)


def local_bar() -> Callable[[float, float, str], None]:
    """A bar in the cell that runs now, for a loop of the notebook itself."""
    presenter = NotebookPresenter()
    return lambda done, total, text: presenter.progress(pb.Progress(done=done, total=total, text=text))
