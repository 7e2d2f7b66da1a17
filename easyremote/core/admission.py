"""What is turned away at the door: peers and submissions that make no sense, or of which there are too many."""

from __future__ import annotations

from collections.abc import Mapping

from easyremote.config import PROTOCOL_VERSION, GatewaySettings
from easyremote.core.access import Access
from easyremote.core.permissions import refuse_peer
from easyremote.core.records import MAX_ATTEMPT, MAX_NAME, MAX_SLOTS, Node, Session
from easyremote.core.resources import MAX_LABEL, MAX_LABELS
from easyremote.core.rings import refuse_seal
from easyremote.core.strategies import known_strategies
from easyremote.sizes import format_size
from easyremote.wire.v1 import gateway_pb2 as pb

ROOM_AGAIN = 0.25
"""A refused client is told to come back when so much of what it has here is expected to have ended,"""

UNKNOWN_PACE_S = 1.0
SOONEST_S, LATEST_S = 0.1, 30.0
"""... within these; and after `UNKNOWN_PACE_S` where none has ended of late."""


def refuse_hello(
    hello: pb.Hello,
    access: Access,
    sessions: Mapping[bytes, Session],
    nodes: Mapping[str, Node],
    settings: GatewaySettings,
    version: str,
) -> pb.Refused | None:
    """Why this peer isn't taken in, or None."""
    if hello.protocol_min > PROTOCOL_VERSION or hello.protocol_max < 1:
        return pb.Refused(
            code="protocol",
            message=f"this peer (easyremote {hello.runtime.easyremote}) speaks protocol {hello.protocol_min} to "
            f"{hello.protocol_max}, this gateway (easyremote {version}) {PROTOCOL_VERSION}: upgrade the older one",
        )
    if len(hello.session_id) != 16 or hello.role not in (pb.ROLE_CLIENT, pb.ROLE_NODE):
        return pb.Refused(code="remote_protocol", message="a hello needs a role and a session id of 16 bytes")
    denied = refuse_peer(hello, access)
    if denied is not None:
        return denied
    known = sessions.get(hello.session_id)
    if known is not None and known.access.token_id != access.token_id:  # who knows a session's id isn't it
        return pb.Refused(code="auth", message="this session belongs to another token")
    if known is None and len(sessions) >= settings.max_sessions:
        return pb.Refused(
            code="overloaded", message=f"{len(sessions)} peers are connected, the bound", retry_after_s=5.0
        )
    name = known.node.node_id if known is not None and known.node is not None else hello.node.node_id
    if known is not None and (known.role != hello.role or name != hello.node.node_id):
        return pb.Refused(code="remote_protocol", message="a session keeps the role and the name that it began with")
    return _refuse_node(hello, access, nodes) if hello.role == pb.ROLE_NODE else None


def _refuse_node(hello: pb.Hello, access: Access, nodes: Mapping[str, Node]) -> pb.Refused | None:
    node_id = hello.node.node_id
    if not 1 <= len(node_id) <= MAX_NAME or not node_id.isprintable():
        return pb.Refused(code="usage", message=f"a node's name has 1 to {MAX_NAME} printable characters")
    if not 1 <= hello.node.slots <= MAX_SLOTS:
        return pb.Refused(code="usage", message=f"a node has 1 to {MAX_SLOTS} slots, not {hello.node.slots}")
    other = nodes.get(node_id)
    if (
        other is not None and other.session.access.token_id != access.token_id
    ):  # be it away: it has the time to come back
        text = f"a node named '{node_id}' is known here under another token; choose another node_id"
        return pb.Refused(code="duplicate_node", message=text)
    if other is not None and other.session.session_id != hello.session_id and other.is_here:
        there = other.session.runtime
        return pb.Refused(
            code="duplicate_node",
            message=f"a node named '{node_id}' is connected already (process {there.pid} on {there.host}); "
            "stop it, or choose another node_id",
        )
    return None


def refuse_submit(submit: pb.Submit) -> pb.ErrorInfo | None:
    """What is wrong with a submission in itself, or None."""
    function = submit.function
    is_code = submit.HasField("code")
    if len(submit.call_id) != 16 or bool(function) == is_code:
        return pb.ErrorInfo(
            code="remote_protocol", message="a call has an id of 16 bytes and either a function or code"
        )
    if submit.hedge_of and submit.tasks:
        return pb.ErrorInfo(code="remote_protocol", message="a bundle has no second copy")
    if submit.tasks and submit.HasField("arguments"):
        return pb.ErrorInfo(code="remote_protocol", message="a call has arguments or tasks, not both")
    if submit.seen_attempt > MAX_ATTEMPT or submit.attempt_floor > MAX_ATTEMPT:
        return pb.ErrorInfo(code="remote_protocol", message=f"no attempt has a number above {MAX_ATTEMPT}")
    if submit.HasField("seal"):
        problem = refuse_seal(submit)
        if problem is not None:
            return problem
    options = submit.options
    if len(function) > MAX_NAME or len(options.node_id) > MAX_NAME or (is_code and len(submit.code.python) > MAX_NAME):
        return _refuse_name(submit)
    if options.HasField("needs"):
        labels = options.needs.labels
        if len(labels) > MAX_LABELS or any(len(text) > MAX_LABEL for pair in labels.items() for text in pair):
            text = f"a call asks for at most {MAX_LABELS} labels, of at most {MAX_LABEL} characters each"
            return pb.ErrorInfo(code="usage", message=text)
    strategy = options.strategy
    if strategy and strategy not in known_strategies():
        known = ", ".join(known_strategies())
        return pb.ErrorInfo(
            code="usage", message=f"unknown strategy '{strategy[:MAX_NAME]}'; this gateway knows {known}"
        )
    return None


def _refuse_name(submit: pb.Submit) -> pb.ErrorInfo:
    names = {"function": submit.function, "node": submit.options.node_id, "Python version": submit.code.python}
    what, name = next((what, name) for what, name in names.items() if len(name) > MAX_NAME)
    text = f"the name of a {what} has at most {MAX_NAME} characters, not {len(name)}"
    return pb.ErrorInfo(code="usage", message=text)


def refuse_overload(session: Session, waiting_bytes: int, settings: GatewaySettings) -> pb.ErrorInfo | None:
    """Why this client can't have one more call, or None. `waiting_bytes`: what waiting calls of all clients hold."""
    if len(session.calls) >= settings.max_queued_calls:
        text = f"this client has {settings.max_queued_calls} calls at the gateway, the bound"
    elif session.waiting_bytes >= settings.max_client_bytes:
        text = f"this client's waiting calls hold {format_size(session.waiting_bytes)} at the gateway, the bound is "
        text += format_size(settings.max_client_bytes)
    elif waiting_bytes >= settings.max_waiting_bytes:
        text = f"waiting calls hold {format_size(waiting_bytes)} at the gateway, the bound is "
        text += format_size(settings.max_waiting_bytes)
    else:
        return None
    retry_after_s = _retry_after_s(session)
    return pb.ErrorInfo(
        code="overloaded", message=f"{text}; retry after {retry_after_s:.2g} s", retry_after_s=retry_after_s
    )


def _retry_after_s(session: Session) -> float:
    """In what time a part of this client's calls will have ended, as fast as they ended of late."""
    if session.ends_per_s <= 0:
        return UNKNOWN_PACE_S
    return min(max(len(session.calls) * ROOM_AGAIN / session.ends_per_s, SOONEST_S), LATEST_S)
