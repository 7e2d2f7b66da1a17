"""`make bench-scale`: what many nodes and many clients cost the gateway.

A real gateway process; light nodes and clients in few processes, each a real session over a connection of its own. A light node
answers an attempt at once, on its loop; a light client keeps a number of calls open. So what is measured is the way through
the gateway, and not the running of functions.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import platform
import resource
import secrets
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

import psutil

from benchmarks.workloads import noop
from easyremote import Client, __version__
from easyremote.cluster import LocalCluster
from easyremote.config import WindowSettings
from easyremote.core import client_session, node_session
from easyremote.discovery import LOCAL_SOCKET_VARIABLE, TOKEN_VARIABLE, Endpoint
from easyremote.execution.measure import measure
from easyremote.runtime import this_runtime
from easyremote.serving import LOAD_EVERY_S
from easyremote.transport.link import Link
from easyremote.transport.loop import new_event_loop
from easyremote.wire.v1 import gateway_pb2 as pb

_OUT = Path(__file__).parent.parent / ".build" / "bench"
_ARGUMENTS = b"\x80\x05)}\x86."
"""What a call without arguments carries."""

_RUNS_S = 20e-6
"""How long a light node says that a call took: the loop's clock knows milliseconds only."""

_SLOTS = 4
_CONNECTING_AT_ONCE = 50
_FEW_NODES = 4
_AT_ONCE = 1000  # calls of the real client


# ---- light nodes and clients -----------------------------------------------------------------------------------------


class LightNode:
    """Answers each attempt at once."""

    def __init__(self, endpoint: Endpoint, name: str) -> None:
        state = pb.NodeState(node_id=name, slots=_SLOTS)
        self.core = node_session.NodeSession(secrets.token_bytes(16), this_runtime(), state, WindowSettings())
        self.core.offer([pb.FunctionSpec(name="noop", load_balancing=True, kind=pb.FUNCTION_KIND_FUNCTION)])
        self.link = Link(self.core, endpoint, self._perform)

    def _perform(self, effects: list[Any]) -> None:
        for effect in effects:  # emitting may start the next, so its effects join the list
            if isinstance(effect, node_session.Start):
                event = pb.Event(result=pb.Payload(data=b"\x80\x05N."))
                now = (effect.attempt.started_at or 0.0) + _RUNS_S
                effects += self.core.emit(effect.attempt, event, 4, now)
        self.link.flush()

    async def report(self) -> None:
        """As a node does."""
        await asyncio.sleep(secrets.randbelow(1000) / 1000 * LOAD_EVERY_S)
        while True:
            self.core.report(_LOAD)
            self.link.flush()
            await asyncio.sleep(LOAD_EVERY_S)


class LightClient:
    """Keeps `in_flight` calls open until `calls` have ended."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._loop = asyncio.get_running_loop()
        self.core = client_session.ClientSession(secrets.token_bytes(16), this_runtime())
        self.link = Link(self.core, endpoint, self._perform)
        self._to_begin = self._to_end = 0
        self._done: asyncio.Future[None] = self._loop.create_future()

    async def work(self, calls: int, in_flight: int) -> None:
        self._to_begin = self._to_end = calls
        self._done = self._loop.create_future()
        for _ in range(min(in_flight, calls)):
            self._submit()
        self.link.flush()
        await self._done

    def _submit(self) -> None:
        self._to_begin -= 1
        submit = pb.Submit(call_id=os.urandom(16), function="noop", arguments=pb.Payload(data=_ARGUMENTS))
        self.core.submit(submit, self._loop.time())

    def _perform(self, effects: list[Any]) -> None:
        for effect in effects:
            if isinstance(effect, client_session.Judged):
                raise SystemExit(f"a call failed: {effect.error.message}")
            if isinstance(effect, client_session.Deliver):
                event = effect.event
                if not event.HasField("result"):
                    continue
                self.core.taken(effect.call_id, event.attempt, event.seq, 4)
                self._ended()
        self.core.flush_acks()
        self.link.flush()

    def _ended(self) -> None:
        self._to_end -= 1
        if self._to_begin:
            self._submit()
        elif not self._to_end:
            self._done.set_result(None)


_LOAD = measure()


async def connect_all(peers: list[Any]) -> None:
    for start in range(0, len(peers), _CONNECTING_AT_ONCE):
        await asyncio.gather(*(peer.link.connected(30.0) for peer in peers[start : start + _CONNECTING_AT_ONCE]))


async def be_nodes(endpoint: Endpoint, first: int, count: int) -> None:
    """Say that they are connected, and live until standard input closes."""
    nodes = []
    for start in range(0, count, _CONNECTING_AT_ONCE):
        some = [
            LightNode(endpoint, f"light-{first + number}")
            for number in range(start, min(start + _CONNECTING_AT_ONCE, count))
        ]
        await connect_all(some)
        nodes += some
    reports = [asyncio.create_task(node.report()) for node in nodes]
    print("connected", flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    for task in reports:
        task.cancel()
    await asyncio.gather(*(node.link.close() for node in nodes))


async def be_clients(endpoint: Endpoint, count: int) -> None:
    """For each line on standard input, `CALLS IN_FLIGHT` of all together, do them and print the calls per second."""
    clients = [LightClient(endpoint) for _ in range(count)]
    await connect_all(clients)
    print("connected", flush=True)
    read = asyncio.get_running_loop().run_in_executor
    while line := await read(None, sys.stdin.readline):
        calls, in_flight = map(int, line.split())
        began = time.perf_counter()
        await asyncio.gather(*(client.work(calls // count, max(in_flight // count, 1)) for client in clients))
        print(json.dumps(calls // count * count / (time.perf_counter() - began)), flush=True)
    await asyncio.gather(*(client.link.close() for client in clients))


def be_caller(address: str) -> None:
    """A real client: for each line on standard input so many calls, their handles dropped as they end; prints a line then."""
    with Client(address, token=os.environ[TOKEN_VARIABLE]) as client:
        client.node().register(noop)
        print("connected", flush=True)
        for line in sys.stdin:
            left = int(line)
            while left:
                calls = [client.submit("noop") for _ in range(min(left, _AT_ONCE))]
                left -= len(calls)
                for call in calls:
                    call.result()
            print("done", flush=True)


# ---- processes -------------------------------------------------------------------------------------------------------


class Peers:
    """A process with light peers."""

    def __init__(self, cluster: LocalCluster, role: str, *arguments: int) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.scale", role, cluster.address, *map(str, arguments)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, TOKEN_VARIABLE: cluster._token},
            text=True,
        )

    def answer(self) -> str:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("a process of light peers died")
        return line.strip()

    def ask(self, line: str) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.answer()

    def close(self) -> None:
        self.process.communicate()


@contextlib.contextmanager
def nodes_of(cluster: LocalCluster, count: int, processes: int) -> Iterator[None]:
    """So many light nodes, in at most so many processes."""
    processes = min(processes, count)
    bounds = [count * index // processes for index in range(processes + 1)]
    peers = [Peers(cluster, "nodes", first, after - first) for first, after in itertools.pairwise(bounds)]
    try:
        for process in peers:
            process.answer()
        yield
    finally:
        for process in peers:
            process.close()


# ---- figures ---------------------------------------------------------------------------------------------------------


@dataclass
class Row:
    """One size. CPU is the gateway's, in percent of one core; memory its resident size while idle."""

    nodes: int
    clients: int
    calls_per_s: float
    busy_cpu_percent: float
    cpu_us_per_call: float
    idle_cpu_percent: float
    memory_mb: float


def cpu_s(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


def measure_size(nodes: int, clients: int, options: argparse.Namespace) -> Row:
    with LocalCluster(0) as cluster, nodes_of(cluster, nodes, options.processes):
        gateway = psutil.Process(cluster.pids[0])
        client = Peers(cluster, "clients", clients)
        try:
            client.answer()
            work = f"{options.calls} {options.in_flight}"
            client.ask(f"{options.calls // 5} {options.in_flight}")  # connections and durations are known then
            rates, busy, per_call = [], [], []
            for _ in range(options.rounds):
                began, used = time.perf_counter(), cpu_s(gateway)
                rates.append(float(client.ask(work)))
                used = cpu_s(gateway) - used
                busy.append(used / (time.perf_counter() - began) * 100)
                per_call.append(used / options.calls * 1e6)
            time.sleep(1.0)  # what is left of the work
            used = cpu_s(gateway)
            time.sleep(options.idle_s)
            idle = (cpu_s(gateway) - used) / options.idle_s * 100
            memory = gateway.memory_info().rss / 1e6
        finally:
            client.close()
    median = statistics.median
    return Row(nodes, clients, median(rates), median(busy), median(per_call), idle, memory)


def measure_memory(calls: int) -> list[dict[str, float]]:
    """Resident memory of a client, the gateway and a node on the way to so many calls, in megabytes. All three are real."""
    found = []
    with LocalCluster(1) as cluster:
        client = Peers(cluster, "caller")
        client.answer()
        pids = {"client": client.process.pid, "gateway": cluster.pids[0], "node": cluster.pids[1]}
        done = 0
        for part in (0.1, 0.5, 1.0):
            client.ask(str(int(calls * part) - done))
            done = int(calls * part)
            found.append(
                {"calls": done} | {name: psutil.Process(pid).memory_info().rss / 1e6 for name, pid in pids.items()}
            )
        client.close()
    return found


def table(rows: list[Row]) -> str:
    lines = [
        "| nodes | clients | calls/s | gateway busy | gateway per call | gateway idle | gateway memory |",
        "| ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {row.nodes:,} | {row.clients} | {row.calls_per_s:,.0f} | {row.busy_cpu_percent:.0f} % | "
        f"{row.cpu_us_per_call:.0f} µs | {row.idle_cpu_percent:.1f} % | {row.memory_mb:.0f} MB |"
        for row in rows
    ]
    return "\n".join(lines)


def memory_table(found: list[dict[str, float]]) -> str:
    lines = ["| calls | client | gateway | node |", "| ---: | ---: | ---: | ---: |"]
    lines += [
        f"| {row['calls']:,} | {row['client']:.1f} MB | {row['gateway']:.1f} MB | {row['node']:.1f} MB |"
        for row in found
    ]
    return "\n".join(lines)


def _sizes(text: str) -> list[int]:
    return [int(size) for size in text.split(",") if size]


def _parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure the gateway with many nodes and many clients.")
    parser.add_argument("--nodes", type=_sizes, default=[1, 10, 100, 1000], help="with one client; 1,10,100,1000")
    parser.add_argument("--clients", type=_sizes, default=[10, 100], help=f"with {_FEW_NODES} nodes; 10,100")
    parser.add_argument("--calls", type=int, default=20_000, help="of one round")
    parser.add_argument("--in-flight", type=int, default=1000, help="open at once, of all clients together")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--idle-s", type=float, default=6.0, help="how long the idle gateway is watched")
    parser.add_argument("--processes", type=int, default=2, help="that the light nodes are in")
    parser.add_argument("--memory", type=int, metavar="CALLS", help="only the memory on the way to so many calls")
    parser.add_argument("--grpc", action="store_true", help="over gRPC, as between machines, and not the local socket")
    return parser.parse_args()


def main() -> None:
    options = _parse()
    if options.grpc:
        os.environ[LOCAL_SOCKET_VARIABLE] = "0"
    _OUT.mkdir(parents=True, exist_ok=True)
    if options.memory:
        found: list[Any] = measure_memory(options.memory)
        text, name = memory_table(found), "memory"
    else:
        sizes = [(nodes, 1) for nodes in options.nodes] + [(_FEW_NODES, clients) for clients in options.clients]
        rows = [measure_size(nodes, clients, options) for nodes, clients in sizes]
        found, text, name = [asdict(row) for row in rows], table(rows), "scale"
    machine = {
        "date": date.today().isoformat(),
        "easyremote": __version__,
        "python": platform.python_version(),
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
        "over": "gRPC" if options.grpc else "the local socket",
    }
    text += "\n\n" + ", ".join(f"{key} {value}" for key, value in machine.items())
    print(text)
    (_OUT / f"{name}.md").write_text(text + "\n")
    (_OUT / f"{name}.json").write_text(
        json.dumps({"machine": machine, "options": vars(options), "rows": found}, indent=1)
    )


def _be_peers(role: str, address: str, *numbers: str) -> None:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(65536, hard), hard))
    endpoint = Endpoint(address, os.environ[TOKEN_VARIABLE], "the benchmark")
    if role == "caller":
        be_caller(address)
        return
    be = be_nodes if role == "nodes" else be_clients
    new_event_loop().run_until_complete(be(endpoint, *map(int, numbers)))


if __name__ == "__main__":
    if sys.argv[1:2] in (["nodes"], ["clients"], ["caller"]):
        _be_peers(*sys.argv[1:])
    else:
        main()
