"""A worker that dies is noticed, whatever it leaves behind: bytes that it never read, a child that holds its link."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from easyremote import Client, ComputeNode, WorkerCrashed
from easyremote.execution.pool import WorkerProcess
from tests.conftest import is_alive, wait_until


def test_one_that_never_read_what_it_was_sent(
    node: ComputeNode, client: Client, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its socket then ends with an error instead of an end, which libuv tells no reader of."""
    place = tmp_path / "pid"
    sent: list[int] = []
    give_credit = WorkerProcess.give_credit

    def noting(self: WorkerProcess, count: int) -> None:
        give_credit(self, count)
        sent.append(count)

    monkeypatch.setattr(WorkerProcess, "give_credit", noting)

    def work() -> Iterator[bytes]:
        import os

        place.write_text(str(os.getpid()))
        while True:
            yield bytes(100_000)

    items = iter(client.stream(work))
    next(items)
    pid = int(place.read_text())
    os.kill(pid, signal.SIGSTOP)
    before = len(sent)
    while len(sent) == before:
        next(items)
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
