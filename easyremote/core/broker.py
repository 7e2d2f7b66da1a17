"""The gateway's whole behaviour, without its sockets.

Rules:
- A session is a peer; a connection is one try to talk to it. A session whose connection broke is *away* and keeps its calls
  for `grace_s`; after that a node's calls go elsewhere and a client's calls are stopped.
- The ends own the truth. A call is known by the id that its client made; submitting it again resumes it. The node keeps each
  event until the client acknowledged it, so nothing that passes here needs to be kept here.
- Calls wait here, not at the nodes, and go to a node only while it has credit.
- An attempt whose number isn't the call's current one is an old one: whatever it reports is dropped and it is told to forget.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from easyremote.config import PROTOCOL_VERSION, GatewaySettings
from easyremote.core.records import Action, Call, Close, Node, QueueKey, Queues, Send, SendChunk, Session, Transfer
from easyremote.core.strategies import Strategy, known_strategies, make_strategy
from easyremote.core.transitions import CallEvent, CallState
from easyremote.wire.v1 import gateway_pb2 as pb

_NOBODY = (
    "no node is connected; start one with 'easyremote join ADDRESS', or `%easyremote start --nodes 1` in a notebook"
)


class Broker:
    """Takes what happened and the time, and returns what to do. `gateway_id` is random, made by the shell."""

    def __init__(self, gateway_id: bytes, settings: GatewaySettings, version: str, now: float) -> None:
        self.settings = settings
        self.gateway_id = gateway_id
        self.version = version
        self.started_at = now
        self.unknown_frames = 0
        self._sessions: dict[bytes, Session] = {}
        self._by_conn: dict[int, Session] = {}
        self._nodes: dict[str, Node] = {}
        self._calls: dict[bytes, Call] = {}
        self._queues = Queues()
        self._transfers: dict[bytes, Transfer] = {}
        self._strategies: dict[str, Strategy] = {}
        self._eligible: dict[QueueKey, list[Node]] = {}  # dropped whenever a node or its offers change
        self._dispatches = 0
        self._submissions = 0
        self._now = now
        self._ticked_at = now
        self._actions: list[Action] = []

    # ---- what happened -------------------------------------------------------------------------------------------

    def connected(self, conn: int, hello: pb.Hello, now: float) -> list[Action]:
        """A connection said hello. Answers with Welcome, or Refused and Close."""
        self._now = now
        refusal = self._refusal(hello)
        if refusal is not None:
            self._actions += [Send(conn, pb.Frame(refused=refusal)), Close(conn)]
            return self._take()
        known = self._sessions.get(hello.session_id)
        session = known or Session(hello.session_id, hello.role, hello.runtime, None, now, now, now)
        self._attach(session, conn)
        node_id = hello.node.node_id if hello.role == pb.ROLE_NODE else ""
        welcome = pb.Welcome(
            protocol=min(PROTOCOL_VERSION, hello.protocol_max),
            gateway_id=self.gateway_id,
            resumed=known is not None,
            heartbeat_s=self.settings.heartbeat_s,
            grace_s=self.settings.grace_s,
            version=self.version,
            node_id=node_id,
        )
        self._send(session, pb.Frame(welcome=welcome))
        if hello.role == pb.ROLE_NODE:
            self._node_connected(session, hello.node)
        else:
            session.resubmitted = set()
        self._resend_fetches(session)
        return self._take()

    def received(self, conn: int, frames: Iterable[pb.Frame], now: float) -> list[Action]:
        """Frames came in. Those of a connection that was replaced are dropped."""
        self._now = now
        session = self._by_conn.get(conn)
        if session is None:
            return []
        session.heard_at = now
        for frame in frames:
            handler = _HANDLERS.get(frame.WhichOneof("body"))
            if handler is None:
                self.unknown_frames += 1
            else:
                handler(self, session, frame)
        return self._take()

    def disconnected(self, conn: int, now: float) -> list[Action]:
        """A connection ended without a goodbye."""
        self._now = now
        session = self._by_conn.pop(conn, None)
        if session is not None:
            session.conn = None
            session.away_since = now
            self._eligible.clear()
        return self._take()

    def chunk(self, session_id: bytes, chunk: pb.Chunk) -> bytes | None:
        """A chunk came from its owner: the session that it goes to, or None when nobody waits for it any more."""
        transfer = self._transfers.get(chunk.transfer_id)
        if transfer is None:
            return None
        owner = self._owner(transfer)
        if owner is None or owner.session_id != session_id:
            return None
        transfer.offset = chunk.offset + len(chunk.data)
        if chunk.error or chunk.shared_file:
            del self._transfers[chunk.transfer_id]
        return transfer.requester.session_id

    def knows(self, session_id: bytes) -> bool:
        """Whether a transfer stream may be attached to this session."""
        return session_id in self._sessions

    def tick(self, now: float) -> list[Action]:
        """Time passed. Call it at least twice a second."""
        self._now = now
        self._forgive_standstill(now - self._ticked_at)
        self._ticked_at = now
        for session in list(self._sessions.values()):
            if session.conn is None:
                assert session.away_since is not None
                if now - session.away_since > self.settings.grace_s:
                    self._end_session(session, "it was away for longer than the grace time")
            elif now - session.heard_at > self.settings.silence_s:
                self._actions.append(Close(session.conn))
                del self._by_conn[session.conn]
                session.conn = None
                session.away_since = now
                self._eligible.clear()
            elif now - session.sent_at > self.settings.heartbeat_s:
                self._send(session, pb.Frame(heartbeat=pb.Heartbeat()))
        for call in [call for call in self._calls.values() if self._is_due(call)]:
            self._expire(call)
        return self._take()

    def _forgive_standstill(self, gap_s: float) -> None:
        """This process stood still (a laptop asleep, SIGSTOP): the peers had no chance to be heard meanwhile."""
        if gap_s > self.settings.silence_s / 3:
            for session in self._sessions.values():
                session.heard_at += gap_s
                if session.away_since is not None:
                    session.away_since += gap_s

    # ---- sessions ------------------------------------------------------------------------------------------------

    def _refusal(self, hello: pb.Hello) -> pb.Refused | None:
        if hello.protocol_min > PROTOCOL_VERSION or hello.protocol_max < 1:
            return pb.Refused(
                code="protocol",
                message=f"this peer (easyremote {hello.runtime.easyremote}) speaks protocol {hello.protocol_min} to "
                f"{hello.protocol_max}, this gateway (easyremote {self.version}) {PROTOCOL_VERSION}: upgrade the older one",
            )
        if len(hello.session_id) != 16 or hello.role not in (pb.ROLE_CLIENT, pb.ROLE_NODE):
            return pb.Refused(code="remote_protocol", message="a hello needs a role and a session id of 16 bytes")
        if len(self._sessions) >= self.settings.max_sessions and hello.session_id not in self._sessions:
            return pb.Refused(
                code="overloaded", message=f"{len(self._sessions)} peers are connected, the bound", retry_after_s=5.0
            )
        if hello.role == pb.ROLE_NODE:
            return self._node_refusal(hello)
        return None

    def _node_refusal(self, hello: pb.Hello) -> pb.Refused | None:
        node_id = hello.node.node_id
        if not 1 <= len(node_id) <= 200 or not node_id.isprintable():
            return pb.Refused(code="usage", message="a node's name has 1 to 200 printable characters")
        if not 1 <= hello.node.slots <= 4096:
            return pb.Refused(code="usage", message=f"a node has 1 to 4096 slots, not {hello.node.slots}")
        other = self._nodes.get(node_id)
        if other is not None and other.session.session_id != hello.session_id and other.is_here:
            there = other.session.runtime
            return pb.Refused(
                code="duplicate_node",
                message=f"a node named '{node_id}' is connected already (process {there.pid} on {there.host}); "
                "stop it, or choose another node_id",
            )
        return None

    def _attach(self, session: Session, conn: int) -> None:
        if session.conn is not None:
            self._by_conn.pop(session.conn, None)
            self._actions.append(Close(session.conn))
        self._sessions[session.session_id] = session
        self._by_conn[conn] = session
        session.conn = conn
        session.away_since = None
        session.heard_at = self._now

    def _node_connected(self, session: Session, state: pb.NodeState) -> None:
        other = self._nodes.get(state.node_id)
        if other is not None and other.session is not session:
            self._end_session(other.session, "another process took its name")
        node = session.node
        if node is None:
            node = Node(state.node_id, session, state.slots, state.price, dict(state.labels))
            session.node = node
            self._nodes[state.node_id] = node
        node.slots = state.slots
        self._take_offers(node, state.offers)
        held = {attempt.call_id for attempt in state.attempts}
        for call in [call for call in node.calls.values() if call.call_id not in held]:
            self._dispatch_lost(call)
        for attempt in state.attempts:
            self._claim(node, attempt)
        self._dispatch_to(node)

    def _dispatch_lost(self, call: Call) -> None:
        """The connection broke before the node had the call, so it never ran."""
        self._unassign(call)
        if call.is_abandoned or call.client is None:
            self._drop(call)
        elif call.state is CallState.QUEUED:
            self._enqueue_again(call)

    def _claim(self, node: Node, state: pb.AttemptState) -> None:
        """A node that came back says that it holds this attempt."""
        call = self._calls.get(state.call_id)
        if call is None:
            call = self._adopt(node, state)
        elif call.state is CallState.HELD:
            call.attempt = state.attempt
            self._assign(call, node, CallEvent.CLAIMED)
            self._send(node.session, self._resume(call))
        elif call.node is not node or call.attempt != state.attempt:
            self._forget_at(node, state.call_id, state.attempt)
            return
        call.sent_item = call.sent_item or state.sent_item
        if call.is_abandoned:
            self._send(node.session, pb.Frame(cancel=pb.Cancel(call_id=call.call_id, attempt=call.attempt)))

    def _adopt(self, node: Node, state: pb.AttemptState) -> Call:
        """The gateway was restarted and the call's client isn't back yet: keep a place for it."""
        call = self._new_call(pb.Submit(call_id=state.call_id), None, CallState.HELD)
        call.attempt = state.attempt
        self._calls[call.call_id] = call
        self._assign(call, node, CallEvent.CLAIMED)
        call.hold_until = self._now + self.settings.grace_s
        return call

    def _end_session(self, session: Session, why: str) -> None:
        """The peer is gone for good."""
        self._sessions.pop(session.session_id, None)
        if session.conn is not None:
            self._by_conn.pop(session.conn, None)
            self._actions.append(Close(session.conn))
            session.conn = None
        self._transfers = {key: value for key, value in self._transfers.items() if value.requester is not session}
        if session.node is not None:
            self._node_gone(session.node, why)
        for call in list(session.calls.values()):
            self._abandon(call)

    def _node_gone(self, node: Node, why: str) -> None:
        if self._nodes.get(node.node_id) is node:
            del self._nodes[node.node_id]
        self._eligible.clear()
        for call in list(node.calls.values()):
            self._attempt_lost(call, node, why)
        for transfer in [t for t in self._transfers.values() if self._owner(t) is None]:
            del self._transfers[transfer.transfer_id]
            gone = pb.Chunk(transfer_id=transfer.transfer_id, error=f"node '{node.node_id}' is gone ({why})")
            self._actions.append(SendChunk(transfer.requester.session_id, gone))
        self._fail_unplaceable()

    def _fail_unplaceable(self) -> None:
        """Calls that wait for nodes that won't come back end here, unless they were told to wait."""
        for key in list(self._queues.by_key):
            for call in list(self._queues.by_key.get(key, ())):
                self._check_place(call)

    # ---- calls ---------------------------------------------------------------------------------------------------

    def _on_submit(self, session: Session, frame: pb.Frame) -> None:
        submit = frame.submit
        known = self._calls.get(submit.call_id)
        if session.resubmitted is not None:
            session.resubmitted.add(submit.call_id)
        if known is not None:
            self._resubmitted(known, submit, session)
            return
        call = self._new_call(submit, session, CallState.QUEUED)
        self._calls[call.call_id] = call
        session.calls[call.call_id] = call
        problem = self._problem(submit, session)
        if problem is not None:
            self._fail(call, problem)
        elif submit.again:
            call.state = CallState.HELD
            call.attempt = submit.seen_attempt
            call.hold_until = self._now + self.settings.grace_s
        else:
            self._enqueue(call)

    def _new_call(self, submit: pb.Submit, client: Session | None, state: CallState) -> Call:
        self._submissions += 1
        options = submit.options
        call = Call(submit.call_id, _queue_key(submit), submit, client, state, self._now, self._submissions)
        if options.timeout_s > 0:
            call.deadline = self._now + options.timeout_s
        if options.queue_timeout_s > 0:
            call.queue_deadline = self._now + options.queue_timeout_s
        return call

    def _problem(self, submit: pb.Submit, session: Session) -> pb.ErrorInfo | None:
        """What is wrong with a submission in itself."""
        if len(submit.call_id) != 16 or bool(submit.function) == submit.HasField("code"):
            return pb.ErrorInfo(
                code="remote_protocol", message="a call has an id of 16 bytes and either a function or code"
            )
        strategy = submit.options.strategy
        if strategy and strategy not in known_strategies():
            known = ", ".join(known_strategies())
            return pb.ErrorInfo(code="usage", message=f"unknown strategy '{strategy}'; this gateway knows {known}")
        if len(session.calls) > self.settings.max_queued_calls:
            bound = self.settings.max_queued_calls
            return pb.ErrorInfo(
                code="overloaded",
                message=f"this client has {bound} calls at the gateway, the bound; retry after 1 s",
                retry_after_s=1.0,
            )
        return None

    def _resubmitted(self, call: Call, submit: pb.Submit, session: Session) -> None:
        """The call's client came back, perhaps to a gateway that knows the call only from its node."""
        if call.client is None:
            call.client = session
            call.submit = submit
            call.key = _queue_key(submit)
            call.hold_until = None
            session.calls[call.call_id] = call
            self._resend_fetches(session)
        elif call.client is not session:
            return  # ids are random: a foreign one is not this session's business
        if call.verdict is not None:
            self._send(session, call.verdict)
        elif call.node is not None:
            call.submit.seen_attempt = submit.seen_attempt
            call.submit.seen_seq = submit.seen_seq
            call.submit.taken_seq = submit.taken_seq
            self._send(call.node.session, self._resume(call))
        elif call.state is CallState.ENDED:
            self._run_again(call, "", "its node vanished before the result was collected")

    def _resume(self, call: Call) -> pb.Frame:
        resume = pb.Resume(call_id=call.call_id, attempt=call.attempt)
        if call.submit.seen_attempt == call.attempt:
            resume.after_seq = call.submit.seen_seq
            resume.taken_seq = call.submit.taken_seq
        return pb.Frame(resume=resume)

    def _enqueue(self, call: Call) -> None:
        if call.key not in self._queues.by_key:
            ready = self._ready(call.key)
            if ready:
                self._dispatch(call, ready)
                return
        self._queues.push(call)
        self._check_place(call)

    def _enqueue_again(self, call: Call) -> None:
        """Back to the head of its queue, where it was."""
        self._queues.push_front(call)
        self._drain_queue(call.key)

    def _check_place(self, call: Call) -> None:
        """End a waiting call that no node here could ever take, unless it has a queue timeout that tells it to wait."""
        if call.queue_deadline is None and call.state is CallState.QUEUED:
            problem = self._placement_problem(call)
            if problem is not None:
                self._queues.remove(call)
                self._fail(call, problem)

    def _placement_problem(self, call: Call) -> pb.ErrorInfo | None:
        if self._candidates(call.key):
            return None
        key = call.key
        if key.node_id and key.node_id not in self._nodes:
            there = ", ".join(sorted(self._nodes)) or "none"
            return pb.ErrorInfo(
                code="node_gone",
                message=f"node '{key.node_id}' isn't connected to this gateway; connected are: {there}",
            )
        if not self._nodes:
            return pb.ErrorInfo(code="no_node", message=f"'{call.title}' can't run: {_NOBODY}")
        if key.is_code:
            theirs = ", ".join(
                f"{node.node_id} has {_minor(node.session.runtime.python)}"
                for node in self._nodes.values()
                if key.node_id in ("", node.node_id)
            )
            return pb.ErrorInfo(
                code="environment_mismatch",
                message=f"this code was made by Python {key.python} and runs on no other version: {theirs}. Call a function "
                f"that is registered on the node, or use Python {key.python} there",
            )
        where = f"node '{key.node_id}'" if key.node_id else "this gateway"
        close = self._close_names(key.function, key.node_id)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; none of its nodes offers a similar name"
        return pb.ErrorInfo(
            code="function_not_found",
            message=f"no function '{key.function}' on {where}{hint}",
            details={"close_names": "\n".join(close)},
        )

    def _close_names(self, function: str, node_id: str = "") -> list[str]:
        names = {name for node in self._nodes.values() if node_id in ("", node.node_id) for name in node.offers}
        by_lower = {name.lower(): name for name in sorted(names)}
        found = difflib.get_close_matches(function[:200].lower(), list(by_lower), n=3, cutoff=0.6)
        return [by_lower[name] for name in found]

    def _fail(self, call: Call, error: pb.ErrorInfo) -> None:
        """End a call that no node will end."""
        if call.client is None or call.is_abandoned:
            self._drop(call)
            return
        call.to(CallEvent.ENDED)
        call.verdict = pb.Frame(verdict=pb.Verdict(call_id=call.call_id, error=error))
        self._send(call.client, call.verdict)

    def _drop(self, call: Call) -> None:
        """Forget the call here. Nothing is told to anyone."""
        self._calls.pop(call.call_id, None)
        self._queues.remove(call)
        if call.client is not None:
            call.client.calls.pop(call.call_id, None)
        self._unassign(call)
        if self._transfers:
            self._transfers = {key: t for key, t in self._transfers.items() if t.call_id != call.call_id}

    def _abandon(self, call: Call) -> None:
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
            self._send(call.node.session, pb.Frame(cancel=pb.Cancel(call_id=call.call_id, attempt=call.attempt)))

    def _forget_at(self, node: Node, call_id: bytes, attempt: int) -> None:
        self._send(node.session, pb.Frame(forget=pb.Forget(call_id=call_id, attempt=attempt)))

    def _on_cancel(self, session: Session, frame: pb.Frame) -> None:
        call = self._calls.get(frame.cancel.call_id)
        if call is not None and call.client is session:
            self._abandon(call)

    def _on_synced(self, session: Session, frame: pb.Frame) -> None:
        """A client that came back has repeated all calls that it still wants."""
        wanted = session.resubmitted
        session.resubmitted = None
        if wanted is not None:
            for call in [call for call in session.calls.values() if call.call_id not in wanted]:
                self._abandon(call)

    def _on_ack(self, session: Session, frame: pb.Frame) -> None:
        by_node: dict[bytes, tuple[Session, list[pb.Acknowledged]]] = {}
        for item in frame.ack.calls:
            call = self._calls.get(item.call_id)
            if call is None or call.client is not session:
                continue
            if call.node is not None and call.verdict is None:
                target = call.node.session
                by_node.setdefault(target.session_id, (target, []))[1].append(item)
            if item.ended and call.state is CallState.ENDED:
                self._drop(call)
        for target, items in by_node.values():
            self._send(target, pb.Frame(ack=pb.Ack(calls=items)))

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
        if body == "item":
            call.sent_item = True
        if body in ("result", "error"):
            self._attempt_ended(call, node, event, failed=body == "error")
        elif call.state is not CallState.RUNNING:
            call.to(CallEvent.STARTED)
        if call.client is not None:
            self._send(call.client, frame)

    def _attempt_ended(self, call: Call, node: Node, event: pb.Event, failed: bool) -> None:
        first_time = call.occupies_slot
        call.to(CallEvent.ENDED)
        if first_time:
            node.running_count -= 1
            node.finished += 1
            node.failed += failed
            if event.run_s > 0:
                node.learn(call.submit.function, event.run_s)
        if call.is_abandoned:
            self._forget_at(node, call.call_id, call.attempt)
            self._drop(call)
        if first_time:
            self._dispatch_to(node)

    def _attempt_lost(self, call: Call, node: Node, why: str) -> None:
        """The node is gone with this attempt. One that had ended is on its way to the client, who asks again if it isn't."""
        had_ended = call.state is CallState.ENDED
        self._unassign(call)
        if call.is_abandoned or call.client is None:
            self._drop(call)
        elif not had_ended:
            self._run_again(call, node.node_id, why)

    def _run_again(self, call: Call, lost_node_id: str, why: str) -> None:
        """Give the call to another node, or say that it is lost."""
        if call.state is CallState.ENDED:
            call.to(CallEvent.RERUN)
        options = call.submit.options
        retries = options.retries if options.retries_set else self.settings.default_retries
        if call.sent_item:
            reason = "it had delivered items already, so it isn't run again"
        elif call.attempt > retries:
            reason = f"it was attempt {call.attempt} and {retries} retries are allowed"
        else:
            if lost_node_id:
                options.not_on.append(lost_node_id)
            if self._candidates(call.key):
                self._enqueue_again(call)
                return
            reason = "no other node can run it"
        where = (
            f"node '{lost_node_id}' vanished with '{call.title}' ({why})" if lost_node_id else f"'{call.title}': {why}"
        )
        self._fail(
            call,
            pb.ErrorInfo(
                code="lost", message=f"{where}; {reason}. It may have run", may_have_run=True, node_id=lost_node_id
            ),
        )

    def _assign(self, call: Call, node: Node, event: CallEvent) -> None:
        call.to(event)
        call.node = node
        node.calls[call.call_id] = call
        node.running_count += 1

    def _unassign(self, call: Call) -> None:
        node = call.node
        if node is None:
            return
        if call.occupies_slot:
            node.running_count -= 1
        node.calls.pop(call.call_id, None)
        call.node = None
        call.to(CallEvent.NODE_LOST)

    def _on_offers(self, session: Session, frame: pb.Frame) -> None:
        node = session.node
        if node is None:
            return
        if frame.offers.slots:
            node.slots = min(frame.offers.slots, 4096)
        self._take_offers(node, frame.offers.offers)
        self._send(session, pb.Frame(offers_taken=pb.OffersTaken(revision=frame.offers.revision)))
        self._fail_unplaceable()
        self._dispatch_to(node)

    def _take_offers(self, node: Node, offers: Iterable[pb.FunctionSpec]) -> None:
        node.offers = {spec.name: spec for spec in offers}
        self._eligible.clear()

    def _on_load(self, session: Session, frame: pb.Frame) -> None:
        if session.node is not None:
            session.node.load = frame.load

    def _on_goodbye(self, session: Session, frame: pb.Frame) -> None:
        self._end_session(session, "it said goodbye")

    def _on_heartbeat(self, session: Session, frame: pb.Frame) -> None:
        pass  # hearing it was all

    # ---- placing -------------------------------------------------------------------------------------------------

    def _candidates(self, key: QueueKey) -> list[Node]:
        """Nodes that could ever run calls of this key, those that are away for a moment included."""
        found = self._eligible.get(key)
        if found is None:
            found = [node for node in self._nodes.values() if _can_run(node, key)]
            if found and not key.is_code and not found[0].offers[key.function].load_balancing:
                found = found[:1]
            self._eligible[key] = found
        return found

    def _ready(self, key: QueueKey) -> list[Node]:
        return [node for node in self._candidates(key) if node.session.conn is not None and node.credit > 0]

    def _dispatch(self, call: Call, ready: list[Node]) -> None:
        """Send the call to one of these nodes."""
        options = call.submit.options
        if options.not_on:
            ready = [node for node in ready if node.node_id not in options.not_on] or ready
        if options.cost_limit > 0:
            affordable = [n for n in ready if n.expected_s(call.key.function) * n.price <= options.cost_limit]
            if not affordable:
                self._fail(call, self._too_dear(call, ready))
                return
            ready = affordable
        node = ready[0]
        if len(ready) > 1:
            node = self._strategy(options.strategy).choose(call.key.function, ready)  # type: ignore[assignment]
        self._dispatches += 1
        node.last_used = self._dispatches
        call.attempt += 1
        self._assign(call, node, CallEvent.DISPATCHED)
        if call.deadline is not None:
            options.timeout_s = max(call.deadline - self._now, 1e-3)
        call.submit.attempt = call.attempt
        self._send(node.session, pb.Frame(submit=call.submit))

    def _too_dear(self, call: Call, ready: list[Node]) -> pb.ErrorInfo:
        function = call.key.function
        cheapest = min(ready, key=lambda node: node.expected_s(function) * node.price)
        cost = cheapest.expected_s(function) * cheapest.price
        return pb.ErrorInfo(
            code="cost_limit",
            message=f"no node runs '{call.title}' within cost_limit={call.submit.options.cost_limit:g}; the cheapest is "
            f"'{cheapest.node_id}' at an expected {cost:g}",
            details={"cheapest_node": cheapest.node_id, "cheapest_cost": f"{cost:g}"},
        )

    def _strategy(self, name: str) -> Strategy:
        name = name or self.settings.default_strategy
        if name not in self._strategies:
            self._strategies[name] = make_strategy(name)
        return self._strategies[name]

    def _drain_queue(self, key: QueueKey) -> None:
        """Send what waits under this key to whoever has credit."""
        while key in self._queues.by_key:
            ready = self._ready(key)
            if not ready:
                return
            self._dispatch(self._queues.pop(key), ready)

    def _dispatch_to(self, node: Node) -> None:
        """The node has credit, or offers something new: give it the calls that waited longest."""
        while self._queues.by_key and node.is_here and node.credit > 0:
            heads = [
                (queue[0].order, key) for key, queue in self._queues.by_key.items() if node in self._candidates(key)
            ]
            if not heads:
                return
            self._dispatch(self._queues.pop(min(heads)[1]), [node])

    def _is_due(self, call: Call) -> bool:
        now = self._now
        if call.hold_until is not None and now >= call.hold_until:
            return True
        if call.state is not CallState.QUEUED and call.state is not CallState.HELD:
            return False
        return (call.deadline is not None and now >= call.deadline) or (
            call.queue_deadline is not None and now >= call.queue_deadline
        )

    def _expire(self, call: Call) -> None:
        if call.state is CallState.HELD:
            call.hold_until = None
            call.to(CallEvent.HOLD_EXPIRED)
            self._enqueue(call)
        elif call.hold_until is not None:  # a node holds it, and its client didn't come back
            call.hold_until = None
            self._abandon(call)
        else:
            self._timed_out(call)

    def _timed_out(self, call: Call) -> None:
        waited = self._now - call.created_at
        problem = self._placement_problem(call)
        why = problem.message if problem is not None else "every node that offers it was busy"
        self._queues.remove(call)
        self._fail(
            call,
            pb.ErrorInfo(
                code="deadline", message=f"'{call.title}' waited {waited:.1f} s for a node and ran out of time: {why}"
            ),
        )

    # ---- questions -----------------------------------------------------------------------------------------------

    def _on_query(self, session: Session, frame: pb.Frame) -> None:
        query = frame.query
        answer = pb.Answer(query_id=query.query_id)
        what = query.WhichOneof("what")
        if what == "list_nodes":
            answer.nodes.extend(self._node_record(node) for node in self._nodes.values())
            answer.gateway.CopyFrom(self._gateway_record())
        elif what == "list_functions":
            names = sorted({name for node in self._nodes.values() for name in node.offers})
            answer.functions.extend(self._function_record(name) for name in names)
        elif what == "describe_function":
            record = self._function_record(query.describe_function)
            if record.nodes:
                answer.functions.append(record)
            else:
                answer.close_names.extend(self._close_names(query.describe_function))
        else:
            answer.error.CopyFrom(pb.ErrorInfo(code="remote_protocol", message="this gateway doesn't know that query"))
        self._send(session, pb.Frame(answer=answer))

    def _function_record(self, name: str) -> pb.FunctionRecord:
        offering = [node for node in self._nodes.values() if name in node.offers]
        record = pb.FunctionRecord(nodes=[node.node_id for node in offering])
        if offering:
            record.spec.CopyFrom(offering[-1].offers[name])
        return record

    def _node_record(self, node: Node) -> pb.NodeRecord:
        return pb.NodeRecord(
            node_id=node.node_id,
            status="connected" if node.is_here else "away",
            slots=node.slots,
            running=node.running_count,
            finished=node.finished,
            failed=node.failed,
            functions=sorted(node.offers),
            load=node.load,
            runtime=node.session.runtime,
            labels=node.labels,
            connected_s=self._now - node.session.connected_at,
            price=node.price,
        )

    def _gateway_record(self) -> pb.GatewayRecord:
        return pb.GatewayRecord(
            version=self.version,
            uptime_s=self._now - self.started_at,
            clients=sum(session.role == pb.ROLE_CLIENT for session in self._sessions.values()),
            queued=len(self._queues),
            running=sum(node.running_count for node in self._nodes.values()),
        )

    # ---- large payloads ------------------------------------------------------------------------------------------

    def _on_fetch(self, session: Session, frame: pb.Frame) -> None:
        fetch = frame.fetch
        transfer = self._transfers.get(fetch.transfer_id)
        if transfer is None:
            if fetch.done:
                return
            if fetch.call_id not in self._calls:
                self._actions.append(
                    SendChunk(session.session_id, pb.Chunk(transfer_id=fetch.transfer_id, error="the call has ended"))
                )
                return
            transfer = Transfer(fetch.transfer_id, fetch.call_id, session, fetch, fetch.offset)
            self._transfers[fetch.transfer_id] = transfer
        elif transfer.requester is not session:
            return
        transfer.fetch = fetch
        transfer.offset = max(transfer.offset, fetch.offset)
        owner = self._owner(transfer)
        if fetch.done:
            del self._transfers[fetch.transfer_id]
        if owner is not None:
            self._send(owner, frame)

    def _owner(self, transfer: Transfer) -> Session | None:
        call = self._calls.get(transfer.call_id)
        if call is None:
            return None
        if transfer.requester.node is not None:
            return call.client
        return call.node.session if call.node is not None else None

    def _resend_fetches(self, session: Session) -> None:
        """The owner of these payloads is back: tell it where their receivers are."""
        for transfer in self._transfers.values():
            if self._owner(transfer) is session:
                again = pb.Fetch()
                again.CopyFrom(transfer.fetch)
                again.offset = transfer.offset
                self._send(session, pb.Frame(fetch=again))

    # ---- plumbing ------------------------------------------------------------------------------------------------

    def _send(self, session: Session, frame: pb.Frame) -> None:
        """Send it, or drop it where the peer is away: what matters is repeated when it comes back."""
        if session.conn is not None:
            session.sent_at = self._now
            self._actions.append(Send(session.conn, frame))

    def _take(self) -> list[Action]:
        actions, self._actions = self._actions, []
        return actions

    def check(self) -> None:
        """Assert every invariant. The simulation calls it after each event."""
        for call in self._calls.values():
            if call.occupies_slot:
                assert call.node is not None and call.node.calls.get(call.call_id) is call, (
                    "a running call has its node"
                )
            if call.state in (CallState.QUEUED, CallState.HELD):
                assert call.node is None, "a waiting call has no node"
            if call.state is CallState.QUEUED:
                assert call in self._queues.by_key.get(call.key, ()), "a queued call is in its queue"
            if call.client is not None:
                assert call.client.calls.get(call.call_id) is call, "a call is known to its client"
        for queue in self._queues.by_key.values():
            assert queue, "no empty queue is kept"
            assert all(call.state is CallState.QUEUED for call in queue), "only queued calls are in a queue"
        for node in self._nodes.values():
            assert node.running_count == sum(call.occupies_slot for call in node.calls.values()), "slots are counted"
            assert 0 <= node.running_count <= node.slots + 64 + sum(c.attempt > 1 for c in node.calls.values())
        for conn, session in self._by_conn.items():
            assert session.conn == conn, "a connection and its session know each other"


def _queue_key(submit: pb.Submit) -> QueueKey:
    is_code = submit.HasField("code")
    return QueueKey(submit.function, submit.options.node_id, submit.code.python if is_code else "", is_code)


def _minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _can_run(node: Node, key: QueueKey) -> bool:
    if key.node_id and key.node_id != node.node_id:
        return False
    if key.is_code:
        return not key.python or _minor(node.session.runtime.python) == key.python
    return key.function in node.offers


_HANDLERS = {
    "submit": Broker._on_submit,
    "cancel": Broker._on_cancel,
    "ack": Broker._on_ack,
    "synced": Broker._on_synced,
    "query": Broker._on_query,
    "event": Broker._on_event,
    "offers": Broker._on_offers,
    "load": Broker._on_load,
    "fetch": Broker._on_fetch,
    "goodbye": Broker._on_goodbye,
    "heartbeat": Broker._on_heartbeat,
}
