"""Ray on this machine: its own processes, two CPUs, no dashboard. `way`: "actor" or "task"."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would report to its makers

import ray

from benchmarks.workloads import System, count, echo, noop


class Functions:
    """What the actor offers."""

    def noop(self) -> None:
        noop()

    def echo(self, value: Any) -> Any:
        return echo(value)

    def count(self, n: int) -> Iterator[int]:
        yield from count(n)


class Ray(System):
    def __init__(self, way: str = "actor") -> None:
        self._is_actor = way == "actor"
        self._noop: Any = None
        self._echo: Any = None
        self._count: Any = None

    def start(self) -> None:
        ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
        if self._is_actor:
            actor = ray.remote(Functions).remote()
            self._noop, self._echo, self._count = actor.noop, actor.echo, actor.count
        else:
            self._noop, self._echo, self._count = (ray.remote(function) for function in (noop, echo, count))

    def stop(self) -> None:
        ray.shutdown()

    def version(self) -> str:
        return ray.__version__

    def noop(self) -> None:
        ray.get(self._noop.remote())

    def in_flight(self, calls: int) -> None:
        ray.get([self._noop.remote() for _ in range(calls)])

    def mapped(self, tasks: int) -> int:
        return len(ray.get([self._echo.remote(i) for i in range(tasks)]))

    def streamed(self, items: int) -> int:
        return sum(1 for item in self._count.options(num_returns="streaming").remote(items) if ray.get(item) >= 0)

    def echo(self, array: Any) -> Any:
        return ray.get(self._echo.remote(array))
