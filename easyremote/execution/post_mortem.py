"""What a failed call left in its worker, looked at afterwards: in a debugger, or as texts of what its variables were.

A worker keeps the traceback of its last error, and so all that the frames held. That of a cell stays until the next error of its
session; that of a function until the worker takes another call.
"""

from __future__ import annotations

import reprlib
import sys
import types
from collections.abc import Callable
from typing import Any

from easyremote.errors import UsageError
from easyremote.execution.confidential import looks_secret
from easyremote.execution.failure import frames_of
from easyremote.execution.output import wire_text

MAX_VALUES = 30
"""Variables of one frame that are shown."""

MAX_CHARACTERS = 300
"""Of one of them."""

HIDDEN = "<hidden: it looks like a secret>"
_GONE = (
    "what this call left is kept no more: its process on the node runs, or has run, another call since, has failed again, or has "
    "ended. Run it again and look before anything else runs there"
)


def uses_gpu() -> bool:
    """Whether PyTorch has begun to use a GPU in this process."""
    torch = sys.modules.get("torch")
    return torch is not None and bool(torch.cuda.is_initialized())


class PostMortem:
    """The last error of this process."""

    def __init__(self) -> None:
        self._call_id = b""
        self._error: BaseException | None = None

    def keep(self, call_id: bytes, error: BaseException) -> None:
        self._call_id, self._error = call_id, error

    def drop(self) -> None:
        self._call_id, self._error = b"", None

    def work(self, call_id: str, what: str, refusal: Callable[[], str]) -> Callable[[], Any]:
        """What a call of this kind runs. Raises UsageError where nothing of that call is kept.

        `refusal`: why a question had no answer.
        """
        if self._error is None or self._call_id.hex() != call_id:
            raise UsageError(_GONE)
        error = self._error
        return (lambda: debug(error, refusal)) if what == "debug" else (lambda: values(error))


def debug(error: BaseException, refusal: Callable[[], str]) -> None:
    """Open a debugger where the error was raised."""
    from easyremote.execution.debugging import Debugger

    frames = frames_of(error.__traceback__)
    if not frames:
        raise UsageError("the error has no frame of yours to look at")
    Debugger(refusal).look_at(error)


def values(error: BaseException) -> list[dict[str, str]]:
    """Of each frame that is shown of the error: names and what they were."""
    return [_values_of(frame) for frame, _ in frames_of(error.__traceback__)]


def _values_of(frame: types.FrameType) -> dict[str, str]:
    names = frame.f_code.co_names if frame.f_code.co_name == "<module>" else frame.f_locals
    found = [(name, frame.f_locals[name]) for name in names if name in frame.f_locals and not name.startswith("__")]
    plain = [(name, value) for name, value in found if not isinstance(value, _NOT_SHOWN)]
    return {name: _text(name, value) for name, value in plain[:MAX_VALUES]}


_NOT_SHOWN = (types.ModuleType, types.FunctionType, types.BuiltinFunctionType, type)

_short = reprlib.Repr()
_short.maxstring = _short.maxother = MAX_CHARACTERS
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxfrozenset = _short.maxdict = 12
_short.maxlevel = 4


def _text(name: str, value: Any) -> str:
    try:
        if looks_secret(name, value):
            return HIDDEN
        text = _short.repr(value)
    except BaseException as error:
        return f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return wire_text(text, MAX_CHARACTERS)
