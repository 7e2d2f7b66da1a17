"""Dask's LocalCluster: the scheduler in this process, one worker process with four threads, no dashboard.

`way`: "task" or "actor".
"""

from __future__ import annotations

from typing import Any

import distributed

from benchmarks.workloads import System, echo, noop


class Functions:
    """What the actor offers."""

    def noop(self) -> None:
        noop()


class Dask(System):
    def __init__(self, way: str = "task") -> None:
        self._is_actor = way == "actor"
        self._cluster: Any = None
        self._client: Any = None
        self._actor: Any = None

    def start(self) -> None:
        self._cluster = distributed.LocalCluster(
            n_workers=1, threads_per_worker=4, processes=True, dashboard_address=None
        )
        self._client = distributed.Client(self._cluster)
        if self._is_actor:
            self._actor = self._client.submit(Functions, actor=True).result()

    def stop(self) -> None:
        if self._client:
            self._client.close()
        if self._cluster:
            self._cluster.close()

    def version(self) -> str:
        return distributed.__version__

    def noop(self) -> None:
        if self._is_actor:
            self._actor.noop().result()
        else:
            self._client.submit(noop, pure=False).result()

    def in_flight(self, calls: int) -> None:
        if self._is_actor:
            for future in [self._actor.noop() for _ in range(calls)]:
                future.result()
        else:
            self._client.gather([self._client.submit(noop, pure=False) for _ in range(calls)])

    def mapped(self, tasks: int) -> int:
        return len(self._client.gather(self._client.map(echo, range(tasks), pure=False)))

    def echo(self, array: Any) -> Any:
        return self._client.submit(echo, array, pure=False).result()
