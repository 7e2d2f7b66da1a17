"""Nodes that run the same calls, and which of those that have credit a strategy prefers, without looking at all of them."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from easyremote.core.records import Node
from easyremote.core.resources import Terms
from easyremote.core.strategies import Ranked

FEW = 8
"""Up to so many nodes are looked through; that costs less than keeping them in order."""

MAX_RANKINGS = 16
"""Orders kept of one pool, each of which costs something whenever a node's place in it changes; further ones are looked for."""

Entry = tuple[Any, int, Node]


class Ranking:
    """The nodes with credit in the order of a strategy: by `rank`, smallest first, and then as they stand in `nodes`.

    The heap holds outdated entries as well: a node whose place changes gets a new one and leaves the old one behind. `_current`
    has the one that counts, or None where the node has no credit.
    """

    def __init__(self, rank: Callable[[Node], Any], nodes: Sequence[Node], keeps_together: bool = False) -> None:
        self.keeps_together = keeps_together
        self._rank = rank
        self._position = {node: position for position, node in enumerate(nodes)}
        self._current: list[Entry | None] = [None] * len(nodes)
        self._heap: list[Entry] = []
        for node in nodes:
            self.changed(node)

    def changed(self, node: Node) -> None:
        """Its credit or its rank did, perhaps."""
        position = self._position[node]
        if not node.has_credit:
            self._current[position] = None
            return
        entry = self._current[position] = self._rank(node), position, node
        heapq.heappush(self._heap, entry)
        if len(self._heap) > 4 * len(self._current):
            self._heap = [entry for entry in self._current if entry is not None]
            heapq.heapify(self._heap)

    def first(self) -> Node | None:
        """The node to prefer, or None where none has credit."""
        heap, current = self._heap, self._current
        while heap:
            entry = heap[0]
            if current[entry[1]] is entry:
                return entry[2]
            heapq.heappop(heap)
        return None

    def check(self) -> None:
        """Assert that each node stands where it should."""
        held = {id(entry) for entry in self._heap}
        for node, position in self._position.items():
            entry = self._current[position]
            assert (entry is not None) == node.has_credit, "the nodes with credit are ranked"
            assert entry is None or (id(entry) in held and entry[0] == self._rank(node)), "in its place"


class Pool:
    """Keys whose calls can run on the same nodes share one.

    `terms`: what the calls need at each node that is more than a slot. Such nodes aren't ranked, they are looked through.
    """

    def __init__(self, nodes: Sequence[Node], terms: Mapping[Node, Terms] | None = None) -> None:
        self.nodes = nodes
        self.terms = terms or None
        self.members = frozenset(nodes)
        self.rankings: dict[tuple[Ranked, str], Ranking] = {}
        self._fastest: dict[str, tuple[int, list[Node]]] = {}  # asked so many times

    def fastest(self, function: str) -> Sequence[Node]:
        """A few nodes where this function takes least; of many nodes those that were so not long ago."""
        if len(self.nodes) <= FEW:
            return self.nodes
        asked, found = self._fastest.get(function, (0, []))
        if asked % len(self.nodes) == 0:
            known = [node for node in self.nodes if node.typical_s(function)]
            found = heapq.nsmallest(FEW, known, key=lambda node: node.typical_s(function))
            if function not in self._fastest and len(self._fastest) >= MAX_RANKINGS:
                self._fastest.clear()
        self._fastest[function] = asked + 1, found
        return found
