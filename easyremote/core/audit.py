"""What the gateway notes of who ran what, where: one record for each attempt that a node had, and for each call that none got.

No argument, result, message or secret is in it: names, numbers, the code's digest and the error's code.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from easyremote.core.records import Call, Session
    from easyremote.wire.v1 import gateway_pb2 as pb


class Audited(NamedTuple):
    """Have this noted. Names are as peers wrote them.

    `outcome`: "succeeded", "failed" (`error` says how), "lost" (the node is gone, or the attempt was taken from it), or "refused"
    (no node got it). `token_id` and `token_name`: of who called; empty where it isn't known. `client`: the host and process that
    it says it is. `waited_s`: from the call's coming to its going to the node, `took_s`: from there to its end.
    """

    outcome: str
    error: str
    function: str
    code: str
    node_id: str
    call_id: bytes
    attempt: int
    tasks: int
    token_id: str
    token_name: str
    client: str
    is_job: bool
    waited_s: float
    took_s: float


def facts_of(noted: Audited) -> dict[str, Any]:
    """For its line in the log."""
    return {
        "outcome": noted.outcome,
        "error": noted.error,
        "function": noted.function,
        "code": noted.code,
        "node": noted.node_id,
        "token": noted.token_id,
        "token_name": noted.token_name,
        "client": noted.client,
        "call": noted.call_id,
        "attempt": noted.attempt,
        "tasks": noted.tasks,
        "job": noted.is_job,
        "waited_s": noted.waited_s,
        "took_s": noted.took_s,
    }


def of_call(call: Call, keeper_id: bytes, now: float, outcome: str, error: str) -> Audited:
    """Of an attempt that has ended at its node, or a call that ends without one."""
    submit, node = call.submit, call.node
    who = call.client or call.abandoned_by
    given_at = call.sent_at if node is not None else now
    return _record(
        submit,
        who,
        outcome,
        error,
        node_id=node.node_id if node is not None else "",
        attempt=call.attempt,
        is_job=who is not None and who.session_id == keeper_id,
        waited_s=max(given_at - call.created_at, 0.0),
        took_s=max(now - given_at, 0.0),
    )


def of_refusal(submit: pb.Submit, session: Session, keeper_id: bytes, error: str) -> Audited:
    """Of a call that wasn't taken."""
    is_job = session.session_id == keeper_id
    return _record(submit, session, "refused", error, "", submit.attempt, is_job, 0.0, 0.0)


def _record(
    submit: pb.Submit,
    who: Session | None,
    outcome: str,
    error: str,
    node_id: str,
    attempt: int,
    is_job: bool,
    waited_s: float,
    took_s: float,
) -> Audited:
    token_id = submit.owner or (who.access.token_id if who is not None else "")  # a job's owner is in it
    return Audited(
        outcome,
        error,
        submit.function or submit.code.spec.name,
        submit.code.digest,
        node_id,
        submit.call_id,
        attempt,
        len(submit.tasks) or 1,
        token_id,
        who.access.name if who is not None and who.access.token_id == token_id else "",
        f"{who.runtime.host}:{who.runtime.pid}" if who is not None and who.runtime.host else "",
        is_job,
        waited_s,
        took_s,
    )
