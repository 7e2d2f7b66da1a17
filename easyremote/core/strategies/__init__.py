"""Which node takes a call, one small pure object a strategy.

A strategy sees offers (nodes that could take the call now) and picks one. Add your own with `register_strategy`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from easyremote.errors import UsageError

__all__ = ["Offer", "Strategy", "known_strategies", "make_strategy", "register_strategy"]


class Offer(Protocol):
    """What a strategy may know of a node: all fields are measured or declared, none is guessed."""

    @property
    def node_id(self) -> str: ...
    @property
    def slots(self) -> int: ...
    @property
    def price(self) -> float: ...
    @property
    def running_count(self) -> int: ...
    @property
    def last_used(self) -> int:
        """A counter that grows with each dispatch; 0: never used."""
        ...

    def expected_s(self, function: str) -> float:
        """Smoothed duration of this function there, in seconds; 0 when it hasn't run there yet."""
        ...


class Strategy(Protocol):
    """Chooses among offers; `offers` is never empty."""

    def choose(self, function: str, offers: Sequence[Offer]) -> Offer: ...


class Ranked:
    """A strategy that gives each offer a rank, whatever the others are like, and takes the smallest; of equals the first.

    A rank changes only when the node gets a call or ends one, or says anew what it offers. So the gateway keeps the offers in
    order and needn't look at all of them for each call.
    """

    by_function: bool
    """Whether the rank depends on the function."""

    keeps_together: bool = False
    """Whether very short calls that come together may go to one node while it has free slots, though it isn't the first then."""

    def rank(self, function: str, offer: Offer) -> Any:
        raise NotImplementedError

    def choose(self, function: str, offers: Sequence[Offer]) -> Offer:
        return min(offers, key=lambda offer: self.rank(function, offer))


class RoundRobin(Ranked):
    """The node that was used longest ago."""

    by_function = False

    def rank(self, function: str, offer: Offer) -> int:
        return offer.last_used


class LeastLoaded(Ranked):
    """The node with the smallest part of its slots in use; among equals the one used longest ago."""

    by_function = False
    keeps_together = True

    def rank(self, function: str, offer: Offer) -> tuple[float, int]:
        return offer.running_count / offer.slots, offer.last_used


class Cheapest(Ranked):
    """The lowest expected cost, duration times price; among equals the least loaded."""

    by_function = True

    def rank(self, function: str, offer: Offer) -> tuple[float, float, int]:
        return offer.expected_s(function) * offer.price, offer.running_count / offer.slots, offer.last_used


_FACTORIES: dict[str, Callable[[], Strategy]] = {
    "round_robin": RoundRobin,
    "resource_aware": LeastLoaded,
    "latency_based": LeastLoaded,
    "cost_aware": Cheapest,
    "smart_adaptive": LeastLoaded,
}


def known_strategies() -> list[str]:
    """Names that `strategy=` accepts."""
    return list(_FACTORIES)


def register_strategy(name: str, factory: Callable[[], Strategy]) -> None:
    """Make `name` known in this process (call it where the gateway runs, before it starts)."""
    _FACTORIES[name] = factory


def make_strategy(name: str) -> Strategy:
    """A fresh strategy object. Raises UsageError for an unknown name, listing the known ones."""
    try:
        return _FACTORIES[name]()
    except KeyError:
        raise UsageError(f"unknown strategy '{name}'; known are {', '.join(_FACTORIES)}") from None
