"""Large payloads on their way through the gateway: who asked for which bytes, and whose they are.

The owner of a payload is derived from its call: the client's arguments are asked of the client, a node's values of the node
that has the call's attempt. So a transfer follows reconnects by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from easyremote.core.records import Call, Session, Transfer
from easyremote.core.transitions import CallState
from easyremote.wire.v1 import gateway_pb2 as pb


class Relay:
    """`send` and `send_chunk` put a frame or a chunk on the way to a session."""

    def __init__(
        self,
        calls: Mapping[bytes, Call],
        send: Callable[[Session, pb.Frame], None],
        send_chunk: Callable[[Session, pb.Chunk], None],
    ) -> None:
        self._calls = calls
        self._send = send
        self._send_chunk = send_chunk
        self._transfers: dict[bytes, Transfer] = {}

    def __len__(self) -> int:
        return len(self._transfers)

    def fetch(self, session: Session, frame: pb.Frame) -> None:
        """A receiver asks for bytes, asks for more of them, or is done."""
        fetch = frame.fetch
        transfer = self._transfers.get(fetch.transfer_id)
        if transfer is None:
            if fetch.done:
                return
            if not self._will_be_answered(session, fetch.call_id):
                self._refuse(session, fetch.transfer_id, "the call has ended, or its node is gone")
                return
            transfer = self._transfers[fetch.transfer_id] = Transfer(
                fetch.transfer_id, fetch.call_id, session, fetch, fetch.offset
            )
        elif transfer.requester is not session:
            return
        transfer.fetch = fetch
        owner = self._owner(transfer)
        if fetch.done:
            del self._transfers[fetch.transfer_id]
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
        if chunk.error or chunk.shared_file:
            del self._transfers[chunk.transfer_id]
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
        if self._transfers:
            self._transfers = {key: t for key, t in self._transfers.items() if t.requester is not session}

    def call_left(self, call: Call) -> None:
        """The call is known here no longer."""
        if self._transfers:
            self._transfers = {key: t for key, t in self._transfers.items() if t.call_id != call.call_id}

    def attempt_left(self, call: Call) -> None:
        """The call's node is gone, or has lost it: what it returned can't be had any more."""
        if self._transfers:
            for transfer in [t for t in self._transfers.values() if t.call_id == call.call_id]:
                del self._transfers[transfer.transfer_id]
                self._refuse(transfer.requester, transfer.transfer_id, "the node that has it is gone")

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
        call = self._calls[transfer.call_id]
        if transfer.requester.node is not None:
            return call.client
        return call.node.session if call.node is not None else None
