"""Virtual time: a heap of things to do, and the processes that do them."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Protocol

Work = Callable[[], None]


class Timer:
    """Something that will be done, unless it is cancelled."""

    __slots__ = ("process", "work")

    def __init__(self, process: Process | None, work: Work) -> None:
        self.process = process
        self.work: Work | None = work

    def cancel(self) -> None:
        self.work = None


class Schedule:
    """What comes when. Things of the same moment are done in the order in which they were planned."""

    def __init__(self) -> None:
        self.now = 0.0
        self._heap: list[tuple[float, int, Timer]] = []
        self._planned = 0

    def at(self, when: float, process: Process | None, work: Work) -> Timer:
        timer = Timer(process, work)
        self._push(when, timer)
        return timer

    def run_next(self) -> None:
        """Go to the next thing and do it. What belongs to a dead process is left out, to a frozen one put off."""
        when, _, timer = heapq.heappop(self._heap)
        self.now = max(self.now, when)
        process = timer.process
        if timer.work is None or (process is not None and not process.is_alive):
            return
        if process is not None and self.now < process.frozen_until:
            self._push(process.frozen_until, timer)
            return
        timer.work()

    def _push(self, when: float, timer: Timer) -> None:
        self._planned += 1
        heapq.heappush(self._heap, (when, self._planned, timer))


class Clocked(Protocol):
    """What a process needs of its world."""

    @property
    def schedule(self) -> Schedule: ...


class Process:
    """Something that lives and dies, and may stand still. Its clock differs from everybody else's."""

    def __init__(self, world: Clocked, clock_offset: float) -> None:
        self.is_alive = True
        self.frozen_until = 0.0
        self.held_until = 0.0
        self._schedule = world.schedule
        self._clock_offset = clock_offset

    @property
    def now(self) -> float:
        return self._schedule.now + self._clock_offset

    def after(self, delay_s: float, work: Work) -> Timer:
        return self._schedule.at(self._schedule.now + delay_s, self, work)

    def every(self, period_s: float, work: Work) -> None:
        def again() -> None:
            work()
            self.after(period_s, again)

        self.after(period_s, again)

    def freeze(self, for_s: float) -> None:
        """Stand still, as a stopped process or a sleeping laptop does."""
        self.frozen_until = self._schedule.now + for_s

    def hold(self, for_s: float) -> None:
        """Say nothing, as a process whose interpreter lock is held, and be seen to live."""
        self.held_until = self.frozen_until = max(self.frozen_until, self._schedule.now + for_s)
