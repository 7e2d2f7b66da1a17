"""The journal's file: its tables and their version. Whatever changes here changes `VERSION`, and needs a step in `upgrade`."""

from __future__ import annotations

import sqlite3
import zlib

from easyremote.store.kinds import VALUES

VERSION = 3

APPLICATION_ID = 0x45524A31
"""Marks the file as a journal of ours."""

TABLES = """
CREATE TABLE jobs (
  number INTEGER PRIMARY KEY,     -- in the order in which they came
  id BLOB NOT NULL UNIQUE,        -- the call's id
  title TEXT NOT NULL,
  state TEXT NOT NULL DEFAULT 'queued',
  node TEXT NOT NULL DEFAULT '',
  submit BLOB NOT NULL,           -- a Submit; its large payloads are files
  crc INTEGER NOT NULL,           -- of submit
  created REAL NOT NULL,          -- times are seconds since 1970; 0: not yet
  started REAL NOT NULL DEFAULT 0,
  ended REAL NOT NULL DEFAULT 0,
  expires REAL NOT NULL DEFAULT 0,
  collected REAL NOT NULL DEFAULT 0,
  boot INTEGER NOT NULL,          -- number of the gateway's process that took it
  attempt INTEGER NOT NULL DEFAULT 0,
  attempts INTEGER NOT NULL DEFAULT 0,
  seq INTEGER NOT NULL DEFAULT 0,     -- the attempt's last event that is here
  allowed INTEGER NOT NULL DEFAULT 0, -- an attempt that waited for our word may have got it
  values_ INTEGER NOT NULL DEFAULT 0, -- events that a reader may not miss: items, and the end
  last INTEGER NOT NULL DEFAULT 0,    -- number of its last event
  kept INTEGER NOT NULL DEFAULT 0,    -- bytes, files included
  output INTEGER NOT NULL DEFAULT 0,  -- bytes of them that may be dropped
  dropped INTEGER NOT NULL DEFAULT 0, -- events that were
  progress BLOB NOT NULL DEFAULT x'',
  error TEXT NOT NULL DEFAULT '',
  owner TEXT NOT NULL DEFAULT 'owner', -- id of the token whose it is; 'owner': the gateway's own
  code_kind INTEGER NOT NULL DEFAULT 0 -- of submit
);
CREATE INDEX jobs_owner ON jobs(owner, number);
CREATE INDEX jobs_open ON jobs(number) WHERE ended = 0;
CREATE INDEX jobs_ended ON jobs(expires) WHERE ended > 0;
CREATE TABLE events (
  key INTEGER PRIMARY KEY,        -- the job's number * 2^32 + the event's number
  kind INTEGER NOT NULL,          -- see `jobs.Kind`
  size INTEGER NOT NULL,          -- with its files
  crc INTEGER NOT NULL,           -- of key and event
  event BLOB NOT NULL             -- an Event
);
CREATE TABLE files (
  name TEXT PRIMARY KEY,
  job INTEGER NOT NULL,
  event INTEGER NOT NULL,         -- the event's number; 0: it is the job's own
  size INTEGER NOT NULL
);
CREATE INDEX files_job ON files(job, event);
CREATE TABLE facts (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
"""

JOB_SHIFT = 32

_MARKS = ", ".join(str(int(kind)) for kind in VALUES)

_TEXTS = ("title", "state", "node", "error", "owner")
_BLOBS = ("id", "submit", "progress")
_COUNTS = ("boot", "attempt", "attempts", "seq", "allowed", "values_", "last", "kept", "output", "dropped", "code_kind")
_TIMES = ("created", "started", "ended", "expires", "collected")
STATES = ("queued", "running", "succeeded", "failed", "cancelled")

SANE = " AND ".join(
    (
        *(f"typeof({name}) = 'text'" for name in _TEXTS),
        *(f"typeof({name}) = 'blob'" for name in _BLOBS),
        *(f"typeof({name}) = 'integer' AND {name} >= 0" for name in _COUNTS),
        *(f"typeof({name}) = 'real' AND {name} BETWEEN 0 AND 1e11" for name in _TIMES),
        "length(id) = 16",
        "number BETWEEN 1 AND 2147483647",
        "max(boot, attempt, attempts, seq, values_, last, dropped) < 4294967296",
        f"state IN {STATES!r}",
        "(ended > 0) = (state IN ('succeeded', 'failed', 'cancelled'))",
    )
)
"""True of a row of jobs that holds what it may: no checksum protects these columns, and SQLite lets any hold anything."""


def checksum(key: int, event: bytes) -> int:
    """Of an event and its place. What isn't even bytes has none."""
    return zlib.crc32(event, zlib.crc32(key.to_bytes(8))) if isinstance(event, bytes) else -1  # type: ignore[redundant-expr]


COMPLETE = f"""
    NOT EXISTS (
      SELECT 1 FROM jobs LEFT JOIN (
        SELECT key >> {JOB_SHIFT} AS job, count(*) FILTER (WHERE kind IN ({_MARKS})) AS count FROM events GROUP BY 1
      ) ON job = number WHERE coalesce(count, 0) != values_
    )
"""
"""Whether every job has all the events that no reader may miss."""


def create(conn: sqlite3.Connection) -> None:
    """Make the tables. The version is in the file itself before there is a write-ahead log that could hold it back."""
    conn.execute("PRAGMA auto_vacuum = INCREMENTAL")
    conn.execute("PRAGMA journal_mode = DELETE")
    conn.executescript(
        f"BEGIN; {TABLES} PRAGMA application_id = {APPLICATION_ID}; PRAGMA user_version = {VERSION}; COMMIT;"
    )


def upgrade(conn: sqlite3.Connection, version: int) -> None:
    """Bring the tables of a journal of an earlier version to this one, or leave them as they are."""
    steps = "".join(UPGRADES[step] for step in range(version, VERSION))
    conn.executescript(f"BEGIN; {steps} PRAGMA user_version = {VERSION}; COMMIT;")


UPGRADES = {
    1: """
ALTER TABLE jobs ADD COLUMN owner TEXT NOT NULL DEFAULT 'owner';
CREATE INDEX jobs_owner ON jobs(owner, number);
""",
    2: "ALTER TABLE jobs ADD COLUMN code_kind INTEGER NOT NULL DEFAULT 0;",
}
"""What leads from each version to the next. Before version 2 everything belonged to the gateway's own token; before version 3
only calls of functions were jobs."""


def configure(conn: sqlite3.Connection) -> None:
    """What a transaction that was committed has survived, a loss of power included."""
    conn.execute(
        "PRAGMA locking_mode = EXCLUSIVE"
    )  # no other process, so no shared memory either: works on any file system
    conn.execute("PRAGMA journal_mode = WAL")
    conn.execute("PRAGMA synchronous = FULL")
    conn.execute("PRAGMA cache_size = -16384")
    conn.execute("PRAGMA temp_store = MEMORY")
    conn.execute("PRAGMA journal_size_limit = 67108864")
