"""A node's side of the conversation with its gateway, without its socket and without running anything.

Rules:
- An attempt is known from its Submit until the client acknowledged its last event (Ack) or nobody wants it (Forget).
- Every event gets the next number of its attempt and is kept until it is acknowledged; after a reconnect all that is kept is
  sent again, and whoever has it already drops it.
- A producer may run ahead of its consumer by a window of events and bytes; then it is told to wait.
- An attempt begins when the slots that it was granted are free, and its GPUs too: what the gateway has given up may still be
  stopping there.
- An attempt of a call with retries=0 begins only when its client has acknowledged its first event, the one that announces it:
  whoever has lost track of such a call then knows whether it can have run.
- What an attempt asks last is sent again after each reconnect and each Resume, though its event be acknowledged, until the reply
  is here. A second reply, and one to an earlier question, is dropped.
- A node that drains takes no new calls: attempts that haven't begun are handed back, again after each reconnect, until the
  gateway says that it has them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

from easyremote.config import FEATURE_DRAIN, PROTOCOL_VERSION, WindowSettings
from easyremote.core.access import OWNER_ID
from easyremote.core.retrying import brief
from easyremote.sizes import LARGEST
from easyremote.wire.v1 import gateway_pb2 as pb

STARTED_AFTER_S = 0.02
"""A call that runs this long without an event says that it has started; a shorter one says it with its first event."""


KEEPS_UP_S = 0.05
"""A consumer that opens a closed window again within this time keeps up, and gets one twice as wide."""

MAX_ROOM = 8192
"""Items of the widest window."""


class Start(NamedTuple):
    """Run this attempt."""

    attempt: Attempt


class Stop(NamedTuple):
    """Stop it; it is to end with an error of code `code`."""

    attempt: Attempt
    code: str
    message: str


class Kill(NamedTuple):
    """It was to stop; give it no more time."""

    attempt: Attempt


class StopTasks(NamedTuple):
    """These tasks of a bundle, by their numbers, aren't wanted any more."""

    attempt: Attempt
    tasks: list[int]


class Replied(NamedTuple):
    """The reply to what it has asked."""

    attempt: Attempt
    reply: pb.Reply


class Release(NamedTuple):
    """Nobody will ask for its payloads any more."""

    attempt: Attempt


class WindowOpened(NamedTuple):
    """Its producer may go on."""

    attempt: Attempt


class Joined(NamedTuple):
    """The gateway took the node in."""

    welcome: pb.Welcome


class Rejected(NamedTuple):
    """The gateway refused it."""

    refused: pb.Refused


class OffersConfirmed(NamedTuple):
    """Calls to the functions of this revision find the node from now on."""

    revision: int


class Discard(NamedTuple):
    """Nobody holds a ref of these values any more."""

    ref_ids: list[bytes]


class SendBlob(NamedTuple):
    """A receiver asks for bytes of a payload."""

    fetch: pb.Fetch


class ChunkCame(NamedTuple):
    """A chunk without data: a payload lies in a shared file, can't be had, or must be asked for again."""

    chunk: pb.Chunk


class GatewayLeaves(NamedTuple):
    """The gateway said goodbye."""

    reason: str


NodeEffect = (
    Start
    | Stop
    | Kill
    | StopTasks
    | Replied
    | Release
    | WindowOpened
    | Joined
    | Rejected
    | OffersConfirmed
    | Discard
    | SendBlob
    | ChunkCame
    | GatewayLeaves
)


class Kept(NamedTuple):
    """An event that may have to be sent again."""

    seq: int
    bytes: int
    items: int
    frame: pb.Frame


@dataclass(slots=True, eq=False)
class Attempt:
    """One try of one call."""

    call_id: bytes
    number: int
    submit: pb.Submit
    deadline: float | None = None
    run_deadline: float | None = None
    started_at: float | None = None
    started: pb.Started = field(default_factory=pb.Started)
    seq: int = 0
    kept: deque[Kept] = field(default_factory=deque["Kept"])  # not acknowledged
    kept_bytes: int = 0
    kept_items: int = 0
    room: int = 0  # items that it may be ahead
    slots: int = 1  # 0: its function's calls run together
    is_granted: bool = False  # the gateway says what it may use
    closed_at: float = 0.0  # when it was so far ahead that its producer was told to wait
    asking: pb.Frame | None = None  # what it has asked, while there is no reply
    has_ended: bool = False
    stopping: str = ""
    which_timeout: str = ""  # that it is stopped for: "run" or "total"

    @property
    def ends_at(self) -> float | None:
        """When its time is over."""
        return min((at for at in (self.deadline, self.run_deadline) if at is not None), default=None)

    @property
    def key(self) -> tuple[bytes, int]:
        return self.call_id, self.number


class NodeSession:
    """Takes frames and the time, returns effects; frames to send gather in `outbox`."""

    def __init__(self, session_id: bytes, runtime: pb.Runtime, state: pb.NodeState, window: WindowSettings) -> None:
        self.session_id = session_id
        self.outbox: list[pb.Frame] = []
        self.is_connected = False
        self._runtime = runtime
        self._state = state
        self._window = window
        self._revision = 0
        self._told_revision = 0
        self._attempts: dict[tuple[bytes, int], Attempt] = {}
        self._announced: dict[tuple[bytes, int], Attempt] = {}  # they wait for their client's word
        self._waiting: deque[Attempt] = deque()  # and these for a slot
        self._running: dict[tuple[bytes, int], Attempt] = {}
        self._reserved = 0  # slots of those that run, beyond one for each
        self._handed_back: dict[tuple[bytes, int], None] = {}  # the gateway hasn't said yet that it has them
        self._takes_back = False  # the gateway does
        self._batched: set[str] = set()  # functions whose calls run together
        self._values: dict[bytes, pb.HeldValue] = {}
        self._untold = pb.HeldValues()  # what changed since the last Hello
        self._effects: list[NodeEffect] = []
        self._now = 0.0

    # ---- the connection ------------------------------------------------------------------------------------------

    def hello(self) -> pb.Frame:
        """The first frame of a new connection."""
        self._told_revision = self._revision
        state = pb.NodeState()
        state.CopyFrom(self._state)
        state.attempts.extend(_states((*self._attempts, *self._handed_back)))
        for told in state.attempts:
            held = self._attempts.get((told.call_id, told.attempt))
            if held is not None:
                told.owner = held.submit.owner or OWNER_ID
        state.values.extend(self._values.values())
        self._untold.Clear()
        state.holdings.extend(
            pb.Holding(call_id=attempt.call_id, attempt=attempt.number, grant=attempt.submit.grant)
            for attempt in self._attempts.values()
            if attempt.submit.HasField("grant")
        )
        return pb.Frame(
            hello=pb.Hello(
                protocol_min=1,
                protocol_max=PROTOCOL_VERSION,
                features=[FEATURE_DRAIN],
                role=pb.ROLE_NODE,
                session_id=self.session_id,
                runtime=self._runtime,
                node=state,
            )
        )

    def received(self, frames: Iterable[pb.Frame], now: float) -> list[NodeEffect]:
        self._now = now
        for frame in frames:
            body = frame.WhichOneof("body")
            handler = _HANDLERS.get(body)
            if handler is not None:
                handler(self, getattr(frame, body))
        self._start_next()
        return self._take()

    def disconnected(self, now: float) -> None:
        self.is_connected = False
        self.outbox.clear()

    def tick(self, now: float) -> list[NodeEffect]:
        """Time passed. Call it every `STARTED_AFTER_S` or so while something runs."""
        self._now = now
        for attempt in [a for a in (*self._waiting, *self._announced.values()) if self._is_late(a)]:
            self._end_late(attempt)
        for attempt in list(self._running.values()):
            if attempt.seq == 0 and attempt.started_at is not None and now - attempt.started_at >= STARTED_AFTER_S:
                self._emit(attempt, pb.Event())
            if not attempt.stopping:
                self._check_deadline(attempt)
        return self._take()

    @property
    def is_idle(self) -> bool:
        return not self._running and not self._waiting and not self._announced

    @property
    def held_count(self) -> int:
        """Attempts known here, those included whose end isn't acknowledged, or that were handed back a moment ago."""
        return len(self._attempts) + len(self._handed_back)

    @property
    def is_leaving(self) -> bool:
        """Whether its process is about to end."""
        return self._state.drain.leaving

    @property
    def is_draining(self) -> bool:
        """Whether it takes no new calls."""
        return self._state.drain.leaving or bool(self._state.drain.reason)

    # ---- what the node does --------------------------------------------------------------------------------------

    def offer(self, specs: Iterable[pb.FunctionSpec]) -> int:
        """Say anew what the node offers. Returns the revision that OffersConfirmed will name."""
        self._revision += 1
        del self._state.offers[:]
        self._state.offers.extend(specs)
        self._batched = {spec.name for spec in self._state.offers if spec.batch}
        if self.is_connected:
            self._send_offers()
        return self._revision

    def report(self, load: pb.Load) -> None:
        if self.is_connected:
            self._send(pb.Frame(load=load))

    def has(self, value: pb.HeldValue) -> None:
        """It has a value, from now on."""
        self._values[value.ref_id] = value
        self._tell_values(pb.HeldValues(held=[value]))

    def dropped(self, ref_ids: Iterable[bytes], bound_bytes: int) -> None:
        """It hasn't these values any more, since all together they may take so much."""
        gone = [ref_id for ref_id in ref_ids if self._values.pop(ref_id, None) is not None]
        if gone:
            self._tell_values(pb.HeldValues(dropped=gone, bound_bytes=bound_bytes))

    def _tell_values(self, values: pb.HeldValues) -> None:
        if self.is_connected:
            self._send(pb.Frame(held_values=values))
        else:
            self._untold.MergeFrom(values)

    def send_chunk(self, chunk: pb.Chunk) -> None:
        """Answer a Fetch with a chunk that has no data."""
        if self.is_connected:
            self._send(pb.Frame(chunk=chunk))

    def heartbeat(self) -> None:
        if self.is_connected:
            self._send(pb.Frame(heartbeat=pb.Heartbeat()))

    def fetch(self, fetch: pb.Fetch) -> None:
        if self.is_connected:
            self._send(pb.Frame(fetch=fetch))

    def goodbye(self, reason: str) -> None:
        if self.is_connected:
            self._send(pb.Frame(goodbye=pb.Goodbye(reason=reason)))

    def leave(self, now: float) -> None:
        """Take no new calls from now on, and hand back those that haven't begun: this process is about to end."""
        self._now = now
        self._state.drain.leaving = True
        if self.is_connected:
            self._send(pb.Frame(drain=self._state.drain))
        self._hand_back()

    def disown(self, attempt: Attempt) -> None:
        """Whatever comes of it isn't told to anyone: it counts as lost with this node."""
        self._attempts.pop(attempt.key, None)

    def emit(self, attempt: Attempt, event: pb.Event, size: int, now: float) -> list[NodeEffect]:
        """Send the attempt's next event. `size` is what its payload weighs in the window, blobs included.

        An event with a result or an error is the last one; any after it, or after the attempt was forgotten, is dropped.
        """
        self._now = now
        if not attempt.has_ended:
            if attempt.key in self._attempts:
                self._emit(attempt, event, size)
            elif event.WhichOneof("body") in ("result", "error"):
                attempt.has_ended = True
                self._stopped_running(attempt)
                self._effects.append(Release(attempt))  # again: payloads may have been made since it was forgotten
        self._start_next()
        return self._take()

    def window_is_open(self, attempt: Attempt) -> bool:
        """Whether the attempt's producer may emit another event now."""
        return attempt.kept_items < attempt.room and attempt.kept_bytes < self._window.max_bytes

    # ---- what the gateway says -----------------------------------------------------------------------------------

    def _on_welcome(self, welcome: pb.Welcome) -> None:
        self.is_connected = True
        self._takes_back = FEATURE_DRAIN in welcome.features
        for attempt in self._attempts.values():
            for kept in attempt.kept:
                self._send(kept.frame)
            self._ask_again(attempt)
        if self._handed_back:
            self._send(pb.Frame(handed_back=pb.HandedBack(attempts=_states(self._handed_back))))
        if self.is_draining:
            self._hand_back()
        self._effects += [Joined(welcome), OffersConfirmed(self._told_revision)]
        if self._untold.held or self._untold.dropped:
            self._send(pb.Frame(held_values=self._untold))
            self._untold = pb.HeldValues()
        if self._told_revision != self._revision:  # offered between this connection's Hello and its Welcome
            self._send_offers()

    def _on_refused(self, refused: pb.Refused) -> None:
        if self.is_connected:  # its token isn't good any more, so nobody takes what comes of its attempts
            for call_id, number in list(self._attempts):
                self._on_forget(pb.Forget(call_id=call_id, attempt=number))
        self._effects.append(Rejected(refused))

    def _on_offers_taken(self, taken: pb.OffersTaken) -> None:
        self._effects.append(OffersConfirmed(taken.revision))

    def _on_submit(self, submit: pb.Submit) -> None:
        attempt = Attempt(submit.call_id, submit.attempt, submit, room=self._window.max_events)
        if attempt.key in self._attempts or attempt.key in self._handed_back:
            return
        if submit.HasField("grant"):
            attempt.is_granted, attempt.slots = True, submit.grant.slots
        if submit.options.timeout_s > 0:
            attempt.deadline = self._now + submit.options.timeout_s
        if submit.earlier and submit.earlier[-1].code != "lost":
            attempt.started.after = brief(submit.earlier[-1])
        self._attempts[attempt.key] = attempt
        if self.is_draining and self._takes_back:  # it was on its way
            self._waiting.append(attempt)
            self._hand_back()
        elif submit.options.retries_set and submit.options.retries == 0:
            self._announce(attempt)
        else:
            self._admit(attempt)

    def _announce(self, attempt: Attempt) -> None:
        self._announced[attempt.key] = attempt
        submit = attempt.submit
        spec = submit.code.spec
        if submit.function:
            spec = next((spec for spec in self._state.offers if spec.name == submit.function), spec)
        attempt.started.CopyFrom(
            pb.Started(node_id=self._state.node_id, version=spec.version, kind=spec.kind, waits=True)
        )
        self._emit(attempt, pb.Event())

    def _on_cancel(self, cancel: pb.Cancel) -> None:
        attempt = self._attempts.get((cancel.call_id, cancel.attempt))
        if attempt is not None and cancel.tasks:
            attempt.submit.skipped_tasks.extend(cancel.tasks)  # for when it begins
            if attempt.key in self._running:
                self._effects.append(StopTasks(attempt, list(cancel.tasks)))
        elif attempt is not None:
            self._stop(attempt, "cancelled", cancel.reason or "the call was cancelled")
            if cancel.kill and attempt.key in self._running:
                self._effects.append(Kill(attempt))

    def _on_ack(self, ack: pb.Ack) -> None:
        for item in ack.calls:
            attempt = self._attempts.get((item.call_id, item.attempt))
            if attempt is None:
                continue
            self._acknowledged(attempt, item.seq)

    def _acknowledged(self, attempt: Attempt, seq: int) -> None:
        was_open = self.window_is_open(attempt)
        while attempt.kept and attempt.kept[0].seq <= seq:
            taken = attempt.kept.popleft()
            attempt.kept_bytes -= taken.bytes
            attempt.kept_items -= taken.items
        if seq and self._announced.pop(attempt.key, None) is not None:
            self._admit(attempt)
        if attempt.has_ended and not attempt.kept:
            self._release(attempt)
        elif not was_open and self.window_is_open(attempt):
            if self._now - attempt.closed_at < KEEPS_UP_S:
                attempt.room = min(2 * attempt.room, max(MAX_ROOM, self._window.max_events))
            self._effects.append(WindowOpened(attempt))

    def _on_resume(self, resume: pb.Resume) -> None:
        attempt = self._attempts.get((resume.call_id, resume.attempt))
        if attempt is not None:
            self._acknowledged(attempt, resume.taken_seq)
            for kept in attempt.kept:
                if kept.seq > resume.after_seq:
                    self._send(kept.frame)
            self._ask_again(attempt)

    def _ask_again(self, attempt: Attempt) -> None:
        if attempt.asking is not None:
            self._send(attempt.asking)

    def _on_reply(self, reply: pb.Reply) -> None:
        attempt = self._attempts.get((reply.call_id, reply.attempt))
        if attempt is not None and attempt.asking is not None and attempt.asking.event.asked.ask_id == reply.ask_id:
            attempt.asking = None
            self._effects.append(Replied(attempt, reply))

    def _on_drain(self, drain: pb.Drain) -> None:
        self._state.drain.reason = drain.reason
        if self.is_draining:
            self._hand_back()

    def _on_forget(self, forget: pb.Forget) -> None:
        self._handed_back.pop((forget.call_id, forget.attempt), None)
        attempt = self._attempts.get((forget.call_id, forget.attempt))
        if attempt is None:
            return
        if not attempt.has_ended:
            self._stop(attempt, "cancelled", "nobody waits for it any more")
        self._release(attempt)

    def _on_unwanted(self, unwanted: pb.Unwanted) -> None:
        ref_ids = [ref_id for ref_id in unwanted.ref_ids if self._values.pop(ref_id, None) is not None]
        if ref_ids:
            self._effects.append(Discard(ref_ids))

    def _on_fetch(self, fetch: pb.Fetch) -> None:
        self._effects.append(SendBlob(fetch))

    def _on_chunk(self, chunk: pb.Chunk) -> None:
        self._effects.append(ChunkCame(chunk))

    def _on_goodbye(self, goodbye: pb.Goodbye) -> None:
        self._effects.append(GatewayLeaves(goodbye.reason))

    # ---- plumbing ------------------------------------------------------------------------------------------------

    def _hand_back(self) -> None:
        """Whatever hasn't begun, to a gateway that knows what to do with it; another one would wait for its end."""
        if not self._takes_back:
            return
        attempts = [attempt for attempt in (*self._announced.values(), *self._waiting) if not attempt.has_ended]
        keys = [attempt.key for attempt in attempts if attempt.key in self._attempts]
        self._waiting.clear()
        for key in keys:
            self._handed_back[key] = None
            self._release(self._attempts[key])
        if keys and self.is_connected:
            self._send(pb.Frame(handed_back=pb.HandedBack(attempts=_states(keys))))

    def _admit(self, attempt: Attempt) -> None:
        """It may begin as soon as there is a slot, or now where it needs none."""
        if self._batched and attempt.submit.function in self._batched:
            attempt.slots = 0
            self._start(attempt)
        elif attempt.is_granted and not attempt.slots and self._gpus_are_free(attempt.submit.grant):
            self._start(attempt)  # made by a call that waits for it, perhaps in the slot that this one would wait for
        elif attempt.is_granted and not attempt.slots:
            self._waiting.appendleft(attempt)  # for a GPU; those that wait for a slot may wait for the same call
        else:
            self._waiting.append(attempt)

    def _start_next(self) -> None:
        while self._waiting:
            attempt = self._waiting[0]
            if self._used_slots and self._used_slots + attempt.slots > self._state.slots:
                return
            if attempt.has_ended or attempt.key not in self._attempts:
                self._waiting.popleft()
                continue
            if attempt.is_granted and not self._gpus_are_free(attempt.submit.grant):
                return
            self._waiting.popleft()
            self._start(attempt)

    def _start(self, attempt: Attempt) -> None:
        if self._is_late(attempt):
            self._end_late(attempt)
            return
        attempt.started_at = self._now
        if attempt.submit.options.run_timeout_s > 0:
            attempt.run_deadline = self._now + attempt.submit.options.run_timeout_s
        attempt.started.node_id = self._state.node_id
        self._running[attempt.key] = attempt
        self._reserved += attempt.slots - 1
        self._effects.append(Start(attempt))

    @property
    def _used_slots(self) -> int:
        return len(self._running) + self._reserved

    def _gpus_are_free(self, grant: pb.Grant) -> bool:
        """Whether what running attempts have of these GPUs leaves room for this one."""
        if not grant.gpus:
            return True
        others = [other.submit.grant for other in self._running.values() if other.is_granted]
        total = {gpu.index: gpu.memory_bytes for gpu in self._state.capacity.gpus}
        for index in grant.gpus:
            there = [other for other in others if index in other.gpus]
            if there and (grant.is_exclusive or any(other.is_exclusive for other in there)):
                return False
            used = sum(other.gpu_memory_bytes for other in there)
            if there and used + grant.gpu_memory_bytes > (total.get(index) or LARGEST):
                return False
        return True

    def _stopped_running(self, attempt: Attempt) -> None:
        if self._running.pop(attempt.key, None) is not None:
            self._reserved -= attempt.slots - 1

    def _is_late(self, attempt: Attempt) -> bool:
        return attempt.deadline is not None and self._now >= attempt.deadline and not attempt.has_ended

    def _end_late(self, attempt: Attempt) -> None:
        attempt.which_timeout = "total"
        self._end_with(attempt, "deadline", "its timeout ran out before it could start")

    def _check_deadline(self, attempt: Attempt) -> None:
        timeouts = attempt.submit.options
        if attempt.run_deadline is not None and self._now >= attempt.run_deadline:
            attempt.which_timeout = "run"
            self._stop(
                attempt, "deadline", f"'{_title(attempt)}' ran longer than run_timeout={timeouts.run_timeout_s:g} s"
            )
        elif attempt.deadline is not None and self._now >= attempt.deadline:
            attempt.which_timeout = "total"
            self._stop(attempt, "deadline", "its timeout ran out while it ran")

    def _stop(self, attempt: Attempt, code: str, message: str) -> None:
        if attempt.has_ended or attempt.stopping:
            return
        attempt.stopping = code
        if attempt.key in self._running:
            self._effects.append(Stop(attempt, code, message))
        else:
            self._end_with(attempt, code, f"{message} (before it started)")

    def _end_with(self, attempt: Attempt, code: str, message: str) -> None:
        error = pb.ErrorInfo(code=code, message=message, node_id=self._state.node_id)
        if attempt.which_timeout:
            error.details["which"] = attempt.which_timeout
        self._emit(attempt, pb.Event(error=error))

    def _emit(self, attempt: Attempt, event: pb.Event, size: int = 0) -> None:
        body = event.WhichOneof("body")
        attempt.seq += 1
        event.call_id = attempt.call_id
        event.attempt = attempt.number
        event.seq = attempt.seq
        if attempt.seq == 1:
            event.started.CopyFrom(attempt.started)
        if body in ("result", "error"):
            attempt.has_ended = True
            if body == "error" and attempt.submit.earlier:
                event.error.earlier.extend(attempt.submit.earlier)
            self._announced.pop(attempt.key, None)
            if attempt.started_at is not None and (attempt.slots or not event.run_s):  # a batch's run has been measured
                event.run_s = self._now - attempt.started_at
            self._stopped_running(attempt)
        frame = pb.Frame(event=event)
        if body == "asked":
            attempt.asking = frame
        elif attempt.has_ended:
            attempt.asking = None
        items = len(event.items.data) if body == "items" else 1
        was_open = self.window_is_open(attempt)
        attempt.kept.append(Kept(attempt.seq, size, items, frame))
        attempt.kept_bytes += size
        attempt.kept_items += items
        if was_open and not self.window_is_open(attempt):
            attempt.closed_at = self._now
        if self.is_connected:
            self._send(frame)

    def _release(self, attempt: Attempt) -> None:
        self._attempts.pop(attempt.key, None)
        self._announced.pop(attempt.key, None)
        self._effects.append(Release(attempt))

    def _send_offers(self) -> None:
        offers = pb.Offers(revision=self._revision, offers=self._state.offers, slots=self._state.slots)
        self._send(pb.Frame(offers=offers))

    def _send(self, frame: pb.Frame) -> None:
        self.outbox.append(frame)

    def _take(self) -> list[NodeEffect]:
        effects, self._effects = self._effects, []
        return effects

    def check(self) -> None:
        """Assert every invariant."""
        assert self._reserved == sum(a.slots - 1 for a in self._running.values()), "slots are counted"
        is_alone = sum(a.slots > 0 for a in self._running.values()) == 1  # one that was granted more than there is runs
        assert self._used_slots <= self._state.slots or is_alone, "no more run than there are slots"
        for attempt in self._attempts.values():
            numbers = [kept.seq for kept in attempt.kept]
            assert numbers == sorted(numbers), "kept events are in order"
            assert attempt.kept_bytes == sum(kept.bytes for kept in attempt.kept), "bytes are counted"
            assert attempt.kept_items == sum(kept.items for kept in attempt.kept), "items are counted"
            assert not (attempt.has_ended and attempt.key in self._running), "what has ended doesn't run"
            assert attempt.asking is None or not attempt.has_ended, "what has ended asks nothing"
        assert not self._handed_back.keys() & self._attempts.keys(), "what was handed back isn't here any more"
        for key, attempt in self._announced.items():
            assert key in self._attempts and key not in self._running, "an announced attempt is known and doesn't run"
            assert not attempt.has_ended, "what has ended isn't announced"


def _title(attempt: Attempt) -> str:
    """What people call its call."""
    submit = attempt.submit
    return (submit.options.label or submit.function or submit.code.spec.name or "code")[:200]


def _states(keys: Iterable[tuple[bytes, int]]) -> list[pb.AttemptState]:
    return [pb.AttemptState(call_id=call_id, attempt=number) for call_id, number in keys]


_HANDLERS = {
    "welcome": NodeSession._on_welcome,
    "refused": NodeSession._on_refused,
    "offers_taken": NodeSession._on_offers_taken,
    "submit": NodeSession._on_submit,
    "cancel": NodeSession._on_cancel,
    "ack": NodeSession._on_ack,
    "resume": NodeSession._on_resume,
    "reply": NodeSession._on_reply,
    "forget": NodeSession._on_forget,
    "drain": NodeSession._on_drain,
    "unwanted": NodeSession._on_unwanted,
    "fetch": NodeSession._on_fetch,
    "chunk": NodeSession._on_chunk,
    "goodbye": NodeSession._on_goodbye,
}
