"""Files of what calls print on a node."""

from __future__ import annotations

import stat
import threading
from pathlib import Path

import pytest

from easyremote.execution import output_files
from easyremote.execution.output_files import OutputFiles
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.conftest import wait_until


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("EASYREMOTE_RUNTIME_DIR", str(tmp_path))
    return tmp_path / "output"


def told(files: OutputFiles, number: int) -> pb.OutputTail:
    output = pb.Output(tail=pb.OutputTail(file="/made/up"))
    assert files.take((bytes([number]), 1), output)
    return output.tail


def keep(files: OutputFiles, number: int, data: bytes) -> None:
    assert not files.take((bytes([number]), 1), pb.Output(to_file=True, kept=data))


def test_what_is_kept_is_its_users_alone_and_goes_with_the_node(folder: Path) -> None:
    files = OutputFiles(lambda: None)
    assert told(files, 1).file == ""
    keep(files, 1, b"one ")
    keep(files, 1, b"two")
    path = Path(told(files, 1).file)
    wait_until(lambda: path.read_bytes() == b"one two")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600 and stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    files.close()
    assert not folder.exists()


def test_what_a_killed_node_left_is_removed_by_the_next_one_and_a_living_ones_stays(folder: Path) -> None:
    (folder / "dead").mkdir(parents=True)
    (folder / "dead" / ".lock").touch()
    (folder / "dead" / "old.txt").touch()
    first, second = OutputFiles(lambda: None), OutputFiles(lambda: None)
    keep(first, 1, b"first")
    keep(second, 1, b"second")
    assert not (folder / "dead").exists() and Path(told(first, 1).file).exists()
    second.close()
    assert Path(told(first, 1).file).exists()
    first.close()


def test_a_file_ends_at_its_bound_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_files, "MAX_FILE_BYTES", 10)
    files = OutputFiles(lambda: None)
    keep(files, 1, b"12345678")
    keep(files, 1, b"12345678")
    wait_until(lambda: told(files, 1).kept_bytes == 8)
    assert Path(told(files, 1).file).read_bytes() == b"12345678"
    files.close()


def test_the_file_that_ended_first_makes_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_files, "MAX_ALL_BYTES", 20)
    files = OutputFiles(lambda: None)
    for number in (1, 2):
        keep(files, number, b"12345678")
        files.ended((bytes([number]), 1))
    first, second = (Path(told(files, number).file) for number in (1, 2))
    keep(files, 3, b"12345678")
    wait_until(lambda: not first.exists())
    assert second.exists()
    keep(files, 4, b"12345678")
    wait_until(lambda: not second.exists())
    keep(files, 4, b"12345678")  # no call has ended, so there is no room
    wait_until(lambda: told(files, 4).kept_bytes == 8)
    files.close()


def test_a_full_disk_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_files, "MIN_FREE_BYTES", 1 << 60)
    files = OutputFiles(lambda: None)
    keep(files, 1, b"12345678")
    wait_until(lambda: files._files[b"\1", 1].is_full)
    assert Path(told(files, 1).file).read_bytes() == b""
    files.close()


def test_a_producer_waits_for_a_slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(output_files, "MAX_WAITING_BYTES", 10)
    disk, caught_up = threading.Event(), threading.Event()
    write = output_files._write_all
    monkeypatch.setattr(output_files, "_write_all", lambda *args: (disk.wait(), write(*args)))
    files = OutputFiles(caught_up.set)
    keep(files, 1, b"12345678")
    assert not files.is_behind
    keep(files, 1, b"12345678")
    assert files.is_behind and not caught_up.is_set()
    disk.set()
    assert caught_up.wait(10) and not files.is_behind
    files.close()
