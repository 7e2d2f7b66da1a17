"""Tests of other modules once more, with EASYREMOTE_SEAL=1: what is true of calls is true of sealed ones."""

from __future__ import annotations

import re
from collections.abc import Iterator
from types import ModuleType
from typing import Any

import pytest

from easyremote import connection

OTHERWISE = {
    # Values are kept sealed, and opened for each call.
    "test_all_workers_of_a_node_map_one_file",
    # What the gateway tells of jobs hasn't got what is sealed.
    "test_an_error_is_kept_and_raised_again",
    "test_progress_is_shown_in_the_list",
    "test_a_cancelled_job_stops_and_keeps_what_it_brought",
    # A job goes only to nodes that its client knew.
    "test_a_job_waits_for_a_node_that_comes_later",
}


@pytest.fixture(autouse=True)
def sealing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Every connection of this process, and every process that a test starts, seals."""
    monkeypatch.setenv("EASYREMOTE_SEAL", "1")
    yield
    assert all(found.sealing is not None for found in connection.open_connections)


def take(module: ModuleType, into: dict[str, Any], only: str = "") -> None:
    """The tests of another module whose names have `only` in them, and the fixtures that they use."""
    for name, value in vars(module).items():
        is_test = name.startswith("test_") and callable(value)
        if (is_test and name not in OTHERWISE and re.search(only, name)) or type(
            value
        ).__name__ == "FixtureFunctionDefinition":
            into[name] = value
