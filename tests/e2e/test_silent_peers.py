"""Peers that say nothing: whose process lives is waited for, whose process was stopped or whose wire is dead is not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from easyremote import CallLost, Client, GatewaySettings, Server
from easyremote.discovery import LOCAL_SOCKET_VARIABLE
from tests.conftest import wait_until

pytestmark = pytest.mark.slow

SOON = GatewaySettings(heartbeat_s=0.2, silence_s=0.8, grace_s=0.5)
"""Silence counts after 0.8 s; a process that holds the interpreter lock for seconds is silent for much longer."""

NODE = """
import ctypes, pathlib, sys, time
from easyremote import ComputeNode

address, token, name, folder = sys.argv[1:]
node = ComputeNode(address, name, token=token, slots=2)
folder = pathlib.Path(folder)

@node.register
def hold(seconds):
    with open(folder / "began", "a") as file:
        file.write(name + "\\n")
    ctypes.PyDLL(None).usleep(int(seconds * 1e6))  # unlike CDLL it doesn't give up the interpreter lock
    return name

@node.register
def step(seconds, tag="began"):
    with open(folder / tag, "a") as file:
        file.write(name + "\\n")
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        time.sleep(0.01)
    return name

node.serve(blocking=True)
"""

CLIENT = """
import ctypes, sys
from easyremote import Client
client = Client(sys.argv[1], token=sys.argv[2])
call = client.with_options(retries=0).submit("step", 1.0)
while call.state != "running":
    pass
print("running", flush=True)
ctypes.PyDLL(None).usleep(3_000_000)
print(call.result(timeout=60), flush=True)
"""


@pytest.fixture(params=["socket", "grpc"])
def server(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """A gateway that is reached over its Unix socket, or over gRPC."""
    monkeypatch.setenv(LOCAL_SOCKET_VARIABLE, "1" if request.param == "socket" else "0")
    with Server(port=0, settings=SOON) as running:
        yield running


Begin = Callable[[str], subprocess.Popen[bytes]]


@pytest.fixture
def begin(server: Server, client: Client, tmp_path: Path) -> Iterator[Begin]:
    running: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen([sys.executable, "-c", NODE, server.address, server.token, name, str(tmp_path)])
        running.append(process)
        wait_until(lambda: any(node.node_id == name and "step" in node.functions for node in client.list_nodes()))
        return process

    yield start
    for process in running:
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def lines(path: Path) -> list[str]:
    return path.read_text().split() if path.exists() else []


def status(client: Client, name: str) -> str:
    return next((node.status for node in client.list_nodes() if node.node_id == name), "gone")


def test_a_node_whose_interpreter_lock_is_held_by_c_code_is_not_given_up(
    begin: Begin, client: Client, tmp_path: Path
) -> None:
    begin("a")
    call = client.with_options(retries=0).submit("hold", 4.0)
    wait_until(lambda: lines(tmp_path / "began"))
    wait_until(lambda: client.get_node_status("a").status == "silent")
    begin("b")
    assert client.call("step", 0.0) == "b"  # it is waited for, and gets nothing new
    assert call.result(timeout=60) == "a"
    assert call.attempt == 1
    assert client.get_node_status("a").status == "connected"
    assert client.call_node("a", "step", 0.0) == "a"


def test_a_client_whose_interpreter_lock_is_held_keeps_its_calls(begin: Begin, server: Server) -> None:
    begin("a")
    command = [sys.executable, "-c", CLIENT, server.address, server.token]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.stderr) == ("running\na\n", "")


def test_a_node_that_was_stopped_past_its_lease_and_goes_on_changes_nothing(
    begin: Begin, client: Client, tmp_path: Path
) -> None:
    """R7: its attempt goes on when it is continued, and nobody gets its result; with retries=0 nothing is begun twice."""
    stopped = begin("a")
    begin("b")
    on_a = client.with_options(strategy="round_robin")
    again = once = None
    while once is None or again is None:  # one of each on the node that is going to be stopped
        tag = "once" if once is None else "again"
        call = on_a.with_options(retries=0 if once is None else 3).submit("step", 3.0, tag)
        wait_until(lambda tag=tag: lines(tmp_path / tag))
        if lines(tmp_path / tag) == ["a"]:
            once, again = (call, again) if once is None else (once, call)
        else:
            (tmp_path / tag).unlink()
    os.kill(stopped.pid, signal.SIGSTOP)
    with pytest.raises(CallLost) as lost:
        once.result(timeout=60)
    assert lost.value.may_have_run
    assert again.result(timeout=60) == "b"
    assert again.attempt == 2
    os.kill(stopped.pid, signal.SIGCONT)
    wait_until(lambda: status(client, "a") == "connected")
    wait_until(lambda: client.gateway_info().running == 0)
    assert client.call_node("a", "step", 0.0) == "a"
    assert again.result() == "b"
    assert (lines(tmp_path / "once"), lines(tmp_path / "again")) == (["a"], ["a", "b"])


def test_a_node_that_was_stopped_is_noticed_in_time(begin: Begin, client: Client) -> None:
    node = begin("a")
    began = time.monotonic()
    os.kill(node.pid, signal.SIGSTOP)
    wait_until(lambda: status(client, "a") in ("away", "gone"), 60)
    # over gRPC its pings tell, after 8 s at most; the rest is for a machine that is busy
    assert time.monotonic() - began < 30
