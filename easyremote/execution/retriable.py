"""Which exceptions a call wants to be run again after, decided where the exception is and its class is loaded."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from typing import Any


def is_named(cls: type[BaseException], names: Iterable[str]) -> bool:
    """Whether the class, or one that it derives from, is one of these.

    A name is "module.Class", by the module that defines it or by any loaded one where it can be had; without a module it is
    a builtin, one of EasyRemote's, or one of the notebook or script that runs.
    """
    return any(_is(cls, name) for name in names)


def name_of(cls: type[BaseException]) -> str:
    """The name by which `is_named` finds it."""
    return f"{cls.__module__}.{_qualname(cls)}"


def _qualname(cls: type[BaseException]) -> str:
    """Without the function in which it was defined, which a class that was shipped has lost."""
    return cls.__qualname__.rpartition("<locals>.")[2]


def _is(cls: type[BaseException], name: str) -> bool:
    for base in cls.__mro__:
        if name == name_of(base):
            return True
        if name == _qualname(base) and base.__module__.partition(".")[0] in ("builtins", "__main__", "easyremote"):
            return True
    found = _loaded(name)
    return isinstance(found, type) and issubclass(cls, found)


def _loaded(name: str) -> Any:
    """What is found under this name, with nothing imported for it: e.g. an alias, as torch.cuda.OutOfMemoryError is one."""
    parts = name.split(".")
    for split in range(len(parts) - 1, 0, -1):
        found: Any = sys.modules.get(".".join(parts[:split]))
        if found is None:
            continue
        try:
            for part in parts[split:]:
                found = getattr(found, part)
        except Exception:  # a module may run code of its own to find it
            return None
        return found
    return None
