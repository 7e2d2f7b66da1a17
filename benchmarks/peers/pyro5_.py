"""Pyro5: a daemon process, no gateway. Arrays travel as their bytes.

`way`: "batch" (many calls in one message, the quickest that Pyro5 has) or "threads" (16, each with a connection of its own).
`serializer`: "serpent" is Pyro5's default, text that is parsed by Python's own parser; "msgpack" is quicker.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from threading import local
from typing import Any

import Pyro5.api
import serpent

from benchmarks.peers.children import Child
from benchmarks.workloads import System, count, echo, noop

_THREADS = 16

Pyro5.api.config.MAX_MESSAGE_SIZE = 2**31 - 1
Pyro5.api.config.THREADPOOL_SIZE = 2 * _THREADS


class Daemon(System):
    def __init__(self, way: str = "batch", serializer: str = "serpent") -> None:
        Pyro5.api.config.SERIALIZER = serializer
        self._is_batched = way == "batch"
        self._address = ""
        self._server: Child | None = None
        self._proxy: Any = None
        self._thread = local()

    def start(self) -> None:
        self._server = Child.module("benchmarks.peers.pyro5_")
        self._address = self._server.answer()
        self._proxy = Pyro5.api.Proxy(self._address)

    def stop(self) -> None:
        if self._proxy:
            self._proxy._pyroRelease()
        if self._server:
            self._server.stop()

    def version(self) -> str:
        return version("Pyro5")

    def noop(self) -> None:
        self._proxy.noop()

    def in_flight(self, calls: int) -> None:
        if self._is_batched:
            batch = Pyro5.api.BatchProxy(self._proxy)
            for _ in range(calls):
                batch.noop()
            for _ in batch():
                pass
            return
        with ThreadPoolExecutor(_THREADS) as threads:
            for _ in threads.map(lambda _: self._own().noop(), range(calls)):
                pass

    def mapped(self, tasks: int) -> int:
        if self._is_batched:
            batch = Pyro5.api.BatchProxy(self._proxy)
            for i in range(tasks):
                batch.echo(i)
            return sum(1 for _ in batch())
        with ThreadPoolExecutor(_THREADS) as threads:
            return sum(1 for _ in threads.map(lambda i: self._own().echo(i), range(tasks)))

    def streamed(self, items: int) -> int:
        return sum(1 for _ in self._proxy.count(items))

    def echo(self, array: Any) -> Any:
        import numpy as np

        return np.frombuffer(serpent.tobytes(self._proxy.echo(array.tobytes())), array.dtype)

    def _own(self) -> Any:
        """The calling thread's proxy."""
        if not hasattr(self._thread, "proxy"):
            self._thread.proxy = Pyro5.api.Proxy(self._address)
        return self._thread.proxy


@Pyro5.api.expose
class Functions:
    """What the daemon offers."""

    def noop(self) -> None:
        noop()

    def echo(self, value: Any) -> Any:
        return echo(value)

    def count(self, n: int) -> Any:
        yield from count(n)


def serve() -> None:
    daemon = Pyro5.api.Daemon(host="127.0.0.1")
    print(daemon.register(Functions), flush=True)
    daemon.requestLoop()


if __name__ == "__main__":
    serve()
