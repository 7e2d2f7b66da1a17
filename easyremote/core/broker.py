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
"""

from __future__ import annotations

from collections.abc import Iterable

from easyremote.config import FEATURE_DRAIN, PROTOCOL_VERSION, GatewaySettings
from easyremote.core import retrying
from easyremote.core.admission import refuse_hello, refuse_overload, refuse_submit
from easyremote.core.alarms import Alarms
from easyremote.core.answers import answer, node_record
from easyremote.core.client_session import ATTEMPTS_PER_GATEWAY, runs_at_least
from easyremote.core.draining import ENDING, MAX_HANDED_BACK, RETRY_AFTER_S, no_node_to_drain, reason_of
from easyremote.core.explaining import as_text, explain, in_short
from easyremote.core.invariants import check
from easyremote.core.nesting import Nesting
from easyremote.core.placing import Placing, circuit_of, queue_key
from easyremote.core.queues import Queues
from easyremote.core.records import (
    LONGEST_S,
    MAX_ATTEMPT,
    MAX_SLOTS,
    Action,
    AskKeeper,
    Call,
    Close,
    Node,
    QueueKey,
    Send,
    SendChunk,
    Session,
)
from easyremote.core.relay import Relay
from easyremote.core.rooms import holdings
from easyremote.core.transitions import UNREPEATABLE, CallEvent, CallState
from easyremote.core.values import Values
from easyremote.wire.v1 import gateway_pb2 as pb

EXPLAINED_ANEW_S = 0.5
"""Errors of calls of one key that end within so long have the same explanation."""


class Broker:
    """Takes what happened and the time, and returns what to do. `gateway_id` is random, made by the shell."""

    def __init__(self, gateway_id: bytes, settings: GatewaySettings, version: str, now: float) -> None:
        self.settings = settings
        self.gateway_id = gateway_id
        self.version = version
        self.started_at = now
        self.unknown_frames = 0
        self.keeper_id = b""  # session of the gateway's own client that keeps jobs, where there is one
        self._sessions: dict[bytes, Session] = {}
        self._by_conn: dict[int, Session] = {}
        self._calls: dict[bytes, Call] = {}
        self._alarms = Alarms(self._calls)
        self._queues = Queues()
        self._placing = Placing(settings.default_strategy)
        self._values = Values(self._send, lambda ref_id: self._relay.value_left(ref_id), 2 * settings.grace_s)
        self._placing.missing_s = self._values.missing_s
        self._nesting = Nesting(self._calls)
        self._relay = Relay(self._calls, self._send, self._send_chunk, self._values, now + settings.grace_s)
        self._incarnations = 0
        self._submissions = 0
        self._is_ending = False  # it takes no new calls
        self._now = now
        self._ticked_at = now
        self._explained: tuple[QueueKey | None, float, pb.Explanation] = (None, 0.0, pb.Explanation())
        self._actions: list[Action] = []

    # ---- what happened -------------------------------------------------------------------------------------------

    def connected(self, conn: int, hello: pb.Hello, now: float) -> list[Action]:
        """A connection said hello. Answers with Welcome, or Refused and Close."""
        self._now = now
        refusal = refuse_hello(hello, self._sessions, self._placing.nodes, self.settings, self.version)
        if refusal is not None:
            self._actions += [Send(conn, pb.Frame(refused=refusal)), Close(conn)]
            return self._take()
        known = self._sessions.get(hello.session_id)
        session = known or self._new_session(hello)
        self._attach(session, conn)
        welcome = pb.Welcome(
            protocol=min(PROTOCOL_VERSION, hello.protocol_max),
            features=[FEATURE_DRAIN],
            gateway_id=self.gateway_id,
            resumed=known is not None,
            heartbeat_s=self.settings.heartbeat_s,
            grace_s=self.settings.grace_s,
            version=self.version,
            node_id=hello.node.node_id,
            incarnation=session.incarnation,
        )
        self._send(session, pb.Frame(welcome=welcome))
        if hello.role == pb.ROLE_NODE:
            self._node_connected(session, hello.node)
        for call in session.calls.values():
            if call.withdrawn and session.knows_drain:
                self._send(session, _withdrawn(call))  # before an attempt that came later announces itself
        self._relay.ask_again(session)
        self._relay.look_for_sources(now)
        return self._take()

    def received(self, conn: int, frames: Iterable[pb.Frame], now: float) -> list[Action]:
        """Frames came in. Those of a connection that was replaced, or that follow a goodbye, are dropped."""
        self._now = now
        session = self._by_conn.get(conn)
        if session is None:
            return []
        session.heard_at = now
        if session.is_quiet:
            self._set_quiet(session, False)
        self._placing.batch_begins()
        for frame in frames:
            handler = _HANDLERS.get(frame.WhichOneof("body"))
            if handler is None:
                self.unknown_frames += 1
                continue
            handler(self, session, frame)
            if session.conn != conn:
                break
        return self._take()

    def disconnected(self, conn: int, now: float) -> list[Action]:
        """A connection ended without a goodbye."""
        self._now = now
        session = self._by_conn.get(conn)
        if session is not None:
            self._went_away(session)
        return self._take()

    def chunk(self, session_id: bytes, chunk: pb.Chunk, size: int | None = None) -> bytes | None:
        """A chunk came from its owner: the session that it goes to, or None when nobody waits for it any more.

        `size`: of its data, in bytes, where that isn't in it.
        """
        return self._relay.chunk(session_id, chunk, len(chunk.data) if size is None else size)

    def knows(self, session_id: bytes) -> bool:
        """Whether a transfer stream may be attached to this session."""
        return session_id in self._sessions

    def connection_of(self, session_id: bytes) -> int | None:
        """The connection that this session has now."""
        session = self._sessions.get(session_id)
        return session.conn if session is not None else None

    def drain(self, now: float) -> list[Action]:
        """Take no new calls from now on: this process is about to end."""
        self._now = now
        self._is_ending = True
        for call in [call for line in self._queues.by_key.values() for call in line]:
            self._hand_to_client(call)
        return self._take()

    @property
    def open_count(self) -> int:
        """Calls that a node has, those included whose end isn't acknowledged."""
        return sum(len(node.calls) for node in self._placing.nodes.values())

    def tick(self, now: float) -> list[Action]:
        """Time passed. Call it at least twice a second."""
        self._now = now
        passed_s = now - self._ticked_at
        self._forgive_standstill(passed_s)
        has_less = self._placing.time_passed(passed_s, now)
        self._placing.circuits.tick(now)
        self._ticked_at = now
        for session in list(self._sessions.values()):
            session.paced(passed_s)
            if session.conn is None:
                assert session.away_since is not None
                if now - session.away_since > self.settings.grace_s:
                    self._end_session(session, "it was away for longer than the grace time")
            elif now - session.heard_at > self.settings.silence_s and not self._is_known_to_live(session):
                self._actions.append(Close(session.conn))
                self._went_away(session)
            elif session.held_acks:
                self._send_held_acks(session)
            elif now - session.sent_at > self.settings.heartbeat_s:
                self._send(session, pb.Frame(heartbeat=pb.Heartbeat()))
        for call in self._alarms.ring(now):
            if call.due <= now and self._calls.get(call.call_id) is call:  # another's time may have changed its own
                self._expire(call)
            if call.call_id in self._calls:
                self._alarms.set(call)
        self._fail_unplaceable(only_limited=not has_less)
        if self._queues.by_key:
            self._placing.keeping.tick(self._queues, self._placing.with_terms, now)
        self._values.tick(now)
        self._relay.look_for_sources(now)
        return self._take()

    def doubtful(self, now: float) -> list[int]:
        """Connections of peers that say nothing. The shell may know that their processes live, and then calls `vouch`."""
        silent_s = self.settings.silence_s / 2
        return [conn for conn, session in self._by_conn.items() if now - session.heard_at > silent_s]

    def vouch(self, conn: int, now: float) -> None:
        """The process at the other end of this connection lives, as a function that holds the interpreter lock lets it look."""
        self._by_conn[conn].vouched_at = now

    def _is_known_to_live(self, session: Session) -> bool:
        silent_s, vouched_s = self._now - session.heard_at, self._now - session.vouched_at
        if silent_s > self.settings.hold_s or vouched_s > self.settings.silence_s / 2:
            return False
        if not session.is_quiet:
            self._set_quiet(session, True)
        return True

    def _set_quiet(self, session: Session, is_quiet: bool) -> None:
        """A node that is quiet would not begin what it is sent, so others get it."""
        session.is_quiet = is_quiet
        node = session.node
        if node is not None:
            self._drain_changed(node)

    def _forgive_standstill(self, gap_s: float) -> None:
        """This process stood still (a laptop asleep, SIGSTOP): the peers had no chance to be heard meanwhile."""
        if gap_s <= self.settings.silence_s / 3:
            return
        for session in self._sessions.values():
            session.heard_at = min(session.heard_at + gap_s, self._now)
            if session.away_since is not None:
                session.away_since = min(session.away_since + gap_s, self._now)
        for call in self._calls.values():
            if call.hold_until is not None:
                call.hold_until = min(call.hold_until + gap_s, self._now + self.settings.grace_s)
        self._values.forgive(gap_s, self._now)

    # ---- sessions ------------------------------------------------------------------------------------------------

    def _new_session(self, hello: pb.Hello) -> Session:
        now = self._now
        self._incarnations += 1
        session = Session(hello.session_id, hello.role, hello.runtime, None, now, now, now, self._incarnations)
        session.knows_drain = FEATURE_DRAIN in hello.features
        self._sessions[hello.session_id] = session
        return session

    def _attach(self, session: Session, conn: int) -> None:
        if session.conn is not None:
            self._by_conn.pop(session.conn, None)
            self._actions.append(Close(session.conn))
        self._by_conn[conn] = session
        session.held_acks.clear()  # lost, like those that were on their way
        session.conn = conn
        session.is_quiet = False
        session.away_since = None
        session.heard_at = self._now

    def _went_away(self, session: Session) -> None:
        assert session.conn is not None
        del self._by_conn[session.conn]
        session.conn = None
        session.away_since = self._now
        if session.node is not None:
            self._placing.changed(session.node)
            self._placing.circuits.has_changed = self._placing.circuits.is_open

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
        self._placing.add(node)
        self._placing.take_offers(node, state.offers)
        held = {(attempt.call_id, attempt.attempt) for attempt in state.attempts}
        grants = holdings(state)
        for call in [call for call in node.calls.values() if (call.call_id, call.attempt) not in held]:
            self._not_there(call, node)
        for attempt in state.attempts:
            self._claim(node, attempt, grants.get((attempt.call_id, attempt.attempt)))
        if state.values or self._values:
            self._values.node_came(session, state.values, self._now)
        if other is not None and other is not node:  # the name has its new owner, so calls that need it can go there
            self._end_session(other.session, "another process took its name")
        self._fail_unplaceable()
        self._dispatch_to(node)

    def _not_there(self, call: Call, node: Node) -> None:
        """The node came back without this call."""
        if call.state is not CallState.ASSIGNED:
            self._attempt_lost(call, node, "it came back without it")
            return
        self._unassign(call)  # the connection broke before the node had it: it never ran, so the number is free again
        call.attempt -= 1
        call.runs -= 1
        if call.is_abandoned or call.client is None:
            self._drop(call)
        else:
            self._enqueue_again(call)

    def _claim(self, node: Node, state: pb.AttemptState, grant: pb.Grant | None) -> None:
        """A node that came back says that it holds this attempt, and what that has there."""
        call = self._calls.get(state.call_id)
        if not 1 <= state.attempt <= MAX_ATTEMPT or len(state.call_id) != 16:
            self._forget_at(node, state.call_id, state.attempt)
            return
        if call is None:
            call = self._adopt(node, state, grant)
        elif call.node is node and call.attempt == state.attempt:
            self._skip_tasks(call)  # it was there all the time, and may not have heard
        elif _is_newer(state, call):
            self._take_over(call, node, state, grant)
        else:
            self._forget_at(node, state.call_id, state.attempt)
            return
        if call.is_abandoned:
            self._cancel_at(node, call, "nobody waits for it any more")

    def _adopt(self, node: Node, state: pb.AttemptState, grant: pb.Grant | None) -> Call:
        """The gateway was restarted and the call's client isn't back yet: keep a place for it."""
        call = self._new_call(pb.Frame(submit=pb.Submit(call_id=state.call_id)), None, CallState.HELD)
        self._calls[call.call_id] = call
        self._take_over(call, node, state, grant)
        return call

    def _take_over(self, call: Call, node: Node, state: pb.AttemptState, grant: pb.Grant | None) -> None:
        """Go on with this attempt instead of waiting for one, or instead of an older one."""
        if call.node is not None:
            self._forget_at(call.node, call.call_id, call.attempt)
            self._unassign(call)
            if call.state is CallState.ENDED:
                call.to(CallEvent.RERUN)
        call.attempt, call.runs = state.attempt, runs_at_least(state.attempt)
        call.passed_seq = call.submit.seen_seq if call.submit.seen_attempt == call.attempt else 0
        call.is_claimed = True
        call.hold_until = self._now + self.settings.grace_s if call.client is None else None
        self._alarms.set(call)
        call.grant = grant
        self._assign(call, node, CallEvent.CLAIMED)
        if call.client is not None:
            self._send(node.session, self._resume(call))

    def _end_session(self, session: Session, why: str, said_goodbye: bool = False) -> None:
        """The peer is gone for good."""
        self._sessions.pop(session.session_id, None)
        if session.conn is not None:
            self._by_conn.pop(session.conn, None)
            self._actions.append(Close(session.conn))
            session.conn = None
        self._relay.receiver_left(session)
        self._values.session_left(session, self._now)
        self._relay.source_left(session)
        if session.node is not None:
            self._node_gone(session.node, why, said_goodbye)
        for call in list(session.calls.values()):
            self._abandon(call, f"its client is gone: {why}")
        for node in self._placing.nodes.values():
            node.share.gone(session.session_id)

    def _node_gone(self, node: Node, why: str, said_goodbye: bool) -> None:
        self._placing.remove(node)
        if node.running_count:
            self._placing.lost_calls(node)
            if not said_goodbye:
                self._placing.circuits.lost(node.node_id, self._now)
        if said_goodbye:
            self._placing.circuits.forget(node.node_id)
        for call in list(node.calls.values()):
            self._attempt_lost(call, node, why)
        self._fail_unplaceable()

    # ---- calls ---------------------------------------------------------------------------------------------------

    def _on_submit(self, session: Session, frame: pb.Frame) -> None:
        submit = frame.submit
        if session.node is not None:
            self.unknown_frames += 1  # a node makes no calls
            return
        problem = refuse_submit(submit)
        known = self._calls.get(submit.call_id)
        if known is not None and known.client is None and submit.seen_attempt > known.attempt:
            self._forget_outdated(known)
            known = None
        if problem is None and known is None:
            problem = self._refuse_overload(session)
        if problem is None and known is None and submit.options.parent_id:
            problem = self._nesting.refuse(submit)
        if problem is not None:  # told, and not kept
            self._send(session, pb.Frame(verdict=pb.Verdict(call_id=submit.call_id, error=problem)))
        elif known is not None:
            self._resubmitted(known, frame, session)
        else:
            self._submitted(frame, session)

    def _refuse_overload(self, session: Session) -> pb.ErrorInfo | None:
        if session.session_id == self.keeper_id:
            return None  # it has bounds of its own
        return refuse_overload(session, self._queues.bytes, self.settings)

    def _submitted(self, frame: pb.Frame, session: Session) -> None:
        call = self._new_call(frame, session, CallState.QUEUED)
        submit = call.submit
        self._calls[call.call_id] = call
        session.calls[call.call_id] = call
        call.seen_on = session.conn
        if submit.seen_attempt:
            call.attempt, call.runs = submit.seen_attempt, runs_at_least(submit.seen_attempt)
            _note_seen(call, submit)
        may_be_at_a_node = (submit.again and self._retries(call) > 0) or call.was_allowed
        if may_be_at_a_node or submit.nodes_may_return:
            call.hold_until = self._now + self.settings.grace_s
        if may_be_at_a_node:
            call.state = CallState.HELD
            self._alarms.set(call)
        elif submit.hedge_of:
            self._place_copy(call, session)
        else:
            call.attempt = max(call.attempt, submit.attempt_floor)
            self._enqueue(call)
            if self._is_ending:
                self._hand_to_client(call)

    def _place_copy(self, copy: Call, session: Session) -> None:
        """A second copy of a call that runs too long: to another node that has a slot free now, or nowhere."""
        first = self._calls.get(copy.submit.hedge_of) if not self._is_ending else None
        node = None
        if first is not None and first.client is session and first.node is not None and first.occupies_slot:
            copy.submit.options.not_on.append(first.node.node_id)
            node = self._placing.choose(copy)
            if node is first.node or (node is not None and node.running_count >= node.slots):
                node = None
        if node is not None:
            self._dispatch(copy, node)
        else:
            refused = pb.ErrorInfo(code="unavailable", message="no other node is free for a second copy")
            refused.details["copy"] = "refused"
            self._fail(copy, refused)

    def _new_call(self, frame: pb.Frame, client: Session | None, state: CallState) -> Call:
        self._submissions += 1
        submit = frame.submit
        call = Call(submit.call_id, queue_key(submit), frame, submit, client, state, self._now, self._submissions)
        if submit.refs:
            call.refs = tuple(submit.refs)
        self._set_deadlines(call)
        return call

    def _set_deadlines(self, call: Call) -> None:
        options = call.submit.options
        if options.timeout_s != 0:
            call.deadline = self._now + options.timeout_s
        if options.queue_timeout_s > 0:
            call.queue_deadline = self._now + options.queue_timeout_s

    def _forget_outdated(self, call: Call) -> None:
        """What a node brought back is an attempt before the one that the client has seen."""
        assert call.node is not None, "a call without a client is at a node"
        self._forget_at(call.node, call.call_id, call.attempt)
        self._drop(call)

    def _resubmitted(self, call: Call, frame: pb.Frame, session: Session) -> None:
        """The call's client came back, perhaps to a gateway that knows the call only from its node."""
        submit = frame.submit
        if call.client is None:
            self._take_back(call, frame, session)
        elif call.client is not session:
            return  # ids are random: a foreign one is not this session's business
        if call.seen_on != session.conn:
            call.sent_item = False  # what was on its way is lost with the connection; `submit` tells what wasn't
        call.seen_on = session.conn
        if call.withdrawn and submit.seen_attempt == call.withdrawn:
            submit.seen_attempt = submit.seen_seq = submit.taken_seq = 0  # it didn't know yet when it wrote this
        _note_seen(call, submit)
        if call.is_abandoned:
            self._run_abandoned_again(call)
        elif call.verdict is not None:
            self._send(session, call.verdict)
        elif call.node is not None:
            self._send(call.node.session, self._resume(call))
            call.changed_submit().skipped_tasks[:] = submit.skipped_tasks
            self._skip_tasks(call)
        elif call.state is CallState.ENDED and not submit.seen_end:
            self._run_again(call, "", "its node vanished before the result was collected")

    def _take_back(self, call: Call, frame: pb.Frame, session: Session) -> None:
        call.client = session
        call.frame, call.submit, call.is_handed_over = frame, frame.submit, False
        if call.node is not None:
            call.node.trying.discard(call.key.function)  # it wasn't known what it runs
        call.key = queue_key(call.submit)
        call.refs = tuple(call.submit.refs)
        call.hold_until = None
        self._set_deadlines(call)
        session.calls[call.call_id] = call
        self._relay.ask_again(session)

    def _run_abandoned_again(self, call: Call) -> None:
        """Its client was given up, so its attempt is being stopped; now the client is back."""
        assert call.node is not None, "an abandoned call is at a node"
        self._forget_at(call.node, call.call_id, call.attempt)
        self._unassign(call)
        call.is_abandoned = False
        self._run_again(call, "", "its client was away for longer than the grace time")

    def _resume(self, call: Call) -> pb.Frame:
        resume = pb.Resume(call_id=call.call_id, attempt=call.attempt)
        if call.submit.seen_attempt == call.attempt:
            resume.after_seq = call.submit.seen_seq
            resume.taken_seq = call.submit.taken_seq
        return pb.Frame(resume=resume)

    def _enqueue(self, call: Call) -> None:
        if call.submit.options.parent_id:
            self._nesting.came(call)
        if call.key not in self._queues.by_key and not self._is_ending:
            node = self._placing.choose(call)
            if node is not None and not self._placing.waits(call, node, self._queues, self._now):
                self._dispatch(call, node)
                return
        self._queues.push(call)
        self._alarms.set(call)
        self._check_place(call)

    def _enqueue_again(self, call: Call) -> None:
        """Back to the head of its client's queue, where it was; its time to wait for a node begins anew."""
        if call.queue_deadline is not None:
            call.queue_deadline = self._now + call.submit.options.queue_timeout_s
        self._alarms.set(call)
        if call.submit.options.parent_id:
            self._nesting.came(call)
        self._queues.push_front(call)
        self._drain_queue(call.key)

    def _check_place(self, call: Call) -> None:
        """End a waiting call that no node here could ever take, unless it is to wait for one."""
        if call.state is CallState.QUEUED and call.queue_deadline is None and call.hold_until is None:
            if self._is_ending:
                return  # its client will come to the next gateway with it
            problem = self._placing.problem(call)
            if problem is not None:
                self._queues.remove(call)
                if call.runs:
                    problem.code = "lost"
                    problem.message = f"{retrying.what_happened(call)}, and now {problem.message}"
                if problem.code != "function_not_found":
                    problem.details["why"] = as_text(self._in_the_way(call))
                self._fail(call, problem)

    def _fail_unplaceable(self, only_limited: bool = False) -> None:
        """Calls that wait for nodes that won't come back, or that have become too dear, end here."""
        for key in [key for key in self._queues.by_key if key.cost_limit or not only_limited]:
            if not self._placing.has_place(key):
                for call in list(self._queues.by_key[key]):
                    self._check_place(call)

    def _fail(self, call: Call, error: pb.ErrorInfo) -> None:
        """End a call that no node will end."""
        assert call.client is not None, "whoever waits has a client"
        if call.family is not None:
            self._nesting.left(call)
        call.to(CallEvent.ENDED)
        call.hold_until = None
        error.may_have_run = call.runs > 0
        error.earlier.extend(call.submit.earlier)
        call.verdict = pb.Frame(verdict=pb.Verdict(call_id=call.call_id, error=error))
        self._send(call.client, call.verdict)

    def _drop(self, call: Call) -> None:
        """Forget the call here. Nothing is told to anyone."""
        self._calls.pop(call.call_id, None)
        self._relay.call_left(call)
        if call.state is CallState.QUEUED:
            self._queues.remove(call)
        if call.client is not None:
            call.client.calls.pop(call.call_id, None)
            call.client.left += 1
        self._unassign(call)
        if call.family is not None:
            self._nesting.left(call)

    def _abandon(self, call: Call, why: str) -> None:
        """Its client doesn't want it any more."""
        if call.node is None:
            self._drop(call)
            return
        if call.client is not None:
            call.client.calls.pop(call.call_id, None)
            call.client = None
        call.is_abandoned = True
        if call.state is CallState.ENDED:
            self._forget_at(call.node, call.call_id, call.attempt)
            self._drop(call)
        else:
            self._cancel_at(call.node, call, why)

    def _cancel_at(self, node: Node, call: Call, why: str) -> None:
        cancel = pb.Cancel(call_id=call.call_id, attempt=call.attempt, reason=why)
        self._send(node.session, pb.Frame(cancel=cancel))

    def _forget_at(self, node: Node, call_id: bytes, attempt: int) -> None:
        self._send(node.session, pb.Frame(forget=pb.Forget(call_id=call_id, attempt=attempt)))

    def _on_cancel(self, session: Session, frame: pb.Frame) -> None:
        call = self._calls.get(frame.cancel.call_id)
        if call is None or call.client is not session:
            return
        if frame.cancel.tasks:
            call.changed_submit().skipped_tasks.extend(frame.cancel.tasks)
            self._skip_tasks(call)
        else:
            self._abandon(call, frame.cancel.reason[:1000])

    def _skip_tasks(self, call: Call) -> None:
        """Tell its node which tasks of a bundle aren't wanted; a node that it has yet to come to sees it in the Submit."""
        tasks = call.submit.skipped_tasks
        if tasks and call.node is not None:
            cancel = pb.Cancel(call_id=call.call_id, attempt=call.attempt, tasks=tasks)
            self._send(call.node.session, pb.Frame(cancel=cancel))

    def _on_synced(self, session: Session, frame: pb.Frame) -> None:
        """A client that came back has repeated all calls that it still wants."""
        for call in [call for call in session.calls.values() if call.seen_on != session.conn]:
            self._abandon(call, "its client doesn't want it any more")

    def _on_ack(self, session: Session, frame: pb.Frame) -> None:
        by_node: dict[Node, list[pb.Acknowledged]] = {}
        for item in frame.ack.calls:
            call = self._calls.get(item.call_id)
            if call is None or call.client is not session:
                continue
            node = call.node
            if node is not None:
                by_node.setdefault(node, []).append(item)
            if item.attempt != call.withdrawn or not item.attempt:
                call.was_allowed = True
            if item.ended:
                self._taken_to_the_end(call, item.attempt)
        for node, items in by_node.items():
            if node.is_here and node.holds_acks(items):
                node.session.held_acks += items
            else:
                is_all_of_it = len(items) == len(frame.ack.calls)
                self._send(node.session, frame if is_all_of_it else pb.Frame(ack=pb.Ack(calls=items)))

    def _taken_to_the_end(self, call: Call, attempt: int) -> None:
        """The client has all that it wanted, whatever is known of it here."""
        node = call.node if call.occupies_slot else None
        if call.state is CallState.ENDED or call.attempt == attempt:
            self._drop(call)
        else:
            self._abandon(call, "another attempt has ended it")
        if node is not None:
            self._dispatch_to(node)

    # ---- what nodes report ---------------------------------------------------------------------------------------

    def _on_event(self, session: Session, frame: pb.Frame) -> None:
        event = frame.event
        node = session.node
        if node is None:
            return
        call = self._calls.get(event.call_id)
        if call is None or call.node is not node or call.attempt != event.attempt:
            self._forget_at(node, event.call_id, event.attempt)
            return
        body = event.WhichOneof("body")
        client = call.client
        if body in UNREPEATABLE:
            call.sent_item = True
            call.failed_tasks += body == "failure"
        if body in ("result", "error"):
            self._attempt_ended(call, node, event, failed=body == "error")
            if body == "error" and event.error.retriable and self._tries_again(call, node, event.error):
                return
        elif call.state is not CallState.RUNNING:
            call.to(CallEvent.STARTED)
        if client is not None:
            if event.seq == call.passed_seq + 1 and client.conn is not None:
                call.passed_seq = event.seq
            self._send(client, frame)

    def _attempt_ended(self, call: Call, node: Node, event: pb.Event, failed: bool) -> None:
        first_time = call.occupies_slot
        call.end_seq = event.seq
        if first_time and self._queues.by_key:
            node.something_waits()
            if event.run_s > 0:
                node.share.correct(call.owner, min(event.run_s, LONGEST_S) - call.charged_s)
        call.to(CallEvent.ENDED)
        if first_time:
            node.running_count -= 1
            needs_slot = call.grant is None or call.grant.slots > 0
            self._release(call, node)
            if event.run_s > 0:
                node.learn(call.submit.function, event.run_s, len(call.submit.tasks) or 1, failed, needs_slot)
            is_to_blame = failed and not call.is_abandoned and event.error.code not in _ENDED_FROM_OUTSIDE
            node.ended(call, failed, is_to_blame, self._now)
            if failed or self._placing.circuits.is_used:
                self._note_for_circuits(call, node, event, is_to_blame)
            self._placing.changed(node)
        if call.is_abandoned:
            self._forget_at(node, call.call_id, call.attempt)
            self._drop(call)
        if first_time:
            self._dispatch_to(node)

    def _note_for_circuits(self, call: Call, node: Node, event: pb.Event, is_to_blame: bool) -> None:
        if call.is_claimed:
            return  # what was sent to try a node was sent by this gateway
        circuits, function = self._placing.circuits, circuit_of(call.key)
        tasks = len(call.submit.tasks)
        if is_to_blame:
            circuits.failed(node.node_id, function, call.call_id, event.error, self._now)
        elif event.HasField("error"):
            circuits.left(node.node_id, function, call.call_id)
        elif tasks and call.failed_tasks >= tasks:  # a bundle ends well though all its tasks have failed
            error = pb.ErrorInfo(code="remote", message="all calls of a bundle raised")
            circuits.failed(node.node_id, function, call.call_id, error, self._now)
        else:
            circuits.succeeded(node.node_id, function)

    def _tries_again(self, call: Call, node: Node, error: pb.ErrorInfo) -> bool:
        """Its attempt ended with an error after which it may be run again: its client needn't know of it."""
        if call.node is not node or call.client is None or call.submit.seen_end:
            return False  # nobody waits, or who does comes back first
        wait_s = retrying.wait_s(call)
        why_not = retrying.why_not(call, self._retries(call), wait_s, self._now)
        if why_not:
            error.details["not_again"] = why_not
            return False
        self._forget_at(node, call.call_id, call.attempt)
        self._unassign(call)
        call.to(CallEvent.RETRIED)
        retrying.note_end(call, error, node.node_id)
        call.retry_at = self._now + wait_s
        if wait_s:
            self._alarms.set(call)
        else:
            self._waited_after_error(call)
        return True

    def _waited_after_error(self, call: Call) -> None:
        call.retry_at = None
        call.to(CallEvent.RERUN)
        self._enqueue_again(call)
        self._check_place(call)

    def _attempt_lost(self, call: Call, node: Node, why: str) -> None:
        """The node is gone with this attempt. One that had ended is on its way to the client, who asks again if it isn't."""
        had_ended = call.end_has_passed
        self._unassign(call)
        if call.is_abandoned or call.client is None:
            self._drop(call)
        elif not had_ended:
            self._run_again(call, node.node_id, why)

    def _on_handed_back(self, session: Session, frame: pb.Frame) -> None:
        node = session.node
        if node is None:
            return
        for state in frame.handed_back.attempts:
            call = self._calls.get(state.call_id)
            if call is None or call.node is not node or call.attempt != state.attempt:
                self._forget_at(node, state.call_id, state.attempt)
            elif call.occupies_slot:
                self._forget_at(node, state.call_id, state.attempt)
                self._not_begun(call, node)
            # else its end came before, which no node of ours would do

    def _not_begun(self, call: Call, node: Node) -> None:
        """Its node hands it back. Unlike `_not_there` its number is used up: the node may claim it at a gateway to come."""
        if call.sent_item or call.attempt % ATTEMPTS_PER_GATEWAY > MAX_HANDED_BACK:
            self._attempt_lost(call, node, "it was handed back")
            return
        has_announced = call.state is CallState.RUNNING
        self._unassign(call)
        call.runs = max(call.runs - 1, 0)
        if call.is_abandoned or call.client is None:
            self._drop(call)
            return
        if has_announced:
            call.withdrawn, call.was_allowed = call.attempt, False
            if call.client.knows_drain:
                self._send(call.client, _withdrawn(call))
        self._enqueue_again(call)
        if self._is_ending:
            self._hand_to_client(call)
        self._check_place(call)

    def _hand_to_client(self, call: Call) -> None:
        """This gateway won't place it any more. What may have been at a node its client brings to the next one anyway."""
        if call.runs or call.was_allowed or call.submit.again or call.state is not CallState.QUEUED:
            return
        client = call.client
        assert client is not None, "whoever waits has a client"
        if not client.knows_drain:
            self._queues.remove(call)
            self._fail(call, pb.ErrorInfo(code="unavailable", message=ENDING, retry_after_s=RETRY_AFTER_S))
            return
        self._drop(call)
        state = pb.AttemptState(call_id=call.call_id, attempt=call.attempt)
        self._send(client, pb.Frame(handed_back=pb.HandedBack(attempts=[state])))

    def _hold_expired(self, call: Call) -> None:
        """No node came back with it in time. It may have run, under numbers that were given out before the restart."""
        self._relay.attempt_left(call)
        call.attempt = max(call.attempt, call.submit.attempt_floor)
        if call.submit.seen_end:
            call.to(CallEvent.ENDED)  # the client has its last event, and will take it or ask again
            return
        call.to(CallEvent.HOLD_EXPIRED)
        self._run_again(call, "", "no node came back with it after the gateway was restarted")

    def _run_again(self, call: Call, lost_node_id: str, why: str) -> None:
        """Give the call to another node, or say that it is lost."""
        if call.state is CallState.ENDED:
            call.to(CallEvent.RERUN)
        retries = self._retries(call)
        if retries == 0 and not call.was_allowed:
            call.runs = 0  # it waited for its client's word
        if call.submit.hedge_of:
            reason = "it was a second copy, which isn't run again"
        elif call.sent_item:
            reason = "it had delivered items already, so it isn't run again"
        elif call.runs > retries:
            reason = f"it had run {retrying.times(call.runs)} and {retries} retries are allowed"
        else:
            if self._placing.may_come_to(call.key) or call.queue_deadline is not None or self._is_ending:
                retrying.note_end(call, pb.ErrorInfo(code="lost", message=why), lost_node_id)
                self._enqueue_again(call)
                return
            reason = "no other node can run it"
        where = (
            f"node '{lost_node_id}' vanished with '{call.title}' ({why})" if lost_node_id else f"'{call.title}': {why}"
        )
        text = f"{where}; {reason}. {'It may have run' if call.runs else 'It never ran'}"
        error = pb.ErrorInfo(code="lost", message=text, node_id=lost_node_id)
        if retries == 0:
            error.details["retries"] = "0"
        self._fail(call, error)

    def _retries(self, call: Call) -> int:
        return retrying.allowed(call, self.settings.default_retries)

    def _assign(self, call: Call, node: Node, event: CallEvent) -> None:
        call.to(event)
        call.node = node
        call.sent_at = self._now
        node.calls[call.call_id] = call
        node.running_count += 1
        if call.family is not None:
            self._nesting.begins(call, call.family, node)
        if call.grant is not None:
            node.room.hold(call.grant)
            node.set_limit()
        node.is_out_of_sight = False
        if call.key.function not in node.durations:
            node.trying.add(call.key.function)
        self._placing.changed(node)

    def _unassign(self, call: Call) -> None:
        node = call.node
        if node is None:
            return
        self._relay.attempt_left(call)
        if call.occupies_slot:
            if self._placing.circuits.is_open:
                self._placing.circuits.left(node.node_id, circuit_of(call.key), call.call_id)
            node.running_count -= 1
            self._release(call, node)
            node.trying.discard(call.key.function)
            self._placing.changed(node)
            if node.is_here:
                self._placing.rooms.freed[node] = None  # another call may have waited for its slot
        node.calls.pop(call.call_id, None)
        call.node = None
        call.to(CallEvent.NODE_LOST)

    def _release(self, call: Call, node: Node) -> None:
        """The attempt holds nothing there any more."""
        if call.family is not None:
            self._nesting.ends(call, call.family, node)
        grant, call.grant = call.grant, None
        if grant is not None:
            if grant.counts_as and not grant.slots:
                grant = self._inherited(grant, node)
            node.room.release(grant)
            node.set_limit()
            self._placing.rooms.released(node, grant, self._placing.nodes)

    def _inherited(self, grant: pb.Grant, node: Node) -> pb.Grant:
        """What calls that run together need is held by one of them, and by another when that one ends: what comes back then."""
        light = pb.Grant(counts_as=grant.counts_as)
        if grant != light:
            for call in node.calls.values():
                if call.grant == light:
                    call.grant = grant
                    return light
        return grant

    def _on_offers(self, session: Session, frame: pb.Frame) -> None:
        node = session.node
        if node is None:
            return
        if frame.offers.slots:
            node.slots = min(frame.offers.slots, MAX_SLOTS)
            node.set_limit()
        self._placing.take_offers(node, frame.offers.offers)
        self._send(session, pb.Frame(offers_taken=pb.OffersTaken(revision=frame.offers.revision)))
        self._fail_unplaceable()
        self._dispatch_to(node)

    def _on_load(self, session: Session, frame: pb.Frame) -> None:
        if session.node is not None:
            self._placing.loaded(session.node, frame.load, self._now)

    def _on_drain(self, session: Session, frame: pb.Frame) -> None:
        node = session.node
        if node is not None:
            node.is_leaving = frame.drain.leaving
            self._drain_changed(node)

    def _drain_changed(self, node: Node) -> None:
        node.drains(node.drain_reason, node.is_leaving)
        if node.is_shut:
            self._placing.keeping.left(node)
        self._placing.circuits.has_changed = self._placing.circuits.is_open
        self._placing.changed(node)
        self._fail_unplaceable()
        self._dispatch_to(node)

    def _on_goodbye(self, session: Session, frame: pb.Frame) -> None:
        self._end_session(session, "it said goodbye", said_goodbye=True)

    def _on_heartbeat(self, session: Session, frame: pb.Frame) -> None:
        pass  # hearing it was all

    # ---- placing -------------------------------------------------------------------------------------------------

    def _dispatch(self, call: Call, node: Node) -> None:
        """Send the call to this node, unless its time is over."""
        if call.deadline is not None and self._now >= call.deadline:
            self._timed_out(call)
            return
        self._placing.dispatches += 1
        node.last_used = self._placing.dispatches
        call.attempt += 1
        call.runs += 1
        call.passed_seq = 0
        call.is_claimed = False
        call.failed_tasks = 0
        call.hold_until = None
        call.declined_at = None
        if not node.share.is_at_rest:
            node.charge(call)
        if node.has_terms or call.key.needs is not None:
            call.grant = self._placing.grant(call.key, node)
        if call.family is not None and call.family.may_go_beside(node) and node.free_slots < _slots_of(call):
            call.family.is_beside = True
            call.grant = call.grant or pb.Grant()
            call.grant.slots = 0
        self._assign(call, node, CallEvent.DISPATCHED)
        if self._placing.circuits.is_open:
            self._placing.circuits.sent(node.node_id, circuit_of(call.key), call.call_id)
        submit = call.changed_submit()
        if call.grant is not None:
            submit.grant.CopyFrom(call.grant)
        elif submit.HasField("grant"):
            submit.ClearField("grant")
        if call.deadline is not None:
            submit.options.timeout_s = call.deadline - self._now
        submit.attempt = call.attempt
        if node.rules:
            retrying.take_rules(call, node)
        if self.settings.default_retries == 0 and not submit.options.idempotent:
            submit.options.retries_set = True  # so that the node knows
        call.is_handed_over = True
        self._send(node.session, call.frame)

    def _drain_queue(self, key: QueueKey) -> None:
        """Send what waits under this key to whoever has credit."""
        while (call := self._queues.head(key)) is not None and not self._is_ending:
            node = self._placing.choose(call)
            if node is None or self._placing.waits(call, node, self._queues, self._now):
                return
            self._queues.remove(call)
            self._dispatch(call, node)

    def _dispatch_to(self, node: Node) -> None:
        """The node has credit, or offers something new: give it the calls whose turn it is."""
        placing, queues, passed_over = self._placing, self._queues, set[QueueKey]()
        if node.keeper is not None:
            placing.keeping.look(node)
        while (node.has_credit or node.keeper is not None or node.has_batches) and not self._is_ending:
            waiting = (
                [line for line in queues.lines_for(node) if placing.takes(node, line.key)] if queues.by_key else []
            )
            lines = [line for line in waiting if placing.has_room(node, line.key)]
            if passed_over:
                lines = [line for line in lines if line.key not in passed_over]
            if not lines:
                if not waiting:
                    node.share.rest()
                return
            node.something_waits()
            call = node.share.choose(lines, self._now)
            if placing.refuses(call, node, queues, self._now):
                passed_over.add(call.key)
                continue
            queues.remove(call)
            self._dispatch(call, node)

    def _place_anew(self) -> None:
        """Nodes rest, or don't any more, or went away while others rest: what waits may go elsewhere now."""
        circuits = self._placing.circuits
        while circuits.has_changed:
            circuits.has_changed = False
            for key in list(self._queues.by_key):
                self._drain_queue(key)

    def _place_declined(self) -> None:
        """Something happened: what rather waited than went to a node that had credit may think otherwise now."""
        declined = list(self._placing.declined)
        self._placing.declined.clear()
        for key in declined:
            self._drain_queue(key)

    def _is_out_of_time(self, call: Call) -> bool:
        if call.deadline is not None and self._now >= call.deadline:
            return True
        waited_for = call.queue_deadline if call.state is CallState.QUEUED else None
        return waited_for is not None and self._now >= waited_for

    def _expire(self, call: Call) -> None:
        if call.state is CallState.BACKING_OFF:
            self._waited_after_error(call)
            return
        waits = call.state in (CallState.QUEUED, CallState.HELD)
        if call.state is CallState.HELD:
            call.runs = max(call.runs, 1)  # for all that is known here
        if waits and self._is_out_of_time(call):
            self._timed_out(call)
            return
        call.hold_until = None
        if call.state is CallState.HELD:
            self._hold_expired(call)
        elif waits:  # the nodes that could have come back had their time
            self._check_place(call)
        else:  # a node holds it, and its client didn't come back
            self._abandon(call, "its client didn't come back")

    def _timed_out(self, call: Call) -> None:
        waited = self._now - call.created_at
        problem = self._placing.problem(call)
        explanation = self._in_the_way(call)
        why = problem.message if problem is not None else in_short(explanation)
        if call.submit.options.timeout_s < 0:
            why = "it had none left when it came"
        if call.state is CallState.QUEUED:
            self._queues.remove(call)
        is_total = call.deadline is not None and self._now >= call.deadline
        text = f"'{call.title}' waited {waited:.1f} s for a node and ran out of time: {why}"
        if call.runs:
            text = f"{retrying.what_happened(call)}, and it ran out of time before it could run again: {why}"
        details = {"which": "total" if is_total else "queue", "why": as_text(explanation)}
        self._fail(call, pb.ErrorInfo(code="deadline", message=text, details=details))

    # ---- questions and large payloads ----------------------------------------------------------------------------

    def _on_query(self, session: Session, frame: pb.Frame) -> None:
        query = frame.query
        if query.HasField("job"):
            self._actions.append(AskKeeper(session.session_id, query))
            return
        if query.HasField("drain_node"):
            reply = self._drain_node(query, query.drain_node.node_id, reason_of(query.drain_node))
        elif query.HasField("resume_node"):
            reply = self._drain_node(query, query.resume_node, "")
        elif query.HasField("explain"):
            reply = self._explain(session, query)
        else:
            reply = answer(query, self._placing, self._gateway_record(), self._now)
        self._send(session, pb.Frame(answer=reply))

    def _drain_node(self, query: pb.Query, node_id: str, reason: str) -> pb.Answer:
        """A client asks that this node take no new calls, or takes that back where there is no reason."""
        node = self._placing.nodes.get(node_id)
        if node is None:
            return pb.Answer(query_id=query.query_id, error=no_node_to_drain(node_id, self._placing.nodes))
        node.drain_reason = reason
        self._send(
            node.session, pb.Frame(drain=pb.Drain(reason=reason))
        )  # so that it tells the gateway that comes next
        self._drain_changed(node)
        return pb.Answer(query_id=query.query_id, nodes=[node_record(node, self._placing, self._now)])

    def _explain(self, session: Session, query: pb.Query) -> pb.Answer:
        """Why a call of this client waits, or what would become of one like this."""
        submit = query.explain
        call = self._calls.get(submit.call_id) if submit.call_id else None
        if call is None or call.client is not session:
            if submit.call_id:
                gone = pb.ErrorInfo(code="usage", message="no call of this client is known here under that id")
                return pb.Answer(query_id=query.query_id, error=gone)
            submit.call_id = _NO_ID
            problem = refuse_submit(submit)
            if problem is not None:
                return pb.Answer(query_id=query.query_id, error=problem)
            key = queue_key(submit)
            call = Call(_NO_ID, key, pb.Frame(), submit, session, CallState.QUEUED, self._now, self._submissions + 1)
        explanation = explain(call, self._placing, self._queues, self._now, self.settings.grace_s)
        return pb.Answer(query_id=query.query_id, explanation=explanation)

    def _in_the_way(self, call: Call) -> pb.Explanation:
        """The same for the error of a call. Those that end together share one: it costs a look at every node."""
        key, at, explanation = self._explained
        if key != call.key or self._now - at > EXPLAINED_ANEW_S:
            explanation = explain(call, self._placing, self._queues, self._now, self.settings.grace_s)
            self._explained = call.key, self._now, explanation
        return explanation

    def _gateway_record(self) -> pb.GatewayRecord:
        return pb.GatewayRecord(
            version=self.version,
            uptime_s=self._now - self.started_at,
            clients=sum(
                session.role == pb.ROLE_CLIENT and session.session_id != self.keeper_id
                for session in self._sessions.values()
            ),
            queued=len(self._queues),
            running=sum(node.running_count for node in self._placing.nodes.values()),
        )

    def _on_chunk(self, session: Session, frame: pb.Frame) -> None:
        target = None if frame.chunk.data else self._relay.chunk(session.session_id, frame.chunk, 0)
        if target is not None:
            self._actions.append(SendChunk(target, frame.chunk))

    def _on_fetch(self, session: Session, frame: pb.Frame) -> None:
        self._relay.fetch(session, frame, self._now)

    def _on_handles(self, session: Session, frame: pb.Frame) -> None:
        if session.node is None:
            self._values.handles(session, frame.handles, self._now)
            self._relay.look_for_sources(self._now)

    def _on_held_values(self, session: Session, frame: pb.Frame) -> None:
        if session.node is not None:
            self._values.changed(session, frame.held_values, self._now)
            self._relay.look_for_sources(self._now)

    # ---- plumbing ------------------------------------------------------------------------------------------------

    def _send(self, session: Session, frame: pb.Frame) -> None:
        """Send it, or drop it where the peer is away: what matters is repeated when it comes back."""
        if session.conn is not None:
            if session.held_acks:
                self._send_held_acks(session)
            session.sent_at = self._now
            self._actions.append(Send(session.conn, frame))

    def _send_held_acks(self, session: Session) -> None:
        items, session.held_acks = session.held_acks, []
        self._send(session, pb.Frame(ack=pb.Ack(calls=items)))

    def _send_chunk(self, session: Session, chunk: pb.Chunk) -> None:
        self._actions.append(SendChunk(session.session_id, chunk))

    def _fill_what_is_free(self) -> None:
        """Until nothing more comes free: a call that is sent may have had something kept for it elsewhere."""
        placing = self._placing
        while True:
            if placing.keeping.nodes:
                placing.keeping.settle(self._queues)
            if not placing.rooms.freed:
                return
            self._dispatch_to(placing.rooms.freed.popitem()[0])

    def _take(self) -> list[Action]:
        placing = self._placing
        self._fill_what_is_free()
        if placing.circuits.has_changed:
            self._place_anew()
        if placing.declined:
            self._place_declined()
        while self._nesting.waiting and not self._is_ending:
            found = self._nesting.next(placing)
            if found is None:
                break
            self._queues.remove(found[0])
            self._dispatch(*found)
        self._fill_what_is_free()
        actions, self._actions = self._actions, []
        return actions

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
        if not self._is_ending:
            self._placing.check_waiting(self._queues)
        self._alarms.check()
        self._nesting.check(self._placing.nodes.values())
        self._values.check(self._sessions.values())


_NO_ID = b"\0" * 16
"""Of a call that nobody has made."""

_ENDED_FROM_OUTSIDE = ("cancelled", "deadline", "ref_lost")
"""Errors that say nothing of the node where the call ran."""


def _slots_of(call: Call) -> int:
    return call.grant.slots if call.grant is not None else 1


def _is_newer(state: pb.AttemptState, call: Call) -> bool:
    """Whether this attempt is the one to go on with. Only an attempt from before a restart can be newer than ours."""
    if call.state is CallState.HELD:
        return state.attempt >= call.attempt
    is_open = call.client is None or call.state is not CallState.ENDED
    return call.is_claimed and is_open and call.node is not None and state.attempt > call.attempt


def _withdrawn(call: Call) -> pb.Frame:
    return pb.Frame(withdrawn=pb.Withdrawn(call_id=call.call_id, attempt=call.withdrawn))


def _note_seen(call: Call, submit: pb.Submit) -> None:
    """How far its client has come."""
    seen = call.changed_submit()
    seen.seen_attempt, seen.seen_seq = submit.seen_attempt, submit.seen_seq
    seen.taken_seq, seen.seen_end = submit.taken_seq, submit.seen_end
    call.passed_seq = submit.seen_seq if submit.seen_attempt == call.attempt else 0
    call.sent_item = call.sent_item or submit.seen_item
    call.was_allowed = call.was_allowed or submit.seen_attempt > 0


_HANDLERS = {
    "submit": Broker._on_submit,
    "cancel": Broker._on_cancel,
    "ack": Broker._on_ack,
    "synced": Broker._on_synced,
    "query": Broker._on_query,
    "event": Broker._on_event,
    "drain": Broker._on_drain,
    "handed_back": Broker._on_handed_back,
    "offers": Broker._on_offers,
    "load": Broker._on_load,
    "fetch": Broker._on_fetch,
    "chunk": Broker._on_chunk,
    "handles": Broker._on_handles,
    "held_values": Broker._on_held_values,
    "goodbye": Broker._on_goodbye,
    "heartbeat": Broker._on_heartbeat,
}
