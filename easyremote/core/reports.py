"""What nodes report of their attempts: that they started, what they delivered, how they ended, that they weren't begun."""

from __future__ import annotations

from easyremote.core.attempts import Attempts
from easyremote.core.dispatching import Dispatching
from easyremote.core.endings import Endings
from easyremote.core.placing import circuit_of
from easyremote.core.records import LONGEST_S, MAX_NAME, Call, Node, Session
from easyremote.core.recovering import Recovering
from easyremote.core.state import State
from easyremote.core.transitions import UNREPEATABLE, CallEvent, CallState
from easyremote.wire.v1 import gateway_pb2 as pb

_ENDED_FROM_OUTSIDE = ("cancelled", "deadline", "ref_lost")
"""Errors that say nothing of the node where the call ran."""


class Reports:
    """Only the attempt that the call has now counts; others are told to forget."""

    def __init__(
        self, state: State, attempts: Attempts, endings: Endings, dispatching: Dispatching, recovering: Recovering
    ) -> None:
        self._state = state
        self._send = state.send
        self._calls = state.calls
        self._queues = state.queues
        self._placing = state.placing
        self._attempts = attempts
        self._endings = endings
        self._dispatching = dispatching
        self._recovering = recovering

    def on_event(self, session: Session, frame: pb.Frame) -> None:
        event = frame.event
        node = session.node
        if node is None:
            return
        call = self._calls.get(event.call_id)
        if call is None or call.node is not node or call.attempt != event.attempt:
            self._attempts.forget_at(node, event.call_id, event.attempt)
            return
        body = event.WhichOneof("body")
        client = call.client
        if body in UNREPEATABLE:
            call.sent_item = True
            call.failed_tasks += body == "failure"
        if body in ("result", "error"):
            self._attempt_ended(call, node, event, failed=body == "error")
            if body == "error" and event.error.retriable and self._recovering.tries_again(call, node, event.error):
                return
        elif call.state is not CallState.RUNNING:
            call.to(CallEvent.STARTED)
        if body == "progress":
            self._note_progress(call, event)
        if client is not None:
            if event.seq == call.passed_seq + 1 and client.conn is not None:
                call.passed_seq = event.seq
            self._send(client, frame)

    @staticmethod
    def _note_progress(call: Call, event: pb.Event) -> None:
        """For those who look on. A copy: what came with the event would stay as long."""
        told = event.progress
        if told.total or told.done or told.text:  # else it is sealed
            call.progress = pb.Progress(done=told.done, total=told.total, text=told.text[:MAX_NAME])
            call.progress_of = event.attempt

    def _attempt_ended(self, call: Call, node: Node, event: pb.Event, failed: bool) -> None:
        first_time = call.occupies_slot
        call.end_seq = event.seq
        if first_time and self._queues.by_key:
            node.something_waits()
            if event.run_s > 0:
                node.share.correct(call.owner, min(event.run_s, LONGEST_S) - call.charged_s)
        call.to(CallEvent.ENDED)
        if first_time and self._state.audits:
            self._state.audit(call, "failed" if failed else "succeeded", event.error.code)
        if first_time:
            self._state.tally.attempt_ended(call, node, event, self._state.now)
            node.running_count -= 1
            needs_slot = call.grant is None or call.grant.slots > 0
            self._attempts.release(call, node)
            if event.run_s > 0:
                node.learn(call.submit.function, event.run_s, len(call.submit.tasks) or 1, failed, needs_slot)
            is_to_blame = failed and not call.is_abandoned and event.error.code not in _ENDED_FROM_OUTSIDE
            node.ended(call, failed, is_to_blame, self._state.now)
            if failed or self._placing.circuits.is_used:
                self._note_for_circuits(call, node, event, is_to_blame)
            self._placing.changed(node)
        if call.is_abandoned:
            self._attempts.forget_at(node, call.call_id, call.attempt)
            self._endings.drop(call)
        if first_time:
            self._dispatching.dispatch_to(node)

    def _note_for_circuits(self, call: Call, node: Node, event: pb.Event, is_to_blame: bool) -> None:
        if call.is_claimed:
            return  # what was sent to try a node was sent by this gateway
        circuits, function = self._placing.circuits, circuit_of(call.key)
        tasks = len(call.submit.tasks)
        if is_to_blame:
            circuits.failed(node.node_id, function, call.call_id, event.error, self._state.now)
        elif event.HasField("error"):
            circuits.left(node.node_id, function, call.call_id)
        elif tasks and call.failed_tasks >= tasks:  # a bundle ends well though all its tasks have failed
            error = pb.ErrorInfo(code="remote", message="all calls of a bundle raised")
            circuits.failed(node.node_id, function, call.call_id, error, self._state.now)
        else:
            circuits.succeeded(node.node_id, function)

    def on_handed_back(self, session: Session, frame: pb.Frame) -> None:
        node = session.node
        if node is None:
            return
        for state in frame.handed_back.attempts:
            call = self._calls.get(state.call_id)
            if call is None or call.node is not node or call.attempt != state.attempt:
                self._attempts.forget_at(node, state.call_id, state.attempt)
            elif call.occupies_slot:
                self._attempts.forget_at(node, state.call_id, state.attempt)
                self._recovering.not_begun(call, node)
            # else its end came before, which no node of ours would do
