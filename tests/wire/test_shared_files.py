"""Files in shared memory: made, handed over, removed, and swept up after a crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyremote.wire import shared_files
from easyremote.wire.shared_files import SharedFiles, file_bytes, split
from tests.conftest import is_alive, wait_until


@pytest.fixture
def roots(tmp_path: Path) -> list[Path]:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir(), second.mkdir()
    return [first, second]


@pytest.fixture
def files(roots: list[Path]) -> SharedFiles:
    return SharedFiles(roots)


def names(files: SharedFiles) -> list[str]:
    return [path.name for folder in files.folders for path in folder.iterdir()]


def test_parts_written_by_one_are_taken_by_another(files: SharedFiles, roots: list[Path]) -> None:
    parts = [b"stream", np.arange(1000), bytearray(b"x" * 100)]
    sizes = [memoryview(part).nbytes for part in parts]
    name = files.write(parts)
    other = SharedFiles(roots)
    view = other.take(name, file_bytes(sizes))
    assert [bytes(part) for part in split(view, sizes)] == [bytes(memoryview(part).cast("B")) for part in parts]
    assert names(files) == [], "its name is gone as soon as it is mapped"


@settings(max_examples=50, deadline=None)
@given(st.lists(st.binary(max_size=300), min_size=1, max_size=6))
def test_any_parts_come_back_equal_and_aligned(tmp_path_factory: pytest.TempPathFactory, parts: list[bytes]) -> None:
    files = SharedFiles([tmp_path_factory.mktemp("shared")])
    sizes = [len(part) for part in parts]
    view = files.take(files.write(parts), file_bytes(sizes))
    found = split(view, sizes)
    assert [bytes(part) for part in found] == parts
    addresses = [np.frombuffer(part, np.uint8).__array_interface__["data"][0] for part in found if part.nbytes]
    assert all(address % 64 == 0 for address in addresses)


def test_what_the_receiver_changes_is_its_own(files: SharedFiles) -> None:
    name = files.write([b"abc"])
    first, second = files.map(name, file_bytes([3])), files.map(name, file_bytes([3]))
    first[0:1] = b"X"
    assert bytes(second[:3]) == b"abc"
    assert names(files) == [name]


def test_a_mapping_outlives_its_file(files: SharedFiles) -> None:
    view = files.take(files.write([b"abc"]), file_bytes([3]))
    del files
    assert bytes(view[:3]) == b"abc"


def test_a_file_of_another_size_than_announced_is_refused(files: SharedFiles) -> None:
    name = files.write([b"abc"])
    with pytest.raises(OSError, match="not the announced 999"):
        files.map(name, 999)
    with pytest.raises(OSError, match="announced"):
        files.take(name, file_bytes([3]) + 1)


@pytest.mark.parametrize(
    "name", ["../../etc/passwd", "", "1-" + "z" * 32, "/etc/passwd", "1-" + "a" * 31, "1-" + "a" * 33]
)
def test_only_names_of_its_own_kind_are_opened(files: SharedFiles, name: str) -> None:
    with pytest.raises(OSError, match="no name of a shared file"):
        files.map(name, 3)
    files.remove(name)


def test_a_file_that_isnt_there_is_refused(files: SharedFiles) -> None:
    with pytest.raises(FileNotFoundError):
        files.take(f"1-{'a' * 32}", 64)
    files.remove(f"1-{'a' * 32}")


def test_a_link_is_not_followed(files: SharedFiles, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_bytes(b"s" * 64)
    name = f"{os.getpid()}-{'a' * 32}"
    (files.folders[0] / name).symlink_to(secret)
    with pytest.raises(OSError, match=r"."):
        files.map(name, 64)


def test_folders_belong_to_this_user_alone(files: SharedFiles, roots: list[Path]) -> None:
    assert [folder.stat().st_mode & 0o777 for folder in files.folders] == [0o700, 0o700]
    name = files.write([b"abc"])
    assert (files.folders[0] / name).stat().st_mode & 0o777 == 0o600
    files.folders[0].chmod(0o755)
    assert SharedFiles(roots).folders == files.folders[1:], "one that others can read isn't used"


def test_a_root_that_isnt_there_is_left_out(tmp_path: Path) -> None:
    files = SharedFiles([tmp_path / "missing", tmp_path])
    assert len(files.folders) == 1
    assert SharedFiles([tmp_path / "missing"]).identity == ""


def test_processes_that_see_the_same_folder_know_it_and_others_dont(roots: list[Path]) -> None:
    first, same, other = SharedFiles(roots), SharedFiles(roots), SharedFiles(roots[1:])
    assert first.identity == same.identity != other.identity
    assert first.identity


def test_a_machine_without_a_boot_id_shares_with_nobody(
    roots: list[Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(shared_files, "_boot_id_file", tmp_path / "missing")
    assert SharedFiles(roots).identity == ""


def test_when_the_first_folder_is_full_the_next_one_is_used(
    files: SharedFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_to = SharedFiles._write_to

    def full(self: SharedFiles, path: Path, views: list[memoryview]) -> None:
        if path.parent == files.folders[0]:
            raise OSError(28, "No space left on device")
        write_to(self, path, views)

    monkeypatch.setattr(SharedFiles, "_write_to", full)
    name = files.write([b"abc"])
    assert (files.folders[1] / name).exists()
    assert bytes(files.take(name, file_bytes([3]))[:3]) == b"abc"


def test_a_file_for_which_there_is_no_room_leaves_nothing(files: SharedFiles) -> None:
    with pytest.raises(OSError, match=r"."):
        files.create(1 << 62)
    assert names(files) == []


def test_what_there_is_no_room_for_isn_t_begun(files: SharedFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fstatvfs", lambda _: os.statvfs_result((4096, 4096, 10, 1, 1, 0, 0, 0, 0, 255)))
    with pytest.raises(OSError, match="No space left"):
        files.write([bytes(4097)])
    assert names(files) == []


def test_what_a_dead_process_left_is_swept_up_and_what_a_living_one_has_is_not(roots: list[Path]) -> None:
    files = SharedFiles(roots)
    mine = files.write([b"abc"])
    script = "import sys; from pathlib import Path; from easyremote.wire.shared_files import SharedFiles; "
    script += "print(SharedFiles([Path(p) for p in sys.argv[1:]]).write([b'abc']))"
    theirs = subprocess.run(
        [sys.executable, "-c", script, *map(str, roots)], stdout=subprocess.PIPE, text=True, check=True
    ).stdout.strip()
    foreign = files.folders[0] / "something else"
    foreign.touch()
    assert set(names(files)) == {mine, theirs, "something else"}
    SharedFiles(roots)
    assert set(names(files)) == {mine, "something else"}


@pytest.mark.parametrize(
    ("sizes", "expected"), [([], 64), ([0], 64), ([1], 64), ([64], 64), ([65, 1], 192), ([0, 0, 1], 64)]
)
def test_the_length_of_a_file_follows_from_its_parts(sizes: list[int], expected: int) -> None:
    assert file_bytes(sizes) == expected


def test_a_process_that_nobody_has_asked_about_since_it_ended_counts_as_dead(roots: list[Path]) -> None:
    ended = subprocess.Popen([sys.executable, "-c", ""], stdout=subprocess.PIPE)
    assert ended.stdout is not None
    ended.stdout.read()  # it is a zombie now, or about to be one
    wait_until(lambda: not is_alive(ended.pid))
    folder = SharedFiles(roots).folders[0]
    (folder / f"{ended.pid}-{'0' * 32}").write_bytes(b"x")
    SharedFiles(roots)
    assert os.path.exists(f"/proc/{ended.pid}") and not list(folder.iterdir())
    ended.communicate()


def test_a_file_that_is_adopted_outlives_its_maker(files: SharedFiles, roots: list[Path]) -> None:
    code = (
        "import sys; from pathlib import Path; from easyremote.wire.shared_files import SharedFiles\n"
        "print(SharedFiles([Path(root) for root in sys.argv[1:]]).write([b'kept']))"
    )
    made = subprocess.run([sys.executable, "-c", code, *map(str, roots)], capture_output=True, text=True, check=True)
    name = files.adopt(made.stdout.strip())
    SharedFiles(roots)
    assert files.has(name) and bytes(files.map(name, 64)[:4]) == b"kept"
    with pytest.raises(FileNotFoundError):
        files.adopt(made.stdout.strip())
