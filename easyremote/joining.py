"""Inviting and joining: from an `er1:` text to a credential of one's own, which outlives this process."""

from __future__ import annotations

import getpass
import logging
import socket
import time
from collections.abc import Iterable

from easyremote import discovery
from easyremote.core.access import Role
from easyremote.errors import AuthError, UsageError
from easyremote.security import credentials
from easyremote.security.credentials import Credential
from easyremote.security.joining import Invitation, is_invitation
from easyremote.sizes import parse_span
from easyremote.transport.loop import shared_loop
from easyremote.wire.v1 import gateway_pb2 as pb

_log = logging.getLogger("easyremote")

DEFAULT_EXPIRY_S = 3600.0
"""So long an invitation is good when nothing is said."""

ROLES = {"node": Role.SERVE, "serve": Role.SERVE, "call": Role.CALL, "ship": Role.SHIP, "admin": Role.ADMIN}


def find(
    gateway: str | None, token: str | None, allow_plaintext_network: bool = False, as_node: bool = False
) -> discovery.Endpoint:
    """The gateway to use, from an address or an invitation, or as `discovery.find` looks for it. An invitation is exchanged the
    first time, and stands for what it was exchanged for from then on. Raises what both raise."""
    text = gateway or discovery.given_address()
    if text is None or not is_invitation(text):
        return discovery.find(gateway, token, allow_plaintext_network, as_node)
    return discovery.of_credential(join(Invitation.parse(text), as_node), "the invitation")


def join(invitation: Invitation, as_node: bool | None = None) -> Credential:
    """The credential for this invitation: what it was exchanged for earlier on this machine, or is now.

    `as_node`: what it is wanted for, None: whatever it is for. Raises UsageError when it is for something else, before anything
    is sent; AuthError when it isn't good any more; UntrustedGateway, GatewayUnreachable.
    """
    if as_node is not None and not (invitation.is_for_node if as_node else invitation.is_for_client):
        wanted, role = ("a node", "node") if as_node else ("a client", "ship")
        raise UsageError(
            f"this invitation is for {'clients' if as_node else 'nodes'}, not for {wanted}; ask for one that "
            f"'easyremote invite --role {role}' makes"
        )
    for known in credentials.load_all():
        if known.invitation_id == invitation.invitation_id and known.fingerprint == invitation.fingerprint:
            return known
    credential = _exchange(invitation)
    if as_node or Role.SERVE in credential.roles:
        _trust(credential)
    try:
        credential.save()
    except OSError as error:
        _log.warning(
            "what the invitation was exchanged for can't be kept in %s: %s. It lasts as long as this process, and then a new "
            "invitation is needed",
            credential.path,
            error,
        )
    return credential


def _trust(credential: Credential) -> None:
    """A node that joins takes code of who invited it: it was asked for by pasting the line."""
    if not credential.inviter:
        return
    from easyremote.security.authorized_keys import AuthorizedKeys, make_key
    from easyremote.security.identity import PublicIdentity

    identity = PublicIdentity.parse(credential.inviter)
    try:
        keys = AuthorizedKeys()
        if keys.find(identity.sign_key) is None:
            keys.add(make_key(identity, comment=f"invited to {credential.gateway_name or credential.addresses[0]}"))
    except OSError as error:
        _log.warning("the key of who invited this node, %s, can't be kept: %s", identity.fingerprint, error)


def _exchange(invitation: Invitation) -> Credential:
    from easyremote.transport import joining

    endpoint = endpoint_of(invitation, invitation.token)
    addresses = (endpoint.address, *endpoint.others)
    shared_loop.hold()
    try:
        answered, reply = shared_loop.run(joining.join(endpoint, _who()))
    finally:
        shared_loop.release()
    return Credential(
        (answered, *(address for address in addresses if address != answered)),
        invitation.fingerprint,
        reply.token,
        tuple(map(Role, reply.roles)),
        reply.gateway_name,
        invitation.invitation_id,
        time.time(),
        invitation.inviter,
    )


def endpoint_of(invitation: Invitation, token: str) -> discovery.Endpoint:
    """Where it leads. Raises UsageError for an address that is none."""
    first, *others = map(discovery.normalize, invitation.addresses)
    return discovery.Endpoint(
        first,
        token,
        "the invitation",
        tls=bool(invitation.fingerprint) or discovery.needs_tls(first, False),
        fingerprint=invitation.fingerprint,
        others=tuple(others),
    )


def stored(as_node: bool) -> Credential:
    """The newest credential for this. Raises UsageError when this machine has joined nothing as that."""
    for credential in credentials.load_all():
        if credential.is_for_node if as_node else credential.is_for_client:
            return credential
    raise UsageError(
        f"this machine has joined no gateway {'as a node' if as_node else ''} yet ({credentials.folder()} holds nothing). Ask "
        "for an invitation, which 'easyremote invite' makes where the gateway runs, and run: easyremote join er1:..."
    )


def request(
    role: str = "node",
    expires: float | str = DEFAULT_EXPIRY_S,
    uses: int = 1,
    name: str = "",
    functions: Iterable[str] = (),
    nodes: Iterable[str] = (),
) -> pb.InviteRequest:
    """What is asked for, as its message. Raises UsageError."""
    if role not in ROLES:
        raise UsageError(f"there is no role '{role}'; roles are node, call, ship and admin")
    expires_s = parse_span(expires, "expires")
    if not 0 < expires_s <= 365 * 86400:
        raise UsageError(f"an invitation is good for up to 365 days, not for {expires!r}")
    if not (isinstance(uses, int) and 1 <= uses <= 1_000_000):
        raise UsageError(f"uses is how often the invitation can be used, a whole number from 1, not {uses!r}")
    return pb.InviteRequest(
        roles=[ROLES[role]],
        expires_s=expires_s,
        uses=uses,
        name=name,
        functions=functions,
        nodes=nodes,
        inviter=_own_identity() if role != "call" else b"",
    )


def _own_identity() -> bytes:
    """Of who invites; empty where there can be none: then a node that joins is told otherwise whom to trust."""
    from easyremote.security.identity import Identity

    try:
        return Identity.load_or_create().public.data
    except (AuthError, OSError) as error:
        _log.warning("the invitation names no key to trust: %s", error)
        return b""


def _who() -> str:
    try:
        user = getpass.getuser()
    except (OSError, KeyError, ImportError):
        user = "somebody"
    return f"{user} at {socket.gethostname()}"
