"""`smart_adaptive`: where this call is expected to end first, as far as is known.

Rules:
- A node's time for a call is its wait for a slot and what the function typically takes there. Times that differ by little count
  as equal; then the smallest part of slots in use decides, then who was used longest ago.
- A node where the function never ran, or that wasn't used for long, is tried once before the others; while it is being tried, the
  others come first.
- A node whose calls keep failing comes last, until that has faded.
- A call rather waits than takes a slow node, when faster ones are expected to end all calls that wait before the slow one would
  end this. So a slow node does its share while there is much to do, and doesn't get the last, long call. It waits no longer than
  the call would have taken there.
"""

from __future__ import annotations

from collections.abc import Sequence

from easyremote.core.strategies.base import STEP, UNNOTICED_S, Offer, Ranked, step

FAILING = 0.4
"""A part of calls that failed beyond this, or above that of another node, is too much. Two failures in a row are."""

_FIRST, _KNOWN, _BEING_TRIED, _LAST = range(4)


class SmartAdaptive(Ranked):
    """The shortest expected time until the call's end. See the module."""

    by_function = True
    keeps_together = True

    def rank(self, function: str, offer: Offer) -> tuple[int, int, float, int]:
        takes_s = offer.typical_s(function)
        in_use = offer.running_count / offer.slots
        if offer.failing > FAILING:
            place = _LAST
        elif takes_s:
            place = _FIRST if offer.is_out_of_sight else _KNOWN
        else:
            place = _BEING_TRIED if offer.is_trying(function) else _FIRST
        return place, step(takes_s + offer.wait_s), in_use, offer.last_used

    def may_wait(self, function: str, offer: Offer) -> bool:
        return offer.typical_s(function) > UNNOTICED_S or offer.failing > FAILING

    def waits(
        self, function: str, offer: Offer, others: Sequence[Offer], waiting: int, waited_s: float, now: float
    ) -> bool:
        if offer.failing > FAILING and any(other.failing < offer.failing - FAILING for other in others):
            return True
        takes_s = offer.typical_s(function)
        if takes_s <= UNNOTICED_S or waited_s > takes_s or offer.is_out_of_sight:
            return False
        for other in others:
            if other.typical_s(function) * STEP < takes_s and other.failing <= FAILING:
                waiting -= other.could_end(function, takes_s, now)
                if waiting <= 0:
                    return True
        return False
