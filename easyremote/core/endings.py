"""Calls that end here, by no node's word: refused, out of time, not wanted any more, handed back to their clients."""

from __future__ import annotations

from easyremote.core import retrying
from easyremote.core.attempts import Attempts
from easyremote.core.draining import ENDING, RETRY_AFTER_S
from easyremote.core.explaining import as_text, explain, in_short
from easyremote.core.records import Call, QueueKey
from easyremote.core.state import State
from easyremote.core.transitions import CallEvent, CallState
from easyremote.wire.v1 import gateway_pb2 as pb

EXPLAINED_ANEW_S = 0.5
"""Errors of calls of one key that end within so long have the same explanation."""


class Endings:
    """Tells clients how their calls ended, stops what runs for nobody, and forgets calls."""

    def __init__(self, state: State, attempts: Attempts) -> None:
        self._state = state
        self._settings = state.settings
        self._send = state.send
        self._calls = state.calls
        self._queues = state.queues
        self._placing = state.placing
        self._nesting = state.nesting
        self._relay = state.relay
        self._attempts = attempts
        self._explained: tuple[QueueKey | None, float, pb.Explanation] = (None, 0.0, pb.Explanation())

    def fail(self, call: Call, error: pb.ErrorInfo) -> None:
        """End a call that no node will end."""
        assert call.client is not None, "whoever waits has a client"
        if call.family is not None:
            self._nesting.left(call)
        call.to(CallEvent.ENDED)
        call.hold_until = None
        if self._state.audits and call.node is None and not call.runs:
            self._state.audit(call, "refused", error.code)
        error.may_have_run = call.runs > 0
        error.earlier.extend(call.submit.earlier)
        call.verdict = pb.Frame(verdict=pb.Verdict(call_id=call.call_id, error=error))
        self._send(call.client, call.verdict)
        self._state.tally.failed(call, error, "", self._state.now)

    def timed_out(self, call: Call) -> None:
        waited = self._state.now - call.created_at
        problem = self._placing.problem(call)
        explanation = self.in_the_way(call)
        why = problem.message if problem is not None else in_short(explanation)
        if call.submit.options.timeout_s < 0:
            why = "it had none left when it came"
        if call.state is CallState.QUEUED:
            self._queues.remove(call)
        is_total = call.deadline is not None and self._state.now >= call.deadline
        text = f"'{call.title}' waited {waited:.1f} s for a node and ran out of time: {why}"
        if call.runs:
            text = f"{retrying.what_happened(call)}, and it ran out of time before it could run again: {why}"
        details = {"which": "total" if is_total else "queue", "why": as_text(explanation)}
        self.fail(call, pb.ErrorInfo(code="deadline", message=text, details=details))

    def in_the_way(self, call: Call) -> pb.Explanation:
        """Why the call waits, for its error. Those that end together share one: it costs a look at every node."""
        key, at, explanation = self._explained
        if key != call.key or self._state.now - at > EXPLAINED_ANEW_S:
            explanation = explain(call, self._placing, self._queues, self._state.now, self._settings.grace_s)
            self._explained = call.key, self._state.now, explanation
        return explanation

    def hand_to_client(self, call: Call) -> None:
        """This gateway won't place it any more. What may have been at a node its client brings to the next one anyway."""
        if call.runs or call.was_allowed or call.submit.again or call.state is not CallState.QUEUED:
            return
        client = call.client
        assert client is not None, "whoever waits has a client"
        if not client.knows_drain:
            self._queues.remove(call)
            self.fail(call, pb.ErrorInfo(code="unavailable", message=ENDING, retry_after_s=RETRY_AFTER_S))
            return
        self.drop(call)
        state = pb.AttemptState(call_id=call.call_id, attempt=call.attempt)
        self._send(client, pb.Frame(handed_back=pb.HandedBack(attempts=[state])))

    def abandon(self, call: Call, why: str) -> None:
        """Its client doesn't want it any more."""
        if call.node is None:
            self.drop(call)
            return
        if call.client is not None:
            call.client.calls.pop(call.call_id, None)
            call.abandoned_by, call.client = call.client, None
        call.is_abandoned = True
        if call.state is CallState.ENDED:
            self._attempts.forget_at(call.node, call.call_id, call.attempt)
            self.drop(call)
        else:
            self._attempts.cancel_at(call.node, call, why)

    def stop(self, call: Call, error: pb.ErrorInfo) -> None:
        """Somebody other than its client has it stopped: the client is told with this error, and it ends as if it had asked."""
        assert call.client is not None, "whose call this is was looked up"
        self._send(call.client, pb.Frame(verdict=pb.Verdict(call_id=call.call_id, error=error)))
        self.abandon(call, error.message)

    def drop(self, call: Call) -> None:
        """Forget the call here. Nothing is told to anyone."""
        self._calls.pop(call.call_id, None)
        if call.brings_ring and self._placing.rings.job_left(call):
            self._placing.rings_changed()
        self._relay.call_left(call)
        if call.state is CallState.QUEUED:
            self._queues.remove(call)
        if call.client is not None:
            call.client.calls.pop(call.call_id, None)
            call.client.left += 1
        self._attempts.unassign(call)
        if call.family is not None:
            self._nesting.left(call)
