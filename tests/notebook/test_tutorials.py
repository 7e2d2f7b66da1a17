"""Every tutorial runs from top to bottom, gives the right results, and shows what its committed outputs show."""

from __future__ import annotations

import copy
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from nbformat import NotebookNode

from notebooks.run_demo import CHECKS, CHINESE, FIRST, Run, Wrong, execute, judge, normalised, output_text

pytestmark = [pytest.mark.notebook, pytest.mark.slow]

FOLDER = Path(__file__).parents[2] / "notebooks"
NOTEBOOKS = sorted(path.name for path in FOLDER.glob("*.ipynb"))

VARIES = "varies"
"""Tag of a cell that never shows the same twice, such as a picture of what runs."""


@pytest.fixture(scope="module")
def runs() -> dict[str, Run]:
    """Each notebook is run once, by the first test that wants it."""
    return {}


def run_of(name: str, runs: dict[str, Run]) -> Run:
    if name not in runs:
        runs[name] = execute(FOLDER / name)
    return runs[name]


def test_each_notebook_has_a_check_and_each_check_a_notebook() -> None:
    assert sorted(CHECKS) == NOTEBOOKS


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_tutorial_gives_the_right_results_and_leaves_nothing(name: str, runs: dict[str, Run]) -> None:
    run = run_of(name, runs)
    judge(run, name)
    assert run.took_s < 240  # on two processors of its own it takes 10 to 25 s


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_committed_outputs_are_like_those_of_now(name: str, runs: dict[str, Run]) -> None:
    committed = nbformat.read(FOLDER / name, as_version=4)
    now = normalised(run_of(name, runs).notebook)
    for old, new in zip(committed.cells, now.cells, strict=True):
        if VARIES in old.metadata.get("tags", []):
            assert new.outputs, old.id
        else:
            assert kinds(old) == kinds(new), old.id
            assert words(old) <= words(new), old.id


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_chinese_one_has_the_same_code_and_outputs_and_prose_of_its_own(name: str) -> None:
    english = nbformat.read(FOLDER / name, as_version=4)
    chinese = nbformat.read(FOLDER / CHINESE / name, as_version=4)
    assert [cell.id for cell in english.cells] == [cell.id for cell in chinese.cells]
    for one, other in zip(english.cells, chinese.cells, strict=True):
        if one.cell_type == "code":
            assert one == other, one.id
        else:
            assert re.search("[\u4e00-\u9fff]", other.source), one.id
    for folder in (FOLDER, FOLDER / CHINESE):
        for link in re.findall(r"\]\((?!http)([^)#]+)", (folder / name).read_text()):
            assert (folder / link).exists(), link


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_the_notebook_tells_nothing_of_a_machine(name: str) -> None:
    notebook = nbformat.read(FOLDER / name, as_version=4)
    assert normalised(notebook) == notebook
    text = (FOLDER / name).read_text()
    for pattern in (r"/home/\w", r"/root\b", r"/tmp/\w", r"site-packages", r"\.pyenv"):
        assert not re.search(pattern, text), pattern


def kinds(cell: NotebookNode) -> list[tuple[str, ...]]:
    """What sorts of output a cell has. Text that is written in one piece or in several is the same."""
    found = []
    for output in cell.get("outputs", []):
        kind = (output.output_type, *sorted(output.get("data", {})), output.get("name", ""))
        if not found or kind != found[-1]:
            found.append(kind)
    return found


def words(cell: NotebookNode) -> set[str]:
    """The words of a cell's outputs, without numbers, and without columns of what a node may not have measured yet."""
    text = " ".join(output_text(output) for output in cell.get("outputs", []))
    return set(re.findall(r"[a-z']{2,}", text.lower())) - {"cpu", "memory", "gib"}


# ---- what judges ---------------------------------------------------------------------------------------------------------


def spoiled(run: Run, cell_id: str, old: str, new: str) -> Run:
    other = copy.copy(run)
    other.notebook = copy.deepcopy(run.notebook)
    for output in other.outputs(cell_id):
        for holder, key in ((output, "text"), (output.get("data", {}), "text/plain")):
            if key in holder:
                holder[key] = re.sub(old, new, holder[key])
    return other


@pytest.mark.parametrize(
    ("cell_id", "old", "new", "reason"),
    [
        ("first", r"process \d+", "process 5", "own process"),
        ("search", r"[\d.]+%", "99.90%", "best accuracy is 99.9 %"),
        ("search", r"24/24", "12/24", "did not try 24"),
        ("spread", r"finished \d+", "finished 0", "not spread over two nodes"),
        ("stream", r"[\d.]+%", "5.0%", "did not help"),
        ("left", r"\[\]", "[psutil.Process(pid=7)]", "run on"),
        ("register", r".*", "", "describe gave no result"),
    ],
)
def test_a_wrong_result_is_noticed(cell_id: str, old: str, new: str, reason: str, runs: dict[str, Run]) -> None:
    run = run_of(FIRST.name, runs)
    with pytest.raises(Wrong, match=reason):
        judge(spoiled(run, cell_id, old, new), FIRST.name)


def test_a_missing_figure_an_unexpected_error_and_what_runs_on_are_noticed(runs: dict[str, Run]) -> None:
    run = run_of(FIRST.name, runs)
    without_figure = spoiled(run, "figure", "", "")
    without_figure.outputs("figure").clear()
    with pytest.raises(Wrong, match="shows no figure"):
        judge(without_figure, FIRST.name)
    without_error = spoiled(run, "error", "", "")
    without_error.outputs("error").clear()
    with pytest.raises(Wrong, match="should have raised an error"):
        judge(without_error, FIRST.name)
    left_over = copy.copy(run)
    left_over.left_over = ["process 7"]
    with pytest.raises(Wrong, match="left behind: process 7"):
        judge(left_over, FIRST.name)


def test_the_demo_fails_with_the_reason_when_a_cell_fails(tmp_path: Path) -> None:
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("print('begun')\n1 / 0")])
    nbformat.write(notebook, tmp_path / "broken.ipynb")
    command = [sys.executable, str(FOLDER / "run_demo.py"), str(tmp_path / "broken.ipynb")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "100"})
    assert done.returncode == 1
    assert "begun" in done.stdout and "Not right: a cell failed with ZeroDivisionError: division by zero" in done.stdout
