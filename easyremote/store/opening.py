"""Opens a journal, whatever its last process or its disk has done to it.

Rules:
- A journal of a newer version, or a file that isn't one, is left as it is, and nothing is kept until it was moved.
- A journal that another gateway uses is left alone.
- A damaged one is put aside under another name; what can be read of it goes into a new one.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import sqlite3
import struct
import time
from pathlib import Path
from typing import NamedTuple

from easyremote.errors import JobsUnavailable
from easyremote.store import schema
from easyremote.store.salvage import salvage

CHECKED_BYTES = 256 * 1024 * 1024
"""A journal up to this size is checked as a whole when it is opened; of a larger one what is read."""

_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_SHORT_READ = 522  # SQLITE_IOERR_SHORT_READ, which the module has no name for before Python 3.12

_HEADER = struct.Struct(">60xi4xi28x")
_MAGIC = b"SQLite format 3\0"


class Opened(NamedTuple):
    """A journal that is open. `notes` are for the person who started the gateway."""

    conn: sqlite3.Connection
    lock: int
    notes: list[str]
    aside: Path | None = None  # where a damaged one was put


def open_journal(path: Path) -> Opened:
    """Raises JobsUnavailable, which says what to do."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        lock = _lock(path)
    except OSError as error:
        raise JobsUnavailable(
            f"no jobs are kept: the journal {path} can't be made: {error.strerror}. Name another with --journal PATH"
        ) from error
    try:
        return _open_locked(path, lock)
    except sqlite3.Error as error:
        os.close(lock)
        raise JobsUnavailable(f"no jobs are kept: the journal {path} can't be opened: {error}") from error
    except OSError as error:
        os.close(lock)
        raise JobsUnavailable(f"no jobs are kept: the journal {path} can't be opened: {error.strerror}") from error
    except BaseException:
        os.close(lock)
        raise


def is_damage(error: BaseException) -> bool:
    """Whether it is the file that is at fault, rather than the disk or the request."""
    if isinstance(error, UnicodeDecodeError):
        return True  # SQLite's message repeats what it found, which is no text
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.DatabaseError) and (
        code == _SHORT_READ or (code is not None and code & 0xFF in _DAMAGED)
    )


def _lock(path: Path) -> int:
    """A lock beside the journal, so that one which isn't ours to open is never touched."""
    descriptor = os.open(path.with_name(f"{path.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise JobsUnavailable(
            f"no jobs are kept: another gateway uses the journal {path}. Stop it, or name another with --journal PATH"
        ) from None
    return descriptor


def _open_locked(path: Path, lock: int) -> Opened:
    problem = _refuse(path)
    if problem:
        raise JobsUnavailable(problem)
    try:
        return Opened(_connect(path), lock, [])
    except (sqlite3.DatabaseError, UnicodeDecodeError) as error:
        if not is_damage(error):
            raise
        damage = str(error)
    conn, aside = _replace(path)
    return Opened(conn, lock, [_replaced_note(path, aside, damage)], aside)


def _refuse(path: Path) -> str:
    """Why this file isn't opened, or nothing. Read without SQLite, which might change it."""
    try:
        with path.open("rb") as file:
            head = file.read(100)
    except FileNotFoundError:
        return ""
    if len(head) < 100 or not head.startswith(_MAGIC):
        return ""  # empty, or damaged
    version, application = _HEADER.unpack(head)
    if application != schema.APPLICATION_ID:
        if application == 0 and version == 0:
            return ""  # it was being made
        return _foreign(path)
    if version > schema.VERSION:
        return (
            f"no jobs are kept: the journal {path} has version {version}, and this EasyRemote knows {schema.VERSION}. It was "
            "left as it is: upgrade EasyRemote, or name another file with --journal PATH"
        )
    return ""


def _foreign(path: Path) -> str:
    return f"no jobs are kept: {path} is another program's database. Name another file with --journal PATH"


def _connect(path: Path) -> sqlite3.Connection:
    os.close(os.open(path, os.O_RDWR | os.O_CREAT, 0o600))  # SQLite gives its other files the mode of this one
    conn = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        version = conn.execute("PRAGMA user_version").fetchone()[0]
        if version == 0:
            if conn.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
                raise JobsUnavailable(_foreign(path))
            schema.create(conn)
        elif version < schema.VERSION:
            schema.upgrade(conn, version)
        schema.configure(conn)
        if path.stat().st_size <= CHECKED_BYTES:
            result = conn.execute("PRAGMA integrity_check(1)").fetchone()[0]
            if result != "ok":
                raise _damaged(result)
            if not conn.execute(f"SELECT {schema.COMPLETE}").fetchone()[0]:
                raise _damaged("a job's events are missing")
        if conn.execute(f"SELECT EXISTS (SELECT 1 FROM jobs WHERE NOT ({schema.SANE}))").fetchone()[0]:
            raise _damaged("a job's row makes no sense")
    except BaseException:
        with contextlib.suppress(sqlite3.Error):
            conn.close()
        raise
    return conn


def _damaged(text: str) -> sqlite3.DatabaseError:
    error = sqlite3.DatabaseError(text)
    error.sqlite_errorcode = sqlite3.SQLITE_CORRUPT  # type: ignore[attr-defined] - what SQLite's own errors have
    return error


def _replace(path: Path) -> tuple[sqlite3.Connection, Path]:
    """A new journal with what can be read of this one, which is put aside. Until the last step it stays where it is."""
    fresh = path.with_name(f"{path.name}.new")
    source = path.with_name(f"{path.name}.reading")
    for old in (fresh, source):
        for end in ("", "-wal", "-journal"):
            old.with_name(old.name + end).unlink(missing_ok=True)
    conn = _connect(fresh)
    try:
        for end in ("", "-wal"):  # a copy: reading it may change it
            with contextlib.suppress(FileNotFoundError):
                shutil.copyfile(path.with_name(path.name + end), source.with_name(source.name + end))
        salvage(source, conn)
    finally:
        conn.close()
        for end in ("", "-wal", "-journal"):
            source.with_name(source.name + end).unlink(missing_ok=True)
    aside = path.with_name(f"{path.name}.damaged-{time.strftime('%Y%m%d-%H%M%S')}")
    for end in ("-wal", ""):
        with contextlib.suppress(FileNotFoundError):
            path.with_name(path.name + end).rename(aside.with_name(aside.name + end))
    fresh.rename(path)
    return _connect(path), aside


def _replaced_note(path: Path, aside: Path, damage: str) -> str:
    return (
        f"the journal {path} was damaged ({damage.splitlines()[0]}). It was put aside as {aside.name}, and what could be read of "
        "it is kept on"
    )
