"""Pretend transfers of large payloads: the state machine of `transport.transfers`, in virtual time and with small chunks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from easyremote.testing.wires import Wire
from easyremote.wire.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from easyremote.testing.peers import Peer

CHUNK_BYTES = 100
WINDOW_BYTES = 400
REATTACH_S = 0.2

Arrived = Callable[[bytes | None], None]


@dataclass(slots=True)
class Outgoing:
    data: bytes
    offset: int
    limit: int
    ref_id: bytes = b""


@dataclass(slots=True, eq=False)
class Incoming:
    call_id: bytes
    blob: pb.Blob
    arrived: Arrived
    transfer_id: bytes = b""
    limit: int = 0
    data: bytearray = field(default_factory=bytearray)
    of_ref: bool = False


class SimTransfers:
    """Both directions for one session. `arrived` callbacks get the bytes, or None when they are lost."""

    def __init__(self, peer: Peer, send_fetch: Callable[[pb.Fetch], None]) -> None:
        self._peer = peer
        self._send_fetch = send_fetch
        self._owned: dict[bytes, bytes] = {}
        self._blobs_of: dict[object, list[bytes]] = {}
        self._outgoing: dict[bytes, Outgoing] = {}
        self._incoming: dict[bytes, Incoming] = {}
        self._unasked: list[Incoming] = []  # they wait until the stream is attached
        self._unsent: list[pb.Chunk] = []
        self._is_attached = False
        self.stream: Wire | None = None
        peer.every(1.0, self._watch)

    def leftovers(self) -> list[str]:
        open_count = len(self._incoming) + len(self._unasked)
        left = [f"{self._peer.name} keeps {len(self._owned)} payloads"] if self._owned else []
        return left + ([f"{self._peer.name} waits for {open_count} payloads"] if open_count else [])

    def own(self, holder: object, data: bytes, blob_id: bytes = b"") -> pb.Payload:
        blob_id = blob_id or self._peer.world.rng.randbytes(16)
        self._owned[blob_id] = data
        self._blobs_of.setdefault(holder, []).append(blob_id)
        return pb.Payload(blob=pb.Blob(blob_id=blob_id, part_bytes=[len(data)]))

    def release(self, holder: object) -> None:
        for blob_id in self._blobs_of.pop(holder, ()):
            del self._owned[blob_id]

    def hold(self, ref_id: bytes, data: bytes) -> None:
        self._owned[ref_id] = data
        self._blobs_of[ref_id] = [ref_id]

    def let_go(self, ref_id: bytes) -> None:
        for transfer_id, outgoing in list(self._outgoing.items()):
            if outgoing.ref_id == ref_id:
                del self._outgoing[transfer_id]
                self._write(pb.Chunk(transfer_id=transfer_id, error="its owner has dropped it"))
        self.release(ref_id)

    # ---- sending -------------------------------------------------------------------------------------------------

    def requested(self, fetch: pb.Fetch) -> None:
        if fetch.done:
            self._outgoing.pop(fetch.transfer_id, None)
            return
        outgoing = self._outgoing.get(fetch.transfer_id)
        if outgoing is None and fetch.blob_id not in self._owned:
            self._write(pb.Chunk(transfer_id=fetch.transfer_id, error="its owner has dropped it"))
            return
        if outgoing is None:
            outgoing = Outgoing(self._owned[fetch.blob_id], fetch.offset, 0, fetch.blob_id if fetch.of_ref else b"")
            self._outgoing[fetch.transfer_id] = outgoing
        outgoing.limit = max(outgoing.limit, fetch.limit)
        self._send_chunks(fetch.transfer_id, outgoing)

    def _send_chunks(self, transfer_id: bytes, outgoing: Outgoing) -> None:
        until = min(outgoing.limit, len(outgoing.data))
        while self._is_attached and outgoing.offset < until:
            data = outgoing.data[outgoing.offset : min(outgoing.offset + CHUNK_BYTES, until)]
            self._write(pb.Chunk(transfer_id=transfer_id, offset=outgoing.offset, data=data))
            outgoing.offset += len(data)
        self._attach()

    def _write(self, chunk: pb.Chunk) -> None:
        if self.stream is not None and self._is_attached:
            self.stream.up.send(chunk.SerializeToString())
        else:
            self._unsent.append(chunk)
            self._attach()

    # ---- receiving -----------------------------------------------------------------------------------------------

    def fetch(self, call_id: bytes, payload: pb.Payload, arrived: Arrived) -> Incoming:
        incoming = Incoming(call_id, payload.blob, arrived)
        self._ask(incoming)
        return incoming

    def fetch_ref(self, ref: pb.Ref, arrived: Arrived) -> Incoming:
        blob = pb.Blob(blob_id=ref.ref_id, part_bytes=ref.part_bytes)
        incoming = Incoming(b"", blob, arrived, of_ref=True)
        self._ask(incoming)
        return incoming

    def give_up(self, incoming: Incoming) -> None:
        """Nobody wants it any more."""
        if incoming in self._unasked:
            self._unasked.remove(incoming)
        elif self._incoming.pop(incoming.transfer_id, None) is not None:
            self._tell(incoming, done=True)

    def _ask(self, incoming: Incoming) -> None:
        if not self._is_attached:
            self._unasked.append(incoming)
            self._attach()
            return
        incoming.transfer_id = self._peer.world.rng.randbytes(16)
        self._incoming[incoming.transfer_id] = incoming
        incoming.limit = len(incoming.data) + WINDOW_BYTES
        self._tell(incoming)

    def _ask_again(self, incoming: Incoming) -> None:
        del self._incoming[incoming.transfer_id]
        self._tell(incoming, done=True)
        self._ask(incoming)

    def _tell(self, incoming: Incoming, done: bool = False) -> None:
        self._send_fetch(
            pb.Fetch(
                transfer_id=incoming.transfer_id,
                blob_id=incoming.blob.blob_id,
                call_id=incoming.call_id,
                of_ref=incoming.of_ref,
                offset=len(incoming.data),
                limit=incoming.limit,
                done=done,
            )
        )

    def _collect(self, chunk: pb.Chunk) -> None:
        incoming = self._incoming.get(chunk.transfer_id)
        if incoming is None:
            return
        if chunk.again:
            self._ask_again(incoming)
        elif chunk.error:
            self._finish(incoming, None)
        else:
            assert chunk.offset == len(incoming.data), f"a chunk for {chunk.offset} where {len(incoming.data)} are here"
            incoming.data += chunk.data
            if len(incoming.data) == sum(incoming.blob.part_bytes):
                self._finish(incoming, bytes(incoming.data))
            elif incoming.limit - len(incoming.data) <= WINDOW_BYTES // 2:
                incoming.limit = len(incoming.data) + WINDOW_BYTES
                self._tell(incoming)

    def _finish(self, incoming: Incoming, data: bytes | None) -> None:
        del self._incoming[incoming.transfer_id]
        self._tell(incoming, done=True)
        incoming.arrived(data)

    # ---- the session and the stream ------------------------------------------------------------------------------

    def session_down(self) -> None:
        self._outgoing.clear()

    def session_up(self) -> None:
        for incoming in list(self._incoming.values()):
            self._ask_again(incoming)

    def notice(self, wire: Wire, delay_s: float) -> None:
        """Find out after a while that the stream is broken."""
        self._peer.after(delay_s, lambda: self._broke(wire))

    def _attach(self) -> None:
        if self.stream is not None:
            return
        peer, world = self._peer, self._peer.world
        gateway = world.gateway
        if gateway.is_alive and world.schedule.now >= peer.unreachable_until:
            self.stream = Wire(peer, self._came, self.notice, gateway, gateway.chunk_came)
            gateway.accept(self.stream)
            self.stream.up.send(peer.core.session_id)
        else:
            peer.after(REATTACH_S, self._attach)

    def _came(self, wire: Wire, data: bytes) -> None:
        if wire is not self.stream:
            return
        chunk = pb.Chunk.FromString(data)
        if not data:
            self._broke(wire)
        elif chunk.transfer_id:
            self._collect(chunk)
        else:
            self._attached()

    def _attached(self) -> None:
        self._is_attached = True
        unsent, self._unsent = self._unsent, []
        unasked, self._unasked = self._unasked, []
        for chunk in unsent:
            self._write(chunk)
        for transfer_id, outgoing in list(self._outgoing.items()):
            self._send_chunks(transfer_id, outgoing)
        for incoming in unasked:
            self._ask(incoming)

    def _broke(self, wire: Wire) -> None:
        if wire is not self.stream:
            return
        wire.die()
        was_attached, self._is_attached, self.stream = self._is_attached, False, None
        self._peer.after(REATTACH_S, self._attach)
        if was_attached:
            for incoming in list(self._incoming.values()):
                self._ask_again(incoming)
            for transfer_id in self._outgoing:
                self._outgoing[transfer_id] = Outgoing(
                    b"", 0, 0
                )  # stays until the receiver is done: this may be lost too
                self._write(pb.Chunk(transfer_id=transfer_id, again=True))

    def _watch(self) -> None:
        """Stands for the network's own keepalive: a dead stream is noticed after some seconds."""
        if self.stream is not None and self.stream.is_dead and self._peer.world.rng.random() < 0.3:
            self._broke(self.stream)
