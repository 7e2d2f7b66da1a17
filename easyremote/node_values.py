"""What joins a node's store of values to its session and its transfers."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from easyremote.core.node_session import NodeSession
from easyremote.execution.values import Value
from easyremote.refs import lost
from easyremote.transport.transfers import BlobLost, Transfers
from easyremote.wire.codec import Encoded, Part
from easyremote.wire.shared_files import SharedFiles
from easyremote.wire.v1 import gateway_pb2 as pb


class NodeValues:
    """The surroundings of a node's store: fetches what is missing, and tells the gateway what is here."""

    def __init__(
        self, core: NodeSession, transfers: Transfers, shared: SharedFiles, bound_bytes: int, flush: Callable[[], None]
    ) -> None:
        self._core = core
        self._transfers = transfers
        self._shared = shared
        self._flush = flush
        self._bound_bytes = bound_bytes

    async def fetch(self, ref: pb.Ref) -> Sequence[Part]:
        try:
            return await self._transfers.fetch_ref(ref)
        except BlobLost as error:
            raise lost(ref, str(error)) from None

    async def fetch_to_file(self, ref: pb.Ref) -> str:
        try:
            try:
                return self._shared.adopt(await self._transfers.fetch_ref_to_file(ref))
            except (
                FileNotFoundError
            ):  # who handed it over has died since, and it was swept away: another one may have it
                return self._shared.adopt(await self._transfers.fetch_ref_to_file(ref))
        except (BlobLost, FileNotFoundError) as error:
            raise lost(ref, str(error)) from None

    def serve(self, value: Value) -> None:
        self._transfers.hold(value.ref.ref_id, value.encoded)

    def gone(self, ref_id: bytes) -> None:
        self._transfers.let_go(ref_id)

    def tell(self, held: pb.HeldValue) -> None:
        self._core.has(held)
        self._flush()

    def tell_dropped(self, ref_ids: Sequence[bytes]) -> None:
        self._core.dropped(ref_ids, self._bound_bytes)
        self._flush()


def files_for_worker(values: Sequence[Value]) -> list[pb.Ref]:
    """Where a worker finds values that lie in files."""
    return [
        pb.Ref(
            ref_id=value.ref.ref_id,
            part_bytes=value.ref.part_bytes,
            shared_file=value.file,
            content_type=value.ref.content_type,
        )
        for value in values
    ]


def by_id(values: Sequence[Value]) -> dict[bytes, Encoded]:
    """What a thread loads."""
    return {value.ref.ref_id: value.encoded for value in values}
