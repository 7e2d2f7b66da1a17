"""When which call has to be looked at, so that passing time costs nothing for calls whose time hasn't come."""

from __future__ import annotations

import heapq
import math
from collections.abc import Mapping

from easyremote.core.records import Call

_SPARE = 1024
"""Outdated entries are cleared away when they are as many as the calls, and so many more."""


class Alarms:
    """A heap of times. An entry may be outdated: `ring` looks at the call itself.

    Each call with a `due` time has an entry for that time or an earlier one.
    """

    def __init__(self, calls: Mapping[bytes, Call]) -> None:
        self._calls = calls
        self._heap: list[tuple[float, bytes]] = []

    def set(self, call: Call) -> None:
        """Its `due` time may be another one now."""
        due = call.due
        if due < math.inf:
            heapq.heappush(self._heap, (due, call.call_id))
            if len(self._heap) > 2 * len(self._calls) + _SPARE:
                self._clear_away()

    def ring(self, now: float) -> list[Call]:
        """The calls that are due, those submitted first in front."""
        due: dict[bytes, Call] = {}
        while self._heap and self._heap[0][0] <= now:
            call = self._calls.get(heapq.heappop(self._heap)[1])
            if call is None:
                continue
            if call.due <= now:
                due[call.call_id] = call
            else:
                self.set(call)
        return sorted(due.values(), key=lambda call: call.order)

    def _clear_away(self) -> None:
        self._heap = [(call.due, call.call_id) for call in self._calls.values() if call.due < math.inf]
        heapq.heapify(self._heap)

    def check(self) -> None:
        """Assert that no call is overslept."""
        first: dict[bytes, float] = {}
        for at, call_id in self._heap:
            first[call_id] = min(at, first.get(call_id, math.inf))
        for call in self._calls.values():
            assert call.due == math.inf or first.get(call.call_id, math.inf) <= call.due, "who is due is looked at"
