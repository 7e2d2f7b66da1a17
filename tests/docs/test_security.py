"""docs/security.md names a test for each threat, and these tests exist."""

from __future__ import annotations

import re

from tests.docs.test_docs_in_step import DOCS, ROOT, code_words, rows

THREATS = [f"T{number}" for number in range(1, 16)]


def threats() -> dict[str, list[str]]:
    """The tests that the page names, by threat."""
    page = (DOCS / "security.md").read_text()
    return {row[0]: code_words(row[-1]) for row in rows(page) if row[0] in THREATS}


def test_every_threat_names_a_test_that_attacks() -> None:
    found = threats()
    assert list(found) == THREATS
    assert all(found.values())


def test_the_tests_that_are_named_exist() -> None:
    for threat, names in threats().items():
        for name in names:
            file, _, test = name.partition("::")
            path = ROOT / file
            assert path.exists(), f"{threat}: {file}"
            assert re.search(rf"^(async )?def {test}\(", path.read_text(), re.MULTILINE), f"{threat}: {name}"
