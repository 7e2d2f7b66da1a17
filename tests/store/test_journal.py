"""A journal and its disk: torn, full, read-only, of another version."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from easyremote import JobsUnavailable
from easyremote.store import schema
from easyremote.store.jobs import Job, JobStore
from easyremote.store.journal import Journal
from tests.store.conftest import NOW, append, do, ended, item, keep, output, submission, with_journal


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "jobs.sqlite"


def fill(path: Path, jobs: int = 30) -> None:
    """A journal with jobs of all sorts: two of three have ended, with items."""

    def work(store: JobStore) -> None:
        for number in range(jobs):
            job = keep(store, submission(data=b"%d" % number * 100))
            append(store, job, *(item(seq, b"%d" % seq * 50) for seq in range(1, 9)))
            if number % 3:
                append(store, job, ended(9, b"%d" % number))

    do(path, work)


def test_what_was_done_is_there_when_it_is_opened_again(path: Path) -> None:
    fill(path)
    records = do(path, lambda store: store.records("", 0, 0))
    assert len(records) == 30
    assert [do(path, JobStore.boot) for _ in range(3)] == [1, 2, 3]


def test_an_answer_comes_when_it_is_on_disk(path: Path) -> None:
    """A process is killed right after it was told; what it was told is there."""
    code = f"""
import asyncio, os, signal
from pathlib import Path
from tests.store.conftest import keep, submission
from easyremote.config import JobSettings
from easyremote.store.journal import Journal

async def main():
    journal = Journal(Path({str(path)!r}), JobSettings())
    await journal.open()
    jobs = await asyncio.gather(*(journal.do(lambda store: keep(store, submission())) for _ in range(500)))
    os.write(1, str(jobs[-1].number).encode())
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=60, cwd=Path(__file__).parents[2])
    assert (done.returncode, done.stdout) == (-signal.SIGKILL, b"500"), done.stderr
    assert len(do(path, lambda store: store.open_jobs(0, 1000, NOW))[0]) == 500


def test_one_request_that_fails_fails_no_other(path: Path) -> None:
    async def work(journal: Journal) -> list[object]:
        def bad(store: JobStore) -> None:
            keep(store, submission())
            raise ValueError("a fault")

        return await asyncio.gather(
            journal.do(lambda store: keep(store, submission())),
            journal.do(bad),
            journal.do(lambda store: keep(store, submission())),
            return_exceptions=True,
        )

    first, failed, last = with_journal(path, work)
    assert isinstance(first, Job) and isinstance(failed, ValueError) and isinstance(last, Job)
    assert len(do(path, lambda store: store.records("", 0, 0))) == 2


def test_two_gateways_do_not_share_a_journal(path: Path) -> None:
    async def work(journal: Journal) -> None:
        other = Journal(path, journal._settings)
        with pytest.raises(JobsUnavailable, match="another gateway"):
            await other.open()
        await other.close()

    with_journal(path, work)
    fill(path)


def test_a_newer_journal_is_left_as_it_is(path: Path) -> None:
    fill(path)
    with sqlite3.connect(path) as conn:
        conn.execute(f"PRAGMA user_version = {schema.VERSION + 1}")
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    conn.close()
    before = {file.name: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(JobsUnavailable, match=rf"version {schema.VERSION + 1}.*upgrade EasyRemote"):
        fill(path)
    assert {file.name: file.read_bytes() for file in path.parent.iterdir()} == before


def test_another_programs_database_is_left_as_it_is(path: Path) -> None:
    path.parent.mkdir()
    for pragma in ("", "PRAGMA user_version = 7"):
        with sqlite3.connect(path) as conn:
            conn.execute("CREATE TABLE IF NOT EXISTS things (name)")
            conn.execute(pragma)
        conn.close()
        before = path.read_bytes()
        with pytest.raises(JobsUnavailable, match="another program's database"):
            fill(path)
        assert path.read_bytes() == before


def test_a_folder_that_can_not_be_made(tmp_path: Path) -> None:
    (tmp_path / "state").write_text("a file")
    with pytest.raises(JobsUnavailable, match="--journal"):
        fill(tmp_path / "state" / "jobs.sqlite")


def read_all(path: Path) -> tuple[dict[bytes, tuple[str, list[bytes]]], list[str]]:
    """State and items of each job, and what opening the journal had to say."""

    async def work(journal: Journal) -> tuple[dict[bytes, tuple[str, list[bytes]]], list[str]]:
        def look(store: JobStore) -> dict[bytes, tuple[str, list[bytes]]]:
            found = {}
            for record in store.records("", 0, 0):
                events = store.read(record.number, 0, 0)[0]
                items = [numbered.event.item.data for numbered in events if numbered.event.HasField("item")]
                is_damaged = any(numbered.event.error.code == "payload" for numbered in events)
                found[record.job_id] = "damaged" if is_damaged else record.state, items
            return found

        return await journal.do(look), journal.notes

    return with_journal(path, work)


def check_truth(before: dict[bytes, tuple[str, list[bytes]]], after: dict[bytes, tuple[str, list[bytes]]]) -> None:
    """What is still there is what was there, or an error; never a part that looks whole."""
    for job_id, (state, items) in after.items():
        old_state, old_items = before[job_id]
        assert (state, items) == (old_state, old_items) or state == "damaged"


def test_a_journal_that_is_cut_or_changed_anywhere_comes_up(path: Path, tmp_path: Path) -> None:
    fill(path, 60)
    before, _ = read_all(path)
    good = path.read_bytes()
    trials = 80
    rng = random.Random(5)
    whole = refused = opened = 0
    for trial in range(trials):
        damaged = bytearray(good)
        if trial % 2:
            del damaged[rng.randrange(len(damaged)) :]
        else:
            for _ in range(rng.choice((1, 20, 300))):
                damaged[rng.randrange(len(damaged))] = rng.randrange(256)
        folder = tmp_path / f"trial-{trial}"
        folder.mkdir()
        copy = folder / "jobs.sqlite"
        copy.write_bytes(damaged)
        try:
            after, notes = read_all(copy)
        except JobsUnavailable:  # the version was hit, or the mark that it is ours
            refused += copy.read_bytes() == damaged
            continue
        opened += 1
        check_truth(before, after)
        whole += len(after) == len(before)
        aside = list(folder.glob("*.damaged-*"))
        assert bool(notes) == bool(aside)
        if aside:
            assert aside[0].read_bytes() == damaged
            assert read_all(copy)[1] == [], "the new one is whole"
            fill(copy, 3)
    assert opened + refused == trials, "what is refused is left as it is"
    assert whole > 10 and refused < 10


def test_a_write_ahead_log_that_is_cut_keeps_what_came_before(path: Path, tmp_path: Path) -> None:
    """As after a crash: the journal's file with a log that ends anywhere."""

    async def work(journal: Journal) -> None:
        for _ in range(40):
            await journal.do(lambda store: keep(store, submission(data=b"x" * 3000)))
        for trial in range(20):
            folder = tmp_path / f"trial-{trial}"
            folder.mkdir()
            shutil.copyfile(path, folder / "jobs.sqlite")
            log = path.with_name("jobs.sqlite-wal").read_bytes()
            (folder / "jobs.sqlite-wal").write_bytes(log[: len(log) * trial // 19])

    with_journal(path, work)
    copies = [tmp_path / f"trial-{trial}" / "jobs.sqlite" for trial in range(20)]
    counts = [len(do(copy, lambda store: store.records("", 0, 0))) for copy in copies]
    assert counts == sorted(counts) and counts[-1] == 40


def test_files_that_nothing_refers_to_are_removed_and_with_damage_put_aside(path: Path) -> None:
    fill(path)

    async def write(journal: Journal) -> str:
        return journal.files.write([b"orphan"])

    name = with_journal(path, write)
    folder = path.with_name("jobs.sqlite.files")
    assert [file.name for file in folder.iterdir()] == [name]
    fill(path)
    assert list(folder.iterdir()) == []
    name = with_journal(path, write)
    path.write_bytes(path.read_bytes()[:5000])
    assert read_all(path)[1]
    assert list(folder.iterdir()) == []
    (aside,) = path.parent.glob("*.damaged-*.files")
    assert (aside / name).read_bytes() == b"orphan"


def test_a_full_disk_refuses_and_goes_on_when_there_is_room(path: Path) -> None:
    """The database may have no more pages, which is what a full disk looks like to SQLite."""

    async def work(journal: Journal) -> int:
        first = await journal.do(lambda store: keep(store, submission()))
        pages = await journal.do(lambda store: store._conn.execute("PRAGMA page_count").fetchone()[0])
        await journal.do(lambda store: store._conn.execute(f"PRAGMA max_page_count = {pages + 2}").fetchall())
        refused = 0
        for _ in range(3):
            with pytest.raises(JobsUnavailable, match="is the disk full"):
                await journal.do(lambda store: keep(store, submission(data=b"x" * 50_000)))
            refused += 1
        with pytest.raises(JobsUnavailable):
            await journal.do(lambda store: append(store, first, output(1, "x" * 50_000)))
        assert len(await journal.do(lambda store: store.records("", 0, 0))) == 1
        await journal.do(lambda store: store._conn.execute("PRAGMA max_page_count = 1000000").fetchall())
        await journal.do(lambda store: keep(store, submission(data=b"x" * 50_000)))
        await journal.do(lambda store: append(store, first, output(1, "x" * 50_000)))
        return refused

    assert with_journal(path, work) == 3
    states = do(path, lambda store: [record.kept_bytes > 50_000 for record in store.records("", 0, 0)])
    assert states == [True, True]


def test_a_disk_that_fails_to_write_refuses(path: Path) -> None:
    """The kernel refuses to let the file grow: the write itself fails."""
    fill(path)
    code = f"""
import resource, signal, sys
from pathlib import Path
from easyremote import JobsUnavailable
from tests.store.conftest import do, keep, submission, with_journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)

async def work(journal):
    await journal.do(lambda store: keep(store, submission()))
    resource.setrlimit(resource.RLIMIT_FSIZE, ({os.path.getsize(path)}, resource.RLIM_INFINITY))
    try:
        while True:
            await journal.do(lambda store: keep(store, submission(data=b"x" * 50_000)))
    except JobsUnavailable as error:
        print(error.message)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    await journal.do(lambda store: keep(store, submission(data=b"x" * 50_000)))
    print("went on")

with_journal(Path({str(path)!r}), work)
"""
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[1] == resource.RLIM_INFINITY
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=Path(__file__).parents[2]
    )
    assert "can't write its journal" in done.stdout and done.stdout.endswith("went on\n"), done.stdout + done.stderr
    assert len(read_all(path)[0]) >= 32


def test_a_large_journal_shrinks_when_jobs_are_forgotten(path: Path) -> None:
    async def work(journal: Journal) -> None:
        jobs = [await journal.do(lambda store: keep(store, submission(data=b"x" * 60_000))) for _ in range(60)]
        for job in jobs:
            await journal.do(lambda store, job=job: store.forget(job.number))

    with_journal(path, work)
    assert path.stat().st_size < 1_000_000


def as_version_1(path: Path) -> None:
    """As the version before tokens wrote it."""
    with sqlite3.connect(path) as conn:
        conn.execute("DROP INDEX jobs_owner")
        conn.execute("ALTER TABLE jobs DROP COLUMN owner")
        conn.execute("ALTER TABLE jobs DROP COLUMN code_kind")
        conn.execute("PRAGMA user_version = 1")
        conn.commit()
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    conn.close()


def test_a_journal_of_version_1_is_brought_up_and_is_the_owners(path: Path) -> None:
    fill(path)
    before, _ = read_all(path)
    as_version_1(path)
    after, notes = read_all(path)
    assert after == before and not notes
    with sqlite3.connect(path) as conn:
        assert conn.execute("PRAGMA user_version").fetchone()[0] == schema.VERSION
    conn.close()
    records = do(path, lambda store: store.records("", 0, 0, "owner"))
    assert len(records) == len(before)
    assert do(path, lambda store: store.records("", 0, 0, "1a2b3c4d")) == []


def test_a_damaged_journal_of_version_1_is_salvaged_too(path: Path) -> None:
    fill(path)
    before, _ = read_all(path)
    as_version_1(path)
    with sqlite3.connect(path) as conn:
        number = conn.execute("SELECT max(number) FROM jobs").fetchone()[0]
        conn.execute("UPDATE jobs SET state = 'nonsense' WHERE number = ?", (number,))
        conn.commit()
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    conn.close()
    after, notes = read_all(path)
    assert notes and after.keys() == before.keys()
    assert sum(after[job_id] == before[job_id] for job_id in before) == len(before) - 1


def test_the_owner_of_a_job_is_salvaged_from_what_its_checksum_protects(path: Path) -> None:
    def work(store: JobStore) -> bytes:
        submit = submission()
        submit.owner = "1a2b3c4d"
        return keep(store, submit).submit.call_id

    job_id = do(path, work)
    with sqlite3.connect(path) as conn:
        conn.execute("UPDATE jobs SET owner = 'ffffffff', state = 'nonsense'")
        conn.commit()
        conn.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    conn.close()
    found = do(path, lambda store: store.records("", 0, 0, "1a2b3c4d"))
    assert [record.job_id for record in found] == [job_id]
