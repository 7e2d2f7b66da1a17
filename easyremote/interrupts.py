"""Ctrl-C, or a notebook's stop button, while somebody waits for calls: the first stops them, another one soon after kills what
of them still runs."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic

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
