"""`Job`: a call that the gateway keeps on disk. Any client can find it again and read it from its first event."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
import threading
import weakref
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from time import monotonic
from typing import Any, TypeVar, cast

from easyremote import foreign
from easyremote.bundling import Target
from easyremote.calls import Call, _Opened
from easyremote.connection import GIVE_UP_AFTER_S, Connection
from easyremote.errors import (
    GatewayUnreachable,
    JobNotFound,
    JobsUnavailable,
    PayloadError,
    Unavailable,
    UsageError,
)
from easyremote.execution.failure import rebuild
from easyremote.model import JobInfo
from easyremote.presenting import Presenter, present, running_ipython
from easyremote.runtime import random_id
from easyremote.sealing import Prepared, open_fetched
from easyremote.transport.transfers import memory_for, place
from easyremote.wire import codec
from easyremote.wire.events import payload_of
from easyremote.wire.v1 import gateway_pb2 as pb

R = TypeVar("R")

_awaited: set[Job[Any]] = set()

__all__ = ["Job"]

WAIT_S = 20.0
"""How long the gateway holds a question for news."""

PAGE_BYTES = 256 * 1024
"""Events that are asked for at once."""

LOOK_S = 1.0
"""How often it is looked whether anybody still has the handle that has enough to read."""

UNREAD_EVENTS = 256
UNREAD_BYTES = 256 * 1024
"""More isn't asked for while whoever reads the job has so much before them."""

PIECE_BYTES = 64 * 1024
PIECES_AHEAD = 32
"""Pieces of a large payload that are asked for, or sent, before the first is answered."""

_UPLOADS = 3
_KEPT_TOGETHER = 1000
_KEPT_BYTES = 512 * 1024
_LISTED = 500


class Job(Call[R]):
    """A call that outlives the client that made it, and the gateway's process.

    A `Call` in all respects but these: whoever waits for it, or reads its items, may leave at any time, and it goes on (Ctrl-C
    too); `cancel()` stops it. Output, displays and progress come from the first on, however late one looks. The gateway keeps it
    until it is forgotten, or for a time after it ended: see docs/jobs.md.
    """

    ends_on_interrupt = False
    """Whether Ctrl-C while waiting for it stops it."""

    is_cell = False
    """Whether it runs a notebook's cell: its result is the value of the last expression."""

    _begun = False
    _is_paced = False  # somebody reads it, so that nothing is to be left out
    _was_collected = False

    def __init__(
        self,
        connection: Connection,
        job_id: bytes,
        title: str,
        presenter: Callable[[], Presenter] | None = None,
    ) -> None:
        super().__init__(job_id, title, _nothing, self._took, presenter, may_unpickle=connection.may_unpickle_from(""))
        self._connection = connection
        self._room = asyncio.Event()
        self._cell_outcome: dict[str, Any] = {}

    # ---- what a person sees --------------------------------------------------------------------------------------

    @property
    def id(self) -> str:
        """32 hex digits; `client.job` takes the first few as well."""
        return self.call_id

    def outcome(self, timeout: float | None = None) -> dict[str, Any]:
        """Wait for a cell's end: "names" has what it brings back, "value" the last expression's value, where that travels, and
        "bundle" what it looks like. Raises what `result` raises."""
        self.result(timeout)
        return self._cell_outcome

    def status(self) -> JobInfo:
        """What the gateway knows of it now. Raises JobNotFound when it keeps it no longer."""
        request = pb.JobRequest(read=pb.JobRequest.Read(job_id=self._id, after=2**32 - 1, max_bytes=1))
        return info_of(self._connection.ask_job(request).jobs[0])

    def cancel(self, reason: str = "a client cancelled it") -> bool:
        """Stop it, wherever it is. False when it had ended already. What it brought is still kept."""
        end = pb.JobRequest.End(job_id=self._id, reason=reason)
        record = self._connection.ask_job(pb.JobRequest(end=end)).jobs[0]
        return record.state == "cancelled"

    def forget(self) -> None:
        """Delete it with all that is kept of it; stop it if it runs."""
        self._connection.ask_job(pb.JobRequest(forget=self._id))

    def done(self) -> bool:
        """Whether it has ended, as far as its events have come here. Of a stream whose items nobody takes, see `status()`."""
        self._begin(is_paced=False)
        return super().done()

    @property
    def state(self) -> str:
        self._begin(is_paced=False)
        return super().state

    def add_done_callback(self, fn: Callable[[Any], Any]) -> None:
        self._begin(is_paced=False)
        _awaited.add(self)  # whoever waits for a callback needn't keep the handle
        super().add_done_callback(lambda _: _awaited.discard(self))
        super().add_done_callback(fn)

    def __repr__(self) -> str:
        state = super().state if self._begun else "not looked at yet"
        where = f" on {foreign.name(self.node)}" if self.node else ""
        return f"<Job {self.id[:8]} {foreign.name(self.function)}: {state}{where}>"

    # ---- reading begins when somebody looks ----------------------------------------------------------------------

    @functools.cached_property
    def _condition(self) -> threading.Condition:
        self._begin(is_paced=False)
        return threading.Condition(self._lock)

    def _begin(self, is_paced: bool) -> None:
        self._is_paced = self._is_paced or is_paced
        with self._lock:
            if self._begun:
                return
            self._begun = True
        self._connection.read_job(self, _Reader(self, self._connection, self._id, self._room).read())

    def _wait(self, until: float | None) -> None:
        self._begin(is_paced=True)
        if self._outcome is None:
            super()._wait(until)

    async def _events_async(self, collect: bool) -> AsyncIterator[_Opened]:
        self._begin(is_paced=True)
        async for opened in super()._events_async(collect):
            yield opened

    def _left(self, reason: str) -> None:
        """It goes on."""

    def _interrupted(self, interrupt: KeyboardInterrupt) -> None:
        text = f"KeyboardInterrupt: '{self.function}' goes on as job {self.id[:8]}; client.job('{self.id[:8]}') finds it again"
        if running_ipython() is not None:
            text += f", and `%easyremote attach {self.id[:8]}` shows it"
        if self.ends_on_interrupt:
            self._connection.tell_job(pb.JobRequest(end=pb.JobRequest.End(job_id=self._id, reason="interrupted")))
            text = f"KeyboardInterrupt: '{self.function}', job {self.id[:8]}, was stopped"
        interrupt._render_traceback_ = lambda: [text]  # type: ignore[attr-defined]

    def _resolve(self) -> tuple[Any, BaseException | None]:
        resolved = super()._resolve()
        if self.is_cell and isinstance(resolved[0], dict):
            self._cell_outcome = cast(dict[str, Any], resolved[0])
            text = self._cell_outcome.get("bundle", {}).get("data", {}).get("text/plain")
            resolved = self._cell_outcome.get("value", text), None
        if not self._was_collected:
            self._was_collected = True
            if not self._connection.is_closed and not isinstance(self._outcome, BaseException):
                self._connection.tell_job(pb.JobRequest(collected=self._id))
        return resolved

    def _took(self, _: Any, attempt: int, seq: int, size: int, items: int) -> None:
        """The consumer has room for more."""
        if not self._connection.is_closed:
            self._connection.post(self._room.set)

    # ---- on the loop ---------------------------------------------------------------------------------------------

    def _came(self, numbered: pb.JobEvent, encoded: codec.Encoded | None) -> None:
        event = numbered.event
        event.seq = numbered.number
        self._may_unpickle = self._connection.may_unpickle_from("")
        self._arrive(event, encoded)

    def _has_room(self) -> bool:
        """Whether more may be asked for. Output that nobody reads is cut by `Call`; items, and what is being read, wait."""
        with self._lock:
            unread = [arrived for arrived in self._queue or () if self._is_paced or arrived.is_item]
        return len(unread) <= UNREAD_EVENTS and sum(arrived.size for arrived in unread) <= UNREAD_BYTES

    def _tell_dropped(self, count: int) -> None:
        self._arrive(pb.Event(output=pb.Output(is_stderr=True, text=_left_out(count))), None)

    def _failed(self, error: Exception) -> None:
        if isinstance(error, GatewayUnreachable):
            text = f"{error.message}; job {self.id[:8]} goes on there, and client.job('{self.id}') finds it again"
            error = GatewayUnreachable(text)
        self._judged(error)


class _Gone(Exception):
    """Nobody has the handle any more."""


class _Reader:
    """Brings a job's events to its handle, in their order, until the last, or until nobody has the handle."""

    def __init__(self, job: Job[Any], connection: Connection, job_id: bytes, room: asyncio.Event) -> None:
        self._ref = weakref.ref(job)
        self._connection = connection
        self._job_id = job_id
        self._room = room

    @property
    def _job(self) -> Job[Any]:
        """To be held for a moment only."""
        job = self._ref()
        if job is None:
            raise _Gone
        return job

    async def read(self) -> None:
        try:
            await self._read()
        except _Gone:
            pass
        except Exception as error:
            job = self._ref()
            if job is not None:
                job._failed(error)

    async def _read(self) -> None:
        request = pb.JobRequest.Read(job_id=self._job_id, max_bytes=PAGE_BYTES, wait_s=WAIT_S)
        while not Call.done(self._job):
            await self._wait_for_room()
            page = await self._page(request)
            if not request.after and page.jobs and page.jobs[0].dropped_events:
                self._job._tell_dropped(page.jobs[0].dropped_events)
            await self._connection.settled()
            for numbered in page.events:
                numbered.event.CopyFrom(_opened(self._connection, self._job_id, numbered.event))
                encoded = await self._payload(numbered.event)
                self._job._came(numbered, encoded)
                request.after = numbered.number
            if page.is_all and not Call.done(self._job):
                raise PayloadError(f"the end of job {self._job_id.hex()} is missing at the gateway")

    async def _page(self, request: pb.JobRequest.Read) -> pb.JobAnswer:
        """What comes next. A journal that can't be read for a moment is asked again."""
        until = monotonic() + GIVE_UP_AFTER_S
        while True:
            try:
                return await self._connection.ask_job_soon(pb.JobRequest(read=request), WAIT_S + GIVE_UP_AFTER_S)
            except JobsUnavailable as error:
                if monotonic() > until:
                    raise
                await asyncio.sleep(error.retry_after_s or 1.0)

    async def _payload(self, event: pb.Event) -> codec.Encoded | None:
        payload = payload_of(event)
        if payload is None:
            return None
        if not payload.HasField("blob"):
            return codec.Encoded.of(payload)
        await self._wait_for_room()
        return await fetch(self._connection, self._job_id, payload)

    async def _wait_for_room(self) -> None:
        while True:
            self._room.clear()
            if self._job._has_room():
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._room.wait(), LOOK_S)


def _nothing(*_: Any) -> None:
    """A job is cancelled at the gateway, not from here."""


# ---- what a client asks ------------------------------------------------------------------------------------------------


def keep(connection: Connection, wanted: Iterable[tuple[pb.Submit, list[codec.Encoded]]]) -> Iterator[bytes]:
    """Have these kept, and yield their ids, in order, when they are on the gateway's disk.

    Each comes with its large payloads, in the order in which its submission names them. Raises what the gateway refuses one with.
    """
    together: list[pb.Submit] = []
    size = 0
    for submit, large in wanted:
        connection.ask_for_plain(submit)
        for payload, encoded in zip(_without_data(submit), large, strict=True):
            connection.run(_put(connection, payload, encoded))
        bytes_ = submit.ByteSize()
        if together and (len(together) == _KEPT_TOGETHER or size + bytes_ > _KEPT_BYTES):
            yield from _keep(connection, together)
            together, size = [], 0
        together.append(submit)
        size += bytes_
    if together:
        yield from _keep(connection, together)


def _keep(connection: Connection, submits: list[pb.Submit]) -> list[bytes]:
    answer = connection.ask_job(pb.JobRequest(keep=pb.JobRequest.Keep(submits=submits)))
    for kept in answer.kept:
        if kept.HasField("error"):
            raise rebuild(kept.error)
    return [kept.job_id for kept in answer.kept]


def _without_data(submit: pb.Submit) -> list[pb.Payload]:
    payloads = [submit.arguments, submit.code.payload] if submit.HasField("code") else [submit.arguments]
    return [payload for payload in payloads if payload.HasField("blob")]


async def _put(connection: Connection, payload: pb.Payload, encoded: codec.Encoded) -> None:
    """Bring a large payload to the gateway, under the id that the submission names."""
    for _ in range(_UPLOADS):
        if await _put_once(connection, payload.blob.blob_id, encoded):
            return
    raise Unavailable("the gateway was restarted again and again while it was given the job's arguments")


async def _put_once(connection: Connection, blob_id: bytes, encoded: codec.Encoded) -> bool:
    """False when a gateway that was restarted has lost its beginning."""
    under_way: deque[tuple[int, asyncio.Task[pb.JobAnswer]]] = deque()

    async def whole() -> bool:
        end, task = under_way.popleft()
        return (await task).size >= end

    try:
        for offset, data in _pieces(encoded.parts):
            put = pb.JobRequest.Put(blob_id=blob_id, offset=offset, data=data, size=encoded.size)
            task = asyncio.ensure_future(connection.ask_job_soon(pb.JobRequest(put=put)))
            under_way.append((offset + len(data), task))
            if len(under_way) >= PIECES_AHEAD and not await whole():
                return False
        while under_way:
            if not await whole():
                return False
        return True
    finally:
        await _cancel([task for _, task in under_way])


def _pieces(parts: Iterable[codec.Part]) -> Iterator[tuple[int, bytes]]:
    offset = 0
    for part in parts:
        view = memoryview(part).cast("B")
        for start in range(0, view.nbytes, PIECE_BYTES):
            piece = bytes(view[start : start + PIECE_BYTES])
            yield offset, piece
            offset += len(piece)


async def fetch(connection: Connection, job_id: bytes, payload: pb.Payload) -> codec.Encoded:
    """The bytes of a large payload that is kept at the gateway."""
    size = sum(payload.blob.part_bytes)
    parts = memory_for(list(payload.blob.part_bytes))
    under_way: deque[tuple[int, asyncio.Task[pb.JobAnswer]]] = deque()

    async def take() -> None:
        offset, task = under_way.popleft()
        data = (await task).data
        if len(data) != min(PIECE_BYTES, size - offset):
            raise PayloadError(f"a value of {size:,} bytes is damaged at the gateway: {len(data)} bytes at {offset}")
        place(parts, offset, memoryview(data))

    try:
        for offset in range(0, size, PIECE_BYTES):
            piece = pb.JobRequest.Piece(
                job_id=job_id, blob_id=payload.blob.blob_id, offset=offset, max_bytes=PIECE_BYTES
            )
            under_way.append((offset, asyncio.ensure_future(connection.ask_job_soon(pb.JobRequest(piece=piece)))))
            if len(under_way) >= PIECES_AHEAD:
                await take()
        while under_way:
            await take()
    finally:
        await _cancel([task for _, task in under_way])
    encoded = codec.Encoded(payload.content_type, parts)
    return await asyncio.to_thread(open_fetched, payload, encoded) if payload.seal_key else encoded


def _opened(connection: Connection, job_id: bytes, event: pb.Event) -> pb.Event:
    """An event of a job as its node made it. Raises SealError."""
    return connection.sealing.open_of_job(event, job_id)


async def _cancel(tasks: list[asyncio.Task[pb.JobAnswer]]) -> None:
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


def submission(
    connection: Connection, target: Target, arguments: bytes | codec.Encoded
) -> tuple[pb.Submit, list[codec.Encoded]]:
    """A job, and its large payloads in the order in which it names them."""
    submit = target.to_wire(random_id())
    given = connection.prepared(target, arguments)
    if isinstance(given, bytes):
        submit.arguments.data = given
        submit.arguments.content_type = connection.encoding.content_type
        large: list[codec.Encoded] = []
    else:
        if given.refs:
            raise UsageError("a job outlives its client, and refs end with it: give a job the values themselves")
        payload, large = payload_for(given)
        submit.arguments.CopyFrom(payload)
    if target.code is not None:
        payload, more = payload_for(target.sealed_code or target.code[1])
        submit.code.payload.CopyFrom(payload)
        large = large + more
    sealing = connection.sealing
    if sealing.is_wanted(target.options.node_id):
        sealing.seal_job(submit, target.code_digest)
    return submit, large


def find(connection: Connection, job_id: str, presenter: Callable[[], Presenter] | None = None) -> Job[Any]:
    """By the first digits of its id. Raises JobNotFound, UsageError."""
    wanted = job_id.strip().lower()
    if not wanted:
        raise UsageError("a job is found by its id, or by some of its first digits; client.jobs() lists them")
    found = records(connection, wanted, 2)
    if not found:
        raise JobNotFound(f"the gateway keeps no job '{wanted}': it was forgotten, has expired, or never was")
    if len(found) > 1:
        raise UsageError(
            f"several jobs begin with '{wanted}', e.g. {found[0].job_id.hex()} and {found[1].job_id.hex()}"
        )
    job: Job[Any] = Job(connection, found[0].job_id, found[0].title, presenter)
    job.is_cell = found[0].code_kind == pb.Code.KIND_CELL
    return job


def replay(connection: Connection, job: Job[Any], presenter: Presenter, follow: bool) -> pb.Event | None:
    """Show what a job printed, from its start; with `follow` until it ends. Values are left alone.

    Returns its last event, if it has come.
    """
    request = pb.JobRequest.Read(job_id=bytes.fromhex(job.id), max_bytes=PAGE_BYTES, wait_s=WAIT_S if follow else 0.0)
    while True:
        page = connection.ask_job(pb.JobRequest(read=request), WAIT_S + GIVE_UP_AFTER_S)
        if not request.after and page.jobs[0].dropped_events:
            presenter.output(True, _left_out(page.jobs[0].dropped_events))
        for numbered in page.events:
            numbered.event.CopyFrom(_opened(connection, request.job_id, numbered.event))
            _show(connection, request.job_id, numbered.event, presenter, page.jobs[0].node_id)
            request.after = numbered.number
        if page.is_all or not (page.events or follow):
            return page.events[-1].event if page.is_all and page.events else None


def _show(connection: Connection, job_id: bytes, event: pb.Event, presenter: Presenter, node: str) -> None:
    data = b""
    if event.HasField("display"):
        payload = event.display.bundle
        is_large = payload.HasField("blob")
        encoded = connection.run(fetch(connection, job_id, payload)) if is_large else codec.Encoded.of(payload)
        data = bytes(encoded.parts[0])
    present(presenter, event, data, connection.may_unpickle_from(""), node)


def _left_out(count: int) -> str:
    return f"easyremote: {count:,} pieces of output from before were left out; the gateway keeps the newest\n"


def payload_for(encoded: codec.Encoded | Prepared) -> tuple[pb.Payload, list[codec.Encoded]]:
    """A payload as a job's submission has it, and what is to be put at the gateway before."""
    if isinstance(encoded, Prepared):
        payload, large = payload_for(encoded.sealed)
        payload.seal_key = encoded.key
        return payload, large
    if not encoded.is_large:
        return encoded.inline(), []
    return encoded.by_reference(secrets.token_bytes(16)), [encoded]


def records(connection: Connection, id_prefix: str = "", limit: int | None = None) -> list[pb.JobRecord]:
    """The newest first."""
    found: list[pb.JobRecord] = []
    wanted = pb.JobRequest.List(id_prefix=id_prefix)
    while limit is None or len(found) < limit:
        wanted.limit = min(limit - len(found), _LISTED) if limit is not None else _LISTED
        page = connection.ask_job(pb.JobRequest(list=wanted)).jobs
        found += page
        if len(page) < wanted.limit:
            break
        wanted.before = page[-1].number
    return found


def info_of(record: pb.JobRecord) -> JobInfo:
    progress = record.progress
    part = min(max(progress.done / progress.total, 0.0), 1.0) if progress.total else None
    return JobInfo(
        id=record.job_id.hex(),
        title=record.title,
        state=record.state,
        node=record.node_id,
        created=record.created,
        started=record.started or None,
        ended=record.ended or None,
        expires=record.expires or None,
        collected=record.collected or None,
        attempts=record.attempts,
        progress=part,
        progress_text=progress.text,
        kept_bytes=record.kept_bytes,
        dropped_events=record.dropped_events,
        error=record.error,
        kind="cell" if record.code_kind == pb.Code.KIND_CELL else "function",
    )
