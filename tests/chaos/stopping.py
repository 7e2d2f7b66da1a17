"""Cancelled calls and what they leave running: R8."""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

from tests.chaos.load import Outcome
from tests.chaos.promises import Trial, promise
from tests.chaos.stage import stage
from tests.conftest import is_alive, wait_until

SETTLED_BOUND_S, GONE_BOUND_S = 0.2, 6.0


def _kinds() -> dict[str, Callable[[str], Any]]:
    """Functions that are shipped, so they are made here: what is importable would travel by its name."""

    def tell(path: str, *pids: int) -> None:
        import os

        with open(path + ".part", "w") as file:
            file.write(" ".join(map(str, (os.getpid(), *pids))))
        os.rename(path + ".part", path)

    def busy(path: str) -> None:
        tell(path)
        while True:
            pass

    def in_c(path: str) -> None:
        import ctypes

        tell(path)
        ctypes.CDLL(None).sleep(1000)

    def in_c_with_the_lock(path: str) -> None:
        import re

        tell(path)
        re.match(r"(a+)+$", "a" * 60 + "b")

    def ignores_signals(path: str) -> None:
        import signal
        import time

        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        tell(path)
        while True:
            time.sleep(1000)

    def swallows_interrupts(path: str) -> None:
        import contextlib
        import time

        tell(path)
        while True:
            with contextlib.suppress(BaseException):
                time.sleep(1000)

    def with_a_child(path: str) -> None:
        import subprocess

        child = subprocess.Popen(["sleep", "1000"])
        tell(path, child.pid)
        child.wait()

    def with_grandchildren(path: str) -> None:
        import signal
        import subprocess

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        shell = subprocess.Popen(["sh", "-c", "sleep 1000 & echo $!; wait"], stdout=subprocess.PIPE, text=True)
        assert shell.stdout is not None
        tell(path, shell.pid, int(shell.stdout.readline()))
        shell.wait()

    def with_a_fork(path: str) -> None:
        import os
        import time

        child = os.fork()
        if child == 0:
            time.sleep(1000)
            os._exit(0)
        tell(path, child)
        time.sleep(1000)

    def with_a_daemon(path: str) -> None:
        import subprocess
        import time

        daemon = subprocess.Popen(["sleep", "1000"], start_new_session=True)
        tell(path, daemon.pid)
        time.sleep(1000)

    kinds = (busy, in_c, in_c_with_the_lock, ignores_signals, swallows_interrupts)
    parents = (with_a_child, with_grandchildren, with_a_fork, with_a_daemon)
    return {kind.__name__: _locked(kind) for kind in (*kinds, *parents)}


def _locked(kind: Callable[[str], Any]) -> Callable[[str], Any]:
    """It holds a lock while it runs, and so does whatever it forks. Its worker may live on for the next call."""

    def run(path: str) -> None:
        import fcntl

        with open(f"{path}.lock", "w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            kind(path)

    return run


def _is_running(path: Path, pids: list[int]) -> bool:
    with open(f"{path}.lock") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return any(map(is_alive, pids[1:]))  # the first is its worker


def _end_all(pids: list[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@promise(
    "R8",
    "cancel",
    "A cancelled call ends at once for its caller, and 6 s later no process of it is left, children included.",
    trials="calls in busy loops, in C code, that ignore signals and interrupts, with children, grandchildren and forks",
    figure="longest time until the caller's handle had ended, in s",
    bound=SETTLED_BOUND_S,
)
def cancel(for_s: float) -> Iterator[Trial]:
    with stage(local_socket=True, shared_memory=True) as on:
        on.gateway()
        on.node("node", slots=16)
        client = on.client()
        kinds = _kinds()
        done = 0

        def trial(rng: Random) -> Outcome:
            nonlocal done
            began: list[tuple[str, Any, Path]] = []
            for kind in rng.sample(sorted(kinds), 3):
                done += 1
                path = on.marks / f"pids-{done}"
                began.append((kind, client.submit(kinds[kind], str(path)), path))
            for _, call, path in began:
                wait_until(lambda path=path, call=call: path.exists() or call.done(), 30)
            outcome = Outcome(trials=len(began))
            cancelled: list[tuple[str, Path, list[int], float]] = []
            for kind, call, path in began:
                asked = time.monotonic()
                call.cancel()
                call.exception(timeout=10)
                took_s = time.monotonic() - asked
                outcome.worst = max(outcome.worst, took_s)
                if took_s > SETTLED_BOUND_S:
                    outcome.late.append(f"{kind}: the caller's handle ended after {took_s:.2f} s")
                cancelled.append((kind, path, [int(pid) for pid in path.read_text().split()], asked))
            for kind, path, pids, asked in cancelled:
                while _is_running(path, pids) and time.monotonic() < asked + GONE_BOUND_S:
                    time.sleep(0.02)
                if _is_running(path, pids):
                    left = sum(map(is_alive, pids[1:]))
                    outcome.violations.append(f"{kind}: it runs after 6 s, with {left} of its {len(pids) - 1} children")
                    _end_all(pids[1:])
            if client.submit(lambda: 1).result(timeout=60) != 1:
                outcome.violations.append("the node takes no further calls")
            return outcome

        yield trial
