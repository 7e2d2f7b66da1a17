"""What a worker process gets of its node, and how much: environment, descriptors, limits.

These keep code from taking by accident, or with little effort, what isn't meant for it. They are no wall: without a sandbox
(`execution.sandbox`) a worker is a process of the node's user, and may read what that user may read.
"""

from __future__ import annotations

import os
import re
import resource
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from easyremote.execution import variables
from easyremote.execution.environments.interpreter import Interpreter
from easyremote.execution.sandbox import Sandbox

_KEPT = frozenset(
    f"EASYREMOTE_{name}"
    for name in ("RUNTIME_DIR", "STATE_DIR", "CONFIG_DIR", "SHARED_MEMORY", "LOCAL_SOCKET", "EXPLAIN_WAITING")
)
"""Settings of ours that a worker sees: none of them opens anything. All others stay with the node."""

_SECRET = re.compile(r"\ber1:[\w-]{16,}|\ber_[0-9a-f]{8}_[\w-]{20,}|PRIVATE KEY-----")
"""Join strings, tokens and keys, whatever the variable that holds them is called."""

MAX_OPEN_FILES = 65_536
"""The most descriptors that a worker may raise its limit to; the limit itself stays as it was."""

MAX_PROCESSES = 8192
"""Processes and threads in one sandbox. Without one the system counts those of the whole user, so none are counted."""


@dataclass(frozen=True, slots=True)
class Confinement:
    """How a node holds its workers. `memory_bytes`: what a call that doesn't say what it needs may take; None: no limit.
    `secrets`: texts that no worker's environment may contain. `shared`: folders in which large values are handed over.
    `interpreter`: the Python that workers have instead of the node's own.
    `modules`: the folder in which shipped modules are to lie, outside of a sandbox."""

    sandbox: Sandbox | None = None
    memory_bytes: int | None = None
    secrets: tuple[str, ...] = ()
    shared: tuple[Path, ...] = ()
    interpreter: Interpreter | None = None
    modules: str | None = None


def environment(ours: Mapping[str, str], secrets: Iterable[str], box: Sandbox | None = None) -> dict[str, str]:
    """A worker's, from this process's: without settings that open a gateway, variables whose value does, and what leads into the
    login session of the node's user; in a sandbox only what is for computing, and what the owner named."""
    known = [secret for secret in secrets if secret]
    return {
        name: value
        for name, value in ours.items()
        if _is_passed(name, box) and not _SECRET.search(value) and not any(secret in value for secret in known)
    }


def _is_passed(name: str, box: Sandbox | None) -> bool:
    if name.startswith("EASYREMOTE_"):
        return name in _KEPT
    if variables.is_of_the_session(name):
        return False
    return box is None or name in box.env or variables.is_for_computing(name, box.network)


def keep_to_itself(descriptors: Iterable[int]) -> None:
    """Of this process: what it starts doesn't inherit them."""
    for descriptor in descriptors:
        os.set_inheritable(descriptor, False)


def limit_process(is_sandboxed: bool) -> None:
    """Of this process, a worker, for good: no core dumps, which would hold the arguments of calls; a bound for descriptors, and
    in a sandbox for processes."""
    _lower(resource.RLIMIT_CORE, 0)
    _lower(resource.RLIMIT_NOFILE, MAX_OPEN_FILES)
    if is_sandboxed and hasattr(resource, "RLIMIT_NPROC"):
        _lower(resource.RLIMIT_NPROC, MAX_PROCESSES)


def _lower(which: int, most: int) -> None:
    soft, hard = resource.getrlimit(which)
    hard = most if hard == resource.RLIM_INFINITY else min(hard, most)
    resource.setrlimit(which, (hard if soft == resource.RLIM_INFINITY else min(soft, hard), hard))


class MemoryLimit:
    """How much memory this process, a worker, may take for the call that runs, beyond what it has without one.

    It is RLIMIT_DATA, memory that the process could write and shares with nobody. RLIMIT_AS counts reserved addresses too, of
    which CUDA takes more than the machine has memory, and each thread 128 MiB. A control group would count what the call's
    child processes take as well, but only root can make one in most places. Where it is reached, the function sees MemoryError.
    """

    def __init__(self, default_bytes: int) -> None:
        self._default_bytes = default_bytes
        self._base_bytes = _data_bytes()
        self._hard = resource.getrlimit(resource.RLIMIT_DATA)[1]
        self._set = -1

    def begin(self, wanted_bytes: int) -> None:
        """A call runs that says what it needs, or 0."""
        limit = self._base_bytes + (wanted_bytes or self._default_bytes)
        if limit != self._set:
            self._set = limit
            allowed = limit if self._hard == resource.RLIM_INFINITY else min(limit, self._hard)
            resource.setrlimit(resource.RLIMIT_DATA, (allowed, self._hard))


def _data_bytes() -> int:
    """What counts for RLIMIT_DATA now; 0 where the system doesn't say."""
    try:
        with open("/proc/self/status") as file:
            return next((int(line.split()[1]) * 1024 for line in file if line.startswith("VmData:")), 0)
    except OSError:
        return 0
