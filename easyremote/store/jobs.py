"""What a journal can be asked and told, inside a transaction that somebody else begins and commits.

Every method may raise sqlite3.Error; the transaction is rolled back then, and nothing of what was told has happened.
"""

from __future__ import annotations

import hashlib
import sqlite3
import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from easyremote.config import JobSettings
from easyremote.core.access import OWNER, OWNER_ID, Access
from easyremote.errors import EasyRemoteError, JobNotFound, JobsUnavailable, OverloadedError, UsageError
from easyremote.store.kinds import DROPPABLE, REPLACING, Kind, kind_of
from easyremote.store.schema import JOB_SHIFT, checksum
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_LISTED = 500
"""Records in one answer."""

MAX_READ_BYTES = 1024 * 1024
"""Events in one answer, unless a single one is larger."""

_MAX_EXPIRED = 1000
_MAX_TITLE = 200
_ROW_BYTES = 100
"""What a row counts beyond what it carries."""


class File(NamedTuple):
    """A payload file that belongs to a job, or to one of its events."""

    name: str
    size: int


@dataclass(slots=True)
class Job:
    """A job as whoever runs it needs it."""

    number: int
    submit: pb.Submit
    created: float
    boot: int
    attempt: int = 0
    seq: int = 0
    was_allowed: bool = False
    has_values: bool = False


@dataclass(slots=True)
class Arrival:
    """An event that came from a node, with the files that its payloads were written to; or the gateway's own verdict."""

    number: int  # the job's
    event: pb.Event
    files: Sequence[File] = ()
    is_verdict: bool = False


@dataclass(slots=True)
class _Tally:
    """What `append` has to know of a job that is under way; read once, then kept."""

    last: int
    kept: int
    output: int
    came: tuple[int, int] = (0, 0)  # attempt and number of the last event from a node
    last_kind: Kind = Kind.NOTE


@dataclass(slots=True)
class Appended:
    """Jobs that ended while their events were appended, and those of them that must be stopped for having brought too much."""

    ended: list[int] = field(default_factory=list[int])
    too_large: list[int] = field(default_factory=list[int])


class JobStore:
    """One journal's tables. Used in one thread only."""

    def __init__(self, conn: sqlite3.Connection, settings: JobSettings) -> None:
        self._conn = conn
        self._settings = settings
        self._tallies: dict[int, _Tally] = {}
        self.has_deleted = False  # rows
        self.unwanted: list[str] = []  # files that nothing refers to any more, once the transaction is committed
        self._recount()

    def rolled_back(self) -> None:
        """The transaction failed: what was noted in it didn't happen."""
        self._tallies.clear()
        self.unwanted.clear()
        self._recount()

    def _recount(self) -> None:
        row = self._conn.execute("SELECT count(*), coalesce(sum(kept), 0) FROM jobs").fetchone()
        self._count, self._total = row

    # ---- a process begins ----------------------------------------------------------------------------------------

    def boot(self) -> int:
        """The number of this process of the gateway, from 1."""
        self._conn.execute(
            "INSERT INTO facts VALUES ('boots', 1) ON CONFLICT (name) DO UPDATE SET value = value + 1",
        )
        return self._conn.execute("SELECT value FROM facts WHERE name = 'boots'").fetchone()[0]

    def open_jobs(self, after: int, limit: int, now: float) -> tuple[list[Job], int]:
        """Jobs that haven't ended, with a number above `after`, in their order, and the number of the newest of all.

        One that can't be read ends here.
        """
        rows = self._conn.execute(
            "SELECT number, submit, crc, created, boot, attempt, seq, allowed, values_, last FROM jobs "
            "WHERE ended = 0 AND number > ? ORDER BY number LIMIT ?",
            (after, limit),
        ).fetchall()
        found: list[Job] = []
        for number, data, crc, created, boot, attempt, seq, allowed, values, last in rows:
            if zlib.crc32(data) != crc:
                self.end(number, pb.ErrorInfo(code="payload", message="its arguments were damaged on disk"), now)
                continue
            submit = pb.Submit.FromString(data)
            attempt, seq = self._position(number, last) or (attempt, seq)
            found.append(Job(number, submit, created, boot, attempt, seq, bool(allowed), bool(values)))
        newest = self._conn.execute("SELECT coalesce(max(number), 0) FROM jobs").fetchone()[0]
        return found, newest

    def _position(self, number: int, last: int) -> tuple[int, int] | None:
        """How far the job came, by its last event, which is protected by its checksum."""
        key = (number << JOB_SHIFT) + last
        row = self._conn.execute("SELECT crc, event FROM events WHERE key = ?", (key,)).fetchone()
        if row is None or checksum(key, row[1]) != row[0]:
            return None
        event = pb.Event.FromString(row[1])
        return event.attempt, event.seq

    def probe(self) -> None:
        """Raises when events can't be appended now."""
        self._conn.execute("INSERT OR REPLACE INTO facts VALUES ('probe', 1)")
        self._check_room()

    def file_names(self) -> set[str]:
        return {name for (name,) in self._conn.execute("SELECT name FROM files")}

    # ---- jobs come -----------------------------------------------------------------------------------------------

    def keep(
        self, submit: pb.Submit, files: Sequence[File] | None, boot: int, now: float, access: Access = OWNER
    ) -> Job | EasyRemoteError | None:
        """Take a job: what is to be run; None when it is here already; or why it isn't taken.

        `files`: None when not all that its payloads name were put here. `access`: what the token that made it allows.
        """
        data = submit.SerializeToString(deterministic=True)
        known = self._conn.execute("SELECT submit FROM jobs WHERE id = ?", (submit.call_id,)).fetchone()
        if known is not None:
            same = fingerprint(pb.Submit.FromString(known[0])) == fingerprint(submit)
            return None if same else UsageError(f"there is another job with the id {submit.call_id.hex()}")
        if files is None:
            return UsageError("its large arguments weren't put at the gateway, or too long ago; submit it again")
        size = len(data) + _ROW_BYTES + sum(file.size for file in files)
        problem = self._room_for(size, now) or self._room_of(access)
        if problem is not None:
            return problem
        cursor = self._conn.execute(
            "INSERT INTO jobs (id, title, submit, crc, created, boot, kept, owner, code_kind) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (
                *(submit.call_id, title_of(submit), data, zlib.crc32(data), now, boot, size),
                *(submit.owner or OWNER_ID, submit.code.kind),
            ),
        )
        number = cursor.lastrowid
        assert number is not None
        self._add_files(number, 0, files)
        self._count += 1
        self._total += size
        self._tallies[number] = _Tally(0, size, 0)
        return Job(number, submit, now, boot)

    def _room_for(self, size: int, now: float) -> EasyRemoteError | None:
        settings = self._settings
        if size > settings.max_job_bytes:
            return UsageError(
                f"its arguments have {size:,} bytes, and a gateway keeps at most {settings.max_job_bytes:,} of one job"
            )
        if self._count >= settings.max_jobs or self._total + size > settings.max_total_bytes:
            self._evict_collected(size)
        if self._count >= settings.max_jobs:
            return OverloadedError(
                f"the gateway keeps {self._count:,} jobs, the bound; forget some (job.forget()), or wait until they expire",
                retry_after_s=60.0,
            )
        if self._total + size > settings.max_total_bytes:
            return OverloadedError(
                f"the gateway keeps {self._total:,} bytes of jobs, and at most {settings.max_total_bytes:,}; forget some "
                "(job.forget()), or wait until they expire",
                retry_after_s=60.0,
            )
        return None

    def _room_of(self, access: Access) -> EasyRemoteError | None:
        """A token's jobs that haven't ended are bounded as its calls are."""
        if not access.max_calls and not access.max_bytes:
            return None
        query = "SELECT count(*), coalesce(sum(kept), 0) FROM jobs WHERE owner = ? AND ended = 0"
        count, size = self._conn.execute(query, (access.token_id,)).fetchone()
        who = f"token '{access.name}' ({access.token_id}) has"
        if access.max_calls and count >= access.max_calls:
            return OverloadedError(f"{who} {count:,} jobs that haven't ended, its bound", retry_after_s=5.0)
        if access.max_bytes and size >= access.max_bytes:
            return OverloadedError(f"{who} jobs of {size:,} bytes that haven't ended, its bound", retry_after_s=5.0)
        return None

    def _evict_collected(self, size: int) -> None:
        """Jobs whose result was collected make room, those that were first collected first."""
        settings = self._settings
        query = "SELECT number FROM jobs WHERE ended > 0 AND collected > 0 ORDER BY collected LIMIT 100"
        while self._count >= settings.max_jobs or self._total + size > settings.max_total_bytes:
            numbers = [number for (number,) in self._conn.execute(query).fetchall()]
            if not numbers:
                return
            for number in numbers:
                if self._count < settings.max_jobs and self._total + size <= settings.max_total_bytes:
                    return
                self._delete(number)

    # ---- jobs run ------------------------------------------------------------------------------------------------

    def append(self, arrivals: Iterable[Arrival], now: float) -> Appended:
        """Take events, each job's in their order. One that is here already is dropped, as are those of a job that has ended.

        Raises JobsUnavailable when there is no more room for them.
        """
        done = Appended()
        for arrival in arrivals:
            tally = self._tally(arrival.number)
            came = arrival.event.attempt, arrival.event.seq
            if tally is None or (came <= tally.came and not arrival.is_verdict):
                self.unwanted += [file.name for file in arrival.files]
                continue
            tally.came = max(tally.came, came)
            self._append(arrival, tally, now, done)
        self._check_room()
        return done

    def _check_room(self) -> None:
        if self._total > self._settings.max_total_bytes:
            self._evict_collected(0)
            if self._total > self._settings.max_total_bytes:
                raise JobsUnavailable(f"the gateway keeps {self._total:,} bytes of jobs, the bound")

    def _tally(self, number: int) -> _Tally | None:
        tally = self._tallies.get(number)
        if tally is None:
            query = "SELECT last, kept, output, attempt, seq FROM jobs WHERE number = ? AND ended = 0"
            row = self._conn.execute(query, (number,)).fetchone()
            if row is None:
                return None
            tally = self._tallies[number] = _Tally(row[0], row[1], row[2], (row[3], row[4]))
        return tally

    def _append(self, arrival: Arrival, tally: _Tally, now: float, done: Appended) -> None:
        number, event = arrival.number, arrival.event
        kind = kind_of(event)
        if kind in REPLACING and tally.last_kind is kind:
            size = self._delete_event(number, tally.last, tally)  # whoever comes later sees the newest
            tally.output -= size if kind in DROPPABLE else 0
        size = self._insert(number, event, kind, arrival.files, tally)
        changes: dict[str, Any] = {"attempt": event.attempt, "seq": event.seq, "last": tally.last, "kept": tally.kept}
        if kind in DROPPABLE:
            tally.output += size
            changes["output"] = tally.output
        elif kind is Kind.PROGRESS:
            changes["progress"] = event.progress.SerializeToString()
        elif kind is Kind.VALUES:
            changes["values_"] = _MORE
        if event.HasField("started"):
            changes |= {"node": event.started.node_id, "state": "running", "attempts": _MORE, "started": _FIRST}
            if event.started.waits:
                changes["allowed"] = 1
        self._update(number, changes, now)
        if kind is Kind.END:
            self._end(number, event, now)
            done.ended.append(number)
        elif tally.output > self._settings.max_output_bytes:
            self._drop_output(number, tally)
        elif tally.kept > self._settings.max_job_bytes:
            limit = self._settings.max_job_bytes
            text = f"it brought more than {limit:,} bytes, the most that a gateway keeps of one job; it was stopped"
            self.end(number, pb.ErrorInfo(code="payload", message=text), now)
            done.ended.append(number)
            done.too_large.append(number)

    def _insert(self, number: int, event: pb.Event, kind: Kind, files: Sequence[File], tally: _Tally) -> int:
        """Add an event's row. Returns what it counts."""
        tally.last += 1
        tally.last_kind = kind
        data = event.SerializeToString()
        size = len(data) + _ROW_BYTES + sum(file.size for file in files)
        key = (number << JOB_SHIFT) + tally.last
        row = (key, int(kind), size, checksum(key, data), data)
        self._conn.execute("INSERT INTO events VALUES (?, ?, ?, ?, ?)", row)
        self._add_files(number, tally.last, files)
        tally.kept += size
        self._total += size
        return size

    def _update(self, number: int, changes: dict[str, Any], now: float) -> None:
        terms: list[str] = []
        values: list[Any] = []
        for name, value in changes.items():
            if value is _MORE:
                terms.append(f"{name} = {name} + 1")
            elif value is _FIRST:
                terms.append(f"{name} = CASE WHEN {name} = 0 THEN ? ELSE {name} END")
                values.append(now)
            else:
                terms.append(f"{name} = ?")
                values.append(value)
        self._conn.execute(f"UPDATE jobs SET {', '.join(terms)} WHERE number = ?", (*values, number))

    def _drop_output(self, number: int, tally: _Tally) -> None:
        """The oldest output and displays go, a quarter of what may be kept at once."""
        low, high = number << JOB_SHIFT, (number + 1) << JOB_SHIFT
        marks = ", ".join(str(int(kind)) for kind in DROPPABLE)
        query = f"SELECT key, size FROM events WHERE key > ? AND key < ? AND kind IN ({marks}) ORDER BY key"
        dropped = 0
        self.has_deleted = True
        for key, size in self._conn.execute(query, (low, high)).fetchall():
            if tally.output <= self._settings.max_output_bytes * 3 // 4:
                break
            self._delete_event(number, key - low, tally)
            tally.output -= size
            dropped += 1
        self._conn.execute(
            "UPDATE jobs SET output = ?, kept = ?, dropped = dropped + ? WHERE number = ?",
            (tally.output, tally.kept, dropped, number),
        )

    def _delete_event(self, number: int, event: int, tally: _Tally) -> int:
        """Returns what it counted."""
        key = (number << JOB_SHIFT) + event
        row = self._conn.execute("SELECT size FROM events WHERE key = ?", (key,)).fetchone()
        if row is not None:
            tally.kept -= row[0]
            self._total -= row[0]
            self._drop_files(number, event)
            self._conn.execute("DELETE FROM events WHERE key = ?", (key,))
        return row[0] if row is not None else 0

    def end(self, number: int, error: pb.ErrorInfo, now: float) -> bool:
        """End a job that no node will end. False when it has ended, or isn't here."""
        tally = self._tally(number)
        if tally is None:
            return False
        event = pb.Event(error=error)
        self._insert(number, event, Kind.END, (), tally)
        self._update(number, {"last": tally.last, "kept": tally.kept}, now)
        self._end(number, event, now)
        return True

    def _end(self, number: int, event: pb.Event, now: float) -> None:
        state = "succeeded"
        error = ""
        if event.HasField("error"):
            state = "cancelled" if event.error.code == "cancelled" else "failed"
            kind = event.error.type.rpartition(".")[2]
            text = f"{kind}: {event.error.message}" if kind else event.error.message
            error = text.strip().partition("\n")[0][:500]
        self._conn.execute(
            "UPDATE jobs SET state = ?, error = ?, ended = ?, expires = ?, values_ = values_ + 1 WHERE number = ?",
            (state, error, now, now + self._settings.expires_after_s, number),
        )
        self._tallies.pop(number, None)

    # ---- jobs are looked at --------------------------------------------------------------------------------------

    def number_of(self, job_id: bytes, whose: str | None = None) -> int:
        """Raises JobNotFound, also for one of another token than `whose`, where that is given."""
        row = self._conn.execute("SELECT number, owner FROM jobs WHERE id = ?", (job_id,)).fetchone()
        if row is None or whose not in (None, row[1]):
            raise JobNotFound(f"the gateway keeps no job {job_id.hex()}: it was forgotten, has expired, or never was")
        return row[0]

    def open_jobs_of(self, whose: str) -> list[tuple[int, bytes]]:
        """Number and id of each job of this token that hasn't ended."""
        query = "SELECT number, id FROM jobs WHERE owner = ? AND ended = 0 ORDER BY number"
        return self._conn.execute(query, (whose,)).fetchall()

    def record(self, number: int) -> pb.JobRecord:
        return self._records("WHERE number = ?", (number,))[0]

    def records(self, id_prefix: str, before: int, limit: int, whose: str | None = None) -> list[pb.JobRecord]:
        """The newest first, of one token or of all. An index leads to those whose id begins with the prefix, lower-case hex."""
        terms, values = ["1"], list[Any]()
        if whose is not None:
            terms.append("owner = ?")
            values.append(whose)
        if before:
            terms.append("number < ?")
            values.append(before)
        if id_prefix:
            low = bytes.fromhex(id_prefix.ljust(32, "0"))
            high = bytes.fromhex(id_prefix.ljust(32, "f"))
            terms.append("id BETWEEN ? AND ?")
            values += [low, high]
        limit = min(limit or MAX_LISTED, MAX_LISTED)
        return self._records(f"WHERE {' AND '.join(terms)} ORDER BY number DESC LIMIT {limit}", tuple(values))

    def _records(self, where: str, values: tuple[Any, ...]) -> list[pb.JobRecord]:
        rows = self._conn.execute(
            "SELECT id, number, title, state, node, created, started, ended, expires, attempts, progress, kept, dropped, "
            f"collected, error, code_kind FROM jobs {where}",
            values,
        ).fetchall()
        return [
            pb.JobRecord(
                job_id=row[0],
                number=row[1],
                title=row[2],
                state=row[3],
                node_id=row[4],
                created=row[5],
                started=row[6],
                ended=row[7],
                expires=row[8],
                attempts=row[9],
                progress=pb.Progress.FromString(row[10]) if row[10] else None,
                kept_bytes=row[11],
                dropped_events=row[12],
                collected=row[13],
                error=row[14],
                code_kind=row[15],
            )
            for row in rows
        ]

    def read(self, number: int, after: int, max_bytes: int) -> tuple[list[pb.JobEvent], bool]:
        """Events behind the one with this number, and whether the job has no more."""
        max_bytes = min(max_bytes or MAX_READ_BYTES, MAX_READ_BYTES)
        last, ended = self._conn.execute("SELECT last, ended FROM jobs WHERE number = ?", (number,)).fetchone()
        base = number << JOB_SHIFT
        query = "SELECT key, crc, event FROM events WHERE key > ? AND key < ? ORDER BY key"
        events: list[pb.JobEvent] = []
        size = 0
        for key, crc, data in self._conn.execute(query, (base + after, (number + 1) << JOB_SHIFT)):
            size += len(data) + 20
            if events and size > max_bytes:
                return events, False
            events.append(pb.JobEvent(number=key - base, event=_event_of(key, data, crc)))
        is_all = bool(ended) and (events[-1].number if events else after) >= last
        return events, is_all

    def file_size(self, number: int, name: str) -> int | None:
        """Of a file that belongs to this job; None when there is none of that name."""
        row = self._conn.execute("SELECT size FROM files WHERE name = ? AND job = ?", (name, number)).fetchone()
        return row[0] if row is not None else None

    def collected(self, number: int, now: float) -> None:
        """Its end was taken by whoever wanted it."""
        until = now + self._settings.expires_after_collected_s
        self._conn.execute(
            "UPDATE jobs SET collected = ?, expires = min(expires, ?) WHERE number = ? AND ended > 0 AND collected = 0",
            (now, until, number),
        )

    # ---- jobs go -------------------------------------------------------------------------------------------------

    def forget(self, number: int) -> None:
        self._delete(number)

    def expire(self, now: float) -> int:
        """Delete what has been kept for long enough. Returns how many jobs; there may be more."""
        rows = self._conn.execute(
            "SELECT number FROM jobs WHERE ended > 0 AND expires < ? ORDER BY expires LIMIT ?", (now, _MAX_EXPIRED)
        ).fetchall()
        for (number,) in rows:
            self._delete(number)
        return len(rows)

    def _delete(self, number: int) -> None:
        row = self._conn.execute("SELECT kept FROM jobs WHERE number = ?", (number,)).fetchone()
        if row is None:
            return
        names = self._conn.execute("SELECT name FROM files WHERE job = ?", (number,)).fetchall()
        self.unwanted += [name for (name,) in names]
        self._conn.execute("DELETE FROM files WHERE job = ?", (number,))
        low, high = number << JOB_SHIFT, (number + 1) << JOB_SHIFT
        self._conn.execute("DELETE FROM events WHERE key >= ? AND key < ?", (low, high))
        self._conn.execute("DELETE FROM jobs WHERE number = ?", (number,))
        self.has_deleted = True
        self._tallies.pop(number, None)
        self._count -= 1
        self._total -= row[0]

    def _add_files(self, number: int, event: int, files: Sequence[File]) -> None:
        for file in files:
            self._conn.execute("INSERT INTO files VALUES (?, ?, ?, ?)", (file.name, number, event, file.size))

    def _drop_files(self, number: int, event: int) -> None:
        where = "FROM files WHERE job = ? AND event = ?"
        names = self._conn.execute(f"SELECT name {where}", (number, event)).fetchall()
        if names:
            self.unwanted += [name for (name,) in names]
            self._conn.execute(f"DELETE {where}", (number, event))


_MORE, _FIRST = object(), object()


def title_of(submit: pb.Submit) -> str:
    """What people call it."""
    return (submit.options.label or submit.function or submit.code.spec.name or "code")[:_MAX_TITLE]


def fingerprint(submit: pb.Submit) -> bytes:
    """Equal for two submissions of the same job, however often it is sent."""
    return hashlib.sha256(submit.SerializeToString(deterministic=True)).digest()


def _event_of(key: int, data: bytes, crc: int) -> pb.Event:
    """The event, or in its place the error that it was damaged, which ends the reading."""
    if checksum(key, data) == crc:
        return pb.Event.FromString(data)
    return pb.Event(error=pb.ErrorInfo(code="payload", message="what was kept of this job was damaged on disk"))
