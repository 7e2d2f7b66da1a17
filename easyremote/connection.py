"""What all faces of one client share: its session, its link, and the calls that are open."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import logging
import threading
import weakref
from collections import deque
from collections.abc import Callable, Coroutine, Iterable, Sequence
from time import monotonic
from typing import Any, NamedTuple, TypeVar

from easyremote import discovery, lifetime
from easyremote.answering import WAITED_FOR_WITHIN_S
from easyremote.bundling import MAX_TASK_BYTES, Bundle, Member, Target
from easyremote.calls import Call
from easyremote.core import client_session as core
from easyremote.errors import (
    AuthError,
    EasyRemoteError,
    GatewayUnreachable,
    JobsUnavailable,
    PayloadError,
    RemoteError,
    RemoteProtocolError,
    SealError,
    UntrustedGateway,
    UsageError,
    from_code,
)
from easyremote.execution.failure import rebuild
from easyremote.hedging import Copy, Race
from easyremote.refs import Ref, RefTable, lost
from easyremote.runtime import random_id, this_runtime
from easyremote.sealing import Prepared, Sealing, digest_of_code, open_fetched, sealed_payload
from easyremote.security.joining import Invitation
from easyremote.shipping import Shipments
from easyremote.transport.link import ACK_DELAY_S, Link
from easyremote.transport.loop import Mailbox, shared_loop
from easyremote.transport.transfers import BlobLost, Transfers
from easyremote.trusting import Results, ResultTrust
from easyremote.waiting import (
    MAX_NOTED,
    NOTE_AFTER_S,
    NOTE_EVERY_S,
    NOTE_WITHIN_S,
    WaitingNote,
    are_notes_wanted,
    explanation_of,
)
from easyremote.wire import codec
from easyremote.wire.chunks import WireChunk
from easyremote.wire.events import payload_of
from easyremote.wire.shared_files import SharedFiles
from easyremote.wire.v1 import gateway_pb2 as pb

GIVE_UP_AFTER_S = 30.0
"""Open calls end with GatewayUnreachable when the gateway was away for this long."""

GIVE_UP_AFTER_GOODBYE_S = 5.0
"""The same after a gateway that a program stopped. One whose process was told to end, by SIGTERM, counts as one that returns."""

T = TypeVar("T")

_log = logging.getLogger("easyremote")

open_connections: weakref.WeakSet[Connection] = weakref.WeakSet()


Arguments = bytes | codec.Encoded | Prepared
"""Of a call: a small pickle, a value, or one that is sealed already."""

_Open = Call[Any] | Bundle | Copy
"""What gets the events of one id."""


class _Submission(NamedTuple):
    """A call that is to be sent."""

    target: Target
    call: Call[Any]
    arguments: Arguments


class Connection:
    """Thread-safe. Work is handed to the shared loop through one mailbox, so that many submissions make one wake-up."""

    def __init__(self, endpoint: discovery.Endpoint, results: Results = "auto") -> None:
        self.endpoint = endpoint
        self._trust = ResultTrust(results, endpoint)
        self.encoding: type[codec.Pickles] = codec.Pickles
        self._calls: dict[bytes, _Open] = {}
        self._unwanted: dict[Bundle, set[int]] = {}  # tasks that were cancelled a moment ago
        self._pipelines: dict[bytes, deque[pb.Event]] = {}
        self._noted: dict[str, float] = {}  # by function, when somebody was told why it waits
        self._queries: dict[int, asyncio.Future[pb.Answer]] = {}
        self._query_ids = itertools.count(1)
        self._mailbox: Mailbox[Callable[[], None] | _Submission] = Mailbox(self._work_off)
        self._tasks: set[asyncio.Task[None]] = set()
        self._refs_of: dict[bytes, Sequence[Ref[Any]]] = {}  # what the calls that are open name: their values must stay
        self._fetches: dict[asyncio.Task[Any] | None, BaseException | None] = {}  # and why each is to end, if it is
        self._readers: dict[asyncio.Task[None], weakref.ref[Call[Any]]] = {}  # of jobs
        self._ack_timer: asyncio.TimerHandle | None = None
        self._give_up_timer: asyncio.TimerHandle | None = None
        self._resume_timer: asyncio.TimerHandle | None = None
        self._give_up_after_s = GIVE_UP_AFTER_S
        self._shut_out: AuthError | None = None  # the gateway has ended this session, as its token isn't good any more
        self._close_lock = threading.Lock()
        self.is_closed = False
        self.sealing = Sealing(endpoint.fingerprint or endpoint.address, endpoint.is_own, self._admit)
        self._core = core.ClientSession(random_id(), this_runtime(), seals=True)
        shared_loop.hold()
        try:
            shared_loop.run(self._open())
        except BaseException:
            self.is_closed = True
            shared_loop.release()
            raise
        self.encoding = codec.Pickles if self._core.may_ship else codec.PlainData
        self.refs = RefTable(self)
        self.shipments = Shipments()
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
        self._transfers = Transfers(
            self.endpoint,
            self._core.session_id,
            SharedFiles(),
            self._send_fetch,
            self._send_chunk,
            lambda: self._link.is_local,
        )
        await self._link.connected()

    # ---- from any thread -----------------------------------------------------------------------------------------

    def post(self, work: Callable[[], None]) -> None:
        """Run this on the loop soon, in order."""
        self._mailbox.post(work)

    def submit(self, call: Call[Any], target: Target, arguments: bytes | codec.Encoded) -> None:
        """Hand a call over. Its payloads are kept until it ends. `arguments` as bytes: a small pickle.

        Raises UsageError for refs of another client, ConsentError for a node whose key isn't the one that is known.
        """
        if isinstance(arguments, codec.Encoded) and arguments.refs:
            self.refs.to_wire(arguments.refs)
        self._mailbox.post(_Submission(target, call, self.prepared(target, arguments)))

    def prepared(self, target: Target, arguments: bytes | codec.Encoded) -> Arguments:
        """As the call is to have them: sealed, where it is to be sealed and they are large. Raises ConsentError."""
        sealing = self.sealing
        if not sealing.is_wanted(target.options.node_id):
            return arguments
        refusal = sealing.refusal(target.options.node_id)
        if refusal is not None:
            raise refusal
        if target.code is not None and not target.code_digest:
            target.code_digest = target.code[0].digest or digest_of_code(target.code[1])
            code = sealing.prepare(target.code[1])
            target.sealed_code = code if isinstance(code, Prepared) else None
        return arguments if isinstance(arguments, bytes) else sealing.prepare(arguments)

    def submit_tasks(self, call: Call[Any], target: Target, tasks: list[bytes]) -> None:
        """Hand over one call that runs the function once for each of these arguments, and streams the results."""

        def work() -> None:
            if self.is_closed:
                call._judged(_closed())
                return
            call._time, call._tasks = target.time, len(tasks)
            self._begin(call, target, self._with_tasks(call._id, target, tasks))

        self.prepared(target, b"")
        self.post(work)

    def cancel(self, call: Call[Any], reason: str, kill: bool = False) -> None:
        """Stop it. `kill`: it was cancelled before, and what still runs of it gets no more time."""

        def work() -> None:
            if kill:
                self._core.kill(call._id)
                return
            if call._race is not None:
                call._race.cancelled(reason)
            if self._forget(call._id) is not None:
                self._core.cancel(call._id, reason)
            elif call._bundle is not None:
                bundle, number = call._bundle
                self._unwanted.setdefault(bundle, set()).add(number)

        if not self.is_closed:
            self.post(work)

    def taken(self, call: Call[Any], attempt: int, seq: int, size: int, items: int) -> None:
        def work() -> None:
            self._core.taken(call._id, attempt, seq, size, items)
            self._schedule_acks()

        if not self.is_closed:
            self.post(work)

    def reply(self, call: Call[Any], event: pb.Event, text: str, refusal: str) -> None:
        """Answer what a call has asked with this event, or say why nobody does."""

        def work() -> None:
            if call._id not in self._calls:
                return
            asked = event.asked.ask_id
            reply = pb.Reply(call_id=call._id, attempt=event.attempt, ask_id=asked, text=text, refusal=refusal)
            if self.sealing.is_sealed(call._id):
                self.sealing.seal_reply(reply)
            self._core.reply(reply)

        if not self.is_closed:
            self.post(work)

    def examine(self, call: Call[Any], error: BaseException) -> None:
        """Let the error of a call that has failed be looked at where it was raised."""
        remote = error if isinstance(error, RemoteError) else error.__cause__
        if isinstance(remote, RemoteError):
            from easyremote.examining import Examination

            remote.call_id = call.call_id
            remote.examination = Examination(self, call.node, call._id)

    def explain_waiting(self, call: Call[Any]) -> None:
        """Find out why no node has it, and let it tell whoever waits."""

        def work() -> None:
            noted_at = self._noted.pop(call.function, None)
            now = monotonic()
            is_soon = noted_at is not None and now - noted_at < NOTE_EVERY_S
            self._noted[call.function] = noted_at if is_soon and noted_at is not None else now
            if len(self._noted) > MAX_NOTED:
                del self._noted[next(iter(self._noted))]
            if not is_soon:
                self._spawn(self._ask_why(call))

        if not self.is_closed and are_notes_wanted():
            self.post(work)

    def open_calls(self) -> list[Call[Any]]:
        """Those that haven't ended, but for short ones that travel together."""
        return [call for call in list(self._calls.values()) if isinstance(call, Call)]

    def query(self, query: pb.Query, timeout_s: float = 10.0) -> pb.Answer:
        """Ask the gateway and wait for the answer. Raises GatewayUnreachable when none comes."""
        if self.is_closed:
            raise UsageError("this client is closed; make a new one")
        return shared_loop.run(self._ask(query, timeout_s))

    def invite(self, request: pb.InviteRequest) -> Invitation:
        """Ask the gateway for an invitation. Raises AuthError, UsageError, GatewayUnreachable."""
        from easyremote.transport.joining import invite  # which loads gRPC

        return self.run(invite(self._link.endpoint, request))

    def ask_job(self, request: pb.JobRequest, timeout_s: float = 30.0) -> pb.JobAnswer:
        """Ask what keeps the gateway's jobs, and wait. Raises what is wrong with the request; JobsUnavailable."""
        return self.run(self.ask_job_soon(request, timeout_s))

    def tell_job(self, request: pb.JobRequest) -> None:
        """The same without waiting; whatever the answer is. It is sent even when the client is closed right after."""

        def work() -> None:
            self._core.query(pb.Query(query_id=next(self._query_ids), job=request))

        self.post(work)

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run this on the loop and wait for it."""
        if self.is_closed:
            work.close()
            raise UsageError("this client is closed; make a new one")
        return shared_loop.run(work)

    def read_job(self, job: Call[Any], work: Coroutine[Any, Any, None]) -> None:
        """Let this bring a job's events, until it ends or the client is closed. It isn't to keep the handle alive."""
        if self.is_closed:  # perhaps its loop has ended as well
            work.close()
            job._judged(_closed())
            return
        handle = weakref.ref(job)

        def begin() -> None:
            if self.is_closed:
                work.close()
                _close_job(handle)
                return
            task = self._loop.create_task(work)
            self._readers[task] = handle
            task.add_done_callback(lambda task: self._readers.pop(task, None))

        self.post(begin)

    @property
    def may_unpickle(self) -> bool:
        """Whether pickles from nodes are loaded here."""
        return self._trust.may_unpickle

    def may_unpickle_from(self, node_id: str) -> bool:
        """The same of a call. `node_id`: only there. What is sealed comes from a node that is trusted."""
        return self.may_unpickle or self._takes_sealed(node_id)

    def _takes_sealed(self, node_id: str = "") -> bool:
        return self._trust.takes_sealed and self.sealing.is_wanted(node_id)

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

    def _work_off(self, items: list[Callable[[], None] | _Submission]) -> None:
        gathered: list[_Submission] = []
        for item in items:
            if isinstance(item, _Submission):
                if gathered and gathered[0].target is not item.target:
                    self._try(functools.partial(self._send_calls, gathered))
                    gathered = []
                gathered.append(item)
                continue
            if gathered:
                self._try(functools.partial(self._send_calls, gathered))
                gathered = []
            self._try(item)
        if gathered:
            self._try(functools.partial(self._send_calls, gathered))
        if self._unwanted:
            self._cancel_tasks()
        if self._core.acks_are_urgent or (self._core.has_acks and self._core.outbox):
            self._core.flush_acks()
        if self._core.outbox:
            self._link.flush()

    def _try(self, work: Callable[[], None]) -> None:
        """One request that fails must not take the others of its batch along."""
        try:
            work()
        except Exception:
            _log.exception("a request of this client failed")

    def _send_calls(self, waiting: list[_Submission]) -> None:
        """Calls of one target, in as few submissions as is good for them."""
        if self.is_closed:
            for item in waiting:
                item.call._judged(_closed())
            return
        target = waiting[0].target
        room = target.time.room if target.may_bundle else 1
        members: list[Member] = []
        size = 0
        for item in waiting:
            if room == 1 or not isinstance(item.arguments, bytes) or item.call._parent_id:
                self._send_call(target, item.call, item.arguments)
                continue
            if len(members) == room or size + len(item.arguments) > MAX_TASK_BYTES:
                self._send_bundle(target, members)
                members, size = [], 0
            members.append((item.call, item.arguments))
            size += len(item.arguments)
        if members:
            self._send_bundle(target, members)

    def _send_call(self, target: Target, call: Call[Any], arguments: Arguments) -> None:
        call._time = target.time
        submit = self._submission(call._id, target, arguments)
        if target.hedging is None:
            self._begin(call, target, submit)
        elif not call.done():
            race = Race(call, target.hedging, functools.partial(self._send_copy, target, arguments), self)
            self._begin(race.copies[0], target, submit)

    def _submission(self, call_id: bytes, target: Target, arguments: Arguments) -> pb.Submit:
        submit = target.to_wire(call_id)
        if isinstance(arguments, bytes):
            submit.arguments.data = arguments
            submit.arguments.content_type = self.encoding.content_type
        else:
            self._own(call_id, arguments, submit.arguments)
            if arguments.refs:
                submit.refs.extend(self.refs.to_wire(arguments.refs))
                self._refs_of[call_id] = arguments.refs
        return submit

    def _own(self, call_id: bytes, value: codec.Encoded | Prepared, payload: pb.Payload) -> None:
        if isinstance(value, Prepared):
            payload.CopyFrom(self._transfers.own(call_id, value.sealed))
            payload.seal_key = value.key
        else:
            payload.CopyFrom(self._transfers.own(call_id, value))

    def _send_copy(self, target: Target, arguments: Arguments, race: Race) -> Copy:
        """A second copy of a hedged call."""
        copy = Copy(race, random_id())
        submit = self._submission(copy._id, target, arguments)
        submit.hedge_of = race.copies[0]._id
        del submit.options.retry_on[:]  # the first one is run again
        if race.call._deadline is not None:
            submit.options.timeout_s = max(race.call._deadline - monotonic(), 1e-3)
        self._begin(copy, target, submit)
        self._link.flush()
        return copy

    def drop_copy(self, call_id: bytes, reason: str) -> None:
        """It isn't wanted any more."""
        if self._forget(call_id) is not None:
            self._core.cancel(call_id, reason)
            self.post(_nothing)  # which sends what there is to send

    def hand_over(self, call: Call[Any], call_id: bytes) -> None:
        """From now on this copy's events go to the call itself."""
        call._id = call_id
        self._calls[call_id] = call

    def call_later(self, delay_s: float, work: Callable[[], None]) -> asyncio.TimerHandle:
        return self._loop.call_later(delay_s, work)

    def _send_bundle(self, target: Target, members: list[Member]) -> None:
        if len(members) == 1:
            self._send_call(target, *members[0])
            return
        bundle = Bundle(random_id(), target, members, self._send_again)
        self._begin(bundle, target, self._with_tasks(bundle._id, target, [arguments for _, arguments in members]))

    def _send_again(self, target: Target, members: list[Member]) -> None:
        self._send_calls([_Submission(target, call, arguments) for call, arguments in members])
        self._link.flush()

    def _with_tasks(self, call_id: bytes, target: Target, tasks: list[bytes]) -> pb.Submit:
        submit = target.to_wire(call_id)
        submit.tasks.extend(tasks)
        submit.tasks_content_type = self.encoding.content_type
        return submit

    def ask_for_plain(self, submit: pb.Submit) -> None:
        """Have its results come as plain data, where pickles wouldn't be loaded: here, or by a call that names what was kept."""
        is_arguments = submit.options.keep and self.encoding is codec.PlainData
        if (not self.may_unpickle_from(submit.options.node_id) or is_arguments) and not submit.options.accept:
            submit.options.accept = codec.PLAIN

    def _begin(self, call: _Open, target: Target, submit: pb.Submit) -> None:
        if (shut_out := self._why_shut_out()) is not None:
            call._judged(shut_out)
            return
        self.ask_for_plain(submit)
        if target.code is not None:
            self._own(submit.call_id, target.sealed_code or target.code[1], submit.code.payload)
        asked = call.race.call if isinstance(call, Copy) else call
        if isinstance(asked, Call) and asked._parent_id:
            submit.options.parent_id = asked._parent_id
            if asked._deadline is not None:
                left_s = asked._deadline - monotonic()
                submit.options.timeout_s = left_s if left_s > 0 else -1.0
        if isinstance(call, Call) and call.may_ask and self._core.may_answer and not submit.tasks:
            submit.options.answers = True
            call._sent_by = self
        self._calls[submit.call_id] = call
        if self.sealing.is_wanted() or target.sealed_code is not None or submit.refs or submit.arguments.seal_key:
            try:
                self._seal(target, submit)
            except EasyRemoteError as error:
                self._forget(submit.call_id)
                call._judged(error)
                return
        self._core.submit(submit, monotonic())

    def _seal(self, target: Target, submit: pb.Submit) -> None:
        """Seal the call, if it is to be. What is large was prepared for that when the call was made."""
        sealing = self.sealing
        payloads = [submit.arguments, submit.code.payload]
        is_open = any(payload.HasField("blob") and not payload.seal_key for payload in payloads)
        if not is_open and sealing.is_wanted(submit.options.node_id):
            sealing.seal(submit, target.code_digest)
        elif any(payload.seal_key for payload in payloads) or any(ref.seal_key for ref in submit.refs):
            raise UsageError("the call is about sealed values, and no node takes sealed calls any more; make it again")

    def _admit(self, admissions: Iterable[pb.Admission], complete: bool) -> None:
        """Let nodes open sealed calls."""
        made = list(admissions)
        if shared_loop.is_here:
            self._core.admit(made, complete)
        else:
            self.post(lambda: self._core.admit(made, complete))

    def _cancel_tasks(self) -> None:
        unwanted, self._unwanted = self._unwanted, {}
        for bundle, numbers in unwanted.items():
            if bundle._id not in self._calls:
                continue
            if bundle.is_wanted:
                self._core.cancel_tasks(bundle._id, bundle.unwanted(numbers))
            else:
                self._core.cancel(bundle._id, "its calls were cancelled")
                self._forget(bundle._id)

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
            elif isinstance(effect, core.ChunkCame):
                self._transfers.chunk_came(WireChunk(effect.chunk))
            elif isinstance(effect, core.KeysCame):
                self.sealing.keys_came(effect.keys)
                self._link.flush()
            elif isinstance(effect, core.HeldBack):
                self._resume_timer = self._loop.call_later(effect.wait_s, self._resume)
            elif isinstance(effect, core.Rejected):
                if isinstance(error := from_code(effect.refused.code, effect.refused.message), AuthError):
                    self._end_calls(error)
            elif isinstance(effect, core.GatewayLeaves):
                self._give_up_after_s = GIVE_UP_AFTER_S if effect.returns else GIVE_UP_AFTER_GOODBYE_S
        if self._core.has_acks:
            self._schedule_acks()

    def _deliver(self, call_id: bytes, event: pb.Event) -> None:
        """To the call, in order. An event whose payload must be fetched holds up those behind it."""
        call = self._calls.get(call_id)
        if call is None:
            return
        if self.sealing.is_sealed(call_id):
            try:
                event = self.sealing.open(event)
            except SealError as error:
                self._core.cancel(call_id, "what came of it was changed on its way")
                self._forget(call_id)
                self._link.flush()
                call._judged(error)
                return
        waiting = self._pipelines.get(call_id)
        payload = payload_of(event)
        if waiting is not None:
            waiting.append(event)
        elif (payload is not None and payload.HasField("blob")) or not self._trust.is_settled:
            self._pipelines[call_id] = deque([event])
            self._spawn(self._run_pipeline(call_id))
        else:
            self._arrive(call_id, call, event, codec.Encoded.of(payload) if payload is not None else None)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Something that ends with the connection at the latest."""
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _run_pipeline(self, call_id: bytes) -> None:
        events = self._pipelines[call_id]
        try:
            await self.settled()
            while events and call_id in self._calls:
                payload = payload_of(events[0])
                encoded = await self._fetch(call_id, payload) if payload is not None else None
                call = self._calls.get(call_id)  # an event may have handed it over to another
                if call is not None:
                    self._arrive(call_id, call, events.popleft(), encoded)
        except BlobLost:
            lost = events[0]  # those before it may wait for their consumer, and aren't to come twice
            self._core.again(call_id, monotonic(), lost.attempt, lost.seq)
            self._link.flush()
        except Exception as error:
            call = self._forget(call_id)
            if call is not None:
                call._judged(error)
        finally:
            del self._pipelines[call_id]

    async def settled(self) -> None:
        """Wait until it is known whose gateway this is."""
        if self._trust.is_settled:
            return
        await self._trust.settle(self._link.endpoint)
        if not self.may_unpickle:  # another gateway is where this user's own had been
            for call in self._calls.values():
                if isinstance(call, Call):
                    call._may_unpickle = False

    async def _fetch(self, call_id: bytes, payload: pb.Payload) -> codec.Encoded:
        encoded = await self._transfers.fetch(call_id, payload)
        return await asyncio.to_thread(open_fetched, payload, encoded) if payload.seal_key else encoded

    def _arrive(self, call_id: bytes, call: _Open, event: pb.Event, encoded: codec.Encoded | None) -> None:
        body = event.WhichOneof("body")
        ended = body in ("result", "error")
        seq = event.seq
        if body == "result" and isinstance(call, Call) and call._time is not None:
            call._time.ended(event, call._tasks)
        if body == "result" and isinstance(call, Call) and event.result.HasField("kept"):
            try:
                call._kept_result = self.refs.kept(event.result.kept)
            except PayloadError as error:
                self._core.cancel(call_id, "its result can't be taken")
                self._forget(call_id)
                call._judged(error)
                return
        if call._arrive(event, encoded):
            size = encoded.size if encoded is not None else 0
            self._core.taken(call_id, event.attempt, seq, size, len(event.items.data) or 1)
            self._schedule_acks()
        if ended:
            self._forget(call_id)
        elif body == "asked" and isinstance(call, Call) and not call._is_awaited:
            self._loop.call_later(WAITED_FOR_WITHIN_S, call._unattended)

    def _forget(self, call_id: bytes) -> _Open | None:
        self._transfers.release(call_id)
        if self._refs_of:
            self._refs_of.pop(call_id, None)
        self.sealing.ended(call_id)
        return self._calls.pop(call_id, None)

    def _schedule_acks(self) -> None:
        if self._ack_timer is None and self._core.has_acks:
            self._ack_timer = self._loop.call_later(ACK_DELAY_S, self._flush_acks)

    def _flush_acks(self) -> None:
        self._ack_timer = None
        self._core.flush_acks()
        self._link.flush()

    # ---- values of refs ------------------------------------------------------------------------------------------

    async def fetch_ref(self, ref: pb.Ref) -> codec.Encoded:
        """The value from whoever has it. Raises RefLost, and GatewayUnreachable where the gateway doesn't come back."""
        if (shut_out := self._why_shut_out()) is not None:
            raise shut_out
        if not self._core.is_connected and self._give_up_timer is None:
            raise self._unreachable(self._give_up_after_s)
        task = asyncio.current_task()
        self._fetches[task] = None
        try:
            encoded = codec.Encoded(ref.content_type, await self._transfers.fetch_ref(ref))
            if ref.seal_key:
                encoded = await asyncio.to_thread(open_fetched, sealed_payload(ref), encoded)
            return encoded
        except BlobLost as error:
            raise lost(ref, str(error)) from None
        except asyncio.CancelledError:
            error = self._fetches[task]
            if error is None:
                raise
            raise error from None
        finally:
            del self._fetches[task]

    def hold_ref(self, ref: pb.Ref, value: codec.Encoded | None) -> None:
        """The user holds a ref, of a value that is here or elsewhere."""
        if value is not None:
            self._transfers.hold(ref.ref_id, value)
        self._core.hold(pb.Handle(ref_id=ref.ref_id, has_value=value is not None))
        self._link.flush()

    def let_go_of_refs(self, ref_ids: list[bytes]) -> None:
        for ref_id in ref_ids:
            self._transfers.let_go(ref_id)
        self._core.let_go(ref_ids)
        self._link.flush()

    def _end_fetches(self, error: BaseException) -> None:
        for task in self._fetches:
            self._fetches[task] = error
            if task is not None:
                task.cancel()

    def _resume(self) -> None:
        self._core.resume(monotonic())
        self._link.flush()

    def _send_fetch(self, fetch: pb.Fetch) -> None:
        self._core.fetch(fetch)
        self._link.flush()

    def _send_chunk(self, chunk: pb.Chunk) -> None:
        self._core.send_chunk(chunk)
        self._link.flush()

    async def _ask_why(self, call: Call[Any]) -> None:
        """Ask for an explanation and hand it to the call, which may have begun meanwhile."""
        submitted = call if call._bundle is None else call._bundle[0]
        explanation = None
        if self._core.is_connected:
            with contextlib.suppress(GatewayUnreachable):
                answer = await self._ask(pb.Query(explain=pb.Submit(call_id=submitted._id)), NOTE_WITHIN_S)
                if not answer.HasField("explanation"):
                    return  # it isn't there any more, or not yet
                explanation = explanation_of(answer.explanation)
        waited_s = explanation.waited_s if explanation is not None else NOTE_AFTER_S
        call._noted(WaitingNote(call.function, waited_s, self.endpoint.address, explanation))

    async def ask_job_soon(self, request: pb.JobRequest, timeout_s: float = 30.0) -> pb.JobAnswer:
        """The same on the loop."""
        answer = await self._ask(pb.Query(job=request), timeout_s)
        if not answer.HasField("error"):
            return answer.job
        if answer.error.code == RemoteProtocolError.code:
            raise JobsUnavailable(f"the gateway at {self.endpoint.address} keeps no jobs: upgrade its EasyRemote")
        error = rebuild(answer.error)
        raise error

    async def _ask(self, query: pb.Query, timeout_s: float) -> pb.Answer:
        if (shut_out := self._why_shut_out()) is not None:
            raise shut_out
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
        reason = f": {self._link.last_error}" if self._link.last_error else ""
        return GatewayUnreachable(f"the gateway at {self.endpoint.address} was away for {for_s:g} s{reason}")

    def _why_shut_out(self) -> AuthError | None:
        """Why nothing that is asked for now would be heard: the token isn't good any more. One that was found, rather than given,
        may be the one of a gateway that is being started again."""
        error = self._link.last_error
        if isinstance(error, AuthError) and not isinstance(error, UntrustedGateway) and not self.endpoint.is_discovered:
            return error
        return self._shut_out

    def _on_up(self) -> None:
        self._shut_out = None
        self._trust.connected(self._link.endpoint)
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
        self._end_fetches(self._unreachable(self._give_up_after_s))
        for call_id, call in list(self._calls.items()):
            error = self._unreachable(self._give_up_after_s)
            error.may_have_run = self._core.may_have_run(call_id)
            self._core.cancel(call_id, "the gateway is gone")
            self._forget(call_id)
            call._judged(error)

    def _end_calls(self, error: AuthError) -> None:
        """The gateway doesn't let this client in any more, and has stopped what it had of it."""
        self._shut_out = error
        self._end_fetches(error)
        for waiting in self._queries.values():
            if not waiting.done():
                waiting.set_exception(error)
        for call_id, call in list(self._calls.items()):
            self._core.cancel(call_id, "the gateway doesn't let its client in any more")
            self._forget(call_id)
            call._judged(error)

    async def _close(self) -> None:
        for timer in (self._ack_timer, self._give_up_timer, self._resume_timer):
            if timer is not None:
                timer.cancel()
        readers = dict(self._readers)
        for task in [*self._tasks, *readers]:
            task.cancel()
        await asyncio.gather(*self._tasks, *readers, return_exceptions=True)
        closed = _closed()
        for handle in readers.values():
            _close_job(handle)
        self._end_fetches(closed)
        self.refs.close()
        for call_id, call in list(self._calls.items()):
            self._core.cancel(call_id, "its client was closed")
            self._forget(call_id)
            call._judged(closed)
        self._core.goodbye()
        self._link.flush()
        await self._link.drained(1.0)
        await self._transfers.close()
        await self._link.close()


def _close_job(handle: weakref.ref[Call[Any]]) -> None:
    job = handle()
    if job is not None:
        job._judged(_closed())


def _closed() -> EasyRemoteError:
    return from_code("cancelled", "the client was closed")


def _nothing() -> None:
    """Work that is only there to have the outbox sent."""


def _close_all() -> None:
    for connection in list(open_connections):
        connection.close()


lifetime.opened(open_connections, _close_all, lifetime.CLIENTS)
