"""What clients say of their calls: these are to run, this is how far they have come, those aren't wanted any more."""

from __future__ import annotations

from easyremote.core import retrying
from easyremote.core.access import OWNER, OWNER_ID
from easyremote.core.admission import refuse_overload, refuse_submit
from easyremote.core.attempts import Attempts, resume
from easyremote.core.audit import of_refusal
from easyremote.core.client_session import runs_at_least
from easyremote.core.dispatching import Dispatching
from easyremote.core.endings import Endings
from easyremote.core.permissions import note_in, refuse_call
from easyremote.core.placing import queue_key
from easyremote.core.records import Call, Node, Session
from easyremote.core.recovering import Recovering
from easyremote.core.state import State
from easyremote.core.transitions import CallState
from easyremote.wire.v1 import gateway_pb2 as pb


class Submissions:
    """A call that is known already is resumed. One that can't be taken gets a verdict and isn't kept."""

    def __init__(
        self, state: State, attempts: Attempts, endings: Endings, dispatching: Dispatching, recovering: Recovering
    ) -> None:
        self._state = state
        self._settings = state.settings
        self._send = state.send
        self._calls = state.calls
        self._alarms = state.alarms
        self._queues = state.queues
        self._placing = state.placing
        self._nesting = state.nesting
        self._relay = state.relay
        self._values = state.values
        self._attempts = attempts
        self._endings = endings
        self._dispatching = dispatching
        self._recovering = recovering

    def on_submit(self, session: Session, frame: pb.Frame) -> None:
        submit = frame.submit
        if session.node is not None:
            self._state.unknown_frames += 1  # a node makes no calls
            return
        access = session.access
        if access is OWNER and not (submit.owner or submit.plain_only or submit.allowed_nodes):
            problem = refuse_submit(submit)
        else:
            problem = refuse_submit(submit) or refuse_call(access, submit)
            if session.session_id != self._state.keeper_id:  # what it brings was noted when it came
                note_in(submit, access)
        known = self._calls.get(submit.call_id)
        if known is not None and known.whose and known.whose != (submit.owner or OWNER_ID):
            return  # ids are random: a foreign one is not this session's business
        if problem is None and submit.refs:
            problem = self._refuse_refs(submit)
        if known is not None and known.client is None and submit.seen_attempt > known.attempt:
            self._forget_outdated(known)
            known = None
        if problem is None and known is None:
            problem = self._refuse_overload(session, submit)
        if problem is None and known is None and submit.options.parent_id:
            problem = self._nesting.refuse(submit)
        if problem is not None:  # told, and not kept
            problem.may_have_run = self._may_have_run(submit)
            if self._state.audits and problem.code != "overloaded":  # that comes again and again by itself
                self._state.actions.append(of_refusal(submit, session, self._state.keeper_id, problem.code))
            self._send(session, pb.Frame(verdict=pb.Verdict(call_id=submit.call_id, error=problem)))
        elif known is not None:
            self._resubmitted(known, frame, session)
        else:
            self._submitted(frame, session)

    def _refuse_refs(self, submit: pb.Submit) -> pb.ErrorInfo | None:
        """Values of another token's clients are lost to this one's, whatever it knows of them."""
        whose = submit.owner or OWNER_ID
        if all(self._values.may_use(ref.ref_id, whose) for ref in submit.refs):
            return None
        return pb.ErrorInfo(code="ref_lost", message="a value that an argument names belongs to another token")

    def _may_have_run(self, submit: pb.Submit) -> bool:
        """Whether a node may have begun it, under a gateway before or before this one forgot its client."""
        if submit.seen_attempt:
            return True
        return submit.again and retrying.allowed(submit.options, self._settings.default_retries) > 0

    def _refuse_overload(self, session: Session, submit: pb.Submit) -> pb.ErrorInfo | None:
        if session.session_id == self._state.keeper_id:
            return None  # it has bounds of its own
        problem = refuse_overload(session, self._queues.bytes, self._settings)
        if problem is None and session.allowance is not None:
            problem = session.allowance.refuse(submit, self._state.now)
        return problem

    def _submitted(self, frame: pb.Frame, session: Session) -> None:
        call = self._state.new_call(frame, session, CallState.QUEUED)
        submit = call.submit
        self._calls[call.call_id] = call
        session.calls[call.call_id] = call
        call.seen_on = session.conn
        self._take_ring(call)
        if submit.seen_attempt:
            call.attempt, call.runs = submit.seen_attempt, runs_at_least(submit.seen_attempt)
            _note_seen(call, submit)
        may_be_at_a_node = (submit.again and self._recovering.retries(call) > 0) or call.was_allowed
        if may_be_at_a_node or submit.nodes_may_return:
            call.hold_until = self._state.now + self._settings.grace_s
        if may_be_at_a_node:
            call.state = CallState.HELD
            self._alarms.set(call)
        elif submit.hedge_of:
            self._place_copy(call, session)
        else:
            call.attempt = max(call.attempt, submit.attempt_floor)
            self._dispatching.enqueue(call)
            if self._state.is_ending:
                self._endings.hand_to_client(call)

    def _place_copy(self, copy: Call, session: Session) -> None:
        """A second copy of a call that runs too long: to another node that has a slot free now, or nowhere."""
        first = self._calls.get(copy.submit.hedge_of) if not self._state.is_ending else None
        node = None
        if first is not None and first.client is session and first.node is not None and first.occupies_slot:
            copy.submit.options.not_on.append(first.node.node_id)
            node = self._placing.choose(copy)
            if node is first.node or (node is not None and node.running_count >= node.slots):
                node = None
        if node is not None:
            self._dispatching.dispatch(copy, node)
        else:
            refused = pb.ErrorInfo(code="unavailable", message="no other node is free for a second copy")
            refused.details["copy"] = "refused"
            self._endings.fail(copy, refused)

    def _forget_outdated(self, call: Call) -> None:
        """What a node brought back is an attempt before the one that the client has seen."""
        assert call.node is not None, "a call without a client is at a node"
        self._attempts.forget_at(call.node, call.call_id, call.attempt)
        self._endings.drop(call)

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
            self._send(call.node.session, resume(call))
            call.changed_submit().skipped_tasks[:] = submit.skipped_tasks
            self._attempts.skip_tasks(call)
        elif call.state is CallState.ENDED and not submit.seen_end:
            self._recovering.run_again(call, "", "its node vanished before the result was collected")

    def _take_back(self, call: Call, frame: pb.Frame, session: Session) -> None:
        call.belongs_to(session, frame.submit)
        call.frame, call.submit, call.is_handed_over = frame, frame.submit, False
        if call.node is not None:
            call.node.trying.discard(call.key.function)  # it wasn't known what it runs
        if call.brings_ring and self._placing.rings.job_left(call):
            self._placing.rings_changed()
        call.key = queue_key(call.submit)
        self._take_ring(call)
        call.refs = tuple(call.submit.refs)
        call.hold_until = None
        self._state.set_deadlines(call)
        session.calls[call.call_id] = call
        self._relay.ask_again(session)

    def _run_abandoned_again(self, call: Call) -> None:
        """Its client was given up, so its attempt is being stopped; now the client is back."""
        assert call.node is not None, "an abandoned call is at a node"
        self._attempts.forget_at(call.node, call.call_id, call.attempt)
        self._attempts.unassign(call)
        call.is_abandoned = False
        self._recovering.run_again(call, "", "its client was away for longer than the grace time")

    def on_keyring(self, session: Session, frame: pb.Frame) -> None:
        """A client admits nodes to its sealed calls."""
        if session.node is not None:
            self._state.unknown_frames += 1
            return
        self._placing.rings.take(session, frame.keyring)
        self._dispatching.rings_changed()

    def _take_ring(self, call: Call) -> None:
        """The admissions that a job has brought along."""
        if call.submit.seal.admissions and self._placing.rings.job_came(call):
            self._dispatching.rings_changed()

    def on_cancel(self, session: Session, frame: pb.Frame) -> None:
        call = self._calls.get(frame.cancel.call_id)
        if call is not None and frame.cancel.kill and call.node is not None and call.abandoned_by is session:
            self._attempts.cancel_at(call.node, call, "interrupted twice", kill=True)
            return
        if call is None or call.client is not session:
            return
        if frame.cancel.tasks:
            call.changed_submit().skipped_tasks.extend(frame.cancel.tasks)
            self._attempts.skip_tasks(call)
        else:
            self._endings.abandon(call, frame.cancel.reason[:1000])

    def on_reply(self, session: Session, frame: pb.Frame) -> None:
        """To what the call's attempt has asked. Where its node is away it is dropped: the node asks again when it is back."""
        reply = frame.reply
        call = self._calls.get(reply.call_id)
        if call is not None and call.client is session and call.node is not None and call.attempt == reply.attempt:
            self._send(call.node.session, frame)

    def on_synced(self, session: Session, frame: pb.Frame) -> None:
        """A client that came back has repeated all calls that it still wants."""
        for call in [call for call in session.calls.values() if call.seen_on != session.conn]:
            self._endings.abandon(call, "its client doesn't want it any more")

    def on_ack(self, session: Session, frame: pb.Frame) -> None:
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
            self._endings.drop(call)
        else:
            self._endings.abandon(call, "another attempt has ended it")
        if node is not None:
            self._dispatching.dispatch_to(node)


def _note_seen(call: Call, submit: pb.Submit) -> None:
    """How far its client has come."""
    seen = call.changed_submit()
    seen.seen_attempt, seen.seen_seq = submit.seen_attempt, submit.seen_seq
    seen.taken_seq, seen.seen_end = submit.taken_seq, submit.seen_end
    call.passed_seq = submit.seen_seq if submit.seen_attempt == call.attempt else 0
    call.sent_item = call.sent_item or submit.seen_item
    call.was_allowed = call.was_allowed or submit.seen_attempt > 0
