"""`make bench`: EasyRemote beside the bare relay that limits it, on this machine, in one run.

Client, gateway and node are separate processes on loopback. Rounds are interleaved; the table shows medians. A function that was
shipped runs in a worker process behind the node, one that the node's owner registered in the node's own threads: both are shown.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

import grpc
import psutil

from benchmarks import limit
from benchmarks.workloads import WORKLOADS, count, echo, noop
from easyremote import Client, __version__
from easyremote.cluster import LocalCluster

_OUT = Path(__file__).parent.parent / ".build" / "bench"


@contextmanager
def shipped() -> Iterator[Client]:
    """Functions that the client ships: they run in a worker process."""
    with LocalCluster(1) as cluster, cluster.client() as client:
        for function in (noop, echo, count):
            client.node().register(function)
        yield client


@contextmanager
def owned() -> Iterator[Client]:
    """Functions that the node's owner registered: they run in threads of the node's process."""
    with LocalCluster(0) as cluster, cluster.client() as client:
        code = (
            "import sys; from easyremote import ComputeNode; from benchmarks.workloads import count, echo, noop\n"
            "node = ComputeNode(sys.argv[1], 'owner')\n[node.register(f) for f in (noop, echo, count)]\n"
            "node.serve(); print('up', flush=True); sys.stdin.read(); node.stop()"
        )
        environment = {**os.environ, "EASYREMOTE_TOKEN": cluster._token}
        process = subprocess.Popen(
            [sys.executable, "-c", code, cluster.address],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        )
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield client
        finally:
            process.communicate()


def first_result() -> dict[str, float]:
    """From nothing to the first result, cluster start included."""
    began = time.perf_counter()
    with LocalCluster(2) as cluster, cluster.client() as client:
        client.call(noop)
        took = time.perf_counter() - began
        processes = [psutil.Process(pid) for pid in cluster.pids]
        processes += [child for process in processes for child in process.children(recursive=True)]
        memory = sum(process.memory_full_info().uss for process in processes)
    return {"first_result_s": took, "cluster_memory_mb": memory / 1e6}


def measure(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Every figure of every round, by the name of what was measured."""
    found: dict[str, dict[str, list[float]]] = {}

    def note(name: str, figures: dict[str, float]) -> None:
        for key, value in figures.items():
            found.setdefault(name, {}).setdefault(key, []).append(value)

    for _ in range(rounds):
        note("start of a gateway and two nodes", first_result())
        note("bare gRPC relay", limit.measure())
        for title, place in (("worker process", shipped), ("owner's thread", owned)):
            with place() as client:
                client.call("noop")
                for name, workload in WORKLOADS.items():
                    note(f"{name}, {title}", workload(client))
    return found


def table(found: dict[str, dict[str, list[float]]]) -> str:
    lines = ["| what | figure | median | min | max |", "| --- | --- | --- | --- | --- |"]
    for name, figures in found.items():
        for key, values in figures.items():
            lines.append(
                f"| {name} | {key} | {statistics.median(values):,.2f} | {min(values):,.2f} | {max(values):,.2f} |"
            )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure EasyRemote on this machine.")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found = measure(options.rounds)
    machine = {
        "date": date.today().isoformat(),
        "easyremote": __version__,
        "python": platform.python_version(),
        "grpc": grpc.__version__,
        "cpus": os.cpu_count(),
        "machine": platform.machine(),
    }
    print(table(found))
    print("\n" + ", ".join(f"{key} {value}" for key, value in machine.items()))
    _OUT.mkdir(parents=True, exist_ok=True)
    (_OUT / "bench.json").write_text(json.dumps({"machine": machine, "figures": found}, indent=1))


if __name__ == "__main__":
    main()
