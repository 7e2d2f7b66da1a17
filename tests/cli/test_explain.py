"""`easyremote explain`, as a person and as a program uses it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from tests.cli.conftest import Program

Run = Callable[..., Any]


def test_where_a_function_could_run(run: Run, node: Program, gateway: dict[str, Any]) -> None:
    done = run("explain", "add", "-g", gateway["address"])
    assert done.returncode == 0
    assert "'add' would run now, on" in done.stdout
    assert "runs now" in done.stdout


def test_an_unknown_function_and_options(run: Run, node: Program, gateway: dict[str, Any]) -> None:
    done = run("explain", "ad", "node=nowhere", "-g", gateway["address"], "--json")
    assert done.returncode == 0
    found = json.loads(done.stdout)
    assert found["verdict"] == "can't"
    assert found["nodes"][0] == {
        "node_id": "nowhere",
        "verdict": "can't",
        "reason": "it isn't connected",
        "remedy": "start it, or name another node",
        "expected_s": None,
    }


def test_options_that_are_none(run: Run, gateway: dict[str, Any]) -> None:
    done = run("explain", "add", "fast", "-g", gateway["address"])
    assert done.returncode == 2
    assert "an option is key=value, not 'fast'" in done.stderr
    done = run("explain", "add", "speed=3", "-g", gateway["address"])
    assert done.returncode == 2
    assert "unknown option 'speed'" in done.stderr
