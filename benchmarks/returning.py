"""`python -m benchmarks.returning`: how a fleet comes back to a gateway that was killed and started again.

A real gateway process; light nodes in this one, each a real session over a connection of its own.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import socket
import subprocess
import sys
import tempfile
import time
from typing import Any

from benchmarks.scale import LightNode, connect_all
from easyremote.discovery import LOCAL_SOCKET_VARIABLE, Endpoint

_TOKEN = "a token for this benchmark only"
_GATEWAY = (
    "import sys\nfrom easyremote import Server\n"
    f"Server(port=int(sys.argv[1]), token={_TOKEN!r}).start_background()\nprint('up', flush=True)\nsys.stdin.read()\n"
)
_AT_ONCE = 50
_PATIENCE_S = 30.0


def _start(port: int) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", _GATEWAY, str(port)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def _end(process: subprocess.Popen[str]) -> None:
    process.kill()
    process.communicate()


async def measure(nodes: int, outage_s: float) -> list[float]:
    """When each node was taken in again, in seconds from when the gateway listened, in order; those that weren't are missing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    gateway = await asyncio.to_thread(_start, port)
    fleet: list[LightNode] = []
    back: dict[int, float] = {}
    for begin in range(0, nodes, _AT_ONCE):
        some = [
            LightNode(Endpoint(f"127.0.0.1:{port}", _TOKEN, "benchmark"), f"n{number}")
            for number in range(begin, min(begin + _AT_ONCE, nodes))
        ]
        await connect_all(some)
        fleet += some
    for number, node in enumerate(fleet):
        node.link._on_up = _noting(back, number)
    await asyncio.to_thread(_end, gateway)
    await asyncio.sleep(outage_s)
    gateway = await asyncio.to_thread(_start, port)
    began = time.monotonic()
    while len(back) < nodes and time.monotonic() < began + _PATIENCE_S:  # noqa: ASYNC110 - each node would have to tell
        await asyncio.sleep(0.05)
    await asyncio.gather(*(node.link.close() for node in fleet))
    await asyncio.to_thread(_end, gateway)
    return sorted(at - began for at in back.values())


def _noting(back: dict[int, float], number: int) -> Any:
    return lambda: back.setdefault(number, time.monotonic())


def part_back_s(found: list[float], part: float) -> float:
    """When this part of them was back."""
    return found[int(part * len(found)) - 1]


def most_at_once(found: list[float]) -> int:
    """How many came within one second at most."""
    return max(sum(begin <= at < begin + 1.0 for at in found) for begin in found)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nodes", type=int, default=200)
    parser.add_argument("--outages", type=float, nargs="*", default=[0.0, 2.0, 5.0, 15.0])
    arguments = parser.parse_args()
    os.environ["EASYREMOTE_RUNTIME_DIR"] = tempfile.mkdtemp()
    print(f"{'way':8}{'down':>8}{'half back':>12}{'95 % back':>12}{'all back':>12}{'most in 1 s':>14}")
    for way, is_local in (("socket", "1"), ("gRPC", "0")):
        os.environ[LOCAL_SOCKET_VARIABLE] = is_local
        for outage_s in arguments.outages:
            found = asyncio.run(measure(arguments.nodes, outage_s))
            half, most_of, last = (part_back_s(found, part) for part in (0.5, 0.95, 1.0))
            print(
                f"{way:8}{outage_s:6.0f} s{half:10.2f} s{most_of:10.2f} s{last:10.2f} s{most_at_once(found):14d}",
                flush=True,
            )


if __name__ == "__main__":
    main()
