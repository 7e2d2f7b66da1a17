from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import easyremote
from tests.conftest import descendants_of, is_alive, wait_until

pytestmark = pytest.mark.slow

Start = Callable[..., "Child"]


class Child:
    """A service as a notebook starts it."""

    def __init__(self, role: str, request: Any, log: Path) -> None:
        with log.open("wb") as file:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "easyremote.cli.child", role],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=file,
            )
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.stdin, self.stdout = self.process.stdin, self.process.stdout
        text = request if isinstance(request, bytes) else json.dumps(request).encode() + b"\n"
        self.stdin.write(text)
        self.stdin.flush()

    def answer(self) -> dict[str, Any]:
        return json.loads(self.stdout.readline())

    def close(self) -> None:
        self.process.kill()
        self.process.wait(30)
        self.stdin.close()
        self.stdout.close()


@pytest.fixture
def child(tmp_path: Path) -> Iterator[Start]:
    children: list[Child] = []

    def begin(role: str, request: Any) -> Child:
        children.append(Child(role, request, tmp_path / f"{len(children)}.log"))
        return children[-1]

    yield begin
    for one in reversed(children):
        one.close()


@pytest.fixture
def gateway(child: Start) -> tuple[Child, dict[str, Any]]:
    process = child("gateway", {"port": 0, "token": None})
    return process, process.answer()


def node_request(ready: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"address": ready["address"], "token": ready["token"], "node_id": "node-1", "slots": 2, **more}


def test_a_gateway_and_a_node_answer_when_they_are_ready(child: Start, gateway: tuple[Child, dict[str, Any]]) -> None:
    process, ready = gateway
    assert ready.keys() == {"address", "token", "pid"}
    assert ready["pid"] == process.process.pid
    node = child("node", node_request(ready, labels={"zone": "lab"}))
    assert node.answer() == {"node_id": "node-1", "pid": node.process.pid}
    with easyremote.Client(ready["address"], token=ready["token"]) as client:
        info = client.get_node_status("node-1")
        assert (info.slots, info.labels, info.pid) == (2, {"zone": "lab"}, node.process.pid)
        assert client.call(abs, -3) == 3


def test_prints_go_to_standard_error_and_the_answer_is_all_of_standard_output(
    child: Start, gateway: tuple[Child, dict[str, Any]], tmp_path: Path
) -> None:
    process, _ = gateway
    assert process.stdout.read() == b""  # its end is closed
    assert (tmp_path / "0.log").read_text() == ""


@pytest.mark.parametrize(
    ("role", "request_", "code"),
    [
        ("gateway", {"port": 99999}, "usage"),
        ("gateway", {"token": "short"}, "usage"),
        ("gateway", [1], "usage"),
        ("gateway", b"no json\n", "error"),
        ("node", {}, "error"),
        ("node", {"address": "no address", "token": ""}, "usage"),
        ("node", {"address": "127.0.0.1:1", "token": "x"}, "gateway_unreachable"),
        ("client", {}, "usage"),
    ],
)
def test_what_can_not_start_says_why(child: Start, role: str, request_: Any, code: str) -> None:
    process = child(role, request_)
    answer = process.answer()
    assert answer.keys() == {"error", "code"}
    assert answer["code"] == code
    assert answer["error"]
    assert process.process.wait(30) == 1


def test_refusals_of_the_gateway_have_their_codes(child: Start, gateway: tuple[Child, dict[str, Any]]) -> None:
    _, ready = gateway
    port = int(ready["address"].rpartition(":")[2])
    assert child("gateway", {"port": port}).answer()["code"] == "port_in_use"
    assert child("node", node_request(ready, token="the wrong one, long")).answer()["code"] == "auth"
    child("node", node_request(ready)).answer()
    assert child("node", node_request(ready)).answer()["code"] == "duplicate_node"


def test_the_end_of_standard_input_ends_it_with_its_workers(
    child: Start, gateway: tuple[Child, dict[str, Any]], runtime_folder: Path
) -> None:
    process, ready = gateway
    node = child("node", node_request(ready))
    node.answer()
    wait_until(lambda: descendants_of(node.process.pid))
    workers = descendants_of(node.process.pid)
    for one in (node, process):
        one.stdin.close()
        assert one.process.wait(10) == 0
    wait_until(lambda: not any(is_alive(pid) for pid in workers))
    assert not list(runtime_folder.glob("*"))


def test_the_end_of_standard_input_before_the_request_ends_it(child: Start) -> None:
    process = child("node", b"")
    process.stdin.close()
    assert process.process.wait(10) == 0


def test_sigterm_ends_it_and_sigint_does_not(gateway: tuple[Child, dict[str, Any]]) -> None:
    process, ready = gateway
    process.process.send_signal(signal.SIGINT)
    with easyremote.Client(ready["address"], token=ready["token"]) as client:
        assert client.list_nodes() == []
    process.process.send_signal(signal.SIGTERM)
    assert process.process.wait(10) == 0


def test_the_death_of_the_parent_ends_it_though_another_process_holds_the_pipe(tmp_path: Path) -> None:
    parent_code = textwrap.dedent(
        """
        import json, subprocess, sys, time
        child = subprocess.Popen(
            [sys.executable, "-m", "easyremote.cli.child", "gateway"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        child.stdin.write(b'{"port": 0}\\n')
        child.stdin.flush()
        child.stdout.readline()
        holder = subprocess.Popen(
            [sys.executable, "-c", "import time; time.sleep(600)"], pass_fds=(child.stdin.fileno(),), stdout=subprocess.DEVNULL
        )
        print(json.dumps([child.pid, holder.pid]), flush=True)
        time.sleep(600)
        """
    )
    parent = subprocess.Popen([sys.executable, "-c", parent_code], stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child_pid, holder_pid = json.loads(parent.stdout.readline())
    try:
        parent.kill()
        wait_until(lambda: not is_alive(child_pid))
        assert is_alive(holder_pid)
    finally:
        os.kill(holder_pid, signal.SIGKILL)
        parent.stdout.close()
        parent.wait(30)


def test_it_loads_nothing_for_people() -> None:
    code = (
        "import sys, easyremote.cli.child, easyremote.server, easyremote.node\n"
        "sys.exit(', '.join({'typer', 'rich', 'click', 'IPython', 'numpy'} & set(sys.modules)) or 0)"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (outcome.returncode, outcome.stderr) == (0, "")
