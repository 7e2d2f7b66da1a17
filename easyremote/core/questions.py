"""What clients ask: about nodes and functions, why a call waits; and that a node drain."""

from __future__ import annotations

from easyremote.core.admission import refuse_submit
from easyremote.core.answers import answer, node_record
from easyremote.core.draining import no_node_to_drain, reason_of
from easyremote.core.endings import Endings
from easyremote.core.explaining import explain
from easyremote.core.nodes import Nodes
from easyremote.core.permissions import note_in, refuse_call, refuse_query
from easyremote.core.pictures import picture, sees
from easyremote.core.placing import queue_key
from easyremote.core.records import AskKeeper, AskTokens, Call, Session
from easyremote.core.state import State
from easyremote.core.transitions import CallState
from easyremote.wire.v1 import gateway_pb2 as pb

_NO_ID = b"\0" * 16
"""Of a call that nobody has made."""


class Questions:
    """Answers at once, except what only the keeper of jobs can tell."""

    def __init__(self, state: State, endings: Endings, nodes: Nodes) -> None:
        self._state = state
        self._settings = state.settings
        self._send = state.send
        self._sessions = state.sessions
        self._calls = state.calls
        self._queues = state.queues
        self._placing = state.placing
        self._nodes = nodes
        self._endings = endings

    def on_query(self, session: Session, frame: pb.Frame) -> None:
        query = frame.query
        problem = refuse_query(session.access, query)
        if problem is None and session.allowance is not None and query.job.HasField("keep"):
            problem = session.allowance.refuse_rate(len(query.job.keep.submits), self._state.now)
        if problem is not None:
            self._send(session, pb.Frame(answer=pb.Answer(query_id=query.query_id, error=problem)))
            return
        if query.HasField("job"):
            for submit in query.job.keep.submits if query.job.HasField("keep") else ():
                note_in(submit, session.access)
            self._state.actions.append(AskKeeper(session.session_id, query, session.access))
            return
        if query.HasField("tokens"):
            self._state.actions.append(AskTokens(session.session_id, query, session.access.name))
            return
        if query.HasField("drain_node"):
            reply = self._drain_node(query, query.drain_node.node_id, reason_of(query.drain_node))
        elif query.HasField("resume_node"):
            reply = self._drain_node(query, query.resume_node, "")
        elif query.HasField("look"):
            reply = pb.Answer(query_id=query.query_id, gateway=self._gateway_record())
            picture(self._state, session, query.look, reply)
        elif query.HasField("cancel_call"):
            reply = self._cancel_call(session, query)
        elif query.HasField("explain"):
            reply = self._explain(session, query)
        else:
            reply = answer(query, session.access, self._placing, self._gateway_record(), self._state.now)
        self._send(session, pb.Frame(answer=reply))

    def _drain_node(self, query: pb.Query, node_id: str, reason: str) -> pb.Answer:
        """A client asks that this node take no new calls, or takes that back where there is no reason."""
        node = self._placing.nodes.get(node_id)
        if node is None:
            return pb.Answer(query_id=query.query_id, error=no_node_to_drain(node_id, self._placing.nodes))
        node.drain_reason = reason
        told = pb.Drain(reason=reason)  # so that it tells the gateway that comes next
        self._send(node.session, pb.Frame(drain=told))
        self._nodes.drain_changed(node)
        return pb.Answer(query_id=query.query_id, nodes=[node_record(node, self._placing, self._state.now)])

    def _cancel_call(self, session: Session, query: pb.Query) -> pb.Answer:
        """Somebody who looks on stops a call of the same token, or anyone's as an administrator. Its client is told."""
        call = self._calls.get(query.cancel_call)
        client = call.client if call is not None else None
        if call is None or client is None or not sees(session.access, call.whose) or call.state is CallState.ENDED:
            why = "no call that runs or waits is known here under that id"
        elif client.session_id == self._state.keeper_id:
            why = f"'{call.title}' is a job; cancel it as one: client.job(id).cancel()"
        elif client.conn is None:
            why = f"whoever called '{call.title}' is away for a moment; try again in some seconds"
        else:
            why = f"'{call.title}' was cancelled from a monitor"
            self._endings.stop(call, pb.ErrorInfo(code="cancelled", message=why, may_have_run=call.runs > 0))
            return pb.Answer(query_id=query.query_id)
        return pb.Answer(query_id=query.query_id, error=pb.ErrorInfo(code="usage", message=why))

    def _explain(self, session: Session, query: pb.Query) -> pb.Answer:
        """Why a call of this client waits, or what would become of one like this."""
        submit = query.explain
        call = self._calls.get(submit.call_id) if submit.call_id else None
        if call is None or call.client is not session:
            if submit.call_id:
                gone = pb.ErrorInfo(code="usage", message="no call of this client is known here under that id")
                return pb.Answer(query_id=query.query_id, error=gone)
            submit.call_id = _NO_ID
            problem = refuse_submit(submit) or refuse_call(session.access, submit)
            note_in(submit, session.access)
            if problem is not None:
                return pb.Answer(query_id=query.query_id, error=problem)
            key = queue_key(submit)
            call = Call(
                _NO_ID, key, pb.Frame(), submit, session, CallState.QUEUED, self._state.now, self._state.submissions + 1
            )
            call.belongs_to(session, submit)
        explanation = explain(call, self._placing, self._queues, self._state.now, self._settings.grace_s)
        return pb.Answer(query_id=query.query_id, explanation=explanation)

    def _gateway_record(self) -> pb.GatewayRecord:
        return pb.GatewayRecord(
            version=self._state.version,
            uptime_s=self._state.now - self._state.started_at,
            clients=sum(
                session.role == pb.ROLE_CLIENT and session.session_id != self._state.keeper_id
                for session in self._sessions.values()
            ),
            queued=len(self._queues),
            running=sum(node.running_count for node in self._placing.nodes.values()),
        )
