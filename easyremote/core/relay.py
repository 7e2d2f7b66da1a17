"""Large payloads on their way through the gateway: who asked for which bytes, and whose they are.

The owner of a payload is derived from its call: the client's arguments are asked of the client, a node's values of the node
that has the call's attempt. So a transfer follows reconnects by itself.

The value of a ref is asked of whoever has it; when that one is gone or has dropped it, the receiver asks anew, and another one is
found. While a gateway is young, who has it may not be back yet.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from easyremote.core.records import Call, Session, Transfer
from easyremote.core.transitions import CallState
from easyremote.core.values import Values
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_TRANSFERS = 20_000
"""Large payloads that one peer fetches at a time."""

MAX_ID_BYTES = 64
"""Of a transfer's id."""


class Relay:
    """`send` and `send_chunk` put a frame or a chunk on the way to a session."""

    def __init__(
        self,
        calls: Mapping[bytes, Call],
        send: Callable[[Session, pb.Frame], None],
        send_chunk: Callable[[Session, pb.Chunk], None],
        values: Values,
        young_until: float = 0.0,
    ) -> None:
        """`young_until`: until then the source of a ref's value may have yet to come back."""
        self._calls = calls
        self._send = send
        self._send_chunk = send_chunk
        self._values = values
        self._young_until = young_until
        self._now = 0.0
        self._transfers: dict[bytes, Transfer] = {}
        self._of: dict[Session, int] = {}  # how many of them each receiver has
        self._unsourced: dict[bytes, Transfer] = {}  # those of them that wait for a source

    def __len__(self) -> int:
        return len(self._transfers)

    def fetch(self, session: Session, frame: pb.Frame, now: float = 0.0) -> None:
        """A receiver asks for bytes, asks for more of them, or is done."""
        fetch = frame.fetch
        self._now = now
        transfer = self._transfers.get(fetch.transfer_id)
        if transfer is None:
            if fetch.done:
                return
            if self._of.get(session, 0) >= MAX_TRANSFERS or len(fetch.transfer_id) > MAX_ID_BYTES:
                text = f"a peer fetches at most {MAX_TRANSFERS} large values at once"
                self._refuse(session, fetch.transfer_id[:MAX_ID_BYTES], text)
                return
            if fetch.of_ref and fetch.blob_id:
                self._begin_ref(session, fetch)
                return
            if not self._will_be_answered(session, fetch.call_id):
                self._refuse(session, fetch.transfer_id, "the call has ended, or its node is gone")
                return
            transfer = Transfer(fetch.transfer_id, fetch.call_id, session, fetch, fetch.offset)
            self._begin(transfer)
        elif transfer.requester is not session:
            return
        transfer.fetch = fetch
        owner = self._owner(transfer)
        if fetch.done:
            self._forget(transfer)
        if owner is not None:
            self._send(owner, frame)

    def chunk(self, session_id: bytes, chunk: pb.Chunk, size: int) -> bytes | None:
        """A chunk came from its owner: the session that it goes to, or None when nobody waits for it any more.

        `size`: of its data, in bytes; the data needn't be in it.
        """
        transfer = self._transfers.get(chunk.transfer_id)
        owner = self._owner(transfer) if transfer is not None else None
        if transfer is None or owner is None or owner.session_id != session_id:
            return None
        if size and chunk.offset != transfer.offset:
            return None  # it was on its way when the owner was asked again: these bytes have passed, or will come anew
        transfer.offset += size
        if chunk.error and transfer.ref_id and transfer.source is not None:
            self._values.fails(transfer.source, transfer.ref_id, self._now)
            self._source_lost(transfer)
            return None
        if chunk.error or chunk.shared_file:
            self._forget(transfer)
        return transfer.requester.session_id

    def ask_again(self, owner: Session) -> None:
        """The owner of these payloads is back: tell it where their receivers are."""
        for transfer in self._transfers.values():
            if self._owner(transfer) is owner:
                again = pb.Fetch()
                again.CopyFrom(transfer.fetch)
                again.offset = transfer.offset
                self._send(owner, pb.Frame(fetch=again))

    def receiver_left(self, session: Session) -> None:
        for transfer in [t for t in self._transfers.values() if t.requester is session]:
            self._forget(transfer)

    def call_left(self, call: Call) -> None:
        """The call is known here no longer."""
        if self._transfers:
            for transfer in [t for t in self._transfers.values() if t.call_id == call.call_id]:
                self._forget(transfer)

    def attempt_left(self, call: Call) -> None:
        """The call's node is gone, or has lost it: what it returned can't be had any more."""
        if self._transfers:
            for transfer in [t for t in self._transfers.values() if t.call_id == call.call_id]:
                self._forget(transfer)
                self._refuse(transfer.requester, transfer.transfer_id, "the node that has it is gone")

    # ---- values of refs ------------------------------------------------------------------------------------------

    def source_left(self, session: Session) -> None:
        """It is gone for good, or has said anew what it has."""
        for transfer in [t for t in self._transfers.values() if t.source is session]:
            self._source_lost(transfer)

    def value_left(self, ref_id: bytes) -> None:
        """Nobody holds a ref of it any more."""
        for transfer in [t for t in self._transfers.values() if t.ref_id == ref_id]:
            self._forget(transfer)
            self._refuse(transfer.requester, transfer.transfer_id, "its client has released it")

    def look_for_sources(self, now: float) -> None:
        """Peers came back or told what they have, or time has passed."""
        self._now = now
        for transfer in list(self._unsourced.values()):
            if self._find_source(transfer):
                del self._unsourced[transfer.transfer_id]
            elif now >= self._young_until:
                self._forget(transfer)
                self._refuse_ref(transfer)

    def _begin_ref(self, session: Session, fetch: pb.Fetch) -> None:
        transfer = Transfer(fetch.transfer_id, b"", session, fetch, fetch.offset, ref_id=fetch.blob_id)
        if self._find_source(transfer):
            self._begin(transfer)
        elif self._now < self._young_until:
            self._begin(transfer)
            self._unsourced[fetch.transfer_id] = transfer
        else:
            self._refuse_ref(transfer)

    def _find_source(self, transfer: Transfer) -> bool:
        if not self._may_have(transfer.requester, transfer.ref_id):
            return False
        transfer.source = self._values.source(transfer.ref_id, transfer.requester)
        if transfer.source is None:
            return False
        self._send(transfer.source, pb.Frame(fetch=transfer.fetch))
        return True

    def _may_have(self, requester: Session, ref_id: bytes) -> bool:
        """A client may have what it holds a ref of, a node what its calls name."""
        if requester.node is None:
            return self._values.holds(requester, ref_id)
        return any(ref.ref_id == ref_id for call in requester.node.calls.values() for ref in call.refs)

    def _source_lost(self, transfer: Transfer) -> None:
        """It can't send the rest. Is there another one, the receiver begins anew; what it has stays with it."""
        self._forget(transfer)
        other = self._values.source(transfer.ref_id, transfer.requester)
        if other is not None or self._now < self._young_until:
            self._send_chunk(transfer.requester, pb.Chunk(transfer_id=transfer.transfer_id, again=True))
        else:
            self._refuse_ref(transfer)

    def _refuse_ref(self, transfer: Transfer) -> None:
        why = self._values.why_lost(transfer.ref_id)
        self._refuse(transfer.requester, transfer.transfer_id, why)

    # ---- plumbing ------------------------------------------------------------------------------------------------

    def _begin(self, transfer: Transfer) -> None:
        self._transfers[transfer.transfer_id] = transfer
        self._of[transfer.requester] = self._of.get(transfer.requester, 0) + 1

    def _forget(self, transfer: Transfer) -> None:
        if self._transfers.pop(transfer.transfer_id, None) is not None:
            self._of[transfer.requester] -= 1
            if not self._of[transfer.requester]:
                del self._of[transfer.requester]
        self._unsourced.pop(transfer.transfer_id, None)

    def _will_be_answered(self, requester: Session, call_id: bytes) -> bool:
        """Whether this session may ask for payloads of the call, and somebody has them or will come back with them."""
        call = self._calls.get(call_id)
        if call is None:
            return False
        if requester.node is not None:
            return call.node is requester.node
        return call.client is requester and (call.node is not None or call.state is CallState.HELD)

    def _refuse(self, requester: Session, transfer_id: bytes, why: str) -> None:
        self._send_chunk(requester, pb.Chunk(transfer_id=transfer_id, error=why))

    def _owner(self, transfer: Transfer) -> Session | None:
        if transfer.ref_id:
            return transfer.source
        call = self._calls[transfer.call_id]
        if transfer.requester.node is not None:
            return call.client
        return call.node.session if call.node is not None else None
