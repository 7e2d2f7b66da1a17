"""Jobs shown in a cell that has ended: `%%remote --bg` and `%easyremote attach`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from pathlib import PurePath
from typing import Any

from IPython.display import display

from easyremote.client import Client
from easyremote.errors import CallCancelled, EasyRemoteError, JobNotFound, UsageError
from easyremote.jobs import Job
from easyremote.model import JobInfo
from easyremote.notebook.cells import take_outcome
from easyremote.notebook.display import NotebookPresenter
from easyremote.notebook.job_line import JobLine
from easyremote.notebook.own_cell import OwnCell
from easyremote.presenting import running_ipython
from easyremote.tracebacks import render_local
from easyremote.wire.v1 import gateway_pb2 as pb

LOOK_S = 0.5
"""How often it is looked whether a node has begun it."""


class _Nowhere:
    """A presenter for whoever wants the value alone."""

    def output(self, is_stderr: bool, text: str) -> None: ...
    def display(self, display: pb.Display, bundle: dict[str, Any]) -> None: ...
    def progress(self, progress: pb.Progress) -> None: ...


class _InItsCell(NotebookPresenter):
    """Text goes to the streams that the cell had, whatever another cell puts in their place meanwhile."""

    def __init__(self, cell: OwnCell) -> None:
        super().__init__()
        self._streams = cell.streams

    def output(self, is_stderr: bool, text: str) -> None:
        stream = self._streams[1 if is_stderr else 0]
        stream.write(text)
        stream.flush()


def run_in_background(submit: Callable[[Client], Any], client: Client, remark: str = "") -> Job[Any]:
    """Begin a job and show it in the cell that runs now, which ends at once. Returns its handle.

    `submit(client)` makes the call, with a client whose calls are jobs. What it shows comes into this cell, while others run too.
    """
    job = submit(client.with_options(durable=True))
    job._presenter = _Nowhere()  # this cell shows it already
    show_job(client, job.id, remark)
    return _quiet_here(job, OwnCell())


def attach(job_id: str = "", client: Client | None = None) -> Job[Any]:
    """Show a job in the cell that runs now: all that it has shown until now, and what comes, while other cells run. Returns its
    handle. What a cell's job brings back (`-o`) is bound here when it has ended.

    `job_id`: its first digits; without, the newest job of this notebook, or else of this user. `client`: the workspace's.

    Raises JobNotFound, UsageError where several begin so, JobsUnavailable.
    """
    client = client or _workspace_client()
    job = client.with_presenter(_Nowhere).job(job_id or newest_job(client).id)
    show_job(client, job.id, state=job.status().state)
    return _quiet_here(job, OwnCell())


def newest_job(client: Client) -> JobInfo:
    """Of this notebook, where it has some, or else of all that this client sees. Raises JobNotFound."""
    jobs = client.jobs()
    if not jobs:
        raise JobNotFound("the gateway keeps no jobs; `%%remote --bg` and `client.submit_job(...)` make some")
    name = notebook_name()
    mine = [job for job in jobs if name and job.title.startswith(f"{name}: ")]
    return (mine or jobs)[0]


def show_job(client: Client, job_id: str, remark: str = "", state: str = "queued") -> None:
    """Show it in the cell that runs now, from its start to its end, in a thread of its own. `state`: how it is now."""
    cell = OwnCell()
    job = client.with_presenter(lambda: _InItsCell(cell)).job(job_id)
    line = JobLine(job, remark, state)
    name = f"easyremote-job-{job.id[:8]}"
    threading.Thread(target=_follow, args=(job, cell, line), name=name, daemon=True).start()


def _follow(job: Job[Any], cell: OwnCell, line: JobLine) -> None:
    with cell.here():
        try:
            _wait_for_begin(job, line)
            job.result()
        except Exception as error:
            _show_error(job, cell, line, error)
        else:
            line.ended("succeeded", _took(job))
            _show_value(job)


def _wait_for_begin(job: Job[Any], line: JobLine) -> None:
    while not job.node and not job.done():
        try:
            job.result(LOOK_S)
        except TimeoutError:
            if job.done():
                raise
    if not job.done():
        line.running(job.node)


def _show_error(job: Job[Any], cell: OwnCell, line: JobLine, error: Exception) -> None:
    if isinstance(error, EasyRemoteError) and not _has_ended(job):
        line.ended("cut off", f": {error.message}", f"%easyremote attach {job.id[:8]}")
        return
    if isinstance(error, CallCancelled):
        line.ended("cancelled", _took(job))
        return
    line.ended("failed", _took(job))
    render = getattr(error, "_render_traceback_", None)
    cell.error(error, render() if render is not None else render_local(error, str(error)))


def _has_ended(job: Job[Any]) -> bool:
    """Whether the error is the job's own, and not that it can't be read here any more."""
    return job._outcome is not None and not isinstance(job._outcome, BaseException)


def _show_value(job: Job[Any]) -> None:
    shell = running_ipython()
    if job.is_cell:
        namespace = shell.user_ns if shell is not None else {}
        value = take_outcome(job.outcome(), namespace, "" if job._may_unpickle else job.node)
    else:
        value = job.result()
    if value is not None:
        display(value)


def _took(job: Job[Any]) -> str:
    return f" on {job.node} after {job.run_s:,.1f} s" if job.node else ""


def _quiet_here(job: Job[Any], cell: OwnCell) -> Job[Any]:
    """As the last value of the cell that shows the job, its handle shows nothing more; elsewhere it is what it is."""

    def show() -> None:
        if not cell.is_this():
            raise NotImplementedError  # IPython shows it as it shows other values then

    job._ipython_display_ = show  # type: ignore[attr-defined]
    return job


def notebook_name() -> str:
    """The notebook's file, where the front end tells: Jupyter's servers and VS Code do. Else empty."""
    shell = running_ipython()
    path = (shell.user_ns.get("__vsc_ipynb_file__") if shell is not None else None) or os.environ.get(
        "JPY_SESSION_NAME"
    )
    name = PurePath(str(path)).name if path else ""
    return "".join(filter(str.isprintable, name))[:120] if name.endswith(".ipynb") else ""


def title_of_cell(cell_number: int, name: str = "") -> str:
    """What lists call a job of this notebook."""
    notebook = notebook_name()
    return f"{notebook}: {name or f'cell {cell_number}'}" if notebook else name or f"cell {cell_number}"


def age_text(created: float, now: float | None = None) -> str:
    """`12 s`, `3 min`, `5 h`, `2 d`."""
    seconds = max((time.time() if now is None else now) - created, 0.0)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _workspace_client() -> Client:
    from easyremote.notebook.workspace import workspace

    return workspace.require_client()


def check_job_id(text: str) -> str:
    """Raises UsageError for what can't be the beginning of one."""
    wanted = text.strip().lower()
    if not wanted or any(digit not in "0123456789abcdef" for digit in wanted):
        raise UsageError(f"'{text}' is no job's id, which is made of 0-9 and a-f; `%easyremote jobs` lists them")
    return wanted
