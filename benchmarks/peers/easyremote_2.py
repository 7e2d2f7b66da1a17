"""easyremote 2.0.2, as it is on PyPI: gateway and node in processes of their own, as its README starts them."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from typing import Any

import easyremote
import easyremote.core.utils.exceptions as easyremote_errors
from benchmarks.peers.children import Child, free_port
from benchmarks.workloads import System, Unable, count, echo, noop

_THREADS = 64
"""Its client has only blocking calls."""


class EasyRemote2(System):
    def __init__(self) -> None:
        self._children: list[Child] = []
        self._client: Any = None

    def start(self) -> None:
        address = f"127.0.0.1:{free_port()}"
        for role in ("gateway", "node"):
            self._children.append(Child.module("benchmarks.peers.easyremote_2", role, address))
            while self._children[-1].answer() != "READY":  # it logs to standard output
                pass
        self._client = easyremote.Client(address, log_level="error")

    def stop(self) -> None:
        if self._client:
            self._client.disconnect()
        for child in reversed(self._children):
            child.stop()

    def version(self) -> str:
        return version("easyremote")

    def noop(self) -> None:
        self._client.execute("noop")

    def in_flight(self, calls: int) -> None:
        with ThreadPoolExecutor(_THREADS) as threads:
            for _ in threads.map(lambda _: self.noop(), range(calls)):
                pass

    def mapped(self, tasks: int) -> int:
        with ThreadPoolExecutor(_THREADS) as threads:
            return sum(1 for _ in threads.map(lambda i: self._client.execute("echo", i), range(tasks)))

    def streamed(self, items: int) -> int:
        return sum(1 for _ in self._client.stream("count", items))

    def echo(self, array: Any) -> Any:
        try:
            return self._client.execute("echo", array)
        except easyremote_errors.ConnectionError as error:
            if "larger than max" in str(error):
                raise Unable("refused over 50 MiB") from None
            raise


def serve(role: str, address: str) -> None:
    if role == "gateway":
        service: Any = easyremote.Server(int(address.rpartition(":")[2]), log_level="error")
        service.start_background()
    else:
        service = easyremote.ComputeNode(address, "worker", log_level="error")
        for function in (noop, echo, count):
            service.register(function)
        service.serve(blocking=False)
        service.wait_for_connection(20)
    print("READY", flush=True)
    sys.stdin.read()
    service.stop()


if __name__ == "__main__":
    serve(*sys.argv[1:])
