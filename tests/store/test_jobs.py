"""What a journal keeps of a job, and for how long."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator

import pytest

from easyremote import JobNotFound, JobSettings, JobsUnavailable, OverloadedError, UsageError
from easyremote.store import schema
from easyremote.store.jobs import Arrival, File, Job, JobStore
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.store.conftest import NOW, append, ended, item, keep, output, submission

_opened: list[sqlite3.Connection] = []


@pytest.fixture(autouse=True)
def nothing_stays_open() -> Iterator[None]:
    yield
    while _opened:
        _opened.pop().close()


def made(**limits: float) -> JobStore:
    conn = sqlite3.connect(":memory:", isolation_level=None)
    _opened.append(conn)
    schema.create(conn)
    return JobStore(conn, JobSettings(**limits))  # type: ignore[arg-type]


@pytest.fixture
def store() -> JobStore:
    return made()


def texts(store: JobStore, job: Job, after: int = 0) -> list[str]:
    return [numbered.event.output.text for numbered in store.read(job.number, after, 0)[0]]


def progress(seq: int, done: float) -> pb.Event:
    return pb.Event(attempt=1, seq=seq, progress=pb.Progress(done=done, total=10))


def test_events_are_read_back_in_order_and_from_anywhere(store: JobStore) -> None:
    job = keep(store, submission())
    append(store, job, *(output(seq, str(seq)) for seq in range(1, 8)))
    assert texts(store, job) == list("1234567")
    assert texts(store, job, after=5) == ["6", "7"]
    assert store.read(job.number, 7, 0) == ([], False)
    append(store, job, ended(8))
    events, is_all = store.read(job.number, 7, 0)
    assert [numbered.number for numbered in events] == [8] and is_all
    assert store.read(job.number, 8, 0) == ([], True)


def test_a_page_has_at_most_so_many_bytes_and_at_least_one_event(store: JobStore) -> None:
    job = keep(store, submission())
    append(store, job, *(output(seq, "x" * 1000) for seq in range(1, 11)))
    assert len(store.read(job.number, 0, 3500)[0]) == 3
    assert len(store.read(job.number, 0, 1)[0]) == 1


def test_what_a_job_has_become(store: JobStore) -> None:
    job = keep(store, submission("train"))
    assert store.record(job.number).state == "queued"
    first = output(1, "hello")
    first.started.CopyFrom(pb.Started(node_id="gpu-1"))
    append(store, job, first, now=NOW + 1)
    record = store.record(job.number)
    assert (record.title, record.state, record.node_id, record.started) == ("train", "running", "gpu-1", NOW + 1)
    append(store, job, pb.Event(attempt=1, seq=2, error=pb.ErrorInfo(code="remote", type="m.Oops", message="a\nb")))
    record = store.record(job.number)
    assert (record.state, record.error, record.attempts, record.ended) == ("failed", "Oops: a", 1, NOW)


def test_only_the_newest_progress_is_kept(store: JobStore) -> None:
    job = keep(store, submission())
    append(store, job, progress(1, 1), progress(2, 2), output(3, "x"), progress(4, 3), progress(5, 4))
    kinds = [numbered.event.WhichOneof("body") for numbered in store.read(job.number, 0, 0)[0]]
    assert kinds == ["progress", "output", "progress"]
    assert store.record(job.number).progress.done == 4
    numbers = [numbered.number for numbered in store.read(job.number, 0, 0)[0]]
    assert numbers == [2, 3, 5], "a reader that has seen an older one gets the newer one"


def test_the_same_job_again_is_no_other(store: JobStore) -> None:
    submit = submission()
    keep(store, submit)
    assert store.keep(submit, (), 1, NOW) is None
    assert store.keep(submit, None, 1, NOW) is None, "its payloads were taken the first time"
    other = pb.Submit(call_id=submit.call_id, function="g")
    assert isinstance(store.keep(other, (), 1, NOW), UsageError)
    assert isinstance(store.keep(submission(), None, 1, NOW), UsageError)


def test_what_comes_after_the_end_is_dropped(store: JobStore) -> None:
    job = keep(store, submission())
    assert store.end(job.number, pb.ErrorInfo(code="cancelled", message="enough"), NOW)
    assert not store.end(job.number, pb.ErrorInfo(code="lost"), NOW)
    store.append([Arrival(job.number, item(1, b"late"), [File("aa", 10)])], NOW)
    assert store.record(job.number).state == "cancelled"
    assert len(store.read(job.number, 0, 0)[0]) == 1
    assert store.unwanted == ["aa"]


def test_an_event_that_comes_twice_is_kept_once(store: JobStore) -> None:
    job = keep(store, submission())
    append(store, job, item(1, b"a"), item(2, b"b"), item(2, b"b"), item(1, b"a"), item(3, b"c"))
    append(store, job, item(1, b"x", attempt=2), item(4, b"late"), item(2, b"y", attempt=2))
    data = [numbered.event.item.data for numbered in store.read(job.number, 0, 0)[0]]
    assert data == [b"a", b"b", b"c", b"x", b"y"]


def test_open_jobs_come_back_as_far_as_they_came(store: JobStore) -> None:
    jobs = [keep(store, submission(data=bytes([n]))) for n in range(4)]
    append(store, jobs[1], ended(1))
    waits = output(1, "")
    waits.started.CopyFrom(pb.Started(waits=True))
    append(store, jobs[2], waits, output(2, "y", attempt=1))
    append(store, jobs[3], output(1, "z"), item(1, b"v", attempt=2))
    found, newest = store.open_jobs(0, 10, NOW)
    assert [job.number for job in found] == [jobs[0].number, jobs[2].number, jobs[3].number]
    assert newest == jobs[3].number
    assert [(job.attempt, job.seq, job.was_allowed, job.has_values) for job in found] == [
        (0, 0, False, False),
        (1, 2, True, False),
        (2, 1, False, True),
    ]
    assert [job.submit.arguments.data for job in found] == [b"\0", b"\2", b"\3"]
    assert [job.number for job in store.open_jobs(jobs[0].number, 1, NOW)[0]] == [jobs[2].number]


def test_the_oldest_output_makes_room_and_items_stay() -> None:
    store = made(max_output_bytes=10_000)
    job = keep(store, submission())
    append(store, job, item(1, b"first"))
    append(store, job, *(output(seq, "x" * 900) for seq in range(2, 32)))
    record = store.record(job.number)
    assert record.dropped_events >= 20 and record.kept_bytes < 12_000
    events = [numbered.event for numbered in store.read(job.number, 0, 0)[0]]
    assert events[0].item.data == b"first" and events[-1].seq == 31
    assert len(events) + record.dropped_events == 31


def test_a_job_that_brings_too_much_ends() -> None:
    store = made(max_job_bytes=5000)
    job = keep(store, submission())
    done = store.append([Arrival(job.number, item(seq, b"x" * 1000)) for seq in range(1, 9)], NOW)
    assert done.ended == done.too_large == [job.number]
    events, is_all = store.read(job.number, 0, 0)
    assert is_all and events[-1].event.error.code == "payload" and "5,000" in events[-1].event.error.message
    assert isinstance(store.keep(submission(data=b"x" * 5000), (), 1, NOW), UsageError)


def test_a_full_journal_takes_no_jobs_and_no_events() -> None:
    store = made(max_total_bytes=5000)
    job = keep(store, submission(data=b"x" * 3000))
    assert isinstance(store.keep(submission(data=b"x" * 3000), (), 1, NOW), OverloadedError)
    with pytest.raises(JobsUnavailable):
        append(store, job, item(1, b"x" * 3000))


def test_jobs_that_were_collected_make_room() -> None:
    store = made(max_jobs=3)
    jobs = [keep(store, submission()) for _ in range(3)]
    for job in jobs[:2]:
        append(store, job, ended(1))
    assert isinstance(store.keep(submission(), (), 1, NOW), OverloadedError)
    store.collected(jobs[1].number, NOW)
    store.collected(jobs[2].number, NOW)  # it hasn't ended, so that is no word on its end
    keep(store, submission())
    assert [record.number for record in store.records("", 0, 0)] == [4, 3, 1]


def test_expiry_by_age_and_after_collecting() -> None:
    store = made(expires_after_s=100, expires_after_collected_s=10)
    jobs = [keep(store, submission()) for _ in range(3)]
    for job in jobs[:2]:
        append(store, job, ended(1))
    store.collected(jobs[0].number, NOW)
    assert store.expire(NOW + 11) == 1
    assert store.expire(NOW + 99) == 0
    assert store.expire(NOW + 101) == 1
    assert store.expire(NOW + 1e6) == 0, "a job that hasn't ended doesn't expire"
    assert [record.number for record in store.records("", 0, 0)] == [3]


def test_a_forgotten_job_leaves_nothing() -> None:
    store = made()
    job = store.keep(submission(), [File("aa", 10)], 1, NOW)
    assert isinstance(job, Job)
    store.append([Arrival(job.number, item(1, b""), [File("bb", 20)])], NOW)
    assert store.file_names() == {"aa", "bb"}
    assert store.file_size(job.number, "bb") == 20 and store.file_size(job.number + 1, "bb") is None
    store.forget(job.number)
    assert store.file_names() == set() and sorted(store.unwanted) == ["aa", "bb"]
    with pytest.raises(JobNotFound):
        store.number_of(job.submit.call_id)
    keep(store, submission())


def test_jobs_are_found_by_the_first_digits_of_their_id(store: JobStore) -> None:
    for first in (b"\x12", b"\x12", b"\xff"):
        submit = submission()
        submit.call_id = first + submit.call_id[1:]
        keep(store, submit)
    assert len(store.records("1", 0, 0)) == 2
    assert len(store.records("f", 0, 0)) == 1
    assert len(store.records("", 0, 2)) == 2
    assert [record.number for record in store.records("", 3, 0)] == [2, 1]


def test_damaged_bytes_are_an_error_not_a_value(store: JobStore) -> None:
    job = keep(store, submission())
    append(store, job, item(1, b"good"), item(2, b"bad"))
    store._conn.execute("UPDATE events SET event = x'00' WHERE key & 0xffffffff = 2")
    good, bad = store.read(job.number, 0, 0)[0]
    assert good.event.item.data == b"good"
    assert bad.event.error.code == "payload"
    store._conn.execute("UPDATE jobs SET submit = x'00'")
    assert store.open_jobs(0, 10, NOW)[0] == []
    assert store.record(job.number).state == "failed"


def test_a_job_is_seen_by_the_token_that_made_it() -> None:
    store = made()
    own, foreign = submission(), submission()
    foreign.owner = "1a2b3c4d"
    jobs = [keep(store, submit) for submit in (own, foreign)]
    assert [record.number for record in store.records("", 0, 0)] == [2, 1]
    assert [record.number for record in store.records("", 0, 0, "1a2b3c4d")] == [2]
    assert [record.number for record in store.records("", 0, 0, "owner")] == [1]
    assert store.records(own.call_id.hex()[:4], 0, 0, "1a2b3c4d") == []
    assert store.number_of(own.call_id) == store.number_of(own.call_id, "owner") == jobs[0].number
    for job_id, whose in ((own.call_id, "1a2b3c4d"), (foreign.call_id, "owner"), (own.call_id, "")):
        with pytest.raises(JobNotFound):
            store.number_of(job_id, whose)
    taken = pb.Submit()
    taken.CopyFrom(own)
    taken.owner = "1a2b3c4d"
    assert isinstance(store.keep(taken, (), 1, NOW), UsageError)
