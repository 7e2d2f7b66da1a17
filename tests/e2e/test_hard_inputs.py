"""What functions and callers do that once froze something, lost something or gave a wrong answer."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import threading
import time
from typing import Any

import numpy as np
import pytest

import easyremote
from easyremote import Client, ComputeNode, RemoteError, Server, UsageError
from tests.conftest import wait_until


def test_prints_that_alternate_between_the_streams_freeze_nothing(
    node: ComputeNode, client: Client, capfd: Any
) -> None:
    @node.register
    def alternate() -> str:
        for i in range(300):
            print("a", i)
            print("b", i, file=sys.stderr)
        time.sleep(0.2)
        return "done"

    assert client.submit("alternate").result(timeout=30) == "done"
    assert capfd.readouterr().out.count("a") == 300


def test_what_is_changed_after_submitting_or_yielding_is_not_sent(node: ComputeNode, client: Client) -> None:
    node.register(lambda a: float(a.sum()), name="total")

    @node.register
    def reuse() -> Any:
        buffer = np.zeros(100)
        for i in range(20):
            buffer[:] = i
            yield buffer

    for size in (1000, 1_000_000):
        for _ in range(5):
            array = np.zeros(size)
            call = client.submit("total", array)
            array[:] = 1
            assert call.result() == 0.0
    assert [int(item[0]) for item in client.stream("reuse")] == list(range(20))


def test_text_that_is_no_unicode_breaks_neither_node_nor_call(
    node: ComputeNode, client: Client, remote: Client
) -> None:
    def fail() -> None:
        print("\udcff", end="")
        raise ValueError(os.fsdecode(b"\xff"))

    node.register(fail)
    node.register(lambda: "fine", name="fine")
    for call in (lambda: client.submit("fail"), lambda: remote.submit(fail)):
        with pytest.raises((ValueError, RemoteError)):
            call().result(timeout=30)
    assert client.call("fine") == "fine"
    with pytest.raises(easyremote.DeadlineExceeded):  # the node still looks after timeouts
        client.with_options(run_timeout=0.2).call(_busy(node))


def _busy(node: ComputeNode) -> str:
    @node.register
    def busy() -> None:
        while True:
            time.sleep(0.005)

    return "busy"


def test_huge_texts_are_cut_or_refused_and_the_node_stays(node: ComputeNode, client: Client) -> None:
    node.register(lambda: easyremote.progress(1, 2, "x" * 5_000_000), name="progress")
    assert client.submit("progress").result(timeout=30) is None
    for wrong in (lambda: client.call("f" * 5_000_000), lambda: client.with_options(label="x" * 5_000_000)):
        with pytest.raises(UsageError):
            wrong()
    assert client.call("progress") is None


def test_leaving_streams_that_had_arrived_leaves_nothing_open(node: ComputeNode, client: Client) -> None:
    node.register(lambda: (i for i in range(3)), name="three")
    for _ in range(200):
        for _ in client.stream("three"):
            break
    wait_until(lambda: client._connection._core.open_count == 0)


def test_a_done_callback_that_waits_for_a_call_is_refused_instead_of_waiting_for_itself(
    node: ComputeNode, client: Client
) -> None:
    gate = threading.Event()
    node.register(lambda: gate.wait(30), name="wait")
    node.register(lambda: 1, name="one")
    client.call("one")
    refused: list[BaseException] = []

    def callback(_: Any) -> None:
        try:
            client.call("one")
        except UsageError as error:
            refused.append(error)

    call = client.submit("wait")
    call.add_done_callback(callback)
    gate.set()
    assert call.result(timeout=30) is True
    wait_until(lambda: refused)
    assert client.call("one") == 1


def test_a_loop_that_is_closed_with_an_awaiting_task_hurts_no_other_call(node: ComputeNode, client: Client) -> None:
    gate = threading.Event()
    node.register(lambda: gate.wait(30), name="wait")
    loop = asyncio.new_event_loop()
    awaited = client.submit("wait")

    async def begin() -> None:
        task = asyncio.ensure_future(awaited._await_end())
        await asyncio.sleep(0.05)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # that is what the test is about

    loop.run_until_complete(begin())
    loop.close()
    gate.set()
    wait_until(awaited.done)
    assert client.submit("wait").result(timeout=30) is True


def test_a_fork_inside_a_task_gives_no_answer_to_another_call(remote: Client, capfd: Any) -> None:
    def forker() -> str:
        pid = os.fork()
        if pid == 0:
            print("from the child", flush=True)
            return "child"
        os.waitpid(pid, 0)
        return "parent"

    assert remote.call(forker) == "parent"
    assert [remote.call(lambda: "other") for _ in range(3)] == ["other"] * 3
    assert "from the child" in capfd.readouterr().out


FORKS = """
import os, sys
from easyremote import Client, ComputeNode, Server, UsageError

with Server(port=0) as server, ComputeNode(server.address) as node, Client(server.address) as client:
    node.register(lambda: 1, name="one")
    assert client.call("one") == 1
    child = os.fork()
    if child == 0:
        try:
            client.call("one")
        except UsageError as error:
            print(error, flush=True)
        sys.exit(3)  # and runs what runs at exit
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 3
    print(os.listdir(os.environ["EASYREMOTE_RUNTIME_DIR"]), client.call("one"))
"""


def test_a_forked_child_is_told_that_the_connection_is_not_its_own_and_takes_nothing_with_it() -> None:
    # A process of its own: one with as many threads as this one can crash in Python's own code after a fork.
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", FORKS], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    told, left = done.stdout.splitlines()
    assert "forked" in told
    assert "gateway-" in left
    assert left.endswith(" 1")


def test_cancelling_while_large_values_travel_leaves_nothing_in_shared_memory(
    remote: Client, node: ComputeNode, client: Client
) -> None:
    node.register(lambda x: len(x), name="length")
    value = bytes(60_000_000)
    for i in range(6):
        for call in (remote.submit(len, value), client.submit("length", value)):
            time.sleep(0.01 * i)  # at several points of the way; the outcome doesn't depend on where
            call.cancel()
    assert remote.call(len, b"abc") == 3
    assert client.call("length", b"abc") == 3


def test_waiting_for_ages_is_no_overflow(node: ComputeNode, client: Client) -> None:
    node.register(lambda: 1, name="one")
    assert client.with_options(timeout=1e9, run_timeout=1e9, queue_timeout=1e9).call("one") == 1
    assert client.submit("one").result(timeout=1e12) == 1
    with pytest.raises(UsageError, match="retries"):
        client.with_options(retries=2**40)


def test_stopping_a_node_tells_the_callers_of_running_functions_why(server: Server, client: Client) -> None:
    running = ComputeNode(server.address, "stops").serve()
    call = client.with_options(node="stops").submit(_busy(running))
    wait_until(lambda: call.state == "running")
    running.stop()
    with pytest.raises(easyremote.CallCancelled, match="stopping"):
        call.result(timeout=30)
