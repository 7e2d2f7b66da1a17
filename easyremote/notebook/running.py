"""`run_remote`: what `%%remote` does, as a plain function."""

from __future__ import annotations

import functools
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from easyremote.calls import Call
from easyremote.client import Client
from easyremote.errors import InsufficientResources, ProtocolError, UsageError
from easyremote.needs import Size
from easyremote.notebook import everywhere, footer
from easyremote.notebook.background import run_in_background, title_of_cell
from easyremote.notebook.cells import check_names, submit_cell, take_outcome
from easyremote.notebook.display import NotebookPresenter
from easyremote.notebook.names import names_of
from easyremote.notebook.outcomes import Cell, CellResult
from easyremote.notebook.places import Notebook, Parcel
from easyremote.notebook.workspace import workspace
from easyremote.presenting import Presenter, running_ipython

_ASKS = 3
"""How often a node may ask for names, e.g. since its session was ended by somebody else, before the cell runs."""


def run_remote(
    source: str,
    *,
    node: str = "",
    every_node: bool = False,
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

    `node`: its name; else the session's. `every_node`: on all that are connected, at the same time; the value is a dict by node,
    and so is each name of `bring_back`. `name`: what lists call it. `timeout` in seconds; `retries` after a lost node. `gpus`,
    `gpu_memory`, `memory`, `cpus`: what it needs, as for `Client.with_options`; with `strategy` they also say where a new session
    begins. `requirements`: packages that the session is to have too, `python`: which Python, see docs/environments.md.
    `background`: return at once, with the handle of a job that is shown in this cell; `apart`: that in a namespace of its own.
    `on_interrupt`: "detach" leaves it running.

    Raises what the source raised (of all nodes: the first, when all have ended); UsageError, UnpicklableError for a name that
    can't be sent, NodeGone, NoNodeAvailable, InsufficientResources where the session's node can never have what it needs,
    DeadlineExceeded.
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
    more = {"requirements": requirements, "python": python, "cell_number": cell_number}
    cell = Cell(source, notebook, options, always, list(bring_back), by_itself, more)
    client = workspace.require_client().with_options(on_interrupt=on_interrupt)
    if every_node:
        if background or node or on_interrupt == "detach":
            raise UsageError(
                "a cell on every node runs in the foreground and names none: leave out -n, --bg and detach"
            )
        values, names = everywhere.run(cell, functools.partial(run_cell, client, name=name), fresh)
        bind(names, notebook)
        return values
    if fresh:
        workspace.start_afresh(node)
    if background:
        title = title_of_cell(cell_number, name)
        return run_in_background(
            lambda jobs: _submit_job(jobs, cell, node, apart, title), client, workspace.jobs_remark()
        )
    if on_interrupt == "detach":
        job = _submit_job(client, cell, node, False, title_of_cell(cell_number, name))
        brought: dict[str, Any] = {}
        value = take_outcome(job.outcome(), brought, "" if job._may_unpickle else job.node)
        bind(brought, notebook)
        return value
    result = run_cell(client, cell, node, name)
    footer.show([result], workspace.footer, source)
    if result.error is not None:
        raise result.error
    bind(result.names, notebook)
    workspace.places.brought_back(result.node, result.names, notebook)
    return result.value


def run_cell(
    client: Client,
    cell: Cell,
    node: str = "",
    name: str = "",
    presenter: Callable[[], Presenter] = NotebookPresenter,
    on_call: Callable[[Call[Any]], None] = lambda call: None,
) -> CellResult:
    """Run it in the session on this node, or on the session's own, and tell all that is known of it. `on_call` gets its call.

    Raises what kept it from running at all.
    """
    began = time.monotonic()
    where = workspace.choose_node(node, **cell.placing)
    wanted: list[str] = []
    for asked in range(1, _ASKS + 1):
        parcel = _parcel(cell, where, client.put, surely=asked == _ASKS, wanted=wanted)
        call = _submit(client, cell, where, workspace.session_id, parcel, name, presenter)
        on_call(call)
        result = CellResult(where, sent=parcel.sizes, price=workspace.prices.get(where, 0.0))
        outcome = _outcome_of(call, result, is_own_choice=not node)
        if call.node:
            workspace.places.ran(where, parcel)
        wanted = outcome.get("wanted", [])
        if not wanted:
            _note_run(result, call, outcome, began)
            if result.error is None:
                result.value = take_outcome(outcome, result.names, "" if call._may_unpickle else call.node)
            return result
    raise ProtocolError(f"node '{where}' asks for {', '.join(wanted)} again and again, which it was sent")


def _outcome_of(call: Call[Any], result: CellResult, is_own_choice: bool) -> dict[str, Any]:
    """What it gave; where it raised, that is noted."""
    try:
        return call.result()
    except InsufficientResources as error:
        raise _elsewhere(error, result.node) if is_own_choice else error from None
    except BaseException as error:
        if not call.node:
            raise
        result.error = error
        return {}


def _note_run(result: CellResult, call: Call[Any], outcome: Mapping[str, Any], began: float) -> None:
    """What its node told, which may be anything where the node isn't trusted."""
    now = time.monotonic()
    result.run_s = call.run_s or max(now - (call.started_at or now), 0.0)
    result.queued_s = max(min((call.started_at or now) - began, now - began - result.run_s), 0.0)
    result.attempts = max(call.attempt, 1)
    used = outcome.get("used")
    if not isinstance(used, dict):
        return
    result.peak_memory_bytes = _whole(used.get("peak_memory_bytes"))
    for gpu in used.get("gpus") or ():
        named = {"name": str(gpu.get("name"))[:100], "index": _whole(gpu.get("index"))}
        result.gpus.append(named | {"peak_memory_bytes": _whole(gpu.get("peak_memory_bytes"))})


def _whole(value: Any) -> int:
    return value if isinstance(value, int) and 0 <= value < 2**60 else 0


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


def _submit(
    client: Client,
    cell: Cell,
    where: str,
    session_id: str,
    parcel: Parcel,
    name: str,
    presenter: Callable[[], Presenter] = NotebookPresenter,
) -> Call[dict[str, Any]]:
    return submit_cell(
        client,
        cell.source,
        node=where,
        session_id=session_id,
        parcel=parcel,
        bring_back=cell.bring_back,
        name=name,
        options=cell.options,
        presenter=presenter,
        **cell.more,
    )


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


def bind(names: Mapping[str, Any], notebook: Notebook) -> None:
    """Have these names in the notebook."""
    assert isinstance(notebook.home, dict)
    notebook.home.update(names)
