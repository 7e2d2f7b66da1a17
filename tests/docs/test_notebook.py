"""The page of the notebook names a test for each complaint, and the tests exist."""

from __future__ import annotations

import re
from pathlib import Path

TESTS = Path(__file__).parents[1]
TEXT = (TESTS.parent / "docs" / "notebook.md").read_text()
ROWS = re.findall(r"^\| C(\d+) \| (.+) \| (.+) \|$", TEXT, flags=re.M)


def test_each_complaint_has_a_row() -> None:
    assert [int(number) for number, _, _ in ROWS] == list(range(1, 39))


def test_each_row_names_tests_that_exist_or_says_why_there_is_none() -> None:
    for number, _, shown in ROWS:
        named = re.findall(r"`([a-z_0-9]+/test_[a-z_0-9]+\.py)(?:::(test_[a-z_0-9]+))?`", shown)
        assert named or shown.startswith("Not shown:"), number
        for file, name in named:
            text = (TESTS / file).read_text()
            assert not name or re.search(rf"^(async )?def {name}\(", text, flags=re.M), f"C{number}: {file}::{name}"
