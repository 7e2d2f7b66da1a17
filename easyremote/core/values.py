"""Values that stay where they are: which client holds a ref of which, and which nodes have it.

Rules:
- All of this is soft: clients say what refs their user holds, nodes what values they have, each in full when they come (back) and
  in changes in between. A gateway that was restarted knows as much as one that wasn't, as soon as they are back.
- A value is wanted while a client holds a ref of it. When the last one lets go, is closed or given up, the nodes are told.
- A value that no client holds a ref of may have come before its client; it is given time before the node is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from easyremote.core.records import Node, Session
from easyremote.sizes import format_size
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_REFS = 10_000
"""Refs of one client, and values of one node; what is beyond this isn't known here."""

ASSUMED_BYTES_PER_S = 250e6
"""How fast a value comes to a node that has fetched none yet: two gigabits a second."""

_SLOWEST, _FASTEST = 1e3, 1e12
"""A node that reports a speed beyond these is taken for one that reports the nearer of them."""

_SMOOTHING = 0.3


@dataclass(slots=True)
class Place:
    """A value at a node."""

    size_bytes: int
    is_pending: bool = False


@dataclass(slots=True, eq=False)
class Value:
    """What is known of one value."""

    ref_id: bytes
    handles: dict[Session, bool] = field(default_factory=dict)  # clients; True: it can send the value
    places: dict[Session, Place] = field(default_factory=dict)  # nodes that have it
    unclaimed_since: float = 0.0  # where no client holds a ref of it
    whose: str = ""  # id of the token whose clients hold it; empty: none has yet
    last_seen: str = ""  # where it was, and why it isn't there any more

    @property
    def is_unclaimed(self) -> bool:
        return not self.handles and not any(place.is_pending for place in self.places.values())


class Values:
    """`send` puts a frame on the way to a session. `gone` is told of each value that isn't wanted any more."""

    def __init__(
        self, send: Callable[[Session, pb.Frame], None], gone: Callable[[bytes], None], unclaimed_after_s: float
    ) -> None:
        self._send = send
        self._gone = gone
        self._unclaimed_after_s = unclaimed_after_s
        self._values: dict[bytes, Value] = {}
        self._of: dict[Session, dict[bytes, None]] = {}
        self._unclaimed: dict[bytes, None] = {}
        self._bytes_per_s: dict[Session, float] = {}

    def __len__(self) -> int:
        return len(self._values)

    # ---- what peers say ------------------------------------------------------------------------------------------

    def handles(self, client: Session, message: pb.Handles, now: float) -> None:
        """A client tells what refs its user holds."""
        released = list(message.released)
        if message.complete:
            held = {handle.ref_id for handle in message.held}
            released += [ref_id for ref_id in self._of.get(client, ()) if ref_id not in held]
        for handle in message.held:
            if not self.may_use(handle.ref_id, client.access.token_id):
                continue
            value = self._note(client, handle.ref_id, now)
            if value is not None:
                value.whose = client.access.token_id
                value.handles[client] = handle.has_value
                self._claim(value, now)
        for ref_id in released:
            self._let_go(client, ref_id, now)

    def node_came(self, node: Session, held: Iterable[pb.HeldValue], now: float) -> None:
        """A node is (back) here, with all that it has."""
        held = list(held)
        there = {each.ref_id for each in held}
        for ref_id in [ref_id for ref_id in self._of.get(node, ()) if ref_id not in there]:
            self.not_there(node, ref_id, "came back without it", now)
        self._take(node, held, now)

    def changed(self, node: Session, message: pb.HeldValues, now: float) -> None:
        """A node tells what has changed."""
        self._take(node, message.held, now)
        why = f"had no room for it: its values may take {format_size(message.bound_bytes)}"
        for ref_id in message.dropped:
            self.not_there(node, ref_id, why, now)

    def session_left(self, session: Session, now: float) -> None:
        """A client or a node is gone for good."""
        for ref_id in list(self._of.get(session, ())):
            if session.node is not None:
                self.not_there(session, ref_id, "is gone", now)
            else:
                self._let_go(session, ref_id, now)
        self._bytes_per_s.pop(session, None)

    def not_there(self, node: Session, ref_id: bytes, why: str, now: float) -> None:
        """The node hasn't got it any more."""
        value = self._values.get(ref_id)
        if value is None or value.places.pop(node, None) is None:
            return
        self._forget_of(node, ref_id)
        name = node.node.node_id if node.node is not None else ""
        value.last_seen = f"node '{name}' {why}"
        self._claim(value, now)

    def tick(self, now: float) -> None:
        """Values that nobody has claimed in time aren't wanted."""
        for ref_id in list(self._unclaimed):
            value = self._values[ref_id]
            if now - value.unclaimed_since > self._unclaimed_after_s:
                self._unwanted(value)

    def forgive(self, gap_s: float, now: float) -> None:
        """The gateway stood still for so long, and nobody could claim anything."""
        for ref_id in self._unclaimed:
            value = self._values[ref_id]
            value.unclaimed_since = min(value.unclaimed_since + gap_s, now)

    # ---- what is asked -------------------------------------------------------------------------------------------

    def holds(self, client: Session, ref_id: bytes) -> bool:
        """Whether this client's user has a ref of it."""
        value = self._values.get(ref_id)
        return value is not None and client in value.handles

    def may_use(self, ref_id: bytes, token_id: str) -> bool:
        """Whether clients of this token may: nobody's value is anybody's who knows its id."""
        value = self._values.get(ref_id)
        return value is None or value.whose in ("", token_id)

    def source(self, ref_id: bytes, receiver: Session) -> Session | None:
        """Who is to send it to this one: one that is connected rather than one that is away for a moment, one on the same machine
        rather than one elsewhere, its client rather than a node."""
        value = self._values.get(ref_id)
        if value is None:
            return None
        have_it = [client for client, has_value in value.handles.items() if has_value]
        have_it += value.places
        host = receiver.runtime.host
        return min(
            (session for session in have_it if session is not receiver),
            key=lambda session: (session.conn is None, session.runtime.host != host),
            default=None,
        )

    def fails(self, source: Session, ref_id: bytes, now: float) -> None:
        """It was asked for the value and hasn't got it."""
        value = self._values.get(ref_id)
        if value is not None and value.handles.get(source):
            value.handles[source] = False
        self.not_there(source, ref_id, "has dropped it", now)

    def why_lost(self, ref_id: bytes) -> str:
        """Why nobody has it."""
        value = self._values.get(ref_id)
        return (value.last_seen if value is not None else "") or "nobody connected here has it"

    def missing_bytes(self, node: Node, refs: Iterable[pb.Ref]) -> int:
        """How much of these would have to come to the node."""
        missing = 0
        for ref in refs:
            value = self._values.get(ref.ref_id)
            if value is None or node.session not in value.places:
                missing += sum(ref.part_bytes)
        return missing

    def missing_s(self, node: Node, refs: Iterable[pb.Ref]) -> float:
        """How long that is expected to take."""
        missing = self.missing_bytes(node, refs)
        return missing / self._bytes_per_s.get(node.session, ASSUMED_BYTES_PER_S) if missing else 0.0

    # ---- plumbing ------------------------------------------------------------------------------------------------

    def _take(self, node: Session, held: Iterable[pb.HeldValue], now: float) -> None:
        for each in held:
            value = self._note(node, each.ref_id, now)
            if value is None:
                continue
            value.places[node] = Place(each.size_bytes, each.pending)
            if each.fetch_s > 0 and each.size_bytes:
                self._learn(node, each.size_bytes / each.fetch_s)
            self._claim(value, now)

    def _learn(self, node: Session, bytes_per_s: float) -> None:
        known = self._bytes_per_s.get(node, ASSUMED_BYTES_PER_S)
        self._bytes_per_s[node] = known + _SMOOTHING * (min(max(bytes_per_s, _SLOWEST), _FASTEST) - known)

    def _note(self, session: Session, ref_id: bytes, now: float) -> Value | None:
        of_session = self._of.get(session, {})
        if ref_id not in of_session:
            if len(of_session) >= MAX_REFS or len(ref_id) != 16:
                return None
            self._of.setdefault(session, {})[ref_id] = None
        value = self._values.get(ref_id)
        if value is None:
            value = self._values[ref_id] = Value(ref_id, unclaimed_since=now)
        return value

    def _let_go(self, client: Session, ref_id: bytes, now: float) -> None:
        value = self._values.get(ref_id)
        if value is None or value.handles.pop(client, None) is None:
            return
        self._forget_of(client, ref_id)
        if not value.handles:  # not even where its node doesn't know yet that its client knew of it
            self._unwanted(value)

    def _claim(self, value: Value, now: float) -> None:
        """Begin, or end, to wait for a client that wants it."""
        if not value.handles and not value.places:
            self._unclaimed.pop(value.ref_id, None)
            del self._values[value.ref_id]
        elif not value.is_unclaimed:
            self._unclaimed.pop(value.ref_id, None)
        elif value.ref_id not in self._unclaimed:
            self._unclaimed[value.ref_id] = None
            value.unclaimed_since = now

    def _unwanted(self, value: Value) -> None:
        self._unclaimed.pop(value.ref_id, None)
        del self._values[value.ref_id]
        for node in value.places:
            self._forget_of(node, value.ref_id)
            self._send(node, pb.Frame(unwanted=pb.Unwanted(ref_ids=[value.ref_id])))
        self._gone(value.ref_id)

    def _forget_of(self, session: Session, ref_id: bytes) -> None:
        of_session = self._of.get(session)
        if of_session is not None:
            of_session.pop(ref_id, None)
            if not of_session:
                del self._of[session]

    def leftovers(self) -> list[str]:
        """What a gateway that nobody uses should not hold, in words."""
        return [f"{len(self._values)} values are known"] if self._values else []

    def check(self, sessions: Iterable[Session]) -> None:
        """Assert that both sides of what is known agree, and that everything has an end."""
        known = set(sessions)
        counted = 0
        for session, ref_ids in self._of.items():
            assert session in known, "who holds something is known"
            assert 0 < len(ref_ids) <= MAX_REFS, "nobody holds nothing, or too much"
            counted += len(ref_ids)
        for ref_id, value in self._values.items():
            holders = [*value.handles, *value.places]
            assert value.ref_id == ref_id and holders, "a value is known by its id, and somebody has it"
            assert all(ref_id in self._of[session] for session in holders), "and is known to have it"
            assert value.is_unclaimed == (ref_id in self._unclaimed), "what nobody claims is waited for"
            counted -= len(holders)
        assert counted == 0, "nobody is known to hold what isn't known"
        assert self._unclaimed.keys() <= self._values.keys(), "what is waited for is known"
