"""The files of the audit log."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from easyremote import UsageError
from easyremote.security import audit
from easyremote.security.audit import AuditLog


def lines(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_lines_are_json_with_a_time_and_nothing_empty(tmp_path: Path) -> None:
    log = AuditLog(tmp_path / "state/audit-a.jsonl")
    log.note(
        {"function": "f\n\x1b[31m", "call": b"\x01\xff", "error": "", "tasks": 2, "job": False, "took_s": 0.123456789}
    )
    log.note({"function": "g" * 1000})
    log.close()
    first, second = lines(log.path)
    assert first.pop("at").endswith("Z")  # type: ignore[attr-defined]
    assert first == {"function": "f\n\x1b[31m", "call": "01ff", "tasks": 2, "took_s": 0.123457}
    assert second["function"] == "g" * audit.MAX_TEXT
    assert "\x1b" not in log.path.read_text()


def test_files_are_this_users_alone_whatever_the_umask_says(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        log = AuditLog(tmp_path / "state/audit-a.jsonl")
        log.note({"function": "f"})
        log.close()
    finally:
        os.umask(before)
    assert stat.S_IMODE(log.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(log.path.parent.stat().st_mode) == 0o700


def test_a_full_file_is_put_aside_and_the_oldest_goes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit, "MAX_FILE_BYTES", 1000)
    for number in range(60):
        log = AuditLog(tmp_path / "audit-a.jsonl")
        for _ in range(10):
            log.note({"function": "f" * 20, "number": number})
        log.close()
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["audit-a.jsonl", *(f"audit-a.jsonl.{n}" for n in range(1, audit.MAX_OLD_FILES + 1))]
    assert all(stat.S_IMODE(path.stat().st_mode) == 0o600 for path in tmp_path.iterdir())
    kept = [facts["number"] for facts in audit.read(tmp_path)]
    assert kept == sorted(kept) and kept[-1] == 59 and kept[0] > 0


def test_what_is_beyond_the_bound_is_left_out_and_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = AuditLog(tmp_path / "audit-a.jsonl")
    gate, entered = threading.Event(), threading.Event()
    append = log._append

    def held(data: bytes) -> None:
        entered.set()
        gate.wait(30)
        append(data)

    monkeypatch.setattr(log, "_append", held)
    monkeypatch.setattr(audit, "MAX_WAITING", 5)
    log.note({"function": "first"})
    assert entered.wait(30)
    for _ in range(8):
        log.note({"function": "f"})
    gate.set()
    log.close()
    written = lines(log.path)
    assert [facts.get("function") for facts in written] == ["first", *["f"] * 5, None]
    assert (written[-1]["outcome"], written[-1]["count"]) == ("left out", 3)


def test_a_disk_that_fails_stops_nobody_and_what_is_missing_is_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path / "audit-a.jsonl")
    failed = threading.Event()
    append = log._append

    def broken(data: bytes) -> None:
        failed.set()
        raise OSError("no space left on device")

    monkeypatch.setattr(log, "_append", broken)
    log.note({"function": "f"})
    assert failed.wait(30)
    monkeypatch.setattr(log, "_append", append)
    log.close()
    assert lines(log.path)[-1]["count"] == 1


def test_several_processes_write_to_one_file(tmp_path: Path) -> None:
    script = (
        "import sys; from pathlib import Path; from easyremote.security import audit; audit.MAX_FILE_BYTES = 20_000\n"
        "log = audit.AuditLog(Path(sys.argv[1]))\nfor n in range(500): log.note({'n': n, 'who': sys.argv[2]})\nlog.close()"
    )
    path = tmp_path / "audit-a.jsonl"
    running = [subprocess.Popen([sys.executable, "-c", script, str(path), name]) for name in "ab"]
    assert [process.wait(60) for process in running] == [0, 0]
    written = list(audit.read(tmp_path))
    assert sorted((str(facts["who"]), facts["n"]) for facts in written) == [
        (who, n) for who in "ab" for n in range(500)
    ]


def test_a_path_that_can_not_be_written_is_a_usage_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="can't be written"):
        AuditLog(tmp_path / "file" / "audit.jsonl")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    with pytest.raises(UsageError):
        AuditLog(tmp_path / "link")


def test_damaged_lines_are_passed_over(tmp_path: Path) -> None:
    (tmp_path / "audit-a.jsonl").write_bytes(
        b'{"at": "2026"}\n{"at"\n[1]\n"x"\n{"function": 1}\n\xff\xfe\n{"at": "2027"}\n'
    )
    assert [facts["at"] for facts in audit.read(tmp_path)] == ["2026", "2027"]


def test_the_name_of_a_node_is_no_path() -> None:
    assert audit.node_path(Path("/s"), "../../etc/x y").parent == Path("/s")
