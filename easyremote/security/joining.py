"""Invitations: `er1:` and one word, which says who to dial, how to know that it is the right one, and has what opens it once."""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from easyremote.core.access import Role, may_call, may_serve
from easyremote.errors import UsageError
from easyremote.wire.v1 import gateway_pb2 as pb

PREFIX = "er1:"

MAX_CHARACTERS = 8192
"""Of an invitation's text; more is none."""

MAX_ADDRESSES = 16

_SUM_BYTES = 4

_AGAIN = "copy all of it, from er1: to the end, or ask for a new one"


@dataclass(frozen=True, slots=True)
class Invitation:
    """`addresses`: "host:port", the likeliest first. `fingerprint`: SHA-256 of the gateway's public key, in hexadecimal; empty:
    it speaks no TLS. `token`: what opens `Join`. `inviter`: the identity of who made it, whose code a node may trust."""

    addresses: tuple[str, ...]
    fingerprint: str
    token: str = field(repr=False)
    roles: tuple[Role, ...] = (Role.CALL,)
    gateway_name: str = ""
    inviter: bytes = b""

    @property
    def invitation_id(self) -> str:
        """The public part of its token."""
        return self.token[3:11]

    @property
    def is_for_node(self) -> bool:
        return may_serve(self.roles)

    @property
    def is_for_client(self) -> bool:
        return may_call(self.roles)

    def message(self) -> pb.Invitation:
        return pb.Invitation(
            addresses=self.addresses,
            fingerprint=bytes.fromhex(self.fingerprint),
            token=self.token,
            roles=self.roles,
            gateway_name=self.gateway_name,
            inviter=self.inviter,
        )

    @classmethod
    def of(cls, message: pb.Invitation) -> Invitation:
        """Raises UsageError for what is none."""
        try:
            roles = tuple(map(Role, message.roles))
        except ValueError as error:
            raise UsageError(f"this invitation is for something that this version doesn't know: {error}") from None
        if not (1 <= len(message.addresses) <= MAX_ADDRESSES and message.token and roles):
            raise UsageError("this invitation says too little: no address, no token, or no role; ask for a new one")
        if len(message.fingerprint) not in (0, 32) or len(message.inviter) not in (0, 128):
            raise UsageError("this invitation has a fingerprint or a key of a length that none has; ask for a new one")
        return cls(
            tuple(message.addresses),
            message.fingerprint.hex(),
            message.token,
            roles,
            message.gateway_name,
            message.inviter,
        )

    def format(self) -> str:
        """One word, to be passed on."""
        data = self.message().SerializeToString(deterministic=True)
        return PREFIX + base64.urlsafe_b64encode(_sum(data) + data).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Invitation:
        """From such a word; white space in it, as from a line that was broken, does no harm. Raises UsageError, which says what
        is wrong with it and shows nothing of it."""
        word = "".join(text.split())
        if not word.startswith(PREFIX):
            kind = word[:4]
            if kind.startswith("er") and kind.endswith(":") and kind[2:3].isdigit():
                raise UsageError(f"this invitation ({kind}) was made by a newer EasyRemote; upgrade this one")
            raise UsageError(f"an invitation begins with {PREFIX}; {_AGAIN}")
        if len(word) > MAX_CHARACTERS:
            raise UsageError(f"an invitation has at most {MAX_CHARACTERS} characters, and this has {len(word)}")
        encoded = word[len(PREFIX) :]
        try:
            data = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError):
            raise UsageError(f"this invitation has characters that none has, or was cut; {_AGAIN}") from None
        if _sum(data[_SUM_BYTES:]) != data[:_SUM_BYTES]:
            raise UsageError(f"this invitation was cut or changed on its way; {_AGAIN}")
        try:
            return cls.of(pb.Invitation.FromString(data[_SUM_BYTES:]))
        except DecodeError:
            raise UsageError(f"this is no invitation, though it looks like one; {_AGAIN}") from None


def is_invitation(text: str | None) -> bool:
    """Whether this was meant as one, and not as an address: a host is never called er and a digit with a port of such length."""
    word = (text or "").strip()
    return word[:2] == "er" and word[2:3].isdigit() and word[3:4] == ":" and not word[4:].isdigit()


def _sum(data: bytes) -> bytes:
    """Against slips, not against anybody: what it guards is the token itself."""
    return hashlib.sha256(data).digest()[:_SUM_BYTES]
