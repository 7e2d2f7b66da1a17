"""What is measured, for every system alike. Nothing here imports a system, so that it runs in any of their environments.

A `System` is one way to call Python functions in another process; it offers `noop`, `echo` and `count` there. A workload takes a
started system and gives figures by name; their units are in the names.
"""

from __future__ import annotations

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from typing import Any

MIB = 1024 * 1024

NOOPS = 1000
"""No-op calls, one after another, of which p50 and p99 are taken; fewer when they take longer than NOOPS_WITHIN_S."""

NOOPS_WITHIN_S = 5.0
WARM_UP_CALLS = 50
IN_FLIGHT = 2000
TASKS = 10_000
ITEMS = 20_000
SLOW_MB_PER_S = 20
"""An echo that is slower isn't made a second time: what is there by then doesn't matter to it."""


def noop() -> None:
    """What a call costs by itself."""


def echo(value: Any) -> Any:
    return value


def count(n: int) -> Iterator[int]:
    for i in range(n):  # noqa: UP028  # Ray sends into what `yield from` delegates to, and a range takes nothing
        yield i


class Unable(Exception):
    """The system can't do that; the message is what stands in the table's cell."""


class System(ABC):
    """One system as its users deploy it: this process is the client.

    `__init__` only stores; `start` returns when a call can be made, and makes none. A system that hasn't a workload raises
    Unable.
    """

    @abstractmethod
    def start(self) -> None:
        """Start everything: gateway or scheduler, worker, and connect."""

    @abstractmethod
    def stop(self) -> None:
        """End everything that `start` began, also when that failed half-way."""

    @abstractmethod
    def version(self) -> str:
        """Version of what is measured."""

    @abstractmethod
    def noop(self) -> None:
        """One call of `noop`, waited for."""

    def latencies(self, calls: int, within_s: float) -> list[float]:
        """Seconds that each of so many no-op calls took, one after another; fewer calls when the time is over."""
        return timed_calls(self.noop, calls, within_s)

    def in_flight(self, calls: int) -> None:
        """So many no-op calls, all open at once, all waited for."""
        raise Unable("no calls in flight")

    def mapped(self, tasks: int) -> int:
        """`echo` of so many integers by whatever the system has for it. Returns how many results came."""
        raise Unable("no map")

    def streamed(self, items: int) -> int:
        """Items of `count`, taken one by one. Returns how many came."""
        raise Unable("no generators")

    def echo(self, array: Any) -> Any:
        """An array there and back."""
        raise Unable("no arrays")

    def gateway_pid(self) -> int | None:
        """The process that relays, where the system has one that is worth watching."""
        return None

    def begin_transfer(self, size: int) -> Callable[[], bool]:
        """Let another client echo an array of `size` bytes; returns what tells whether that is still under way."""
        raise Unable("not measured")


def timed_calls(call: Callable[[], Any], calls: int, within_s: float) -> list[float]:
    """Seconds that each call took, one after another; fewer calls when `within_s` is over."""
    clock = time.perf_counter
    times = []
    until = clock() + within_s
    while len(times) < calls and (began := clock()) < until:
        call()
        times.append(clock() - began)
    return times


def percentile_ms(times: list[float], share: float) -> float:
    return sorted(times)[min(int(len(times) * share), len(times) - 1)] * 1000


def latency(system: System) -> dict[str, float]:
    """No-op calls one after another."""
    system.latencies(WARM_UP_CALLS, NOOPS_WITHIN_S / 5)
    times = system.latencies(NOOPS, NOOPS_WITHIN_S)
    return {"latency_p50_ms": percentile_ms(times, 0.5), "latency_p99_ms": percentile_ms(times, 0.99)}


def in_flight(system: System) -> dict[str, float]:
    """No-op calls that are all open at once."""
    began = time.perf_counter()
    system.in_flight(IN_FLIGHT)
    return {"in_flight_per_s": IN_FLIGHT / (time.perf_counter() - began)}


def mapped(system: System) -> dict[str, float]:
    """A map of tiny tasks."""
    began = time.perf_counter()
    done = system.mapped(TASKS)
    took = time.perf_counter() - began
    _expect("results", done, TASKS)
    return {"map_per_s": TASKS / took}


def streamed(system: System) -> dict[str, float]:
    """One generator's small items."""
    began = time.perf_counter()
    done = system.streamed(ITEMS)
    took = time.perf_counter() - began
    _expect("items", done, ITEMS)
    return {"stream_per_s": ITEMS / took}


def echoed_64_mib(system: System) -> dict[str, float]:
    """64 MiB there and back: the first time, when the worker has yet to import numpy and nobody has memory for that size, and at
    once again."""
    first = _echoed(system, 64 * MIB)
    again = _echoed(system, 64 * MIB) if first > SLOW_MB_PER_S else first
    return {"echo_64_mib_first_mb_per_s": first, "echo_64_mib_mb_per_s": again}


def echoed_1_gib(system: System) -> dict[str, float]:
    """1 GiB there and back, and what the gateway's memory grew by at most meanwhile."""
    gateway = system.gateway_pid()
    before = _start_watching(gateway) if gateway else 0
    figures = {"echo_1_gib_mb_per_s": _echoed(system, 1024 * MIB)}
    if gateway:
        figures["gateway_extra_mb"] = (_status_bytes(gateway, "VmHWM") - before) / 1e6
    return figures


def busy(system: System) -> dict[str, float]:
    """No-op calls while another client of the same system echoes 1 GiB, and before that, at rest."""
    system.latencies(WARM_UP_CALLS, NOOPS_WITHIN_S / 5)
    rest = system.latencies(NOOPS, NOOPS_WITHIN_S)
    is_under_way = system.begin_transfer(1024 * MIB)
    times = []
    while is_under_way():
        times += system.latencies(10, NOOPS_WITHIN_S)
    return {
        "busy_p50_ms": percentile_ms(times, 0.5),
        "busy_p99_ms": percentile_ms(times, 0.99),
        "rest_p99_ms": percentile_ms(rest, 0.99),
    }


WORKLOADS: dict[str, Callable[[System], dict[str, float]]] = {
    "latency": latency,
    "in_flight": in_flight,
    "map": mapped,
    "stream": streamed,
    "echo": echoed_64_mib,
    "big_echo": echoed_1_gib,
    "busy": busy,
}
"""In the order in which they run. `big_echo` and `busy` move 1 GiB each."""


def random_array(size: int) -> Any:
    """`size` bytes that can't be compressed: some systems compress, and zeros or ones would flatter them."""
    import numpy as np

    return np.random.default_rng(1).random(size // 8)


def _echoed(system: System, size: int) -> float:
    """Megabytes per second, both ways counted."""
    array = random_array(size)
    began = time.perf_counter()
    back = system.echo(array)
    took = time.perf_counter() - began
    if back is array or back.nbytes != array.nbytes or back[0] != array[0] or back[-1] != array[-1]:
        raise AssertionError("another array came back")
    return 2 * size / 1e6 / took


def _expect(what: str, found: int, wanted: int) -> None:
    if found != wanted:
        raise AssertionError(f"{found} of {wanted} {what}")


def _start_watching(pid: int) -> int:
    """The process's memory now, in bytes; its peak counts from here. Linux only, as is the peak."""
    with open(f"/proc/{pid}/clear_refs", "w") as file:
        file.write("5")
    return _status_bytes(pid, "VmRSS")


def _status_bytes(pid: int, field: str) -> int:
    with open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith(field + ":"):
                return int(line.split()[1]) * 1024
    raise AssertionError(f"/proc/{pid}/status has no {field}")
