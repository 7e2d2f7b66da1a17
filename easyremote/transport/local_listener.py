"""The gateway's Unix socket: the other end of `local_stream`."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import deque
from collections.abc import Sequence
from pathlib import Path
from time import monotonic

from easyremote import discovery
from easyremote.core.access import Access
from easyremote.transport.connections import HELLO_TIMEOUT_S, Connection
from easyremote.transport.invoke import Host
from easyremote.transport.local_stream import BatchProtocol
from easyremote.transport.peers import is_running
from easyremote.transport.streams import MAX_MESSAGE_BYTES, take_batch
from easyremote.transport.turns import turns
from easyremote.wire.v1 import gateway_pb2 as pb

_log = logging.getLogger("easyremote")

_BACKLOG = 1024
"""Connections that wait to be accepted; one more comes over gRPC."""

_MAX_TOKEN_BYTES = 4096
"""Longest first message: nobody is known yet who could send a longer one."""


class LocalListener:
    """Serves the sessions that come over the socket. Where it can't be made, peers come over gRPC."""

    def __init__(self, host: Host) -> None:
        self._host = host
        self._server: asyncio.AbstractServer | None = None
        self._path: Path | None = None
        self._inode = 0
        self._peers: set[_Peer] = set()

    async def start(self, port: int) -> None:
        """The port is this gateway's, so whatever lies at its path is left over from an earlier one."""
        path = discovery.socket_path(f"127.0.0.1:{port}")
        if path is None:
            return
        try:
            path.unlink(missing_ok=True)
            self._server = await asyncio.get_running_loop().create_unix_server(
                self._protocol, str(path), backlog=_BACKLOG
            )
            path.chmod(0o600)
            self._path, self._inode = path, path.stat().st_ino
        except OSError as error:
            _log.warning("no socket for local peers at %s: %s", path, error)

    async def stop(self) -> None:
        if self._path is not None:
            with contextlib.suppress(OSError):
                if self._path.stat().st_ino == self._inode:  # else another gateway has its own there
                    self._path.unlink()
        if self._server is not None:
            self._server.close()
        for peer in list(self._peers):
            peer.turn_away()
        await asyncio.gather(*(peer.over.wait() for peer in self._peers))

    def _protocol(self) -> BatchProtocol:
        peer = _Peer(self._host, self._peers)
        return peer.protocol


class _Peer:
    """One connection: the token, the hello, and then its session."""

    def __init__(self, host: Host, peers: set[_Peer]) -> None:
        self._loop = asyncio.get_running_loop()
        self.over = asyncio.Event()
        self.protocol = BatchProtocol(self._next_batch, self._received, self._ended, _MAX_TOKEN_BYTES)
        self._host = host
        self._peers = peers
        self._clock = monotonic
        self._access: Access | None = None
        self._conn: int | None = None
        self._turns: deque[Sequence[pb.Frame]] = deque()
        self._connection = Connection(self._wake, self.protocol.cut, self._lives)
        self._timer = self._loop.call_later(HELLO_TIMEOUT_S, self.protocol.cut)
        peers.add(self)

    def _lives(self) -> bool:
        """Whether the kernel knows its process as one that runs or waits, and isn't stopped."""
        pid = self.protocol.peer_pid()
        return pid is not None and is_running(pid)

    def turn_away(self) -> None:
        """Close it, unless it has a session, which ends with a goodbye."""
        if self._conn is None:
            self.protocol.cut()

    def _received(self, message: bytes) -> None:
        if self._conn is not None:
            was_idle = not self._turns
            self._turns.extend(turns(pb.Batch.FromString(message).frames))
            if was_idle:
                self._take_turn()
        elif self._access is None:
            self._access = self._host.tokens.access_of(message, self._clock())
            if self._access is None:
                self.protocol.cut()  # it will try over gRPC, and be told there
                return
            self.protocol.unpacker.limit = MAX_MESSAGE_BYTES
        else:
            frames = pb.Batch.FromString(message).frames
            if not frames or frames[0].WhichOneof("body") != "hello":
                self.protocol.cut()
                return
            self._timer.cancel()
            self._conn = self._host.add_connection(self._connection)
            hello = frames[0].hello
            self._host.perform(self._host.broker.connected(self._conn, hello, self._clock(), self._access))

    def _take_turn(self) -> None:
        """The next turn comes when the others have had theirs; until then nothing more is read."""
        if not self._turns:
            return  # it has ended
        self._handle(self._turns.popleft())
        if self._turns:
            self._loop.call_soon(self._go_on)
        self.protocol.read(not self._turns)

    def _go_on(self) -> None:
        try:
            self._take_turn()
        except Exception as error:
            self.protocol.failed(error)

    def _handle(self, frames: Sequence[pb.Frame]) -> None:
        assert self._conn is not None
        try:
            self._host.perform(self._host.broker.received(self._conn, frames, self._clock()))
        except Exception:
            self._turns.clear()
            raise

    def _next_batch(self) -> list[pb.Frame]:
        return take_batch(self._connection.outbox) if self._connection.outbox else []

    def _wake(self) -> None:
        if self._connection.is_closed:
            self.protocol.finish()
        else:
            self.protocol.wake()

    def _ended(self) -> None:
        self._timer.cancel()
        self._connection.ended()
        if self._conn is not None:
            while self._turns:
                self._handle(self._turns.popleft())
            self._host.remove_connection(self._conn)
            self._host.perform(self._host.broker.disconnected(self._conn, self._clock()))
        self.over.set()
        self._peers.discard(self)
