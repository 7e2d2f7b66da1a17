"""A session's second stream: chunks of large payloads, over gRPC, on a connection of its own."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Any

import grpc.aio

from easyremote.discovery import Endpoint
from easyremote.errors import EasyRemoteError
from easyremote.transport.dialing import channel_to
from easyremote.transport.options import END_OF_STREAM, is_being_cancelled
from easyremote.transport.streams import open_chunk
from easyremote.wire.chunks import WireChunk

TRANSFER = "/easyremote.v1.Gateway/Transfer"

_log = logging.getLogger("easyremote")

_REATTACH_S = 0.2
_CHUNKS_QUEUED = 2
"""Chunks read from their payloads and not written yet."""


class ChunkStream:
    """Attaches, and attaches anew when the stream breaks, which `replaced` is told of. Runs on the loop where it was made."""

    def __init__(
        self,
        endpoint: Endpoint,
        session_id: bytes,
        received: Callable[[WireChunk], None],
        replaced: Callable[[], None],
    ) -> None:
        self._endpoint = endpoint
        self._session_id = session_id
        self._received = received
        self._replaced = replaced
        self._ready = asyncio.Event()
        self._outbox: asyncio.Queue[WireChunk] = asyncio.Queue(_CHUNKS_QUEUED)
        self._runner = asyncio.get_running_loop().create_task(self._run())

    async def attached(self) -> None:
        """Wait until chunks can come and go."""
        await self._ready.wait()

    async def write(self, chunk: WireChunk) -> None:
        """Queue a chunk. Writing is left to a task of its own: cancelling a write would cancel the whole stream, for all
        transfers."""
        await self._ready.wait()
        await self._outbox.put(chunk)

    async def close(self) -> None:
        self._runner.cancel()
        await asyncio.gather(self._runner, return_exceptions=True)

    async def _run(self) -> None:
        while True:
            try:
                await self._connect_once()
            except asyncio.CancelledError:
                if is_being_cancelled():
                    raise
            except (EasyRemoteError, grpc.aio.AioRpcError, asyncio.InvalidStateError, grpc.aio.UsageError):
                pass  # the gateway can't be reached at this moment, or doesn't know the session yet
            except Exception:  # whatever it is, the next stream may do better, and nobody else would make one
                _log.exception("the transfer stream to %s failed", self._endpoint.address)
            if self._ready.is_set():
                self._ready.clear()
                self._replaced()
            await asyncio.sleep(_REATTACH_S)

    async def _connect_once(self) -> None:
        async with channel_to(self._endpoint) as channel:
            method = channel.stream_stream(
                TRANSFER, request_serializer=WireChunk.to_bytes, response_deserializer=open_chunk
            )
            stream = method(metadata=self._endpoint.metadata(easyremote_session=self._session_id.hex()))
            writer = None
            try:
                while (chunk := await stream.read()) is not END_OF_STREAM and chunk is not None:
                    if chunk.head.transfer_id:
                        self._received(chunk)
                    elif writer is None:
                        self._outbox = asyncio.Queue(_CHUNKS_QUEUED)  # what an earlier stream left is asked for anew
                        writer = asyncio.get_running_loop().create_task(self._write(stream))
                        self._ready.set()
            finally:
                stream.cancel()
                if writer is not None:
                    writer.cancel()
                    await asyncio.gather(writer, return_exceptions=True)

    async def _write(self, stream: Any) -> None:
        while True:
            await stream.write(await self._outbox.get())
