"""Every fault of docs/faults.md is shown by tests that exist."""

from __future__ import annotations

import re

import pytest

from tests.chaos.__main__ import PROMISES
from tests.docs.test_docs_in_step import DOCS, ROOT, code_words, rows

FAULTS = {int(row[0]): row for row in rows((DOCS / "faults.md").read_text())}


def test_no_fault_is_left_out() -> None:
    assert list(FAULTS) == [*range(1, 51), *range(56, 60)]  # those between are about who may be a peer


@pytest.mark.parametrize("number", FAULTS)
def test_a_fault_is_shown_by_tests_that_exist(number: int) -> None:
    shown_by = code_words(FAULTS[number][3])
    assert shown_by
    for name in shown_by:
        if name.startswith("chaos "):
            assert name.removeprefix("chaos ") in {promise.key for promise in PROMISES.values()}
        else:
            path, _, test = name.partition("::")
            assert re.search(rf"^def {test}\(", (ROOT / "tests" / path).read_text(), re.MULTILINE), name


def test_what_the_page_of_promises_lists_is_tried() -> None:
    text = (DOCS / "reliability.md").read_text()
    listed = set(re.findall(r"^- \*\*(R\d+) ", text, re.MULTILINE))
    assert {promise.key for promise in PROMISES.values()} == listed
