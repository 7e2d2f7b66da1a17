"""Whose turn it is at a node: by priority, and within a priority by what each client has had of the node.

Rules:
- Start-time fair queueing (Goyal, Vin, Cheng 1996), for each node by itself. A call is charged what it is expected to take, and
  when it has ended what it took. A client's tag grows by what its calls are charged; the smallest tag is next.
- `_virtual_s`, where the last call began, is where a client begins that comes anew: it is next, and gets nothing for having been
  away. So while calls of several clients wait, what they get of the node differs by one call of each at most.
- A node that has room and nothing to do forgets the tags, and charges nobody until something waits for it again: then those whose
  calls it runs. What one had while nobody else waited isn't held against them, and costs nothing to know.
- A higher priority goes first. One that waits while others go first rises by a point every `AGEING_S`, until it has a turn.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from easyremote.core.records import Call

MAX_PRIORITY = 100
"""The highest; its negative is the lowest. Others are taken for the nearest."""

AGEING_S = 10.0
"""A priority that had no turn at a node for so long counts as one point higher there."""

LOOKED_AT = 64
"""Clients of one queue among whom the next is chosen; where more of them wait, those served longest ago."""

TOKEN_SHARE = b"token "
"""What the id of a share begins with that all sessions and jobs of one token have together. Sessions of the gateway's own token
have one each: they are its user's, who would have nothing of a single one."""

_NEVER = -1.0


class Line(Protocol):
    """Waiting calls that can run on the same nodes."""

    @property
    def lanes(self) -> Mapping[int, Mapping[bytes, Mapping[bytes, Call]]]:
        """By priority, then by client, the one served longest ago in front, then by id, the next one in front."""
        ...


class Share:
    """What the clients have had of one node, in seconds of its slots."""

    __slots__ = ("_tags", "_turns", "_virtual_s")

    def __init__(self) -> None:
        self._tags: dict[bytes, float] = {}  # by client
        self._turns: dict[int, float] = {}  # by priority, while several wait: when its last turn was
        self._virtual_s = 0.0

    def choose(self, lines: Sequence[Line], now: float) -> Call:
        """The call that is next; `lines` has at least one, and all are for this node."""
        if len(lines) == 1 and len(lines[0].lanes) == 1:
            (lane,) = lines[0].lanes.values()
            if len(lane) == 1:
                (queue,) = lane.values()
                return next(iter(queue.values()))
        level = self._level(lines, now)
        tags, virtual_s = self._tags, self._virtual_s
        chosen: Call | None = None
        best = (0.0, 0.0, 0)
        for line in lines:
            for client, queue in islice(line.lanes.get(level, {}).items(), LOOKED_AT):
                call = next(iter(queue.values()))
                tag = tags.get(client, _NEVER)
                rank = (tag if tag > virtual_s else virtual_s, tag, call.order)
                if chosen is None or rank < best:
                    chosen, best = call, rank
        assert chosen is not None, "a line that waits has calls"
        return chosen

    def _level(self, lines: Sequence[Line], now: float) -> int:
        """The priority whose turn it is."""
        levels = {level: None for line in lines for level in line.lanes}
        if len(levels) == 1:
            self._turns.clear()
            return next(iter(levels))
        turns = self._turns = {level: self._turns.get(level, now) for level in levels}
        level = max(levels, key=lambda level: (level + (now - turns[level]) / AGEING_S, level))
        turns[level] = now
        return level

    def charge(self, client: bytes, cost_s: float) -> None:
        """A call of this client, expected to take so long, goes to the node."""
        tag = self._tags.get(client, _NEVER)
        if tag > self._virtual_s:
            self._virtual_s = tag
        self._tags[client] = self._virtual_s + cost_s

    def correct(self, client: bytes, more_s: float) -> None:
        """It took so much longer, or shorter where that is negative."""
        if client in self._tags:
            self._tags[client] += more_s

    @property
    def is_at_rest(self) -> bool:
        """Whether nobody is charged for anything."""
        return not self._tags

    def rest(self) -> None:
        """The node has room, and nothing waits for it."""
        if self._tags:
            self._tags.clear()
            self._turns.clear()
            self._virtual_s = 0.0

    def gone(self, client: bytes) -> None:
        """The client is."""
        self._tags.pop(client, None)

    def check(self, clients: Mapping[bytes, object]) -> None:
        """Assert that nothing is kept of those who are gone."""
        known = (client in clients or client.startswith(TOKEN_SHARE) for client in self._tags)
        assert all(known), "only clients that are there have tags, and tokens, which are few"
