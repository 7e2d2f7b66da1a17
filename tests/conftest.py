"""Fixtures for everything: each test has a runtime folder of its own, so that no gateway of the machine is found by accident.

Several processes may run tests side by side, of this checkout or of another one. What a whole machine has but once, each has
for itself: its shared memory is a folder of its own.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

_SHARED_MEMORY = Path("/dev/shm")
_TOGETHER = ("tests/browser/", "tests/notebook/", "tests/cli/test_call.py")
_TESTS_OF = f"easyremote-tests-{os.getuid()}-"


def pytest_configure(config: pytest.Config) -> None:
    """Give this process, and those that it starts, a shared memory of their own; remove that of dead ones."""
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_DFL)  # under nohup, programs under test would rightly ignore it
    if not os.access(_SHARED_MEMORY, os.W_OK):
        return
    for left in _SHARED_MEMORY.glob(f"{_TESTS_OF}*"):
        if not is_alive(int(left.name.removeprefix(_TESTS_OF))):
            shutil.rmtree(left, ignore_errors=True)
    folder = _SHARED_MEMORY / f"{_TESTS_OF}{os.getpid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    os.environ["EASYREMOTE_SHARED_MEMORY"] = str(folder)
    config.add_cleanup(lambda: shutil.rmtree(folder, ignore_errors=True))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where several processes run tests, each takes the next one; those of a file whose tests share a browser, a kernel or a node
    stay in one, and begin first."""
    from xdist.scheduler import LoadScopeScheduling

    class Scheduling(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return path if path.startswith(_TOGETHER) else nodeid

    return Scheduling(config, log)


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


def free_port() -> int:
    """A port for a gateway that is to come back at the same one.

    Below those that the system gives to whoever asks for any, so that no test beside this one gets it in the meantime.
    """
    while True:
        port = _ports.randrange(10_000, 32_000)
        with socket.socket() as listener:
            try:
                listener.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


_ports = random.Random()


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


def shared_folder() -> Path:
    """Where processes of these tests hand over large payloads."""
    root = os.environ.get("EASYREMOTE_SHARED_MEMORY", "")
    return Path(root if os.path.isabs(root) else "/dev/shm", f"easyremote-{os.getuid()}")


def _shared_files() -> set[str]:
    """Names in the shared folder that this process made, or a process that has ended."""
    names = {path.name for path in shared_folder().glob("*")}
    makers = {name: int(name.partition("-")[0]) for name in names}
    return {name for name, pid in makers.items() if pid == os.getpid() or not is_alive(pid)}


@pytest.fixture(autouse=True)
def no_shared_file_is_left() -> Iterator[None]:
    """Large payloads leave nothing behind in shared memory."""
    before = _shared_files()
    yield
    wait_until(lambda: not _shared_files() - before, 10)
