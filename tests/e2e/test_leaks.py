"""When the last face closes, nothing stays."""

from __future__ import annotations

import asyncio
import os
import threading
from pathlib import Path

import psutil

from easyremote import Client, ComputeNode, Server
from tests.conftest import wait_until


def _threads() -> set[str]:
    """All but gRPC's own poller, which it keeps for the life of the process."""
    return {thread.name for thread in threading.enumerate() if "_poll_wrapper" not in thread.name}


def _use_everything() -> None:
    with Server(port=0) as server, ComputeNode(server.address) as node, Client(server.address) as client:
        node.register(lambda x: x, name="echo")
        node.register(asyncio.sleep, name="sleep")
        client.call("echo", b"x" * 2_000_000)
        client.call("sleep", 0)
        client.call(lambda x: x, 1)
        list(client.map("echo", range(50)))
        next(iter(client.stream(lambda: (i for i in range(10**9)))))


def test_no_thread_process_descriptor_or_file_stays() -> None:
    earlier = set(threading.enumerate())  # other tests of this process may have left some
    _use_everything()
    this = psutil.Process()
    threads = _threads()
    descriptors = this.num_fds()
    for _ in range(3):
        _use_everything()
    wait_until(lambda: _threads() <= threads)
    wait_until(lambda: not [p for p in this.children(recursive=True) if p.status() != psutil.STATUS_ZOMBIE])
    wait_until(lambda: this.num_fds() <= descriptors)
    assert not list(Path(os.environ["EASYREMOTE_RUNTIME_DIR"]).iterdir())
    ours = ("easyremote", "asyncio", "uvloop")
    wait_until(lambda: not [thread for thread in set(threading.enumerate()) - earlier if thread.name.startswith(ours)])


def test_memory_of_gateway_node_and_client_is_flat_over_many_calls(
    server: Server, node: ComputeNode, client: Client
) -> None:
    node.register(lambda x: x, name="echo")
    this = psutil.Process()

    def work() -> None:
        for _ in client.map("echo", range(4000)):
            pass

    work()
    before = this.memory_info().rss
    for _ in range(4):
        work()
    assert this.memory_info().rss - before < 16 * 1024 * 1024
    core = client._connection._core
    wait_until(lambda: core.open_count == 0 and not client._connection._calls)
