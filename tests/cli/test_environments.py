"""`easyremote environments`: what is listed, and what is removed and what stays."""

from __future__ import annotations

import json
import os
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from easyremote.cli.main import app
from easyremote.execution.environments.folder import FACTS, PROGRAM, EnvironmentFolder, Hold

pytestmark = pytest.mark.slow

Run = Callable[..., subprocess.CompletedProcess[str]]
OLD, NEW, ODD = "aa11" + "0" * 16, "aa22" + "0" * 16, "bb33" + "0" * 16


@pytest.fixture
def here(capsys: pytest.CaptureFixture[str]) -> Run:
    """`here("environments")`: the command in this process, which takes less time than one of its own."""

    def complete(*words: str) -> subprocess.CompletedProcess[str]:
        code: Any = 0
        try:
            app(words, prog_name="easyremote")
        except SystemExit as end:
            code = end.code or 0
        return subprocess.CompletedProcess(words, code, *capsys.readouterr())

    return complete


@pytest.fixture(autouse=True)
def environments(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> EnvironmentFolder:
    """Those of this user: none yet."""
    monkeypatch.setenv("EASYREMOTE_CACHE_DIR", str(tmp_path / "cache"))
    return EnvironmentFolder()


def hold(folder: EnvironmentFolder, key: str, requirements: Sequence[str] = (), size: int = 100_000) -> Hold:
    """One that is in use."""

    def build(path: Path) -> dict[str, Any]:
        (path / PROGRAM).parent.mkdir(parents=True)
        (path / PROGRAM).touch()
        (path / "module.py").write_bytes(os.urandom(size))
        packages = ["numpy==1.26.4", "msgpack==1.1.0"]
        return {"python": "3.12.1", "base": "/usr", "requirements": list(requirements), "packages": packages}

    return folder.get(key, build, threading.Event())


@pytest.fixture
def two(environments: EnvironmentFolder) -> Iterator[Hold]:
    """Two of them; one is in use."""
    hold(environments, OLD, ["numpy<2"], 3_000_000).release()
    yesterday = time.time() - 90_000
    os.utime(environments.path(OLD) / FACTS, (yesterday, yesterday))
    held = hold(environments, NEW, ["pandas", "treasure==1.0"])
    yield held
    held.release()


def test_environments_are_listed_the_one_that_was_used_last_first(run: Run, here: Run, two: Hold) -> None:
    shown = run("environments")
    assert shown.returncode == 0 and not shown.stderr
    lines = [" ".join(line.split()) for line in shown.stdout.splitlines()]
    (new,) = (number for number, line in enumerate(lines) if line.startswith("aa220000 pandas, treasure==1.0 3.12.1"))
    assert lines[new].endswith("in use")
    assert lines[new + 1] == "aa110000 numpy<2 3.12.1 2.9 MiB 1 d 1 h ago"
    in_full = here("environments", "aa11").stdout
    assert "numpy==1.26.4, msgpack==1.1.0" in in_full and "pandas" not in in_full


def test_programs_get_them_as_lines_of_json(here: Run, two: Hold, environments: EnvironmentFolder) -> None:
    new, old = (json.loads(line) for line in here("environments", "--json").stdout.splitlines())
    assert (new["id"], new["in_use"], old["id"], old["in_use"]) == (NEW, True, OLD, False)
    assert old["requirements"] == ["numpy<2"] and old["python"] == "3.12.1" and old["whole"]
    assert 3_000_000 <= old["size_bytes"] < 3_100_000
    assert abs(time.time() - 90_000 - old["used"]) < 600 and old["path"] == str(environments.path(OLD))


def test_those_that_are_named_are_removed_unless_they_are_in_use(
    here: Run, two: Hold, environments: EnvironmentFolder
) -> None:
    done = here("environments", "--remove", "aa11", "aa22")
    assert done.returncode == 1
    assert "Removed aa110000 (numpy<2)." in done.stdout and "2.9 MiB" in done.stdout
    assert "aa220000 (pandas, treasure==1.0): in use, and stays" in done.stderr
    assert [kept.key for kept in environments.kept()] == [NEW]
    two.release()
    told = json.loads(here("environments", "--remove", NEW, "--json").stdout)
    assert told["removed"] == [NEW] and told["freed_bytes"] > 100_000
    assert not environments.kept()
    assert "No environments" in here("environments").stderr


def test_all_that_nothing_runs_in_is_removed_with_what_was_downloaded(
    here: Run, two: Hold, environments: EnvironmentFolder
) -> None:
    environments.cache.mkdir()
    (environments.cache / "archive").write_bytes(bytes(5_000_000))
    done = here("environments", "--remove-unused")
    assert done.returncode == 0
    assert "Removed aa110000 (numpy<2)." in done.stdout and "7.6 MiB" in done.stdout
    assert "aa220000 (pandas, treasure==1.0) is in use, and stays" in done.stderr
    assert [kept.key for kept in environments.kept()] == [NEW] and not environments.cache.exists()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--remove", "cc"], "no environment 'cc'"),
        (["--remove", "../aa11"], "no environment '../aa11'"),
        (["--remove", ""], "no environment ''"),
        (["--remove", "aa11", "cc"], "no environment 'cc'"),
        (["--remove", "aa"], f"several: {NEW}, {OLD}"),
        (["cc"], "no environment 'cc'"),
        (["--remove"], "--remove takes ids"),
        (["--remove-unused", "aa11"], "leave it away"),
    ],
)
def test_what_can_t_be_is_said_and_removes_nothing(
    here: Run, two: Hold, environments: EnvironmentFolder, words: list[str], told: str
) -> None:
    done = here("environments", *words)
    assert (done.returncode, done.stdout) == (2, "")
    assert told in done.stderr
    assert len(environments.kept()) == 2


def test_one_that_is_damaged_is_shown_and_can_be_removed(here: Run, environments: EnvironmentFolder) -> None:
    hold(environments, ODD, ["evil\x1b[2J"]).release()
    assert "\x1b" not in here("environments").stdout
    (environments.path(ODD) / FACTS).write_text("{")
    assert "damaged" in here("environments").stdout
    assert not json.loads(here("environments", "--json").stdout)["whole"]
    assert here("environments", "--remove", "bb").returncode == 0
    assert not environments.kept()
