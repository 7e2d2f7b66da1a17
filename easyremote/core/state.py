"""What the gateway knows at this moment, and what it is about to send: the ground on which the parts of the broker stand."""

from __future__ import annotations

from easyremote.config import GatewaySettings
from easyremote.core.alarms import Alarms
from easyremote.core.allowances import Allowances
from easyremote.core.audit import of_call
from easyremote.core.nesting import Nesting
from easyremote.core.placing import Placing, queue_key
from easyremote.core.queues import Queues
from easyremote.core.records import Action, Call, Send, SendChunk, Session
from easyremote.core.relay import Relay
from easyremote.core.tally import Tally
from easyremote.core.transitions import CallState
from easyremote.core.values import Values
from easyremote.wire.v1 import gateway_pb2 as pb


class State:
    """Shared by the parts of one broker. What they keep of it, they keep by reference, so none of it is ever replaced."""

    def __init__(self, gateway_id: bytes, settings: GatewaySettings, version: str, now: float) -> None:
        self.gateway_id = gateway_id
        self.settings = settings
        self.version = version
        self.started_at = now
        self.now = now
        self.is_ending = False  # it takes no new calls
        self.keeper_id = b""  # session of the gateway's own client that keeps jobs, where there is one
        self.audits = False  # the shell wants to know who ran what
        self.unknown_frames = 0
        self.submissions = 0  # calls that came, for their order
        self.sessions: dict[bytes, Session] = {}
        self.by_conn: dict[int, Session] = {}
        self.calls: dict[bytes, Call] = {}
        self.allowances = Allowances()
        self.alarms = Alarms(self.calls)
        self.queues = Queues()
        self.placing = Placing(settings.default_strategy)
        self.values = Values(self.send, lambda ref_id: self.relay.value_left(ref_id), 2 * settings.grace_s)
        self.placing.missing_s = self.values.missing_s
        self.nesting = Nesting(self.calls)
        self.tally = Tally()
        self.relay = Relay(self.calls, self.send, self._send_chunk, self.values, now + settings.grace_s)
        self.actions: list[Action] = []  # the one exception: it is taken away

    def send(self, session: Session, frame: pb.Frame) -> None:
        """Send it, or drop it where the peer is away: what matters is repeated when it comes back."""
        if session.conn is not None:
            if session.held_acks:
                self.send_held_acks(session)
            session.sent_at = self.now
            self.actions.append(Send(session.conn, frame))

    def send_held_acks(self, session: Session) -> None:
        items, session.held_acks = session.held_acks, []
        self.send(session, pb.Frame(ack=pb.Ack(calls=items)))

    def _send_chunk(self, session: Session, chunk: pb.Chunk) -> None:
        self.actions.append(SendChunk(session.session_id, chunk))

    def audit(self, call: Call, outcome: str, error: str = "") -> None:
        """Have it noted how an attempt ended at its node, or a call that no node has."""
        if self.audits:
            self.actions.append(of_call(call, self.keeper_id, self.now, outcome, error))

    def new_call(self, frame: pb.Frame, client: Session | None, state: CallState) -> Call:
        self.submissions += 1
        submit = frame.submit
        call = Call(submit.call_id, queue_key(submit), frame, submit, client, state, self.now, self.submissions)
        if client is not None:
            call.belongs_to(client, submit)
        if submit.refs:
            call.refs = tuple(submit.refs)
        self.set_deadlines(call)
        return call

    def set_deadlines(self, call: Call) -> None:
        options = call.submit.options
        if options.timeout_s != 0:
            call.deadline = self.now + options.timeout_s
        if options.queue_timeout_s > 0:
            call.queue_deadline = self.now + options.queue_timeout_s

    def take(self) -> list[Action]:
        """What is to be done since the last time."""
        actions, self.actions = self.actions, []
        return actions
