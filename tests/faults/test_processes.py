"""Processes and their surroundings: limits of the system, clocks, event loops, exits."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from easyremote import CallLost, Client, ComputeNode, EasyRemoteError, NoNodeAvailable, Server
from easyremote.cluster import LocalCluster
from tests.conftest import wait_until

FEW_DESCRIPTORS = """
import resource
from easyremote import Server
server = Server(port=0, token="a-token-of-this-test").start_background()
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
print(server.address, flush=True)
server.wait()
"""


@pytest.mark.slow
def test_a_gateway_without_descriptors_keeps_who_is_there_and_goes_on_when_some_are_free() -> None:
    gateway = subprocess.Popen(
        [sys.executable, "-c", FEW_DESCRIPTORS], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    try:
        assert gateway.stdout is not None
        address, token = gateway.stdout.readline().strip(), "a-token-of-this-test"
        host, _, port = address.rpartition(":")
        with ComputeNode(address, "n", token=token) as node, Client(address, token=token) as client:
            node.register(lambda x: x, name="echo")
            assert client.call("echo", 1) == 1
            crowd = [socket.create_connection((host, int(port))) for _ in range(100)]
            assert [client.call("echo", i) for i in range(20)] == list(range(20))
            for connection in crowd:
                connection.close()

            def comes_in() -> bool:
                try:
                    with Client(address, token=token) as another:
                        return another.call("echo", 2) == 2
                except EasyRemoteError:
                    return False

            wait_until(comes_in)
            assert gateway.poll() is None
    finally:
        gateway.terminate()
        gateway.communicate()


@pytest.mark.slow
@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
def test_a_wall_clock_that_jumps_a_day_changes_nothing(
    node: ComputeNode, client: Client, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    gate = threading.Event()
    node.register(lambda: gate.wait(30), name="wait")
    call = client.with_options(timeout=60, run_timeout=60).submit("wait")
    wait_until(lambda: call.state == "running")
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + jump_s)
    assert client.with_options(timeout=30).call("echo", 1) == 1
    time.sleep(1)  # heartbeats and ticks see the other time
    assert client.is_connected and not call.done()
    assert client.list_nodes()[0].connected_s < 3600
    gate.set()
    assert call.result() is True


@pytest.mark.slow
def test_when_all_nodes_are_lost_every_call_is_told(tmp_path: Any) -> None:
    with LocalCluster(2, slots=4) as cluster, cluster.client() as client:
        client.node(*cluster.node_ids).register(lambda: __import__("time").sleep(60), name="sleeps")
        calls = [client.submit("sleeps") for _ in range(12)]
        wait_until(lambda: sum(call.state == "running" for call in calls) == 8)
        for pid in cluster.pids[1:]:
            os.kill(pid, signal.SIGKILL)
        for call in calls:
            error = call.exception(timeout=60)
            assert isinstance(error, (CallLost, NoNodeAvailable)), error
        assert client.list_nodes() == []


OPEN_CALLS = """
import time
from easyremote import Client
client = Client({address!r}, token={token!r})
call = client.submit("wait")
while not call.running():  # one that hasn't begun is never heard of at the node
    time.sleep(0.01)
print("running", flush=True)
"""


@pytest.mark.slow
def test_a_script_that_ends_with_open_calls_ends_at_once_and_stops_them(
    server: Server, node: ComputeNode, client: Client
) -> None:
    stopped = threading.Event()

    @node.register
    def wait() -> None:
        try:
            while True:
                time.sleep(0.01)
        finally:
            stopped.set()

    code = OPEN_CALLS.format(address=server.address, token=server.token)
    began = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stdout, done.stderr) == (0, "running\n", "")
    assert time.monotonic() - began < 30
    assert stopped.wait(30)
    assert client.call("echo", 1) == 1


def loop_factories() -> list[Any]:
    with contextlib.suppress(ImportError):
        import uvloop

        return [asyncio.new_event_loop, uvloop.new_event_loop]
    return [asyncio.new_event_loop]


@pytest.mark.slow
@pytest.mark.parametrize("factory", loop_factories())
def test_loops_that_come_and_go_and_run_side_by_side_share_a_client(
    node: ComputeNode, client: Client, factory: Any
) -> None:
    async def main(base: int) -> list[int]:
        blocking = client.call("echo", base)  # inside a running loop
        return [blocking, *await asyncio.gather(*(client.submit("echo", base + i) for i in range(1, 20)))]

    for turn in range(3):
        with asyncio.Runner(loop_factory=factory) as runner:
            assert runner.run(main(turn)) == list(range(turn, turn + 20))
    results: dict[int, list[int]] = {}

    def in_a_thread(base: int) -> None:
        with asyncio.Runner(loop_factory=factory) as runner:
            results[base] = runner.run(main(base))

    threads = [threading.Thread(target=in_a_thread, args=(base,)) for base in (100, 200, 300)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == {base: list(range(base, base + 20)) for base in (100, 200, 300)}


@pytest.mark.slow
def test_a_port_that_another_program_holds_is_refused_and_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as holder:
        port = holder.getsockname()[1]
        with pytest.raises(EasyRemoteError, match=str(port)):
            Server(port=port).start_background()
