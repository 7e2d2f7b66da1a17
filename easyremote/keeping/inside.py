"""How a client of the gateway's own process talks to its broker: without a socket."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any, Protocol

from easyremote.core.broker import Broker
from easyremote.core.records import Action
from easyremote.discovery import Endpoint
from easyremote.transport.transfers import Transfers
from easyremote.wire.chunks import WireChunk
from easyremote.wire.shared_files import SharedFiles
from easyremote.wire.v1 import gateway_pb2 as pb


class Host(Protocol):
    """The gateway's listener."""

    broker: Broker

    def add_connection(self, connection: Any) -> int: ...
    def remove_connection(self, conn: int) -> None: ...
    def perform(self, actions: list[Action]) -> None: ...
    def answer(self, session_id: bytes, answer: pb.Answer) -> None: ...
    def take_chunks(self, session_id: bytes, queue: Any) -> None: ...
    async def pass_chunk(self, session_id: bytes, chunk: WireChunk) -> None: ...


class InsideLine:
    """Stands for a connection. What the broker sends is handed on soon, never while the broker is at work."""

    def __init__(self, host: Host, call_soon: Callable[..., Any], received: Callable[[list[pb.Frame]], None]) -> None:
        self._host = host
        self._call_soon = call_soon
        self._received = received
        self._inbox: list[pb.Frame] = []
        self._conn = 0

    def open(self, hello: pb.Hello) -> None:
        self._conn = self._host.add_connection(self)
        self._host.perform(self._host.broker.connected(self._conn, hello, monotonic()))

    def tell(self, frames: list[pb.Frame]) -> None:
        self._host.perform(self._host.broker.received(self._conn, frames, monotonic()))

    def leave(self) -> None:
        """Without a goodbye, which would end the calls."""
        self._host.remove_connection(self._conn)

    def put(self, frame: pb.Frame) -> None:
        if not self._inbox:
            self._call_soon(self._hand_on)
        self._inbox.append(frame)

    def close(self) -> None:
        """Only a gateway that stops does this."""

    def _hand_on(self) -> None:
        frames, self._inbox = self._inbox, []
        self._received(frames)


class InsideTransfers(Transfers):
    """Large payloads of a session in the gateway's own process: its chunks need no stream."""

    def __init__(
        self,
        host: Host,
        session_id: bytes,
        send_fetch: Callable[[pb.Fetch], None],
        send_chunk: Callable[[pb.Chunk], None],
    ) -> None:
        nowhere = Endpoint("", "", "this process")
        super().__init__(nowhere, session_id, SharedFiles(), send_fetch, send_chunk, lambda: True)
        self._stream = _InsideStream(host, session_id)  # type: ignore[assignment] - all that is asked of a ChunkStream
        host.take_chunks(session_id, _ChunkInbox(self))


class _InsideStream:
    def __init__(self, host: Host, session_id: bytes) -> None:
        self._host = host
        self._session_id = session_id

    async def attached(self) -> None:
        pass

    async def write(self, chunk: WireChunk) -> None:
        await self._host.pass_chunk(self._session_id, chunk)

    async def close(self) -> None:
        pass


class _ChunkInbox:
    def __init__(self, transfers: Transfers) -> None:
        self._transfers = transfers

    def full(self) -> bool:
        return False

    def qsize(self) -> int:
        return 0

    def put_nowait(self, chunk: WireChunk | None) -> None:
        if chunk is not None:
            self._transfers.chunk_came(chunk)
