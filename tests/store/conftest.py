"""Jobs as they come, without a gateway."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any, TypeVar

from easyremote.config import JobSettings
from easyremote.store.jobs import Arrival, Job, JobStore
from easyremote.store.journal import Journal
from easyremote.wire.v1 import gateway_pb2 as pb

T = TypeVar("T")

NOW = 1_800_000_000.0


def submission(function: str = "f", data: bytes = b"arguments") -> pb.Submit:
    submit = pb.Submit(call_id=secrets.token_bytes(16), function=function)
    submit.arguments.data = data
    return submit


def output(seq: int, text: str, attempt: int = 1) -> pb.Event:
    return pb.Event(attempt=attempt, seq=seq, output=pb.Output(text=text))


def item(seq: int, data: bytes, attempt: int = 1) -> pb.Event:
    return pb.Event(attempt=attempt, seq=seq, item=pb.Payload(data=data))


def ended(seq: int, data: bytes = b"", attempt: int = 1) -> pb.Event:
    return pb.Event(attempt=attempt, seq=seq, result=pb.Payload(data=data))


def keep(store: JobStore, submit: pb.Submit, now: float = NOW) -> Job:
    job = store.keep(submit, (), 1, now)
    assert isinstance(job, Job), job
    return job


def append(store: JobStore, job: Job, *events: pb.Event, now: float = NOW) -> None:
    store.append([Arrival(job.number, event) for event in events], now)


def with_journal(
    path: Path, work: Callable[[Journal], Coroutine[Any, Any, T]], settings: JobSettings | None = None
) -> T:
    """Open it, do the work, close it."""

    async def run() -> T:
        journal = Journal(path, settings or JobSettings())
        try:
            await journal.open()
            return await work(journal)
        finally:
            await journal.close()

    return asyncio.run(run())


def do(path: Path, work: Callable[[JobStore], T], settings: JobSettings | None = None) -> T:
    """One transaction of a journal that is opened for it."""
    return with_journal(path, lambda journal: journal.do(work), settings)
