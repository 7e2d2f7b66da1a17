"""`latency_based`: where calls came back soonest, lately."""

from __future__ import annotations

from easyremote.core.strategies.base import Offer, Ranked, step


class LowestLatency(Ranked):
    """Peak-EWMA: the smallest product of a node's latency and the calls that a slot would have then.

    The latency follows a longer call at once and shorter ones slowly, so a node that stalls is left alone, and comes back
    by itself. Among equals the smallest part of its slots in use, then the one used longest ago. Source: Finagle's `PeakEwma`.
    """

    by_function = True
    keeps_together = True

    def rank(self, function: str, offer: Offer) -> tuple[int, float, int]:
        in_use = offer.running_count / offer.slots
        share = (offer.running_count + 1) / offer.slots
        return step(offer.latency_s(function) * (share if share > 1 else 1)), in_use, offer.last_used
