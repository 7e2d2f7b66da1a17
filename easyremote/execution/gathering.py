"""When calls that run together have waited long enough for each other. Runs on the loop."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from time import monotonic
from typing import Generic, TypeVar

T = TypeVar("T")

LOOKS_BACK = 8
"""Batches that tell how many calls may be expected."""

_EARLY_S = 0.0005
"""A timer may ring so much too early."""


class Gatherer(Generic[T]):
    """Calls of one function, of which one batch runs at a time while the next one fills.

    A batch leaves when it is full, when its first call has waited for `wait_s`, or when as many calls are there as usually were
    under way at once, waiting or running (the median of the last `LOOKS_BACK` batches): more aren't to be expected then. So
    whoever makes one call after the other soon stops paying for the wait.
    """

    def __init__(
        self,
        size: int,
        wait_s: float,
        start: Callable[[list[T]], None],
        is_open: Callable[[T], bool] = lambda call: True,
    ) -> None:
        """`start` begins the run of a batch; whoever it tells says `ended`. `is_open`: whether a call has no result yet; that may
        come before the run's own end.
        """
        self._size = size
        self._wait_s = wait_s
        self._start = start
        self._is_open = is_open
        self._loop = asyncio.get_running_loop()
        self._waiting: deque[tuple[float, T]] = deque()
        self._alone: deque[T] = deque()
        self._running: list[T] = []
        self._most = 0  # under way at once since the last batch left
        self._most_lately: deque[int] = deque([size] * LOOKS_BACK, maxlen=LOOKS_BACK)
        self._expected = size
        self._timer: asyncio.TimerHandle | None = None
        self._looks_soon = False

    @property
    def is_idle(self) -> bool:
        return not self._running and not self._waiting and not self._alone

    def add(self, call: T) -> None:
        """It waits for others. Those that come at the same moment are taken together."""
        self._waiting.append((monotonic(), call))
        is_at_work = bool(self._running) and self._is_open(
            self._running[-1]
        )  # results come in order, mostly all at once
        self._most = max(self._most, len(self._waiting) + (len(self._running) if is_at_work else 0))
        self._look_soon()

    def add_alone(self, call: T) -> None:
        """It gets a run of its own, before those that wait."""
        self._alone.append(call)
        self._look_soon()

    def remove(self, call: T) -> bool:
        """It isn't wanted any more. False when it doesn't wait."""
        for waiting in self._waiting:
            if waiting[1] is call:
                self._waiting.remove(waiting)
                return True
        if call in self._alone:
            self._alone.remove(call)
            return True
        return False

    def ended(self) -> None:
        """The run that was begun has ended."""
        self._running = []
        self._look_soon()

    def close(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def _look_soon(self) -> None:
        if not self._looks_soon and not self._running:
            self._looks_soon = True
            self._loop.call_soon(self._look)

    def _look(self) -> None:
        self._looks_soon = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._running:
            return
        if self._alone:
            self._begin([self._alone.popleft()])
        elif self._waiting:
            left_s = self._waiting[0][0] + self._wait_s - monotonic()
            if len(self._waiting) >= self._expected or left_s <= _EARLY_S:
                self._leave()
            else:
                self._timer = self._loop.call_later(left_s, self._look)

    def _leave(self) -> None:
        calls = [self._waiting.popleft()[1] for _ in range(min(self._size, len(self._waiting)))]
        self._most_lately.append(self._most)
        self._expected = min(self._size, sorted(self._most_lately)[LOOKS_BACK // 2])
        self._most = len(calls) + len(self._waiting)
        self._begin(calls)

    def _begin(self, calls: list[T]) -> None:
        self._running = calls
        self._start(calls)
