"""The shells around the cores, in virtual time: what the listener, the link and their timers do in a real process."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random
from typing import Any, Protocol

from easyremote.config import GatewaySettings
from easyremote.core.broker import Broker
from easyremote.core.records import Action, Close, Send
from easyremote.testing.clock import Process, Schedule
from easyremote.testing.wires import Wire
from easyremote.wire.v1 import gateway_pb2 as pb

GATEWAY_TICK_S = 0.25
SILENCE_S = 6.0
HELLO_TIMEOUT_S = 5.0


class Surroundings(Protocol):
    """What peers and gateways see of the world that they are in."""

    rng: Random
    gateway: SimGateway

    @property
    def schedule(self) -> Schedule: ...
    def note(self, text: str) -> None: ...


class SessionCore(Protocol):
    """What `ClientSession` and `NodeSession` have in common."""

    outbox: list[pb.Frame]
    is_connected: bool
    session_id: bytes

    def hello(self) -> pb.Frame: ...
    def received(self, frames: Iterable[pb.Frame], now: float) -> list[Any]: ...
    def disconnected(self, now: float) -> None: ...
    def heartbeat(self) -> None: ...
    def check(self) -> None: ...


class SimGateway(Process):
    """One process of the gateway: a broker and the wires to its peers. A restart makes a new one."""

    def __init__(self, world: Surroundings, settings: GatewaySettings) -> None:
        super().__init__(world, world.rng.uniform(0, 1e5))
        self._world = world
        self.broker = Broker(world.rng.randbytes(16), settings, "sim", self.now)
        self._wires: dict[int, Wire] = {}
        self._numbers: dict[Wire, int] = {}
        self._outboxes: dict[int, list[pb.Frame]] = {}
        self._next_conn = 0
        self.every(GATEWAY_TICK_S, self._tick)

    def crash(self) -> None:
        """Die as by kill -9: every wire breaks, and its peer notices soon."""
        self.is_alive = False
        for wire in self._numbers:
            wire.die()
            assert isinstance(wire.peer, Peer)
            wire.peer.notice(wire, self._world.rng.uniform(0.0, 0.3))

    def accept(self, wire: Wire) -> None:
        """A peer dials. The wire has a number once its hello came."""
        self._numbers[wire] = 0

    def notice(self, wire: Wire, delay_s: float) -> None:
        """Find out after a while that a wire is broken."""
        self.after(delay_s, lambda: self._broke(wire))

    def arrived(self, wire: Wire, data: bytes) -> None:
        batch = pb.Batch.FromString(data)
        number = self._numbers.get(wire)
        if number is None:
            return
        if number == 0:
            self._next_conn += 1
            self._numbers[wire] = number = self._next_conn
            self._wires[number] = wire
            self._outboxes[number] = []
            self._perform(self.broker.connected(number, batch.frames[0].hello, self.now))
        else:
            self._perform(self.broker.received(number, batch.frames, self.now))

    def _broke(self, wire: Wire) -> None:
        number = self._numbers.pop(wire, None)
        if number:
            self._wires.pop(number, None)
            self._outboxes.pop(number, None)
            self._perform(self.broker.disconnected(number, self.now))

    def _tick(self) -> None:
        self._perform(self.broker.tick(self.now))

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self._put(action.conn, action.frame)
            elif isinstance(action, Close):
                self._close(action.conn)
        self.broker.check()

    def _put(self, conn: int, frame: pb.Frame) -> None:
        """As the listener does: the frame object waits, and becomes bytes only when the writer comes to it."""
        outbox = self._outboxes.get(conn)
        if outbox is None:
            return
        outbox.append(frame)
        if len(outbox) == 1:
            self.after(self._world.rng.uniform(0, 0.001), lambda: self._write(conn))

    def _write(self, conn: int) -> None:
        outbox = self._outboxes.get(conn)
        if outbox:
            self._wires[conn].down.send(pb.Batch(frames=outbox).SerializeToString())
            outbox.clear()

    def _close(self, conn: int) -> None:
        """Write what waits, then end the stream: its peer sees the end, or, where nothing passes, silence."""
        wire = self._wires.pop(conn, None)
        if wire is None:
            return
        outbox = self._outboxes.pop(conn)
        if outbox:
            wire.down.send(pb.Batch(frames=outbox).SerializeToString())
        if not wire.is_dead:
            wire.down.send(b"")
        self.after(0.0, lambda: self._broke(wire))


class Peer(Process):
    """One process of a node or a client, and its link: dials, reconnects, sends heartbeats, notices silence."""

    core: Any  # a SessionCore

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

    def broke(self, wire: Wire) -> None:
        if wire is not self.wire:
            return
        wire.die()
        self.wire = None
        if self.is_up:
            self.is_up = False
            self._attempt = 0
            self.core.disconnected(self.now)
            self.went_down()
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
        if not self.is_up and batch.frames[0].HasField("welcome"):
            self.is_up = True
            self.came_up()
        self.feed(self.core.received(batch.frames, self.now))

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

    def _dial(self) -> None:
        if self.wire is not None:
            return
        gateway = self.world.gateway
        self._attempt += 1
        if not gateway.is_alive or self.world.schedule.now < self.unreachable_until:
            self._dial_later()
            return
        wire = Wire(self.world.schedule, self.world.rng, self, self.arrived, gateway, gateway.arrived)
        self.wire = wire
        self._heard_at = self.now
        gateway.accept(wire)
        wire.up.send(pb.Batch(frames=[self.core.hello()]).SerializeToString())

    def _dial_later(self) -> None:
        """The backoff of the real link."""
        self.after(self.world.rng.uniform(0, min(3.0, 0.1 * 2 ** max(self._attempt - 1, 0))), self._dial)

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

    def came_up(self) -> None:
        pass

    def went_down(self) -> None:
        pass

    def outgoing(self, frames: list[pb.Frame]) -> list[pb.Frame]:
        """The frames as the network carries them."""
        return frames
