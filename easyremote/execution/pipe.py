"""Frames between a node and its worker over a socket pair: four bytes of length, then a serialized `Frame`.

On this link a payload's `blob_id` is the name of a shared file.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from easyremote.wire.codec import Encoded
from easyremote.wire.shared_files import SharedFiles, file_bytes, split
from easyremote.wire.v1 import gateway_pb2 as pb

_LENGTH = struct.Struct("<I")


def pack(frame: pb.Frame) -> bytes:
    data = frame.SerializeToString()
    return _LENGTH.pack(len(data)) + data


class Unpacker:
    """Bytes in any pieces to frames."""

    def __init__(self) -> None:
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[pb.Frame]:
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= 4:
            (size,) = _LENGTH.unpack_from(buffer, start)
            if len(buffer) - start - 4 < size:
                break
            yield pb.Frame.FromString(bytes(buffer[start + 4 : start + 4 + size]))
            start += 4 + size
        del buffer[:start]


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
