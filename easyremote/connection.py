"""What all faces of one client share: its session, its link, and the calls that are open."""

from __future__ import annotations

import asyncio
import itertools
import logging
import secrets
import threading
import weakref
from collections import deque
from collections.abc import Callable
from typing import Any

from easyremote import discovery, lifetime
from easyremote.calls import Call
from easyremote.core import client_session as core
from easyremote.errors import EasyRemoteError, GatewayUnreachable, UsageError, from_code
from easyremote.runtime import this_runtime
from easyremote.transport.link import ACK_DELAY_S, Link
from easyremote.transport.loop import Mailbox, shared_loop
from easyremote.transport.transfers import BlobLost, Transfers
from easyremote.wire import codec
from easyremote.wire.shared_files import SharedFiles
from easyremote.wire.v1 import gateway_pb2 as pb

GIVE_UP_AFTER_S = 30.0
"""Open calls end with GatewayUnreachable when the gateway was away for this long."""

GIVE_UP_AFTER_GOODBYE_S = 5.0
"""The same after a gateway that said goodbye; it may be restarting."""

_log = logging.getLogger("easyremote")

open_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


class Connection:
    """Thread-safe. Work is handed to the shared loop through one mailbox, so that many submissions make one wake-up."""

    def __init__(self, endpoint: discovery.Endpoint) -> None:
        self.endpoint = endpoint
        self._calls: dict[bytes, Call[Any]] = {}
        self._pipelines: dict[bytes, deque[pb.Event]] = {}
        self._queries: dict[int, asyncio.Future[pb.Answer]] = {}
        self._query_ids = itertools.count(1)
        self._mailbox: Mailbox[Callable[[], None]] = Mailbox(self._work_off)
        self._pipeline_tasks: set[asyncio.Task[None]] = set()
        self._ack_timer: asyncio.TimerHandle | None = None
        self._give_up_timer: asyncio.TimerHandle | None = None
        self._give_up_after_s = GIVE_UP_AFTER_S
        self._close_lock = threading.Lock()
        self.is_closed = False
        self._core = core.ClientSession(secrets.token_bytes(16), this_runtime())
        shared_loop.hold()
        try:
            shared_loop.run(self._open())
        except BaseException:
            self.is_closed = True
            shared_loop.release()
            raise
        open_connections.add(self)

    async def _open(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._link = Link(
            self._core,
            self.endpoint,
            self._perform,
            self._on_up,
            self._on_down,
            discovery.refresh,
        )
        self._transfers = Transfers(self.endpoint, self._core.session_id, SharedFiles(), self._send_fetch)
        await self._link.connected()

    # ---- from any thread -----------------------------------------------------------------------------------------

    def post(self, work: Callable[[], None]) -> None:
        """Run this on the loop soon, in order."""
        self._mailbox.post(work)

    def submit(self, call: Call[Any], submit: pb.Submit, arguments: codec.Encoded, code: codec.Encoded | None) -> None:
        """Hand a call over. Its payloads are kept until it ends."""

        def work() -> None:
            if self.is_closed:
                call._judged(_closed())
                return
            submit.arguments.CopyFrom(self._transfers.own(submit.call_id, arguments))
            if code is not None:
                submit.code.payload.CopyFrom(self._transfers.own(submit.call_id, code))
            self._calls[submit.call_id] = call
            self._core.submit(submit, self._loop.time())

        self.post(work)

    def cancel(self, call: Call[Any], reason: str) -> None:
        def work() -> None:
            if self._calls.pop(call._id, None) is not None:
                self._core.cancel(call._id, reason)
                self._transfers.release(call._id)

        if not self.is_closed:
            self.post(work)

    def taken(self, call: Call[Any], attempt: int, seq: int, size: int) -> None:
        def work() -> None:
            self._core.taken(call._id, attempt, seq, size)
            self._schedule_acks()

        if not self.is_closed:
            self.post(work)

    def query(self, query: pb.Query, timeout_s: float = 10.0) -> pb.Answer:
        """Ask the gateway and wait for the answer. Raises GatewayUnreachable when none comes."""
        if self.is_closed:
            raise UsageError("this client is closed; make a new one")
        return shared_loop.run(self._ask(query, timeout_s))

    @property
    def is_connected(self) -> bool:
        return not self.is_closed and self._core.is_connected

    def close(self) -> None:
        """Cancel what is open, say goodbye, and close. Calling it again does nothing."""
        if shared_loop.is_parents:
            return
        with self._close_lock:
            if self.is_closed:
                return
            self.is_closed = True
        open_connections.discard(self)
        try:
            shared_loop.run(self._close())
        finally:
            shared_loop.release()

    # ---- on the loop ---------------------------------------------------------------------------------------------

    def _work_off(self, items: list[Callable[[], None]]) -> None:
        for item in items:
            try:
                item()
            except Exception:  # one that fails must not take the others of its batch along
                _log.exception("a request of this client failed")
        if self._core.has_acks and self._core.outbox:
            self._core.flush_acks()
        if self._core.outbox:
            self._link.flush()

    def _perform(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, core.Deliver):
                self._deliver(effect.call_id, effect.event)
            elif isinstance(effect, core.Judged):
                call = self._forget(effect.call_id)
                if call is not None:
                    call._judged(effect.error)
            elif isinstance(effect, core.Answered):
                waiting = self._queries.pop(effect.answer.query_id, None)
                if waiting is not None and not waiting.done():
                    waiting.set_result(effect.answer)
            elif isinstance(effect, core.SendBlob):
                self._transfers.requested(effect.fetch)
            elif isinstance(effect, core.GatewayLeaves):
                self._give_up_after_s = GIVE_UP_AFTER_GOODBYE_S
        if self._core.has_acks:
            self._schedule_acks()

    def _deliver(self, call_id: bytes, event: pb.Event) -> None:
        """To the call, in order. An event whose payload must be fetched holds up those behind it."""
        call = self._calls.get(call_id)
        if call is None:
            return
        waiting = self._pipelines.get(call_id)
        payload = _payload_of(event)
        if waiting is not None:
            waiting.append(event)
        elif payload is not None and payload.HasField("blob"):
            self._pipelines[call_id] = deque([event])
            task = self._loop.create_task(self._run_pipeline(call_id, call))
            self._pipeline_tasks.add(task)
            task.add_done_callback(self._pipeline_tasks.discard)
        else:
            self._arrive(call_id, call, event, codec.Encoded.of(payload) if payload is not None else None)

    async def _run_pipeline(self, call_id: bytes, call: Call[Any]) -> None:
        events = self._pipelines[call_id]
        try:
            while events and call_id in self._calls:
                payload = _payload_of(events[0])
                encoded = await self._transfers.fetch(call_id, payload) if payload is not None else None
                self._arrive(call_id, call, events.popleft(), encoded)
        except BlobLost:
            self._core.again(call_id, self._loop.time())
            self._link.flush()
        except Exception as error:
            call._judged(error)
            self._forget(call_id)
        finally:
            del self._pipelines[call_id]

    def _arrive(self, call_id: bytes, call: Call[Any], event: pb.Event, encoded: codec.Encoded | None) -> None:
        ended = event.WhichOneof("body") in ("result", "error")
        if call._arrive(event, encoded):
            size = encoded.size if encoded is not None else 0
            self._core.taken(call_id, event.attempt, event.seq, size)
            self._schedule_acks()
        if ended:
            self._forget(call_id)

    def _forget(self, call_id: bytes) -> Call[Any] | None:
        self._transfers.release(call_id)
        return self._calls.pop(call_id, None)

    def _schedule_acks(self) -> None:
        if self._ack_timer is None and self._core.has_acks:
            self._ack_timer = self._loop.call_later(ACK_DELAY_S, self._flush_acks)

    def _flush_acks(self) -> None:
        self._ack_timer = None
        self._core.flush_acks()
        self._link.flush()

    def _send_fetch(self, fetch: pb.Fetch) -> None:
        self._core.fetch(fetch)
        self._link.flush()

    async def _ask(self, query: pb.Query, timeout_s: float) -> pb.Answer:
        query.query_id = next(self._query_ids)
        answer: asyncio.Future[pb.Answer] = self._loop.create_future()
        self._queries[query.query_id] = answer
        self._core.query(query)
        self._link.flush()
        try:
            return await asyncio.wait_for(answer, timeout_s)
        except TimeoutError:
            raise self._unreachable(timeout_s) from None
        finally:
            self._queries.pop(query.query_id, None)
            self._core.forget_query(query.query_id)

    def _unreachable(self, for_s: float) -> GatewayUnreachable:
        reason = f" ({self._link.last_error})" if self._link.last_error else ""
        return GatewayUnreachable(f"the gateway at {self.endpoint.address} was away for {for_s:g} s{reason}")

    def _on_up(self) -> None:
        self._transfers.session_up()
        self._give_up_after_s = GIVE_UP_AFTER_S
        if self._give_up_timer is not None:
            self._give_up_timer.cancel()
            self._give_up_timer = None

    def _on_down(self) -> None:
        self._transfers.session_down()
        if self._give_up_timer is None:
            self._give_up_timer = self._loop.call_later(self._give_up_after_s, self._give_up)

    def _give_up(self) -> None:
        """The gateway didn't come back. The link goes on trying; the calls end."""
        self._give_up_timer = None
        error = self._unreachable(self._give_up_after_s)
        for call_id, call in list(self._calls.items()):
            self._core.cancel(call_id, "the gateway is gone")
            self._forget(call_id)
            call._judged(error)

    async def _close(self) -> None:
        for timer in (self._ack_timer, self._give_up_timer):
            if timer is not None:
                timer.cancel()
        for task in list(self._pipeline_tasks):
            task.cancel()
        await asyncio.gather(*self._pipeline_tasks, return_exceptions=True)
        closed = _closed()
        for call_id, call in list(self._calls.items()):
            self._core.cancel(call_id, "its client was closed")
            self._forget(call_id)
            call._judged(closed)
        self._core.goodbye()
        self._link.flush()
        await self._link.drained(1.0)
        await self._transfers.close()
        await self._link.close()


def _closed() -> EasyRemoteError:
    return from_code("cancelled", "the client was closed")


def _close_all() -> None:
    for connection in list(open_connections):
        connection.close()


lifetime.opened(open_connections, _close_all, lifetime.CLIENTS)


def _payload_of(event: pb.Event) -> pb.Payload | None:
    body = event.WhichOneof("body")
    if body == "display":
        return event.display.bundle if event.display.HasField("bundle") else None
    return getattr(event, body) if body in ("item", "result") else None
