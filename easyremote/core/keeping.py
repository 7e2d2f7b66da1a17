"""Calls that need much get their turn.

A call that needs more than is free at any node is passed over: others, which need less, don't wait behind it. So that they don't
pass it over for ever, a node is kept for it after a while, in the following way:
- Once the first call of a queue has waited for `KEEP_AFTER_S`, its queue gets a node that could run it, the one that lacks least.
- What it lacks there, and no more, goes to nobody else from then on: not when it becomes free, and not in part. Calls that don't
  use what it lacks go on as before. When it comes to lack something else meanwhile, that is kept as well.
- It ends when a call of that queue is sent, to whatever node, or none waits there any more.

A node is kept for one queue at a time, and a queue has one node kept for it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from easyremote.core.queues import Queues
from easyremote.core.records import Node, QueueKey
from easyremote.core.rooms import lacks_at, terms_of

KEEP_AFTER_S = 3.0
"""A call that waited for so long, and lacks something everywhere, has what it lacks kept for it at one node."""


class Keeping:
    """`changed(node)` is called when what a node may be given has changed."""

    def __init__(self, changed: Callable[[Node], None]) -> None:
        self.nodes: dict[QueueKey, Node] = {}
        self._changed = changed

    def tick(self, queues: Queues, candidates: Callable[[QueueKey], Sequence[Node]], now: float) -> None:
        """Time passed. Keep nodes for the queues whose first call has waited for long."""
        for key in queues.by_key:
            call = queues.head(key)
            node = self.nodes.get(key)
            if node is not None:
                self.look(node)
            elif call is not None and now - call.created_at > KEEP_AFTER_S:
                self._begin(key, candidates(key))

    def _begin(self, key: QueueKey, candidates: Sequence[Node]) -> None:
        free = [node for node in candidates if node.keeper is None and node.takes_calls and _short(node, key)]
        if free:
            node = min(free, key=lambda node: (len(_short(node, key)), node.running_count / node.slots))
            node.keeper = key
            self.nodes[key] = node
            self.look(node)

    def look(self, node: Node) -> None:
        """What its keeper lacks at this moment is kept too."""
        assert node.keeper is not None, "it is kept for someone"
        terms = terms_of(node, node.keeper)
        short = _short(node, node.keeper) - node.room.kept_for
        is_lost = any(gpu.lost_since is not None for gpu in node.room.of(node.room.kept_gpus))
        if terms is None or is_lost:
            self.end(node.keeper)
        elif short:
            node.room.keep(terms.needs, short)
            node.set_limit()
            self._changed(node)

    def end(self, key: QueueKey) -> None:
        """Nothing is kept for this queue any more."""
        node = self.nodes.pop(key, None)
        if node is not None:
            node.keeper = None
            node.room.drop_kept()
            node.set_limit()
            self._changed(node)

    def settle(self, queues: Queues) -> None:
        """End it where nobody waits any more."""
        for key in [key for key in self.nodes if key not in queues.by_key]:
            self.end(key)

    def left(self, node: Node) -> None:
        """The node is gone, or takes no new calls."""
        if node.keeper is not None:
            self.end(node.keeper)

    def check(self) -> None:
        """Assert that nodes and queues agree."""
        assert all(node.keeper == key for key, node in self.nodes.items()), "a node knows for whom it is kept"


def _short(node: Node, key: QueueKey) -> set[str]:
    """What calls of this queue lack there for now, of what can be kept for them. They use what is kept for them already."""
    return {
        lack.need for lack in lacks_at(node, key) if not lack.is_never and lack.need not in ("max_concurrency", "batch")
    }
