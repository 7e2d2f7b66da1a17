"""Reads what can be read of a damaged journal.

A job whose items or end were lost is no longer what was promised, so it ends with an error that says so; lost output only counts
as dropped.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from easyremote.store.kinds import VALUES
from easyremote.store.schema import JOB_SHIFT
from easyremote.wire.v1 import gateway_pb2 as pb

_LOST = "a part of what was kept of this job was lost when the journal was damaged"


def salvage(source: Path, target: sqlite3.Connection) -> None:
    """Copy all rows that are whole. Raises what the target raises, never for the source."""
    conn = None
    with contextlib.suppress(sqlite3.Error):
        conn = sqlite3.connect(source, isolation_level=None)
    if conn is None:
        return
    try:
        conn.text_factory = lambda data: data.decode(errors="replace")
        target.execute("BEGIN")
        _copy(conn, target)
        target.execute("COMMIT")
    finally:
        with contextlib.suppress(sqlite3.Error):
            conn.close()


def _copy(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    columns = [row[1] for row in target.execute("PRAGMA table_info(jobs)")]
    names, marks = ", ".join(columns), ", ".join("?" * len(columns))
    for row in _both_ways(source, f"SELECT {names} FROM jobs", "number"):
        job = dict(zip(columns, row, strict=True))
        if _is_whole(job["submit"], job["crc"]) and _are_sane(job):
            _put(target, f"INSERT OR IGNORE INTO jobs ({names}) VALUES ({marks})", row)
    numbers = [number for (number,) in target.execute("SELECT number FROM jobs ORDER BY number").fetchall()]
    for number in numbers:
        _copy_events(source, target, number)
        where = f"WHERE job = {number}"
        for row in _both_ways(source, f"SELECT name, job, event, size FROM files {where}", "name"):
            _put(target, "INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?)", row)
        _settle(target, number)
    for row in _both_ways(source, "SELECT name, value FROM facts", "name"):
        _put(target, "INSERT OR IGNORE INTO facts VALUES (?, ?)", row)


def _copy_events(source: sqlite3.Connection, target: sqlite3.Connection, number: int) -> None:
    first, beyond = number << JOB_SHIFT, (number + 1) << JOB_SHIFT
    query = f"SELECT key, kind, size, crc, event FROM events WHERE key >= {first} AND key < {beyond}"
    for row in _both_ways(source, query, "key"):
        if _is_whole(row[4], row[3]):
            _put(target, "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)", row)


def _settle(target: sqlite3.Connection, number: int) -> None:
    """Make the job's own row true of the events that are left."""
    first, beyond = number << JOB_SHIFT, (number + 1) << JOB_SHIFT
    marks = ", ".join(str(int(kind)) for kind in VALUES)
    counted, newest, kept = target.execute(
        f"SELECT count(*) FILTER (WHERE kind IN ({marks})), coalesce(max(key), {first}), coalesce(sum(size), 0) "
        "FROM events WHERE key >= ? AND key < ?",
        (first, beyond),
    ).fetchone()
    values, last = target.execute("SELECT values_, last FROM jobs WHERE number = ?", (number,)).fetchone()
    last = max(last, newest - first)
    if counted < values:
        last += 1
        event = pb.Event(error=pb.ErrorInfo(code="payload", message=_LOST)).SerializeToString()
        row = (first + last, int(VALUES[-1]), len(event), zlib.crc32(event), event)
        target.execute("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?)", row)
        now = time.time()
        target.execute(
            "UPDATE jobs SET state = 'failed', error = ?, ended = ?, expires = ? WHERE number = ?",
            (_LOST, now, now + 7 * 86400, number),
        )
    target.execute("UPDATE jobs SET last = ?, values_ = ?, kept = ? WHERE number = ?", (last, counted, kept, number))


def _both_ways(source: sqlite3.Connection, query: str, key: str) -> Iterator[tuple[Any, ...]]:
    """Rows from the front as far as they can be read, then from the back."""
    for order in ("ASC", "DESC"):
        with contextlib.suppress(sqlite3.Error):
            yield from source.execute(f"{query} ORDER BY {key} {order}")


def _put(target: sqlite3.Connection, statement: str, row: tuple[Any, ...]) -> None:
    """A row that the tables don't allow was damaged."""
    with contextlib.suppress(sqlite3.IntegrityError, sqlite3.InterfaceError):
        target.execute(statement, row)


_TEXTS = ("title", "state", "node", "error")
_STATES = ("queued", "running", "succeeded", "failed", "cancelled")


def _are_sane(job: dict[str, Any]) -> bool:
    """Whether each column holds what it may. SQLite would let any hold anything."""
    blobs = {"id", "submit", "progress"}
    kinds: dict[str, Any] = dict.fromkeys(_TEXTS, str) | dict.fromkeys(blobs, bytes)
    return (
        all(isinstance(value, kinds.get(name, (int, float))) for name, value in job.items())
        and len(job["id"]) == 16
        and 0 < job["number"] < 2**31
        and job["state"] in _STATES
    )


def _is_whole(data: Any, crc: Any) -> bool:
    return isinstance(data, bytes) and zlib.crc32(data) == crc
