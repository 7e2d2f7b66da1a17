"""What all sessions of one token may have at the gateway together: calls in flight, bytes of waiting calls, calls per second."""

from __future__ import annotations

from collections.abc import Mapping

from easyremote.core.access import Access
from easyremote.core.records import Session
from easyremote.sizes import format_size
from easyremote.wire.v1 import gateway_pb2 as pb

SOONEST_S = 0.1
UNKNOWN_PACE_S = 1.0
"""When to come back, where a call has to end first: nobody knows when, so soon."""

MAX_DEBT = 4096
"""Calls that were here before (a gateway was restarted) are taken beyond the rate, up to so many, and delay those to come."""


class Bucket:
    """A token bucket: `per_s` calls a second in the long run, and what a second brings at once. Above 0."""

    __slots__ = ("_at", "_level", "most", "per_s")

    def __init__(self, per_s: float, now: float) -> None:
        self.per_s = per_s
        self.most = max(per_s, 1.0)
        self._level = self.most
        self._at = now

    def wait_s(self, now: float) -> float:
        """In how many seconds one more may come; 0: now. A bundle is taken whole, and those behind it wait for longer."""
        return max(1.0 - self._level_at(now), 0.0) / self.per_s

    def take(self, count: int, now: float) -> None:
        self._level = self._level_at(now) - count
        self._at = max(now, self._at)

    def debt(self, now: float) -> float:
        return -self._level_at(now)

    def is_full(self, now: float) -> bool:
        return self._level_at(now) >= self.most

    def _level_at(self, now: float) -> float:
        return min(self._level + max(now - self._at, 0.0) * self.per_s, self.most)


class Allowance:
    """Of one token, while it has sessions, and until its bucket is full again."""

    __slots__ = ("access", "bucket", "sessions")

    def __init__(self, access: Access, now: float) -> None:
        self.access = access
        self.bucket = Bucket(access.calls_per_s, now) if access.calls_per_s > 0 else None
        self.sessions: dict[Session, None] = {}

    @property
    def calls(self) -> int:
        return sum(len(session.calls) for session in self.sessions)

    @property
    def waiting_bytes(self) -> int:
        return sum(session.waiting_bytes for session in self.sessions)

    def refuse(self, submit: pb.Submit, now: float) -> pb.ErrorInfo | None:
        """Why this call can't come now, or None; then it counts: a bundle as one in flight, and as its tasks for the rate."""
        access = self.access
        if access.max_calls and self.calls >= access.max_calls:
            return self._at_bound(f"has {access.max_calls} calls at the gateway", UNKNOWN_PACE_S)
        if access.max_bytes and self.waiting_bytes >= access.max_bytes:
            held = format_size(self.waiting_bytes)
            text = f"has waiting calls that hold {held} at the gateway, and may have {format_size(access.max_bytes)}"
            return self._at_bound(text, UNKNOWN_PACE_S)
        was_here = submit.again or submit.seen_attempt > 0
        return self.refuse_rate(len(submit.tasks) or 1, now, MAX_DEBT if was_here else 0)

    def refuse_rate(self, count: int, now: float, may_owe: int = 0) -> pb.ErrorInfo | None:
        """The same for the rate alone."""
        bucket = self.bucket
        if bucket is None:
            return None
        wait_s = bucket.wait_s(now)
        if wait_s > 0 and (not may_owe or bucket.debt(now) >= may_owe):
            return self._at_bound(f"may make {bucket.per_s:g} calls a second", wait_s)
        bucket.take(count, now)
        return None

    def _at_bound(self, what: str, wait_s: float) -> pb.ErrorInfo:
        wait_s = max(wait_s, SOONEST_S)
        text = f"token '{self.access.name}' ({self.access.token_id}) {what}, its bound; retry after {wait_s:.2g} s"
        details = {"token": self.access.token_id, "token_name": self.access.name}
        return pb.ErrorInfo(code="overloaded", message=text, retry_after_s=wait_s, details=details)


class Allowances:
    """Of all tokens but the gateway's own, which has none. `by_token` has those that have sessions, or had some a moment ago."""

    def __init__(self) -> None:
        self.by_token: dict[str, Allowance] = {}

    def session_came(self, session: Session, now: float) -> None:
        """It is new, or has shown its token again."""
        access = session.access
        if access.is_owner:
            return
        allowance = self.by_token.get(access.token_id)
        if allowance is None:
            allowance = self.by_token[access.token_id] = Allowance(access, now)
        allowance.sessions[session] = None
        session.allowance = allowance

    def session_left(self, session: Session) -> None:
        if session.allowance is not None:
            session.allowance.sessions.pop(session, None)

    def tick(self, now: float) -> None:
        for token_id, allowance in list(self.by_token.items()):
            if not allowance.sessions and (allowance.bucket is None or allowance.bucket.is_full(now)):
                del self.by_token[token_id]

    def expired(self, now: float) -> list[str]:
        """Tokens with sessions whose time is over."""
        return [
            token_id
            for token_id, allowance in self.by_token.items()
            if allowance.sessions and allowance.access.has_expired(now)
        ]

    def check(self, sessions: Mapping[bytes, Session]) -> None:
        """Assert that the sessions of each token are counted for it."""
        for token_id, allowance in self.by_token.items():
            for session in allowance.sessions:
                assert sessions.get(session.session_id) is session, "only who is there counts for a token"
                assert session.allowance is allowance and session.access.token_id == token_id, "and for its own"
        for session in sessions.values():
            assert (session.allowance is None) == session.access.is_owner, "the owner has no allowance, all others have"
            assert session.allowance is None or session in session.allowance.sessions, "who is there is counted"
