"""Connections that break, processes that die: calls go on, or end with the truth."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from easyremote import CallLost, Client, ComputeNode, GatewayUnreachable, NodeGone, Server
from easyremote.cluster import LocalCluster
from tests.conftest import free_port, is_alive, wait_until
from tests.e2e.conftest import Wire


def count_slowly(node: ComputeNode, started: threading.Event, total: int = 40) -> None:
    @node.register
    def count() -> Any:
        started.set()
        for i in range(total):
            time.sleep(0.02)
            yield i


def test_a_cut_of_the_clients_wire_loses_and_doubles_no_item(
    server: Server, node: ComputeNode, wires: list[Wire]
) -> None:
    started = threading.Event()
    count_slowly(node, started)
    with Client(wires[1].address, token=server.token) as client:
        items = []
        for item in client.stream("count"):
            items.append(item)
            if item in (5, 15, 25):
                wires[1].cut()
        assert items == list(range(40))


def test_a_cut_of_the_nodes_wire_loses_and_doubles_no_item(server: Server, wires: list[Wire], client: Client) -> None:
    with ComputeNode(wires[0].address, "cut-node", token=server.token, code="any") as node:
        started = threading.Event()
        runs = []
        count_slowly(node, started)

        @node.register
        def once() -> int:
            runs.append(1)
            time.sleep(0.5)
            return 7

        call = client.submit("once")
        wait_until(lambda: runs)
        wires[0].cut()
        assert call.result() == 7
        assert runs == [1]
        items = []
        for item in client.stream("count"):
            items.append(item)
            if item in (5, 15):
                wires[0].cut()
        assert items == list(range(40))


def test_an_outage_shorter_than_the_grace_time_is_survived(server: Server, wires: list[Wire]) -> None:
    with (
        ComputeNode(wires[0].address, "away", token=server.token, code="any") as node,
        Client(wires[1].address, token=server.token) as client,
    ):
        started = threading.Event()
        count_slowly(node, started)
        call = client.submit("count")
        wait_until(started.is_set)
        for wire in wires:
            wire.down()
        wait_until(lambda: not client.is_connected and not node.is_connected)
        for wire in wires:
            wire.up()
        assert list(call) == list(range(40))


def test_a_large_value_arrives_whole_though_the_wires_are_cut(
    server: Server, wires: list[Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    import numpy as np

    from easyremote.wire.shared_files import SharedFiles

    monkeypatch.setattr(SharedFiles, "identity", "", raising=False)
    prepared = SharedFiles.__init__

    def without_identity(self: SharedFiles, *arguments: Any) -> None:
        prepared(self, *arguments)
        self.identity = ""

    monkeypatch.setattr(SharedFiles, "__init__", without_identity)
    with (
        ComputeNode(wires[0].address, "big", token=server.token, code="any") as node,
        Client(wires[1].address, token=server.token) as client,
    ):
        node.register(lambda x: x * 2, name="double")
        array = np.arange(12_000_000, dtype=np.float64)
        call = client.submit("double", array)
        for wire in (wires[0], wires[1], wires[0]):
            time.sleep(0.1)  # somewhere in the middle; the outcome doesn't depend on where
            wire.cut()
        assert np.array_equal(call.result(), array * 2)


def test_a_silent_wire_is_noticed_and_a_call_goes_to_another_node(
    server: Server, wires: list[Wire], client: Client
) -> None:
    ran = []
    with (
        ComputeNode(wires[0].address, "silent", token=server.token, code="any") as silent,
        ComputeNode(server.address, "other") as other,
    ):
        gate = threading.Event()

        @silent.register(name="f")
        def on_silent() -> str:
            ran.append("silent")
            gate.wait(60)
            return "silent"

        call = client.submit("f")
        wait_until(lambda: ran)
        other.register(lambda: "other", name="f")
        wires[0].swallow()
        assert call.result(timeout=60) == "other"
        gate.set()
        wires[0].up()
        assert call.result() == "other"  # what the silent one says later changes nothing
        wait_until(lambda: silent.is_connected)


def test_a_gateway_that_is_killed_and_started_again_loses_no_call(gateway_process: Any) -> None:
    address, token = gateway_process()
    with ComputeNode(address, "n", token=token) as node, Client(address, token=token) as client:
        started = threading.Event()
        runs = []
        count_slowly(node, started, total=60)

        @node.register
        def once(gate: str) -> str:
            runs.append(1)
            while not Path(gate).exists():
                time.sleep(0.01)
            return "done"

        gate = os.path.join(os.environ["EASYREMOTE_RUNTIME_DIR"], "gate")
        call = client.submit("once", gate)
        stream = client.submit("count")
        wait_until(lambda: runs and started.is_set())
        gateway_process.kill()
        wait_until(lambda: not client.is_connected)
        gateway_process()
        assert list(stream) == list(range(60))
        Path(gate).touch()
        assert call.result() == "done"
        assert runs == [1]
        assert client.call("once", gate) == "done"


def test_without_a_gateway_for_long_open_calls_end_with_the_truth(
    gateway_process: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("easyremote.connection.GIVE_UP_AFTER_S", 0.5)
    address, token = gateway_process()
    with ComputeNode(address, "n", token=token) as node, Client(address, token=token) as client:
        node.register(lambda: time.sleep(0.01), name="f")
        client.call("f")
        client._connection._give_up_after_s = 0.5
        gate = threading.Event()
        node.register(lambda: gate.wait(30), name="wait")
        call = client.submit("wait")
        wait_until(lambda: call.state == "running")
        gateway_process.kill()
        with pytest.raises(GatewayUnreachable, match="away"):
            call.result()
        gate.set()
        gateway_process()
        wait_until(lambda: client.is_connected and node.is_connected)
        assert client.call("f") is None  # the same client goes on


def test_a_killed_nodes_call_goes_to_another_and_a_pinned_one_is_lost(
    cluster: LocalCluster, remote: Client, tmp_path: Path
) -> None:
    nodes = remote.node(*cluster.node_ids)

    @nodes.register
    def work(folder: str) -> str:
        import os
        import time

        open(os.path.join(folder, str(os.getppid())), "w").close()
        while not os.path.exists(os.path.join(folder, "go")):
            time.sleep(0.01)
        return "done"

    call = remote.submit("work", str(tmp_path))
    wait_until(lambda: list(tmp_path.iterdir()))
    first = int(next(tmp_path.iterdir()).name)
    name = next(n.node_id for n in remote.list_nodes() if n.pid == first)
    pinned = remote.with_options(node=name).submit("work", str(tmp_path))
    fragile = remote.with_options(retries=0).submit("work", str(tmp_path))
    wait_until(lambda: pinned.state == fragile.state == "running")
    os.kill(first, signal.SIGKILL)
    with pytest.raises(CallLost) as lost:
        pinned.result()
    assert lost.value.may_have_run
    (tmp_path / "go").touch()
    assert call.result() == "done"
    assert call.attempt == 2
    assert fragile.exception() is None or isinstance(fragile.exception(), CallLost)
    with pytest.raises(NodeGone):
        remote.get_node_status(name)


def test_a_frozen_process_that_comes_back_in_time_is_not_given_up(cluster: LocalCluster, remote: Client) -> None:
    remote.node(*cluster.node_ids).register(lambda x: x + 1, name="inc")
    gateway = cluster.pids[0]
    assert remote.call("inc", 0) == 1
    os.kill(gateway, signal.SIGSTOP)
    call = remote.submit("inc", 1)
    with pytest.raises(TimeoutError):
        call.result(timeout=1.0)
    os.kill(gateway, signal.SIGCONT)
    assert call.result() == 2
    assert call.attempt == 1


def test_a_worker_inside_c_code_does_not_outlive_its_node(
    cluster: LocalCluster, remote: Client, tmp_path: Path
) -> None:
    def hold(path: str) -> None:
        import os
        import re

        with open(path, "w") as file:
            file.write(f"{os.getpid()} {os.getppid()}\n")
        re.match(r"(a+)+$", "a" * 40 + "b")  # exponential, and holds the interpreter lock

    report = tmp_path / "pids"
    call = remote.with_options(retries=0).submit(hold, str(report))
    wait_until(lambda: report.exists() and report.read_text().endswith("\n"))
    worker, node = map(int, report.read_text().split())
    os.kill(node, signal.SIGKILL)
    wait_until(lambda: not is_alive(worker))
    with pytest.raises(CallLost):
        call.result()


def test_a_local_gateway_that_comes_back_with_another_token_is_found_again() -> None:
    port = free_port()
    code = f"from easyremote import Server\nserver = Server(port={port}).start_background()\nprint('up', flush=True)\nserver.wait()"

    def start() -> subprocess.Popen[str]:
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return process

    first = start()
    with ComputeNode(f"localhost:{port}", "n") as node, Client(f"localhost:{port}") as client:
        node.register(lambda: 1, name="one")
        assert client.call("one") == 1
        first.kill()
        first.communicate()
        second = start()
        try:
            wait_until(lambda: client.is_connected and node.is_connected)
            assert client.call("one") == 1
        finally:
            second.terminate()
            second.communicate()
