"""Pretend connections: batches of frames as bytes, late by a random delay, in order, until they break."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from easyremote.testing.clock import Process

if TYPE_CHECKING:
    from easyremote.testing.peers import Peer as Dialer

Deliver = Callable[["Wire", bytes], None]


class Direction:
    """One way of a wire. Whatever is on its way when the wire dies is lost."""

    def __init__(self, wire: Wire, receiver: Process, deliver: Deliver) -> None:
        self._wire = wire
        self._receiver = receiver
        self._deliver = deliver
        self._batches: deque[bytes] = deque()
        self._last_at = 0.0

    def send(self, batch: bytes) -> None:
        wire = self._wire
        if wire.is_dead:
            return
        self._batches.append(batch)
        self._last_at = max(self._last_at, wire.schedule.now + wire.delay_s())
        wire.schedule.at(self._last_at, self._receiver, self._arrive)

    def drop_all(self) -> None:
        self._batches.clear()

    def _arrive(self) -> None:
        if not self._batches:
            return  # the wire died meanwhile
        if self._wire.schedule.now < self._wire.stalled_until:
            self._wire.schedule.at(self._wire.stalled_until, self._receiver, self._arrive)
            return
        self._deliver(self._wire, self._batches.popleft())


class Wire:
    """A connection between a peer and its gateway.

    `is_dead`: nothing passes any more, whether the two ends know it or not. `stalled_until`: what is sent arrives only then.
    """

    def __init__(
        self,
        peer: Dialer,
        to_peer: Deliver,
        notice: Callable[[Wire, float], None],
        gateway: Process,
        to_gateway: Deliver,
    ) -> None:
        self.schedule = peer.world.schedule
        self.peer = peer
        self.stalled_until = 0.0
        self.is_dead = False
        self.up = Direction(self, gateway, to_gateway)
        self.down = Direction(self, peer, to_peer)
        self._notice = notice
        self._rng = peer.world.rng

    def tell_peer(self, delay_s: float) -> None:
        """Its peer notices after a while that it is dead."""
        self._notice(self, delay_s)

    def delay_s(self) -> float:
        """Mostly a millisecond or so, now and then much more."""
        return self._rng.uniform(0.02, 0.2) if self._rng.random() < 0.05 else self._rng.uniform(0.0002, 0.003)

    def die(self) -> None:
        self.is_dead = True
        self.up.drop_all()
        self.down.drop_all()
