"""Tells clients that can seal which nodes are here, by their keys.

Where no node demands that calls are sealed, nothing is told to anyone. From the first that does, such a client hears of all nodes
that have keys, and then of what changes: at once, or together with what else changes within a moment.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from easyremote.core.records import Node, Session
from easyremote.core.state import State
from easyremote.wire.v1 import gateway_pb2 as pb

KEYS_EVERY_S = 0.2
"""Changes are told so often at most: with the first thing that happens afterwards, a tick at the latest."""

NODES_TOGETHER = 1000
"""In one frame."""

IDENTITY_BYTES = 128


class NodeKeys:
    """Knows which nodes demand sealed calls, and what has changed since the clients were told."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._demanding: dict[str, None] = {}  # nodes that take only sealed calls
        self._changed: dict[str, None] = {}
        self._told_at = -KEYS_EVERY_S
        self._is_used = False  # a node has demanded it

    def node_changed(self, node_id: str) -> None:
        """It came, came back, or is gone for good."""
        node = self._state.placing.nodes.get(node_id)
        if node is not None and node.sealed_only:
            self._demanding[node_id] = None
            self._is_used = True
        else:
            self._demanding.pop(node_id, None)
        if self._is_used:
            self._changed[node_id] = None

    def client_came(self, session: Session) -> None:
        """A connection of a client that can seal begins: it knows nothing."""
        session.knows_keys = False
        if self._demanding and session.knows_seal:
            self._tell_all(session)

    def tell(self, at_once: bool = False) -> None:
        """Whatever has changed, unless clients were told a moment ago. `at_once`: even then."""
        state = self._state
        if not self._changed or (state.now - self._told_at < KEYS_EVERY_S and not at_once):
            return
        self._told_at = state.now
        changed, self._changed = list(self._changed), {}
        frames: list[pb.Frame] | None = None
        for session in state.sessions.values():
            if not session.knows_seal or session.conn is None:
                continue
            if session.knows_keys:
                frames = frames or _frames(changed, state.placing.nodes)
                self._send(session, frames)
            elif self._demanding:
                self._tell_all(session)

    def _tell_all(self, session: Session) -> None:
        session.knows_keys = True
        nodes = self._state.placing.nodes
        self._send(session, _frames(list(nodes), nodes, complete=True))

    def _send(self, session: Session, frames: Iterable[pb.Frame]) -> None:
        for frame in frames:
            self._state.send(session, frame)

    def check(self) -> None:
        """Assert that it is known who demands what."""
        demanding = {node_id for node_id, node in self._state.placing.nodes.items() if node.sealed_only}
        assert demanding == self._demanding.keys(), "nodes that take only sealed calls are known"


def _frames(names: list[str], nodes: Mapping[str, Node], complete: bool = False) -> list[pb.Frame]:
    """What there is to say of these nodes. The first frame says whether it replaces what was told before."""
    frames: list[pb.Frame] = []
    for start in range(0, max(len(names), 1), NODES_TOGETHER):
        keys = pb.NodeKeys(complete=complete and not start)
        for name in names[start : start + NODES_TOGETHER]:
            node = nodes.get(name)
            if node is not None and len(node.identity) == IDENTITY_BYTES:
                keys.nodes.add(node_id=name, identity=node.identity, sealed_only=node.sealed_only)
            elif not complete:
                keys.gone.append(name)
        frames.append(pb.Frame(node_keys=keys))
    return frames
