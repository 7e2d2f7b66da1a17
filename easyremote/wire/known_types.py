"""Classes of which plain data may make objects here: those that this process's owner has named, in code or in an annotation."""

from __future__ import annotations

import dataclasses
import enum
import typing
from collections.abc import Iterator
from typing import Any, TypeVar

from easyremote.errors import PayloadError, UsageError

T = TypeVar("T", bound=type)

MAX_NAMED = 1000
"""Classes that are found in the annotations of one function, and in those of their fields."""

_registered: dict[str, type] = {}

__all__ = ["register_type"]


def register_type(cls: T) -> T:
    """Let plain data make objects of this dataclass, NamedTuple or Enum in this process. Returns it, so it is a decorator too.

    Wanted where a client sends or takes plain data (it may call and not ship code, or doesn't trust the node) and no annotation
    of the called function names the class. An object is made by calling the class with the values of its fields, so `__init__`
    and `__post_init__` run, which are this process's own; nothing of the sender's does.

    Raises UsageError for any other class.
    """
    if not is_record(cls):
        raise UsageError(
            f"{cls!r} can't be made of plain data: only dataclasses, NamedTuples and Enums can. Send its parts, and put them "
            "together where they are used"
        )
    _registered[name_of(cls)] = cls
    return cls


def is_record(cls: Any) -> bool:
    """Whether plain data can carry its objects, where the receiver knows it."""
    if not isinstance(cls, type):
        return False
    return dataclasses.is_dataclass(cls) or issubclass(cls, enum.Enum) or is_named_tuple(cls)


def is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and isinstance(getattr(cls, "_fields", None), tuple)


def name_of(cls: type) -> str:
    return f"{cls.__module__}.{cls.__qualname__}"


class KnownTypes:
    """What is registered, and what the annotations of `function` name. Nothing is looked up before it is needed."""

    def __init__(self, function: Any = None) -> None:
        self._function = function
        self._named: dict[str, type] | None = None

    def find(self, name: str) -> type:
        """The class of this full name; where there is none, the only one that is called so in another module, since what is
        `__main__` here has a module there. Raises PayloadError for any other."""
        if self._named is None:
            self._named = {} if self._function is None else _named_by(self._function)
        known = self._named | _registered
        if name in known:
            return known[name]
        _, _, called = name.rpartition(".")
        alike = {cls for cls in known.values() if cls.__qualname__.rpartition(".")[2] == called}
        if len(alike) == 1:
            return alike.pop()
        which = f"{len(alike)} classes of that name are known here" if alike else "it isn't known here"
        raise PayloadError(
            f"an object of the class '{name[:200]}' came as plain data, and {which}: annotate the function's parameter with the "
            "class, or call easyremote.register_type(cls), where the object is received"
        )


def _named_by(function: Any) -> dict[str, type]:
    """Records that the function's annotations name, and those that theirs do."""
    found: dict[str, type] = {}
    waiting = list(_classes_in(function))
    while waiting and len(found) < MAX_NAMED:
        cls = waiting.pop()
        if is_record(cls) and name_of(cls) not in found:
            found[name_of(cls)] = cls
            waiting += _classes_in(cls)
    return found


def _classes_in(annotated: Any) -> Iterator[type]:
    try:
        hints = typing.get_type_hints(annotated)
    except Exception:  # an annotation that names nothing; those of the signature may still be classes
        hints = getattr(annotated, "__annotations__", {})
    for hint in hints.values():
        yield from _classes_of(hint, 8)


def _classes_of(hint: Any, depth: int) -> Iterator[type]:
    """`list[Order] | None` names Order."""
    if isinstance(hint, type) and not typing.get_args(hint):
        yield hint
    elif depth:
        for part in typing.get_args(hint):
            yield from _classes_of(part, depth - 1)
