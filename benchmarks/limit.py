"""The limit: relays that do nothing but pass raw bytes, with the same hops as a call (client, gateway, node: three processes).

Kinds: gRPC's one bidirectional stream, with grpc.aio on uvloop, on asyncio, or with gRPC's thread API; and TCP with asyncio on
uvloop, four bytes of length before each message. A message is 100 bytes, an echo travels in pieces of 1 MiB, which go back when
the node has them all, as a function that takes an array has all of it before it runs. Nothing is numbered, acknowledged, batched
or pickled.

`python -m benchmarks.limit gateway|node KIND` is one of the processes; `python -m benchmarks.run --systems relay-tcp` measures.
"""

from __future__ import annotations

import asyncio
import queue
import sys
import threading
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager, suppress
from itertools import chain
from typing import Any, Protocol

import grpc
import grpc.aio

from benchmarks.peers.children import Child
from benchmarks.workloads import MIB, System, timed_calls

KINDS = ("grpc-uvloop", "grpc-asyncio", "grpc-threads", "tcp")

_MESSAGE = b"x" * 100
_PIECE_BYTES = MIB
_BEGIN, _END = b"begin", b"end"
"""Around the pieces of an array."""

_HELD = 64
"""Messages that a relay holds for a slow reader at most."""

_METHOD = "/limit.Relay/Talk"
_OPTIONS = [("grpc.max_receive_message_length", 4 * MIB), ("grpc.max_send_message_length", 4 * MIB)]


class Line(Protocol):
    """One side's stream of messages."""

    async def write(self, message: bytes) -> None: ...

    async def read(self) -> bytes:
        """The next message, empty at the end."""
        ...


class Relay(System):
    """The client's side, as a system to be measured."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._children: list[Child] = []
        self._client: _AsyncClient | _ThreadClient | None = None

    def start(self) -> None:
        gateway, node = (Child.module("benchmarks.limit", role, self._kind) for role in ("gateway", "node"))
        self._children += [gateway, node]
        port = gateway.answer()
        node.tell(port)
        node.answer()
        self._client = _ThreadClient(port) if self._kind == "grpc-threads" else _AsyncClient(self._kind, port)

    def stop(self) -> None:
        if self._client:
            self._client.close()
        for child in reversed(self._children):
            child.stop()

    def version(self) -> str:
        if self._kind == "tcp":
            import uvloop

            return f"uvloop {uvloop.__version__}"
        return f"grpcio {grpc.__version__}"

    def noop(self) -> None:
        self._there_and_back([_MESSAGE])

    def latencies(self, calls: int, within_s: float) -> list[float]:
        assert self._client is not None
        return self._client.latencies(calls, within_s)

    def in_flight(self, calls: int) -> None:
        self._there_and_back([_MESSAGE] * calls)

    def echo(self, array: Any) -> Any:
        import numpy as np

        data = memoryview(array).cast("B")
        pieces = (bytes(data[at : at + _PIECE_BYTES]) for at in range(0, len(data), _PIECE_BYTES))
        back = np.empty_like(array)
        there = memoryview(back).cast("B")
        at = 0

        def take(piece: bytes) -> None:
            nonlocal at
            there[at : at + len(piece)] = piece
            at += len(piece)

        assert self._client is not None
        self._client.exchange(chain((_BEGIN,), pieces, (_END,)), -(-len(data) // _PIECE_BYTES), take)
        return back

    def gateway_pid(self) -> int | None:
        return self._children[0].process.pid

    def _there_and_back(self, messages: list[bytes]) -> None:
        assert self._client is not None
        self._client.exchange(iter(messages), len(messages), lambda message: None)


class _AsyncClient:
    """Over grpc.aio or TCP, on a loop that runs while something is asked of it."""

    def __init__(self, kind: str, port: str) -> None:
        self._loop = _new_loop(kind)
        self._opened = _connect(kind, port, "client")
        self._line = self._loop.run_until_complete(self._opened.__aenter__())

    def close(self) -> None:
        self._loop.run_until_complete(self._opened.__aexit__(None, None, None))
        self._loop.close()

    def latencies(self, calls: int, within_s: float) -> list[float]:
        async def one_after_another() -> list[float]:
            times: list[float] = []
            until = time.perf_counter() + within_s
            while len(times) < calls and (began := time.perf_counter()) < until:
                await self._line.write(_MESSAGE)
                await self._line.read()
                times.append(time.perf_counter() - began)
            return times

        return self._loop.run_until_complete(one_after_another())

    def exchange(self, messages: Iterator[bytes], count: int, take: Callable[[bytes], None]) -> None:
        """Write them all and read as many, at the same time."""

        async def write() -> None:
            for message in messages:
                await self._line.write(message)

        async def both() -> None:
            writer = asyncio.create_task(write())
            for _ in range(count):
                take(await self._line.read())
            await writer

        self._loop.run_until_complete(both())


class _ThreadClient:
    """gRPC's thread API: it reads messages to send from an iterator in a thread of its own."""

    def __init__(self, port: str) -> None:
        self._channel = grpc.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS)
        self._outbox: queue.Queue[bytes | None] = queue.Queue(_HELD)
        self._replies = self._channel.stream_stream(_METHOD)(
            iter(self._outbox.get, None), metadata=(("role", "client"),)
        )

    def close(self) -> None:
        self._outbox.put(None)
        self._channel.close()

    def latencies(self, calls: int, within_s: float) -> list[float]:
        def call() -> None:
            self._outbox.put(_MESSAGE)
            next(self._replies)

        return timed_calls(call, calls, within_s)

    def exchange(self, messages: Iterator[bytes], count: int, take: Callable[[bytes], None]) -> None:
        """Write them all and read as many, at the same time."""

        def write() -> None:
            for message in messages:
                self._outbox.put(message)

        writer = threading.Thread(target=write, daemon=True)
        writer.start()
        for _ in range(count):
            take(next(self._replies))
        writer.join()


class _GrpcLine:
    """A stream of grpc.aio, of either end."""

    def __init__(self, stream: Any) -> None:
        self.write = stream.write
        self._stream = stream

    async def read(self) -> bytes:
        message = await self._stream.read()
        return b"" if message is grpc.aio.EOF else message  # pyright: ignore[reportAttributeAccessIssue]


class _TcpLine:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer

    async def write(self, message: bytes) -> None:
        self._writer.write(len(message).to_bytes(4, "big"))
        self._writer.write(message)
        await self._writer.drain()

    async def read(self) -> bytes:
        try:
            return await self._reader.readexactly(int.from_bytes(await self._reader.readexactly(4), "big"))
        except (asyncio.IncompleteReadError, ConnectionError):
            return b""


@asynccontextmanager
async def _connect(kind: str, port: str, role: str) -> AsyncIterator[Line]:
    """A line to the relay, as its client or its node."""
    if kind == "tcp":
        reader, writer = await asyncio.open_connection("127.0.0.1", int(port), limit=2 * MIB)
        line = _TcpLine(reader, writer)
        await line.write(role.encode())
        yield line
        writer.close()
    else:
        async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS) as channel:
            stream = channel.stream_stream(_METHOD)(metadata=(("role", role),))
            yield _GrpcLine(stream)
            stream.cancel()


class _Gateway:
    """Passes what the client says to the node, and back. It holds _HELD messages for each, then it stops reading."""

    def __init__(self) -> None:
        self._for: dict[str, asyncio.Queue[bytes]] = {"client": asyncio.Queue(_HELD), "node": asyncio.Queue(_HELD)}

    async def talk(self, role: str, line: Line) -> None:
        reader = asyncio.create_task(self._read(line, self._for["node" if role == "client" else "client"]))
        try:
            while True:
                await line.write(await self._for[role].get())
        finally:
            reader.cancel()

    async def _read(self, line: Line, other: asyncio.Queue[bytes]) -> None:
        while message := await line.read():
            await other.put(message)


async def _serve(kind: str) -> None:
    await (_serve_tcp() if kind == "tcp" else _serve_grpc())


async def _serve_grpc() -> None:
    gateway = _Gateway()

    async def talk(_: Any, context: Any) -> None:
        await gateway.talk(dict(context.invocation_metadata())["role"], _GrpcLine(context))

    server = grpc.aio.server(options=_OPTIONS)
    server.add_generic_rpc_handlers((_handler(talk),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(port, flush=True)
    await server.wait_for_termination()


async def _serve_tcp() -> None:
    gateway = _Gateway()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = _TcpLine(reader, writer)
        await gateway.talk((await line.read()).decode(), line)

    server = await asyncio.start_server(talk, "127.0.0.1", 0, limit=2 * MIB)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


async def _answer(kind: str, port: str) -> None:
    """The node: sends back what it gets."""
    array = _Array()
    async with _connect(kind, port, "node") as line:
        print("ready", flush=True)
        while message := await line.read():
            for answer in array.answers(message):
                await line.write(answer)


def _serve_threads() -> None:
    """A relay with gRPC's thread API: a stream's handler yields what the other stream's iterator gave."""
    queues: dict[str, queue.Queue[bytes]] = {"client": queue.Queue(_HELD), "node": queue.Queue(_HELD)}

    def talk(messages: Iterator[bytes], context: Any) -> Iterator[bytes]:
        role = dict(context.invocation_metadata())["role"]
        other = queues["node" if role == "client" else "client"]

        def read() -> None:
            with suppress(grpc.RpcError):  # the other end is gone
                for message in messages:
                    other.put(message)

        threading.Thread(target=read, daemon=True).start()
        while True:
            yield queues[role].get()

    server = grpc.server(ThreadPoolExecutor(8), options=_OPTIONS)
    server.add_generic_rpc_handlers((_handler(talk),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(port, flush=True)
    server.wait_for_termination()


def _answer_threads(port: str) -> None:
    outbox: queue.Queue[bytes] = queue.Queue(_HELD)
    array = _Array()
    with grpc.insecure_channel(f"127.0.0.1:{port}", options=_OPTIONS) as channel:
        messages = channel.stream_stream(_METHOD)(iter(outbox.get, None), metadata=(("role", "node"),))
        print("ready", flush=True)
        for message in messages:
            for answer in array.answers(message):
                outbox.put(answer)


class _Array:
    """Tells a node what it answers: an array's pieces when all are here, anything else at once."""

    def __init__(self) -> None:
        self._pieces: list[bytes] | None = None

    def answers(self, message: bytes) -> list[bytes]:
        if message == _BEGIN:
            self._pieces = []
        elif message == _END and self._pieces is not None:
            pieces, self._pieces = self._pieces, None
            return pieces
        elif self._pieces is not None:
            self._pieces.append(message)
        else:
            return [message]
        return []


def _handler(talk: Callable[..., Awaitable[None] | Iterator[bytes]]) -> Any:
    method = grpc.stream_stream_rpc_method_handler(talk)
    return grpc.method_handlers_generic_handler("limit.Relay", {"Talk": method})


def _new_loop(kind: str) -> asyncio.AbstractEventLoop:
    if kind == "grpc-asyncio":
        return asyncio.new_event_loop()
    import uvloop

    return uvloop.new_event_loop()


def main(role: str, kind: str) -> None:
    port = sys.stdin.readline().strip() if role == "node" else ""
    if kind == "grpc-threads":
        _serve_threads() if role == "gateway" else _answer_threads(port)
        return
    loop = _new_loop(kind)
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_answer(kind, port) if role == "node" else _serve(kind))


if __name__ == "__main__":
    main(*sys.argv[1:])
