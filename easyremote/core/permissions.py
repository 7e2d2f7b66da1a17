"""What a token doesn't allow is refused, in words that name it and what it allows; what it allows is noted in its calls."""

from __future__ import annotations

from easyremote.core.access import OWNER, Access, Role
from easyremote.core.records import MAX_NAME
from easyremote.wire.v1 import gateway_pb2 as pb

CODE = "permission"

_MAX_SHOWN = 5
"""Patterns that a message shows."""


def described(access: Access) -> str:
    """For people, e.g. `token 'lab' (3f9a01bc) allows call, of functions f*, g`."""
    roles = ", ".join(role for role in Role if role in access.roles)
    parts = [f"token '{access.name}' ({access.token_id}) allows {roles}"]
    for what, patterns in (("functions", access.functions), ("nodes", access.nodes)):
        if patterns:
            more = ", …" if len(patterns) > _MAX_SHOWN else ""
            parts.append(f"of {what} {', '.join(patterns[:_MAX_SHOWN])}{more}")
    return ", ".join(parts)


def denied(access: Access, what: str) -> pb.ErrorInfo:
    """`what` isn't allowed."""
    text = f"{what}: {described(access)}. Ask whoever runs the gateway for another"
    return pb.ErrorInfo(code=CODE, message=text, details={"token": access.token_id, "token_name": access.name})


def refuse_peer(hello: pb.Hello, access: Access) -> pb.Refused | None:
    """Why this token doesn't allow to be such a peer, or None."""
    is_node = hello.role == pb.ROLE_NODE
    if is_node and not access.may_serve:
        problem = denied(access, "this token doesn't allow to be a node")
    elif is_node and not access.allows_node(hello.node.node_id):
        problem = denied(access, f"this token doesn't allow a node named '{hello.node.node_id}'")
    elif not is_node and not access.may_call:
        problem = denied(access, "this token doesn't allow to be a client")
    else:
        return None
    return pb.Refused(code=problem.code, message=problem.message)


def refuse_call(access: Access, submit: pb.Submit) -> pb.ErrorInfo | None:
    """Why this token doesn't allow the call, or None."""
    if access is OWNER:
        return None
    node_id = submit.options.node_id
    if submit.HasField("code"):
        if not access.may_ship:
            return denied(access, "this token doesn't allow to run code of one's own, only functions that nodes offer")
    elif not access.may_call or not access.allows_function(submit.function):
        return denied(access, f"this token doesn't allow to call '{submit.function[:MAX_NAME]}'")
    if node_id and not access.allows_node(node_id):
        return denied(access, f"this token doesn't allow calls on node '{node_id[:MAX_NAME]}'")
    return None


def refuse_query(access: Access, query: pb.Query) -> pb.ErrorInfo | None:
    """Why this token doesn't allow the question, or None."""
    what = query.WhichOneof("what")
    if what in ADMINISTRATION and not access.may_administer:
        return denied(access, f"this token doesn't allow to {ADMINISTRATION[what]}")
    name = query.describe_function
    if name and not access.allows_function(name):
        return denied(access, f"this token doesn't allow to call '{name[:MAX_NAME]}'")
    if what == "job" and query.job.HasField("keep"):
        problems = (refuse_call(access, submit) for submit in query.job.keep.submits)
        return next((problem for problem in problems if problem is not None), None)
    return None


def note_in(submit: pb.Submit, access: Access) -> None:
    """Write into a call whose it is and what its token allows, whatever its client has written there."""
    submit.owner = "" if access.is_owner else access.token_id
    submit.plain_only = submit.plain_only or not access.may_ship
    submit.allowed_nodes[:] = access.nodes


ADMINISTRATION: dict[str | None, str] = {
    "drain_node": "drain nodes",
    "resume_node": "resume nodes",
    "tokens": "administer tokens",
}
"""Questions for administrators, and what they ask for."""
