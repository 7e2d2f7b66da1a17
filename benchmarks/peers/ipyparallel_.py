"""ipyparallel: controller and one engine. `way`: "direct" (a map is one chunk for an engine) or "balanced"."""

from __future__ import annotations

from typing import Any

import ipyparallel

from benchmarks.workloads import System, echo, noop


class Ipyparallel(System):
    def __init__(self, way: str = "direct") -> None:
        self._is_direct = way == "direct"
        self._cluster: Any = None
        self._client: Any = None
        self._view: Any = None

    def start(self) -> None:
        self._cluster = ipyparallel.Cluster(n=1, log_level=40)
        self._client = self._cluster.start_and_connect_sync()
        self._view = self._client[0] if self._is_direct else self._client.load_balanced_view()

    def stop(self) -> None:
        if self._client:
            self._client.close()
        if self._cluster:
            self._cluster.stop_cluster_sync()

    def version(self) -> str:
        return ipyparallel.__version__

    def noop(self) -> None:
        self._view.apply_sync(noop)

    def in_flight(self, calls: int) -> None:
        for result in [self._view.apply_async(noop) for _ in range(calls)]:
            result.get()

    def mapped(self, tasks: int) -> int:
        return len(self._view.map_sync(echo, range(tasks)))

    def echo(self, array: Any) -> Any:
        return self._view.apply_sync(echo, array)
