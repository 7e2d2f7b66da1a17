"""EasyRemote: a gateway, one node, this client. `python -m benchmarks.peers.easyremote_ owner` is a node whose owner registered
functions of his own; they run in its threads. Shipped functions run in a worker process behind a node.

`… transfer ADDRESS SIZE` is the other client of the workload `busy`.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from benchmarks.peers.children import Child
from benchmarks.workloads import System, count, echo, noop, random_array
from easyremote import Client, ComputeNode, __version__
from easyremote.cluster import LocalCluster

_FUNCTIONS = (noop, echo, count)


class EasyRemote(System):
    def __init__(self, place: str) -> None:
        self._is_shipped = place == "worker"
        self._cluster: LocalCluster | None = None
        self._children: list[Child] = []
        self._client: Any = None

    def start(self) -> None:
        owner = None if self._is_shipped else self._spawn("owner")  # it imports while the gateway starts
        self._cluster = LocalCluster(1 if self._is_shipped else 0)
        os.environ["EASYREMOTE_TOKEN"] = self._cluster._token
        if owner:
            owner.tell(f"{self._cluster.address} {self._cluster._token}")
        self._client = self._cluster.client()
        if owner:
            owner.answer()
            return
        node = self._client.node()
        for function in _FUNCTIONS:
            node.register(function)

    def stop(self) -> None:
        if self._client:
            self._client.close()
        for child in self._children:
            child.stop()
        if self._cluster:
            self._cluster.stop()

    def version(self) -> str:
        return __version__

    def noop(self) -> None:
        self._client.call("noop")

    def in_flight(self, calls: int) -> None:
        for call in [self._client.submit("noop") for _ in range(calls)]:
            call.result()

    def mapped(self, tasks: int) -> int:
        return sum(1 for _ in self._client.map("echo", range(tasks)))

    def streamed(self, items: int) -> int:
        return sum(1 for _ in self._client.stream("count", items))

    def echo(self, array: Any) -> Any:
        return self._client.call("echo", array)

    def gateway_pid(self) -> int | None:
        assert self._cluster is not None
        return self._cluster.pids[0]

    def begin_transfer(self, size: int) -> Callable[[], bool]:
        assert self._cluster is not None
        other = self._spawn("transfer", self._cluster.address, str(size))
        other.answer()
        waiter = threading.Thread(target=other.answer, daemon=True)
        waiter.start()
        other.tell("go")
        return waiter.is_alive

    def _spawn(self, *arguments: str) -> Child:
        child = Child.module("benchmarks.peers.easyremote_", *arguments)
        self._children.append(child)
        return child


def serve_owner() -> None:
    address, token = sys.stdin.readline().split()
    node = ComputeNode(address, "owner", token=token)
    for function in _FUNCTIONS:
        node.register(function)
    node.serve()
    print("up", flush=True)
    sys.stdin.read()
    node.stop()


def transfer(address: str, size: int) -> None:
    array = random_array(size)
    with Client(address) as client:
        client.call("noop")
        print("ready", flush=True)
        sys.stdin.readline()
        client.call("echo", array)
        print("done", flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "owner":
        serve_owner()
    else:
        transfer(sys.argv[2], int(sys.argv[3]))
