"""One peer's connection to its gateway: connects, reconnects, and moves batches between the stream and a session core."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable
from time import monotonic
from typing import Any, Protocol

from easyremote import discovery
from easyremote.core.reconnecting import backoff_s
from easyremote.discovery import Endpoint
from easyremote.errors import AuthError, EasyRemoteError, GatewayUnreachable, from_code
from easyremote.transport.local_stream import LocalStream
from easyremote.transport.streams import Stream, take_batch
from easyremote.wire.v1 import gateway_pb2 as pb

_log = logging.getLogger("easyremote")

CONNECT_TIMEOUT_S = 2.0
NETWORK_TIMEOUT_S = 10.0
"""So long a first connection that goes over a network may take when nothing is known to be wrong with it."""

_SILENCE_FACTOR = 3.0
ACK_DELAY_S = 0.02


class SessionCore(Protocol):
    """What `ClientSession` and `NodeSession` have in common."""

    outbox: list[pb.Frame]
    session_id: bytes

    def hello(self) -> pb.Frame: ...
    def received(self, frames: Iterable[pb.Frame], now: float) -> list[Any]: ...
    def disconnected(self, now: float) -> None: ...
    def heartbeat(self) -> None: ...


class Link:
    """Keeps one session connected. All methods run on the shared loop.

    `perform` gets the core's effects. `on_up` and `on_down` are told of each connection that is taken in or lost. `refresh` looks
    the endpoint up again before each try: a gateway that was restarted may have another token.
    """

    def __init__(
        self,
        core: SessionCore,
        endpoint: Endpoint,
        perform: Callable[[list[Any]], None],
        on_up: Callable[[], None] = lambda: None,
        on_down: Callable[[], None] = lambda: None,
        refresh: Callable[[Endpoint], Endpoint] = lambda endpoint: endpoint,
    ) -> None:
        self.core = core
        self._refresh = refresh
        self.endpoint = endpoint
        self.last_error: EasyRemoteError | None = None
        self.is_up = False
        self._perform = perform
        self._on_up = on_up
        self._on_down = on_down
        self._stream: Stream | None = None
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[None] = self._loop.create_future()
        self._failed = asyncio.Event()  # one try at least
        self._closing = False
        self._heartbeat_s = 2.0
        self._heard_at = 0.0
        self._sent_at = 0.0
        self._rng = random.Random()
        self._idle = asyncio.Event()
        self._task = self._loop.create_task(self._run())

    async def connected(self, timeout_s: float = CONNECT_TIMEOUT_S) -> None:
        """Wait for the first welcome. Raises what kept the link from it; the link is closed then."""
        try:
            await self._first_word(timeout_s)
        except TimeoutError:
            error = self.last_error or GatewayUnreachable(
                f"no gateway answers at {self.endpoint.address} ({self.endpoint.source}): nothing was heard for "
                f"{timeout_s:g} s. Is it running there, and is the port open?"
            )
            await self.close()
            raise error from None
        except BaseException:
            await self.close()
            raise

    async def _first_word(self, timeout_s: float) -> None:
        """Raises TimeoutError after so long, and over a network not before a first try has failed."""
        if self.endpoint.tls:
            failure = self._loop.create_task(self._failed.wait())
            try:
                await asyncio.wait(
                    {self._first, failure}, timeout=NETWORK_TIMEOUT_S, return_when=asyncio.FIRST_COMPLETED
                )
            finally:
                failure.cancel()
        await asyncio.wait_for(asyncio.shield(self._first), timeout_s)

    def flush(self) -> None:
        """Frames are in the outbox."""
        self._idle.clear()
        if self._stream is not None:
            self._stream.wake()

    @property
    def is_local(self) -> bool:
        """Whether it goes over a Unix socket, so that its gateway, and most likely its clients, are on this host."""
        return isinstance(self._stream, LocalStream)

    async def drained(self, timeout_s: float) -> None:
        """Wait until what is in the outbox was written."""
        if not self.is_up:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._idle.wait()

    async def close(self) -> None:
        self._closing = True
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        if not self._first.done():
            self._first.cancel()

    # ---- connections ---------------------------------------------------------------------------------------------

    async def _run(self) -> None:
        attempt = 0
        while not self._closing:
            was_up = await self._connect_once()
            if self._first.done() and not self._first.cancelled() and self._first.exception() is not None:
                return
            attempt = 1 if was_up else attempt + 1
            await asyncio.sleep(backoff_s(attempt, self._rng))

    async def _connect_once(self) -> bool:
        """One connection, from its start to its end. Tells whether the gateway welcomed it."""
        with contextlib.suppress(EasyRemoteError):
            self.endpoint = self._refresh(self.endpoint)
        watch = self._loop.create_task(self._watch())
        try:
            if not await self._talk_locally():
                # Loaded here, since it takes time and memory that a session on one host can do without.
                from easyremote.transport.grpc_stream import GrpcStream

                await self._talk(GrpcStream(self.endpoint, self))
        except EasyRemoteError as error:
            self.last_error = error
            self._failed.set()
            if isinstance(error, AuthError) and not self._first.done():
                self._first.set_exception(error)
        except Exception:  # whatever it is, the next connection may do better, and nobody else would make one
            _log.exception("the connection to %s failed", self.endpoint.address)
        finally:
            watch.cancel()
        was_up = self.is_up
        if was_up:
            self.is_up = False
            self.core.disconnected(monotonic())
            self._on_down()
        return was_up

    async def _talk_locally(self) -> bool:
        """Over the gateway's own socket, where it has one on this host that is this user's. False: nobody answered there."""
        if not self.endpoint.is_own and (self.endpoint.tls or not discovery.is_loopback(self.endpoint.address)):
            return False
        path = discovery.socket_path(self.endpoint.address)
        if path is None or not path.exists():
            return False
        stream = LocalStream(path, self.endpoint.token, self)
        with contextlib.suppress(OSError):  # of a gateway that has died
            await self._talk(stream)
        return stream.is_answered

    async def _talk(self, stream: Stream) -> None:
        self._stream = stream
        try:
            await stream.talk()
        finally:
            self._stream = None

    # ---- what the stream asks ------------------------------------------------------------------------------------

    def hello(self) -> pb.Frame:
        return self.core.hello()

    def next_batch(self) -> list[pb.Frame]:
        if not self.core.outbox:
            self._idle.set()
            return []
        self._sent_at = monotonic()
        return take_batch(self.core.outbox)

    def received(self, batch: pb.Batch) -> None:
        self._heard_at = monotonic()
        was_up = self.is_up
        for frame in batch.frames[:1] if not was_up else ():
            body = frame.WhichOneof("body")
            if body == "welcome":
                self._heartbeat_s = frame.welcome.heartbeat_s or self._heartbeat_s
                self.is_up = True
                self.last_error = None
            elif body == "refused":
                self._refused(frame.refused)
        if was_up:
            for frame in batch.frames:
                if frame.WhichOneof("body") == "refused":  # its token isn't good any more
                    self.last_error = from_code(frame.refused.code, frame.refused.message)
        effects = self.core.received(batch.frames, self._heard_at)
        if self.is_up and not self._first.done():
            self._first.set_result(None)
        if effects:
            self._perform(effects)
        if self.is_up and not was_up:
            self._on_up()
        if self.core.outbox:
            self.flush()

    def _refused(self, refused: pb.Refused) -> None:
        self.last_error = from_code(refused.code, refused.message)
        if not self._first.done() and not refused.retry_after_s:
            self._first.set_exception(self.last_error)

    async def _watch(self) -> None:
        """Heartbeat of our own: HTTP/2 pings are answered by threads that know nothing of a hanging Python."""
        last = monotonic()
        while True:
            await asyncio.sleep(self._heartbeat_s / 4)
            now = monotonic()
            if now - last > 2 * self._heartbeat_s:
                self._heard_at = now  # this process stood still; the gateway had no chance to be heard
            last = now
            if not self.is_up:
                continue
            if now - self._heard_at > _SILENCE_FACTOR * self._heartbeat_s and self._stream is not None:
                self._stream.cut()
                return
            if now - self._sent_at > 0.75 * self._heartbeat_s:
                self.core.heartbeat()
                self.flush()
