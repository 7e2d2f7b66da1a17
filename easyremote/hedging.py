"""Hedged calls: a second copy on another node for one that takes too long, and the first value wins.

Rules:
- Only functions that are declared idempotent are hedged, and only those with one value: a copy of a stream would repeat items.
- The second copy is sent when the call has taken as long as `hedge` says: seconds, or what 95 % of the last calls took that this
  client made so. It goes to another node which has a slot free at that moment, or nowhere: that is the gateway's to see.
- A call has one second copy at most, and so have at most a tenth of a function's calls: a cluster that is slow because it is
  overloaded gets hardly more to do.
- The first copy that ends with a value ends the call, and the other one is cancelled. Where both fail, the first one's error
  counts.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from time import monotonic
from typing import Any, Protocol

from easyremote.calls import Call
from easyremote.core.transitions import UNREPEATABLE
from easyremote.errors import UsageError
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb

MIN_SAMPLES = 20
"""Calls of a function that must have ended before it is known what its 95 % are."""

MAX_AFTER_S = 1e9
"""The longest time after which a second copy is sent: timers of loops take no more than so much."""

_KEPT_SAMPLES = 200
_QUANTILE = 0.95

PART = 0.1
"""Calls of a function that get a second copy, at most, and one more."""

_SAVED = 10.0
"""Second copies that may be sent in a row, after calls that needed none."""

_AGAIN_S = 1.0
"""A copy that found no free node is tried again after so long, or the same time again if that is longer."""

MAX_FUNCTIONS = 1000
"""Functions of which it is known how long their calls take; the one known longest is forgotten."""

_KEPT_EVENTS = 100

_STREAMS = (pb.FUNCTION_KIND_GENERATOR, pb.FUNCTION_KIND_ASYNC_GENERATOR)


def check_hedge(hedge: Any) -> None:
    """Raises UsageError for what `hedge` can't be."""
    if hedge is None or isinstance(hedge, bool) or hedge == "p95":
        return
    if not isinstance(hedge, (int, float)) or not 0 < hedge <= MAX_AFTER_S:
        raise UsageError(
            f'hedge is True, "p95", or a number of seconds above 0, {MAX_AFTER_S:g} at most, not {hedge!r}'
        )


def check_function(spec: pb.FunctionSpec, is_idempotent: bool) -> None:
    """Raises UsageError for a function that can't be hedged."""
    if spec.kind in _STREAMS:
        raise UsageError(f"'{spec.name}' yields items, and a stream isn't hedged; call it without hedge")
    if not (spec.idempotent or is_idempotent):
        raise UsageError(
            f"hedging may run '{spec.name}' twice, and it isn't declared idempotent: register it with idempotent=True, or call "
            "it with_options(idempotent=True, ...)"
        )


class Durations:
    """How long the hedged calls of one function take, and how many second copies it may have. Used on the loop."""

    def __init__(self) -> None:
        self._seconds: deque[float] = deque(maxlen=_KEPT_SAMPLES)
        self._may_send = 1.0

    def begun(self) -> None:
        self._may_send = min(self._may_send + PART, _SAVED)

    def ended(self, after_s: float) -> None:
        """One had its value after so long. Of a hedged one it is how long the first copy has taken at least."""
        self._seconds.append(after_s)

    def usual_s(self) -> float | None:
        """What 95 % took at most; None while too little is known."""
        if len(self._seconds) < MIN_SAMPLES:
            return None
        ordered = sorted(self._seconds)
        return ordered[math.ceil(_QUANTILE * len(ordered)) - 1]

    def take(self) -> bool:
        """Whether a second copy may be sent now, which then counts."""
        if self._may_send < 1.0:
            return False
        self._may_send -= 1.0
        return True

    def give_back(self) -> None:
        """It found no place."""
        self._may_send += 1.0


@dataclass(frozen=True, slots=True)
class Hedging:
    """What calls of one target have in common. `after_s`: when a second copy is sent; None: after what is usual."""

    after_s: float | None
    durations: Durations = field(default_factory=Durations)

    def delay_s(self) -> float | None:
        return self.after_s if self.after_s is not None else self.durations.usual_s()


class Sender(Protocol):
    """What the connection does for it."""

    def drop_copy(self, call_id: bytes, reason: str) -> None: ...
    def hand_over(self, call: Call[Any], call_id: bytes) -> None:
        """From now on this copy's events go to the call itself."""
        ...

    def call_later(self, delay_s: float, work: Callable[[], None]) -> Any: ...


class Copy:
    """Stands where a `Call` stands for the connection."""

    def __init__(self, race: Race, call_id: bytes) -> None:
        self._id = call_id
        self.race = race
        self.node = self.version = ""
        self.kept: deque[tuple[pb.Event, codec.Encoded | None]] = deque(maxlen=_KEPT_EVENTS)
        self.failure: pb.Event | pb.ErrorInfo | BaseException | None = None

    def _arrive(self, event: pb.Event, encoded: codec.Encoded | None) -> bool:
        return self.race.arrived(self, event, encoded)

    def _judged(self, error: pb.ErrorInfo | BaseException) -> None:
        self.race.failed(self, error)


class Race:
    """One hedged call and its copies. Runs on the loop."""

    def __init__(self, call: Call[Any], hedging: Hedging, send_copy: Callable[[Race], Copy], sender: Sender) -> None:
        self.call = call
        self._send_copy = send_copy
        self.copies = [Copy(self, call._id)]
        self._hedging = hedging
        self._sender = sender
        self._began = monotonic()
        self._is_over = False
        self._timer: Any = None
        call._race = self
        hedging.durations.begun()
        self._wait(hedging.delay_s())

    def _wait(self, delay_s: float | None) -> None:
        if delay_s is not None:
            self._timer = self._sender.call_later(delay_s, self._send_second)

    def _send_second(self) -> None:
        self._timer = None
        if not self._is_over and self._hedging.durations.take():
            self.copies.append(self._send_copy(self))

    # ---- what becomes of them ------------------------------------------------------------------------------------

    def arrived(self, copy: Copy, event: pb.Event, encoded: codec.Encoded | None) -> bool:
        """True: it counts as taken at once."""
        if self._is_over:
            return True
        if event.HasField("started"):
            copy.node, copy.version = event.started.node_id, event.started.version
        body = event.WhichOneof("body")
        if body in UNREPEATABLE:  # it is a stream after all
            self._end(copy)
            for kept in copy.kept:
                self.call._arrive(*kept)
            self._sender.hand_over(self.call, copy._id)
            return self.call._arrive(event, encoded)
        event.seq = 0  # acknowledged here, whatever the call does with it
        if body == "error":
            self.failed(copy, event)
        elif body == "result":
            self._won(copy, event, encoded)
        elif copy is self.copies[0]:
            self.call._arrive(event, encoded)
        else:
            copy.kept.append((event, encoded))
        return True

    def _won(self, copy: Copy, event: pb.Event, encoded: codec.Encoded | None) -> None:
        self._hedging.durations.ended(monotonic() - self._began)
        self._end(copy)
        for kept in copy.kept:  # what it printed is shown only now, as the first copy printed the same
            self.call._arrive(*kept)
        self.call.node = copy.node or self.call.node
        self.call.function_version = copy.version or self.call.function_version
        self.call._arrive(event, encoded)

    def failed(self, copy: Copy, failure: pb.Event | pb.ErrorInfo | BaseException) -> None:
        """It ended without a value."""
        if self._is_over:
            return
        first = self.copies[0]
        if copy is not first and isinstance(failure, pb.ErrorInfo) and failure.details.get("copy") == "refused":
            self.copies.remove(copy)
            self._hedging.durations.give_back()
            if first.failure is None:
                self._wait(max(self._hedging.delay_s() or _AGAIN_S, _AGAIN_S))
        else:
            copy.failure = failure
        if any(one.failure is None for one in self.copies):
            return
        self._end(copy)
        told = first.failure
        if isinstance(told, pb.Event):
            self.call._arrive(told, None)
        elif told is not None:
            self.call._judged(told)

    def cancelled(self, reason: str) -> None:
        """Nobody waits for the call any more."""
        if not self._is_over:
            self._end(None, reason)

    def _end(self, winner: Copy | None, reason: str = "another copy of it was faster") -> None:
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        for copy in self.copies:
            if copy is not winner and copy.failure is None:
                self._sender.drop_copy(copy._id, reason)
