"""The gateway's shell in virtual time: what the listener does around its broker."""

from __future__ import annotations

from random import Random
from typing import Protocol

from easyremote.config import GatewaySettings
from easyremote.core.broker import Broker
from easyremote.core.records import Action, Close, Send, SendChunk
from easyremote.testing.clock import Process, Schedule
from easyremote.testing.wires import Wire
from easyremote.wire.v1 import gateway_pb2 as pb

TICK_S = 0.25


class Surroundings(Protocol):
    """What peers and gateways see of the world that they are in."""

    rng: Random
    gateway: SimGateway

    @property
    def schedule(self) -> Schedule: ...
    def note(self, text: str) -> None: ...


class SimGateway(Process):
    """One process of the gateway: a broker and the wires to its peers. A restart makes a new one."""

    def __init__(self, world: Surroundings, settings: GatewaySettings, check_every: int) -> None:
        super().__init__(world, world.rng.uniform(0, 1e5))
        self._world = world
        self.broker = Broker(world.rng.randbytes(16), settings, "sim", self.now)
        self._wires: dict[int, Wire] = {}
        self._dialled: dict[Wire, None] = {}  # every wire that isn't known to be broken, of both kinds
        self._numbers: dict[Wire, int] = {}
        self._outboxes: dict[int, list[pb.Frame]] = {}
        self._chunk_wires: dict[bytes, Wire] = {}
        self._session_of: dict[Wire, bytes] = {}
        self._next_conn = 0
        self._check_every = check_every
        self._steps = 0
        self.every(TICK_S, self._tick)

    def crash(self) -> None:
        """Die as by kill -9: every wire breaks, and its peer notices soon."""
        self.is_alive = False
        for wire in self._dialled:
            wire.die()
            wire.tell_peer(self._world.rng.uniform(0.0, 0.3))

    def drain(self) -> None:
        """Take no new calls: its end is near."""
        self._perform(self.broker.drain(self.now))

    def accept(self, wire: Wire) -> None:
        """A peer dials."""
        self._dialled[wire] = None

    def notice(self, wire: Wire, delay_s: float) -> None:
        """Find out after a while that a wire is broken."""
        self.after(delay_s, lambda: self._broke(wire))

    def arrived(self, wire: Wire, data: bytes) -> None:
        batch = pb.Batch.FromString(data)
        if wire not in self._dialled:
            return
        number = self._numbers.get(wire)
        if number is None:
            self._next_conn += 1
            self._numbers[wire] = number = self._next_conn
            self._wires[number] = wire
            self._outboxes[number] = []
            self._perform(self.broker.connected(number, batch.frames[0].hello, self.now))
        else:
            self._perform(self.broker.received(number, batch.frames, self.now))

    def chunk_came(self, wire: Wire, data: bytes) -> None:
        """On a transfer stream: first the session that it belongs to, then chunks."""
        session_id = self._session_of.get(wire)
        if session_id is not None:
            chunk = pb.Chunk.FromString(data)
            target = self.broker.chunk(session_id, chunk)
            if target is not None:
                self._put_chunk(target, chunk)
        elif self.broker.knows(data):
            self._session_of[wire] = data
            replaced = self._chunk_wires.pop(data, None)
            if replaced is not None:
                replaced.down.send(b"")
            self._chunk_wires[data] = wire
            wire.down.send(pb.Chunk(again=True).SerializeToString())
        else:
            wire.down.send(b"")

    def _put_chunk(self, session_id: bytes, chunk: pb.Chunk) -> None:
        wire = self._chunk_wires.get(session_id)
        if wire is not None:
            wire.down.send(chunk.SerializeToString())

    def _broke(self, wire: Wire) -> None:
        self._dialled.pop(wire, None)
        number = self._numbers.pop(wire, None)
        if number is not None:
            self._wires.pop(number, None)
            self._outboxes.pop(number, None)
            self._perform(self.broker.disconnected(number, self.now))

    def _tick(self) -> None:
        for conn in self.broker.doubtful(self.now):
            wire = self._wires.get(conn)
            if wire is not None and not wire.is_dead and self._world.schedule.now < wire.peer.held_until:
                self.broker.vouch(conn, self.now)
        self._perform(self.broker.tick(self.now))

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if isinstance(action, Send):
                self._put(action.conn, action.frame)
            elif isinstance(action, Close):
                self._close(action.conn)
            elif isinstance(action, SendChunk):
                self._put_chunk(action.session_id, action.chunk)
        self._steps += 1
        if self._steps % self._check_every == 0:
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
