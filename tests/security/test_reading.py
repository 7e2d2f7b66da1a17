"""What a person is shown of code is what would run, whatever else comes beside it; and nothing of it runs to show it."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cloudpickle
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyremote.execution.functions import remember_source, ship
from easyremote.execution.reading import read_arguments, read_cell, read_function
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb

FILE = "<ipython-input-7-of-a-notebook>"
SOURCE = '''\
import os
OFFSET = 3

def helper(x):
    return x + OFFSET

def train(a, b=2):
    """Trains."""
    def inner(y):
        return helper(y) + b
    return [inner(i) for i in range(a)]

async def wait(n):
    return n
'''


class Runs:
    """Whoever unpickles it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = str(folder)

    def __reduce__(self) -> Any:
        return os.mkdir, (self.folder,)


@pytest.fixture
def functions() -> dict[str, Any]:
    """Of a notebook's cell."""
    remember_source(FILE, SOURCE)
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(SOURCE, FILE, "exec"), namespace)
    return namespace


def shipped(function: Callable[..., Any]) -> codec.Encoded:
    return ship(function, pb.Code.KIND_CALLABLE, pb.FunctionSpec(name="f"))[1]


def test_source_that_compiles_to_what_runs_is_shown(functions: dict[str, Any]) -> None:
    reading = read_function(shipped(functions["train"]))
    assert "# train: this source compiles to exactly the bytecode that runs\ndef train(a, b=2):" in reading.text
    assert "# helper: this source compiles to exactly the bytecode that runs\ndef helper(x):" in reading.text
    assert "return helper(y) + b" in reading.text
    assert "no source" not in reading.text
    assert reading.notes == []
    assert "this source compiles" in read_function(shipped(functions["wait"])).text


def test_source_that_lies_is_not_shown(functions: dict[str, Any]) -> None:
    for was, claimed in (("x + OFFSET", "x * OFFSET"), ("x + OFFSET", "x + 1"), ("def helper(x)", "def helper(x=1)")):
        function = functions["helper"]
        lie = codec.encode(({FILE: SOURCE.replace(was, claimed)}, function), "f")
        reading = read_function(lie)
        if "=1" in claimed:  # defaults aren't of the code: it is the same code
            continue
        assert "no source gives this bytecode" in reading.text
        assert "BINARY_OP" in reading.text
        assert claimed not in reading.text


def test_bytecode_without_source_is_shown_as_it_is() -> None:
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(compile("def f(x):\n    return open(x).read()", "<nowhere>", "exec"), namespace)
    reading = read_function(shipped(namespace["f"]))
    assert "no source gives this bytecode" in reading.text
    assert "open" in reading.text


def test_what_loading_a_function_would_call_is_told_and_not_done(functions: dict[str, Any], tmp_path: Path) -> None:
    functions["helper"].__globals__["OFFSET"] = Runs(tmp_path / "made")
    reading = read_function(shipped(functions["helper"]))
    assert any("mkdir" in note for note in reading.notes)
    assert not (tmp_path / "made").exists()


def test_a_function_that_is_called_while_it_is_loaded_is_told(functions: dict[str, Any]) -> None:
    class Calls:
        def __reduce__(self) -> Any:
            return functions["helper"], (1,)

    reading = read_function(codec.encode(({FILE: SOURCE}, Calls()), "f"))
    assert "it runs code of its own already while it is loaded" in reading.notes
    assert "def helper(x)" in reading.text


class Written:
    """Pickled as the call of this with these."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.call = function, args

    def __reduce__(self) -> Any:
        return self.call


def code_with(text: type[Any], function: Callable[..., Any]) -> Written:
    """A function whose code names its Python as `text` is pickled."""
    _, (python, *parts) = codec._reduce_code(function.__code__)
    code = Written(codec.code_made_by, text(str, python) if text is Written else python, *parts)
    return Written(cloudpickle.cloudpickle._make_function, code, {}, "f", None, None)


def test_bytecode_whose_parts_are_made_while_it_is_loaded_is_not_passed_over(functions: dict[str, Any]) -> None:
    openly, hidden = (codec.encode(({}, code_with(text, functions["helper"]))) for text in (str, Written))
    assert "don't run it" not in str(read_function(openly).notes) and "helper" in read_function(openly).text
    assert pickle.loads(hidden.parts[0])[1].__code__ == functions["helper"].__code__, "it would run"
    assert read_function(hidden).notes[0] == "it brings bytecode that can't be shown; don't run it"


def test_arguments_that_bring_code_are_more_than_data_and_are_shown(functions: dict[str, Any], tmp_path: Path) -> None:
    def makes(path: str) -> None:
        os.mkdir(path)

    makes.__module__ = "__main__"
    folder = str(tmp_path / "made")
    for argument in (makes, Written(makes, folder), Written(cloudpickle.cloudpickle.subimport, "this")):
        found = read_arguments(codec.encode(((argument,), {})))
        assert not found.is_data and "functions, classes or modules" in found.notes[0]
    called = read_arguments(codec.encode(((Written(makes, folder),), {})))
    assert "it runs code of its own already while it is loaded" in called.notes and "mkdir" in called.text
    assert not os.path.exists(folder)


def test_modules_that_it_imports_are_told(functions: dict[str, Any]) -> None:
    namespace: dict[str, Any] = {"__name__": "__main__", "os": os}
    exec(compile("def f():\n    return os.getcwd()", "<nowhere>", "exec"), namespace)
    assert "it imports os" in read_function(shipped(namespace["f"])).notes


def test_a_function_of_an_installed_module_is_named() -> None:
    reading = read_function(shipped(os.getcwd))
    assert any("brings no bytecode" in note for note in reading.notes)
    assert any("getcwd" in note for note in reading.notes)


def test_a_cell_is_its_source() -> None:
    assert read_cell(codec.encode(("print(1)", "cell.py", ["a"]), "cell")).text == "print(1)"


@pytest.mark.parametrize("content", [1, (), (1, 2), ["x"], {"a": 1}])
def test_what_is_no_cell_is_not_shown_as_one(content: Any) -> None:
    reading = read_cell(codec.encode(content, "cell"))
    assert reading.text == ""
    assert "don't run it" in reading.notes[0]


def test_a_cell_that_builds_more_than_text_is_not_shown_as_one(tmp_path: Path) -> None:
    reading = read_cell(codec.encode(("print(1)", "cell.py", [Runs(tmp_path / "made")]), "cell"))
    assert "don't run it" in reading.notes[0]
    assert not (tmp_path / "made").exists()


def test_plain_arguments_and_arrays_are_data() -> None:
    values = (1, "x", b"y", None, 1.5, [1], {"a": {1}}, 1j, np.zeros(3), np.float64(2), np.arange(4)[::2])
    assert read_arguments(codec.encode((values, {"k": 1}), "arguments")).is_data
    assert read_arguments(codec.encode(((np.zeros(10**5),), {}), "arguments")).is_data


def test_arguments_that_would_run_something_are_told(tmp_path: Path) -> None:
    for value in (Runs(tmp_path / "made"), [{"a": Runs(tmp_path / "made")}], np.array([Runs(tmp_path / "made")])):
        reading = read_arguments(codec.encode(((value,), {}), "arguments"))
        assert not reading.is_data
        assert "mkdir" in reading.notes[0]
    assert not (tmp_path / "made").exists()


@given(st.binary(max_size=200))
def test_any_bytes_are_read_without_harm(data: bytes) -> None:
    encoded = codec.Encoded(codec.PICKLE, [data])
    for read in (read_arguments, read_cell, read_function):
        read(encoded)


@given(st.binary(max_size=30), st.integers(0, 400))
def test_a_changed_pickle_is_read_without_harm(more: bytes, at: int) -> None:
    data = pickle.dumps(({"a": "x = 1"}, os.getcwd, [1, 2, {3: 4}]), protocol=5)
    read_function(codec.Encoded(codec.PICKLE, [data[:at] + more + data[at:]]))
