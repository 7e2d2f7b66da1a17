"""What functions do to their process: the call ends with the truth, and the node takes the next one."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from typing import Any

import pytest

from easyremote import Client, ComputeNode, RemoteError, WorkerCrashed
from tests.conftest import wait_until


@pytest.mark.slow
@pytest.mark.parametrize("code", [0, 3])
def test_an_exit_in_the_middle_is_a_crash_that_names_its_code(client: Client, code: int) -> None:
    def exits() -> None:
        import os

        os._exit(code)

    with pytest.raises(WorkerCrashed, match=f"exit code {code}"):
        client.submit(exits).result(timeout=60)
    assert client.submit(lambda: 1).result() == 1


@pytest.mark.slow
def test_a_function_that_closes_what_it_does_not_know_ends_its_call_alone(client: Client) -> None:
    def closes(last: int) -> str:
        import os

        os.closerange(0, last + 1)
        return "closed"

    with contextlib.suppress(WorkerCrashed):  # the worker's own connection may be among them
        assert client.submit(closes, 20).result(timeout=60) == "closed"
    with pytest.raises(WorkerCrashed):
        client.submit(closes, 1000).result(timeout=60)
    assert client.submit(lambda: 1).result() == 1


@pytest.mark.slow
def test_what_a_function_changes_in_its_worker_harms_no_node(node: ComputeNode, client: Client, tmp_path: Any) -> None:
    """It stays changed in that worker, as in any pool of processes; not in the node itself."""
    before = os.getcwd(), dict(os.environ), list(sys.path)

    def changes(path: str) -> None:
        import os
        import sys
        import threading
        import time

        os.chdir(path)
        os.environ.clear()
        sys.path.clear()
        threading.Thread(target=lambda: time.sleep(1000), daemon=True).start()

    client.submit(changes, str(tmp_path)).result(timeout=60)
    assert client.submit(lambda: 1).result() == 1
    assert client.call("echo", 2) == 2
    assert (os.getcwd(), dict(os.environ), list(sys.path)) == before


@pytest.mark.slow
def test_floods_of_output_cost_no_memory_and_no_call(node: ComputeNode, client: Client, capfd: Any) -> None:
    """Nobody waits for the call, so what it prints is kept up to a bound."""

    def floods(count: int) -> str:
        import sys

        for i in range(count):
            print("x" * 100_000)
            print(f"\r{i}", end="", file=sys.stderr)
        sys.stdout.flush()
        return "done"

    node.register(floods)
    for call in (client.submit("floods", 300), client.submit(floods, 300)):
        wait_until(call.done, 100)
        assert sum((call._kept or {}).values()) < 3_000_000
        assert call.result() == "done"
    assert "done" not in capfd.readouterr().err


@pytest.mark.slow
def test_bytes_that_are_no_text_are_shown_as_good_as_they_can_be(client: Client, capfd: Any) -> None:
    def writes() -> None:
        import os

        os.write(1, b"before \xff\xfe\x80 after\n")
        os.write(1, "ends in the middle of a letter: é".encode()[:-1])

    client.submit(writes).result(timeout=60)
    shown = capfd.readouterr().out
    assert "before" in shown and "after" in shown and "middle" in shown


@pytest.mark.slow
def test_endless_recursion_and_no_memory_are_errors_of_their_call(node: ComputeNode, client: Client) -> None:
    def recurses(n: int = 0) -> int:
        return recurses(n + 1) + 1

    def hoards() -> int:
        return len(bytearray(1 << 62))

    for function, kind in ((recurses, RecursionError), (hoards, MemoryError)):
        node.register(function)
        for call in (client.submit(function.__name__), client.submit(function)):
            with pytest.raises((kind, RemoteError)) as caught:
                call.result(timeout=60)
            assert kind.__name__ in str(caught.value.__cause__ or caught.value)
    assert client.call("echo", 1) == 1


@pytest.mark.slow
def test_a_function_that_calls_itself_where_there_is_one_slot_lends_it(server: Any) -> None:
    with ComputeNode(server.address, "small", slots=1) as node, Client(server.address) as client:

        def calls_itself(depth: int) -> int:
            if depth == 0:
                return 0
            return client.call("calls_itself", depth - 1) + 1

        node.register(calls_itself)
        assert client.submit("calls_itself", 3).result(timeout=60) == 3
        assert client.call("calls_itself", 0) == 0


@pytest.mark.slow
def test_a_thread_that_a_function_left_behind_holds_up_nobody(node: ComputeNode, client: Client) -> None:
    gate = threading.Event()

    def leaves() -> str:
        threading.Thread(target=lambda: (gate.wait(60), print("late")), daemon=True).start()
        return "left"

    node.register(leaves)
    assert client.call("leaves") == "left"
    assert client.call("echo", 1) == 1
    gate.set()
