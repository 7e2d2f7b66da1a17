"""Progress of a running call, as the caller sees it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from typing import TypeAlias, TypeVar

T = TypeVar("T")

Show: TypeAlias = Callable[[float, float, str], None]
"""Takes `done`, `total` and a text."""

STEPS = 200
QUIET_S = 0.05
"""`track` reports when another `STEPS`th part is done or this much time has passed: a fast loop isn't slowed by its bar."""

bar_here: Callable[[], Show] | None = None
"""Makes a bar of the program that runs here, for `track` outside of any call. Set by a notebook."""


def progress(done: float, total: float = 0.0, text: str = "") -> None:
    """Tell the caller of the running call how far it is: `done` of `total` (0: unknown), with a word about it.

    Does nothing in a function that isn't called through EasyRemote, so the same function runs locally.
    """
    from easyremote.execution.context import running

    emitter = running()
    if emitter is not None:
        emitter.bars.own(float(done), float(total), text)


def track(items: Iterable[T], text: str = "", total: int | None = None) -> Iterator[T]:
    """Yield the items and tell the caller how many are done. `total` is taken from `len(items)` where that works.

    In a notebook, outside of any call, the bar appears in the cell that runs; elsewhere nothing is shown.
    """
    if total is None:
        total = len(items) if hasattr(items, "__len__") else 0  # type: ignore[arg-type]
    show = _shower()
    show(0, total, text)
    shown, shown_at, done = 0, time.monotonic(), 0
    for item in items:
        yield item
        done += 1
        now = time.monotonic()
        if done == total or (total and (done - shown) * STEPS >= total) or now - shown_at >= QUIET_S:
            show(done, total, text)
            shown, shown_at = done, now
    if done != shown:
        show(done, total, text)


def _shower() -> Show:
    from easyremote.execution.context import running

    return bar_here() if bar_here is not None and running() is None else progress
