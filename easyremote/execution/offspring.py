"""What a worker process started, and what that started: found wherever it hid, and killed.

A process leaves its group with setsid, and its parents when they end before it. So there are three ways to find it: it descends
from the worker, it is in the worker's session, or it has the worker's mark in its environment, which is inherited. One that is
in none of these (an orphan in a session of its own with an environment that was made anew) escapes.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import sys
import time
from collections.abc import Iterable
from typing import NamedTuple

MARK = "EASYREMOTE_OFFSPRING"
"""The variable with the mark. Who removes it from a process's environment lets that process outlive its worker."""

_ROUNDS = 20
_PAUSE_S = 0.01


class _Process(NamedTuple):
    pid: int
    parent: int
    session: int
    began: int  # in clock ticks since the machine started
    is_zombie: bool


def new_mark() -> str:
    """One for a worker of this process."""
    return f"{os.getpid()}-{secrets.token_hex(8)}"


def began(pid: int) -> int:
    """When this process began, in `boot_ticks`; 0 when it isn't there, or this isn't Linux."""
    process = _look(pid)
    return process.began if process is not None else 0


def boot_ticks() -> int:
    """Now, on the clock by which the system says when a process was started, in hundredths of a second. 0 elsewhere than on
    Linux."""
    if sys.platform != "linux":
        return 0
    return int(time.clock_gettime(time.CLOCK_BOOTTIME) * os.sysconf("SC_CLK_TCK"))


def descendants(root: int) -> list[int]:
    """Its children, theirs, and so on. Quick."""
    found: list[int] = []
    pending = [root]
    while pending:
        for child in children(pending.pop()):
            found.append(child)
            pending.append(child)
    return found


def kill(pids: Iterable[int]) -> None:
    """SIGKILL for each that is there and may be killed."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def end_offspring(worker: int, began: int, ended: int | None = None, mark: str = "") -> None:
    """Kill all that a worker has started between these moments, in `boot_ticks`, until there is nothing more of it.

    Takes 0.2 s at most where what is killed goes on to start others, and longer where the machine has very many processes.
    """
    for _ in range(_ROUNDS):
        found = _find(worker, began, ended, mark)
        if not found:
            break
        kill(found)
        time.sleep(_PAUSE_S)


def _find(worker: int, began: int, ended: int | None, mark: str) -> list[int]:
    """Looks at every process of the machine that is no older than the worker."""
    if sys.platform != "linux":
        return []
    ours = {worker}
    found: list[int] = []
    since = _look(worker)
    everybody = _all_since(since.began if since is not None else began)
    for process in sorted(everybody, key=lambda process: (process.began, process.pid)):  # parents before their children
        if process.pid in (worker, os.getpid()):
            continue
        if process.session == worker or process.parent in ours or (mark and _has(process.pid, mark)):
            ours.add(process.pid)
            if process.began >= began and (ended is None or process.began <= ended) and not process.is_zombie:
                found.append(process.pid)
    return found


def _all_since(since: int) -> Iterable[_Process]:
    for name in os.listdir("/proc"):
        if name.isdigit():
            process = _look(int(name))
            if process is not None and process.began >= since:
                yield process


def _look(pid: int) -> _Process | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            state, parent, _, session, *rest = file.read().rpartition(b")")[2].split()
    except (OSError, ValueError):
        return None
    return _Process(pid, int(parent), int(session), int(rest[15]), state in (b"Z", b"X"))


def children(pid: int) -> list[int]:
    """What this process started itself and runs, where the system says so; none where there is no such process."""
    try:
        threads = os.listdir(f"/proc/{pid}/task")
    except OSError:
        return []
    found: list[int] = []
    for thread in threads:
        with contextlib.suppress(OSError), open(f"/proc/{pid}/task/{thread}/children") as file:
            found += map(int, file.read().split())
    return found


def _has(pid: int, mark: str) -> bool:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            return f"{MARK}={mark}".encode() in file.read()
    except OSError:
        return False
