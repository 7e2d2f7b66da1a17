"""`%easyremote jobs | attach | cancel | result`: what runs without this notebook."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from typing import Any

from IPython.display import display

from easyremote import foreign
from easyremote.model import JobInfo
from easyremote.notebook.background import age_text, attach, check_job_id
from easyremote.notebook.cells import take_outcome
from easyremote.notebook.commands.base import Session
from easyremote.tables import Table

HELP = (
    ("jobs", "the jobs that the gateway keeps"),
    ("attach [ID]", "show a job here, from its start (default: the newest)"),
    ("cancel ID", "stop a job"),
    ("result ID", "a job's result; waits for it"),
)

LISTED = 50
"""Jobs that are shown; `client.jobs()` has all."""


def add_to(commands: Any) -> None:
    jobs = commands.add_parser("jobs", help="the jobs that the gateway keeps")
    jobs.set_defaults(run=run_jobs)
    attach_ = commands.add_parser("attach", help="show a job here, from its start")
    attach_.add_argument(
        "id", nargs="?", default="", help="first digits of its id (default: this notebook's newest job)"
    )
    attach_.set_defaults(run=run_attach)
    cancel = commands.add_parser("cancel", help="stop a job")
    cancel.add_argument("id", help="first digits of its id")
    cancel.set_defaults(run=run_cancel)
    result = commands.add_parser("result", help="a job's result; waits for it")
    result.add_argument("id", help="first digits of its id")
    result.set_defaults(run=run_result)


def run_jobs(session: Session, options: argparse.Namespace) -> None:
    display(jobs_table(session.workspace.require_client().jobs(LISTED)))


def run_attach(session: Session, options: argparse.Namespace) -> Any:
    return attach(check_job_id(options.id) if options.id else "", session.workspace.require_client())


def run_cancel(session: Session, options: argparse.Namespace) -> None:
    job = session.workspace.require_client().job(check_job_id(options.id))
    was_open = job.status().ended is None and job.cancel("%easyremote cancel")
    print(f"job {job.id[:8]} ({foreign.name(job.function)}) {'was cancelled' if was_open else 'had ended already'}")


def run_result(session: Session, options: argparse.Namespace) -> Any:
    job = session.workspace.require_client().job(check_job_id(options.id))
    if not job.is_cell:
        return job.result()
    return take_outcome(job.outcome(), session.shell.user_ns, "" if job._may_unpickle else job.node)


def jobs_table(jobs: Iterable[JobInfo], caption: str = "") -> Table:
    """The newest first; `progress` tells of what runs, and why it failed."""
    rows = [
        [
            job.id[:8],
            foreign.name(job.title, 60),
            job.state,
            foreign.name(job.node),
            age_text(job.created),
            _progress(job),
        ]
        for job in jobs
    ]
    empty = "the gateway keeps no jobs; `%%remote --bg` and `client.submit_job(...)` make some"
    return Table(caption, ["id", "name", "state", "node", "age", "progress"], rows, empty)


def _progress(job: JobInfo) -> str:
    if job.error:
        return foreign.name(job.error, 80)
    if job.state != "running":
        return ""
    part = f"{job.progress:.0%} " if job.progress is not None else ""
    return f"{part}{foreign.name(job.progress_text, 60)}".strip()
