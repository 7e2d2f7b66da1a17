"""Attempts that came to nothing: their node is gone or handed them back, they raised, or nobody claimed them in time.

The call goes to another node then, or ends as lost.
"""

from __future__ import annotations

from easyremote.core import retrying
from easyremote.core.attempts import Attempts, withdrawn
from easyremote.core.client_session import ATTEMPTS_PER_GATEWAY
from easyremote.core.dispatching import Dispatching
from easyremote.core.draining import MAX_HANDED_BACK
from easyremote.core.endings import Endings
from easyremote.core.records import Call, Node
from easyremote.core.state import State
from easyremote.core.transitions import CallEvent, CallState
from easyremote.wire.v1 import gateway_pb2 as pb


class Recovering:
    """Gives a call whose attempt came to nothing to another node, at once or after a wait, or says that it is lost."""

    def __init__(self, state: State, attempts: Attempts, endings: Endings, dispatching: Dispatching) -> None:
        self._state = state
        self._settings = state.settings
        self._send = state.send
        self._alarms = state.alarms
        self._calls = state.calls
        self._placing = state.placing
        self._relay = state.relay
        self._attempts = attempts
        self._endings = endings
        self._dispatching = dispatching

    def attempt_lost(self, call: Call, node: Node, why: str) -> None:
        """The node is gone with this attempt. One that had ended is on its way to the client, who asks again if it isn't."""
        had_ended = call.end_has_passed
        self._attempts.unassign(call)
        if call.is_abandoned or call.client is None:
            self._endings.drop(call)
        elif not had_ended:
            self.run_again(call, node.node_id, why)

    def not_there(self, call: Call, node: Node) -> None:
        """The node came back without this call."""
        if call.state is not CallState.ASSIGNED:
            self.attempt_lost(call, node, "it came back without it")
            return
        self._attempts.unassign(call, is_begun=False)
        # The connection broke before the node had it: it never ran, so the number is free again.
        call.attempt -= 1
        call.runs -= 1
        if call.is_abandoned or call.client is None:
            self._endings.drop(call)
        else:
            self._dispatching.enqueue_again(call)

    def not_begun(self, call: Call, node: Node) -> None:
        """Its node hands it back. Unlike `not_there` its number is used up: the node may claim it at a gateway to come."""
        if call.sent_item or call.attempt % ATTEMPTS_PER_GATEWAY > MAX_HANDED_BACK:
            self.attempt_lost(call, node, "it was handed back")
            return
        has_announced = call.state is CallState.RUNNING
        self._attempts.unassign(call, is_begun=False)
        call.runs = max(call.runs - 1, 0)
        if call.is_abandoned or call.client is None:
            self._endings.drop(call)
            return
        if has_announced:
            call.withdrawn, call.was_allowed = call.attempt, False
            if call.client.knows_drain:
                self._send(call.client, withdrawn(call))
        self._dispatching.enqueue_again(call)
        if self._state.is_ending:
            self._endings.hand_to_client(call)
        self._dispatching.check_place(call)

    def tries_again(self, call: Call, node: Node, error: pb.ErrorInfo) -> bool:
        """Its attempt ended with an error after which it may be run again: its client needn't know of it."""
        if call.node is not node or call.client is None or call.submit.seen_end:
            return False  # nobody waits, or who does comes back first
        wait_s = retrying.wait_s(call)
        why_not = retrying.why_not(call, self.retries(call), wait_s, self._state.now)
        if why_not:
            error.details["not_again"] = why_not
            return False
        self._attempts.forget_at(node, call.call_id, call.attempt)
        self._attempts.unassign(call)
        call.to(CallEvent.RETRIED)
        retrying.note_end(call, error, node.node_id)
        call.retry_at = self._state.now + wait_s
        if wait_s:
            self._alarms.set(call)
        else:
            self._waited_after_error(call)
        return True

    def ring(self) -> None:
        """Look at the calls whose time has come."""
        for call in self._alarms.ring(self._state.now):
            is_known = self._calls.get(call.call_id) is call
            if is_known and call.due <= self._state.now:  # another's time may have changed its own
                self._expire(call)
            if call.call_id in self._calls:
                self._alarms.set(call)

    def _expire(self, call: Call) -> None:
        if call.state is CallState.BACKING_OFF:
            self._waited_after_error(call)
            return
        waits = call.state in (CallState.QUEUED, CallState.HELD)
        if call.state is CallState.HELD:
            call.runs = max(call.runs, 1)  # for all that is known here
        if waits and self._is_out_of_time(call):
            self._endings.timed_out(call)
            return
        call.hold_until = None
        if call.state is CallState.HELD:
            self._hold_expired(call)
        elif waits:  # the nodes that could have come back had their time
            self._dispatching.check_place(call)
        else:  # a node holds it, and its client didn't come back
            self._endings.abandon(call, "its client didn't come back")

    def _is_out_of_time(self, call: Call) -> bool:
        if call.deadline is not None and self._state.now >= call.deadline:
            return True
        waited_for = call.queue_deadline if call.state is CallState.QUEUED else None
        return waited_for is not None and self._state.now >= waited_for

    def _waited_after_error(self, call: Call) -> None:
        call.retry_at = None
        call.to(CallEvent.RERUN)
        self._dispatching.enqueue_again(call)
        self._dispatching.check_place(call)

    def _hold_expired(self, call: Call) -> None:
        """No node came back with it in time. It may have run, under numbers that were given out before the restart."""
        self._relay.attempt_left(call)
        call.attempt = max(call.attempt, call.submit.attempt_floor)
        if call.submit.seen_end:
            call.to(CallEvent.ENDED)  # the client has its last event, and will take it or ask again
            return
        call.to(CallEvent.HOLD_EXPIRED)
        self.run_again(call, "", "no node came back with it after the gateway was restarted")

    def run_again(self, call: Call, lost_node_id: str, why: str) -> None:
        """Give the call to another node, or say that it is lost."""
        if call.state is CallState.ENDED:
            call.to(CallEvent.RERUN)
        retries = self.retries(call)
        if retries == 0 and not call.was_allowed:
            call.runs = 0  # it waited for its client's word
        if call.submit.hedge_of:
            reason = "it was a second copy, which isn't run again"
        elif call.sent_item:
            reason = "it had delivered items already, so it isn't run again"
        elif call.runs > retries:
            reason = f"it had run {retrying.times(call.runs)} and {retries} retries are allowed"
        else:
            if self._placing.may_come_to(call.key) or call.queue_deadline is not None or self._state.is_ending:
                retrying.note_end(call, pb.ErrorInfo(code="lost", message=why), lost_node_id)
                self._dispatching.enqueue_again(call)
                return
            reason = "no other node can run it"
        where = (
            f"node '{lost_node_id}' vanished with '{call.title}' ({why})" if lost_node_id else f"'{call.title}': {why}"
        )
        text = f"{where}; {reason}. {'It may have run' if call.runs else 'It never ran'}"
        error = pb.ErrorInfo(code="lost", message=text, node_id=lost_node_id)
        if retries == 0:
            error.details["retries"] = "0"
        self._endings.fail(call, error)

    def retries(self, call: Call) -> int:
        return retrying.allowed(call.submit.options, self._settings.default_retries)
