"""`round_robin`: everybody's turn."""

from __future__ import annotations

from easyremote.core.strategies.base import Offer, Ranked


class RoundRobin(Ranked):
    """The node that was used longest ago."""

    by_function = False

    def rank(self, function: str, offer: Offer) -> int:
        return offer.last_used
