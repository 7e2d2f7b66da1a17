"""Which calls a node has begun, so that nobody makes it begin one again.

A sealed call that was recorded on its way is good for as long as its statement says. So a node remembers each attempt that it
began until that time is over, in a file beside its key, where its next process finds it, and others that have the same key. What
it can't remember it refuses: when the memory is full, the calls that were made longest ago are forgotten, and from then on no
call is begun that was made before the newest of these. Without a file nothing that was made before this process began is begun.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from easyremote.errors import ConsentError
from easyremote.security.files import create_private, write_private
from easyremote.security.statements import SKEW_S

try:
    import fcntl
except ImportError:  # Windows: processes of one key don't wait for each other there
    fcntl = None  # type: ignore[assignment]

MAX_RUNS = 100_000
"""Attempts that are remembered at once."""

_RECORD = struct.Struct("<16sIdd")  # call id, attempt, when it was made, when it expires; times are seconds since 1970
_HEAD = b"easyremote runs1"
_FLOOR = bytes(16)
"""In place of a call's id: no call that was made up to this time is begun."""


class Run(NamedTuple):
    """An attempt that was begun."""

    call_id: bytes
    attempt: int
    issued: float
    expires: float


class RunMemory:
    """Remembers in this file, or in this process alone: without a path, for a key that is as young as the process, or where the
    file can't be used, whose `problem` says why."""

    def __init__(self, path: Path | None, now: float, max_runs: int = MAX_RUNS) -> None:
        self._runs: dict[bytes, tuple[Run, ...]] = {}
        self._count = 0
        self._max_runs = max_runs
        self._floor = 0.0
        self._file = -1
        self._read_to = 0
        self.path = path
        self.problem = ""  # why nothing can be written
        try:
            if path is not None:
                self._open(path)
                with self._alone():
                    if any(now >= run.expires + SKEW_S for run in self._all()):
                        self._make_room(now)
        except OSError as error:
            self.close()
            self.problem = str(error)
            self._floor = now + SKEW_S  # what was made before, by any clock, may have begun in an earlier process

    def begin(self, run: Run, max_runs: int, now: float) -> None:
        """Note that this attempt begins now. `max_runs`: attempts that the call may have in all.

        Raises ConsentError for one that was begun before, for one too many, and for one that is too old to know.
        """
        try:
            with self._alone():
                self._begin(run, max_runs, now)
        except OSError as error:
            if isinstance(error, ConsentError):
                raise
            reason = error.strerror or error
            raise ConsentError(f"the node can't note in {self.path} that the call begins: {reason}") from error

    def _begin(self, run: Run, max_runs: int, now: float) -> None:
        begun = self._runs.get(run.call_id, ())
        if run.call_id == _FLOOR or any(known.attempt == run.attempt for known in begun):
            raise ConsentError("this attempt of the call was begun here before; somebody sent it again")
        if len(begun) >= max_runs:
            raise ConsentError(
                f"the call was begun here {len(begun)} times, and its client allows {max_runs}; somebody sent it again"
            )
        if run.issued <= self._floor:
            raise ConsentError(self._too_old(now))
        if self._count >= self._max_runs:
            self._make_room(now)
            if run.issued <= self._floor:
                raise ConsentError(self._too_old(now))
        self._append(run)
        self._note(run)

    def close(self) -> None:
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def __len__(self) -> int:
        return self._count

    def _too_old(self, now: float) -> str:
        if self.problem:
            wait = f" in {self._floor - now:.0f} s" if self._floor > now else ""
            return (
                f"the call was made before this node started, and the node can't know whether it ran then ({self.problem}); "
                f"call again{wait}"
            )
        return "the call was made so long ago that the node can't know whether it ran here before; call again"

    # ---- in memory -----------------------------------------------------------------------------------------------

    def _note(self, run: Run) -> None:
        if run.call_id == _FLOOR:
            self._floor = max(self._floor, run.issued)
            return
        begun = self._runs.get(run.call_id, ())
        if all(known.attempt != run.attempt for known in begun):
            self._runs[run.call_id] = (*begun, run)
            self._count += 1

    def _all(self) -> list[Run]:
        return [run for begun in self._runs.values() for run in begun]

    def _make_room(self, now: float) -> None:
        """Forget what has expired; where that isn't enough, a quarter, by when the calls were made."""
        kept = [run for run in self._all() if now < run.expires + SKEW_S]
        gone = len(kept) - self._max_runs * 3 // 4
        if gone > 0:
            kept.sort(key=lambda run: run.issued)
            self._floor = max(self._floor, kept[gone - 1].issued)
            kept = [run for run in kept if run.issued > self._floor]
        self._runs, self._count = {}, 0
        for run in kept:
            self._note(run)
        self._replace_file()

    # ---- on disk -------------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Alone with the file, and knowing all that is in it."""
        if self._file < 0:
            yield
            return
        self._lock()
        try:
            self._catch_up()
            yield
        finally:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_UN)

    def _lock(self) -> None:
        """Another process may have put a shorter file in its place, or a person may have removed it."""
        assert self.path is not None
        while True:
            if fcntl is not None:
                fcntl.flock(self._file, fcntl.LOCK_EX)
            try:
                if os.path.samestat(os.stat(self.path), os.fstat(self._file)):
                    return
            except FileNotFoundError:
                self._replace_file()
                continue
            self.close()
            self._open(self.path)

    def _open(self, path: Path) -> None:
        create_private(path, _HEAD)
        self._file = os.open(path, os.O_RDWR | os.O_APPEND | getattr(os, "O_CLOEXEC", 0))
        self._read_to = 0
        status = os.fstat(self._file)
        if os.name == "posix" and (status.st_mode & 0o077 or status.st_uid != os.getuid()):
            raise OSError(f"{path} is open to other users; delete it")

    def _catch_up(self) -> None:
        """Read what other processes of this key have begun."""
        size = os.fstat(self._file).st_size
        if size and size == self._read_to:
            return
        data = os.pread(self._file, size - self._read_to, self._read_to)
        if self._read_to == 0:
            if not data.startswith(_HEAD):
                raise OSError(f"{self.path} isn't a list of begun calls; delete it")
            data = data[len(_HEAD) :]
            self._read_to = len(_HEAD)
        whole = len(data) - len(data) % _RECORD.size
        for fields in _RECORD.iter_unpack(data[:whole]):
            self._note(Run(*fields))
        self._read_to += whole
        if whole != len(data):  # a process, or the machine, stopped within a record
            os.ftruncate(self._file, self._read_to)

    def _replace_file(self) -> None:
        """Put a file with what is remembered in its place, in one step. It is locked by whoever does this."""
        if self._file < 0 or self.path is None:
            return
        records = [_RECORD.pack(*run) for run in self._all()]
        if self._floor:
            records.append(_RECORD.pack(_FLOOR, 0, self._floor, 0.0))
        write_private(self.path, _HEAD + b"".join(records))
        self.close()
        self._open(self.path)
        if fcntl is not None:
            fcntl.flock(self._file, fcntl.LOCK_EX)
        self._catch_up()

    def _append(self, run: Run) -> None:
        if self._file < 0:
            return
        record = _RECORD.pack(*run)
        written = os.write(self._file, record)
        if written != len(record):
            raise OSError("its disk is full")
        self._read_to += written
