"""Calls of programs that aren't Python: `Invoke` and `InvokeStream`, with JSON or raw bytes instead of pickles.

Each call is a guest of the broker for its duration: a client session that has a queue where others have a stream.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator
from time import monotonic
from typing import Any, Protocol

import grpc

from easyremote.core.access import Access
from easyremote.core.broker import Broker
from easyremote.core.records import Action
from easyremote.runtime import this_runtime
from easyremote.security.tokens import TokenStore
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb

_HEARTBEAT_S = 1.0


class Host(Protocol):
    """What the listener gives."""

    broker: Broker
    tokens: TokenStore

    async def access_of(self, context: Any) -> Access: ...
    def add_connection(self, connection: Any) -> int: ...
    def remove_connection(self, conn: int) -> None: ...
    def perform(self, actions: list[Action]) -> None: ...


class Invoker:
    """The two methods of the service."""

    def __init__(self, host: Host) -> None:
        self._host = host

    async def one(self, request: pb.InvokeRequest, context: Any) -> pb.InvokeReply:
        """The result; of a stream, the array of its items."""
        replies: list[pb.InvokeReply] = []
        is_stream = False
        async for event in self._events(request, context):
            is_stream = is_stream or event.is_exhausted or event.HasField("item")
            if not event.is_exhausted:
                replies.append(await _reply(event, context))
        if not is_stream:
            return replies[0]
        return pb.InvokeReply(json=json.dumps([json.loads(reply.json) for reply in replies]))

    async def stream(self, request: pb.InvokeRequest, context: Any) -> None:
        async for event in self._events(request, context):
            if not event.is_exhausted:
                await context.write(await _reply(event, context))

    async def _events(self, request: pb.InvokeRequest, context: Any) -> AsyncIterator[pb.Event]:
        """The items and the result of one call; an error ends the RPC with its status."""
        guest = _Guest(self._host, await self._host.access_of(context))
        guest.tell(pb.Frame(submit=_submission(request)))
        try:
            while True:
                outcome = await guest.next()
                if isinstance(outcome, pb.ErrorInfo):
                    text = f"{outcome.type}: {outcome.message}" if outcome.type else outcome.message
                    await context.abort(_STATUS.get(outcome.code, grpc.StatusCode.UNAVAILABLE), text)
                    return
                if outcome.WhichOneof("body") in ("item", "result"):
                    yield outcome
                guest.tell(_acknowledgement(outcome))
                if outcome.HasField("result"):
                    return
        finally:
            guest.leave()


class _Guest:
    """Stands for a connection."""

    def __init__(self, host: Host, access: Access) -> None:
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._frames: asyncio.Queue[pb.Frame | None] = asyncio.Queue()
        self._conn = host.add_connection(self)
        hello = pb.Hello(protocol_min=1, protocol_max=1, role=pb.ROLE_CLIENT, session_id=secrets.token_bytes(16))
        hello.runtime.CopyFrom(this_runtime())
        host.perform(host.broker.connected(self._conn, hello, monotonic(), access))

    def put(self, frame: pb.Frame) -> None:
        self._frames.put_nowait(frame)

    def close(self) -> None:
        self._frames.put_nowait(None)

    def tell(self, frame: pb.Frame) -> None:
        self._host.perform(self._host.broker.received(self._conn, [frame], monotonic()))

    def leave(self) -> None:
        self.tell(pb.Frame(goodbye=pb.Goodbye()))
        self._host.remove_connection(self._conn)

    async def next(self) -> pb.Event | pb.ErrorInfo:
        """The next event, or why there is none."""
        while True:
            try:
                frame = await asyncio.wait_for(self._frames.get(), _HEARTBEAT_S)
            except TimeoutError:
                self.tell(pb.Frame(heartbeat=pb.Heartbeat()))
                continue
            if frame is None or frame.HasField("goodbye"):
                return pb.ErrorInfo(code="unavailable", message="the gateway is stopping")
            if frame.HasField("refused"):
                return pb.ErrorInfo(code=frame.refused.code, message=frame.refused.message)
            if frame.HasField("verdict"):
                return frame.verdict.error
            if frame.HasField("event"):
                return frame.event.error if frame.event.HasField("error") else frame.event


def _acknowledgement(event: pb.Event) -> pb.Frame:
    item = pb.Acknowledged(call_id=event.call_id, attempt=event.attempt, seq=event.seq, ended=event.HasField("result"))
    return pb.Frame(ack=pb.Ack(calls=[item]))


def _submission(request: pb.InvokeRequest) -> pb.Submit:
    kind = request.WhichOneof("arguments")
    payload = pb.Payload(content_type=codec.JSON, data=request.json.encode() if kind == "json" else b"[]")
    if kind == "raw":
        payload = pb.Payload(content_type=codec.RAW, data=request.raw)
    options = pb.Options(accept=codec.JSON, timeout_s=request.timeout_s, node_id=request.node_id)
    return pb.Submit(call_id=secrets.token_bytes(16), function=request.function, arguments=payload, options=options)


async def _reply(event: pb.Event, context: Any) -> pb.InvokeReply:
    payload = event.item if event.HasField("item") else event.result
    if payload.HasField("blob"):
        await context.abort(
            grpc.StatusCode.RESOURCE_EXHAUSTED,
            f"the value has {sum(payload.blob.part_bytes):,} bytes, more than Invoke carries; stream it in pieces",
        )
    if payload.content_type == codec.RAW:
        return pb.InvokeReply(raw=payload.data)
    return pb.InvokeReply(json=payload.data.decode() or "null")


_STATUS = {
    "function_not_found": grpc.StatusCode.NOT_FOUND,
    "bad_arguments": grpc.StatusCode.INVALID_ARGUMENT,
    "usage": grpc.StatusCode.INVALID_ARGUMENT,
    "deadline": grpc.StatusCode.DEADLINE_EXCEEDED,
    "cancelled": grpc.StatusCode.CANCELLED,
    "overloaded": grpc.StatusCode.RESOURCE_EXHAUSTED,
    "auth": grpc.StatusCode.UNAUTHENTICATED,
    "permission": grpc.StatusCode.PERMISSION_DENIED,
    "consent": grpc.StatusCode.PERMISSION_DENIED,
    "remote": grpc.StatusCode.ABORTED,
}
"""The gRPC status of each wire code; any other is UNAVAILABLE."""
