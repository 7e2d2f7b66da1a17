"""Progress of a running call, as the caller sees it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TypeVar

T = TypeVar("T")


def progress(done: float, total: float = 0.0, text: str = "") -> None:
    """Tell the caller of the running call how far it is: `done` of `total` (0: unknown), with a word about it.

    Does nothing in a function that isn't called through EasyRemote, so the same function runs locally.
    """
    from easyremote.execution.context import current

    emitter = current.get()
    if emitter is not None:
        emitter.progress(float(done), float(total), text)


def track(items: Iterable[T], text: str = "", total: int | None = None) -> Iterator[T]:
    """Yield the items and tell the caller how many are done. `total` is taken from `len(items)` where that works."""
    if total is None:
        total = len(items) if hasattr(items, "__len__") else 0  # type: ignore[arg-type]
    progress(0, total, text)
    for index, item in enumerate(items):
        yield item
        progress(index + 1, total, text)
