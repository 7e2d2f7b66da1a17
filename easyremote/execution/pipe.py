"""Frames between a node and its worker over a socket pair.

On this link a payload's `blob_id` is the name of a shared file.
"""

from __future__ import annotations

from easyremote.wire.codec import Encoded
from easyremote.wire.framing import Unpacker, pack
from easyremote.wire.shared_files import SharedFiles, file_bytes, split
from easyremote.wire.v1 import gateway_pb2 as pb


def pack_frame(frame: pb.Frame) -> bytes:
    return pack(frame.SerializeToString())


class FrameUnpacker:
    """Bytes in any pieces to frames."""

    def __init__(self) -> None:
        self._unpacker = Unpacker()

    def feed(self, data: bytes) -> list[pb.Frame]:
        return [pb.Frame.FromString(message) for message in self._unpacker.feed(data)]


def to_payload(encoded: Encoded, shared: SharedFiles) -> pb.Payload:
    """In the frame when it is small, else in a shared file that the receiver removes."""
    if not encoded.is_large:
        return encoded.inline()
    return encoded.by_reference(shared.write(encoded.parts).encode())


def from_payload(payload: pb.Payload, shared: SharedFiles) -> Encoded:
    if not payload.HasField("blob"):
        return Encoded.of(payload)
    sizes = list(payload.blob.part_bytes)
    view = shared.take(payload.blob.blob_id.decode(), file_bytes(sizes))
    return Encoded(payload.content_type, split(view, sizes))
