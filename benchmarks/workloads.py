"""What is measured. Each workload takes a connected client with a node that offers `noop`, `echo` and `count`."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import numpy as np

from easyremote import Client

MIB = 1024 * 1024


def noop() -> None:
    pass


def echo(value: Any) -> Any:
    return value


def count(n: int) -> Any:
    yield from range(n)


def latency(client: Client, calls: int = 1000) -> dict[str, float]:
    """No-op calls one after another: p50 and p99 in milliseconds."""
    times = []
    for _ in range(calls):
        began = time.perf_counter()
        client.call("noop")
        times.append((time.perf_counter() - began) * 1000)
    times.sort()
    return {"p50_ms": times[len(times) // 2], "p99_ms": times[int(len(times) * 0.99)]}


def in_flight(client: Client, calls: int = 2000) -> dict[str, float]:
    """No-op calls that are all open at once: calls per second."""
    began = time.perf_counter()
    for call in [client.submit("noop") for _ in range(calls)]:
        call.result()
    return {"calls_per_s": calls / (time.perf_counter() - began)}


def mapped(client: Client, tasks: int = 10_000) -> dict[str, float]:
    """A map of tiny tasks: tasks per second."""
    began = time.perf_counter()
    done = sum(1 for _ in client.map("echo", range(tasks)))
    return {"tasks_per_s": done / (time.perf_counter() - began)}


def streamed(client: Client, items: int = 20_000) -> dict[str, float]:
    """One generator's small items: items per second."""
    began = time.perf_counter()
    done = sum(1 for _ in client.stream("count", items))
    return {"items_per_s": done / (time.perf_counter() - began)}


def echoed(client: Client, size: int = 64 * MIB) -> dict[str, float]:
    """An array there and back: megabytes per second, both ways counted."""
    array = np.ones(size // 8)
    began = time.perf_counter()
    client.call("echo", array)
    return {"mb_per_s": 2 * size / 1e6 / (time.perf_counter() - began)}


WORKLOADS: dict[str, Callable[[Client], dict[str, float]]] = {
    "no-op, one after another": latency,
    "2,000 no-ops in flight": in_flight,
    "map of 10,000 tasks": mapped,
    "stream of 20,000 items": streamed,
    "echo of 64 MiB": echoed,
}
