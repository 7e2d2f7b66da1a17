"""What a worker's call has started: found by its parents and its session, and ended when the call is cancelled.

Where the system has no /proc, nothing is found; the worker's process group is all that is ended there.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from typing import NamedTuple

_TICKS_PER_S = os.sysconf("SC_CLK_TCK") if hasattr(os, "sysconf") else 100
_BOOT_CLOCK = getattr(time, "CLOCK_BOOTTIME", None)


class _Seen(NamedTuple):
    pid: int
    parent: int
    session: int
    started: int  # in ticks since the machine was booted


def boot_ticks() -> int:
    """Now, on the clock by which the system says when a process was started."""
    return int(time.clock_gettime(_BOOT_CLOCK) * _TICKS_PER_S) if _BOOT_CLOCK is not None else 0


def end_offspring(worker: int, began: int, ended: int | None = None) -> None:
    """SIGKILL to what a worker has started between these moments, in `boot_ticks`: its children and theirs, and whatever else is
    in its session. A process that made itself a daemon, in a session of its own and with its parent gone, isn't found."""
    for pid in _offspring(worker, began, ended):
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)


def _offspring(worker: int, began: int, ended: int | None) -> list[int]:
    everybody = list(filter(None, map(_look_at, _pids())))
    family = {worker}
    found: list[int] = []
    for seen in sorted(everybody, key=lambda seen: (seen.started, seen.pid)):  # parents before their children
        if seen.pid != worker and (seen.parent in family or seen.session == worker):
            family.add(seen.pid)
            if seen.started >= began and (ended is None or seen.started <= ended):
                found.append(seen.pid)
    return found


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir("/proc") if name.isdecimal()]
    except OSError:
        return []


def _look_at(pid: int) -> _Seen | None:
    try:
        with open(f"/proc/{pid}/stat", "rb") as file:
            # The name, in brackets, may have anything in it.
            fields = file.read().rpartition(b")")[2].split()
        return _Seen(pid, int(fields[1]), int(fields[3]), int(fields[19]))
    except (OSError, ValueError, IndexError):
        return None  # it has ended meanwhile
