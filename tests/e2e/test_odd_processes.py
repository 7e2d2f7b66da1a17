"""Processes in odd circumstances: no port, few descriptors, a clock that jumps, an end with calls open, a gateway that can't rest."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from typing import Any

import pytest

from easyremote import CallLost, Client, ComputeNode, NoNodeAvailable, PortInUse, Server
from easyremote.cluster import LocalCluster
from tests.conftest import wait_until

pytestmark = pytest.mark.slow


def test_a_port_that_another_program_listens_on_is_refused_at_once() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(PortInUse, match=rf"port {port} on 127\.0\.0\.1 is taken"):
            Server(port=port).start_background()
        assert time.monotonic() - began < 20


def test_whatever_answers_there_and_is_no_gateway_is_named_to_clients() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:

        def serve() -> None:
            while True:
                try:
                    peer, _ = other.accept()
                except OSError:
                    return
                with peer:
                    peer.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")

        threading.Thread(target=serve, daemon=True).start()
        with pytest.raises(Exception, match=r"gateway"):
            Client(f"127.0.0.1:{other.getsockname()[1]}", token="a token that is long enough")
        other.shutdown(socket.SHUT_RDWR)


FEW_DESCRIPTORS = """
import resource
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
from easyremote import Client, ComputeNode, Server
with Server(port=0) as server, ComputeNode(server.address, "a", slots=4) as node, Client(server.address) as client:
    node.register(lambda x: x + 1, name="inc")
    assert list(client.map("inc", range(500))) == list(range(1, 501))
    assert client.call(lambda: 7) == 7
    clients = []
    try:
        for _ in range(100):
            clients.append(Client(server.address))
    except Exception as error:
        print(type(error).__name__, flush=True)
    for extra in clients:
        extra.close()
    assert client.call("inc", 1) == 2
print("done")
"""


def test_a_limit_of_64_descriptors_is_enough_for_a_few_peers_and_one_more_gets_an_error() -> None:
    done = subprocess.run([sys.executable, "-c", FEW_DESCRIPTORS], capture_output=True, text=True, timeout=120)
    refusal, last = done.stdout.splitlines()
    assert last == "done", (done.stdout, done.stderr)
    assert refusal in ("OSError", "GatewayUnreachable")  # whether this process or the gateway in it ran out of them
    assert "never retrieved" not in done.stderr


@pytest.mark.parametrize("jump_s", [86_400.0, -86_400.0])
def test_a_wall_clock_that_jumps_by_a_day_changes_nothing(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch, jump_s: float
) -> None:
    true = time.time
    with ComputeNode(server.address, "a", slots=1) as node:
        gate, entered = threading.Event(), threading.Event()

        @node.register
        def work(tag: str) -> str:
            if tag == "first":
                entered.set()
                gate.wait(60)
            return tag

        patient = client.with_options(timeout=300, run_timeout=200)
        first = patient.submit("work", "first")
        assert entered.wait(60)
        second = patient.with_options(queue_timeout=100).submit("work", "second")
        monkeypatch.setattr(time, "time", lambda: true() + jump_s)
        late = client.with_options(timeout=0.3).submit("work", "late")
        with pytest.raises(TimeoutError):
            late.result()
        gate.set()
        assert (first.result(timeout=60), second.result(timeout=60)) == ("first", "second")
        assert client.get_node_status("a").connected_s < 600
        assert client.gateway_info().uptime_s < 600


EXITS = """
import sys, time
from easyremote import Client
client = Client(sys.argv[1], token=sys.argv[2])
calls = [client.submit("forever") for _ in range(3)]
while calls[0].state != "running":
    time.sleep(0.01)
print(time.monotonic(), flush=True)
if sys.argv[3] == "raise":
    raise RuntimeError("mine")
"""


@pytest.mark.parametrize("how", ["last line", "raise"])
def test_an_interpreter_that_ends_with_calls_open_ends_soon_and_stops_them(
    server: Server, node: ComputeNode, client: Client, how: str
) -> None:
    stopped: list[int] = []

    @node.register
    def forever() -> None:
        try:
            while True:
                time.sleep(0.01)
        finally:
            stopped.append(1)

    command = [sys.executable, "-c", EXITS, server.address, server.token, how]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    took_s = time.monotonic() - float(done.stdout)
    assert done.returncode == (how == "raise")
    assert ("RuntimeError: mine" in done.stderr) == (how == "raise")
    assert took_s < 10  # 2 s, and the rest for a machine that is busy
    wait_until(lambda: client.gateway_info().running == 0)
    assert stopped


def test_many_event_loops_and_callbacks_share_a_client(node: ComputeNode, client: Client) -> None:
    node.register(lambda x: x + 1, name="inc")

    async def one(x: int) -> int:
        return await client.submit("inc", x)

    assert [asyncio.run(one(x)) for x in (1, 2)] == [2, 3]
    found: list[int] = []
    threads = [threading.Thread(target=lambda x=x: found.append(asyncio.run(one(x)))) for x in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(found) == [1, 2, 3, 4]

    async def inside() -> int:
        return client.call("inc", 5)  # blocks this loop, and nothing else

    assert asyncio.run(inside()) == 6
    chained: list[Any] = []
    done = threading.Event()

    def then(call: Any) -> None:
        chained.append(call.result())
        client.submit("inc", chained[0]).add_done_callback(lambda last: (chained.append(last.result()), done.set()))

    client.submit("inc", 1).add_done_callback(then)
    assert done.wait(60)
    assert chained == [2, 3]


def test_calls_of_a_cluster_that_loses_all_its_nodes_end_with_the_truth() -> None:
    with LocalCluster(2, slots=2) as cluster, cluster.client() as client:

        def hang() -> None:
            import time

            time.sleep(600)

        calls = [client.with_options(retries=retries).submit(hang) for retries in (0, 1, 3)]
        wait_until(lambda: client.gateway_info().running == 3)
        wait_until(lambda: all(call.node for call in calls))
        for pid in cluster.pids[1:]:
            os.kill(pid, signal.SIGKILL)
        for call in calls:
            with pytest.raises(CallLost) as lost:
                call.result(timeout=60)
            assert lost.value.may_have_run
        with pytest.raises(NoNodeAvailable):
            client.call(len, "x")


def test_a_gateway_that_is_killed_again_and_again_loses_no_call(gateway_process: Any) -> None:
    address, token = gateway_process()
    with ComputeNode(address, "n", token=token, slots=2) as node, Client(address, token=token) as client:
        begun: list[int] = []

        @node.register
        def count(total: int) -> Any:
            for i in range(total):
                time.sleep(0.02)
                yield i

        @node.register
        def once(x: int) -> int:
            begun.append(x)
            return x

        stream = client.with_options(retries=0).submit("count", 300)
        calls = []
        for turn in range(8):
            calls.append(client.with_options(retries=0).submit("once", turn))
            gateway_process.kill()
            gateway_process()
        assert [call.result(timeout=120) for call in calls] == list(range(8))
        assert list(stream) == list(range(300))
        assert sorted(begun) == list(range(8))


def test_a_node_that_could_not_be_measured_once_is_measured_again(
    server: Server, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    from easyremote import serving

    measure, failures = serving.measure, [OSError(24, "Too many open files"), ValueError("odd /proc")]

    def at_last() -> Any:
        if failures:
            raise failures.pop()
        return measure()

    monkeypatch.setattr(serving, "measure", at_last)
    monkeypatch.setattr(serving, "LOAD_EVERY_S", 0.01)
    with ComputeNode(server.address, "a"):
        wait_until(lambda: client.get_node_status("a").resources)
