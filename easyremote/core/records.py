"""What the broker remembers of its peers and their calls."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from typing import NamedTuple

from easyremote.core.transitions import CallEvent, CallState, next_state
from easyremote.wire.v1 import gateway_pb2 as pb

SMOOTHING = 0.2
"""Weight of the newest measurement in a smoothed duration."""

PREFETCH_HIDES_S = 0.004
"""A node gets so many calls beyond its slots that it is busy for this long while the next ones travel."""

MAX_PREFETCH = 64

MAX_NAME = 200
"""Characters of a function's or a node's name."""

MAX_SLOTS = 4096

MAX_RETRIES = 1000
"""More are taken for so many."""

MAX_ATTEMPT = 100_000_000
"""An attempt's number beyond this is no attempt of ours."""

SHORTEST_S, LONGEST_S = 1e-6, 1e6
"""A node that reports a duration beyond these is taken for one that reports the nearer of them."""


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


Action = Send | SendChunk | Close


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
    away_since: float | None = None
    node: Node | None = None
    calls: dict[bytes, Call] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Node:
    """A session that offers functions. It satisfies `strategies.Offer`."""

    node_id: str
    session: Session
    slots: int
    price: float
    labels: dict[str, str]
    offers: dict[str, pb.FunctionSpec] = field(default_factory=dict)
    offered_since: dict[str, int] = field(default_factory=dict)  # a counter that grows with each registration
    calls: dict[bytes, Call] = field(default_factory=dict)  # every call it holds, ended ones that wait for an ack too
    running_count: int = 0
    finished: int = 0
    failed: int = 0
    last_used: int = 0
    service_s: float = 0.0
    durations_s: dict[str, float] = field(default_factory=dict)
    load: pb.Load | None = None

    @property
    def is_here(self) -> bool:
        return self.session.conn is not None

    @property
    def credit(self) -> int:
        """Calls that may still be sent there. Slots, and just enough more to hide the round trip when calls are short."""
        prefetch = min(MAX_PREFETCH, int(PREFETCH_HIDES_S / self.service_s)) if self.service_s else 0
        return self.slots + prefetch - self.running_count

    def expected_s(self, function: str) -> float:
        return self.durations_s.get(function, 0.0)

    def learn(self, function: str, run_s: float, tasks: int = 1) -> None:
        """Take a measured duration, of so many runs of the function, into the smoothed ones."""
        run_s = min(max(run_s, SHORTEST_S), LONGEST_S)
        self.service_s += SMOOTHING * (run_s - self.service_s) if self.service_s else run_s
        run_s = max(run_s / tasks, SHORTEST_S)
        known = self.durations_s.get(function)
        self.durations_s[function] = run_s if known is None else known + SMOOTHING * (run_s - known)


class QueueKey(NamedTuple):
    """Calls with the same key can run on the same nodes, so they wait in one queue."""

    function: str
    node_id: str
    python: str  # minor version that shipped code needs; empty: any
    is_code: bool
    cost_limit: float  # 0: none


@dataclass(slots=True, eq=False)
class Call:
    """One call. `submit` stays until it is acknowledged, so that it can go to another node."""

    call_id: bytes
    key: QueueKey
    submit: pb.Submit
    client: Session | None
    state: CallState
    created_at: float
    order: int
    node: Node | None = None
    attempt: int = 0  # number of the current one, or of the last; grows, and may leave numbers out
    runs: int = 0  # attempts that a node got, or may have got
    was_allowed: bool = (
        False  # its client has acknowledged something, so that a run which needs its word may have begun
    )
    is_claimed: bool = False  # its attempt was begun by an earlier gateway
    passed_seq: int = 0  # the attempt's last event that the client has, or that was sent to it without a gap
    end_seq: int = 0  # the attempt's last event, once it ended
    sent_item: bool = False  # its client has a stream item, or one is on its way there: it must not be run again
    seen_on: int | None = None  # the connection on which its client spoke of it last
    is_abandoned: bool = False  # its client doesn't want it any more
    verdict: pb.Frame | None = None
    deadline: float | None = None
    queue_deadline: float | None = None
    hold_until: float | None = None  # how long it waits for whom the restart of a gateway keeps away

    def to(self, event: CallEvent) -> None:
        self.state = next_state(self.state, event)

    @property
    def end_has_passed(self) -> bool:
        """Whether the client has the attempt's last event, unless its connection breaks; then it comes back and says so."""
        return self.state is CallState.ENDED and self.passed_seq >= self.end_seq

    @property
    def occupies_slot(self) -> bool:
        return self.state in (CallState.ASSIGNED, CallState.RUNNING)

    @property
    def title(self) -> str:
        """What people call it."""
        name = self.submit.options.label or self.submit.function or self.submit.code.spec.name or "code"
        return name[:MAX_NAME]

    @property
    def retries(self) -> int | None:
        """Attempts that it may have beyond the first; None: as many as the gateway's default."""
        options = self.submit.options
        return min(options.retries, MAX_RETRIES) if options.retries_set else None


@dataclass(slots=True, eq=False)
class Transfer:
    """A large payload on its way. Its owner is derived from the call, so it follows reconnects."""

    transfer_id: bytes
    call_id: bytes
    requester: Session
    fetch: pb.Fetch
    offset: int = 0


@dataclass(slots=True)
class Queues:
    """Waiting calls, one FIFO a key."""

    by_key: dict[QueueKey, deque[Call]] = field(default_factory=dict)

    def push(self, call: Call) -> None:
        self.by_key.setdefault(call.key, deque()).append(call)

    def push_front(self, call: Call) -> None:
        self.by_key.setdefault(call.key, deque()).appendleft(call)

    def pop(self, key: QueueKey) -> Call:
        queue = self.by_key[key]
        call = queue.popleft()
        if not queue:
            del self.by_key[key]
        return call

    def remove(self, call: Call) -> None:
        queue = self.by_key.get(call.key)
        if queue is not None and call in queue:
            queue.remove(call)
            if not queue:
                del self.by_key[call.key]

    def __len__(self) -> int:
        return sum(map(len, self.by_key.values()))
