"""Fixtures for everything: each test has a runtime folder of its own, so that no gateway of the machine is found by accident."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest


@pytest.fixture(autouse=True)
def runtime_folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path_factory.mktemp("run")
    folder.chmod(0o700)
    monkeypatch.setenv("EASYREMOTE_RUNTIME_DIR", str(folder))
    monkeypatch.setenv("EASYREMOTE_STATE_DIR", str(folder / "state"))
    monkeypatch.setenv("EASYREMOTE_CONFIG_DIR", str(folder / "config"))
    monkeypatch.delenv("EASYREMOTE_ADDRESS", raising=False)
    monkeypatch.delenv("EASYREMOTE_TOKEN", raising=False)
    return folder


def wait_until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    """Wait for a state that another process or thread brings about; fails when it doesn't come."""
    until = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < until, "the state that was waited for did not come"
        time.sleep(0.01)


def descendants_of(pid: int) -> set[int]:
    import psutil

    try:
        return {child.pid for child in psutil.Process(pid).children(recursive=True)}
    except psutil.NoSuchProcess:
        return set()


def is_alive(pid: int) -> bool:
    """Whether the process runs; a zombie doesn't."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _shared_files_of_nobody_else() -> set[str]:
    """Names in the shared folder that this process made, or a process that has ended; others' tests may run beside these."""
    names = {path.name for path in Path(f"/dev/shm/easyremote-{os.getuid()}").glob("*")}
    makers = {name: int(name.partition("-")[0]) for name in names}
    return {name for name, pid in makers.items() if pid == os.getpid() or not is_alive(pid)}


@pytest.fixture(autouse=True)
def no_shared_file_is_left() -> Iterator[None]:
    """Large payloads leave nothing behind in shared memory."""
    before = _shared_files_of_nobody_else()
    yield
    wait_until(lambda: not _shared_files_of_nobody_else() - before, 10)
