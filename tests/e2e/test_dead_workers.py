"""A worker that dies is noticed, whatever it leaves behind: bytes that it never read, a child that holds its link."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from easyremote import Client, ComputeNode, WorkerCrashed
from easyremote.execution.pool import WorkerProcess
from easyremote.transport.loop import shared_loop
from tests.conftest import is_alive, wait_until


def test_one_that_never_read_what_it_was_sent(
    node: ComputeNode, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket then ends with an error instead of an end, which libuv tells no reader of."""
    place = tmp_path / "pid"
    workers: list[WorkerProcess] = []
    give_credit = WorkerProcess.give_credit

    def noting(self: WorkerProcess, count: int) -> None:
        give_credit(self, count)
        workers.append(self)

    monkeypatch.setattr(WorkerProcess, "give_credit", noting)

    def work() -> Iterator[bytes]:
        import os

        place.write_text(str(os.getpid()))
        while True:
            yield bytes(100_000)

    items = iter(client.stream(work))
    while not workers:
        next(items)
    pid = int(place.read_text())
    os.kill(pid, signal.SIGSTOP)
    before = len(workers)
    shared_loop.loop.call_soon_threadsafe(workers[0].give_credit, 1)
    wait_until(lambda: len(workers) > before)
    os.kill(pid, signal.SIGKILL)
    with pytest.raises(WorkerCrashed, match="SIGKILL"):
        for _ in items:
            pass
    assert client.call(lambda: 1) == 1


def test_one_whose_child_holds_its_link(node: ComputeNode, client: Client, tmp_path: Path) -> None:
    place = tmp_path / "pid"

    def work() -> None:
        import os
        import time

        child = os.fork()
        if child == 0:
            time.sleep(1000)
        place.write_text(str(child))
        os._exit(3)

    with pytest.raises(WorkerCrashed, match="exit code 3"):
        client.submit(work).result(60)
    wait_until(lambda: not is_alive(int(place.read_text())))
    assert client.call(lambda: 1) == 1


def test_an_exit_is_explained(node: ComputeNode, client: Client) -> None:
    # More than this process has ever had: a worker begins with what it was forked from.
    size = 300 * 2**20 + resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024

    def work() -> None:
        import os

        block = bytearray(size)
        print("the last words")
        os._exit(len(block) % 256 + 5)

    with pytest.raises(
        WorkerCrashed, match=r"died \(exit code 5; it had up to \d+ MiB of memory\)\. The last it printed:"
    ) as crash:
        client.call(work)
    error = crash.value
    assert (error.exit_code, error.signal, error.out_of_memory, error.last_output) == (5, "", "no", "the last words\n")
    assert size < error.peak_memory_bytes < size + 300 * 2**20
    assert (error.may_have_run, error.details["node"]) == (True, "node-a")


def test_a_crash_in_c_code_says_where_it_was(node: ComputeNode, client: Client) -> None:
    def work() -> None:
        import ctypes

        ctypes.string_at(0)

    with pytest.raises(WorkerCrashed, match=r"killed by SIGSEGV") as crash:
        client.call(work)
    assert crash.value.signal == "SIGSEGV"
    assert "Segmentation fault" in crash.value.last_output
    assert "_send_packed" not in crash.value.last_output, "only the thread that crashed is shown"
    assert "in work" in crash.value.last_output


def test_one_that_somebody_killed_is_not_said_to_be_out_of_memory(node: ComputeNode, client: Client) -> None:
    def work() -> None:
        import os
        import signal

        os.kill(os.getpid(), signal.SIGKILL)

    with pytest.raises(WorkerCrashed, match="killed by SIGKILL, not by EasyRemote") as crash:
        client.call(work)
    assert crash.value.out_of_memory == "no"


def test_one_that_runs_out_of_memory_says_so(node: ComputeNode, client: Client) -> None:
    """For real, where this process may make a control group."""
    made = Path("/sys/fs/cgroup/memory") / f"easyremote-test-{os.getpid()}"
    try:
        made.mkdir()
        (made / "memory.limit_in_bytes").write_text(str(200 * 2**20))
    except OSError:
        pytest.skip("this user can't make a control group of version 1")
    group = str(made)

    def work() -> None:
        import os

        with open(f"{group}/cgroup.procs", "w") as file:
            file.write(str(os.getpid()))
        print("eating", flush=True)
        blocks = []
        while True:
            blocks.append(bytearray(os.urandom(2**20)) * 8)

    try:
        with pytest.raises(WorkerCrashed, match="out of memory: the kernel's OOM killer ended it") as crash:
            client.call(work)
        assert (crash.value.out_of_memory, crash.value.last_output) == ("yes", "eating\n")
        assert crash.value.peak_memory_bytes > 50 * 2**20
        assert client.call(lambda: 1) == 1
    finally:
        made.rmdir()


def test_a_memory_error_of_the_function_stays_one(node: ComputeNode, client: Client) -> None:
    def work() -> int:
        return len(bytearray(2**62))

    with pytest.raises(MemoryError):
        client.call(work)
    assert client.call(lambda: 1) == 1
