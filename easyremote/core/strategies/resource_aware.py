"""`resource_aware`: where there is room."""

from __future__ import annotations

from easyremote.core.strategies.base import Offer, Ranked


class LeastLoaded(Ranked):
    """The least load, which is the largest part in use of slots, processors and memory.

    Tenths of it count, since what is measured is some seconds old and moves by itself. Among equals the smallest part
    of slots in use decides, then who was used longest ago.
    """

    by_function = False
    keeps_together = True

    def rank(self, function: str, offer: Offer) -> tuple[int, float, int]:
        in_use = offer.running_count / offer.slots
        pressure = offer.pressure
        return int(10 * (in_use if in_use > pressure else pressure)), in_use, offer.last_used
