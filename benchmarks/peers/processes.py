"""One system's round: its driver process, what it says, and the end of everything that it started."""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import queue
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

from benchmarks.peers import CONTENDERS, Contender

_ROOT = Path(__file__).parent.parent.parent
_BUILD = _ROOT / ".build" / "peers"

START_WITHIN_S = 60.0
_REST_S = 1.0
"""Between the first result and the look at the memory."""

_STOPS_WITHIN_S = 15.0
_LEAVES_WITHIN_S = 3.0
"""How long processes of a system that said it has stopped may still be seen."""

_PR_SET_CHILD_SUBREAPER = 36


class TooSlow(Exception):
    """It said nothing within the time that it had."""


class Ended(Exception):
    """The driver ended before it said what it should; the message is its last line."""


class Round:
    """A driver that runs `workloads` of one system. Use it in a `with` block, which ends with all of its processes."""

    def __init__(self, name: str, workloads: list[str]) -> None:
        self._name = name
        self._folder = tempfile.mkdtemp(prefix="bench-")
        self._lines: queue.Queue[str] = queue.Queue()
        contender = CONTENDERS[name]
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the round
        self._process = subprocess.Popen(
            [
                python_of(contender),
                *("-m", "benchmarks.peers.driver", name, repr(time.monotonic())),
                *workloads,
            ],
            cwd=self._folder,
            env=_environment(contender, self._folder),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            text=True,
            start_new_session=True,  # Ctrl-C is ours; we end it
        )
        threading.Thread(target=self._read, daemon=True).start()

    def first(self) -> tuple[str, dict[str, float]]:
        """Version, seconds to the first result, and memory at rest."""
        said = self.next(START_WITHIN_S)
        time.sleep(_REST_S)
        client = psutil.Process(self._process.pid)
        rest = sum(_own_bytes(process) for process in client.children(recursive=True))
        assert self._process.stdin is not None
        self._process.stdin.write("go on\n")
        self._process.stdin.flush()
        return said["version"], {
            "first_result_s": said["first_result_s"],
            "memory_mb": (rest + _own_bytes(client)) / 1e6,
            "memory_without_client_mb": rest / 1e6,
        }

    def next(self, within_s: float) -> dict[str, Any]:
        """What it says next. Raises TooSlow or Ended."""
        try:
            line = self._lines.get(timeout=within_s)
        except queue.Empty:
            raise TooSlow(f">{within_s:g} s") from None
        if not line:
            raise Ended(self._last_words())
        return json.loads(line)

    def stopped(self) -> None:
        """Wait until it has ended by itself."""
        with contextlib.suppress(TooSlow, Ended):
            self.next(_STOPS_WITHIN_S)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOPS_WITHIN_S)
        left = _wait_until_gone(_LEAVES_WITHIN_S)
        if left:
            names = ", ".join(sorted({name_of(process) for process in left}))
            print(f"  {self._name} left {len(left)} processes behind: {names}", file=sys.stderr)

    def __enter__(self) -> Round:
        return self

    def __exit__(self, *_: object) -> None:
        end_all()
        self._process.wait()
        self._log.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def _read(self) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as lines:
            for line in lines:
                self._lines.put(line)
        self._lines.put("")

    def _last_words(self) -> str:
        size = os.fstat(self._log.fileno()).st_size
        text = os.pread(self._log.fileno(), 4000, max(size - 4000, 0)).decode(errors="replace")
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        return (lines or ["ended without a word"])[-1][:200]


def adopt_orphans() -> None:
    """Let processes whose parent has ended become ours (Linux), so that whatever a system leaves behind is found."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)


def end_all() -> None:
    """End every process that descends from this one: asked first, so that it can remove what it made, then killed."""
    for signal_ in (signal.SIGTERM, *[signal.SIGKILL] * 5):  # one that was about to start another needs one more
        left = psutil.Process().children(recursive=True)
        if not left:
            return
        for process in left:
            with contextlib.suppress(psutil.Error):
                process.send_signal(signal_)
        psutil.wait_procs(left, _LEAVES_WITHIN_S)


def name_of(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return process.name()
    return "?"


def _wait_until_gone(within_s: float) -> list[psutil.Process]:
    """Our descendants that are still there after that time."""
    return psutil.wait_procs(psutil.Process().children(recursive=True), within_s)[1]


def _own_bytes(process: psutil.Process) -> int:
    """Its memory, what it shares with others counted in parts (PSS): the sum over processes is what they take together."""
    with contextlib.suppress(psutil.Error):
        return process.memory_full_info().pss
    return 0


def python_of(contender: Contender) -> str:
    """The interpreter that the system is installed in. Raises SystemExit when it isn't there."""
    if contender.home == "here":
        return sys.executable
    python = _BUILD / contender.home / "bin" / "python"
    if not python.exists():
        raise SystemExit(f"{python} is missing; `make bench-peers` installs the peers")
    return str(python)


def _environment(contender: Contender, folder: str) -> dict[str, str]:
    """The benchmarks are found by way of a folder that holds nothing else: the repository's root would also offer its
    `easyremote` to the environment that has the old one."""
    path = _BUILD / "path"
    path.mkdir(parents=True, exist_ok=True)
    link = path / "benchmarks"
    if not link.exists():
        link.symlink_to(_ROOT / "benchmarks", target_is_directory=True)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("EASYREMOTE_")}
    return {
        **kept,
        "PYTHONPATH": str(path),
        "TMPDIR": folder,
        "RAY_TMPDIR": folder,
        "IPYTHONDIR": folder,
        "EASYREMOTE_RUNTIME_DIR": folder,
        **contender.environment,
    }
