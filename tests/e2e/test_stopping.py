"""Cancelled and timed out means stopped: nothing of a call's processes is left, whatever it does and wherever it hides."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from easyremote import Call, CallCancelled, Client, ComputeNode, DeadlineExceeded
from easyremote.execution import offspring
from tests.conftest import is_alive, wait_until

LIMIT_S = 6.0
"""Nothing is left after so long. The interrupt comes at once, SIGKILL after 3 s."""


def told(folder: Path, count: int) -> list[int]:
    """The ids of `count` processes that wrote themselves down there."""
    wait_until(lambda: len(list(folder.glob("*.pid"))) == count, 60)
    return [int(path.stem) for path in folder.glob("*.pid")]


def stop(call: Call[Any]) -> None:
    began = time.monotonic()
    assert call.cancel()
    with pytest.raises(CallCancelled):
        call.result()
    assert time.monotonic() - began < 0.2 or os.getloadavg()[0] > os.cpu_count()  # type: ignore[operator]


def busy(folder: str) -> None:
    import os

    open(f"{folder}/{os.getpid()}.pid", "w").close()
    while True:
        pass


def sleeps_in_c(folder: str) -> None:
    import ctypes
    import os

    open(f"{folder}/{os.getpid()}.pid", "w").close()
    ctypes.PyDLL(None).sleep(1000)  # with the interpreter's lock; a signal ends it


def computes_in_c(folder: str) -> None:
    import itertools
    import os

    open(f"{folder}/{os.getpid()}.pid", "w").close()
    sum(itertools.repeat(0))  # for ever, and it looks at no signal


def ignores_signals(folder: str) -> None:
    import os
    import signal
    import time

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    open(f"{folder}/{os.getpid()}.pid", "w").close()
    while True:
        time.sleep(1)


def catches_everything(folder: str) -> None:
    import contextlib
    import os
    import time

    open(f"{folder}/{os.getpid()}.pid", "w").close()
    while True:
        with contextlib.suppress(BaseException):
            time.sleep(1)


def has_children(folder: str) -> None:
    """One in its group, one in a session of its own, a daemon, one with another environment; and it reacts to interrupts."""
    import os
    import subprocess
    import sys
    import time

    say = f"import os,time; open('{folder}/' + str(os.getpid()) + '.pid', 'w').close(); time.sleep(1000)"
    subprocess.Popen([sys.executable, "-c", say])
    subprocess.Popen([sys.executable, "-c", say], start_new_session=True)
    subprocess.Popen([sys.executable, "-c", say], start_new_session=True, env={})
    daemon = f"import os\nif os.fork(): os._exit(0)\nos.setsid()\nif os.fork(): os._exit(0)\n{say}"
    subprocess.run([sys.executable, "-c", daemon])
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            open(f"{folder}/{os.getpid()}.pid", "w").close()
            time.sleep(1000)
        os._exit(0)
    open(f"{folder}/{os.getpid()}.pid", "w").close()
    time.sleep(1000)


def has_children_and_ignores(folder: str) -> None:
    import os
    import signal
    import subprocess
    import sys
    import time

    signal.signal(signal.SIGINT, signal.SIG_IGN)
    say = f"import os,time; open('{folder}/' + str(os.getpid()) + '.pid', 'w').close(); time.sleep(1000)"
    for options in ({}, {"start_new_session": True}, {"start_new_session": True, "env": {}}):
        subprocess.Popen([sys.executable, "-c", say], **options)
    open(f"{folder}/{os.getpid()}.pid", "w").close()
    while True:
        time.sleep(1)


@pytest.mark.parametrize("work", [busy, sleeps_in_c, computes_in_c, ignores_signals, catches_everything])
def test_a_worker_is_stopped(node: ComputeNode, client: Client, tmp_path: Path, work: Callable[[str], None]) -> None:
    call = client.submit(work, str(tmp_path))
    (pid,) = told(tmp_path, 1)
    stop(call)
    if work in (busy, sleeps_in_c):  # they react, so the process stays for the next call
        assert client.call(os.getpid) == pid
    else:
        wait_until(lambda: not is_alive(pid))
        assert client.call(os.getpid) != pid


@pytest.mark.parametrize(("work", "count"), [(has_children, 6), (has_children_and_ignores, 4)])
def test_what_it_started_is_stopped_with_it(
    node: ComputeNode, client: Client, tmp_path: Path, work: Callable[[str], None], count: int
) -> None:
    call = client.submit(work, str(tmp_path))
    pids = told(tmp_path, count)
    stop(call)
    worker = client.call(os.getpid)
    wait_until(lambda: not [pid for pid in pids if is_alive(pid) and pid != worker], LIMIT_S * 5)


def test_what_was_started_before_the_cancelled_call_goes_on(node: ComputeNode, client: Client, tmp_path: Path) -> None:
    def starts(folder: str) -> int:
        import subprocess
        import sys

        return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(1000)"]).pid

    child = client.call(starts, str(tmp_path))
    wait_until(lambda: offspring.boot_ticks() > offspring.began(child))  # the system tells them apart by its ticks
    call = client.submit(busy, str(tmp_path))
    (worker,) = told(tmp_path, 1)
    stop(call)
    assert client.call(os.getpid) == worker
    assert is_alive(child)
    node.stop()
    wait_until(lambda: not is_alive(child))


def test_one_that_runs_out_of_time_likewise(node: ComputeNode, client: Client, tmp_path: Path) -> None:
    call = client.with_options(run_timeout=10).submit(has_children_and_ignores, str(tmp_path))
    pids = told(tmp_path, 4)
    with pytest.raises(DeadlineExceeded):
        call.result()
    wait_until(lambda: not any(map(is_alive, pids)), LIMIT_S * 5)


def test_a_crash_leaves_nothing_either(node: ComputeNode, client: Client, tmp_path: Path) -> None:
    call = client.submit(has_children, str(tmp_path))
    pids = told(tmp_path, 6)
    workers = [pid for pid in pids if offspring.descendants(pid)]
    for pid in workers:
        os.kill(pid, 9)
    assert call.exception() is not None
    # One was an orphan of the worker with an environment that was made anew: nothing tells whose it was.
    wait_until(lambda: sum(map(is_alive, pids)) <= 1)
    for pid in pids:
        if is_alive(pid):
            os.kill(pid, 9)


def test_a_thread_is_interrupted_at_its_next_bytecode_and_c_code_is_said_to_go_on(
    node: ComputeNode, client: Client
) -> None:
    ended = threading.Event()
    go_on = threading.Event()
    entered = threading.Event()

    @node.register
    def loops() -> None:
        entered.set()
        try:
            while True:
                pass
        finally:
            ended.set()

    @node.register
    def waits() -> None:
        entered.set()
        go_on.wait(60)

    call = client.submit("loops")
    assert entered.wait(30)
    stop(call)
    assert ended.wait(30)

    entered.clear()
    timed = client.with_options(run_timeout=0.1).submit("waits")
    assert entered.wait(30)
    with pytest.raises(
        DeadlineExceeded, match=r"^'waits' ran longer than run_timeout=0.1 s.* in its thread until it returns"
    ):
        timed.result()
    go_on.set()


def test_a_coroutine_is_cancelled(node: ComputeNode, client: Client) -> None:
    entered, ended = threading.Event(), threading.Event()

    @node.register
    async def waits() -> None:
        entered.set()
        try:
            await asyncio.sleep(1000)
        finally:
            ended.set()

    call = client.submit("waits")
    assert entered.wait(30)
    stop(call)
    assert ended.wait(30)
