"""What can be known of why a worker process died: its exit code or signal, the memory that it had, the kernel's OOM killer."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections import deque
from dataclasses import dataclass
from pathlib import Path

import psutil

_CGROUPS = Path("/sys/fs/cgroup")
_VMSTAT = Path("/proc/vmstat")
_NEAR = 0.8
"""A process that had this part of all memory there is, and was killed by nobody known, was probably killed for that."""

_SAMPLES = 8


@dataclass(frozen=True, slots=True)
class Death:
    """How a worker ended. `exit_code` as subprocess reports it: negative for a signal. `peak_bytes`: the most memory it had
    (resident), 0 where that isn't known; `limit_bytes`: the most that there is. `out_of_memory`: "yes", "likely" or "no"."""

    exit_code: int
    peak_bytes: int = 0
    limit_bytes: int = 0
    out_of_memory: str = "no"

    @property
    def signal(self) -> str:
        """The signal's name; empty where it exited."""
        if self.exit_code >= 0:
            return ""
        with contextlib.suppress(ValueError):
            return signal.Signals(-self.exit_code).name
        return f"signal {-self.exit_code}"

    def facts(self) -> dict[str, str]:
        """The details of the error."""
        facts = {"exit_code": str(self.exit_code), "out_of_memory": self.out_of_memory}
        if self.signal:
            facts["signal"] = self.signal
        if self.peak_bytes:
            facts["peak_memory_bytes"] = str(self.peak_bytes)
        return facts

    def text(self) -> str:
        """In words, on one line."""
        how = f"killed by {self.signal}" if self.signal else f"exit code {self.exit_code}"
        if self.out_of_memory == "yes":
            how += ", out of memory: the kernel's OOM killer ended it"
        elif self.out_of_memory == "likely":
            how += ", probably out of memory"
        elif self.exit_code == -signal.SIGKILL:
            how += ", not by EasyRemote"
        return how + (f"; it had up to {_size(self.peak_bytes)} of memory" if self.peak_bytes else "")

    def advice(self) -> str:
        """A sentence on what to do, or nothing."""
        if self.out_of_memory == "no":
            return ""
        return f" This machine gives it {_size(self.limit_bytes)}: let the call do less at once, or use a larger node."


class KillCounter:
    """How many processes here the OOM killer has ended. `sample` it now and then."""

    def __init__(self) -> None:
        self._seen: deque[int] = deque(maxlen=_SAMPLES)
        self._file = _kill_file()
        self.sample()

    def sample(self) -> None:
        self._seen.append(self._read())

    def has_grown(self) -> bool:
        """Since the oldest of the last samples. A large process takes a while to die, so the newest one is too new."""
        return self._read() > self._seen[0]

    def _read(self) -> int:
        with contextlib.suppress(OSError, ValueError, AttributeError):
            for line in self._file.read_text().splitlines():  # type: ignore[union-attr]
                name, _, count = line.partition(" ")
                if name == "oom_kill":
                    return int(count)
        return 0


def peak_bytes(pid: int) -> int:
    """The most memory that a running process has had, 0 where that can't be told."""
    with contextlib.suppress(OSError, ValueError, IndexError), open(f"/proc/{pid}/status") as file:
        for line in file:
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    return 0


def explain(exit_code: int, peak: int, was_killed_here: bool, kills: KillCounter) -> Death:
    """What is to be said of a worker that ended so."""
    limit = memory_limit()
    out_of_memory = "no"
    if exit_code == -signal.SIGKILL and not was_killed_here:
        if kills.has_grown():
            out_of_memory = "yes"
        elif peak >= _NEAR * limit:
            out_of_memory = "likely"
    return Death(exit_code, peak, limit, out_of_memory)


def memory_limit() -> int:
    """The most memory that processes here can have: the machine's, or less where a control group says so."""
    limits = [psutil.virtual_memory().total]
    group = _group("")
    if group is not None:
        for folder in (group, *group.parents):
            with contextlib.suppress(OSError, ValueError):
                limits.append(int((folder / "memory.max").read_text()))
    group = _group("memory")
    if group is not None:
        with contextlib.suppress(OSError, ValueError):
            limits.append(int((group / "memory.limit_in_bytes").read_text()))
    return min(limits)


def _kill_file() -> Path | None:
    """Where the kills are counted: in this process's control group, or else for the whole machine."""
    if sys.platform != "linux":
        return None
    group = _group("")
    events = group / "memory.events" if group is not None else None
    return events if events is not None and os.access(events, os.R_OK) else _VMSTAT


def _group(controller: str) -> Path | None:
    """The folder of this process's control group: of version 2, or the one of a controller of version 1."""
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controller in controllers.split(","):
            base = _CGROUPS / controller if controller else _CGROUPS
            inside = base / path.lstrip("/")
            return inside if inside.is_dir() else base  # a container sees its own group as the root
    return None


def _size(count: int) -> str:
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
