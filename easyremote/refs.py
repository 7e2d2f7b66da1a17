"""`Ref`: a handle of a value that stays where it is, and what a client knows of the refs that its user holds."""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import os
import secrets
import weakref
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from easyremote import foreign
from easyremote.core.values import MAX_REFS
from easyremote.errors import OverloadedError, PayloadError, RefLost, UsageError
from easyremote.sealing import open_fetched, sealed_payload
from easyremote.security.sealing import plain_bytes, seal_value
from easyremote.sizes import format_size
from easyremote.transport.loop import shared_loop
from easyremote.wire import codec
from easyremote.wire.references import Handle, mention, resolve, type_text
from easyremote.wire.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from easyremote.connection import Connection

T = TypeVar("T")

__all__ = ["Ref"]

_MAX_PARTS = 256
"""Buffers that a value has beside its pickle stream; one with more is pickled as a whole."""


class Ref(Handle, Generic[T]):
    """A handle of a value that stays where it is: here, for `Client.put`, or on the node where a call with `keep=True` made it.

    As an argument of a call, or anywhere inside of one, it stands for the value: the function gets that. A node that hasn't got
    the value fetches it once, and keeps it for further calls. The value is freed everywhere when its last handle goes: by
    `release()`, by `del`, or with its client.

    Attributes: `type` (text, with the shape of an array), `size_bytes`, `node` (where it was made; empty: here), `ref_id` (32
    hex digits).
    """

    __slots__ = ("__weakref__", "_finalizer", "_table", "_value", "_wire")

    def __init__(self, table: RefTable, wire: pb.Ref, value: codec.Encoded | None = None) -> None:
        """For `RefTable`, which has counted this handle."""
        self._table = table
        self._wire = wire
        self._value = value
        self._finalizer = weakref.finalize(self, table.forget, wire.ref_id)
        self._finalizer.atexit = False

    def get(self, timeout: float | None = None) -> T:
        """The value, brought here; it is the caller's own to change.

        Raises RefLost when it can't be had any more, TimeoutError after `timeout` seconds, GatewayUnreachable when the gateway
        was away for too long, UsageError when the ref was released or its client closed.
        """
        self._table.check(self)
        if self._value is not None:
            if self._wire.seal_key:
                return codec.decode(open_fetched(sealed_payload(self._wire), self._value))
            parts = [bytes(self._value.parts[0]), *(bytearray(part) for part in self._value.parts[1:])]
            return codec.decode(codec.Encoded(self._wire.content_type, parts))
        return codec.decode(self._table.fetch(self._wire, timeout), self._table.may_unpickle(self._wire))

    def release(self) -> None:
        """Let go of the value. It is freed when no other handle of it is left. Releasing again does nothing."""
        self._finalizer()
        self._value = None

    @property
    def ref_id(self) -> str:
        return self._wire.ref_id.hex()

    @property
    def type(self) -> str:
        return self._wire.type

    @property
    def size_bytes(self) -> int:
        return sum(map(plain_bytes, self._wire.part_bytes)) if self._wire.seal_key else sum(self._wire.part_bytes)

    @property
    def node(self) -> str:
        return self._wire.node_id

    @property
    def is_released(self) -> bool:
        return not self._finalizer.alive

    def __repr__(self) -> str:
        where = f"on node '{foreign.name(self.node)}'" if self.node else "here"
        state = ", released" if self.is_released else ""
        return f"<Ref {foreign.name(self.type)}, {format_size(self.size_bytes)}, {where}{state}>"

    def __reduce__(self) -> Any:
        return resolve, (self.mentioned(),)

    def mentioned(self) -> bytes:
        self._table.check(self)
        mention(self._wire.ref_id, self)
        return self._wire.ref_id

    def __copy__(self) -> Ref[T]:
        return self

    def __deepcopy__(self, _: Any) -> Ref[T]:
        return self


class RefTable:
    """The refs of one client. `put`, `check`, `fetch` and `forget` are called in any thread, the rest on the loop.

    A ref's id is a hash of its value's bytes under a key that nobody else has, so that equal values have one id and nobody who
    knows, or guesses, a value can tell its id.
    """

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._key = secrets.token_bytes(32)
        self._counts: dict[bytes, int] = {}
        self._values: dict[bytes, codec.Encoded] = {}  # what was put
        self._gone: deque[bytes] = deque()
        self._pid = os.getpid()
        self._loop = shared_loop.loop

    # ---- from any thread -----------------------------------------------------------------------------------------

    def put(self, value: Any) -> Ref[Any]:
        """Take the value as it is now."""
        self.check_open()
        if isinstance(value, Ref):
            raise UsageError("this is a Ref already; pass it to calls as it is")
        encoded = self._connection.encoding.value(value, _MAX_PARTS)
        ref = pb.Ref(
            ref_id=self._id_of(encoded),
            part_bytes=encoded.part_bytes,
            type=type_text(value),
            content_type=encoded.content_type,
        )
        self.check_room()
        is_sealed = self._connection.sealing.is_wanted()
        kept = self._sealed(ref, encoded) if is_sealed else self._values.get(ref.ref_id) or encoded.detached()
        self._connection.post(lambda: self._hold(ref, kept))
        return Ref(self, ref, kept)

    def _sealed(self, ref: pb.Ref, encoded: codec.Encoded) -> codec.Encoded:
        """A value as nodes are to have it that open it when they need it: it has another id than in clear."""
        ref.seal_key = hmac.digest(self._key, b"key" + ref.ref_id, "sha256")
        ref.ref_id = hmac.digest(self._key, b"id" + ref.ref_id, "sha256")[:16]
        kept = self._values.get(ref.ref_id) or seal_value(encoded, ref.seal_key)[0]
        ref.part_bytes[:] = kept.part_bytes
        return kept

    def check(self, ref: Ref[Any]) -> None:
        """Raises UsageError for a ref that is of no use any more."""
        if ref.is_released:
            raise UsageError(f"{ref!r} was released; its value may be gone")
        self.check_open()

    def may_unpickle(self, ref: pb.Ref) -> bool:
        """Whether the value is loaded where it is a pickle. One that is sealed comes from a node that is trusted."""
        return self._connection.may_unpickle_from("") if ref.seal_key else self._connection.may_unpickle

    def check_open(self) -> None:
        if os.getpid() != self._pid:
            raise UsageError("this Ref is of the process that this one was forked from; it is of use only there")
        if self._connection.is_closed:
            raise UsageError(
                "the client of this Ref is closed, and its values are gone; make a new client, and the value again"
            )

    def to_wire(self, refs: Sequence[Ref[Any]]) -> list[pb.Ref]:
        """What a call of this client carries of the refs in its arguments. Raises UsageError for another client's."""
        for ref in refs:
            if ref._table is not self:
                raise UsageError(
                    f"{ref!r} belongs to another client (of {ref._table._connection.endpoint.address}); refs are good for the "
                    "calls of the client that made them. ref.get() gives the value"
                )
        return [ref._wire for ref in refs]

    def check_room(self) -> None:
        """Raises OverloadedError where a client has too many refs for one more."""
        if len(self._counts) >= MAX_REFS:
            raise OverloadedError(
                f"this client holds {MAX_REFS:,} refs, the bound; let go of some: ref.release(), or del ref"
            )

    def fetch(self, ref: pb.Ref, timeout: float | None) -> codec.Encoded:
        return shared_loop.run(self._connection.fetch_ref(ref), timeout)

    def forget(self, ref_id: bytes) -> None:
        """A handle has gone. The garbage collector may call this in the midst of anything, so it takes no lock."""
        if os.getpid() != self._pid or self._connection.is_closed:
            return
        self._gone.append(ref_id)
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(self._let_go)

    # ---- on the loop ---------------------------------------------------------------------------------------------

    def kept(self, ref: pb.Ref) -> Ref[Any]:
        """A call has left its result on its node. Raises PayloadError for one that nobody could load."""
        if ref.content_type != codec.PLAIN and not self.may_unpickle(ref):
            raise PayloadError(f"node '{ref.node_id}' keeps a pickle, where this client takes plain data alone")
        self._hold(ref, None)
        return Ref(self, ref)

    def close(self) -> None:
        self._counts.clear()
        self._values.clear()

    def _hold(self, ref: pb.Ref, value: codec.Encoded | None) -> None:
        if self._connection.is_closed:
            return
        count = self._counts.get(ref.ref_id, 0)
        self._counts[ref.ref_id] = count + 1
        if not count:
            if value is not None:
                self._values[ref.ref_id] = value
            self._connection.hold_ref(ref, value)

    def _let_go(self) -> None:
        gone: list[bytes] = []
        while self._gone:
            ref_id = self._gone.popleft()
            count = self._counts.get(ref_id, 0) - 1
            if count > 0:
                self._counts[ref_id] = count
            elif count == 0:
                del self._counts[ref_id]
                self._values.pop(ref_id, None)
                gone.append(ref_id)
        if gone:
            self._connection.let_go_of_refs(gone)

    def _id_of(self, encoded: codec.Encoded) -> bytes:
        digest = hashlib.blake2b(digest_size=16, key=self._key)
        for part, size in zip(encoded.parts, encoded.part_bytes, strict=True):
            digest.update(size.to_bytes(8, "little"))
            digest.update(part)
        return digest.digest()


def lost(ref: pb.Ref, why: str) -> RefLost:
    """The error for a value that can't be had any more."""
    what = f"the value of a Ref ({ref.type}, {format_size(sum(ref.part_bytes))}) is lost: {why}"
    return RefLost(f"{what}. Make it again, and use the new Ref", ref=ref.ref_id.hex(), was_on=ref.node_id)
