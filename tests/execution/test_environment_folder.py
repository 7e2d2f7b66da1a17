"""The folder that environments are kept in: what is whole, what is in use, and what goes first when there is too much."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from easyremote.execution.environments.folder import FACTS, PROGRAM, EnvironmentFolder, Hold

Build = Callable[[Path], dict[str, Any]]


def key(number: int) -> str:
    return f"{number:020x}"


def of_size(size: int) -> Build:
    """What builds an environment with so many bytes."""

    def build(path: Path) -> dict[str, Any]:
        (path / PROGRAM).parent.mkdir(parents=True)
        (path / PROGRAM).touch()
        (path / "module.py").write_bytes(os.urandom(size))
        return {"python": "3.12.1", "base": "/usr", "requirements": []}

    return build


def get(folder: EnvironmentFolder, number: int, build: Build | None = None) -> Hold:
    return folder.get(key(number), build or of_size(100), threading.Event())


def put(folder: EnvironmentFolder, number: int, used: float, size: int = 100) -> None:
    """One that nothing runs in, and that was used then."""
    get(folder, number, of_size(size)).release()
    os.utime(folder.path(key(number)) / FACTS, (used, used))


def numbers(folder: EnvironmentFolder) -> set[int]:
    return {int(kept.key, 16) for kept in folder.kept()}


def test_those_that_were_used_longest_ago_go_first_and_none_that_is_in_use(tmp_path: Path) -> None:
    folder = EnvironmentFolder(tmp_path / "environments", max_environments=3)
    for number, used in ((1, 40.0), (2, 10.0), (3, 20.0)):
        put(folder, number, used)
    in_use = get(folder, 2)
    os.utime(folder.path(key(2)) / FACTS, (10, 10))  # though it was got before all others
    put(folder, 4, 50.0)
    assert numbers(folder) == {1, 2, 4}
    put(folder, 5, 60.0)
    assert numbers(folder) == {2, 4, 5}
    assert not folder.remove(key(2))
    in_use.release()
    assert folder.remove(key(2)) and numbers(folder) == {4, 5}


def test_of_too_many_bytes_downloads_go_first_and_then_environments(tmp_path: Path) -> None:
    folder = EnvironmentFolder(tmp_path / "environments", max_bytes=2_000_000)
    put(folder, 1, 10.0, size=800_000)
    folder.cache.mkdir()
    (folder.cache / "archive").write_bytes(bytes(1_000_000))
    put(folder, 2, 20.0, size=800_000)
    assert numbers(folder) == {1, 2} and not folder.cache.exists()
    put(folder, 3, 30.0, size=800_000)
    assert numbers(folder) == {2, 3}


def test_bytes_of_files_that_several_have_count_once(tmp_path: Path) -> None:
    folder = EnvironmentFolder(tmp_path / "environments")
    put(folder, 1, 10.0, size=1_000_000)
    alone = folder.size()
    folder.cache.mkdir()
    os.link(folder.path(key(1)) / "module.py", folder.cache / "module.py")
    assert folder.size() == alone


def test_what_can_not_be_deleted_is_not_tried_for_ever(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = EnvironmentFolder(tmp_path / "environments", max_bytes=1)
    folder.cache.mkdir(parents=True)
    monkeypatch.setattr("shutil.rmtree", lambda path, ignore_errors=False: None)
    get(folder, 1).release()
    assert folder.cache.is_dir()


@pytest.mark.parametrize("loss", [FACTS, PROGRAM])
def test_one_that_something_was_taken_from_is_built_anew(tmp_path: Path, loss: str) -> None:
    folder = EnvironmentFolder(tmp_path / "environments")
    put(folder, 1, 10.0)
    before = (folder.path(key(1)) / "module.py").read_bytes()
    (folder.path(key(1)) / loss).unlink()
    assert numbers(folder) == {1}, "it is still told of, and can be removed"
    get(folder, 1).release()
    assert folder.is_whole(key(1))
    assert (folder.path(key(1)) / "module.py").read_bytes() != before


@pytest.mark.parametrize("text", ["", "[1]", '{"python": "3.1'])
def test_one_whose_facts_are_damaged_is_built_anew(tmp_path: Path, text: str) -> None:
    folder = EnvironmentFolder(tmp_path / "environments")
    put(folder, 1, 10.0)
    (folder.path(key(1)) / FACTS).write_text(text)
    get(folder, 1).release()
    assert folder.facts(key(1))["python"] == "3.12.1"


def test_what_a_removal_or_a_build_left_that_was_killed_is_none_and_goes_with_the_next_build(tmp_path: Path) -> None:
    folder = EnvironmentFolder(tmp_path / "environments")
    put(folder, 1, 10.0)
    folder.path(key(1)).rename(folder.root / f".{key(1)}.0123abcd")
    (folder.root / f".{key(2)}.0123abcd" / "lib").mkdir(parents=True)
    assert not folder.kept() and not folder.is_whole(key(1))
    get(folder, 1).release()
    assert numbers(folder) == {1}
    assert not list(folder.root.glob(".*.*")), "of the same one, and of another"


def test_what_is_being_built_stays_when_others_tidy(tmp_path: Path) -> None:
    folder = EnvironmentFolder(tmp_path / "environments", max_environments=1)

    def build(path: Path) -> dict[str, Any]:
        facts = of_size(100)(path)
        (path / FACTS).write_text(json.dumps(facts))  # as it is just before it gets its name
        put(folder, 2, 20.0)
        folder.remove_unused()
        assert folder.is_in_use(key(1)) and path.is_dir()
        return facts

    get(folder, 1, build).release()
    assert numbers(folder) == {1}


def test_what_others_have_put_into_the_folder_is_not_touched(tmp_path: Path) -> None:
    folder = EnvironmentFolder(tmp_path / "environments", max_environments=1)
    own = [folder.root / name / FACTS for name in ("my-environment", ".my.environment", "ABCDEF" + key(1)[6:])]
    for path in own:
        path.parent.mkdir(parents=True)
        path.write_text("{}")
    for number in (1, 2):
        put(folder, number, number)
    assert numbers(folder) == {2}
    assert [kept.key for kept in folder.remove_unused()] == [key(2)]
    assert all(path.exists() for path in own)
