"""Runs the jobs of a journal, as a client of the gateway's own broker.

Rules:
- An event counts as taken when it is on disk. Until then its node keeps it, and an attempt that needs its client's word to begin
  doesn't begin.
- While the disk takes nothing, what came is dropped and nothing is acknowledged; nodes keep it, and pause what produces it. When
  there is room again they are asked for it.
- At most `max_open_jobs` are with the broker; the others wait on disk, in the order in which they came.
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import partial
from time import monotonic

from easyremote.config import JobSettings
from easyremote.core import client_session as core
from easyremote.errors import EasyRemoteError
from easyremote.keeping.inside import Host, InsideLine, InsideTransfers
from easyremote.runtime import random_id, this_runtime
from easyremote.store.files import write_at
from easyremote.store.jobs import Appended, Arrival, File, Job, JobStore
from easyremote.store.journal import Journal
from easyremote.transport.link import ACK_DELAY_S
from easyremote.transport.transfers import BlobLost, Target
from easyremote.wire.chunks import WireChunk
from easyremote.wire.codec import Encoded
from easyremote.wire.events import payload_of
from easyremote.wire.v1 import gateway_pb2 as pb

HEARTBEAT_S = 1.0
RETRY_S = 1.0
"""How often a disk that took nothing is tried again."""

_log = logging.getLogger("easyremote")


@dataclass(slots=True, eq=False)
class _Run:
    """A job that is with the broker."""

    job: Job
    waiting: deque[pb.Event] = field(default_factory=deque[pb.Event])  # behind one whose payload is on its way
    fetching: asyncio.Task[None] | None = None

    @property
    def call_id(self) -> bytes:
        return self.job.submit.call_id


@dataclass(slots=True)
class _Pending:
    """An event that isn't on disk yet."""

    run: _Run
    arrival: Arrival
    size: int


class Runs:
    """`changed` is told the numbers of jobs of which there is something new on disk. Runs on the loop where it was made."""

    def __init__(
        self, host: Host, journal: Journal, settings: JobSettings, boot: int, changed: Callable[[Iterable[int]], None]
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self._journal = journal
        self._settings = settings
        self._boot = boot
        self._changed = changed
        self._core = core.ClientSession(random_id(), this_runtime(), boot - 1, allows_itself=True)
        self._line = InsideLine(host, self._loop.call_soon, self._received)
        self._transfers = InsideTransfers(host, self._core.session_id, self._send_fetch, self._send_chunk)
        self._runs: dict[bytes, _Run] = {}
        self._pending: list[_Pending] = []
        self._writer: asyncio.Task[None] | None = None
        self._refill: asyncio.Task[None] | None = None
        self._mender: asyncio.Task[None] | None = None  # runs while the disk takes nothing
        self._accepted = 0  # number of the newest job
        self._fed = 0  # number of the newest that went to the broker
        self._ack_timer: asyncio.TimerHandle | None = None
        self._is_due = False
        self._beat: asyncio.Task[None] | None = None
        host.broker.keeper_id = self._core.session_id

    @property
    def problem(self) -> bool:
        """Whether the disk takes nothing now."""
        return self._mender is not None

    async def start(self) -> None:
        """Bring back what earlier processes left, before any node or client is here."""
        await self._feed_from_disk(is_first=True)
        self._line.open(self._core.hello().hello)
        self._beat = self._loop.create_task(self._keep_up())

    async def close(self) -> None:
        """What came is still written; the jobs go on at their nodes."""
        self._line.leave()
        tasks = [self._beat, self._mender, self._refill, *(run.fetching for run in self._runs.values())]
        for task in tasks:
            if task is not None:
                task.cancel()
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
        if self._ack_timer is not None:
            self._ack_timer.cancel()
        if self._writer is not None:
            await asyncio.gather(self._writer, return_exceptions=True)
        await self._transfers.close()

    # ---- jobs begin ----------------------------------------------------------------------------------------------

    def accepted(self, jobs: Iterable[Job]) -> None:
        """New jobs are on disk."""
        for job in jobs:
            if self._fed == self._accepted and len(self._runs) < self._settings.max_open_jobs:
                self._feed(job, is_first=False)
            self._accepted = max(self._accepted, job.number)
        self._feed_more()

    def stop(self, call_id: bytes, reason: str) -> None:
        """The job has ended on disk, or was forgotten."""
        run = self._runs.get(call_id)
        if run is not None:
            self._core.cancel(call_id, reason)
            self._leave(run)
            self._flush()

    def _feed_more(self) -> None:
        if self._fed < self._accepted and self._refill is None and len(self._runs) < self._settings.max_open_jobs:
            self._refill = self._loop.create_task(self._feed_from_disk())

    async def _feed_from_disk(self, is_first: bool = False) -> None:
        room = self._settings.max_open_jobs - len(self._runs)
        try:
            jobs, newest = await self._journal.do(lambda store: store.open_jobs(self._fed, room, time.time()))
        except EasyRemoteError:
            await asyncio.sleep(RETRY_S)
        else:
            for job in jobs:
                self._feed(job, is_first)
            if len(jobs) < room:
                self._fed = max(self._fed, newest)
            self._accepted = max(self._accepted, newest)
        self._refill = None
        if not is_first:
            self._feed_more()

    def _feed(self, job: Job, is_first: bool) -> None:
        """Give a job to the broker. `is_first`: an earlier process may have done so."""
        self._fed = max(self._fed, job.number)
        submit = pb.Submit()
        submit.CopyFrom(job.submit)
        call_id = submit.call_id
        if call_id in self._runs:
            return
        run = self._runs[call_id] = _Run(job)
        try:
            for payload in payloads_of(submit):
                if payload.HasField("blob"):
                    blob_id = payload.blob.blob_id
                    parts = self._journal.files.map(blob_id.hex(), list(payload.blob.part_bytes))
                    encoded = Encoded(payload.content_type, parts)
                    payload.CopyFrom(self._transfers.own_again(call_id, encoded, blob_id))
        except OSError as error:
            text = f"its arguments can't be read at the gateway: {error}"
            self._judged(run, pb.ErrorInfo(code="payload", message=text))
            return
        self._set_timeouts(submit.options, job)
        was_sent = job.boot < self._boot and (is_first or job.attempt > 0)
        if was_sent:
            now = monotonic()
            self._core.restore(submit, job.boot, now, job.attempt, job.seq, job.was_allowed, job.has_values)
        else:
            self._core.submit(submit, monotonic())
        self._flush()

    def _set_timeouts(self, options: pb.Options, job: Job) -> None:
        """What is left of them: the job may have waited here, or for this process. One that says nothing waits for a node."""
        passed_s = max(time.time() - job.created, 0.0)
        if options.timeout_s:
            left_s = options.timeout_s - passed_s
            options.timeout_s = left_s if left_s > 0 else -1.0
        queue_s = options.queue_timeout_s or self._settings.expires_after_s
        options.queue_timeout_s = max(queue_s - (0.0 if job.attempt else passed_s), 0.001)

    def _leave(self, run: _Run) -> None:
        """It isn't with the broker any more."""
        if self._runs.pop(run.call_id, None) is None:
            return
        if run.fetching is not None:
            run.fetching.cancel()
        self._transfers.release(run.call_id)
        self._feed_more()

    # ---- what the broker says ------------------------------------------------------------------------------------

    def _received(self, frames: list[pb.Frame]) -> None:
        for effect in self._core.received(frames, monotonic()):
            if isinstance(effect, core.Deliver):
                self._deliver(effect)
            elif isinstance(effect, core.Judged):
                run = self._runs.get(effect.call_id)
                if run is not None:
                    self._judged(run, effect.error)
            elif isinstance(effect, core.SendBlob):
                self._transfers.requested(effect.fetch)
            elif isinstance(effect, core.ChunkCame):
                self._transfers.chunk_came(WireChunk(effect.chunk))
        self._schedule_acks()
        self._flush()

    def _deliver(self, effect: core.Deliver) -> None:
        run = self._runs.get(effect.call_id)
        if run is None or self._mender is not None:
            return
        event = effect.event
        payload = payload_of(event)
        if run.fetching is not None:
            run.waiting.append(event)
        elif payload is not None and payload.HasField("blob"):
            run.waiting.append(event)
            run.fetching = self._loop.create_task(self._fetch(run))
        else:
            self._arrived(run, event, ())

    async def _fetch(self, run: _Run) -> None:
        """Bring payloads to files, in the order of their events."""
        try:
            while run.waiting:
                event = pb.Event()
                event.CopyFrom(run.waiting[0])
                payload = payload_of(event)
                files = ()
                if payload is not None and payload.HasField("blob"):
                    files = (await self._to_file(run, payload),)
                run.waiting.popleft()
                self._arrived(run, event, files)
        except BlobLost:
            lost = run.waiting[0]
            run.waiting.clear()
            self._core.again(run.call_id, monotonic(), lost.attempt, lost.seq)
            self._flush()
        except OSError as error:
            self._halt(f"a payload of a job can't be written: {error}")
        except EasyRemoteError as error:
            text = f"what it returned can't be kept: {error.message}"
            self._core.cancel(run.call_id, text)
            self._judged(run, pb.ErrorInfo(code=error.code, message=text))
        finally:
            run.fetching = None

    async def _to_file(self, run: _Run, payload: pb.Payload) -> File:
        """Write a payload's bytes beside the journal, and refer to them there."""
        size = sum(payload.blob.part_bytes)
        files = self._journal.files
        name, descriptor = await self._in_thread(files.create, size)
        try:
            await self._transfers.fetch_into(run.call_id, payload, _FileTarget(descriptor, self._loop))
            is_whole = True
        except BaseException:
            is_whole = False
            raise
        finally:
            if not is_whole:
                os.close(descriptor)
                files.remove([name])
        await self._in_thread(files.finish, descriptor)
        payload.blob.blob_id = bytes.fromhex(name)
        return File(name, size)

    def _in_thread(self, function: Callable[..., object], *arguments: object) -> asyncio.Future:
        return self._loop.run_in_executor(None, function, *arguments)

    def _judged(self, run: _Run, error: pb.ErrorInfo) -> None:
        event = pb.Event(attempt=run.job.attempt, seq=run.job.seq, error=error)
        self._put(_Pending(run, Arrival(run.job.number, event, is_verdict=True), 0))

    def _arrived(self, run: _Run, event: pb.Event, files: tuple[File, ...]) -> None:
        size = event.ByteSize() + sum(file.size for file in files)
        self._put(_Pending(run, Arrival(run.job.number, event, files), size))

    # ---- to disk -------------------------------------------------------------------------------------------------

    def _put(self, pending: _Pending) -> None:
        self._pending.append(pending)
        if self._writer is None and self._mender is None:
            self._writer = self._loop.create_task(self._write())

    async def _write(self) -> None:
        try:
            while self._pending and self._mender is None:
                batch, self._pending = self._pending, []
                arrivals = [pending.arrival for pending in batch]
                try:
                    done = await self._journal.do(partial(JobStore.append, arrivals=arrivals, now=time.time()))
                except EasyRemoteError as error:
                    self._pending = [*batch, *self._pending]
                    self._halt(error.message)
                    return
                self._written(batch, done)
        finally:
            self._writer = None

    def _written(self, batch: list[_Pending], done: Appended) -> None:
        for pending in batch:
            run, event = pending.run, pending.arrival.event
            job = run.job
            job.attempt, job.seq = max(job.attempt, event.attempt), event.seq
            if pending.arrival.is_verdict:
                self._leave(run)
                continue
            if event.started.waits:
                self._core.allow(run.call_id, event.attempt)
            items = len(event.items.data) or 1
            self._core.taken(run.call_id, event.attempt, event.seq, pending.size, items)
            if event.WhichOneof("body") in ("result", "error"):
                self._leave(run)
        for number in done.too_large:
            run = next((run for run in self._runs.values() if run.job.number == number), None)
            if run is not None:
                self.stop(run.call_id, "it brought more than the gateway keeps of one job")
        self._schedule_acks()
        self._flush()
        self._changed({pending.run.job.number for pending in batch})

    def _halt(self, why: str) -> None:
        """The disk takes nothing: keep only what can't be asked for again."""
        for pending in self._pending:
            if not pending.arrival.is_verdict:
                self._journal.files.remove([file.name for file in pending.arrival.files])
        self._pending = [pending for pending in self._pending if pending.arrival.is_verdict]
        for run in self._runs.values():
            run.waiting.clear()
            if run.fetching is not None and run.fetching is not asyncio.current_task():
                run.fetching.cancel()
        if self._mender is None:
            _log.warning("jobs wait: %s", why)
            self._mender = self._loop.create_task(self._mend())

    async def _mend(self) -> None:
        """Until the disk takes something."""
        while True:
            await asyncio.sleep(RETRY_S)
            try:
                await self._journal.do(JobStore.probe)
                break
            except EasyRemoteError:
                continue
        if self._writer is not None:
            await asyncio.gather(self._writer, return_exceptions=True)  # what it is writing is not to be asked for
        _log.warning("jobs go on: the journal can be written again")
        self._mender = None
        now = monotonic()
        for call_id in self._runs:
            self._core.again(call_id, now)
        self._flush()
        if self._pending:
            self._put(self._pending.pop())

    # ---- plumbing ------------------------------------------------------------------------------------------------

    async def _keep_up(self) -> None:
        while True:
            await asyncio.sleep(HEARTBEAT_S)
            self._core.heartbeat()
            self._flush()

    def _send_fetch(self, fetch: pb.Fetch) -> None:
        self._core.fetch(fetch)
        self._flush()

    def _send_chunk(self, chunk: pb.Chunk) -> None:
        self._core.send_chunk(chunk)
        self._flush()

    def _schedule_acks(self) -> None:
        if self._core.acks_are_urgent:
            self._core.flush_acks()
        elif self._ack_timer is None and self._core.has_acks:
            self._ack_timer = self._loop.call_later(ACK_DELAY_S, self._flush_acks)

    def _flush_acks(self) -> None:
        self._ack_timer = None
        self._core.flush_acks()
        self._flush()

    def _flush(self) -> None:
        """Soon, with whatever else comes until then."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._tell)

    def _tell(self) -> None:
        self._is_due = False
        frames, self._core.outbox = self._core.outbox, []
        if frames:
            self._line.tell(frames)


class _FileTarget(Target):
    """Writes chunks of a payload to its file."""

    def __init__(self, descriptor: int, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__()
        self._descriptor = descriptor
        self._loop = loop

    async def place(self, offset: int, data: memoryview) -> None:
        await self._loop.run_in_executor(None, write_at, self._descriptor, data, offset)


def payloads_of(submit: pb.Submit) -> list[pb.Payload]:
    """Those that a job brings along."""
    payloads = [submit.arguments] if submit.HasField("arguments") else []
    return [*payloads, submit.code.payload] if submit.HasField("code") else payloads
