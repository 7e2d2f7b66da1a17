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

from easyremote.core.access import OWNER_ID
from easyremote.store.kinds import VALUES, kind_of
from easyremote.store.schema import JOB_SHIFT, SANE, checksum
from easyremote.wire.v1 import gateway_pb2 as pb

_LOST = "a part of what was kept of this job was lost when the journal was damaged"

_KEPT_S = 7 * 86400.0

_MOST_BYTES = 2**50
"""No event has more."""

_WITHOUT_NAME = "typeof(id) != 'blob' OR length(id) != 16 OR number NOT BETWEEN 1 AND 2147483647"

_AS_AT_FIRST = (
    "title = 'damaged', node = '', progress = x'', error = '', created = 0, started = 0, expires = 0, collected = 0, boot = 1, "
    "attempt = 0, attempts = 0, seq = 0, allowed = 0, values_ = 0, last = 0, output = 0, dropped = 0, code_kind = 0"
)


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
    there = [row[1] for row in _both_ways(source, "SELECT * FROM pragma_table_info('jobs')", "cid")]
    columns = [name for name in columns if name in there or not there]  # an earlier version has fewer
    names = ", ".join(columns)
    for row in _both_ways(source, f"SELECT {names} FROM jobs", "number"):
        job = dict(zip(columns, row, strict=True))
        if _is_whole(job["submit"], job["crc"]):
            submit = pb.Submit.FromString(job["submit"])  # what the checksum protects
            job |= {"id": submit.call_id, "owner": submit.owner or OWNER_ID, "code_kind": submit.code.kind}
            _put(
                target,
                f"INSERT OR IGNORE INTO jobs ({', '.join(job)}) VALUES ({', '.join('?' * len(job))})",
                (*job.values(),),
            )
    target.execute(f"DELETE FROM jobs WHERE {_WITHOUT_NAME}")
    numbers = target.execute(f"SELECT number, {SANE} FROM jobs ORDER BY number").fetchall()
    for number, is_sane in numbers:
        _copy_events(source, target, number)
        where = f"WHERE job = {number}"
        for row in _both_ways(source, f"SELECT name, job, event, size FROM files {where}", "name"):
            _put(target, "INSERT OR IGNORE INTO files VALUES (?, ?, ?, ?)", row)
        _settle(target, number, bool(is_sane))
    for row in _both_ways(source, "SELECT name, value FROM facts", "name"):
        _put(target, "INSERT OR IGNORE INTO facts VALUES (?, ?)", row)


def _copy_events(source: sqlite3.Connection, target: sqlite3.Connection, number: int) -> None:
    first, beyond = number << JOB_SHIFT, (number + 1) << JOB_SHIFT
    query = f"SELECT key, kind, size, crc, event FROM events WHERE key >= {first} AND key < {beyond}"
    for key, _, size, crc, data in _both_ways(source, query, "key"):
        if isinstance(key, int) and checksum(key, data) == crc:
            kind = kind_of(pb.Event.FromString(data))  # what the checksum doesn't protect is made anew
            size = size if isinstance(size, int) and len(data) <= size < _MOST_BYTES else len(data)
            _put(target, "INSERT OR IGNORE INTO events VALUES (?, ?, ?, ?, ?)", (key, int(kind), size, crc, data))


def _settle(target: sqlite3.Connection, number: int, is_sane: bool) -> None:
    """Make the job's own row true of the events that are left. One that makes no sense can't tell what is missing."""
    first, beyond = number << JOB_SHIFT, (number + 1) << JOB_SHIFT
    marks = ", ".join(str(int(kind)) for kind in VALUES)
    counted, newest, size = target.execute(
        f"SELECT count(*) FILTER (WHERE kind IN ({marks})), coalesce(max(key), {first}), coalesce(sum(size), 0) "
        "FROM events WHERE key >= ? AND key < ?",
        (first, beyond),
    ).fetchone()
    if not is_sane:
        target.execute(f"UPDATE jobs SET {_AS_AT_FIRST} WHERE number = ?", (number,))
    values, last = target.execute("SELECT values_, last FROM jobs WHERE number = ?", (number,)).fetchone()
    last = max(last, newest - first)
    if counted < values or not is_sane:
        last += 1
        event = pb.Event(error=pb.ErrorInfo(code="payload", message=_LOST)).SerializeToString()
        row = (first + last, int(VALUES[-1]), len(event), checksum(first + last, event), event)
        target.execute("INSERT OR REPLACE INTO events VALUES (?, ?, ?, ?, ?)", row)
        now = time.time()
        target.execute(
            "UPDATE jobs SET state = 'failed', error = ?, ended = ?, expires = ? WHERE number = ?",
            (_LOST, now, now + _KEPT_S, number),
        )
        counted += 1
    target.execute(
        "UPDATE jobs SET last = ?, values_ = ?, kept = ? + length(submit) WHERE number = ?",
        (last, counted, size, number),
    )


def _both_ways(source: sqlite3.Connection, query: str, key: str) -> Iterator[tuple[Any, ...]]:
    """Rows from the front as far as they can be read, then from the back."""
    for order in ("ASC", "DESC"):
        with contextlib.suppress(
            sqlite3.Error, UnicodeDecodeError
        ):  # the latter: a message that repeats what was found
            yield from source.execute(f"{query} ORDER BY {key} {order}")


def _put(target: sqlite3.Connection, statement: str, row: tuple[Any, ...]) -> None:
    """A row that the tables don't allow was damaged."""
    with contextlib.suppress(sqlite3.IntegrityError, sqlite3.InterfaceError):
        target.execute(statement, row)


def _is_whole(data: Any, crc: Any) -> bool:
    return isinstance(data, bytes) and zlib.crc32(data) == crc
