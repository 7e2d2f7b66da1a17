"""`run_remote`: what `%%remote` does, as a plain function."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from easyremote.calls import Call
from easyremote.client import Client
from easyremote.errors import InsufficientResources, ProtocolError
from easyremote.needs import Size
from easyremote.notebook.background import run_in_background, title_of_cell
from easyremote.notebook.cells import check_names, submit_cell, take_outcome
from easyremote.notebook.names import names_of
from easyremote.notebook.places import Notebook, Parcel
from easyremote.notebook.workspace import workspace
from easyremote.presenting import running_ipython

_ASKS = 3
"""How often a node may ask for names, e.g. since its session was ended by somebody else, before the cell runs."""

_PLACING = ("gpus", "gpu_memory", "memory", "cpus", "strategy")


@dataclass
class CellResult:
    """What became of a cell. `value`: of its last expression. `sent`: bytes of each name that went along."""

    value: Any
    node: str
    sent: dict[str, int] = field(default_factory=dict[str, int])


def run_remote(
    source: str,
    *,
    node: str = "",
    send: Iterable[str] | Mapping[str, Any] = (),
    bring_back: Iterable[str] = (),
    by_itself: bool = True,
    fresh: bool = False,
    name: str = "",
    timeout: float | None = None,
    retries: int = 0,
    strategy: str | None = None,
    gpus: int | None = None,
    gpu_memory: Size | None = None,
    memory: Size | None = None,
    cpus: float | None = None,
    requirements: Sequence[str] | None = None,
    python: str | None = None,
    background: bool = False,
    apart: bool = False,
    on_interrupt: str = "cancel",
    cell_number: int = 0,
) -> Any:
    """Run source, in IPython's syntax, in this notebook's session on a node: the value of its last expression.

    The session keeps its names from cell to cell. What the source reads is sent along where the session lacks it, or where it has
    changed here since it was sent (docs/notebook.md); `by_itself=False` sends none of that. `send`: names that are sent in any
    case, or a mapping of names to values. `bring_back`: names of the session that are bound here afterwards. `fresh`: end the
    session first, and begin a new one.

    `node`: its name; else the session's. `name`: what lists call it. `timeout` in seconds; `retries` after a lost node. `gpus`,
    `gpu_memory`, `memory`, `cpus`: what it needs, as for `Client.with_options`; with `strategy` they also say where a new session
    begins. `requirements`: packages that the session is to have too, `python`: which Python, see docs/environments.md.
    `background`: return at once, with the handle of a job that is shown in this cell; `apart`: that in a namespace of its own.
    `on_interrupt`: "detach" leaves it running.

    Raises what the source raised; UsageError, UnpicklableError for a name that can't be sent, NodeGone, NoNodeAvailable,
    InsufficientResources where the session's node can never have what it needs, DeadlineExceeded.
    """
    options = {
        "timeout": timeout,
        "retries": retries,
        "strategy": strategy,
        "gpus": gpus,
        "gpu_memory": gpu_memory,
        "memory": memory,
        "cpus": cpus,
    }
    notebook = this_notebook(send if isinstance(send, Mapping) else {})
    always = check_names(list(send), notebook.names)
    if fresh:
        workspace.start_afresh(node)
    more = {"requirements": requirements, "python": python, "cell_number": cell_number}
    cell = Cell(source, notebook, options, always, list(bring_back), by_itself, more)
    client = workspace.require_client().with_options(on_interrupt=on_interrupt)
    if background:
        title = title_of_cell(cell_number, name)
        return run_in_background(
            lambda jobs: _submit_job(jobs, cell, node, apart, title), client, workspace.jobs_remark()
        )
    if on_interrupt == "detach":
        job = _submit_job(client, cell, node, False, title_of_cell(cell_number, name))
        return _taken(cell, job, job.outcome()).value
    return run_cell(client, cell, node, name).value


@dataclass(frozen=True)
class Cell:
    """What is to run. `always`: names that are sent in any case. `options`: of its call; `more`: for `submit_cell`."""

    source: str
    notebook: Notebook
    options: Mapping[str, Any]
    always: list[str]
    bring_back: list[str]
    by_itself: bool
    more: Mapping[str, Any]

    @property
    def placing(self) -> dict[str, Any]:
        """What says where a new session begins."""
        return {name: self.options[name] for name in _PLACING if self.options.get(name) is not None}


def run_cell(client: Client, cell: Cell, node: str = "", name: str = "") -> CellResult:
    """Run it in the session on this node, or on the session's own, and tell what became of it."""
    where = workspace.choose_node(node, **cell.placing)
    wanted: list[str] = []
    for asked in range(1, _ASKS + 1):
        parcel = _parcel(cell, where, client.put, surely=asked == _ASKS, wanted=wanted)
        call = _submit(client, cell, where, workspace.session_id, parcel, name)
        try:
            outcome = call.result()
        except InsufficientResources as error:
            raise error if node else _elsewhere(error, where) from None
        finally:
            if call.node:
                workspace.places.ran(where, parcel)
        wanted = outcome.get("wanted", [])
        if not wanted:
            return _taken(cell, call, outcome, parcel.sizes)
    raise ProtocolError(f"node '{where}' asks for {', '.join(wanted)} again and again, which it was sent")


def _submit_job(client: Client, cell: Cell, node: str, apart: bool, name: str) -> Any:
    """A job can't be asked, and outlives refs: all that the cell reads goes with it. `apart`: in a namespace of its own."""
    where = workspace.choose_node(node, **cell.placing)
    parcel = _parcel(cell, "" if apart else where, None, surely=True)
    workspace.places.ran("" if apart else where, parcel)
    return _submit(client, cell, where, "" if apart else workspace.session_id, parcel, name)


def _parcel(cell: Cell, place: str, put: Any, **how: Any) -> Parcel:
    names = names_of(cell.source)
    kept = {"always": cell.always, "by_itself": cell.by_itself}
    return workspace.places.parcel(place, names, cell.notebook, put, **kept, **how)


def _submit(client: Client, cell: Cell, where: str, session_id: str, parcel: Parcel, name: str) -> Call[dict[str, Any]]:
    return submit_cell(
        client,
        cell.source,
        node=where,
        session_id=session_id,
        parcel=parcel,
        bring_back=cell.bring_back,
        name=name,
        options=cell.options,
        **cell.more,
    )


def _taken(cell: Cell, call: Call[Any], outcome: dict[str, Any], sent: dict[str, int] | None = None) -> CellResult:
    assert isinstance(cell.notebook.home, dict)
    value = take_outcome(outcome, cell.notebook.home, "" if call._may_unpickle else call.node)
    workspace.places.brought_back(call.node, outcome["names"], cell.notebook)
    return CellResult(value, call.node, sent or {})


def _elsewhere(error: InsufficientResources, node: str) -> InsufficientResources:
    error.message = (
        f"{error.message.rstrip('.')}. This notebook's session is on '{node}': -n NODE runs the cell in one elsewhere, "
        "--fresh begins a new one where it fits"
    )
    return error


def this_notebook(more: Mapping[str, Any] | None = None) -> Notebook:
    """Where the caller is: the notebook, or the script. `more`: values that go before its own."""
    shell = running_ipython()
    home = shell.user_ns if shell is not None else vars(sys.modules["__main__"])
    hidden = dict(shell.user_ns_hidden) if shell is not None else {}
    return Notebook({**home, **more} if more else home, home, hidden | workspace.bound)
