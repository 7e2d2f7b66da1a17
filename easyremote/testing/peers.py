"""A peer's shell in virtual time: what the link and its timers do around a session core."""

from __future__ import annotations

from typing import Any

from easyremote.core.reconnecting import backoff_s
from easyremote.testing.clock import Process
from easyremote.testing.sim_gateway import Surroundings
from easyremote.testing.sim_transfers import SimTransfers
from easyremote.testing.wires import Wire
from easyremote.wire.v1 import gateway_pb2 as pb

SILENCE_S = 6.0


class Peer(Process):
    """One process of a node or a client, and its link: dials, reconnects, sends heartbeats, notices silence."""

    core: Any  # a ClientSession or a NodeSession

    def __init__(self, world: Surroundings, name: str) -> None:
        super().__init__(world, world.rng.uniform(0, 1e5))
        self.world = world
        self.name = name
        self.wire: Wire | None = None
        self.is_up = False
        self.unreachable_until = 0.0
        self._attempt = 0
        self._heard_at = self._sent_at = self._watched_at = self.now
        self._is_flushing = False
        self.transfers = SimTransfers(self, self._send_fetch)
        self.after(0.0, self._dial)
        self.every(0.5, self._watch)

    def crash(self) -> None:
        """Die as by kill -9. Whether the gateway hears of it is up to the network."""
        self.is_alive = False

    def leave(self) -> None:
        """Said goodbye and written it: the process ends."""
        self.is_alive = False

    # ---- wires ---------------------------------------------------------------------------------------------------

    def notice(self, wire: Wire, delay_s: float) -> None:
        """Find out after a while that a wire is broken."""
        self.after(delay_s, lambda: self.broke(wire))
        self.transfers.notice(wire, delay_s)

    def broke(self, wire: Wire) -> None:
        if wire is not self.wire:
            return
        wire.die()
        self.wire = None
        if self.is_up:
            self.is_up = False
            self._attempt = 0
            self.core.disconnected(self.now)
            self.transfers.session_down()
            self.core.check()
        self._dial_later()

    def arrived(self, wire: Wire, data: bytes) -> None:
        if wire is not self.wire:
            return
        if not data:
            self.broke(wire)
            return
        self._heard_at = self.now
        batch = pb.Batch.FromString(data)
        is_welcome = batch.frames[0].HasField("welcome")
        self.is_up = self.is_up or is_welcome
        self.feed(self.core.received(batch.frames, self.now))
        if is_welcome:
            self.transfers.session_up()

    def feed(self, effects: list[Any]) -> None:
        """Do what the core wants, and send what it has put into its outbox."""
        for effect in effects:
            self.perform(effect)
        self.core.check()
        self.flush()

    def flush(self) -> None:
        if self.core.outbox and not self._is_flushing:
            self._is_flushing = True
            self.after(self.world.rng.uniform(0, 0.001), self._write)

    def _write(self) -> None:
        self._is_flushing = False
        if self.wire is not None and self.is_up and self.core.outbox:
            self._sent_at = self.now
            self.wire.up.send(pb.Batch(frames=self.outgoing(self.core.outbox)).SerializeToString())
            self.core.outbox.clear()

    def _send_fetch(self, fetch: pb.Fetch) -> None:
        self.core.fetch(fetch)
        self.flush()

    def _dial(self) -> None:
        if self.wire is not None:
            return
        gateway = self.world.gateway
        self._attempt += 1
        if not gateway.is_alive or self.world.schedule.now < self.unreachable_until:
            self._dial_later()
            return
        wire = self.wire = Wire(self, self.arrived, self.notice, gateway, gateway.arrived)
        self._heard_at = self.now
        gateway.accept(wire)
        wire.up.send(pb.Batch(frames=[self.core.hello()]).SerializeToString())

    def _dial_later(self) -> None:
        """The backoff of the real link."""
        self.after(backoff_s(max(self._attempt, 1), self.world.rng), self._dial)

    def _watch(self) -> None:
        now = self.now
        if now - self._watched_at > 4.0:
            self._heard_at = now  # this process stood still
        self._watched_at = now
        wire = self.wire
        if wire is None:
            return
        if now - self._heard_at > SILENCE_S:
            if not wire.is_dead:
                self.world.gateway.notice(wire, 0.01)
            self.broke(wire)
        elif self.is_up and now - self._sent_at > 1.0:
            self.core.heartbeat()
            self.flush()

    # ---- what the two kinds do differently -----------------------------------------------------------------------

    def perform(self, effect: Any) -> None:
        raise NotImplementedError

    def outgoing(self, frames: list[pb.Frame]) -> list[pb.Frame]:
        """The frames as the network carries them."""
        return frames
