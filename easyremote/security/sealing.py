"""How calls and what comes of them are sealed: AES-256-GCM under keys that the gateway between client and node hasn't got.

- A *box* holds what a call brings. Its key follows from the key of the client's epoch and the call's id, so any node that the
  client has admitted can open it, and it opens only beside the very statement that it was made with.
- An *event* is sealed under a key that one client and one node share for one run of one attempt, with the event's number as the
  nonce: an event that was changed, left out, doubled, swapped, or is another node's or another call's doesn't open.
- A *value* that is too large for a frame is sealed in segments under a key of its own, which is in the box or in the event that
  names it. So chunks on their way, shared files, and whoever keeps values for others have only what is sealed.

Everything here is a pure function but for random keys. `cryptography` is loaded where something is sealed or opened.
"""

from __future__ import annotations

import hashlib
import hmac
import mmap
import secrets
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from google.protobuf.message import DecodeError

from easyremote.errors import SealError
from easyremote.security.identity import PUBLIC_BYTES
from easyremote.security.statements import EPOCH_BYTES, KEY_BYTES
from easyremote.wire.codec import Encoded, Part
from easyremote.wire.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

SEGMENT_BYTES = 1024 * 1024
"""Plain bytes of a value that are sealed together."""

TAG_BYTES = 16
NONCE_BYTES = 12
SALT_BYTES = 16

MAX_OWN_BYTES = 2048

_VERSION = b"\x01"
_MAPPED_BYTES = 1024 * 1024


def _cipher(key: bytes) -> AESGCM:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key)


def _derived(key: bytes, use: bytes, *about: bytes) -> bytes:
    """HKDF-Expand of one block (RFC 5869): `key` is uniform already."""
    info = b"easyremote " + use + b"".join(len(part).to_bytes(4, "big") + part for part in about)
    return hmac.digest(key, info + b"\x01", "sha256")


def _opened(key: bytes, nonce: bytes, sealed: bytes | memoryview, bound_to: bytes, what: str) -> bytes:
    from cryptography.exceptions import InvalidTag

    try:
        return _cipher(key).decrypt(nonce, sealed, bound_to)
    except (InvalidTag, ValueError):
        raise SealError(f"{what} was changed on its way, or isn't what it is said to be") from None


# ---- what a call brings ------------------------------------------------------------------------------------------------


def seal_box(epoch_key: bytes, call_id: bytes, statement: bytes, content: pb.Submit) -> bytes:
    """`statement`: the call's, serialized; the box opens only beside it."""
    nonce = secrets.token_bytes(NONCE_BYTES)
    key = _derived(epoch_key, b"box 1", call_id)
    return nonce + _cipher(key).encrypt(nonce, content.SerializeToString(), hashlib.sha256(statement).digest())


def open_box(epoch_key: bytes, call_id: bytes, statement: bytes, box: bytes) -> pb.Submit:
    """Raises SealError."""
    key = _derived(epoch_key, b"box 1", call_id)
    bound_to = hashlib.sha256(statement).digest()
    data = _opened(key, box[:NONCE_BYTES], box[NONCE_BYTES:], bound_to, "what the call brings")
    try:
        return pb.Submit.FromString(data)
    except DecodeError:
        raise SealError("a call that was sealed can't be read; its sender may be a newer version") from None


# ---- what comes of it --------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Origin:
    """What an event says of its key, in clear: whose it is, and of which run."""

    node: bytes  # the node's public keys
    epoch: bytes
    salt: bytes  # random, of one run of one attempt
    own: bytes  # of a job: what its client opens it with in another process

    def to_bytes(self) -> bytes:
        return b"".join((_VERSION, self.node, self.epoch, self.salt, len(self.own).to_bytes(2, "big"), self.own))

    @classmethod
    def of(cls, sealed: bytes) -> tuple[Origin, bytes]:
        """And what is behind it. Raises SealError."""
        node_to = 1 + PUBLIC_BYTES
        epoch_to = node_to + EPOCH_BYTES
        at = epoch_to + SALT_BYTES
        own_bytes = int.from_bytes(sealed[at : at + 2], "big")
        at += 2
        if sealed[:1] != _VERSION or len(sealed) < at + own_bytes + TAG_BYTES or own_bytes > MAX_OWN_BYTES:
            raise SealError("a sealed event was cut off on its way, or comes from a newer version")
        own, behind = sealed[at : at + own_bytes], sealed[at + own_bytes :]
        return cls(sealed[1:node_to], sealed[node_to:epoch_to], sealed[epoch_to : at - 2], own), behind


class EventKey:
    """Of one run of one attempt. `shared`: what `Identity.agree` gives the client and the node, of each other's keys."""

    def __init__(self, epoch_key: bytes, shared: bytes, origin: Origin, call_id: bytes, attempt: int) -> None:
        self.origin = origin
        between = _derived(epoch_key, b"events 1", shared, origin.node)
        about = (call_id, attempt.to_bytes(8, "big"), origin.salt)
        self._key = _derived(between, b"attempt 1", *about)
        self._reply_key = _derived(between, b"replies 1", *about)
        self._head = origin.to_bytes()

    def seal(self, event: pb.Event, seq: int) -> bytes:
        """An event's body, as the one with that number."""
        return self._head + _cipher(self._key).encrypt(_nonce_of(seq), event.SerializeToString(), self._head)

    def open(self, behind: bytes, seq: int) -> pb.Event:
        """Raises SealError."""
        data = _opened(self._key, _nonce_of(seq), behind, self._head, "what the node sent")
        try:
            return pb.Event.FromString(data)
        except DecodeError:
            raise SealError("an event that was sealed can't be read; its sender may be a newer version") from None

    def seal_reply(self, reply: pb.Reply, ask_id: int) -> bytes:
        """What the client says to the question of that number: it opens as the reply to no other."""
        nonce = secrets.token_bytes(NONCE_BYTES)
        return nonce + _cipher(self._reply_key).encrypt(nonce, reply.SerializeToString(), _nonce_of(ask_id))

    def open_reply(self, sealed: bytes, ask_id: int) -> pb.Reply:
        """Raises SealError."""
        nonce, behind = sealed[:NONCE_BYTES], sealed[NONCE_BYTES:]
        data = _opened(self._reply_key, nonce, behind, _nonce_of(ask_id), "what the client answered")
        try:
            return pb.Reply.FromString(data)
        except DecodeError:
            raise SealError("an answer that was sealed can't be read; its sender may be a newer version") from None


def _nonce_of(seq: int) -> bytes:
    return seq.to_bytes(NONCE_BYTES, "big")


# ---- large values ------------------------------------------------------------------------------------------------------


def seal_value(encoded: Encoded, key: bytes | None = None) -> tuple[Encoded, bytes]:
    """The same in as many parts, sealed, and the key, which must never have sealed another value. Takes a while."""
    key = key or secrets.token_bytes(KEY_BYTES)
    cipher, count = _cipher(key), len(encoded.parts)
    views = [memoryview(part).cast("B") for part in encoded.parts]
    parts: list[Part] = []
    for number, view in enumerate(views):
        area = room_for(sealed_bytes(view.nbytes))
        at = 0
        for segment, start in enumerate(range(0, max(view.nbytes, 1), SEGMENT_BYTES)):
            plain = view[start : start + SEGMENT_BYTES]
            is_last = start + SEGMENT_BYTES >= view.nbytes
            sealed = cipher.encrypt(_segment(number, segment, is_last), plain, _shape(encoded.content_type, count))
            area[at : at + len(sealed)] = sealed
            at += len(sealed)
        parts.append(area)
    return Encoded(encoded.content_type, parts), key


def open_value(content_type: str, sealed: Sequence[Part], key: bytes) -> Encoded:
    """The value again. Raises SealError where a byte or a part was changed, left out or added. Takes a while."""
    bound_to, parts = _shape(content_type, len(sealed)), list[Part]()
    for number, part in enumerate(sealed):
        view = memoryview(part).cast("B")
        area = room_for(plain_bytes(view.nbytes))
        step = SEGMENT_BYTES + TAG_BYTES
        at = 0
        for segment, start in enumerate(range(0, view.nbytes, step)):
            nonce = _segment(number, segment, start + step >= view.nbytes)
            plain = _opened(key, nonce, view[start : start + step], bound_to, "a large value")
            area[at : at + len(plain)] = plain
            at += len(plain)
        parts.append(area)
    return Encoded(content_type, parts)


def sealed_bytes(plain: int) -> int:
    """How long a part of so many bytes is when it is sealed."""
    return plain + TAG_BYTES * max(-(-plain // SEGMENT_BYTES), 1)


def plain_bytes(sealed: int) -> int:
    """And the other way round. Raises SealError for a length that none has."""
    segments = -(-sealed // (SEGMENT_BYTES + TAG_BYTES))
    plain = sealed - TAG_BYTES * segments
    if plain < 0 or not segments or sealed_bytes(plain) != sealed:
        raise SealError(f"a sealed value of {sealed} bytes was cut off on its way")
    return plain


def _segment(part: int, segment: int, is_last: bool) -> bytes:
    return part.to_bytes(4, "big") + segment.to_bytes(7, "big") + bytes([is_last])


def _shape(content_type: str, count: int) -> bytes:
    return b"value 1" + count.to_bytes(4, "big") + content_type.encode()


def room_for(size: int) -> memoryview:
    """Memory whose pages come as they are touched, where it is much."""
    return memoryview(mmap.mmap(-1, size)) if size >= _MAPPED_BYTES else memoryview(bytearray(size))
