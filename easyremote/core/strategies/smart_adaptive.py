"""`smart_adaptive`: where this call is expected to end first, as far as is known.

Rules:
- A node's time for a call is its wait for a slot and what the function typically takes there. Times that differ by little count
  as equal; then the smallest part of slots in use decides, then who was used longest ago.
- A node where the function never ran, or that wasn't used for long, is tried once before the others; while it is being tried, the
  others come first.
- A node whose calls keep failing comes last, until that has faded.
- A call rather waits than takes a slow node, when faster ones are expected to end all calls that wait before the slow one would
  end this. So a slow node does its share while there is much to do, and doesn't get the last, long call. It waits no longer than
  the call would have taken there. Only what was measured counts: a node is faster where that leaves little doubt.
"""

from __future__ import annotations

from collections.abc import Sequence

from easyremote.core.strategies.base import UNNOTICED_S, Offer, Ranked, step

FAILING = 0.4
"""A part of calls that failed beyond this, or above that of another node, is too much. Two failures in a row are."""

FAILING_WAIT_S = 60.0
"""No call waits longer than this for another node than one that fails."""

_FIRST, _KNOWN, _BEING_TRIED, _LAST = range(4)


class SmartAdaptive(Ranked):
    """The shortest expected time until the call's end. See the module."""

    by_function = True
    keeps_together = True

    def rank(self, function: str, offer: Offer) -> tuple[int, int, float, int]:
        takes_s = offer.typical_s(function)
        running, slots = offer.running_count, offer.slots
        if offer.failing(function) > FAILING:
            place = _LAST
        elif takes_s:
            place = _FIRST if offer.is_out_of_sight else _KNOWN
        else:
            place = _BEING_TRIED if offer.is_trying(function) else _FIRST
        ends_s = takes_s if running < slots else takes_s + offer.wait_s
        return place, step(ends_s) if ends_s > UNNOTICED_S else 0, running / slots, offer.last_used

    def may_wait(self, function: str, offer: Offer) -> bool:
        return offer.typical_s(function) > UNNOTICED_S or offer.failing(function) > FAILING

    def waits(
        self, function: str, offer: Offer, others: Sequence[Offer], waiting: int, waited_s: float, now: float
    ) -> bool:
        failing = offer.failing(function)
        if failing > FAILING and any(other.failing(function) < failing - FAILING for other in others):
            return waited_s < FAILING_WAIT_S
        takes_s = offer.typical_s(function)
        if takes_s <= UNNOTICED_S or waited_s > takes_s or offer.is_out_of_sight:
            return False
        at_least_s, _ = offer.typical_range_s(function)
        for other in others:
            if other.typical_range_s(function)[1] < at_least_s and other.failing(function) <= FAILING:
                waiting -= other.could_end(function, takes_s, now)
                if waiting <= 0:
                    return True
        return False
