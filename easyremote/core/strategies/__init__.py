"""Which node takes a call, one small pure object a strategy.

A strategy sees offers (nodes that could take the call now) and picks one. Add your own with `register_strategy`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

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


class RoundRobin:
    """The node that was used longest ago."""

    def choose(self, function: str, offers: Sequence[Offer]) -> Offer:
        return min(offers, key=lambda offer: offer.last_used)


class LeastLoaded:
    """The node with the smallest part of its slots in use; among equals the one used longest ago."""

    def choose(self, function: str, offers: Sequence[Offer]) -> Offer:
        return min(offers, key=lambda offer: (offer.running_count / offer.slots, offer.last_used))


class Cheapest:
    """The lowest expected cost, duration times price; among equals the least loaded."""

    def choose(self, function: str, offers: Sequence[Offer]) -> Offer:
        return min(
            offers,
            key=lambda offer: (
                offer.expected_s(function) * offer.price,
                offer.running_count / offer.slots,
                offer.last_used,
            ),
        )


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
