"""Ctrl-C, or a notebook's stop button, while somebody waits for calls: the first stops them, another one soon after kills what
of them still runs."""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Generator
from time import monotonic
from typing import Any, TypeVar

G = TypeVar("G", bound=Generator[Any, Any, Any])

SECOND_WITHIN_S = 5.0
"""An interrupt that comes later than this has nothing to do with the one before: what it stopped has ended by then."""

MAX_REMEMBERED = 1000
"""Calls that were stopped a moment ago; of more, the oldest aren't killed."""

on_first: Callable[[], None] | None = None
"""Set by a notebook, which hears of a second interrupt when no code runs any more."""

_stopping: list[tuple[float, Callable[[], None]]] = []


def stopped(kill: Callable[[], None]) -> None:
    """A call was told to stop; `kill()` ends it at once, or does nothing where it has ended."""
    now = monotonic()
    _stopping[:] = [item for item in _stopping if now - item[0] < SECOND_WITHIN_S][-MAX_REMEMBERED + 1 :]
    _stopping.append((now, kill))
    if on_first is not None:
        on_first()


def again() -> None:
    """There is another interrupt: kill what was told to stop a moment ago."""
    now = monotonic()
    was_stopped, _stopping[:] = list(_stopping), []
    for at, kill in was_stopped:
        if now - at < SECOND_WITHIN_S:
            kill()


class Loops:
    """Iterators over calls that the main thread's cell has begun. None of this keeps one alive."""

    def __init__(self) -> None:
        self._begun: weakref.WeakSet[Generator[Any, Any, Any]] = weakref.WeakSet()

    def began(self, iterator: G) -> G:
        if on_first is not None and threading.current_thread() is threading.main_thread():
            self._begun.add(iterator)
        return iterator

    def forget(self) -> None:
        """Those that are open are somebody's own from now on."""
        self._begun.clear()

    def close(self) -> None:
        """Nobody is to go on with them: their calls are stopped."""
        for iterator in list(self._begun):
            with contextlib.suppress(ValueError):  # another thread took it over, and is in it
                iterator.close()
        self._begun.clear()


loops = Loops()
