"""The limit: a bare grpc.aio relay of 100 raw bytes with the same hops (client, gateway, node: three processes), nothing else.

python -m benchmarks.limit [calls]
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from typing import Any

import grpc
import grpc.aio

from easyremote.transport.loop import new_event_loop
from easyremote.transport.options import CHANNEL_OPTIONS, SERVER_OPTIONS

_METHOD = "/limit.Relay/Talk"


async def gateway() -> None:
    """Passes what the client says to the node, and back."""
    queues: dict[str, asyncio.Queue[bytes]] = {"client": asyncio.Queue(), "node": asyncio.Queue()}

    async def talk(_: Any, context: Any) -> None:
        role = dict(context.invocation_metadata())["role"]
        other = queues["node" if role == "client" else "client"]

        async def read() -> None:
            while (message := await context.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
                other.put_nowait(message)

        reader = asyncio.create_task(read())
        try:
            while True:
                await context.write(await queues[role].get())
        finally:
            reader.cancel()

    server = grpc.aio.server(options=SERVER_OPTIONS)
    handler = grpc.stream_stream_rpc_method_handler(talk)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("limit.Relay", {"Talk": handler}),))
    print(server.add_insecure_port("127.0.0.1:0"), flush=True)
    await server.start()
    await server.wait_for_termination()


async def node(port: str) -> None:
    """Sends back what it gets."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as channel:
        call = channel.stream_stream(_METHOD)(metadata=(("role", "node"),))
        print("ready", flush=True)
        while (message := await call.read()) is not grpc.aio.EOF:  # type: ignore[attr-defined]
            await call.write(message)


async def client(port: str, calls: int) -> dict[str, float]:
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as channel:
        call = channel.stream_stream(_METHOD)(metadata=(("role", "client"),))
        times = []
        for _ in range(calls):
            began = time.perf_counter()
            await call.write(b"x" * 100)
            await call.read()
            times.append((time.perf_counter() - began) * 1000)
        call.cancel()
    times.sort()
    return {"p50_ms": times[len(times) // 2], "p99_ms": times[int(len(times) * 0.99)]}


def _spawn(*arguments: str) -> tuple[subprocess.Popen[str], str]:
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.limit", *arguments], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def measure(calls: int = 1000) -> dict[str, float]:
    """Latency of the bare relay: p50 and p99 in milliseconds."""
    relay, port = _spawn("gateway")
    far, _ = _spawn("node", port)
    try:
        return json.loads(
            subprocess.check_output([sys.executable, "-m", "benchmarks.limit", "client", port, str(calls)])
        )
    finally:
        for process in (far, relay):
            process.kill()
            process.communicate()


def main(arguments: list[str]) -> None:
    if not arguments or arguments[0].isdigit():
        print(json.dumps(measure(int(arguments[0]) if arguments else 1000)))
        return
    role, *rest = arguments
    loop = new_event_loop()
    if role == "client":
        print(json.dumps(loop.run_until_complete(client(rest[0], int(rest[1])))))
    else:
        loop.run_until_complete(gateway() if role == "gateway" else node(rest[0]))


if __name__ == "__main__":
    main(sys.argv[1:])
