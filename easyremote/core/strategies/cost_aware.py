"""`cost_aware`: what costs least."""

from __future__ import annotations

from easyremote.core.strategies.base import Offer, Ranked


class Cheapest(Ranked):
    """The lowest expected cost, duration times price; among equals the least loaded."""

    by_function = True

    def rank(self, function: str, offer: Offer) -> tuple[float, float, int]:
        return offer.expected_s(function) * offer.price, offer.running_count / offer.slots, offer.last_used
