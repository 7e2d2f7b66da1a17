from __future__ import annotations

import dataclasses
import json
from typing import Any

import numpy as np
import pytest

from easyremote.cli.values import read_arguments, read_labels, read_offered, to_json
from easyremote.errors import UsageError
from easyremote.model import GatewayInfo


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("3", 3),
        (" -2", -2),
        ("1e3", 1000.0),
        ("true", True),
        ("null", None),
        ("[1, 2]", [1, 2]),
        ('{"a": {"b": 1}}', {"a": {"b": 1}}),
        ('"3"', "3"),
        ("three", "three"),
        ("", ""),
        ("True", "True"),
        ("NaN", "NaN"),
        ("-Infinity", "-Infinity"),
        ("{oops", "{oops"),
        ("/data/x.csv", "/data/x.csv"),
        ("[" * 100_000, "[" * 100_000),
        ("9" * 5000, "9" * 5000),
    ],
)
def test_an_argument_is_json_where_it_can_be(text: str, value: Any) -> None:
    assert read_arguments([text]) == ([value], {})


@pytest.mark.parametrize(
    ("text", "kwargs"),
    [
        ("epochs=3", {"epochs": 3}),
        ("name=resnet", {"name": "resnet"}),
        ("name=", {"name": ""}),
        ("rule=a=b", {"rule": "a=b"}),
        ("text=two\nlines", {"text": "two\nlines"}),
    ],
)
def test_key_equals_value_is_a_keyword_argument(text: str, kwargs: dict[str, Any]) -> None:
    assert read_arguments([text]) == ([], kwargs)


@pytest.mark.parametrize("text", ["1=2", "a b=c", "a.b=c", '"a=b"', "-x=1", "=1"])
def test_what_is_no_name_before_an_equals_sign_is_positional(text: str) -> None:
    assert read_arguments([text])[1] == {}


def test_a_keyword_that_comes_twice_is_refused() -> None:
    with pytest.raises(UsageError, match="'a' is given twice"):
        read_arguments(["a=1", "a=2"])


def test_labels() -> None:
    assert read_labels(["zone=lab", "rule=a=b", "empty="]) == {"zone": "lab", "rule": "a=b", "empty": ""}


@pytest.mark.parametrize("text", ["zone", "=lab", ""])
def test_a_label_without_key_or_equals_sign_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match="key=value"):
        read_labels([text])


@dataclasses.dataclass
class Point:
    x: int
    tags: set[str]


@pytest.mark.parametrize(
    ("value", "read_back"),
    [
        (None, None),
        ("größe", "größe"),
        ((1, [2.5, True]), [1, [2.5, True]]),
        ({1: "a", None: "b", False: "c", (1, 2): "d"}, {"1": "a", "null": "b", "false": "c", "(1, 2)": "d"}),
        (float("nan"), None),
        (float("inf"), None),
        (b"\x00\xff", "AP8="),
        ({"only"}, ["only"]),
        (Point(1, {"a"}), {"x": 1, "tags": ["a"]}),
        (np.arange(3), [0, 1, 2]),
        (np.float32(0.5), 0.5),
        (np.array([1.0, float("nan")]), [1.0, None]),
        (
            GatewayInfo("a:1", "3", 1.0, 0, 0, 0),
            {"address": "a:1", "version": "3", "uptime_s": 1.0, "clients": 0, "queued": 0, "running": 0},
        ),
        (1 + 2j, "(1+2j)"),
        (Point, str(Point)),
    ],
)
def test_every_value_has_a_form_in_json(value: Any, read_back: Any) -> None:
    text = to_json(value)
    assert "\n" not in text
    assert json.loads(text, parse_constant=pytest.fail) == read_back


def test_a_value_that_contains_itself_ends() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    assert json.loads(to_json(loop)) == [1, "[1, [...]]"]


def test_only_what_was_said_is_offered() -> None:
    assert read_offered(None, None, None, None, None) == {}
    said = read_offered(2, None, "1,", None, "8GiB")
    assert said == {"cpus": 2, "gpus": [1], "value_memory": "8GiB"}
