"""What a worker's call started ends with the call when that is cancelled; what an earlier one left running doesn't."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from typing import Any

import pytest

from easyremote.cluster import LocalCluster
from easyremote.execution.offspring import boot_ticks, end_offspring
from tests.conftest import is_alive, wait_until

PARENT = """
import subprocess, sys
for options in ({}, {"start_new_session": True}):
    print(subprocess.Popen(["sleep", "1000"], **options).pid, flush=True)
shell = subprocess.Popen(["sh", "-c", "sleep 1000 & echo $!"], stdout=subprocess.PIPE, text=True)
print(shell.stdout.readline().strip(), flush=True)  # its parent has ended
shell.wait()
sys.stdin.readline()
print(subprocess.Popen(["sleep", "1000"]).pid, flush=True)
sys.stdin.readline()
"""


@pytest.fixture
def parent() -> Iterator[Any]:
    process = subprocess.Popen(
        [sys.executable, "-c", PARENT],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    yield process
    end_offspring(process.pid, 0)
    process.kill()
    process.communicate()


@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_only_what_was_started_between_two_moments_is_ended(parent: Any) -> None:
    def next_pid() -> int:
        return int(parent.stdout.readline())

    child, in_its_own_session, orphan = (next_pid() for _ in range(3))
    time.sleep(0.05)  # the system counts in hundredths of a second
    between = boot_ticks()
    parent.stdin.write("\n")
    parent.stdin.flush()
    later = next_pid()
    end_offspring(parent.pid, between, boot_ticks() + 1)
    wait_until(lambda: not is_alive(later))
    assert is_alive(child) and is_alive(in_its_own_session) and is_alive(orphan)
    end_offspring(parent.pid, 0, between)
    wait_until(lambda: not any(map(is_alive, (child, in_its_own_session, orphan))))
    assert is_alive(parent.pid)


def test_nothing_is_found_of_a_process_that_does_not_exist() -> None:
    end_offspring(2**30, 0)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="there is no /proc")
def test_a_cancelled_call_takes_what_it_started_along_and_leaves_what_was_there_before(tmp_path: Any) -> None:
    def start(path: str, waits: bool, **options: Any) -> None:
        import os
        import subprocess
        import time

        child = subprocess.Popen(["sleep", "1000"], **options)
        with open(path + ".part", "w") as file:
            file.write(str(child.pid))
        os.rename(path + ".part", path)
        while waits:
            time.sleep(0.01)

    def pid_in(name: str) -> int:
        wait_until(lambda: (tmp_path / name).exists())
        return int((tmp_path / name).read_text())

    with LocalCluster(1) as cluster, cluster.client() as client:
        client.call(start, str(tmp_path / "before"), False)
        before = pid_in("before")
        time.sleep(0.05)
        calls = [
            client.submit(start, str(tmp_path / "child"), True),
            client.submit(start, str(tmp_path / "apart"), True, start_new_session=True),
        ]
        started = [pid_in("child"), pid_in("apart")]
        for call in calls:
            call.cancel()
        wait_until(lambda: not any(map(is_alive, started)))
        assert is_alive(before)
    wait_until(lambda: not is_alive(before))  # with its worker's process group
