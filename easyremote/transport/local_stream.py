"""A session's connection over a Unix socket, for processes of one user on one host.

A gRPC message costs 50 to 100 µs at each hop, in hand-offs between its threads and the loop; here a batch is one read and one
write. The socket lies in the user's runtime folder, open to nobody else; the token is asked for all the same.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

from easyremote.transport.connections import CLOSE_TIMEOUT_S
from easyremote.transport.peers import peer_pid
from easyremote.transport.streams import MAX_MESSAGE_BYTES, WELCOME_TIMEOUT_S, Talker, serialize_batch
from easyremote.wire.framing import Unpacker, pack
from easyremote.wire.v1 import gateway_pb2 as pb

_log = logging.getLogger("easyremote")


class BatchProtocol(asyncio.Protocol):
    """Moves batches over one socket. What is queued while one callback runs leaves in one write."""

    def __init__(
        self,
        next_batch: Callable[[], list[pb.Frame]],
        received: Callable[[bytes], None],
        ended: Callable[[], None],
        limit: int = MAX_MESSAGE_BYTES,
    ) -> None:
        self.unpacker = Unpacker(limit)
        self._next_batch = next_batch
        self._received = received
        self._ended = ended
        self._loop = asyncio.get_running_loop()
        self._transport: Any = None
        self._is_due = False
        self._is_full = False
        self._is_reading = True

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport

    def data_received(self, data: bytes) -> None:
        try:
            for message in self.unpacker.feed(data):
                self._received(message)
        except Exception as error:
            self.failed(error)

    def failed(self, error: Exception) -> None:
        """What was received couldn't be handled."""
        _log.warning("a local connection was closed: %s: %s", type(error).__name__, error)
        self.cut()

    def connection_lost(self, exc: Exception | None) -> None:
        self._ended()

    def pause_writing(self) -> None:
        self._is_full = True

    def resume_writing(self) -> None:
        self._is_full = False
        self.wake()

    def wake(self) -> None:
        """There is something to send."""
        if not self._is_due:
            self._is_due = True
            self._loop.call_soon(self._write)

    def send(self, message: bytes) -> None:
        self._transport.write(pack(message))

    def finish(self) -> None:
        """Send what is queued, then close; soon, even when the other side doesn't read."""
        if self._transport is not None and not self._transport.is_closing():
            self._is_full = False
            self._write()
            self._transport.close()
            self._loop.call_later(CLOSE_TIMEOUT_S, self._transport.abort)

    def cut(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def read(self, wanted: bool) -> None:
        """Go on reading, or leave what comes where it is."""
        if wanted != self._is_reading and not self._transport.is_closing():
            self._is_reading = wanted
            (self._transport.resume_reading if wanted else self._transport.pause_reading)()

    def peer_pid(self) -> int | None:
        """The process at the other end, where the system tells."""
        return peer_pid(self._transport.get_extra_info("socket")) if self._transport is not None else None

    def _write(self) -> None:
        self._is_due = False
        while not self._is_full and not self._transport.is_closing():
            batch = self._next_batch()
            if not batch:
                return
            self._transport.write(pack(serialize_batch(batch)))


class LocalStream:
    """One connection to a gateway's socket. `is_answered`: the gateway has said something."""

    def __init__(self, path: Path, token: str, talker: Talker) -> None:
        self._path = path
        self._token = token
        self._talker = talker
        self._moved = asyncio.Event()  # it was answered, or has ended
        self._over = asyncio.Event()
        self._protocol: BatchProtocol | None = None
        self.is_answered = False

    def wake(self) -> None:
        if self._protocol is not None and self.is_answered:
            self._protocol.wake()

    def cut(self) -> None:
        if self._protocol is not None:
            self._protocol.cut()

    async def talk(self) -> None:
        """Raises OSError when nobody listens there."""
        loop = asyncio.get_running_loop()
        _, self._protocol = await loop.create_unix_connection(
            lambda: BatchProtocol(self._talker.next_batch, self._received, self._ended), str(self._path)
        )
        try:
            self._protocol.send(self._token.encode())
            self._protocol.send(serialize_batch([self._talker.hello()]))
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                await self._moved.wait()
            await self._over.wait()
        except TimeoutError:
            pass
        finally:
            self._protocol.finish()

    def _received(self, message: bytes) -> None:
        self._talker.received(pb.Batch.FromString(message))
        if not self.is_answered:
            self.is_answered = True
            self._moved.set()
            self.wake()

    def _ended(self) -> None:
        self._over.set()
        self._moved.set()
