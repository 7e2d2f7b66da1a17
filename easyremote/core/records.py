"""What the broker remembers of its peers and their calls."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from easyremote.core.access import OWNER, OWNER_ID, Access, matches
from easyremote.core.audit import Audited
from easyremote.core.durations import SMOOTHING, Duration
from easyremote.core.fairness import MAX_PRIORITY, TOKEN_SHARE, Share
from easyremote.core.resources import Ask, Room
from easyremote.core.transitions import TABLE, CallEvent, CallState, next_state
from easyremote.wire.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from easyremote.core.allowances import Allowance
    from easyremote.core.nesting import Family

PREFETCH_HIDES_S = 0.004
"""A node gets so many calls beyond its slots that it is busy for this long while the next ones travel."""

MAX_PREFETCH = 64

TOGETHER_S = 0.000_25
"""Calls that come together go to one node, in its free slots, until it has so much work: a message alone costs about as much."""

MAX_HELD_ACKS = 16
"""Acknowledgements that wait for the next frame to their node; at this many they go by themselves."""

MAX_NAME = 200
"""Characters of a function's or a node's name."""

MAX_SLOTS = 4096

PACE_SMOOTHING = 0.2
"""Weight of the last tick in how fast a client's calls end."""

MAX_RETRIES = 1000
"""More are taken for so many."""

MAX_ATTEMPT = 100_000_000
"""An attempt's number beyond this is no attempt of ours."""

SHORTEST_S, LONGEST_S = 1e-6, 1e6
"""A node that reports a duration beyond these is taken for one that reports the nearer of them."""

UNKNOWN_S = 1.0
"""What a call counts as long as nothing has run on its node."""

FAILURE_WEIGHT = 0.25
"""Weight of the newest call in the part that failed: two failures in a row make 0.44."""

NEGLIGIBLE = 0.01
"""A part that failed and has faded so far is forgotten."""

FAILURE_HALVES_S = 30.0
LATENCY_HALVES_S = 10.0
"""What is held against a node fades by half in so long; a latency only while the node is idle."""

FORGIVEN_AFTER_S = 60.0
"""After a pause of so long hardly anything of a latency is left, and the rest stays."""


class Send(NamedTuple):
    """Put this frame on that connection."""

    conn: int
    frame: pb.Frame


class SendChunk(NamedTuple):
    """Put this chunk on the transfer stream of that session."""

    session_id: bytes
    chunk: pb.Chunk


class Close(NamedTuple):
    """End that connection."""

    conn: int


class AskKeeper(NamedTuple):
    """Have this question about jobs answered for that session, with what its token allows."""

    session_id: bytes
    query: pb.Query
    access: Access


class AskTokens(NamedTuple):
    """Have this administrator's question about tokens answered for that session. `by`: the name of the token that asks."""

    session_id: bytes
    query: pb.Query
    by: str


class EndStream(NamedTuple):
    """End that session's transfer stream."""

    session_id: bytes


Action = Send | SendChunk | Close | AskKeeper | AskTokens | EndStream | Audited


@dataclass(slots=True, eq=False)
class Session:
    """A peer. It outlives its connections; `conn` is None while it is away."""

    session_id: bytes
    role: int
    runtime: pb.Runtime
    conn: int | None
    connected_at: float
    heard_at: float
    sent_at: float
    incarnation: int = 0
    access: Access = OWNER  # of the token that its newest connection has shown
    allowance: Allowance | None = None  # that it shares with all sessions of that token; the gateway's own has none
    knows_drain: bool = False  # it understands HandedBack and Withdrawn
    knows_seal: bool = False  # a client's: it can seal its calls, once it knows the keys of nodes
    knows_keys: bool = False  # it was told them on this connection, and hears what changes
    away_since: float | None = None
    vouched_at: float = 0.0  # when its process was seen alive last, though it said nothing
    is_quiet: bool = False  # it says nothing, and its process lives
    node: Node | None = None
    calls: dict[bytes, Call] = field(default_factory=dict)
    held_acks: list[pb.Acknowledged] = field(default_factory=list)  # a node's: they go with the next frame
    waiting_bytes: int = 0  # a client's: what its waiting calls hold here
    left: int = 0  # calls of it that were forgotten since `paced` was called
    ends_per_s: float = 0.0  # smoothed

    def paced(self, passed_s: float) -> None:
        """Time passed."""
        if passed_s > 0 and (self.left or self.ends_per_s):
            self.ends_per_s += PACE_SMOOTHING * (self.left / passed_s - self.ends_per_s)
            self.left = 0


@dataclass(slots=True, eq=False)
class Node:
    """A session that offers functions. It satisfies `strategies.Offer`."""

    node_id: str
    session: Session
    slots: int
    price: float
    labels: dict[str, str]
    host: str = field(init=False)
    offers: dict[str, pb.FunctionSpec] = field(default_factory=dict)
    offered_since: dict[str, int] = field(default_factory=dict)  # a counter that grows with each registration
    rules: dict[str, pb.FunctionSpec] = field(default_factory=dict)  # offers whose owner says when calls are run again
    calls: dict[bytes, Call] = field(default_factory=dict)  # every call it holds, ended ones that wait for an ack too
    running_count: int = 0
    lent: int = 0  # running calls that wait for calls of their own
    beside: int = 0  # running calls that use a slot of one of those
    finished: int = 0
    failed: int = 0
    last_used: int = 0
    service_s: float = 0.0
    prefetch: int = 0
    durations: dict[str, Duration] = field(default_factory=dict)
    share: Share = field(default_factory=Share)
    trying: set[str] = field(default_factory=set)  # functions whose first call here is under way
    idle_s: float = 0.0  # in all, long pauses in part only
    pause_s: float = 0.0  # since its last call ended
    failures: dict[str, float] = field(default_factory=dict)  # smoothed part of calls that failed, by function
    lost: float = 0.0  # the same for calls that were lost with it, of any function
    pressure: float = 0.0  # what `strategies.Offer` says, as what follows
    is_out_of_sight: bool = False
    load: pb.Load | None = None
    room: Room = field(init=False)
    capacity: pb.Capacity | None = None  # as it told
    has_terms: bool = (
        False  # a function that it offers needs more than a slot, or may not be at work as often as it likes
    )
    has_batches: bool = False  # a function that it offers needs no slot
    keeper: QueueKey | None = None  # its first call was passed over for long; what it lacks here is kept for it
    limit: int = field(init=False)  # calls that it may have now, of those that need no more than a slot
    drain_reason: str = ""  # why somebody asked the gateway to give it no new calls
    is_leaving: bool = False  # its process ends when its calls have ended
    is_draining: bool = False  # one of the two
    is_shut: bool = False  # it gets no calls for now: it drains, or is quiet
    identity: bytes = b""  # its public keys
    sealed_only: bool = False  # it takes only calls that are sealed
    builds: bool = False  # it builds environments
    why_it_builds_none: str = ""

    def __post_init__(self) -> None:
        self.host = self.session.runtime.host or self.node_id  # who does not tell counts as a machine of its own
        self.room = Room(self.labels)
        self.set_limit()

    @property
    def is_here(self) -> bool:
        return self.session.conn is not None

    @property
    def sign_key(self) -> bytes:
        """The key that it is known by; empty: it has none."""
        return self.identity[:32]

    @property
    def takes_calls(self) -> bool:
        """Whether it is here and takes new calls, be it only when a slot is free."""
        return self.session.conn is not None and not self.is_shut

    def drains(self, reason: str, is_leaving: bool) -> None:
        """It takes no new calls from now on, or takes them again where neither is said."""
        self.drain_reason, self.is_leaving = reason, is_leaving
        self.is_draining = bool(reason) or is_leaving
        self.is_shut = self.is_draining or self.session.is_quiet

    @property
    def credit(self) -> int:
        """Calls that may still be sent there. Slots, and just enough more to hide the round trip when calls are short."""
        return self.limit - self.running_count

    @property
    def has_credit(self) -> bool:
        """Whether a call that needs no more than a slot may be sent there now."""
        return self.session.conn is not None and self.limit > self.running_count and not self.is_shut

    @property
    def free_slots(self) -> int:
        """Slots for calls that say what they need, or for whom one is kept; none of them is sent beyond the slots."""
        return max(self.slots - self.running_count - self.room.reserved, 0)

    def set_limit(self) -> None:
        """To be called when `slots`, `prefetch` or the room has changed."""
        room = self.room
        ahead = 0 if self.keeper is not None else self.prefetch
        self.limit = self.slots - room.reserved - room.kept.slots + ahead

    @property
    def takes_more_at_once(self) -> bool:
        """Whether a call may go along with one that was sent there just now: a slot is free, and there is hardly any work."""
        count = self.running_count
        return count < self.slots and self.has_credit and 0 < count * self.service_s < TOGETHER_S

    def holds_acks(self, items: list[pb.Acknowledged]) -> bool:
        """Whether these may wait: its calls are short, so another is likely to come soon, and keep little."""
        is_room = len(self.session.held_acks) + len(items) <= MAX_HELD_ACKS
        return is_room and self.prefetch > 0 and all(item.ended for item in items)

    # ---- what a strategy asks ------------------------------------------------------------------------------------

    def expected_s(self, function: str) -> float:
        known = self.durations.get(function)
        return known.mean_s if known is not None else 0.0

    def charge(self, call: Call) -> None:
        """The call's client gets what this call is expected to take; where its function isn't known, what others took."""
        known = self.durations.get(call.key.function)
        each_s = known.mean_s if known is not None else self.service_s or UNKNOWN_S
        call.charged_s = each_s * (len(call.submit.tasks) or 1)
        self.share.charge(call.owner, call.charged_s)

    def something_waits(self) -> None:
        """From now on it counts what each client gets: those whose calls it runs have begun already."""
        if self.share.is_at_rest:
            for call in self.calls.values():
                if call.occupies_slot and call.client is not None:
                    self.charge(call)

    def typical_s(self, function: str) -> float:
        known = self.durations.get(function)
        return known.typical_s if known is not None else 0.0

    def typical_range_s(self, function: str) -> tuple[float, float]:
        known = self.durations.get(function)
        return known.range_s if known is not None else (0.0, math.inf)

    def failing(self, function: str) -> float:
        if not self.failures:
            return self.lost
        return max(self.failures.get(function, 0.0), self.lost)

    def is_trying(self, function: str) -> bool:
        return function in self.trying

    def latency_s(self, function: str) -> float:
        known = self.durations.get(function)
        if known is None:
            return 0.0
        idle_s = int(self.idle_s) - known.measured_at
        return known.latency_s * 0.5 ** (idle_s / LATENCY_HALVES_S) if idle_s else known.latency_s

    @property
    def wait_s(self) -> float:
        more = self.running_count + self.room.reserved - self.slots + 1
        return more * self.service_s / self.slots if more > 0 else 0.0

    def free_in_s(self, now: float) -> float | None:
        """In how many seconds a slot is expected to be free; None: nobody knows, or it has none."""
        if self.has_credit:
            return 0.0
        running = [call for call in self.calls.values() if call.occupies_slot]
        left = sorted(self._left_s(call, now) for call in running if call.key.function in self.durations)
        return left[-self.credit] if -self.credit < len(left) == len(running) else None

    def could_end(self, function: str, within_s: float, now: float) -> int:
        """Those that run may take long: the more durations differ, the more is what a run took so far a sign of what is left."""
        each_s = self.typical_s(function)
        if not each_s:
            return 0
        free, count = self.slots, 0
        for call in self.calls.values():
            if call.occupies_slot:
                free -= 1
                count += max(int((within_s - self._left_s(call, now)) / each_s), 0)
        return max(count + free * int(within_s / each_s), 0)

    def _left_s(self, call: Call, now: float) -> float:
        known = self.durations.get(call.key.function)
        passed_s = now - call.sent_at
        if known is None:
            return passed_s
        takes_s = known.typical_s * (len(call.submit.tasks) or 1)
        return max(takes_s - passed_s, passed_s - takes_s, passed_s * min(known.spread, 1.0))

    # ---- what is learned -----------------------------------------------------------------------------------------

    def ended(self, call: Call, failed: bool, is_to_blame: bool, now: float) -> None:
        """A call that was sent there has ended. `is_to_blame`: it failed by itself."""
        function = call.key.function
        if self.trying:
            self.trying.discard(function)
        self.finished += 1
        self.failed += failed
        self.pause_s = 0.0
        if is_to_blame or self.failures or self.lost:
            self._note_failure(function, is_to_blame)
        known = self.durations.get(function)
        if known is not None:
            took_s, idle_s, before_s = now - call.sent_at, int(self.idle_s), known.latency_s
            if idle_s != known.measured_at:
                before_s = self.latency_s(function)
                known.measured_at = idle_s
            known.latency_s = took_s if took_s > before_s else before_s + SMOOTHING * (took_s - before_s)

    def _note_failure(self, function: str, failed: bool) -> None:
        before = self.failures.get(function, 0.0)
        if failed or before:
            self.failures[function] = before + FAILURE_WEIGHT * (failed - before)
        if not failed:
            self.lost *= 1 - FAILURE_WEIGHT

    def lost_calls(self) -> None:
        """It is gone, and calls with it."""
        self.lost += FAILURE_WEIGHT * (1 - self.lost)

    def fade(self, passed_s: float) -> bool:
        """Time passed. Tells whether what strategies see has changed."""
        if not (self.durations or self.failures or self.lost):
            return False
        changes = bool(self.failures) or self.lost > 0
        if changes:
            kept = 0.5 ** (passed_s / FAILURE_HALVES_S)
            self.failures = {name: part * kept for name, part in self.failures.items() if part > NEGLIGIBLE}
            self.lost = self.lost * kept if self.lost > NEGLIGIBLE else 0.0
        if self.durations and not self.running_count and self.pause_s < FORGIVEN_AFTER_S:
            before_s = int(self.idle_s)
            self.idle_s += passed_s
            self.pause_s += passed_s
            changes = changes or int(self.idle_s) != before_s
        return changes

    def learn(self, function: str, run_s: float, tasks: int = 1, failed: bool = False, needs_slot: bool = True) -> None:
        """Take a measured duration, of so many runs of the function, into the smoothed ones.

        How long a failed run took tells little of the function, and counts only while nothing else is known. A run that needed no
        slot tells nothing of those that do.
        """
        if not SHORTEST_S <= run_s <= LONGEST_S:
            run_s = SHORTEST_S if run_s < SHORTEST_S else LONGEST_S
        if needs_slot:
            self._learn_service(run_s)
        if tasks > 1:
            run_s = max(run_s / tasks, SHORTEST_S)
        known = self.durations.get(function)
        if known is None:
            self.durations[function] = Duration(run_s, failed)
            self.trying.discard(function)
        elif not failed:
            known.learn(run_s)

    def _learn_service(self, run_s: float) -> None:
        service_s = self.service_s
        service_s = self.service_s = service_s + SMOOTHING * (run_s - service_s) if service_s else run_s
        self.prefetch = (
            int(PREFETCH_HIDES_S / service_s) if service_s * MAX_PREFETCH > PREFETCH_HIDES_S else MAX_PREFETCH
        )
        self.set_limit()


class QueueKey(NamedTuple):
    """Calls with the same key can run on the same nodes, so they wait in one queue."""

    function: str
    node_id: str
    python: str  # minor version that shipped code needs; empty: any
    is_code: bool
    cost_limit: float  # 0: none
    needs: Ask | None = None  # what the call itself says of its needs
    epoch: bytes = b""  # under whose key it is sealed; empty: it isn't
    allowed_nodes: tuple[str, ...] = ()  # patterns of the nodes that its token allows; none: all
    builds: bool = False  # it runs in an environment that its node has to build

    def allows(self, node_id: str) -> bool:
        """Whether its token lets the call go to the node of this name."""
        return not self.allowed_nodes or matches(node_id, self.allowed_nodes)


@dataclass(slots=True, eq=False)
class Call:
    """One call. Its Submit stays until it is acknowledged, so that it can go to another node."""

    call_id: bytes
    key: QueueKey
    frame: pb.Frame
    submit: pb.Submit  # the frame's; to be changed only through `changed_submit`
    client: Session | None
    state: CallState
    created_at: float
    order: int
    owner: bytes = b""  # whose share of the nodes it counts for
    whose: str = ""  # id of the token that made it; empty: not known, as an earlier gateway took it
    size: int = 0  # bytes that it holds while it waits
    node: Node | None = None
    grant: pb.Grant | None = None  # what it holds there, where that is more than a slot
    sent_at: float = 0.0  # when it was given to its node
    family: Family | None = None  # of a call that was made by a call, or has made some
    abandoned_by: Session | None = None  # who called, and doesn't want it any more
    charged_s: float = 0.0  # what its client's share of that node was charged for it
    declined_at: float | None = None  # when its strategy first let it wait rather than use a node that had credit
    attempt: int = 0  # number of the current one, or of the last; grows, and may leave numbers out
    runs: int = 0  # attempts that a node got, or may have got
    was_allowed: bool = (
        False  # its client has acknowledged something, so that a run which needs its word may have begun
    )
    is_claimed: bool = False  # its attempt was begun by an earlier gateway
    withdrawn: int = 0  # the attempt that announced itself to the client and was handed back before it began
    passed_seq: int = 0  # the attempt's last event that the client has, or that was sent to it without a gap
    end_seq: int = 0  # the attempt's last event, once it ended
    is_handed_over: bool = False  # its frame waits to be written, or waited
    failed_tasks: int = 0  # of a bundle, in its current attempt
    sent_item: bool = False  # its client has a stream item, or one is on its way there: it must not be run again
    seen_on: int | None = None  # the connection on which its client spoke of it last
    is_abandoned: bool = False  # its client doesn't want it any more
    verdict: pb.Frame | None = None
    deadline: float | None = None
    queue_deadline: float | None = None
    hold_until: float | None = None  # how long it waits for whom the restart of a gateway keeps away
    retry_at: float | None = None  # how long it waits after an error
    refs: Sequence[pb.Ref] = ()  # what its arguments name, and have not in them
    brings_ring: bool = False  # it came with admissions of its own
    progress: pb.Progress | None = None  # what it told last
    progress_of: int = 0  # by which attempt

    def to(self, event: CallEvent) -> None:
        after = TABLE.get((self.state, event))
        self.state = after if after is not None else next_state(self.state, event)

    def changed_submit(self) -> pb.Submit:
        """Its Submit, to be changed now: one that was handed to a writer stays as it was."""
        if self.is_handed_over:
            self.is_handed_over = False
            self.frame = pb.Frame(submit=self.submit)
            self.submit = self.frame.submit
        return self.submit

    @property
    def due(self) -> float:
        """When it has to be looked at, if nothing happens to it before; infinity: never."""
        due = math.inf if self.hold_until is None else self.hold_until
        if self.state is CallState.BACKING_OFF:
            assert self.retry_at is not None
            return self.retry_at
        if self.state is CallState.QUEUED or self.state is CallState.HELD:
            if self.deadline is not None:
                due = min(due, self.deadline)
            if self.queue_deadline is not None and self.state is CallState.QUEUED:
                due = min(due, self.queue_deadline)
        return due

    @property
    def end_has_passed(self) -> bool:
        """Whether the client has the attempt's last event, unless its connection breaks; then it comes back and says so."""
        return self.state is CallState.ENDED and self.passed_seq >= self.end_seq

    @property
    def occupies_slot(self) -> bool:
        return self.state in (CallState.ASSIGNED, CallState.RUNNING)

    @property
    def priority(self) -> int:
        priority = self.submit.options.priority
        return priority if -MAX_PRIORITY <= priority <= MAX_PRIORITY else int(math.copysign(MAX_PRIORITY, priority))

    def belongs_to(self, client: Session, submit: pb.Submit) -> None:
        """It is this client's, which has sent this Submit."""
        self.client = client
        self.whose = submit.owner or OWNER_ID
        self.owner = TOKEN_SHARE + submit.owner.encode() if submit.owner else client.session_id

    @property
    def title(self) -> str:
        """What people call it."""
        name = self.submit.options.label or self.submit.function or self.submit.code.spec.name or "code"
        return name[:MAX_NAME]


@dataclass(slots=True, eq=False)
class Transfer:
    """A large payload on its way. Its owner is derived from the call, so it follows reconnects.

    That of a ref's value has no call, and is asked of `source`, who may have to be found first.
    """

    transfer_id: bytes
    call_id: bytes
    requester: Session
    fetch: pb.Fetch
    offset: int = 0
    ref_id: bytes = b""
    source: Session | None = None  # of a ref's value
