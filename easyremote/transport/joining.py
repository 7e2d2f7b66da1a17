"""The two calls around an invitation: `Invite` makes one, `Join` exchanges it for a token."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from time import monotonic
from typing import Any

import grpc
import grpc.aio

from easyremote.core.access import OWNER
from easyremote.discovery import Endpoint
from easyremote.errors import AuthError, EasyRemoteError, GatewayUnreachable, UsageError
from easyremote.security.joining import Invitation
from easyremote.security.tokens import INVITATION, MAX_NAME, TokenRecord, TokenStore
from easyremote.transport.dialing import channel_to, find_gateway
from easyremote.wire.v1 import gateway_pb2 as pb

JOIN = "/easyremote.v1.Gateway/Join"
INVITE = "/easyremote.v1.Gateway/Invite"

TIMEOUT_S = 10.0

_STATUS = {AuthError.code: grpc.StatusCode.PERMISSION_DENIED, UsageError.code: grpc.StatusCode.INVALID_ARGUMENT}


class Reception:
    """The gateway's side. `about()` tells what invitations say of it: addresses, fingerprint, name."""

    def __init__(self, tokens: TokenStore, about: Callable[[], tuple[tuple[str, ...], str, str]]) -> None:
        self._tokens = tokens
        self._about = about

    def invite(self, request: pb.InviteRequest, by: str = OWNER.name) -> Invitation:
        """`by`: the name of the token that asks.

        Raises UsageError for what can't be, OverloadedError, AuthError and OSError as the token store does.
        """
        addresses, fingerprint, gateway_name = self._about()
        if not addresses:
            raise UsageError(
                "this gateway listens on loopback only, so nobody elsewhere can reach it; start it with --bind 0.0.0.0 "
                '(Server(host="0.0.0.0")), which gives it TLS'
            )
        record, text = self._tokens.create(
            request.name or f"invitation as {', '.join(request.roles)}",
            kind=INVITATION,
            for_roles=list(request.roles),
            functions=list(request.functions),
            nodes=list(request.nodes),
            expires_s=request.expires_s or None,
            once=request.uses == 1,
            uses_left=0 if request.uses == 1 else request.uses,
            by=by,
        )
        return Invitation(addresses, fingerprint, text, record.for_roles, gateway_name, request.inviter)

    def join(self, token: bytes, request: pb.JoinRequest) -> pb.JoinReply | None:
        """None when the invitation isn't good any more. A token is made before the invitation is used up: where that fails, on a
        full disk, the invitation stands."""
        invitation = self._tokens.invitation_of(token, monotonic())
        if invitation is None:
            return None
        record, text = self._make(invitation, request)
        if self._tokens.use_invitation(token, monotonic()) is None:  # another was faster
            self._tokens.revoke(record.token_id, _as_invited(invitation))
            return None
        return pb.JoinReply(token=text, token_id=record.token_id, roles=record.roles, gateway_name=self._about()[2])

    def _make(self, invitation: TokenRecord, request: pb.JoinRequest) -> tuple[TokenRecord, str]:
        name = "".join(c for c in request.name if c.isprintable())[:MAX_NAME] or "somebody"
        return self._tokens.create(
            name,
            invitation.for_roles,
            functions=invitation.functions,
            nodes=invitation.nodes,
            max_calls=invitation.max_calls,
            max_bytes=invitation.max_bytes,
            calls_per_s=invitation.calls_per_s,
            by=_as_invited(invitation),
        )

    async def on_invite(self, request: pb.InviteRequest, context: Any, by: str) -> pb.InviteReply:
        try:
            invitation = self.invite(request, by)
        except EasyRemoteError as error:
            await context.abort(_STATUS.get(error.code, grpc.StatusCode.RESOURCE_EXHAUSTED), error.message)
            raise
        return pb.InviteReply(invitation=invitation.message(), invitation_id=invitation.invitation_id)


def _as_invited(invitation: TokenRecord) -> str:
    """Whoever joins, in the audit log."""
    return f"invitation {invitation.token_id}"


async def join(endpoint: Endpoint, name: str) -> tuple[str, pb.JoinReply]:
    """The address that answered, and what the invitation's token was exchanged for. Raises AuthError when it isn't good any more,
    and what dialing raises."""
    if endpoint.tls:
        address, _ = await find_gateway(endpoint)
        endpoint = replace(endpoint, address=address, others=())
    async with channel_to(endpoint) as channel:
        method = channel.unary_unary(
            JOIN,
            request_serializer=pb.JoinRequest.SerializeToString,
            response_deserializer=pb.JoinReply.FromString,
        )
        try:
            reply = await method(pb.JoinRequest(name=name), metadata=endpoint.metadata(), timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                raise AuthError(
                    f"the gateway at {endpoint.address} doesn't take this invitation: it was used, has expired, or was revoked. "
                    "Ask for a new one ('easyremote invite' there)"
                ) from None
            raise _unreachable(endpoint, error) from None
        return endpoint.address, reply


async def invite(endpoint: Endpoint, request: pb.InviteRequest) -> Invitation:
    """Ask for an invitation. Raises AuthError without the role, UsageError, and what dialing raises."""
    async with channel_to(endpoint) as channel:
        method = channel.unary_unary(
            INVITE,
            request_serializer=pb.InviteRequest.SerializeToString,
            response_deserializer=pb.InviteReply.FromString,
        )
        try:
            reply = await method(request, metadata=endpoint.metadata(), timeout=TIMEOUT_S)
        except grpc.aio.AioRpcError as error:
            if error.code() in (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED):
                raise AuthError(
                    f"the gateway at {endpoint.address} makes no invitation for this token: {error.details()}"
                ) from None
            if error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.RESOURCE_EXHAUSTED):
                raise UsageError(error.details() or "") from None
            raise _unreachable(endpoint, error) from None
        return Invitation.of(reply.invitation)


def _unreachable(endpoint: Endpoint, error: Any) -> GatewayUnreachable:
    return GatewayUnreachable(
        f"no gateway answers at {endpoint.address} ({endpoint.source}): {error.code().name.lower()}: {error.details()}"
    )
