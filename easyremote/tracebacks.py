"""Tracebacks as a person should see them: the lines of their own code, without EasyRemote's frames in between.

Notebooks show these through `_render_traceback_`, which IPython asks an exception for.
"""

from __future__ import annotations

import linecache
import re
import sys
import traceback
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import zip_longest
from typing import Any, Protocol

from easyremote import foreign

_OUR_FOLDER = __file__.rpartition("tracebacks.py")[0]
_CELL = re.compile(r"<cell (\d+)>")
_CONTEXT = 2
_WIDTH = 75  # of the head, as IPython's

_RED, _GREEN, _CYAN, _BOLD, _OFF = "\x1b[31m", "\x1b[32m", "\x1b[36m", "\x1b[1m", "\x1b[0m"


class Frame(Protocol):
    """One frame of a traceback, remote or local."""

    @property
    def file(self) -> str: ...
    @property
    def line(self) -> int: ...
    @property
    def function(self) -> str: ...
    @property
    def source(self) -> str: ...


class _LocalFrame:
    def __init__(self, file: str, line: int, function: str) -> None:
        self.file = file
        self.line = line
        self.function = function
        self.source = linecache.getline(file, line).strip()


def is_internal(file: str) -> bool:
    """Whether a frame of this file says nothing to a user."""
    return file.startswith(_OUR_FOLDER) or "/IPython/core/" in file or file.endswith("/runpy.py")


def are_values_wanted() -> bool:
    """Whether this notebook shows tracebacks with values: `%xmode Verbose`, or `%tb Verbose` while it is shown."""
    get = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get() if get is not None else None
    return getattr(getattr(shell, "InteractiveTB", None), "mode", "") == "Verbose"


def render(
    type_name: str,
    message: str,
    frames: Iterable[Frame],
    where: str = "",
    values: Sequence[Mapping[str, str]] = (),
) -> list[str]:
    """Lines for IPython: a head, each frame with its lines around, and the message. `values`: of each frame, by name."""
    head = f"{_RED}{type_name}{_OFF}"
    told = zip_longest(frames, values, fillvalue=None)
    blocks = [_block(frame, known or {}) for frame, known in told if frame is not None and not is_internal(frame.file)]
    right = f"Traceback (most recent call last){where}"
    lines = [f"{head}{right:>{max(_WIDTH - len(type_name), len(right) + 2)}}"] if blocks else []
    for block in blocks:
        lines += block
    return [*lines, f"{head}: {message}" if message else head]


def render_local(error: BaseException, message: str) -> list[str]:
    """The same for an exception that was raised here, with the frames of the user's own code."""
    frames = [
        _LocalFrame(frame.f_code.co_filename, line, frame.f_code.co_name)
        for frame, line in traceback.walk_tb(error.__traceback__)
    ]
    return render(type(error).__name__, message, frames)


def _block(frame: Frame, values: Mapping[str, str]) -> list[str]:
    place = _place(frame.file)
    inside = f", in {_CYAN}{frame.function}{_OFF}" if frame.function != "<module>" else ""
    lines = [f"{place}, line {frame.line}{inside}"]
    for number, text in _around(frame):
        mark = f"{_GREEN}{'-' * (5 - len(str(number)))}> {number}{_OFF}" if number == frame.line else f"{number:>7}"
        lines.append(f"{mark} {_BOLD}{text}{_OFF}" if number == frame.line else f"{mark} {text}")
    lines += [f"        {_CYAN}{foreign.name(name)}{_OFF} = {foreign.name(text, 400)}" for name, text in values.items()]
    return ["\n".join(lines) + "\n"]


def _around(frame: Frame) -> Iterator[tuple[int, str]]:
    is_foreign = getattr(frame, "is_foreign", False)
    lines = linecache.getlines(frame.file) if not is_foreign or _is_cell(frame.file) else []
    if not lines or not 1 <= frame.line <= len(lines):
        if frame.source:
            yield frame.line, frame.source
        return
    for number in range(max(1, frame.line - _CONTEXT), min(len(lines), frame.line + _CONTEXT) + 1):
        text = lines[number - 1].rstrip()
        if text or number == frame.line:
            yield number, text


def _place(file: str) -> str:
    """`Cell In[3]` for a notebook's cell, else the file."""
    match = _CELL.fullmatch(file)
    if match:
        return f"Cell {_GREEN}In[{match[1]}]{_OFF}"
    number = _cell_number(file)
    return f"Cell {_GREEN}In[{number}]{_OFF}" if number is not None else f"File {_GREEN}{file}{_OFF}"


def _is_cell(file: str) -> bool:
    """Whether it is a cell of this notebook, whose lines are known here already."""
    return _CELL.fullmatch(file) is not None or _cell_number(file) is not None


def _cell_number(file: str) -> Any:
    """IPython's number of the cell that it compiled under this name."""
    get = getattr(sys.modules.get("IPython"), "get_ipython", None)
    shell = get() if get is not None else None
    return getattr(getattr(shell, "compile", None), "_filename_map", {}).get(file)
