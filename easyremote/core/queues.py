"""Calls that wait for a node: a line for each key, in it a lane for each priority, in that a queue for each client."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator

from easyremote.core.records import Call, Node, QueueKey

Queue = OrderedDict[bytes, Call]
"""Of one client, by id, the one that is next in front."""

Lane = dict[bytes, Queue]
"""By client, the one that was served longest ago in front."""


class Line:
    """The waiting calls of one key."""

    __slots__ = ("count", "key", "lanes")

    def __init__(self, key: QueueKey) -> None:
        self.key = key
        self.lanes: dict[int, Lane] = {}
        self.count = 0

    def queue_of(self, call: Call) -> Queue:
        """Where such a call waits; made where it doesn't exist."""
        lane = self.lanes.setdefault(call.priority, {})
        queue = lane.get(call.owner)
        if queue is None:
            queue = lane[call.owner] = OrderedDict()
        return queue

    def remove(self, call: Call) -> bool:
        """Whether it was here. Its client is the last now of whom one is taken."""
        priority, owner = call.priority, call.owner
        lane = self.lanes.get(priority)
        queue = lane.get(owner) if lane is not None else None
        if lane is None or queue is None or queue.pop(call.call_id, None) is None:
            return False
        self.count -= 1
        if not queue:
            del lane[owner]
            if not lane:
                del self.lanes[priority]
        elif len(lane) > 1:
            lane[owner] = lane.pop(owner)
        return True

    def head(self) -> Call:
        """The next one, whatever the node: of the highest priority, from the client served longest ago."""
        lane = self.lanes[max(self.lanes)]
        return next(iter(next(iter(lane.values())).values()))

    def __iter__(self) -> Iterator[Call]:
        for lane in self.lanes.values():
            for queue in lane.values():
                yield from queue.values()

    def __contains__(self, call: Call) -> bool:
        return self.lanes.get(call.priority, {}).get(call.owner, {}).get(call.call_id) is call


class Queues:
    """All lines, by key and by the places that they lead to."""

    def __init__(self) -> None:
        self.by_key: dict[QueueKey, Line] = {}
        self._by_place: dict[tuple[str, str], dict[QueueKey, Line]] = {}  # by node and function
        self._count = 0
        self.bytes = 0

    def push(self, call: Call) -> None:
        line = self._line(call.key)
        line.queue_of(call)[call.call_id] = call
        line.count += 1
        self._count += 1
        call.size = call.frame.ByteSize()
        self._weigh(call, call.size)

    def push_front(self, call: Call) -> None:
        """Before its client's other calls."""
        self.push(call)
        self.by_key[call.key].queue_of(call).move_to_end(call.call_id, last=False)

    def head(self, key: QueueKey) -> Call | None:
        """The call that is next there."""
        line = self.by_key.get(key)
        return line.head() if line is not None else None

    def holds(self, call: Call) -> bool:
        line = self.by_key.get(call.key)
        return line is not None and call in line

    def remove(self, call: Call) -> None:
        line = self.by_key.get(call.key)
        if line is not None and line.remove(call):
            self._count -= 1
            self._weigh(call, -call.size)
            if not line.count:
                self._forget(call.key)

    def _weigh(self, call: Call, size: int) -> None:
        self.bytes += size
        if call.client is not None:
            call.client.waiting_bytes += size

    def lines_for(self, node: Node) -> Iterator[Line]:
        """The lines that this node's name and functions lead to, and perhaps others."""
        if len(self.by_key) <= 2 * len(node.offers) + 2:
            yield from self.by_key.values()
            return
        for function in ("", *node.offers):
            for node_id in ("", node.node_id):
                yield from self._by_place.get((node_id, function), {}).values()

    def _line(self, key: QueueKey) -> Line:
        line = self.by_key.get(key)
        if line is None:
            line = self.by_key[key] = Line(key)
            self._by_place.setdefault((key.node_id, key.function), {})[key] = line
        return line

    def _forget(self, key: QueueKey) -> None:
        del self.by_key[key]
        place = key.node_id, key.function
        del self._by_place[place][key]
        if not self._by_place[place]:
            del self._by_place[place]

    def __len__(self) -> int:
        return self._count

    def check(self) -> None:
        """Assert that the lines are found either way, and hold no empty lane or queue."""
        placed = {key: line for place in self._by_place.values() for key, line in place.items()}
        assert placed.keys() == self.by_key.keys(), "each line has its place"
        assert all(placed[key] is line for key, line in self.by_key.items()), "and is the one there"
        for key, line in self.by_key.items():
            assert line.count == sum(1 for _ in line) > 0, "the calls of a line are counted, and no empty one is kept"
            assert all(lane and all(lane.values()) for lane in line.lanes.values()), "no empty lane or queue is kept"
            assert all(call.key == key and call in line for call in line), "each call is in its own queue"
        assert self.bytes == sum(call.size for line in self.by_key.values() for call in line), "bytes are counted"
        assert self._count == sum(line.count for line in self.by_key.values()), "waiting calls are counted"
