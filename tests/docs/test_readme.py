"""The code in the READMEs and in CONTRIBUTING runs, and prints what they say."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from itertools import pairwise
from pathlib import Path

import pytest

from tests.notebook.conftest import Kernel

ROOT = Path(__file__).parents[2]
READMES = ["README.md", "README.zh-CN.md"]
_BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(name: str) -> list[tuple[str, str]]:
    """Language and content of each fenced block."""
    return _BLOCK.findall((ROOT / name).read_text())


def scripts(name: str) -> list[tuple[str, str]]:
    """Each Python block with what the text block that follows it says that it prints."""
    return [(code, after[1]) for (kind, code), after in pairwise(blocks(name)) if kind == "python"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "number"),
    [(name, number) for name in ("README.md", "CONTRIBUTING.md") for number in range(len(scripts(name)))],
)
def test_a_script_prints_what_the_text_below_it_says(name: str, number: int, tmp_path: Path) -> None:
    code, output = scripts(name)[number]
    (tmp_path / "script.py").write_text(code)
    command = [sys.executable, "-W", "error", "script.py"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr, done.returncode) == (output, "", 0)


@pytest.mark.notebook
@pytest.mark.slow
def test_the_cells_run_in_a_notebook() -> None:
    kernel = Kernel()
    try:
        cells = [code for kind, code in blocks("README.md") if kind == "ipython"]
        results = [kernel.ok(code) for code in cells]
        assert results[1].result == "{'rate': 0.5, 'loss': 2.0}" and results[1].text == "training with 0.5\n"
        assert results[2].result.startswith("'3.")
        kernel.ok("%easyremote stop")
    finally:
        kernel.close()


def test_both_languages_have_the_same_code() -> None:
    def without_comments(name: str) -> list[tuple[str, str]]:
        return [(kind, re.sub(r" *# .*", "", code)) for kind, code in blocks(name) if kind != "text"]

    assert without_comments("README.md") == without_comments("README.zh-CN.md")
    assert [output for _, output in scripts("README.md")] == [output for _, output in scripts("README.zh-CN.md")]


def test_commands_exist() -> None:
    """The sub-commands and options of `easyremote` that a bash block shows."""
    for kind, code in blocks("README.md"):
        for line in code.splitlines() if kind == "bash" else []:
            if line.startswith("easyremote "):
                words = line.partition("#")[0].split()
                usage = [sys.executable, "-c", "from easyremote.cli.main import main; main()", words[1], "--help"]
                done = subprocess.run(
                    usage, capture_output=True, text=True, timeout=60, env={**os.environ, "COLUMNS": "200"}
                )
                assert done.returncode == 0, line
                for option in re.findall(r"--[a-z-]+", " ".join(words)):
                    assert option in done.stdout, (line, option)


@pytest.mark.parametrize(
    "name", [*READMES, "CONTRIBUTING.md", *(str(p.relative_to(ROOT)) for p in ROOT.glob("docs/*.md"))]
)
def test_links_lead_somewhere(name: str) -> None:
    text = re.sub(r"^```.*?^```$", "", (ROOT / name).read_text(), flags=re.MULTILINE | re.DOTALL)
    for target in re.findall(r"\]\(([^)#\s]+)[^)]*\)", text):
        if "://" not in target:
            assert (ROOT / name).parent.joinpath(target).exists(), target
