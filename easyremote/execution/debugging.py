"""The debugger of remote code. It is Python's own pdb; what it asks is answered where the caller is."""

from __future__ import annotations

import bdb
import pdb
import re
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

from easyremote.execution.failure import skip_ours

_SKIPPED = ("easyremote.*", "IPython.*", "asyncio.*", "bdb", "pdb")
"""Modules that run a function or a cell."""

_CELL = re.compile(r"<cell \d+>")


class Debugger(pdb.Pdb):
    """Leaves SIGINT to the worker, whose calls are cancelled by it, and reads no file of the node's owner.

    Stepping goes from statement to statement of a cell, of which IPython runs each by itself, and ends where the function does.
    """

    def __init__(self, refusal: Callable[[], str]) -> None:
        """`refusal`: why the last question had no answer, which ends what is debugged."""
        self._refusal = refusal
        super().__init__(completekey="", skip=_SKIPPED, nosigint=True, readrc=False)
        self._outermost: FrameType | None = None
        self._has_stopped = False
        self._is_between = False  # statements of a cell

    def stop_at(self, frame: FrameType) -> None:
        """Go on in this frame step by step."""
        outer: FrameType | None = frame
        while outer is not None:
            if not self._is_ours(outer):
                self._outermost = outer
            elif self._outermost is not None:
                break
            outer = outer.f_back
        self.set_trace(frame)

    def look_at(self, error: BaseException) -> None:
        """Look at what an error left."""
        self._has_stopped = True
        self.reset()
        self.interaction(None, skip_ours(error.__traceback__))

    def _is_ours(self, frame: FrameType) -> bool:
        return self.is_skipped_module(str(frame.f_globals.get("__name__", "")))

    def get_stack(self, *args: Any, **kwargs: Any) -> tuple[list[tuple[FrameType, int]], int]:
        """Without the frames that run the function."""
        stack, index = super().get_stack(*args, **kwargs)
        names = [str(frame.f_globals.get("__name__", "")) for frame, _ in stack[: index + 1]]
        first = max((at + 1 for at, name in enumerate(names) if name.startswith("easyremote.")), default=0)
        while first < index and self._is_ours(stack[first][0]):
            first += 1
        first = min(first, index)
        return stack[first:], index - first

    def stop_here(self, frame: FrameType) -> bool:
        self._is_between = self._is_between and not _is_cell(frame)
        return not self._is_between and bool(super().stop_here(frame))

    def do_EOF(self, arg: str) -> None:
        """Nobody answers."""
        end_tracing()
        raise EOFError(self._refusal())

    def interaction(self, *args: Any, **kwargs: Any) -> None:
        self._has_stopped = True
        super().interaction(*args, **kwargs)

    def user_call(self, frame: FrameType, argument_list: Any) -> None:
        if not _is_statement(frame):
            super().user_call(frame, argument_list)

    def user_return(self, frame: FrameType, return_value: Any) -> None:
        is_statement = _is_statement(frame)
        if not is_statement:
            super().user_return(frame, return_value)
        elif not self._has_stopped:  # breakpoint() was the whole of it
            self.interaction(frame, None)
        self._is_between = is_statement
        if frame is self._outermost and not is_statement and not self.quitting:
            self.set_continue()


def _is_cell(frame: FrameType) -> bool:
    return _CELL.fullmatch(frame.f_code.co_filename) is not None


def _is_statement(frame: FrameType) -> bool:
    return _is_cell(frame) and frame.f_code.co_name == "<module>"


def end_tracing() -> None:
    """A debugger that was left in the midst of a call isn't to stop in the next one."""
    if isinstance(getattr(sys.gettrace(), "__self__", None), bdb.Bdb):
        sys.settrace(None)
