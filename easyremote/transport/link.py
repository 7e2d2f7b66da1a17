"""One peer's connection to its gateway: connects, reconnects, and moves batches between the stream and a session core."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
from collections.abc import Callable, Iterable
from typing import Any, Protocol

import grpc
import grpc.aio

from easyremote.config import BATCH_BYTES
from easyremote.discovery import Endpoint
from easyremote.errors import AuthError, EasyRemoteError, GatewayUnreachable, from_code
from easyremote.transport.options import END_OF_STREAM, is_being_cancelled, open_channel
from easyremote.wire.v1 import gateway_pb2 as pb

SESSION = "/easyremote.v1.Gateway/Session"
TRANSFER = "/easyremote.v1.Gateway/Transfer"

_log = logging.getLogger("easyremote")

CONNECT_TIMEOUT_S = 2.0
_WELCOME_TIMEOUT_S = 5.0
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


def serialize_batch(frames: list[pb.Frame]) -> bytes:
    return pb.Batch(frames=frames).SerializeToString()


def take_batch(outbox: list[pb.Frame]) -> list[pb.Frame]:
    """The first frames of the outbox, as many as a batch may hold."""
    if len(outbox) < 8:  # even the largest frames fit
        batch = outbox[:]
        outbox.clear()
        return batch
    size = 0
    for index, frame in enumerate(outbox):
        size += frame.ByteSize()
        if size > BATCH_BYTES and index:
            batch = outbox[:index]
            del outbox[:index]
            return batch
    batch = outbox[:]
    outbox.clear()
    return batch


def backoff_s(attempt: int, rng: random.Random) -> float:
    """Wait before reconnect number `attempt` (1, 2, …), in seconds.

    Full jitter over min(cap, base · 2^(attempt-1)), base 0.1 s, cap 3 s: spreads a fleet's return after a gateway restart.
    Source: AWS Architecture Blog, "Exponential Backoff and Jitter" (2015).
    """
    return rng.uniform(0, min(3.0, 0.1 * 2 ** (attempt - 1)))


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
        self._wake = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._first: asyncio.Future[None] = self._loop.create_future()
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
            await asyncio.wait_for(asyncio.shield(self._first), timeout_s)
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

    def flush(self) -> None:
        """Frames are in the outbox."""
        self._idle.clear()
        self._wake.set()

    def feed(self, effects: list[Any]) -> None:
        """Perform effects that a call into the core gave back, and send what it put into the outbox."""
        if effects:
            self._perform(effects)
        if self.core.outbox:
            self._wake.set()

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
        try:
            async with open_channel(self.endpoint) as channel:
                method = channel.stream_stream(
                    SESSION, request_serializer=serialize_batch, response_deserializer=pb.Batch.FromString
                )
                await self._talk(method(metadata=self.endpoint.metadata()))
        except grpc.aio.AioRpcError as error:
            self._note(error)
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise  # else it was the stream that was cancelled, for its silence
        except (TimeoutError, asyncio.InvalidStateError, grpc.aio.UsageError):
            pass  # nobody answered, or it was written to a call that had just ended
        except Exception:  # whatever it is, the next connection may do better, and nobody else would make one
            _log.exception("the connection to %s failed", self.endpoint.address)
        was_up = self.is_up
        if was_up:
            self.is_up = False
            self.core.disconnected(self._loop.time())
            self._on_down()
        return was_up

    async def _talk(self, call: Any) -> None:
        writer = watch = None
        try:
            async with asyncio.timeout(_WELCOME_TIMEOUT_S):  # a try that hangs must not keep the next one from coming
                await call.write([self.core.hello()])
                batch = await call.read()
            while True:
                if batch is END_OF_STREAM:
                    break
                self._heard_at = self._loop.time()
                self._received(batch)
                if writer is None and self.is_up:
                    writer = self._loop.create_task(self._write(call))
                    watch = self._loop.create_task(self._watch(call))
                batch = await call.read()
            if not self.is_up:
                code = await call.code()
                if code is not grpc.StatusCode.OK:
                    raise grpc.aio.AioRpcError(
                        code, await call.initial_metadata(), await call.trailing_metadata(), await call.details()
                    )
        finally:
            call.cancel()
            tasks = [task for task in (writer, watch) if task is not None]
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _received(self, batch: pb.Batch) -> None:
        for frame in batch.frames[:1] if not self.is_up else ():
            body = frame.WhichOneof("body")
            if body == "welcome":
                self._heartbeat_s = frame.welcome.heartbeat_s or self._heartbeat_s
                self.is_up = True
                self.last_error = None
            elif body == "refused":
                self._refused(frame.refused)
        effects = self.core.received(batch.frames, self._heard_at)
        if self.is_up and not self._first.done():
            self._first.set_result(None)
        if effects:
            self._perform(effects)
        if self.is_up and batch.frames and batch.frames[0].WhichOneof("body") == "welcome":
            self._on_up()
        if self.core.outbox:
            self._wake.set()

    def _refused(self, refused: pb.Refused) -> None:
        self.last_error = from_code(refused.code, refused.message)
        if not self._first.done() and not refused.retry_after_s:
            self._first.set_exception(self.last_error)

    async def _write(self, call: Any) -> None:
        """Send whatever is queued, at once, as one batch; while a batch is being written the next one gathers."""
        outbox = self.core.outbox
        while True:
            if not outbox:
                self._idle.set()
                self._wake.clear()
                await self._wake.wait()
                continue
            self._sent_at = self._loop.time()
            await call.write(take_batch(outbox))

    async def _watch(self, call: Any) -> None:
        """Heartbeat of our own: HTTP/2 pings are answered by threads that know nothing of a hanging Python."""
        period = self._heartbeat_s / 4
        last = self._loop.time()
        while True:
            await asyncio.sleep(period)
            now = self._loop.time()
            if now - last > 2 * self._heartbeat_s:
                self._heard_at = now  # this process stood still; the gateway had no chance to be heard
            last = now
            if now - self._heard_at > _SILENCE_FACTOR * self._heartbeat_s:
                call.cancel()
                return
            if now - self._sent_at > self._heartbeat_s / 2:
                self.core.heartbeat()
                self._wake.set()

    def _note(self, error: grpc.aio.AioRpcError) -> None:
        """Remember why the connection failed; some reasons won't go away by trying again."""
        where = f"{self.endpoint.address} ({self.endpoint.source})"
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            self.last_error = AuthError(
                f"the gateway at {where} refused the token. Set EASYREMOTE_TOKEN, or pass token=…, to the one it printed"
            )
            if not self._first.done():
                self._first.set_exception(self.last_error)
        elif error.code() is grpc.StatusCode.UNAVAILABLE:
            reason = _readable(error.details() or "")
            self.last_error = GatewayUnreachable(
                f"no gateway answers at {where}: {reason}. Start one with 'easyremote gateway', or check the address"
            )
        elif error.code() is not grpc.StatusCode.CANCELLED:
            self.last_error = GatewayUnreachable(
                f"what answers at {where} is not an EasyRemote gateway ({error.code().name}: {error.details()})"
            )


async def _raise_status(call: Any) -> None:
    """A stream that ended before a welcome: raise why."""
    code = await call.code()
    if code is not grpc.StatusCode.OK:
        initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
        raise grpc.aio.AioRpcError(code, initial, trailing, await call.details())


def _readable(details: str) -> str:
    """The useful end of a gRPC message: `… : Failed to connect to remote host: connect: Connection refused (111)`."""
    for known in ("Connection refused", "No route to host", "Network is unreachable", "Timeout", "timed out"):
        if known.lower() in details.lower():
            return known.lower()
    if "resolution failed" in details or "Name or service not known" in details:
        return "its name can't be resolved"
    return details.rsplit(": ", 1)[-1] or "unavailable"
