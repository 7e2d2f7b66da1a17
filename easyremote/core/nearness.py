"""Calls whose arguments name values that stay elsewhere: which node to prefer, when bringing a value there takes time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, cast

from easyremote.core.records import Call, Node
from easyremote.core.strategies import Offer, SmartAdaptive, Strategy
from easyremote.core.strategies.base import UNNOTICED_S, step
from easyremote.wire.v1 import gateway_pb2 as pb

MissingS = Callable[[Node, Sequence[pb.Ref]], float]
"""How long it takes to bring what a node lacks of these."""


class _Farther:
    """An offer whose calls take longer there, by the time in which values have to come. It satisfies `strategies.Offer`.

    Where nothing is known of the function yet it takes `elsewhere_s`: to try a node isn't worth the way of the values.
    """

    def __init__(self, node: Node, more_s: float, elsewhere_s: float) -> None:
        self.node = node
        self._more_s = more_s
        self._elsewhere_s = elsewhere_s

    def __getattr__(self, name: str) -> Any:
        return getattr(self.node, name)

    def typical_s(self, function: str) -> float:
        return (self.node.typical_s(function) or self._elsewhere_s) + self._more_s


def nearest(call: Call, ready: list[Node], strategy: Strategy, missing_s: MissingS) -> list[Node]:
    """Those of the nodes with credit among which the call's strategy is to choose.

    `smart_adaptive` compares when the call would end, so what has to come counts as a part of it. The others get the nodes where
    the least has to come; those with a free slot come before those where the call would wait.
    """
    more = {node: missing_s(node, call.refs) for node in ready}
    if isinstance(strategy, SmartAdaptive):
        return [_ends_first(call.key.function, more, strategy)]
    free = [node for node in ready if node.running_count < node.slots] or ready
    least = min(step(more[node]) for node in free)
    return [node for node in free if step(more[node]) == least]


def rather_waits(
    call: Call, node: Node, others: Iterable[Node], waiting: int, waited_s: float, missing_s: MissingS
) -> bool:
    """Whether one of the others, which are at work, is expected to take all calls that wait before the values come to this node.

    No call waits longer for that than the values would take.
    """
    more_s = missing_s(node, call.refs)
    if more_s <= UNNOTICED_S or waited_s > more_s:
        return False
    function = call.key.function
    return any(
        missing_s(other, call.refs) + waiting * other.typical_s(function) / other.slots < more_s for other in others
    )


def _ends_first(function: str, more: dict[Node, float], strategy: SmartAdaptive) -> Node:
    """Of those where it is expected to end at the same time, one where less has to come."""
    elsewhere_s = min((known for node in more if (known := node.typical_s(function))), default=0.0)

    def rank(node: Node) -> tuple[Any, ...]:
        offer = cast(Offer, _Farther(node, more[node], elsewhere_s)) if more[node] else node
        place, ends, *ties = strategy.rank(function, offer)
        return place, ends, step(more[node]), *ties

    return min(more, key=rank)
