"""What a client states and signs, and how a node reads it: who may open calls, and what exactly a call is.

An *admission* lets one node, named by its key, open one client's calls for a time: it carries the key of an epoch, wrapped for
that node. A *call statement* fixes all of a call that a gateway on the way may not change. Everything here is a pure function;
whom a node lets in is decided in `consent`.

The epoch's key is wrapped under a key agreed on with a fresh X25519 key, which is forgotten at once: whoever gets hold of the
client's keys later can't read calls of earlier days.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable
from dataclasses import dataclass, field

from google.protobuf.message import DecodeError

from easyremote.errors import AuthError, ConsentError
from easyremote.security.identity import Identity, PublicIdentity
from easyremote.wire.v1 import gateway_pb2 as pb

SKEW_S = 300.0
"""Clocks of clients and nodes may differ by so much."""

EPOCH_BYTES = 16
KEY_BYTES = 32

_ADMISSION = b"admission 1"
_CALL = b"call 1"
_WRAP = b"easyremote epoch key 1"


@dataclass(frozen=True, slots=True)
class OpenAdmission:
    """An admission that was for this node, and is in force."""

    client: PublicIdentity
    epoch: bytes
    expires: float
    key: bytes = field(repr=False)  # of the epoch, 32 bytes
    mac_key: bytes = field(repr=False)  # what statements of calls are authenticated with, derived from it


def admit(client: Identity, node: PublicIdentity, epoch: bytes, key: bytes, expires: float) -> pb.Admission:
    """Let this node open what is sealed under the epoch's key, until `expires` (seconds since 1970)."""
    statement = pb.AdmissionStatement(
        node_key=node.sign_key,
        client=client.public.data,
        epoch=epoch,
        expires=expires,
        wrapped=_wrap(key, node, _bound_to(client.public, node, epoch)),
    ).SerializeToString()
    return pb.Admission(statement=statement, signature=client.sign(_ADMISSION, statement))


def read_admission(admission: pb.Admission) -> tuple[pb.AdmissionStatement, PublicIdentity]:
    """What it says and which client says it. Raises ConsentError where it isn't what that client signed."""
    statement = pb.AdmissionStatement()
    try:
        statement.ParseFromString(admission.statement)
        client = PublicIdentity.parse(statement.client)
    except (DecodeError, AuthError):
        raise ConsentError("the call's admission can't be read; it was changed on its way") from None
    if len(statement.epoch) != EPOCH_BYTES or not client.verify(_ADMISSION, admission.statement, admission.signature):
        raise ConsentError("the call's admission isn't what its client signed; it was changed on its way")
    return statement, client


def open_admission(admission: pb.Admission, node: Identity, now: float) -> OpenAdmission:
    """What it says to this node. Raises ConsentError where it is another node's, has expired, or isn't the client's."""
    statement, client = read_admission(admission)
    if statement.node_key != node.public.sign_key:
        raise ConsentError("the call was sealed for another node; its gateway sent it to the wrong one")
    if not now < statement.expires + SKEW_S:  # NaN as well
        raise ConsentError(f"the call's admission expired {now - statement.expires:.0f} s ago by this node's clock")
    key = _unwrap(statement.wrapped, node, _bound_to(client, node.public, statement.epoch))
    return OpenAdmission(client, statement.epoch, statement.expires, key, mac_key(key))


def state_call(submit: pb.Submit, epoch: bytes, code_digest: str, issued: float, expires: float) -> pb.CallStatement:
    """The statement of this call. `code_digest`: see `digest_of`; empty where it brings no payload of code."""
    statement = _fixed(submit)
    statement.epoch = epoch
    statement.code_digest = code_digest
    statement.issued = issued
    statement.expires = expires
    return statement


def read_call(seal: pb.Seal) -> pb.CallStatement:
    """The statement as it came; whether it is the client's is for the signature, or the sealed bytes, to tell."""
    statement = pb.CallStatement()
    try:
        statement.ParseFromString(seal.statement)
    except DecodeError:
        raise ConsentError("what the client states of the call can't be read; it was changed on its way") from None
    return statement


def mac_key(key: bytes) -> bytes:
    """What statements of calls of an epoch with this key are authenticated with."""
    return hmac.digest(key, b"easyremote statement 1", "sha256")


def mac_call(key: bytes, statement: bytes) -> bytes:
    """Authenticates a serialized statement; `key` comes from `mac_key`."""
    return hmac.digest(key, statement, "sha256")


def is_of_epoch(admission: OpenAdmission, seal: pb.Seal) -> bool:
    """Whether somebody who has the epoch's key stated this call: its client, or a node that it let open its calls."""
    return hmac.compare_digest(mac_call(admission.mac_key, seal.statement), seal.mac)


def sign_call(client: Identity, statement: bytes) -> bytes:
    """The client's signature of a serialized statement."""
    return client.sign(_CALL, statement)


def is_signed(client: PublicIdentity, seal: pb.Seal) -> bool:
    """Whether the client signed the call's statement."""
    return client.verify(_CALL, seal.statement, seal.signature)


def check_call(statement: pb.CallStatement, submit: pb.Submit, node_id: str, now: float) -> None:
    """Whether the call that came is the one that was stated, for this node and in time. Raises ConsentError."""
    came = _fixed(submit)
    for field_of in came.DESCRIPTOR.fields:
        name = field_of.name
        if name in _STATED_ONLY or (name == "node_id" and not statement.node_id):
            continue
        if getattr(came, name) != getattr(statement, name) and not (name == "spec" and _is_same_spec(came, statement)):
            raise ConsentError(f"the call isn't what its client stated: '{name}' was changed on its way")
    if statement.node_id not in ("", node_id):
        raise ConsentError(f"the call is for node '{statement.node_id}', and was sent to '{node_id}'")
    if not now < statement.expires + SKEW_S:
        raise ConsentError(
            f"the call was to begin until {now - statement.expires:.0f} s ago by this node's clock; call again, or set the "
            "clocks of both machines"
        )
    if not statement.issued <= now + SKEW_S:
        raise ConsentError(
            f"the call was made {statement.issued - now:.0f} s in the future by this node's clock; set the clocks of both "
            "machines"
        )


def digest_of(parts: Iterable[bytes | bytearray | memoryview]) -> str:
    """SHA-256 of a payload's parts, lower-case hex: each part's length counts as well."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()


_STATED_ONLY = ("epoch", "code_digest", "issued", "expires", "retries", "retries_set")
"""What a Submit hasn't got, or what its gateway may change as its function's owner wants: the statement counts, see `consent`."""


def _fixed(submit: pb.Submit) -> pb.CallStatement:
    """What may not be changed on the way, but for `_STATED_ONLY`."""
    options = submit.options
    statement = pb.CallStatement(
        call_id=submit.call_id,
        function=submit.function,
        node_id=options.node_id,
        session_id=options.session_id,
        retries=options.retries,
        retries_set=options.retries_set,
        keep=options.keep,
        accept=options.accept,
        ref_ids=[ref.ref_id for ref in submit.refs],
        tasks=len(submit.tasks),
    )
    if submit.HasField("code"):
        statement.code_kind = submit.code.kind
        statement.spec = submit.code.spec.SerializeToString(deterministic=True)
        statement.python = submit.code.python
    return statement


def _is_same_spec(came: pb.CallStatement, statement: pb.CallStatement) -> bool:
    """Other versions may write the same message in other bytes."""
    try:
        return pb.FunctionSpec.FromString(came.spec) == pb.FunctionSpec.FromString(statement.spec)
    except DecodeError:
        return False


def _bound_to(client: PublicIdentity, node: PublicIdentity, epoch: bytes) -> bytes:
    """What a wrapped key is for: it opens for nothing else."""
    return client.data + node.sign_key + node.seal_key + epoch


def _wrap(key: bytes, node: PublicIdentity, bound_to: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    once = Identity.generate()
    sent = once.public.seal_key
    wrapping = _derive(once.agree(node.seal_key), sent + bound_to)
    return sent + AESGCM(wrapping).encrypt(bytes(12), key, bound_to)  # one key, one message: its nonce may be 0


def _unwrap(wrapped: bytes, node: Identity, bound_to: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        sent = wrapped[:32]
        wrapping = _derive(node.agree(sent), sent + bound_to)
        key = AESGCM(wrapping).decrypt(bytes(12), wrapped[32:], bound_to)
    except (InvalidTag, AuthError, ValueError):
        key = b""
    if len(key) != KEY_BYTES:
        raise ConsentError("the key in the call's admission can't be opened with this node's key")
    return key


def _derive(shared: bytes, info: bytes) -> bytes:
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    return HKDF(SHA256(), KEY_BYTES, salt=None, info=_WRAP + info).derive(shared)
