"""`easyremote jobs`, `logs`, `result` and `cancel`."""

from __future__ import annotations

import os
import pickle
import secrets
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from easyremote import foreign
from easyremote.cli import exits
from easyremote.cli.calling import Screen, tell_if_remote
from easyremote.cli.json_text import json_text
from easyremote.client import Client
from easyremote.errors import UsageError
from easyremote.jobs import Job, replay
from easyremote.model import JobInfo
from easyremote.sizes import format_span
from easyremote.wire.v1 import gateway_pb2 as pb

_WIDTH_OF_PIPES = 160

_STYLES = {"running": "green", "failed": "red", "cancelled": "yellow", "succeeded": "default", "queued": "cyan"}


def list_jobs(gateway: str | None, limit: int | None, as_json: bool) -> None:
    with Client(gateway) as client:
        found = client.jobs(limit)
    if as_json:
        for job in found:
            print(json_text(job.to_dict()))
        return
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = max(console.width, _WIDTH_OF_PIPES)
    if found:
        console.print(view(found, time.time()))
    else:
        console.print("The gateway keeps no jobs. Make one with: easyremote call NAME ARGS... --durable")


def view(jobs: Sequence[JobInfo], now: float) -> Table:
    """What a person sees."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("Job", "Function", "State", "Node"):
        table.add_column(name, no_wrap=name in ("Job", "State"), overflow="fold")
    for name in ("Age", "Ran", "Kept"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for job in jobs:
        ran = format_span((job.ended or now) - job.started) if job.started else ""
        table.add_row(
            job.id[:8],
            Text(foreign.name(job.title), "cyan"),
            Text(job.state, _STYLES.get(job.state, "default")),
            foreign.name(job.node),
            format_span(max(now - job.created, 0)),
            ran,
            size(job.kept_bytes),
            _remark(job),
        )
    return table


def _remark(job: JobInfo) -> str:
    if job.error:
        return foreign.name(job.error, 120)
    if job.state == "running" and (job.progress is not None or job.progress_text):
        part = f"{job.progress:.0%} " if job.progress is not None else ""
        return f"{part}{foreign.name(job.progress_text)}".strip()
    return ""


def size(count: int) -> str:
    """`512 B`, `1.5 MiB`."""
    if count < 1024:
        return f"{count} B"
    value = count / 1024
    for unit in ("KiB", "MiB"):
        if value < 1024:
            return f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"


def print_logs(job_id: str, gateway: str | None, follow: bool) -> None:
    """Output and displays as they are, progress where standard error is a terminal; at the end the error, if it failed."""
    screen = Screen(as_json=False)
    with Client(gateway) as client:
        try:
            last = replay(client._connection, client.job(job_id), screen, follow)
        finally:
            screen.close()
    if last is not None and last.HasField("error"):
        exits.tell(foreign.printed(last.error.traceback.rstrip() or last.error.message))


class _Silent:
    """A presenter for whoever wants the values alone."""

    def output(self, is_stderr: bool, text: str) -> None: ...
    def display(self, display: pb.Display, bundle: dict[str, Any]) -> None: ...
    def progress(self, progress: pb.Progress) -> None: ...


def print_result(job_id: str, gateway: str | None, timeout_s: float | None, save: str | None, as_json: bool) -> None:
    if save is not None and as_json:
        raise UsageError("--save writes a pickle and --json prints; choose one")
    with Client(gateway) as client:
        job = client.with_presenter(_Silent).job(job_id)
        try:
            value = job.result(timeout_s)
        except KeyboardInterrupt:
            exits.tell(f"job {job.id[:8]} goes on")
            raise
        except Exception as error:
            tell_if_remote(job.function, error)
            if type(error) is TimeoutError:
                exits.fail(f"job {job.id[:8]} hasn't ended yet; it goes on", exits.UNAVAILABLE)
            raise
        if save is not None:
            _save(value, save)
            return
        screen = Screen(as_json)
        for each in value if job.is_stream else [value]:
            screen.value(each, job.is_stream)
        screen.close()


def _save(value: Any, name: str) -> None:
    """All of it or nothing."""
    path = Path(name)
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with temporary.open("wb") as file:
            pickle.dump(value, file, protocol=5)
        temporary.replace(path)
    except OSError as error:
        raise UsageError(f"{path} can't be written: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)
    exits.tell(f"saved to {os.path.abspath(path)}")


def cancel_job(job_id: str, gateway: str | None, forget: bool) -> None:
    with Client(gateway) as client:
        job: Job[Any] = client.job(job_id)
        was_open = job.status().ended is None
        if was_open:
            job.cancel("cancelled from a terminal")
        if forget:
            job.forget()
    done = "was told to stop" if was_open else "had ended already"
    print(f"Job {job.id[:8]} ('{foreign.name(job.function)}') {done}{', and is forgotten' if forget else ''}.")
    sys.stdout.flush()
