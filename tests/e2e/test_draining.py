"""Nodes and gateways that are told to end by SIGTERM, as processes of their own: what runs may end, the rest goes elsewhere."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from easyremote import CallLost, Client, ComputeNode, NodeGone, NoNodeAvailable, Server, UsageError
from tests.conftest import free_port, wait_until

pytestmark = pytest.mark.slow

NODE = """
import pathlib, sys, threading, time
from easyremote import ComputeNode

address, name, slots, grace, folder = sys.argv[1:]
folder = pathlib.Path(folder)
node = ComputeNode(address, name, slots=int(slots))

@node.register
def work(tag):
    with open(folder / f"began-{tag}", "a") as file:
        file.write(name + "\\n")
    while not (folder / f"go-{tag}").exists():
        time.sleep(0.01)
    return f"{tag} on {name}"

@node.register
def quick(tag):
    with open(folder / f"began-{tag}", "a") as file:
        file.write(name + "\\n")
    return tag

node.serve(blocking=True, drain_grace=float(grace))
print("ended", flush=True)
"""

Begin = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def begin(server: Server, client: Client, tmp_path: Path) -> Iterator[Begin]:
    """`begin(name, slots=, grace=)`: a node process that offers `work` and `quick`."""
    running: list[subprocess.Popen[str]] = []

    def start(name: str, slots: int = 1, grace: float = 30.0, address: str = "") -> subprocess.Popen[str]:
        command = [sys.executable, "-c", NODE, address or server.address, name, str(slots), str(grace), str(tmp_path)]
        running.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True))
        return running[-1]

    yield start
    for process in running:
        process.kill()
        process.communicate()


def began(folder: Path, tag: str) -> list[str]:
    """On which nodes the call with this tag has begun."""
    path = folder / f"began-{tag}"
    return path.read_text().split() if path.exists() else []


def status(client: Client, name: str) -> str:
    return next((node.status for node in client.list_nodes() if node.node_id == name), "gone")


def serves(client: Client, *names: str) -> None:
    wait_until(lambda: all(status(client, name) == "connected" for name in names))
    wait_until(lambda: any(info.name == "quick" for info in client.list_functions()))


@pytest.mark.parametrize("retries", [0, 3])
def test_a_node_that_gets_sigterm_ends_what_runs_and_takes_nothing_new(
    begin: Begin, client: Client, tmp_path: Path, retries: int
) -> None:
    node = begin("a")
    serves(client, "a")
    call = client.with_options(retries=retries).submit("work", "x")
    wait_until(lambda: began(tmp_path, "x"))
    node.terminate()
    wait_until(lambda: status(client, "a") == "draining")
    with pytest.raises(NoNodeAvailable, match="'a' \\(its process is ending\\)"):
        client.call("quick", "y")
    begin("b")
    serves(client, "b")
    assert client.call("quick", "z") == "z"
    (tmp_path / "go-x").touch()
    assert call.result(timeout=60) == "x on a"
    output, errors = node.communicate(timeout=60)
    assert (node.returncode, output, errors) == (0, "ended\n", "")
    assert (began(tmp_path, "x"), began(tmp_path, "z")) == (["a"], ["b"])
    assert status(client, "a") == "gone"


def test_what_runs_longer_than_the_grace_time_goes_elsewhere_or_is_lost(
    begin: Begin, client: Client, tmp_path: Path
) -> None:
    node = begin("a", slots=2, grace=0.2)
    serves(client, "a")
    again = client.with_options(retries=1).submit("work", "again")
    once = client.with_options(retries=0).submit("work", "once")
    wait_until(lambda: began(tmp_path, "again") and began(tmp_path, "once"))
    begin("b", slots=2)
    serves(client, "b")
    node.terminate()
    with pytest.raises(CallLost) as lost:
        once.result(timeout=60)
    assert lost.value.may_have_run
    (tmp_path / "go-again").touch()
    assert again.result(timeout=60) == "again on b"
    assert node.wait(60) == 0
    assert (began(tmp_path, "again"), began(tmp_path, "once")) == (["a", "b"], ["a"])


@pytest.mark.parametrize("second", [signal.SIGTERM, signal.SIGINT])
def test_a_second_signal_ends_a_draining_node_at_once(
    begin: Begin, client: Client, tmp_path: Path, second: signal.Signals
) -> None:
    node = begin("a", grace=600.0)
    serves(client, "a")
    call = client.with_options(retries=0).submit("work", "x")
    wait_until(lambda: began(tmp_path, "x"))
    node.terminate()
    wait_until(lambda: status(client, "a") == "draining")
    node.send_signal(second)
    assert node.wait(60) == 0
    with pytest.raises(CallLost):
        call.result(timeout=60)


def test_calls_sent_ahead_to_a_node_that_drains_run_elsewhere_once(
    begin: Begin, client: Client, tmp_path: Path
) -> None:
    begin("a")
    serves(client, "a")
    once = client.with_options(retries=0)
    for i in range(30):  # so that it gets calls ahead of its slot
        once.call("quick", f"warm{i}")
    blocker = once.submit("work", "blocker")
    ahead = [once.submit("quick", f"ahead{i}") for i in range(5)]
    wait_until(lambda: began(tmp_path, "blocker"))
    begin("b", slots=4)
    serves(client, "b")
    client.drain_node("a", "being serviced")
    assert [call.result(timeout=60) for call in ahead] == [f"ahead{i}" for i in range(5)]
    assert [began(tmp_path, f"ahead{i}") for i in range(5)] == [["b"]] * 5
    (tmp_path / "go-blocker").touch()
    assert blocker.result(timeout=60) == "blocker on a"


def test_a_node_is_drained_by_name_and_resumed(server: Server, client: Client) -> None:
    with ComputeNode(server.address, "a") as first, ComputeNode(server.address, "b") as second:
        for node in (first, second):
            node.register(lambda name=node.node_id: name, name="where")
        drained = client.drain_node("a", "new driver")
        assert (drained.status, drained.draining) == ("draining", "new driver")
        assert first.is_draining
        assert {client.call("where") for _ in range(20)} == {"b"}
        with pytest.raises(NoNodeAvailable, match="easyremote node resume a"):
            client.call_node("a", "where")
        waiting = client.with_options(node="a", queue_timeout=60).submit("where")
        assert client.resume_node("a").status == "connected"
        assert waiting.result(timeout=60) == "a"
        with pytest.raises(NodeGone, match="connected are: a, b"):
            client.drain_node("c")
        with pytest.raises(UsageError):
            client.drain_node("a", "x" * 201)


def test_drain_in_python_waits_for_what_runs(server: Server, client: Client) -> None:
    node = ComputeNode(server.address, "a").serve()
    gate, entered = threading.Event(), threading.Event()

    @node.register
    def work() -> str:
        entered.set()
        gate.wait(60)
        return "done"

    call = client.submit("work")
    assert entered.wait(60)
    assert node.open_calls == 1
    threading.Timer(0.2, gate.set).start()
    assert node.drain(timeout=60) is True
    assert not node.is_serving
    assert call.result(timeout=60) == "done"
    assert node.drain() is True  # there is nothing to do any more
    with pytest.raises(UsageError):
        node.drain(timeout=-1)


def test_drain_in_python_tells_when_it_did_not_wait_long_enough(server: Server, client: Client) -> None:
    node = ComputeNode(server.address, "a").serve()
    entered = threading.Event()

    @node.register
    def work() -> None:
        entered.set()
        while True:
            time.sleep(0.01)

    call = client.with_options(retries=0).submit("work")
    assert entered.wait(60)
    assert node.drain(timeout=0.1) is False
    with pytest.raises(CallLost):
        call.result(timeout=60)


# ---- a gateway -------------------------------------------------------------------------------------------------------

GATEWAY = """
import sys
from easyremote import Server
server = Server(port=int(sys.argv[1]), token="a-token-that-stays-the-same").start_background()
print("up", flush=True)
server.wait()
"""


def start_gateway(port: int) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", GATEWAY, str(port)], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "up\n"
    return process


def test_a_gateway_that_gets_sigterm_lets_calls_end_and_the_next_one_gets_those_that_wait(tmp_path: Path) -> None:
    port, token = free_port(), "a-token-that-stays-the-same"
    first = start_gateway(port)
    with (
        ComputeNode(f"127.0.0.1:{port}", "a", token=token, slots=1) as node,
        Client(f"127.0.0.1:{port}", token=token) as client,
    ):
        runs: list[str] = []
        gate = threading.Event()

        @node.register
        def work(tag: str) -> str:
            runs.append(tag)
            if tag == "first":
                gate.wait(60)
            return tag

        running = client.submit("work", "first")
        wait_until(lambda: runs)
        waiting = [client.with_options(retries=retries).submit("work", f"waits {retries}") for retries in (0, 1)]
        wait_until(lambda: client.gateway_info().queued == 2)
        first.terminate()
        wait_until(lambda: client.gateway_info().queued == 0)  # given back
        late = client.submit("work", "late")
        gate.set()
        assert running.result(timeout=60) == "first"
        first.communicate(timeout=60)
        assert first.returncode == 0
        second = start_gateway(port)
        try:
            assert [call.result(timeout=60) for call in (*waiting, late)] == ["waits 0", "waits 1", "late"]
            assert sorted(runs) == ["first", "late", "waits 0", "waits 1"]
        finally:
            second.terminate()
            second.communicate(timeout=60)


def test_a_draining_gateway_tells_programs_that_are_not_python_that_it_is_unavailable(server: Server) -> None:
    import grpc

    from easyremote.wire.v1 import gateway_pb2 as pb

    with ComputeNode(server.address, "a") as node, Client(server.address) as client:
        entered, gate = threading.Event(), threading.Event()

        @node.register
        def work() -> int:
            entered.set()
            gate.wait(60)
            return 1

        call = client.submit("work")
        assert entered.wait(60)
        ended: list[bool] = []
        drains = threading.Thread(target=lambda: ended.append(server.drain(timeout=60)))
        drains.start()
        try:
            with grpc.insecure_channel(server.address) as channel:
                invoke: Any = channel.unary_unary(
                    "/easyremote.v1.Gateway/Invoke",
                    request_serializer=pb.InvokeRequest.SerializeToString,
                    response_deserializer=pb.InvokeReply.FromString,
                )
                credentials = (("authorization", f"Bearer {server.token}"),)
                refusals: list[Any] = []

                def is_refused() -> bool:
                    try:
                        invoke(pb.InvokeRequest(function="work", timeout_s=0.2), metadata=credentials, timeout=60)
                    except grpc.RpcError as error:
                        refusals.append(error)
                    return bool(refusals) and refusals[-1].code() is grpc.StatusCode.UNAVAILABLE

                wait_until(is_refused)
                assert "about to end" in refusals[-1].details()
        finally:
            gate.set()
            drains.join(60)
        assert ended == [True]
        assert call.result(timeout=60) == 1


def test_a_script_that_only_serves_drains_too(server: Server, client: Client, tmp_path: Path) -> None:
    script = tmp_path / "serves.py"
    script.write_text(NODE.replace("node.serve(blocking=True, drain_grace=float(grace))", "node.serve()"))
    command = [sys.executable, str(script), server.address, "a", "1", "30", str(tmp_path)]
    process = subprocess.Popen(command, env=dict(os.environ))
    try:
        serves(client, "a")
        call = client.submit("work", "x")
        wait_until(lambda: began(tmp_path, "x"))
        wait_until(lambda: catches(process.pid, signal.SIGTERM))  # the script has come to its end, and serves
        process.terminate()
        wait_until(lambda: status(client, "a") == "draining")
        (tmp_path / "go-x").touch()
        assert call.result(timeout=60) == "x on a"
        assert process.wait(60) == 0
    finally:
        process.kill()


def catches(pid: int, number: signal.Signals) -> bool:
    """Whether the process has a handler of its own for this signal."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigCgt:"))
    return bool(int(line.split()[1], 16) >> (number - 1) & 1)
