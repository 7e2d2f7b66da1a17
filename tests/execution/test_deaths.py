"""What is said of a worker that died, from what the system tells."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from easyremote.execution import deaths

V2, GIB = "0::/app\n", 2**30


@pytest.fixture
def system(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A system with control groups of version 2, in which this process may have 4 GiB."""
    group = tmp_path / "cgroup" / "app"
    group.mkdir(parents=True)
    (group / "memory.events").write_text("low 0\noom 7\noom_kill 3\noom_group_kill 0\n")
    (group / "memory.max").write_text(f"{4 * GIB}\n")
    (tmp_path / "vmstat").write_text("pgfault 5\noom_kill 9\n")
    monkeypatch.setattr(deaths, "_CGROUPS", tmp_path / "cgroup")
    monkeypatch.setattr(deaths, "_VMSTAT", tmp_path / "vmstat")
    monkeypatch.setattr(deaths, "_group", lambda controller: None if controller else group)
    return tmp_path


def killed(count: int, system: Path) -> None:
    (system / "cgroup/app/memory.events").write_text(f"oom 7\noom_kill {count}\n")


def test_one_that_the_oom_killer_ended(system: Path) -> None:
    kills = deaths.KillCounter()
    killed(4, system)
    death = deaths.explain(-signal.SIGKILL, 3 * GIB, False, kills)
    assert (death.out_of_memory, death.signal, death.limit_bytes) == ("yes", "SIGKILL", 4 * GIB)
    assert (
        death.text()
        == "killed by SIGKILL, out of memory: the kernel's OOM killer ended it; it had up to 3.0 GiB of memory"
    )
    assert "This machine gives it 4.0 GiB" in death.advice()
    assert death.facts() == {
        "exit_code": "-9",
        "signal": "SIGKILL",
        "out_of_memory": "yes",
        "peak_memory_bytes": str(3 * GIB),
    }


def test_a_kill_of_long_ago_counts_for_nobody(system: Path) -> None:
    kills = deaths.KillCounter()
    killed(4, system)
    for _ in range(8):
        kills.sample()
    assert deaths.explain(-signal.SIGKILL, GIB, False, kills).out_of_memory == "no"


def test_one_that_was_killed_near_the_limit_probably_ran_out_of_memory(system: Path) -> None:
    kills = deaths.KillCounter()
    assert deaths.explain(-signal.SIGKILL, 7 * GIB // 2, False, kills).out_of_memory == "likely"
    assert deaths.explain(-signal.SIGKILL, GIB, False, kills).text().startswith("killed by SIGKILL, not by EasyRemote")


@pytest.mark.parametrize(("exit_code", "was_killed"), [(1, False), (-signal.SIGSEGV, False), (-signal.SIGKILL, True)])
def test_other_ends_have_nothing_to_do_with_memory(system: Path, exit_code: int, was_killed: bool) -> None:
    kills = deaths.KillCounter()
    killed(4, system)
    death = deaths.explain(exit_code, 4 * GIB, was_killed, kills)
    assert (death.out_of_memory, death.advice()) == ("no", "")


def test_without_control_groups_the_whole_machines_kills_count(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deaths, "_group", lambda controller: None)
    kills = deaths.KillCounter()
    (system / "vmstat").write_text("oom_kill 10\n")
    assert kills.has_grown()


def test_where_nothing_can_be_read_nothing_is_claimed(system: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deaths, "_group", lambda controller: None)
    (system / "vmstat").unlink()
    kills = deaths.KillCounter()
    kills.sample()
    assert deaths.explain(-signal.SIGKILL, 0, False, kills).text() == "killed by SIGKILL, not by EasyRemote"


def test_unknown_signals_have_their_number() -> None:
    assert deaths.Death(-63).signal == "signal 63"
    assert deaths.Death(3).text() == "exit code 3"
