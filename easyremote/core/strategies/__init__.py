"""Which node takes a call, one small pure object a strategy.

A strategy sees offers (nodes that could take the call now) and picks one. Add your own with `register_strategy`.
"""

from __future__ import annotations

from collections.abc import Callable

from easyremote.core.strategies.base import Offer, Ranked, Strategy
from easyremote.core.strategies.cost_aware import Cheapest
from easyremote.core.strategies.latency_based import LowestLatency
from easyremote.core.strategies.resource_aware import LeastLoaded
from easyremote.core.strategies.round_robin import RoundRobin
from easyremote.core.strategies.smart_adaptive import SmartAdaptive
from easyremote.errors import UsageError

__all__ = [
    "Cheapest",
    "LeastLoaded",
    "LowestLatency",
    "Offer",
    "Ranked",
    "RoundRobin",
    "SmartAdaptive",
    "Strategy",
    "known_strategies",
    "make_strategy",
    "register_strategy",
]

_FACTORIES: dict[str, Callable[[], Strategy]] = {
    "round_robin": RoundRobin,
    "resource_aware": LeastLoaded,
    "latency_based": LowestLatency,
    "cost_aware": Cheapest,
    "smart_adaptive": SmartAdaptive,
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
