"""nats-server (a broker in Go) with nats-py: this client asks, a worker in Python subscribes and replies. Values are pickled.

nats moves messages, not calls; what a caller and a worker need is here in its plainest form: a subject for each function, an
inbox for a generator's items with an empty message as its end, and pieces of 512 KiB, 8 under way at once, for what is above the
server's limit of a message (1 MiB).
"""

from __future__ import annotations

import asyncio
import os
import pickle
import sys
import time
from collections.abc import Coroutine
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks.peers.children import Child, free_port, wait_for_port
from benchmarks.workloads import System, count, echo, noop

T = TypeVar("T")

_PIECE_BYTES = 512 * 1024
_PIECES_UNDER_WAY = 8
_WINDOW = 2000
"""Requests of a map that are open at once."""

_TIMEOUT_S = 60.0


class Nats(System):
    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._children: list[Child] = []
        self._nats: Any = None

    def start(self) -> None:
        port = free_port()
        server = Path(sys.executable).with_name("nats-server")
        self._children.append(Child(str(server), "--addr", "127.0.0.1", "--port", str(port), "--log", os.devnull))
        address = f"nats://127.0.0.1:{port}"
        worker = Child.module("benchmarks.peers.nats_", address)  # it imports while the server starts
        self._children.append(worker)
        wait_for_port(port)
        worker.tell("go")
        self._nats = self._run(nats.connect(address))
        worker.answer()

    def stop(self) -> None:
        if self._nats:
            self._run(self._nats.close())
        for child in reversed(self._children):
            child.stop()
        self._loop.close()

    def version(self) -> str:
        server = self._nats.connected_server_version
        return f"{version('nats-py')}, server {server.major}.{server.minor}.{server.patch}"

    def noop(self) -> None:
        self._run(self._call("noop"))

    def latencies(self, calls: int, within_s: float) -> list[float]:
        async def one_after_another() -> list[float]:
            times: list[float] = []
            until = time.perf_counter() + within_s
            while len(times) < calls and (began := time.perf_counter()) < until:
                await self._call("noop")
                times.append(time.perf_counter() - began)
            return times

        return self._run(one_after_another())

    def in_flight(self, calls: int) -> None:
        async def all_at_once() -> None:
            await asyncio.gather(*(self._call("noop") for _ in range(calls)))

        self._run(all_at_once())

    def mapped(self, tasks: int) -> int:
        async def in_windows() -> int:
            done = 0
            for start in range(0, tasks, _WINDOW):
                window = range(start, min(start + _WINDOW, tasks))
                done += len(await asyncio.gather(*(self._call("echo", i) for i in window)))
            return done

        return self._run(in_windows())

    def streamed(self, items: int) -> int:
        async def until_the_end() -> int:
            inbox = self._nats.new_inbox()
            subscription = await self._nats.subscribe(inbox)
            await self._nats.publish("count", pickle.dumps((items,)), reply=inbox)
            taken = 0
            async for message in subscription.messages:
                if not message.data:
                    break
                pickle.loads(message.data)
                taken += 1
            await subscription.unsubscribe()
            return taken

        return self._run(until_the_end())

    def echo(self, array: Any) -> Any:
        return self._run(self._echo(array))

    async def _echo(self, array: Any) -> Any:
        data = memoryview(pickle.dumps(array, protocol=5))
        pieces = range(0, len(data), _PIECE_BYTES)
        limit = asyncio.Semaphore(_PIECES_UNDER_WAY)

        async def ask(subject: str, body: bytes) -> bytes:
            async with limit:
                return (await self._nats.request(subject, body, timeout=_TIMEOUT_S)).data

        def put(at: int) -> Coroutine[Any, Any, bytes]:
            return ask("put", at.to_bytes(8, "big") + data[at : at + _PIECE_BYTES])

        await ask("begin", len(data).to_bytes(8, "big"))
        await asyncio.gather(*(put(at) for at in pieces))
        size = int.from_bytes(await ask("echo-big", b""), "big")
        back = await asyncio.gather(*(ask("get", at.to_bytes(8, "big")) for at in range(0, size, _PIECE_BYTES)))
        return pickle.loads(b"".join(back))

    async def _call(self, function: str, *args: Any) -> Any:
        reply = await self._nats.request(function, pickle.dumps(args), timeout=_TIMEOUT_S)
        return pickle.loads(reply.data)

    def _run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)


class Worker:
    """Answers calls; keeps the one large value that is being passed in pieces."""

    def __init__(self, connection: Client) -> None:
        self._nats = connection
        self._large: Any = b""

    async def subscribe(self) -> None:
        for function in (noop, echo):
            await self._nats.subscribe(function.__name__, cb=_answering(function))
        for name in ("count", "begin", "put", "get"):
            await self._nats.subscribe(name, cb=getattr(self, name))
        await self._nats.subscribe("echo-big", cb=self.echo_big)
        await self._nats.flush()

    async def count(self, message: Msg) -> None:
        for item in count(*pickle.loads(message.data)):
            await self._nats.publish(message.reply, pickle.dumps(item))
        await self._nats.publish(message.reply, b"")

    async def begin(self, message: Msg) -> None:
        self._large = bytearray(int.from_bytes(message.data, "big"))
        await message.respond(b"")

    async def put(self, message: Msg) -> None:
        at = int.from_bytes(message.data[:8], "big")
        self._large[at : at + len(message.data) - 8] = memoryview(message.data)[8:]
        await message.respond(b"")

    async def echo_big(self, message: Msg) -> None:
        self._large = pickle.dumps(echo(pickle.loads(self._large)), protocol=5)
        await message.respond(len(self._large).to_bytes(8, "big"))

    async def get(self, message: Msg) -> None:
        at = int.from_bytes(message.data, "big")
        await message.respond(self._large[at : at + _PIECE_BYTES])


def _answering(function: Any) -> Any:
    async def answer(message: Msg) -> None:
        await message.respond(pickle.dumps(function(*pickle.loads(message.data))))

    return answer


async def serve(address: str) -> None:
    sys.stdin.readline()
    connection = await nats.connect(address)
    await Worker(connection).subscribe()
    print("ready", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await connection.close()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1]))
