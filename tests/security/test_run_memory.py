"""No call begins again that may not: in this process, in the next one, in another one of the same key."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyremote.errors import ConsentError
from easyremote.security.run_memory import Run, RunMemory
from easyremote.security.statements import SKEW_S

NOW = 1_800_000_000.0


def run(number: int = 1, attempt: int = 1, issued: float = NOW, lasts_s: float = 3600.0) -> Run:
    return Run(number.to_bytes(16, "little"), attempt, issued, issued + lasts_s)


@pytest.fixture(params=["file", "memory"])
def memory(request: pytest.FixtureRequest, tmp_path: Path) -> RunMemory:
    return RunMemory(tmp_path / "runs" if request.param == "file" else None, NOW)


def test_an_attempt_begins_once(memory: RunMemory) -> None:
    memory.begin(run(), 4, NOW)
    with pytest.raises(ConsentError, match="begun here before"):
        memory.begin(run(), 4, NOW)


def test_a_call_begins_as_often_as_its_client_allows(memory: RunMemory) -> None:
    memory.begin(run(attempt=1), 2, NOW)
    memory.begin(run(attempt=7), 2, NOW)
    with pytest.raises(ConsentError, match="begun here 2 times, and its client allows 2"):
        memory.begin(run(attempt=8), 2, NOW)
    memory.begin(run(2), 1, NOW)


def test_the_next_process_knows(tmp_path: Path) -> None:
    first = RunMemory(tmp_path / "runs", NOW)
    first.begin(run(), 1, NOW)
    first.close()
    assert (tmp_path / "runs").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ConsentError):
        RunMemory(tmp_path / "runs", NOW).begin(run(), 1, NOW)


def test_processes_of_one_key_know_of_each_other(tmp_path: Path) -> None:
    one, other = RunMemory(tmp_path / "runs", NOW), RunMemory(tmp_path / "runs", NOW)
    for number in range(0, 20, 2):
        one.begin(run(number + 1), 1, NOW)
        other.begin(run(number + 2), 1, NOW)
    for number in range(1, 21):
        for memory in (one, other):
            with pytest.raises(ConsentError):
                memory.begin(run(number, attempt=2), 1, NOW)


def test_what_has_expired_is_forgotten_by_the_next_process(tmp_path: Path) -> None:
    first = RunMemory(tmp_path / "runs", NOW)
    first.begin(run(1, lasts_s=60), 1, NOW)
    first.begin(run(2, lasts_s=7200), 1, NOW)
    later = NOW + 60 + SKEW_S + 1
    second = RunMemory(tmp_path / "runs", later)
    assert len(second) == 1
    with pytest.raises(ConsentError):
        second.begin(run(2), 1, later)
    first.begin(run(3), 1, NOW)  # though another file is in the place of its own
    with pytest.raises(ConsentError):
        second.begin(run(3), 1, later)


@pytest.mark.parametrize("in_file", [True, False])
def test_a_full_memory_forgets_the_oldest_and_refuses_what_it_may_have_forgotten(in_file: bool, tmp_path: Path) -> None:
    memory = RunMemory(tmp_path / "runs" if in_file else None, NOW, max_runs=8)
    for number in range(1, 10):
        memory.begin(run(number, issued=NOW + number), 1, NOW)
    assert len(memory) <= 8
    remembered = [memory] + ([RunMemory(tmp_path / "runs", NOW, max_runs=8)] if in_file else [])
    for one in remembered:
        for number in range(1, 10):
            with pytest.raises(ConsentError):
                one.begin(run(number, issued=NOW + number), 1, NOW)
        with pytest.raises(ConsentError, match="so long ago"):
            one.begin(run(99, issued=NOW + 1), 1, NOW)
    memory.begin(run(100, issued=NOW + 100), 1, NOW)


def test_a_torn_record_does_no_harm(tmp_path: Path) -> None:
    path = tmp_path / "runs"
    first = RunMemory(path, NOW)
    first.begin(run(1), 1, NOW)
    first.begin(run(2), 1, NOW)
    os.truncate(path, path.stat().st_size - 5)
    second = RunMemory(path, NOW)
    with pytest.raises(ConsentError):
        second.begin(run(1), 1, NOW)
    second.begin(run(3), 1, NOW)
    with pytest.raises(ConsentError):
        RunMemory(path, NOW).begin(run(3), 1, NOW)


def test_a_file_that_vanishes_is_made_again_with_what_is_known(tmp_path: Path) -> None:
    memory = RunMemory(tmp_path / "runs", NOW)
    memory.begin(run(1), 1, NOW)
    (tmp_path / "runs").unlink()
    memory.begin(run(2), 1, NOW)
    for number in (1, 2):
        with pytest.raises(ConsentError):
            RunMemory(tmp_path / "runs", NOW).begin(run(number), 1, NOW)


@pytest.mark.parametrize("content", [b"something else", b"", bytes(100)])
def test_without_its_file_it_refuses_what_it_cannot_know(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "runs"
    path.write_bytes(content)
    path.chmod(0o600)
    memory = RunMemory(path, NOW)
    assert memory.problem
    assert path.read_bytes() == content
    with pytest.raises(ConsentError, match="before this node started"):
        memory.begin(run(1, issued=NOW + SKEW_S), 1, NOW)
    memory.begin(run(1, issued=NOW + SKEW_S + 1), 1, NOW + SKEW_S + 1)


def test_a_file_open_to_others_is_not_used(tmp_path: Path) -> None:
    RunMemory(tmp_path / "runs", NOW).close()
    (tmp_path / "runs").chmod(0o644)
    assert "open to other users" in RunMemory(tmp_path / "runs", NOW).problem


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_whatever_happens_no_attempt_begins_twice(data: st.DataObject) -> None:
    """Two processes of one key, that are restarted, fill up and see time pass."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "runs"
        now, begun = NOW, set[tuple[int, int]]()
        processes = [RunMemory(path, now, max_runs=6) for _ in range(2)]
        for _ in range(data.draw(st.integers(1, 40))):
            index = data.draw(st.integers(0, 1))
            match data.draw(st.sampled_from(["begin", "begin", "begin", "restart", "wait"])):
                case "begin":
                    number, attempt = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 2))
                    issued = NOW + 10 * number
                    if now >= issued + 100 + SKEW_S:
                        continue  # expired, which others check
                    try:
                        processes[index].begin(
                            Run(number.to_bytes(16, "little"), attempt, issued, issued + 100), 2, now
                        )
                    except ConsentError:
                        continue
                    assert (number, attempt) not in begun
                    begun.add((number, attempt))
                case "restart":
                    processes[index].close()
                    processes[index] = RunMemory(path, now, max_runs=6)
                case "wait":
                    now += data.draw(st.integers(1, 200))
        for process in processes:
            process.close()
