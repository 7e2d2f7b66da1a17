"""The attempt of a call at its node: what it takes up there and gives back, and what the node is told of it."""

from __future__ import annotations

from easyremote.core.placing import circuit_of
from easyremote.core.records import Call, Node
from easyremote.core.state import State
from easyremote.core.transitions import CallEvent
from easyremote.wire.v1 import gateway_pb2 as pb


class Attempts:
    """Keeps the books of who holds what where. Whatever becomes free is offered to others later, by `dispatching`."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._send = state.send
        self._placing = state.placing
        self._nesting = state.nesting
        self._relay = state.relay

    def assign(self, call: Call, node: Node, event: CallEvent) -> None:
        call.to(event)
        call.node = node
        call.sent_at = self._state.now
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

    def unassign(self, call: Call, is_begun: bool = True) -> None:
        """Take it from its node, which is gone with it, or hands it back before it has begun it."""
        node = call.node
        if node is None:
            return
        self._relay.attempt_left(call)
        if call.occupies_slot:
            if self._state.audits and is_begun:
                self._state.audit(call, "lost")
            if self._placing.circuits.is_open:
                self._placing.circuits.left(node.node_id, circuit_of(call.key), call.call_id)
            node.running_count -= 1
            self.release(call, node)
            node.trying.discard(call.key.function)
            self._placing.changed(node)
            if node.is_here:
                self._placing.rooms.freed[node] = None  # another call may have waited for its slot
        node.calls.pop(call.call_id, None)
        call.node = None
        call.to(CallEvent.NODE_LOST)

    def release(self, call: Call, node: Node) -> None:
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

    def forget_at(self, node: Node, call_id: bytes, attempt: int) -> None:
        self._send(node.session, pb.Frame(forget=pb.Forget(call_id=call_id, attempt=attempt)))

    def cancel_at(self, node: Node, call: Call, why: str, kill: bool = False) -> None:
        cancel = pb.Cancel(call_id=call.call_id, attempt=call.attempt, reason=why, kill=kill)
        self._send(node.session, pb.Frame(cancel=cancel))

    def skip_tasks(self, call: Call) -> None:
        """Tell its node which tasks of a bundle aren't wanted; a node that it has yet to come to sees it in the Submit."""
        tasks = call.submit.skipped_tasks
        if tasks and call.node is not None:
            cancel = pb.Cancel(call_id=call.call_id, attempt=call.attempt, tasks=tasks)
            self._send(call.node.session, pb.Frame(cancel=cancel))


def resume(call: Call) -> pb.Frame:
    """Asks its node to go on, after what the client has seen."""
    resume = pb.Resume(call_id=call.call_id, attempt=call.attempt)
    if call.submit.seen_attempt == call.attempt:
        resume.after_seq = call.submit.seen_seq
        resume.taken_seq = call.submit.taken_seq
    return pb.Frame(resume=resume)


def withdrawn(call: Call) -> pb.Frame:
    """Tells its client that an attempt which had announced itself wasn't begun."""
    return pb.Frame(withdrawn=pb.Withdrawn(call_id=call.call_id, attempt=call.withdrawn))
