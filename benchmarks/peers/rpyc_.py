"""rpyc: a threaded server process, no gateway. Arrays travel as their bytes, which rpyc compresses; an array itself would stay
where it is and be a reference."""

from __future__ import annotations

from collections.abc import Iterator
from importlib.metadata import version
from typing import Any

import rpyc
from rpyc.utils.server import ThreadedServer

from benchmarks.peers.children import Child, wait_for_port
from benchmarks.workloads import System, count, echo, noop


class Rpyc(System):
    def __init__(self) -> None:
        self._server: Child | None = None
        self._connection: Any = None

    def start(self) -> None:
        self._server = Child.module("benchmarks.peers.rpyc_")
        port = int(self._server.answer())
        wait_for_port(port)
        self._connection = rpyc.connect("127.0.0.1", port, config={"sync_request_timeout": None})

    def stop(self) -> None:
        if self._connection:
            self._connection.close()
        if self._server:
            self._server.stop()

    def version(self) -> str:
        return version("rpyc")

    def noop(self) -> None:
        self._connection.root.noop()

    def in_flight(self, calls: int) -> None:
        call = rpyc.async_(self._connection.root.noop)
        for result in [call() for _ in range(calls)]:
            result.wait()

    def mapped(self, tasks: int) -> int:
        call = rpyc.async_(self._connection.root.echo)
        return len([result.value for result in [call(i) for i in range(tasks)]])

    def streamed(self, items: int) -> int:
        return sum(1 for _ in self._connection.root.count(items))

    def echo(self, array: Any) -> Any:
        import numpy as np

        return np.frombuffer(self._connection.root.echo(array.tobytes()), array.dtype)


class Functions(rpyc.Service):
    """What the server offers."""

    def exposed_noop(self) -> None:
        noop()

    def exposed_echo(self, value: Any) -> Any:
        return echo(value)

    def exposed_count(self, n: int) -> Iterator[int]:
        return count(n)


def serve() -> None:
    server = ThreadedServer(Functions(), hostname="127.0.0.1", port=0)
    print(server.port, flush=True)
    server.start()


if __name__ == "__main__":
    serve()
