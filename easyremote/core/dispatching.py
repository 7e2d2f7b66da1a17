"""Calls to nodes: which call waits, which goes, and which could go nowhere."""

from __future__ import annotations

from easyremote.core import retrying
from easyremote.core.attempts import Attempts
from easyremote.core.endings import Endings
from easyremote.core.explaining import as_text
from easyremote.core.placing import circuit_of
from easyremote.core.records import Call, Node, QueueKey
from easyremote.core.state import State
from easyremote.core.transitions import CallEvent, CallState
from easyremote.wire.v1 import gateway_pb2 as pb


class Dispatching:
    """Which node it is decides `placing`; this moves the calls."""

    def __init__(self, state: State, attempts: Attempts, endings: Endings) -> None:
        self._state = state
        self._settings = state.settings
        self._send = state.send
        self._alarms = state.alarms
        self._queues = state.queues
        self._placing = state.placing
        self._nesting = state.nesting
        self._attempts = attempts
        self._endings = endings

    def enqueue(self, call: Call) -> None:
        """A new call: to a node that has credit, or to the end of its queue."""
        if call.submit.options.parent_id:
            self._nesting.came(call)
        if call.key not in self._queues.by_key and not self._state.is_ending:
            node = self._placing.choose(call)
            if node is not None and not self._placing.waits(call, node, self._queues, self._state.now):
                self.dispatch(call, node)
                return
        self._queues.push(call)
        self._alarms.set(call)
        self.check_place(call)

    def enqueue_again(self, call: Call) -> None:
        """Back to the head of its client's queue, where it was; its time to wait for a node begins anew."""
        if call.queue_deadline is not None:
            call.queue_deadline = self._state.now + call.submit.options.queue_timeout_s
        self._alarms.set(call)
        if call.submit.options.parent_id:
            self._nesting.came(call)
        self._queues.push_front(call)
        self._drain_queue(call.key)

    def check_place(self, call: Call) -> None:
        """End a waiting call that no node here could ever take, unless it is to wait for one."""
        if call.state is CallState.QUEUED and call.queue_deadline is None and call.hold_until is None:
            if self._state.is_ending:
                return  # its client will come to the next gateway with it
            problem = self._placing.problem(call)
            if problem is not None:
                self._queues.remove(call)
                if call.runs:
                    problem.code = "lost"
                    problem.message = f"{retrying.what_happened(call)}, and now {problem.message}"
                if problem.code != "function_not_found":
                    problem.details["why"] = as_text(self._endings.in_the_way(call))
                self._endings.fail(call, problem)

    def fail_unplaceable(self, only_limited: bool = False) -> None:
        """Calls that wait for nodes that won't come back, or that have become too dear, end here."""
        for key in [key for key in self._queues.by_key if key.cost_limit or not only_limited]:
            if not self._placing.has_place(key):
                for call in list(self._queues.by_key[key]):
                    self.check_place(call)

    def dispatch(self, call: Call, node: Node) -> None:
        """Send the call to this node, unless its time is over."""
        if call.deadline is not None and self._state.now >= call.deadline:
            self._endings.timed_out(call)
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
        self._attempts.assign(call, node, CallEvent.DISPATCHED)
        if self._placing.circuits.is_open:
            self._placing.circuits.sent(node.node_id, circuit_of(call.key), call.call_id)
        submit = call.changed_submit()
        if call.grant is not None:
            submit.grant.CopyFrom(call.grant)
        elif submit.HasField("grant"):
            submit.ClearField("grant")
        if call.deadline is not None:
            submit.options.timeout_s = call.deadline - self._state.now
        submit.attempt = call.attempt
        if node.rules:
            retrying.take_rules(call, node)
        if self._settings.default_retries == 0 and not submit.options.idempotent:
            submit.options.retries_set = True  # so that the node knows
        frame = call.frame
        if call.key.epoch:
            frame = self._opened_by(call, node)
        call.is_handed_over = True
        self._send(node.session, frame)

    def _opened_by(self, call: Call, node: Node) -> pb.Frame:
        """A sealed call with what this node opens it with. What other nodes would, stays here."""
        call.submit.seal.admission.CopyFrom(self._placing.rings.admission(call, node))
        if not call.submit.seal.admissions:
            return call.frame
        frame = pb.Frame()
        frame.CopyFrom(call.frame)
        del frame.submit.seal.admissions[:]
        return frame

    def rings_changed(self) -> None:
        """Clients have admitted nodes to their sealed calls, or do so no more: what waits may go now, or nowhere."""
        self._placing.rings_changed()
        for key in [key for key in self._queues.by_key if key.epoch]:
            self._drain_queue(key)

    def dispatch_to(self, node: Node) -> None:
        """The node has credit, or offers something new: give it the calls whose turn it is."""
        placing, queues, passed_over = self._placing, self._queues, set[QueueKey]()
        if node.keeper is not None:
            placing.keeping.look(node)
        while (node.has_credit or node.keeper is not None or node.has_batches) and not self._state.is_ending:
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
            call = node.share.choose(lines, self._state.now)
            if placing.refuses(call, node, queues, self._state.now):
                passed_over.add(call.key)
                continue
            queues.remove(call)
            self.dispatch(call, node)

    def _drain_queue(self, key: QueueKey) -> None:
        """Send what waits under this key to whoever has credit."""
        while (call := self._queues.head(key)) is not None and not self._state.is_ending:
            node = self._placing.choose(call)
            if node is None or self._placing.waits(call, node, self._queues, self._state.now):
                return
            self._queues.remove(call)
            self.dispatch(call, node)

    def settle(self) -> None:
        """Something happened: slots are free, nodes rest, or children wait. Send what may go now."""
        placing = self._placing
        self._fill_what_is_free()
        if placing.circuits.has_changed:
            self._place_anew()
        if placing.declined:
            self._place_declined()
        while self._nesting.waiting and not self._state.is_ending:
            found = self._nesting.next(placing)
            if found is None:
                break
            self._queues.remove(found[0])
            self.dispatch(*found)
            if placing.declined:
                self._place_declined()  # it may have been in the way of others
        self._fill_what_is_free()

    def _fill_what_is_free(self) -> None:
        """Until nothing more comes free: a call that is sent may have had something kept for it elsewhere."""
        placing = self._placing
        while True:
            if placing.keeping.nodes:
                placing.keeping.settle(self._queues)
            if not placing.rooms.freed:
                return
            self.dispatch_to(placing.rooms.freed.popitem()[0])

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


def _slots_of(call: Call) -> int:
    return call.grant.slots if call.grant is not None else 1
