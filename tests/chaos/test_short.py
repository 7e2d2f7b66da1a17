"""A short run of the trials. What is only late counts in the long run alone: this machine may have other work to do."""

from __future__ import annotations

import pytest

from tests.chaos.__main__ import run
from tests.chaos.promises import PROMISES, NotHere

LONG = ("R9 bounded", "R9 others beside a flood", "R10 control beside data", "R13 no leak", "R6 silence noticed")
"""These need more than some seconds."""


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in PROMISES if name not in LONG])
def test_a_promise_is_kept(name: str) -> None:
    try:
        outcome = run(PROMISES[name], 2.0, seed=1, say=False)
    except NotHere as reason:
        pytest.skip(str(reason))
    assert outcome.trials
    assert outcome.violations == []
