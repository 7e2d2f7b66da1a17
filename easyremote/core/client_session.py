"""A client's side of the conversation with its gateway, without its socket.

Rules:
- A call is open from `submit` until its end was delivered. While it is open its Submit is kept, and sent again after each
  reconnect; the gateway, or the node through it, then repeats what this side hasn't seen.
- Events are delivered once and in order: the next number of the current attempt, or nothing. A newer attempt starts at 1.
- A call with retries=0 is allowed to begin at most once: an attempt that announces itself is acknowledged at once, a second one
  means that the first was lost.
- A client that outlives its process (the gateway's keeper of jobs) brings its calls back with `restore`, and says itself when a
  call with retries=0 may begin: it has to be able to remember that it did.
- At most `MAX_OPEN` calls are with the gateway at once; the rest wait here, in order. Those that it refuses because it is at a
  bound go again later, as long as their timeouts allow it. So do those that ran when the gateway was restarted.
- A client that seals its calls tells the gateway which nodes may open them (`admit`), again after each reconnect and before the
  calls themselves.
- What a call asks is an event like others. Its reply is kept while the attempt asks nothing else, and goes again whenever the
  question comes again, which it does for as long as the node lacks the reply.
- A gateway that is about to end hands back what no node has; these calls, and all that are made from then on, wait here for the
  gateway that comes next.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass
from typing import NamedTuple

from easyremote.config import FEATURE_ASK, FEATURE_DRAIN, FEATURE_SEAL, PROTOCOL_VERSION
from easyremote.core.access import may_ship
from easyremote.core.transitions import UNREPEATABLE
from easyremote.errors import LocalProtocolError
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_OPEN = 4000
"""Below the gateway's own bound for one client, so that a client never runs into it by itself."""

SOONEST_AGAIN_S, LATEST_AGAIN_S = 0.05, 30.0
"""Refused calls go again after what the gateway says, doubled each time in a row, within these."""

FEW_AGAIN = 16
"""Of them, so many at least when the gateway has none of this client's calls."""

ATTEMPTS_PER_GATEWAY = 2000
"""Each gateway that a call meets gives its attempts numbers from a range of its own, so that no two are alike. Above the
gateway's `MAX_RETRIES`."""


def runs_at_least(attempt: int) -> int:
    """How often a call was begun at least, by the number of its attempt: those before belong to other gateways."""
    return (attempt - 1) % ATTEMPTS_PER_GATEWAY + 1


ACK_ITEMS = 64
ACK_BYTES = 1024 * 1024
"""Taken events are acknowledged at the latest after so many items, or so many bytes: a quarter of the producer's window."""


RING_TOGETHER = 1000
"""Admissions in one frame."""


class Deliver(NamedTuple):
    """An event of an open call."""

    call_id: bytes
    event: pb.Event


class Judged(NamedTuple):
    """The gateway ended a call itself."""

    call_id: bytes
    error: pb.ErrorInfo


class Answered(NamedTuple):
    """The answer to a query."""

    answer: pb.Answer


class Connected(NamedTuple):
    """The gateway took the client in."""

    welcome: pb.Welcome


class Rejected(NamedTuple):
    """The gateway refused it."""

    refused: pb.Refused


class SendBlob(NamedTuple):
    """A node asks for bytes of a payload."""

    fetch: pb.Fetch


class ChunkCame(NamedTuple):
    """A chunk without data: a payload lies in a shared file, can't be had, or must be asked for again."""

    chunk: pb.Chunk


class KeysCame(NamedTuple):
    """Which nodes are here, by their keys, or what has changed of that."""

    keys: pb.NodeKeys


class GatewayLeaves(NamedTuple):
    """The gateway said goodbye. `returns`: it may be started again soon."""

    reason: str
    returns: bool


class HeldBack(NamedTuple):
    """The gateway refused calls, since it is at a bound: `resume` is to be called after so long, and sends them again."""

    wait_s: float


ClientEffect = (
    HeldBack | Deliver | Judged | Answered | Connected | Rejected | SendBlob | ChunkCame | KeysCame | GatewayLeaves
)


@dataclass(slots=True, eq=False)
class OpenCall:
    """What this side knows of a call that hasn't ended for it."""

    submit: pb.Submit
    deadline: float | None
    attempt: int = 0
    seq: int = 0  # the last event delivered
    taken_seq: int = 0  # the last event that the consumer took
    acked_seq: int = 0
    unacked_bytes: int = 0
    unacked_items: int = 0
    was_allowed: bool = False  # an attempt may have begun; matters where only one may
    has_item: bool = False  # a stream item was delivered
    refused_at: float | None = None  # when the gateway first was at a bound
    has_ended: bool = False  # its last event was delivered, perhaps not taken
    is_sent: bool = False  # it is with the gateway, or on its way there
    reply: pb.Reply | None = None  # to what its attempt has asked last
    first_meeting: int = 0  # which of the gateways that this session met got it first; 0: none, so no node has it


class ClientSession:
    """Takes frames and the time, returns effects; frames to send gather in `outbox`.

    `meetings`: how many gateways the calls may have met that `restore` will bring; 0 for a client that begins anew.
    `allows_itself`: calls with retries=0 begin when `allow` says so. `seals`: it wants to know the keys of nodes.
    """

    def __init__(
        self,
        session_id: bytes,
        runtime: pb.Runtime,
        meetings: int = 0,
        allows_itself: bool = False,
        seals: bool = False,
    ) -> None:
        self.session_id = session_id
        self.outbox: list[pb.Frame] = []
        self.is_connected = False
        self.may_answer = False  # the gateway brings replies to nodes
        self.may_ship = True  # code, and so pickles, as far as its token goes
        self._runtime = runtime
        self._allows_itself = allows_itself
        self._features = [FEATURE_DRAIN, FEATURE_SEAL] if seals else [FEATURE_DRAIN]
        self._ring: list[pb.Admission] = []
        self._has_ring = False  # so that the gateway may know of one
        # the gateway's id, and this session's incarnation there; at first that of the one before, where there was one
        self._known_as: tuple[bytes, int] | None = (b"", 0) if meetings else None
        self._meetings = (
            meetings  # how often that changed: a gateway that has forgotten this session counts as another one
        )
        self._gateway_changed_at: float | None = None
        self._grace_s = 0.0
        self._open: dict[bytes, OpenCall] = {}
        self._sent_count = 0
        self._holds_back = False  # the gateway is about to end
        self._unsent: deque[bytes] = deque()
        self._room = MAX_OPEN  # so many may be with the gateway now
        self._refused: deque[bytes] = deque()  # for want of room there; they go again with `resume`, or as others end
        self._is_held = False  # until `resume` is called
        self._refusals = 0  # in a row
        self._acks: dict[bytes, pb.Acknowledged] = {}
        self._acks_are_urgent = False
        self._queries: dict[int, pb.Query] = {}
        self._handles: dict[bytes, pb.Handle] = {}
        self._has_held = False  # so that the gateway may know of some
        self._effects: list[ClientEffect] = []
        self._now = 0.0

    # ---- the connection ------------------------------------------------------------------------------------------

    def hello(self) -> pb.Frame:
        return pb.Frame(
            hello=pb.Hello(
                protocol_min=1,
                protocol_max=PROTOCOL_VERSION,
                features=self._features,
                role=pb.ROLE_CLIENT,
                session_id=self.session_id,
                runtime=self._runtime,
            )
        )

    def received(self, frames: Iterable[pb.Frame], now: float) -> list[ClientEffect]:
        self._now = now
        for frame in frames:
            body = frame.WhichOneof("body")
            handler = _HANDLERS.get(body)
            if handler is not None:
                handler(self, getattr(frame, body))
        if self._acks_are_urgent:
            self.flush_acks()
        return self._take()

    def disconnected(self, now: float) -> None:
        self.is_connected = False
        self.outbox.clear()
        self._acks.clear()

    # ---- what the client does ------------------------------------------------------------------------------------

    def submit(self, submit: pb.Submit, now: float) -> None:
        """Open a call; `submit` belongs to the session from now on. Raises LocalProtocolError for an id that is in use."""
        self._now = now
        if submit.call_id in self._open:
            raise LocalProtocolError("two calls have the same id")
        timeout_s = submit.options.timeout_s
        self._open[submit.call_id] = OpenCall(submit, now + timeout_s if timeout_s else None)
        self._unsent.append(submit.call_id)
        self._send_unsent()

    def restore(
        self,
        submit: pb.Submit,
        met: int,
        now: float,
        attempt: int = 0,
        seq: int = 0,
        was_allowed: bool = False,
        has_item: bool = False,
    ) -> None:
        """Open a call that an earlier process may have sent.

        `met`: the first of the gateways that it met, counted as in `meetings`. Its consumer took the events up to `seq` of
        `attempt`.
        """
        timeout_s = submit.options.timeout_s
        call = OpenCall(submit, now + timeout_s if timeout_s else None, attempt, seq, seq, seq)
        call.was_allowed, call.has_item, call.first_meeting = was_allowed, has_item, max(met, 1)
        call.is_sent = True
        self._open[submit.call_id] = call
        self._sent_count += 1
        if was_allowed:
            submit.options.retries_set, submit.options.retries = True, 0
        if self.is_connected:
            self._send_submit(call)

    def allow(self, call_id: bytes, attempt: int) -> None:
        """This attempt, which waits for this side's word, is to begin."""
        call = self._open.get(call_id)
        if call is not None and call.attempt == attempt:
            self._allow(call)

    def again(self, call_id: bytes, now: float, attempt: int = 0, seq: int = 0) -> None:
        """The payload of event `seq` of this attempt couldn't be fetched: ask for it, and what follows it, again.

        Without `seq`: for everything that isn't taken.
        """
        self._now = now
        call = self._open.get(call_id)
        if call is None or (seq and attempt != call.attempt):
            return
        call.seq = max(seq - 1, call.taken_seq)
        call.has_ended = False
        if self.is_connected and call.is_sent:
            self._send_submit(call)

    def reply(self, reply: pb.Reply) -> None:
        """Answer what an attempt has asked. One that isn't the call's attempt any more is not told."""
        call = self._open.get(reply.call_id)
        if call is not None and call.attempt == reply.attempt and not call.has_ended:
            call.reply = reply
            self._reply_again(call, reply.ask_id)

    def _reply_again(self, call: OpenCall, ask_id: int) -> None:
        if call.reply is not None and call.reply.ask_id == ask_id and self.is_connected and call.is_sent:
            self._send(pb.Frame(reply=call.reply))

    def cancel(self, call_id: bytes, reason: str) -> None:
        """Stop the call. From now on nothing of it is delivered."""
        call = self._open.get(call_id)
        if call is None:
            return
        if self.is_connected and call.is_sent:
            self._send(pb.Frame(cancel=pb.Cancel(call_id=call_id, reason=reason)))
        self._close(call_id)

    def kill(self, call_id: bytes) -> None:
        """End at once what still runs of a call that was cancelled a moment ago."""
        if self.is_connected and call_id not in self._open:
            self._send(pb.Frame(cancel=pb.Cancel(call_id=call_id, kill=True)))

    def cancel_tasks(self, call_id: bytes, tasks: Iterable[int]) -> None:
        """Stop some tasks of a bundle. What comes of them is still delivered."""
        call = self._open.get(call_id)
        if call is None:
            return
        call.submit.skipped_tasks.extend(tasks)
        if self.is_connected and call.is_sent:
            self._send(pb.Frame(cancel=pb.Cancel(call_id=call_id, tasks=tasks)))

    def taken(self, call_id: bytes, attempt: int, seq: int, size: int, items: int = 1) -> None:
        """The consumer took the call's events up to `seq`: `size` bytes and `items` items more than before."""
        call = self._open.get(call_id)
        if call is None or call.attempt != attempt:
            return
        call.taken_seq = max(call.taken_seq, seq)
        call.unacked_bytes += size
        call.unacked_items += items
        ended = call.has_ended and call.taken_seq == call.seq
        behind = max(call.unacked_items, call.taken_seq - call.acked_seq)
        if ended or behind >= ACK_ITEMS or call.unacked_bytes >= ACK_BYTES:
            self._acknowledge(call_id, call, ended)
            self._acks_are_urgent = self._acks_are_urgent or not ended  # its producer may be waiting
        if ended:
            self._close(call_id)

    def query(self, query: pb.Query) -> None:
        """Ask. It is asked again after a reconnect until it is answered."""
        self._queries[query.query_id] = query
        if self.is_connected:
            self._send(pb.Frame(query=query))

    def forget_query(self, query_id: int) -> None:
        self._queries.pop(query_id, None)

    def fetch(self, fetch: pb.Fetch) -> None:
        if self.is_connected:
            self._send(pb.Frame(fetch=fetch))

    def send_chunk(self, chunk: pb.Chunk) -> None:
        """Answer a Fetch with a chunk that has no data."""
        if self.is_connected:
            self._send(pb.Frame(chunk=chunk))

    def hold(self, handle: pb.Handle) -> None:
        """This side has a ref of a value, from now on. The value stays while it does."""
        self._handles[handle.ref_id] = handle
        self._has_held = True
        if self.is_connected:
            self._send(pb.Frame(handles=pb.Handles(held=[handle])))

    def let_go(self, ref_ids: Iterable[bytes]) -> None:
        """It has none any more."""
        released = [ref_id for ref_id in ref_ids if self._handles.pop(ref_id, None) is not None]
        if released and self.is_connected:
            self._send(pb.Frame(handles=pb.Handles(released=released)))

    def admit(self, admissions: Iterable[pb.Admission], complete: bool = False) -> None:
        """Let nodes open sealed calls, from now on. `complete`: only with these."""
        new = list(admissions)
        self._ring = new if complete else [*self._ring, *new]
        self._has_ring = True
        if self.is_connected:
            self._send_ring(new, complete)

    def heartbeat(self) -> None:
        if self.is_connected:
            self._send(pb.Frame(heartbeat=pb.Heartbeat()))

    def goodbye(self) -> None:
        if self.is_connected:
            self.flush_acks()
            self._send(pb.Frame(goodbye=pb.Goodbye()))

    def may_have_run(self, call_id: bytes) -> bool:
        """Whether a node may have begun this call, for all that is known here."""
        call = self._open.get(call_id)
        if call is None or not call.first_meeting:
            return False
        options = call.submit.options
        return call.was_allowed if options.retries_set and options.retries == 0 else True

    @property
    def open_count(self) -> int:
        """Calls that haven't ended for this side, those included whose end isn't taken yet."""
        return len(self._open)

    @property
    def has_acks(self) -> bool:
        return bool(self._acks)

    @property
    def acks_are_urgent(self) -> bool:
        """Whether a producer may be waiting for them."""
        return self._acks_are_urgent

    def flush_acks(self) -> None:
        """Put what was taken into the outbox. Acknowledging late costs the node memory, never correctness."""
        self._acks_are_urgent = False
        if self._acks and self.is_connected:
            self._send(pb.Frame(ack=pb.Ack(calls=self._acks.values())))
            self._acks.clear()

    # ---- what the gateway says -----------------------------------------------------------------------------------

    def _on_welcome(self, welcome: pb.Welcome) -> None:
        if self._known_as is not None and self._known_as[0] != welcome.gateway_id:
            self._gateway_changed_at = self._now
        if self._known_as != (welcome.gateway_id, welcome.incarnation):
            self._known_as = (welcome.gateway_id, welcome.incarnation)
            self._meetings += 1
        self._grace_s = welcome.grace_s
        self.may_ship = not welcome.roles or may_ship(welcome.roles)
        self.may_answer = FEATURE_ASK in welcome.features
        self.is_connected = True
        self._holds_back = False
        if self._has_held:
            self._send(pb.Frame(handles=pb.Handles(held=self._handles.values(), complete=True)))
        if self._has_ring:
            self._send_ring(self._ring, complete=True)
        for call in self._open.values():
            if call.is_sent:
                self._send_submit(call)
        self._send(pb.Frame(synced=pb.Synced()))
        for query in self._queries.values():
            self._send(pb.Frame(query=query))
        self._send_unsent()
        self._effects.append(Connected(welcome))

    def _on_refused(self, refused: pb.Refused) -> None:
        self._effects.append(Rejected(refused))

    def _on_event(self, event: pb.Event) -> None:
        call = self._open.get(event.call_id)
        if call is None or event.attempt < call.attempt:
            return
        if event.attempt > call.attempt:
            if call.has_ended:
                return  # it ended for this side; the gateway stops the new attempt when the end is acknowledged
            if event.started.waits and call.was_allowed:
                self._lose(call)
                return
            call.attempt = event.attempt
            call.seq = call.taken_seq = call.acked_seq = 0
            call.reply = None
        if event.seq != call.seq + 1:
            if event.seq <= call.taken_seq:
                self._acknowledge(event.call_id, call)  # it comes again, so an earlier acknowledgement was lost
                self._acks_are_urgent = True
            if event.seq <= call.seq and event.HasField("asked"):
                self._reply_again(call, event.asked.ask_id)
            return  # seen before, or what lies between is on its way
        body = event.WhichOneof("body")
        call.seq = event.seq
        self._refusals = 0
        if event.started.waits and not self._allows_itself:
            self._allow(call)
        call.has_item = call.has_item or body in UNREPEATABLE
        call.has_ended = body in ("result", "error")
        self._effects.append(Deliver(event.call_id, event))

    def _allow(self, call: OpenCall) -> None:
        """Its attempt is about to begin, for which it needs this side's word."""
        call.was_allowed = True
        call.submit.options.retries_set, call.submit.options.retries = True, 0  # its function's owner may have said so
        call.taken_seq = max(call.taken_seq, 1)
        self._acknowledge(call.submit.call_id, call)
        self._acks_are_urgent = True

    def _lose(self, call: OpenCall) -> None:
        """Another attempt wants to begin, so the one that was allowed to is lost."""
        text = "the node that was to run it, or the gateway, vanished; it may have run, and retries=0 allows no second time"
        self.cancel(call.submit.call_id, "an earlier attempt of it may have run")
        lost = pb.ErrorInfo(code="lost", message=text, may_have_run=True, details={"retries": "0"})
        self._effects.append(Judged(call.submit.call_id, lost))

    def _on_verdict(self, verdict: pb.Verdict) -> None:
        call = self._open.get(verdict.call_id)
        if call is None or (verdict.error.code == "overloaded" and self._keeps_back(call, verdict.error.retry_after_s)):
            return
        self._acks[verdict.call_id] = pb.Acknowledged(call_id=verdict.call_id, attempt=call.attempt, ended=True)
        self._close(verdict.call_id)
        self._effects.append(Judged(verdict.call_id, verdict.error))

    def _keeps_back(self, call: OpenCall, retry_after_s: float) -> bool:
        """Send it again later, if it may wait for so long. The longer the gateway has been at its bound, the later."""
        if not call.is_sent:
            return False
        refusals = self._refusals + (not self._is_held)
        wait_s = min(max(retry_after_s, SOONEST_AGAIN_S) * 2 ** (refusals - 1), LATEST_AGAIN_S)
        call.refused_at = self._now if call.refused_at is None else call.refused_at
        queue_timeout_s = call.submit.options.queue_timeout_s
        if not call.attempt and queue_timeout_s > 0 and self._now + wait_s > call.refused_at + queue_timeout_s:
            return False
        if call.deadline is not None and self._now + wait_s > call.deadline and not call.has_ended:
            return False
        if call.first_meeting == self._meetings:
            call.first_meeting = 0  # else a gateway before this one had it, and perhaps gave it to a node
        call.is_sent = False
        self._sent_count -= 1
        if not self._is_held:
            self._is_held, self._refusals = True, refusals
            self._effects.append(HeldBack(wait_s))
        self._refused.append(call.submit.call_id)
        self._room = 0
        return True

    def resume(self, now: float) -> None:
        """The time of a `HeldBack` is over. What was refused goes first, a part of it for a try."""
        self._now = now
        self._is_held = False
        self._unsent.extendleft(reversed(self._refused))
        self._refused.clear()
        self._room = min(self._sent_count + max(self._sent_count, FEW_AGAIN), MAX_OPEN)
        self._send_unsent()

    def _on_answer(self, answer: pb.Answer) -> None:
        if self._queries.pop(answer.query_id, None) is not None:
            self._effects.append(Answered(answer))

    def _on_fetch(self, fetch: pb.Fetch) -> None:
        self._effects.append(SendBlob(fetch))

    def _on_chunk(self, chunk: pb.Chunk) -> None:
        self._effects.append(ChunkCame(chunk))

    def _on_node_keys(self, keys: pb.NodeKeys) -> None:
        self._effects.append(KeysCame(keys))

    def _on_goodbye(self, goodbye: pb.Goodbye) -> None:
        self._effects.append(GatewayLeaves(goodbye.reason, goodbye.returns))

    def _on_handed_back(self, handed_back: pb.HandedBack) -> None:
        """No node has these calls, so it is as if they hadn't been sent."""
        self._holds_back = True
        for state in reversed(handed_back.attempts):
            call = self._open.get(state.call_id)
            if call is not None and call.is_sent and call.attempt == 0:
                call.first_meeting = 0
                call.is_sent = False
                self._sent_count -= 1
                self._unsent.appendleft(state.call_id)

    def _on_withdrawn(self, withdrawn: pb.Withdrawn) -> None:
        """The attempt that was allowed to begin never did, so another one may be."""
        call = self._open.get(withdrawn.call_id)
        if call is not None and call.attempt == withdrawn.attempt and call.seq <= 1 and not call.has_ended:
            call.was_allowed = False
            call.attempt = call.seq = call.taken_seq = call.acked_seq = 0
            call.reply = None

    # ---- plumbing ------------------------------------------------------------------------------------------------

    def _send_unsent(self) -> None:
        while self._unsent and self.is_connected and self._sent_count < self._room and not self._holds_back:
            call = self._open.get(self._unsent.popleft())
            if call is None:
                continue
            if call.deadline is not None and self._now >= call.deadline and not call.has_ended:
                self._end_late(call)
                continue
            call.first_meeting = call.first_meeting or self._meetings
            call.is_sent = True
            self._sent_count += 1
            self._send_submit(call)

    def _end_late(self, call: OpenCall) -> None:
        """It isn't at this gateway."""
        may_have_run = self.may_have_run(call.submit.call_id)
        del self._open[call.submit.call_id]
        late = pb.ErrorInfo(code="deadline", message="its timeout ran out before the gateway could be told of it")
        late.may_have_run = may_have_run
        late.details["which"] = "total"
        self._effects.append(Judged(call.submit.call_id, late))

    def _gateway_is_recovering(self) -> bool:
        """The gateway restarted a moment ago, and its nodes may not all be back."""
        changed = self._gateway_changed_at
        return changed is not None and self._now - changed < self._grace_s

    def _send_submit(self, call: OpenCall) -> None:
        """Send it as it is the first time, and with what this side has of it later."""
        is_recovering = self._gateway_is_recovering()
        may_be_held = call.first_meeting != self._meetings
        if call.attempt == 0 and call.deadline is None and not may_be_held and not is_recovering:
            self._send(pb.Frame(submit=call.submit))
            return
        submit = pb.Submit()
        submit.CopyFrom(call.submit)
        submit.again = may_be_held
        submit.nodes_may_return = is_recovering
        submit.seen_attempt = call.attempt
        submit.seen_seq = call.seq
        submit.seen_item = call.has_item
        submit.seen_end = call.has_ended
        submit.taken_seq = call.taken_seq
        submit.attempt_floor = ATTEMPTS_PER_GATEWAY * (self._meetings - call.first_meeting)
        if call.deadline is not None:
            left_s = call.deadline - self._now
            submit.options.timeout_s = (
                left_s if left_s > 0 else min(left_s, -1e-9)
            )  # 0 would mean that it has no deadline
        self._send(pb.Frame(submit=submit))

    def _send_ring(self, admissions: list[pb.Admission], complete: bool) -> None:
        for start in range(0, max(len(admissions), 1), RING_TOGETHER):
            part = admissions[start : start + RING_TOGETHER]
            self._send(pb.Frame(keyring=pb.Keyring(admissions=part, complete=complete and not start)))

    def _acknowledge(self, call_id: bytes, call: OpenCall, ended: bool = False) -> None:
        call.acked_seq = call.taken_seq
        call.unacked_bytes = call.unacked_items = 0
        self._acks[call_id] = pb.Acknowledged(call_id=call_id, attempt=call.attempt, seq=call.taken_seq, ended=ended)

    def _close(self, call_id: bytes) -> None:
        call = self._open.pop(call_id)
        if call.is_sent:
            self._sent_count -= 1
            if self._room < MAX_OPEN:
                self._make_room()
            self._send_unsent()

    def _make_room(self) -> None:
        """One of those at the gateway has ended, so another one may go."""
        self.flush_acks()  # first, so that the gateway knows
        if self._refused:
            self._unsent.appendleft(self._refused.popleft())
            self._room = self._sent_count + 1
        else:
            self._room += 1

    def _send(self, frame: pb.Frame) -> None:
        self.outbox.append(frame)

    def _take(self) -> list[ClientEffect]:
        effects, self._effects = self._effects, []
        return effects

    def check(self) -> None:
        """Assert every invariant."""
        assert self._sent_count == sum(call.is_sent for call in self._open.values()), "sent calls are counted"
        for call in self._open.values():
            assert call.acked_seq <= call.taken_seq <= call.seq, "acknowledged, taken, delivered: in this order"


_HANDLERS = {
    "welcome": ClientSession._on_welcome,
    "refused": ClientSession._on_refused,
    "event": ClientSession._on_event,
    "verdict": ClientSession._on_verdict,
    "answer": ClientSession._on_answer,
    "fetch": ClientSession._on_fetch,
    "chunk": ClientSession._on_chunk,
    "node_keys": ClientSession._on_node_keys,
    "goodbye": ClientSession._on_goodbye,
    "handed_back": ClientSession._on_handed_back,
    "withdrawn": ClientSession._on_withdrawn,
}
