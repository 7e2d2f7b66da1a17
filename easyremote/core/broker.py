"""The gateway's whole behaviour, without its sockets.

Rules:
- A session is a peer; a connection is one try to talk to it. A session whose connection broke is *away* and keeps its calls
  for `grace_s`; after that a node's calls go elsewhere and a client's calls are stopped.
- The ends own the truth. A call is known by the id that its client made; submitting it again resumes it. The node keeps each
  event until the client acknowledged it, so nothing that passes here needs to be kept here.
- Calls wait here, not at the nodes, and go to a node only while it has credit.
- An attempt whose number isn't the call's current one is an old one: whatever it reports is dropped and it is told to forget.
- A gateway that was restarted knows nothing. Nodes that come back *claim* what they hold; calls that come back to it are *held*
  until they are claimed or the grace time is over, and then count as lost.
- A node that drains gets no new calls and hands back those that it hasn't begun, which doesn't count as an attempt. A gateway
  that drains gives its clients back what no node has, and they keep it for the gateway that comes next.

Each part of it has a module, and stands on those before it. `state` is what all share, `attempts` what a call takes up at its
node, `endings` how calls end here, `dispatching` how they come to nodes, and `recovering` what follows when an attempt came to
nothing. Above them are those that hear the peers: `submissions` and `questions` (clients), `reports` and `nodes` (nodes), and
`peers` (sessions, and who is there).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from easyremote.config import GatewaySettings
from easyremote.core.access import OWNER, Access
from easyremote.core.attempts import Attempts
from easyremote.core.dispatching import Dispatching
from easyremote.core.endings import Endings
from easyremote.core.invariants import check
from easyremote.core.node_keys import NodeKeys
from easyremote.core.nodes import Nodes
from easyremote.core.peers import Peers
from easyremote.core.questions import Questions
from easyremote.core.records import Action, SendChunk, Session
from easyremote.core.recovering import Recovering
from easyremote.core.reports import Reports
from easyremote.core.state import State
from easyremote.core.submissions import Submissions
from easyremote.wire.v1 import gateway_pb2 as pb


class Broker:
    """Takes what happened and the time, and returns what to do. `gateway_id` is random, made by the shell."""

    def __init__(self, gateway_id: bytes, settings: GatewaySettings, version: str, now: float) -> None:
        self._state = state = State(gateway_id, settings, version, now)
        self._settings = settings
        self._ticked_at = now
        self._send = state.send
        self._sessions = state.sessions
        self._by_conn = state.by_conn
        self._calls = state.calls
        self._alarms = state.alarms
        self._queues = state.queues
        self._placing = state.placing
        self._values = state.values
        self._nesting = state.nesting
        self._relay = state.relay
        self._attempts = attempts = Attempts(state)
        self._endings = endings = Endings(state, attempts)
        self._dispatching = dispatching = Dispatching(state, attempts, endings)
        self._recovering = recovering = Recovering(state, attempts, endings, dispatching)
        reports = Reports(state, attempts, endings, dispatching, recovering)
        nodes = Nodes(state, attempts, dispatching, recovering)
        submissions = Submissions(state, attempts, endings, dispatching, recovering)
        self._node_keys = node_keys = NodeKeys(state)
        self._peers = peers = Peers(state, endings, dispatching, nodes, node_keys)
        self._questions = Questions(state, endings, nodes)
        self._handlers: dict[str | None, Callable[[Session, pb.Frame], None]] = {
            "submit": submissions.on_submit,
            "cancel": submissions.on_cancel,
            "ack": submissions.on_ack,
            "reply": submissions.on_reply,
            "synced": submissions.on_synced,
            "query": self._on_query,
            "keyring": submissions.on_keyring,
            "event": reports.on_event,
            "drain": nodes.on_drain,
            "handed_back": reports.on_handed_back,
            "offers": nodes.on_offers,
            "load": nodes.on_load,
            "fetch": self._on_fetch,
            "chunk": self._on_chunk,
            "handles": self._on_handles,
            "held_values": self._on_held_values,
            "goodbye": peers.on_goodbye,
            "heartbeat": self._on_heartbeat,
        }

    @property
    def gateway_id(self) -> bytes:
        return self._state.gateway_id

    @property
    def keeper_id(self) -> bytes:
        """Session of the gateway's own client that keeps jobs, where there is one."""
        return self._state.keeper_id

    @keeper_id.setter
    def keeper_id(self, session_id: bytes) -> None:
        self._state.keeper_id = session_id

    @property
    def audits(self) -> bool:
        """Whether it has noted who ran what: `Audited` is among its actions then."""
        return self._state.audits

    @audits.setter
    def audits(self, wanted: bool) -> None:
        self._state.audits = wanted

    @property
    def unknown_frames(self) -> int:
        """Frames that no peer of this kind and version should have sent."""
        return self._state.unknown_frames

    # ---- what happened -------------------------------------------------------------------------------------------

    def connected(self, conn: int, hello: pb.Hello, now: float, access: Access = OWNER) -> list[Action]:
        """A connection said hello, and has shown a token that allows `access`. Answers with Welcome, or Refused and Close."""
        self._state.now = now
        self._peers.connected(conn, hello, access)
        return self._take()

    def received(self, conn: int, frames: Iterable[pb.Frame], now: float) -> list[Action]:
        """Frames came in. Those of a connection that was replaced, or that follow a goodbye, are dropped."""
        self._state.now = now
        session = self._by_conn.get(conn)
        if session is None:
            return []
        session.heard_at = now
        if session.is_quiet:
            self._peers.set_quiet(session, False)
        self._placing.batch_begins()
        handlers = self._handlers
        for frame in frames:
            handler = handlers.get(frame.WhichOneof("body"))
            if handler is None:
                self._state.unknown_frames += 1
                continue
            handler(session, frame)
            if session.conn != conn:
                break
        return self._take()

    def disconnected(self, conn: int, now: float) -> list[Action]:
        """A connection ended without a goodbye."""
        self._state.now = now
        session = self._by_conn.get(conn)
        if session is not None:
            self._peers.went_away(session)
        return self._take()

    def chunk(self, session_id: bytes, chunk: pb.Chunk, size: int | None = None) -> bytes | None:
        """A chunk came from its owner: the session that it goes to, or None when nobody waits for it any more.

        `size`: of its data, in bytes, where that isn't in it.
        """
        return self._relay.chunk(session_id, chunk, len(chunk.data) if size is None else size)

    def knows(self, session_id: bytes, access: Access = OWNER) -> bool:
        """Whether a transfer stream may be attached to this session: one of the same token."""
        session = self._sessions.get(session_id)
        return session is not None and session.access.token_id == access.token_id

    def connection_of(self, session_id: bytes) -> int | None:
        """The connection that this session has now."""
        session = self._sessions.get(session_id)
        return session.conn if session is not None else None

    def drain(self, now: float) -> list[Action]:
        """Take no new calls from now on: this process is about to end."""
        self._state.now = now
        self._state.is_ending = True
        for call in [call for line in self._queues.by_key.values() for call in line]:
            self._endings.hand_to_client(call)
        return self._take()

    @property
    def open_count(self) -> int:
        """Calls that a node has, those included whose end isn't acknowledged."""
        return sum(len(node.calls) for node in self._placing.nodes.values())

    def tick(self, now: float) -> list[Action]:
        """Time passed. Call it at least twice a second."""
        self._state.now = now
        passed_s = now - self._ticked_at
        self._peers.forgive_standstill(passed_s)
        has_less = self._placing.time_passed(passed_s, now)
        self._placing.circuits.tick(now)
        self._ticked_at = now
        self._peers.tick(passed_s)
        self._recovering.ring()
        self._dispatching.fail_unplaceable(only_limited=not has_less)
        if self._queues.by_key:
            self._placing.keeping.tick(self._queues, self._placing.with_terms, now)
        self._values.tick(now)
        self._relay.look_for_sources(now)
        return self._take()

    @property
    def token_ids(self) -> list[str]:
        """Tokens with sessions here, or with some a moment ago; but for the gateway's own."""
        return list(self._state.allowances.by_token)

    def token_ended(self, token_id: str, why: str, now: float) -> list[Action]:
        """It isn't good any more: end all that it has opened, and tell its holders why."""
        self._state.now = now
        self._peers.token_ended(token_id, why)
        return self._take()

    def doubtful(self, now: float) -> list[int]:
        """Connections of peers that say nothing. The shell may know that their processes live, and then calls `vouch`."""
        return self._peers.doubtful(now)

    def vouch(self, conn: int, now: float) -> None:
        """The process at the other end of this connection lives, as a function that holds the interpreter lock lets it look."""
        self._peers.vouch(conn, now)

    # ---- large payloads and values -------------------------------------------------------------------------------

    def _on_chunk(self, session: Session, frame: pb.Frame) -> None:
        target = None if frame.chunk.data else self._relay.chunk(session.session_id, frame.chunk, 0)
        if target is not None:
            self._state.actions.append(SendChunk(target, frame.chunk))

    def _on_fetch(self, session: Session, frame: pb.Frame) -> None:
        self._relay.fetch(session, frame, self._state.now)

    def _on_handles(self, session: Session, frame: pb.Frame) -> None:
        if session.node is None:
            self._values.handles(session, frame.handles, self._state.now)
            self._relay.look_for_sources(self._state.now)

    def _on_held_values(self, session: Session, frame: pb.Frame) -> None:
        if session.node is not None:
            self._values.changed(session, frame.held_values, self._state.now)
            self._relay.look_for_sources(self._state.now)

    def _on_query(self, session: Session, frame: pb.Frame) -> None:
        self._node_keys.tell(at_once=True)  # who hears of a node can seal what it sends there next
        self._questions.on_query(session, frame)

    def _on_heartbeat(self, session: Session, frame: pb.Frame) -> None:
        pass  # hearing it was all

    # ---- plumbing ------------------------------------------------------------------------------------------------

    def _take(self) -> list[Action]:
        self._dispatching.settle()
        self._node_keys.tell()
        return self._state.take()

    def offers_of(self, node_id: str) -> list[str]:
        """Functions that calls find on this node."""
        node = self._placing.nodes.get(node_id)
        return sorted(node.offers) if node is not None else []

    def leftovers(self) -> list[str]:
        """What a gateway that nobody uses should not hold, in words."""
        left = [f"the gateway has '{call.title}', {call.state.value}" for call in self._calls.values()]
        left += [f"{len(self._queues)} calls are queued"] if self._queues.by_key else []
        left += [f"{len(self._relay)} transfers are open"] if self._relay else []
        left += self._values.leftovers()
        left += self._placing.rings.leftovers()
        nodes = self._placing.nodes.values()
        left += [
            f"{node.running_count} calls count as running on {node.node_id}" for node in nodes if node.running_count
        ]
        return left

    def check(self) -> None:
        """Assert every invariant. The simulation calls it after each event."""
        check(self._calls, self._queues, self._placing.nodes, self._sessions, self._by_conn)
        self._placing.check()
        for node_id, probe in self._placing.circuits.probes():
            tried = self._calls[probe]
            assert tried.occupies_slot and tried.node is not None, "a probe runs"
            assert tried.node.node_id == node_id, "at the node that it tries"
        if not self._state.is_ending:
            self._placing.check_waiting(self._queues)
        self._alarms.check()
        self._nesting.check(self._placing.nodes.values())
        self._values.check(self._sessions.values())
        self._state.allowances.check(self._sessions)
        self._placing.rings.check(self._calls.values(), self._sessions.values())
        self._node_keys.check()
