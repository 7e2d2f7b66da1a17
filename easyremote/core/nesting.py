"""Calls that are made by calls: a function that calls another one waits for it, and holds its slot meanwhile.

Rules:
- A call that names the running call that made it is its child. While a call has children, its node runs one child more than it
  has slots, this call's or another's: whoever waits lends its slot. So a function may call itself on a node with one slot, and
  two nodes may call each other.
- A child never waits at a node for a slot that its parent holds: where none is free it is sent to be run on one that was lent. To
  a node that lends none it may be sent ahead, like any call.
- Children of children lend too, down to `MAX_DEPTH`. A node runs at most so many calls for each slot, and one more.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from itertools import islice

from easyremote.core.placing import Placing
from easyremote.core.records import Call, Node
from easyremote.core.rooms import lacks_at
from easyremote.core.transitions import CallState
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_DEPTH = 16
"""A call made by a call, and so on, so many times: a function that calls itself for ever is stopped."""

_LOOKED_AT = 64
"""Children among whom one is looked for that can use a slot that was lent; the next time others."""


@dataclass(slots=True, eq=False)
class Family:
    """Kept by calls that were made by a call, or have made some."""

    depth: int = 0
    parent: Call | None = None  # it lends its slot
    children: int = 0  # that it lends it to
    is_beside: bool = False  # it runs on a slot that was lent

    def may_go_beside(self, node: Node) -> bool:
        """Whether a child gets a slot there that was lent, where no other is free."""
        return self.parent is not None and node.lent > node.beside


class Nesting:
    """Who waits for whom. `waiting`: children that have no node, and perhaps others."""

    def __init__(self, calls: Mapping[bytes, Call]) -> None:
        self._calls = calls
        self.waiting: dict[bytes, Call] = {}
        self._lenders: dict[Node, None] = {}  # nodes with a call that lends its slot

    def refuse(self, submit: pb.Submit) -> pb.ErrorInfo | None:
        """Why this child can't be, or None."""
        parent = self._calls.get(submit.options.parent_id)
        family = parent.family if parent is not None else None
        if parent is None or family is None or family.depth < MAX_DEPTH:
            return None
        what = submit.function or submit.options.label or "code"
        text = f"'{parent.title}' calls '{what[:200]}' at a depth of {MAX_DEPTH} calls that were each made by the one before"
        return pb.ErrorInfo(code="usage", message=f"{text}, the bound; perhaps a function calls itself without an end")

    def came(self, call: Call) -> None:
        """A child was submitted, or waits again."""
        call.family = call.family or Family()
        self.waiting[call.call_id] = call
        self._join(call, call.family)

    def _join(self, call: Call, family: Family) -> None:
        parent = self._calls.get(call.submit.options.parent_id)
        if family.parent is not None or parent is None or parent is call or not parent.occupies_slot:
            return
        parent.family = parent.family or Family()
        family.parent, family.depth = parent, parent.family.depth + 1
        parent.family.children += 1
        if parent.family.children == 1:
            self._lends(parent, 1)

    def _lends(self, parent: Call, change: int) -> None:
        if parent.node is not None and parent.occupies_slot:
            parent.node.lent += change
            self._note(parent.node)

    def _note(self, node: Node) -> None:
        if node.lent:
            self._lenders[node] = None
        else:
            self._lenders.pop(node, None)

    def begins(self, call: Call, family: Family, node: Node) -> None:
        """It got a node."""
        self.waiting.pop(call.call_id, None)
        if family.children:
            node.lent += 1
        node.beside += family.is_beside
        self._note(node)

    def ends(self, call: Call, family: Family, node: Node) -> None:
        """It holds nothing there any more; it may have ended."""
        if family.children:
            node.lent -= 1
        node.beside -= family.is_beside
        family.is_beside = False
        self._note(node)
        self.left(call)

    def left(self, call: Call) -> None:
        """Its parent needn't wait for it any more."""
        self.waiting.pop(call.call_id, None)
        family = call.family
        if family is None or family.parent is None:
            return
        parent, family.parent = family.parent, None
        assert parent.family is not None, "a parent has a family"
        parent.family.children -= 1
        if not parent.family.children:
            self._lends(parent, -1)

    def next(self, placing: Placing) -> tuple[Call, Node] | None:
        """A child that waits, and a node where it can run on a slot that was lent."""
        for call_id, call in list(islice(self.waiting.items(), _LOOKED_AT)):
            if call.state is not CallState.QUEUED or call.family is None:
                continue
            self._join(call, call.family)
            node = self._spare(call, placing, self._lenders)
            if node is not None:
                return call, node
            if len(self.waiting) > _LOOKED_AT:
                self.waiting[call_id] = self.waiting.pop(call_id)
        return None

    def _spare(self, call: Call, placing: Placing, nodes: Iterable[Node]) -> Node | None:
        parent = call.family.parent if call.family is not None else None
        if parent is None:
            return None
        for node in sorted(nodes, key=lambda node: node is not parent.node):
            can_lend = node.lent > node.beside and node.takes_calls and placing.takes(node, call.key)
            if placing.circuits.is_open and not placing.trusts(node, call.key):
                continue
            if can_lend and all(lack.need == "slots" for lack in lacks_at(node, call.key)):
                return node
        return None

    def check(self, nodes: Iterable[Node]) -> None:
        """Assert that what is lent and used is counted."""
        for node in nodes:
            families = [call.family for call in node.calls.values() if call.occupies_slot and call.family is not None]
            assert node.lent == sum(family.children > 0 for family in families), "slots that are lent are counted"
            assert node.beside == sum(family.is_beside for family in families), "and calls that use them"
            assert (node in self._lenders) == (node.lent > 0), "lenders are known"
        counts: dict[int, int] = {}
        for call in self._calls.values():
            parent = call.family.parent if call.family is not None else None
            if parent is not None:
                counts[id(parent)] = counts.get(id(parent), 0) + 1
        for call in self._calls.values():
            if call.family is not None:
                assert call.family.children == counts.get(id(call), 0), "children are counted"
        for call in self.waiting.values():
            assert self._calls.get(call.call_id) is call and call.node is None, "children that wait have no node"
