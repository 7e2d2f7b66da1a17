"""Values that a pickle names instead of having them in it.

Where arguments are pickled, whatever stands for a value elsewhere says so with `mention`; where they are unpickled, `resolve`
puts the value there, in any depth, from what `resolving` was given.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Mapping
from typing import Any

from easyremote.errors import UsageError

_MAX_TYPE = 200


class _Here(threading.local):
    """What this thread pickles or unpickles now."""

    mentioned: dict[bytes, Any] | None = None
    load: Any = None


_here = _Here()


class Handle:
    """What stands for a value elsewhere."""

    __slots__ = ()

    def mentioned(self) -> bytes:
        """Its id, after it has been mentioned. Raises UsageError where it is of no use."""
        raise NotImplementedError


@contextlib.contextmanager
def mentioning() -> Iterator[dict[bytes, Any]]:
    """Within this, this thread pickles arguments. Gives what they mention, by id."""
    before, _here.mentioned = _here.mentioned, {}
    try:
        yield _here.mentioned
    finally:
        _here.mentioned = before


def mention(ref_id: bytes, handle: Any) -> None:
    """It is one of the arguments that are pickled now. Raises UsageError outside of a call's arguments."""
    if _here.mentioned is None:
        raise UsageError(
            "a Ref is good in this process and travels only as an argument of a call, or inside of one: pass it as an argument, "
            "or ref.get() to have the value itself"
        )
    _here.mentioned[ref_id] = handle


@contextlib.contextmanager
def resolving(values: Mapping[bytes, Any], decode: Any) -> Iterator[None]:
    """Within this, this thread unpickles arguments that mention these values. `decode(values[ref_id])` gives one as an object,
    the same object wherever it is mentioned."""
    decoded: dict[bytes, Any] = {}

    def load(ref_id: bytes) -> Any:
        if ref_id not in decoded:
            decoded[ref_id] = decode(values[ref_id])
        return decoded[ref_id]

    before, _here.load = _here.load, load
    try:
        yield
    finally:
        _here.load = before


def resolve(ref_id: bytes) -> Any:
    """What unpickling calls."""
    if _here.load is None:
        raise UsageError(
            "these arguments name values that are with a gateway and its clients; they can't be loaded alone"
        )
    return _here.load(ref_id)


def type_text(value: Any) -> str:
    """What kind of value it is, for people: its type, and the shape of an array."""
    kind = type(value)
    name = (
        kind.__qualname__ if kind.__module__ in ("builtins", "__main__") else f"{kind.__module__}.{kind.__qualname__}"
    )
    try:
        shape = getattr(value, "shape", None)
        name += f" {tuple(int(length) for length in shape)}" if isinstance(shape, tuple) else ""
    except Exception:  # a property of somebody else's class
        pass
    return name[:_MAX_TYPE]
