"""What administrators ask of a gateway's tokens."""

from __future__ import annotations

from easyremote.errors import EasyRemoteError, UsageError
from easyremote.security.tokens import INVITATION, TokenRecord, TokenStore
from easyremote.wire.v1 import gateway_pb2 as pb


def administer(tokens: TokenStore, query: pb.Query, by: str) -> pb.Answer:
    """The answer, once it is on disk; an error is in it. `by`: who asks."""
    try:
        return pb.Answer(query_id=query.query_id, tokens=_done(tokens, query.tokens, by))
    except EasyRemoteError as error:
        told = pb.ErrorInfo(code=error.code, message=error.message)
    except OSError as error:
        text = f"the gateway can't write its tokens to {tokens.path}: {error.strerror or error}"
        told = pb.ErrorInfo(code="unavailable", message=text)
    return pb.Answer(query_id=query.query_id, error=told)


def _done(tokens: TokenStore, request: pb.TokenRequest, by: str) -> pb.TokenAnswer:
    """Raises EasyRemoteError, OSError."""
    what = request.WhichOneof("what")
    if what == "list":
        return pb.TokenAnswer(tokens=map(_to_wire, tokens.list()))
    if what == "create":
        wanted = request.create
        record, text = tokens.create(
            wanted.name,
            wanted.roles,
            functions=wanted.functions,
            nodes=wanted.nodes,
            max_calls=wanted.max_calls,
            max_bytes=wanted.max_bytes,
            calls_per_s=wanted.calls_per_s,
            expires_s=wanted.expires or None,
            by=by,
        )
        return pb.TokenAnswer(tokens=[_to_wire(record)], text=text)
    if what == "revoke":
        gone = tokens.revoke(request.revoke, by)
        if gone is None:
            raise UsageError(
                f"this gateway has no token '{request.revoke[:40]}'; 'easyremote tokens list' shows those it has"
            )
        return pb.TokenAnswer(tokens=[_to_wire(gone)])
    raise UsageError("this gateway doesn't know that request about tokens")


def _to_wire(record: TokenRecord) -> pb.TokenRecord:
    is_invitation = record.kind == INVITATION
    return pb.TokenRecord(
        token_id=record.token_id,
        name=record.name,
        roles=record.for_roles if is_invitation else record.roles,
        functions=record.functions,
        nodes=record.nodes,
        max_calls=record.max_calls,
        max_bytes=record.max_bytes,
        calls_per_s=record.calls_per_s,
        created=record.created,
        expires=record.expires or 0.0,
        is_invitation=is_invitation,
        once=record.once,
    )
