"""The audit log: who ran what, where, when, and how it ended; one line of JSON each, in files of this user alone.

Lines are written by a thread of their own, some times a second, so that no call waits for the disk. What isn't written yet when
the process is killed is missing; nothing else is, and where lines had to be left out a line says how many.
"""

from __future__ import annotations

import contextlib
import json
import os
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

try:
    import fcntl
except ImportError:  # no such thing on Windows: there only one process may write to a log
    fcntl = None  # type: ignore[assignment]

from easyremote.errors import UsageError

MAX_FILE_BYTES = 16 * 1024 * 1024
"""A file that has grown beyond this is put aside, and another begun."""

MAX_OLD_FILES = 7
"""So many are kept beside the current one; the oldest goes."""

MAX_WAITING = 100_000
"""Lines that wait to be written. Further ones are left out, and counted."""

MAX_TEXT = 200
"""Characters of a name from elsewhere; the rest is cut."""

FLUSH_EVERY_S = 0.2
PREFIX = "audit-"


class AuditLog:
    """Appends to one file. Several processes may."""

    def __init__(self, path: Path) -> None:
        """Raises UsageError where nothing can be written there."""
        self.path = path
        self._waiting: deque[tuple[float, Mapping[str, Any]]] = deque()
        self._left_out = 0
        self._wake = threading.Event()
        self._is_closed = False
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            os.close(self._open())
        except OSError as error:
            raise UsageError(
                f"the audit log {path} can't be written: {error.strerror}; give another path, or none"
            ) from None
        self._thread = threading.Thread(target=self._run, name="easyremote-audit", daemon=True)
        self._thread.start()

    def note(self, facts: Mapping[str, Any]) -> None:
        """Have a line written with these, and the time. At once, from any thread; whatever is wrong with the disk."""
        if len(self._waiting) >= MAX_WAITING:
            self._left_out += 1
        else:
            self._waiting.append((time.time(), facts))

    def close(self) -> None:
        """Write what waits. A file that is empty then goes."""
        self._is_closed = True
        self._wake.set()
        self._thread.join()
        with contextlib.suppress(OSError), self._alone():
            if not _size(self.path):
                self.path.unlink()

    def _run(self) -> None:
        while not self._is_closed:
            self._wake.wait(FLUSH_EVERY_S)
            self._flush()
        self._flush()

    def _flush(self) -> None:
        lines: list[str] = []
        while self._waiting:
            at, facts = self._waiting.popleft()
            lines.append(_line(at, facts))
        missing, self._left_out = self._left_out, 0
        if missing:
            lines.append(_line(time.time(), {"outcome": "left out", "count": missing}))
        if not lines:
            return
        try:
            self._append("".join(lines).encode())
        except OSError:
            self._left_out += len(lines) - bool(missing) + missing

    def _append(self, data: bytes) -> None:
        with self._alone():
            if _size(self.path) > MAX_FILE_BYTES:
                self._put_aside()
            descriptor = self._open()
            try:
                while data:
                    data = data[os.write(descriptor, data) :]
            finally:
                os.close(descriptor)

    def _open(self) -> int:
        flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | getattr(os, "O_NOFOLLOW", 0)
        descriptor = os.open(self.path, flags, 0o600)
        with contextlib.suppress(AttributeError):
            os.fchmod(descriptor, 0o600)
        return descriptor

    def _put_aside(self) -> None:
        for number in range(MAX_OLD_FILES - 1, 0, -1):
            with contextlib.suppress(FileNotFoundError):
                _numbered(self.path, number).replace(_numbered(self.path, number + 1))
        self.path.replace(_numbered(self.path, 1))

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """No other process puts files aside meanwhile."""
        if fcntl is None:
            yield
            return
        folder = os.open(self.path.parent, os.O_RDONLY)
        try:
            fcntl.flock(folder, fcntl.LOCK_EX)
            yield
        finally:
            os.close(folder)


def _line(at: float, facts: Mapping[str, Any]) -> str:
    stamp = datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    said = {
        key: _plain(value) for key, value in facts.items() if value is not None and value is not False and value != ""
    }
    return json.dumps({"at": stamp, **said}) + "\n"


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, float):
        return round(value, 6)
    return value[:MAX_TEXT] if isinstance(value, str) else value


def _numbered(path: Path, number: int) -> Path:
    return path.with_name(f"{path.name}.{number}")


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def open_log(wanted: bool | str | os.PathLike[str] | None, usual: Path) -> AuditLog | None:
    """The log that somebody asked for: True is the usual file, False and None are none."""
    if wanted is None or wanted is False:
        return None
    return AuditLog(usual if wanted is True else Path(wanted))


def gateway_path(folder: Path, port: int) -> Path:
    return folder / f"{PREFIX}gateway-{port}.jsonl"


def node_path(folder: Path, node_id: str) -> Path:
    """Of a node, whose name may hold anything."""
    name = "".join(letter if letter.isalnum() or letter in "-_." else "_" for letter in node_id)
    return folder / f"{PREFIX}node-{name[:100]}.jsonl"


def read(folder: Path) -> Iterator[dict[str, Any]]:
    """All lines of all logs in a folder, each with `log`, the name of its file; files one after another, oldest lines first in
    each. Lines that are none are passed over."""
    for current in sorted(folder.glob(f"{PREFIX}*.jsonl")):
        for path in (*(_numbered(current, number) for number in range(MAX_OLD_FILES, 0, -1)), current):
            with contextlib.suppress(FileNotFoundError), path.open(errors="replace") as file:
                for line in file:
                    with contextlib.suppress(ValueError):
                        facts = json.loads(line)
                        if isinstance(facts, dict) and isinstance(facts.get("at"), str):
                            yield {**facts, "log": current.stem.removeprefix(PREFIX)}
