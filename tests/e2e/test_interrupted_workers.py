"""A function in a worker is told to stop once, and surely."""

from __future__ import annotations

from pathlib import Path

import pytest

from easyremote import CallCancelled, Client, ComputeNode
from tests.conftest import wait_until


@pytest.fixture(autouse=True)
def quickly_and_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easyremote.execution.pool.INTERRUPT_EVERY_S", 0.01)
    monkeypatch.setattr("easyremote.execution.pool.KILL_AFTER_S", 1e6)


def test_what_it_does_to_clean_up_is_not_interrupted_again(node: ComputeNode, client: Client, tmp_path: Path) -> None:
    place = str(tmp_path)

    def work() -> None:
        import time

        try:
            open(f"{place}/began", "w").close()
            while True:
                time.sleep(0.002)
        finally:
            for _ in range(40):
                time.sleep(0.005)
            open(f"{place}/cleaned", "w").close()

    call = client.submit(work)
    wait_until((tmp_path / "began").exists)
    assert call.cancel()
    wait_until((tmp_path / "cleaned").exists)
    with pytest.raises(CallCancelled):
        call.result()
    assert client.call(lambda: 1) == 1


def test_an_interrupt_that_is_overlooked_comes_again(node: ComputeNode, client: Client, tmp_path: Path) -> None:
    """As Python does with one that comes just before its main thread begins to wait for a lock."""
    place = str(tmp_path)

    def work() -> None:
        import signal
        import threading

        hear = signal.getsignal(signal.SIGINT)
        overlooked = []

        def overlook(*about: object) -> None:
            overlooked.append(about)
            if len(overlooked) > 3 and callable(hear):
                signal.signal(signal.SIGINT, hear)
                hear(*about)

        signal.signal(signal.SIGINT, overlook)
        open(f"{place}/began", "w").close()
        try:
            threading.Event().wait()
        finally:
            open(f"{place}/ended", "w").close()

    call = client.submit(work)
    wait_until((tmp_path / "began").exists)
    assert call.cancel()
    wait_until((tmp_path / "ended").exists)
    assert client.call(lambda: 1) == 1
