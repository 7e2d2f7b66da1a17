"""Files with all that calls printed, where that was more than was sent to their callers.

They are the node's, for its user alone, and end with it; a file of a call that has ended goes before, where room is needed.
Written in a thread of their own, so that a slow disk doesn't keep the node from anything; a
producer that is faster waits.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from easyremote.discovery import RUNTIME_VARIABLE
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_FILE_BYTES = 4 * 1024**3
"""Nothing is added to a file of this size."""

MAX_ALL_BYTES = 8 * 1024**3
"""Of all files of a node."""

MIN_FREE_BYTES = 1024**3
"""So much of the disk is left free."""

MAX_AGE_S = 7 * 24 * 3600.0
"""The file of a call that ended goes after this when another one begins."""

MAX_WAITING_BYTES = 8 * 1024 * 1024
"""What waits to be written; a producer waits from there on."""

_LOOK_EVERY_BYTES = 64 * 1024**2

Key = tuple[bytes, int]


@dataclass(slots=True)
class _File:
    key: Key
    path: Path
    descriptor: int
    size: int = 0
    is_full: bool = False
    ended_at: float = 0.0


class OutputFiles:
    """All files of one node. What is said here comes from the node's loop, and never waits."""

    def __init__(self, caught_up: Callable[[], None]) -> None:
        """`caught_up` is called, in the writing thread, when producers may go on."""
        self._caught_up = caught_up
        self._files: dict[Key, _File] = {}
        self._folder: _Folder | None = None
        self._queue: queue.SimpleQueue[tuple[_File, bytes] | _File | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()
        self._waiting_bytes = 0
        self._was_behind = False
        self._unlooked_bytes = _LOOK_EVERY_BYTES

    @property
    def is_behind(self) -> bool:
        """Whether producers have to wait."""
        with self._lock:
            self._was_behind = self._was_behind or self._waiting_bytes > MAX_WAITING_BYTES
            return self._waiting_bytes > MAX_WAITING_BYTES

    def take(self, key: Key, output: pb.Output) -> bool:
        """Keep what is to be kept, and say in a tail where. False: nothing of it is to be sent on."""
        if output.to_file:
            self._add(key, output.kept)
            return False
        if output.HasField("tail"):
            file = self._files.get(key)
            output.tail.file = str(file.path) if file is not None else ""
            output.tail.kept_bytes = file.size if file is not None and file.is_full else 0
        return True

    def ended(self, key: Key) -> None:
        """Nothing more comes of this call."""
        file = self._files.get(key)
        if file is not None:
            self._queue.put(file)

    def close(self) -> None:
        """Remove all of them."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None
        for file in self._files.values():
            _close(file)
        self._files.clear()
        if self._folder is not None:
            self._folder.remove()

    def _add(self, key: Key, data: bytes) -> None:
        file = self._files.get(key)
        if file is None:
            file = self._open(key)
            if file is None:
                return
        with self._lock:
            self._waiting_bytes += len(data)
        self._queue.put((file, data))

    def _open(self, key: Key) -> _File | None:
        """None where there can't be one: the call goes on without."""
        try:
            if self._folder is None:
                self._folder = _Folder()
            path = self._folder.path / f"{key[0].hex()[:12]}-{key[1]}.txt"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        except OSError:
            return None
        if self._thread is None:
            self._thread = threading.Thread(target=self._write, name="easyremote-output-files", daemon=True)
            self._thread.start()
        file = self._files[key] = _File(key, path, descriptor)
        self._forget_old()
        return file

    # ---- in the writing thread -----------------------------------------------------------------------------------

    def _write(self) -> None:
        while (work := self._queue.get()) is not None:
            if isinstance(work, _File):
                work.ended_at = time.monotonic()
                _close(work)
                continue
            file, data = work
            if not file.is_full and self._has_room(file, len(data)):
                try:
                    _write_all(file.descriptor, data)
                    file.size += len(data)
                except OSError:
                    file.is_full = True
            self._written(len(data))

    def _written(self, size: int) -> None:
        with self._lock:
            self._waiting_bytes -= size
            may_go_on = self._was_behind and self._waiting_bytes <= MAX_WAITING_BYTES // 2
            if may_go_on:
                self._was_behind = False
        if may_go_on:
            self._caught_up()

    def _has_room(self, file: _File, size: int) -> bool:
        if file.size + size > MAX_FILE_BYTES:
            file.is_full = True
            return False
        while sum(known.size for known in list(self._files.values())) + size > MAX_ALL_BYTES or not self._disk_has(
            size
        ):
            if not self._remove_oldest():
                file.is_full = True
                return False
        return True

    def _disk_has(self, size: int) -> bool:
        self._unlooked_bytes += size
        if self._unlooked_bytes < _LOOK_EVERY_BYTES or self._folder is None:
            return True
        if shutil.disk_usage(self._folder.path).free < MIN_FREE_BYTES:
            return False
        self._unlooked_bytes = 0
        return True

    def _remove_oldest(self) -> bool:
        ended = [file for file in list(self._files.values()) if file.ended_at]
        if ended:
            self._remove(min(ended, key=lambda file: file.ended_at))
        return bool(ended)

    def _forget_old(self) -> None:
        for file in list(self._files.values()):
            if file.ended_at and time.monotonic() - file.ended_at > MAX_AGE_S:
                self._remove(file)

    def _remove(self, file: _File) -> None:
        with contextlib.suppress(OSError):
            file.path.unlink()
        self._files.pop(file.key, None)


class _Folder:
    """Of one node process, locked while that lives: what others left behind is removed by the next one."""

    def __init__(self) -> None:
        configured = os.environ.get(RUNTIME_VARIABLE)
        # Not in XDG_RUNTIME_DIR: that is memory, and small.
        root = Path(configured or platformdirs.user_cache_dir("easyremote")) / "output"
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        for other in root.iterdir():
            _sweep(other)
        self.path = root / secrets.token_hex(6)
        self.path.mkdir(mode=0o700)
        self._lock = os.open(self.path / ".lock", os.O_RDWR | os.O_CREAT, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def remove(self) -> None:
        shutil.rmtree(self.path, ignore_errors=True)
        os.close(self._lock)
        with contextlib.suppress(OSError):
            self.path.parent.rmdir()


def _sweep(folder: Path) -> None:
    """Remove another node's folder, if that has ended. One that is being made has no lock yet."""
    try:
        lock = os.open(folder / ".lock", os.O_RDWR | os.O_NOFOLLOW)
    except OSError:
        return
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        shutil.rmtree(folder, ignore_errors=True)
    except OSError:
        pass
    finally:
        os.close(lock)


def _close(file: _File) -> None:
    if file.descriptor >= 0:
        os.close(file.descriptor)
        file.descriptor = -1


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
