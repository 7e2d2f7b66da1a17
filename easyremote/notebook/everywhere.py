"""One cell on every node at the same time: what each shows with its name before it, and an error of one hides no other."""

from __future__ import annotations

import html
import queue
import threading
from collections.abc import Callable
from typing import Any

from easyremote import foreign
from easyremote.calls import Call
from easyremote.errors import NoNodeAvailable
from easyremote.notebook import footer
from easyremote.notebook.display import NotebookPresenter
from easyremote.notebook.outcomes import Cell, CellResult
from easyremote.notebook.workspace import workspace
from easyremote.presenting import running_ipython
from easyremote.tables import INDENT
from easyremote.wire.v1 import gateway_pb2 as pb

_Show = Callable[[], None]
_RunOn = Callable[..., CellResult]


def run(cell: Cell, run_on: _RunOn, fresh: bool = False) -> tuple[dict[str, Any], dict[str, dict[str, Any]]]:
    """The value of each node's last expression, and by name what each brings back. Raises the first error, when all have ended
    and the others have been shown. `run_on`: runs a cell on one node, as `running.run_cell`.
    """
    nodes = [node.node_id for node in workspace.require_client().list_nodes() if node.status == "connected"]
    if not nodes:
        raise NoNodeAvailable(f"no node is connected to {workspace.address}")
    if fresh:
        for node in nodes:
            workspace.start_afresh(node)
    results = _results(cell, nodes, run_on)
    footer.show(results.values(), workspace.footer, cell.source)
    failed = [result for result in results.values() if result.error is not None]
    for result in failed[1:]:
        _show_error(result)
    if failed:
        error = failed[0].error
        assert error is not None
        if len(nodes) > 1:
            error.add_note(f"{len(failed)} of {len(nodes)} nodes failed; this is what {failed[0].node} raised")
        raise error
    values = {node: result.value for node, result in results.items()}
    return values, {name: {node: results[node].names[name] for node in nodes} for name in cell.bring_back}


def _results(cell: Cell, nodes: list[str], run_on: _RunOn) -> dict[str, CellResult]:
    """Each node in a thread of its own; what they show is shown by this one, whose cell it is."""
    shown: queue.SimpleQueue[_Show | None] = queue.SimpleQueue()
    calls: list[Call[Any]] = []
    results: dict[str, CellResult] = {}
    width = max(map(len, nodes))

    def work(node: str) -> None:
        presenter = _Labelled(node, width, shown)
        try:
            results[node] = run_on(cell, node=node, presenter=lambda: presenter, on_call=calls.append)
        except BaseException as error:
            results[node] = CellResult(node, error=error)
        finally:
            presenter.ended()
            shown.put(None)

    for node in nodes:
        threading.Thread(target=work, args=(node,), name=f"easyremote-cell-{node}", daemon=True).start()
    left = len(nodes)
    try:
        while left:
            show = shown.get()
            if show is None:
                left -= 1
            else:
                show()
    except KeyboardInterrupt:
        for call in calls:
            call.cancel("interrupted")
        raise
    return {node: results[node] for node in nodes}


class _Labelled(NotebookPresenter):
    """Has everything shown by the thread that waits for all nodes: lines with the node's name, displays under it."""

    def __init__(self, node: str, width: int, shown: queue.SimpleQueue[_Show | None]) -> None:
        super().__init__()
        self._shown = shown
        self._name = foreign.name(node)
        self._label = f"{self._name:<{width}} | "
        self._parts = {False: "", True: ""}

    def output(self, is_stderr: bool, text: str) -> None:
        """Whole lines only, so that those of several nodes don't mix."""
        lines = (self._parts[is_stderr] + text).split("\n")
        self._parts[is_stderr] = lines.pop()
        if lines:
            labelled = "".join(f"{self._label}{line}\n" for line in lines)
            self._shown.put(lambda: super(_Labelled, self).output(is_stderr, labelled))

    def display(self, display: pb.Display, bundle: dict[str, Any]) -> None:
        if not display.clear:  # it would clear what others have shown
            if not display.update:
                self._shown.put(lambda: _show_name(self._name))
            self._shown.put(lambda: super(_Labelled, self).display(display, bundle))

    def progress(self, progress: pb.Progress) -> None:
        named = pb.Progress(done=progress.done, total=progress.total, text=f"{self._name} {progress.text}")
        self._shown.put(lambda: super(_Labelled, self).progress(named))

    def waiting(self, note: Any) -> None:
        self._shown.put(lambda: super(_Labelled, self).waiting(note))

    def ended(self) -> None:
        """A last line without its end."""
        for is_stderr, part in self._parts.items():
            if part:
                self.output(is_stderr, "\n")


def _show_name(name: str) -> None:
    shell = running_ipython()
    if shell is not None:
        data = {
            "text/html": f'<div style="{INDENT};font-weight:600">{html.escape(name)}</div>',
            "text/plain": f"{name}:",
        }
        shell.display_pub.publish(data=data)


def _show_error(result: CellResult) -> None:
    error = result.error
    assert error is not None
    render = getattr(error, "_render_traceback_", None)
    lines = render() if render is not None else [f"{type(error).__name__}: {error}"]
    NotebookPresenter().output(True, f"{foreign.name(result.node)}:\n" + "\n".join(lines) + "\n")
