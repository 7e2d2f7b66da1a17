"""A session's connection over gRPC: between machines, and where there is no Unix socket."""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
import grpc.aio

from easyremote.discovery import Endpoint
from easyremote.errors import AuthError, EasyRemoteError, GatewayUnreachable
from easyremote.transport.dialing import channel_to, speaks_tls
from easyremote.transport.options import END_OF_STREAM, is_being_cancelled
from easyremote.transport.streams import WELCOME_TIMEOUT_S, Counter, Talker, open_batch, seal_batch

SESSION = "/easyremote.v1.Gateway/Session"


class GrpcStream:
    """One call of `Session`. Raises EasyRemoteError from `talk` when the gateway gave a reason, or none could be reached."""

    def __init__(self, endpoint: Endpoint, talker: Talker) -> None:
        self._endpoint = endpoint
        self._talker = talker
        self._wake = asyncio.Event()
        self._counter = Counter()
        self._call: Any = None

    def wake(self) -> None:
        self._wake.set()

    def cut(self) -> None:
        if self._call is not None:
            self._call.cancel()

    async def talk(self) -> None:
        try:
            async with channel_to(self._endpoint) as channel:
                method = channel.stream_stream(SESSION, request_serializer=seal_batch, response_deserializer=open_batch)
                self._call = method(metadata=self._endpoint.metadata())
                await self._exchange(self._call)
        except grpc.aio.AioRpcError as error:
            if (reason := await self._explain(error)) is not None:
                raise reason from error
        except asyncio.CancelledError:
            if is_being_cancelled():
                raise  # else it was the stream that was cancelled, for its silence
        except (TimeoutError, asyncio.InvalidStateError, grpc.aio.UsageError):
            pass  # nobody answered, or it was written to a call that had just ended

    async def _exchange(self, call: Any) -> None:
        writer = None
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT_S):  # a try that hangs must not keep the next one from coming
                await call.write(self._counter.numbered([self._talker.hello()]))
                batch = await call.read()
            while batch is not END_OF_STREAM:
                if batch is None or not self._counter.follows(batch):
                    return  # it was damaged on its way, or lost; the next connection brings what was in it
                self._talker.received(batch)
                if writer is None:
                    writer = asyncio.get_running_loop().create_task(self._write(call))
                batch = await call.read()
            code = await call.code()
            if writer is None and code is not grpc.StatusCode.OK:
                initial, trailing = await call.initial_metadata(), await call.trailing_metadata()
                raise grpc.aio.AioRpcError(code, initial, trailing, await call.details())
        finally:
            call.cancel()
            if writer is not None:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, call: Any) -> None:
        """Send whatever is queued, at once, as one batch; while a batch is being written the next one gathers."""
        while True:
            batch = self._talker.next_batch()
            if batch:
                await call.write(self._counter.numbered(batch))
            else:
                self._wake.clear()
                await self._wake.wait()

    async def _explain(self, error: grpc.aio.AioRpcError) -> EasyRemoteError | None:
        """Why the connection failed, for people."""
        where = f"{self._endpoint.address} ({self._endpoint.source})"
        if error.code() is grpc.StatusCode.UNAUTHENTICATED:
            return AuthError(
                f"the gateway at {where} refused the token. Set EASYREMOTE_TOKEN, or pass token=…, to the one it printed"
            )
        if error.code() is grpc.StatusCode.UNAVAILABLE:
            reason = _readable(error.details() or "")
            if not self._endpoint.tls and reason != "connection refused" and await speaks_tls(self._endpoint.address):
                return GatewayUnreachable(
                    f"what answers at {where} speaks TLS, and was spoken to without. Through a tunnel, or as another user, use "
                    "an invitation ('easyremote invite' there makes one): it has what TLS needs"
                )
            return GatewayUnreachable(
                f"no gateway answers at {where}: {reason}. Start one with 'easyremote gateway', or check the address"
            )
        if error.code() is not grpc.StatusCode.CANCELLED:
            return GatewayUnreachable(
                f"what answers at {where} is not an EasyRemote gateway ({error.code().name}: {error.details()})"
            )
        return None


def _readable(details: str) -> str:
    """The useful end of a gRPC message: `… : Failed to connect to remote host: connect: Connection refused (111)`."""
    for known in ("Connection refused", "No route to host", "Network is unreachable", "Timeout", "timed out"):
        if known.lower() in details.lower():
            return known.lower()
    if "resolution failed" in details or "Name or service not known" in details:
        return "its name can't be resolved"
    return details.rsplit(": ", 1)[-1] or "unavailable"
