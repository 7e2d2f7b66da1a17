"""Nodes that come back with what they hold, that offer something new, that drain, and that are gone for good."""

from __future__ import annotations

from easyremote.core.attempts import Attempts, resume
from easyremote.core.client_session import runs_at_least
from easyremote.core.dispatching import Dispatching
from easyremote.core.records import MAX_ATTEMPT, MAX_SLOTS, Call, Node, Session
from easyremote.core.recovering import Recovering
from easyremote.core.rooms import holdings
from easyremote.core.state import State
from easyremote.core.transitions import CallEvent, CallState
from easyremote.wire.v1 import gateway_pb2 as pb


class Nodes:
    """What becomes of calls when nodes change."""

    def __init__(self, state: State, attempts: Attempts, dispatching: Dispatching, recovering: Recovering) -> None:
        self._state = state
        self._settings = state.settings
        self._send = state.send
        self._calls = state.calls
        self._alarms = state.alarms
        self._placing = state.placing
        self._attempts = attempts
        self._dispatching = dispatching
        self._recovering = recovering

    def came_back(self, node: Node, state: pb.NodeState) -> None:
        """It is connected, for the first time or again, and tells what it holds."""
        held = {(attempt.call_id, attempt.attempt) for attempt in state.attempts}
        grants = holdings(state)
        for call in [call for call in node.calls.values() if (call.call_id, call.attempt) not in held]:
            self._recovering.not_there(call, node)
        for attempt in state.attempts:
            self._claim(node, attempt, grants.get((attempt.call_id, attempt.attempt)))

    def _claim(self, node: Node, state: pb.AttemptState, grant: pb.Grant | None) -> None:
        """A node that came back says that it holds this attempt, and what that has there."""
        call = self._calls.get(state.call_id)
        if not 1 <= state.attempt <= MAX_ATTEMPT or len(state.call_id) != 16:
            self._attempts.forget_at(node, state.call_id, state.attempt)
            return
        if call is None:
            call = self._adopt(node, state, grant)
        elif call.node is node and call.attempt == state.attempt:
            self._attempts.skip_tasks(call)  # it was there all the time, and may not have heard
        elif _is_newer(state, call):
            self._take_over(call, node, state, grant)
        else:
            self._attempts.forget_at(node, state.call_id, state.attempt)
            return
        if call.is_abandoned:
            self._attempts.cancel_at(node, call, "nobody waits for it any more")

    def _adopt(self, node: Node, state: pb.AttemptState, grant: pb.Grant | None) -> Call:
        """The gateway was restarted and the call's client isn't back yet: keep a place for it."""
        call = self._state.new_call(pb.Frame(submit=pb.Submit(call_id=state.call_id)), None, CallState.HELD)
        call.whose = state.owner
        self._calls[call.call_id] = call
        self._take_over(call, node, state, grant)
        return call

    def _take_over(self, call: Call, node: Node, state: pb.AttemptState, grant: pb.Grant | None) -> None:
        """Go on with this attempt instead of waiting for one, or instead of an older one."""
        if call.node is not None:
            self._attempts.forget_at(call.node, call.call_id, call.attempt)
            self._attempts.unassign(call)
            if call.state is CallState.ENDED:
                call.to(CallEvent.RERUN)
        call.attempt, call.runs = state.attempt, runs_at_least(state.attempt)
        call.passed_seq = call.submit.seen_seq if call.submit.seen_attempt == call.attempt else 0
        call.is_claimed = True
        call.hold_until = self._state.now + self._settings.grace_s if call.client is None else None
        self._alarms.set(call)
        call.grant = grant
        self._attempts.assign(call, node, CallEvent.CLAIMED)
        if call.client is not None:
            self._send(node.session, resume(call))

    def gone(self, node: Node, why: str, said_goodbye: bool) -> None:
        """For good, and with it what it held."""
        self._placing.remove(node)
        if node.running_count:
            self._placing.lost_calls(node)
            if not said_goodbye:
                self._placing.circuits.lost(node.node_id, self._state.now)
        if said_goodbye:
            self._placing.circuits.forget(node.node_id)
        for call in list(node.calls.values()):
            self._recovering.attempt_lost(call, node, why)
        self._dispatching.fail_unplaceable()

    def on_offers(self, session: Session, frame: pb.Frame) -> None:
        node = session.node
        if node is None:
            return
        if frame.offers.slots:
            node.slots = min(frame.offers.slots, MAX_SLOTS)
            node.set_limit()
        self._placing.take_offers(node, frame.offers.offers)
        self._send(session, pb.Frame(offers_taken=pb.OffersTaken(revision=frame.offers.revision)))
        self._dispatching.fail_unplaceable()
        self._dispatching.dispatch_to(node)

    def on_load(self, session: Session, frame: pb.Frame) -> None:
        if session.node is not None:
            self._placing.loaded(session.node, frame.load, self._state.now)

    def on_drain(self, session: Session, frame: pb.Frame) -> None:
        node = session.node
        if node is not None:
            node.is_leaving = frame.drain.leaving
            self.drain_changed(node)

    def drain_changed(self, node: Node) -> None:
        """Whether it takes new calls may have changed."""
        node.drains(node.drain_reason, node.is_leaving)
        if node.is_shut:
            self._placing.keeping.left(node)
        self._placing.circuits.has_changed = self._placing.circuits.is_open
        self._placing.changed(node)
        self._dispatching.fail_unplaceable()
        self._dispatching.dispatch_to(node)


def _is_newer(state: pb.AttemptState, call: Call) -> bool:
    """Whether this attempt is the one to go on with. Only an attempt from before a restart can be newer than ours."""
    if call.state is CallState.HELD:
        return state.attempt >= call.attempt
    is_open = call.client is None or call.state is not CallState.ENDED
    return call.is_claimed and is_open and call.node is not None and state.attempt > call.attempt
