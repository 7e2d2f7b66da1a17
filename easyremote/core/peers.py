"""Who is there: sessions and their connections, who is away, who is silent but lives, and who is gone.

A process that stood still itself forgives its peers that silence.
"""

from __future__ import annotations

from easyremote.config import FEATURE_ASK, FEATURE_DRAIN, FEATURE_SEAL, PROTOCOL_VERSION
from easyremote.core.access import Access
from easyremote.core.admission import refuse_hello
from easyremote.core.attempts import withdrawn
from easyremote.core.dispatching import Dispatching
from easyremote.core.draining import reason_of
from easyremote.core.endings import Endings
from easyremote.core.fairness import TOKEN_SHARE
from easyremote.core.node_keys import IDENTITY_BYTES, NodeKeys
from easyremote.core.nodes import Nodes
from easyremote.core.records import Close, EndStream, Node, Send, Session
from easyremote.core.state import State
from easyremote.errors import AuthError
from easyremote.wire.v1 import gateway_pb2 as pb


class Peers:
    """A session has at most one connection. A new one replaces it."""

    def __init__(
        self, state: State, endings: Endings, dispatching: Dispatching, nodes: Nodes, node_keys: NodeKeys
    ) -> None:
        self._state = state
        self._settings = state.settings
        self._send = state.send
        self._sessions = state.sessions
        self._by_conn = state.by_conn
        self._calls = state.calls
        self._placing = state.placing
        self._values = state.values
        self._relay = state.relay
        self._allowances = state.allowances
        self._endings = endings
        self._dispatching = dispatching
        self._nodes = nodes
        self._node_keys = node_keys
        self._incarnations = 0

    def connected(self, conn: int, hello: pb.Hello, access: Access) -> None:
        """A connection said hello. Answers with Welcome, or Refused and Close."""
        refusal = refuse_hello(hello, access, self._sessions, self._placing.nodes, self._settings, self._state.version)
        if refusal is not None:
            self._state.actions += [Send(conn, pb.Frame(refused=refusal)), Close(conn)]
            return
        known = self._sessions.get(hello.session_id)
        session = known or self._new_session(hello)
        session.access = access
        self._allowances.session_came(session, self._state.now)
        self._attach(session, conn)
        welcome = pb.Welcome(
            protocol=min(PROTOCOL_VERSION, hello.protocol_max),
            features=[FEATURE_DRAIN, FEATURE_SEAL, FEATURE_ASK],
            gateway_id=self._state.gateway_id,
            resumed=known is not None,
            heartbeat_s=self._settings.heartbeat_s,
            grace_s=self._settings.grace_s,
            version=self._state.version,
            node_id=hello.node.node_id,
            incarnation=session.incarnation,
            roles=sorted(access.roles),
        )
        self._send(session, pb.Frame(welcome=welcome))
        if hello.role == pb.ROLE_NODE:
            self._node_connected(session, hello.node)
        elif session.knows_seal:
            self._node_keys.client_came(session)
        for call in session.calls.values():
            if call.withdrawn and session.knows_drain:
                self._send(session, withdrawn(call))  # before an attempt that came later announces itself
        self._relay.ask_again(session)
        self._relay.look_for_sources(self._state.now)

    def tick(self, passed_s: float) -> None:
        """Time passed. Who was away for too long is gone, who is silent counts as away, who hears nothing gets a heartbeat."""
        now = self._state.now
        for token_id in self._allowances.expired(now):
            self.token_ended(token_id, "this token has expired")
        self._allowances.tick(now)
        for session in list(self._sessions.values()):
            session.paced(passed_s)
            if session.conn is None:
                assert session.away_since is not None
                if now - session.away_since > self._settings.grace_s:
                    self._end_session(session, "it was away for longer than the grace time")
            elif now - session.heard_at > self._settings.silence_s and not self._is_known_to_live(session):
                self._state.actions.append(Close(session.conn))
                self.went_away(session)
            elif session.held_acks:
                self._state.send_held_acks(session)
            elif now - session.sent_at > self._settings.heartbeat_s:
                self._send(session, pb.Frame(heartbeat=pb.Heartbeat()))

    def token_ended(self, token_id: str, why: str) -> None:
        """All that it has opened ends at once: whoever has shown it is told why, and its calls are stopped."""
        for session in [session for session in self._sessions.values() if session.access.token_id == token_id]:
            if session.conn is not None:
                refused = pb.Refused(code=AuthError.code, message=why)
                self._state.actions.append(Send(session.conn, pb.Frame(refused=refused)))
            self._state.actions.append(EndStream(session.session_id))
            self._end_session(session, why)
        for node in self._placing.nodes.values():
            node.share.gone(TOKEN_SHARE + token_id.encode())

    def doubtful(self, now: float) -> list[int]:
        """Connections of peers that say nothing. The shell may know that their processes live, and then calls `vouch`."""
        silent_s = self._settings.silence_s / 2
        return [conn for conn, session in self._by_conn.items() if now - session.heard_at > silent_s]

    def vouch(self, conn: int, now: float) -> None:
        """The process at the other end of this connection lives, as a function that holds the interpreter lock lets it look."""
        self._by_conn[conn].vouched_at = now

    def _new_session(self, hello: pb.Hello) -> Session:
        now = self._state.now
        self._incarnations += 1
        session = Session(hello.session_id, hello.role, hello.runtime, None, now, now, now, self._incarnations)
        session.knows_drain = FEATURE_DRAIN in hello.features
        session.knows_seal = FEATURE_SEAL in hello.features and hello.role == pb.ROLE_CLIENT
        self._sessions[hello.session_id] = session
        return session

    def _attach(self, session: Session, conn: int) -> None:
        if session.conn is not None:
            self._by_conn.pop(session.conn, None)
            self._state.actions.append(Close(session.conn))
        self._by_conn[conn] = session
        session.held_acks.clear()  # lost, like those that were on their way
        session.conn = conn
        session.is_quiet = False
        session.away_since = None
        session.heard_at = self._state.now

    def _node_connected(self, session: Session, state: pb.NodeState) -> None:
        other = self._placing.nodes.get(state.node_id)
        node = session.node
        if node is None:
            node = Node(state.node_id, session, state.slots, state.price, dict(state.labels))
            node.drains(reason_of(state.drain), state.drain.leaving)
            session.node = node
            self._placing.rooms.furnish(node, state.capacity)
        elif node.drain_reason != state.drain.reason:  # it was away when somebody asked for it, or took that back
            self._send(session, pb.Frame(drain=pb.Drain(reason=node.drain_reason)))
        node.drains(node.drain_reason, state.drain.leaving)
        node.slots = state.slots
        node.set_limit()
        node.builds, node.why_it_builds_none = state.environments, state.why_no_environments[:200]
        is_known = self._placing.nodes.get(node.node_id) is node
        if not is_known or (node.identity, node.sealed_only) != (state.identity, state.sealed_only):
            node.identity, node.sealed_only = state.identity[:IDENTITY_BYTES], state.sealed_only
            self._placing.add(node)
            self._node_keys.node_changed(node.node_id)
        else:
            self._placing.add(node)
        self._placing.take_offers(node, state.offers)
        self._nodes.came_back(node, state)
        if state.values or self._values:
            self._values.node_came(session, state.values, self._state.now)
        if other is not None and other is not node:  # the name has its new owner, so calls that need it can go there
            self._end_session(other.session, "another process took its name")
        self._dispatching.fail_unplaceable()
        self._dispatching.dispatch_to(node)

    def went_away(self, session: Session) -> None:
        """Its connection ended; it has the grace time to come back."""
        assert session.conn is not None
        del self._by_conn[session.conn]
        session.conn = None
        session.away_since = self._state.now
        if session.node is not None:
            self._placing.changed(session.node)
            self._placing.circuits.has_changed = self._placing.circuits.is_open

    def _end_session(self, session: Session, why: str, said_goodbye: bool = False) -> None:
        """The peer is gone for good."""
        self._sessions.pop(session.session_id, None)
        self._allowances.session_left(session)
        if session.conn is not None:
            self._by_conn.pop(session.conn, None)
            self._state.actions.append(Close(session.conn))
            session.conn = None
        self._relay.receiver_left(session)
        self._values.session_left(session, self._state.now)
        self._relay.source_left(session)
        if session.node is not None:
            self._nodes.gone(session.node, why, said_goodbye)
            self._node_keys.node_changed(session.node.node_id)
        for call in list(session.calls.values()):
            self._endings.abandon(call, f"its client is gone: {why}")
        if self._placing.rings.session_left(session):
            self._placing.rings_changed()
        for node in self._placing.nodes.values():
            node.share.gone(session.session_id)

    def on_goodbye(self, session: Session, frame: pb.Frame) -> None:
        self._end_session(session, "it said goodbye", said_goodbye=True)

    def _is_known_to_live(self, session: Session) -> bool:
        silent_s, vouched_s = self._state.now - session.heard_at, self._state.now - session.vouched_at
        if silent_s > self._settings.hold_s or vouched_s > self._settings.silence_s / 2:
            return False
        if not session.is_quiet:
            self.set_quiet(session, True)
        return True

    def set_quiet(self, session: Session, is_quiet: bool) -> None:
        """A node that is quiet would not begin what it is sent, so others get it."""
        session.is_quiet = is_quiet
        node = session.node
        if node is not None:
            self._nodes.drain_changed(node)

    def forgive_standstill(self, gap_s: float) -> None:
        """This process stood still (a laptop asleep, SIGSTOP): the peers had no chance to be heard meanwhile."""
        if gap_s <= self._settings.silence_s / 3:
            return
        for session in self._sessions.values():
            session.heard_at = min(session.heard_at + gap_s, self._state.now)
            if session.away_since is not None:
                session.away_since = min(session.away_since + gap_s, self._state.now)
        for call in self._calls.values():
            if call.hold_until is not None:
                call.hold_until = min(call.hold_until + gap_s, self._state.now + self._settings.grace_s)
        self._values.forgive(gap_s, self._state.now)
