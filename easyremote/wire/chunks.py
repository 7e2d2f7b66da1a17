"""Chunks of large payloads as messages: protobuf as in the .proto, with the data put in and taken out without copying it.

Protobuf's own way through Python copies a chunk's data three times at each hop. Here what is before the data is parsed, and a
gateway passes on the message as it came.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple

from google.protobuf.message import DecodeError

from easyremote.wire.checksum import is_intact, sealed
from easyremote.wire.v1 import gateway_pb2 as pb

_DATA_TAG = b"\x1a"  # field 3, length-delimited
_VARINT, _BYTES, _FIXED32 = 0, 2, 5


class WireChunk(NamedTuple):
    """`head` is the chunk without its data. `message` is all of it as it came, None for one that was made here."""

    head: pb.Chunk
    data: memoryview = memoryview(b"")
    message: bytes | None = None

    @classmethod
    def checked(cls, head: pb.Chunk, data: memoryview) -> WireChunk:
        """With a checksum of the data, for whoever receives it in the end."""
        head.data_crc32 = zlib.crc32(data)
        return cls(head, data)

    @property
    def is_intact(self) -> bool:
        """Whether its data is what its owner has sent, where that can be told."""
        return not self.head.HasField("data_crc32") or zlib.crc32(self.data) == self.head.data_crc32

    def to_bytes(self) -> bytes:
        if self.message is not None:
            return self.message
        head = self.head.SerializeToString()
        if not self.data.nbytes:
            return sealed(head)
        return b"".join((sealed(head), _DATA_TAG, _varint(self.data.nbytes), self.data))

    @classmethod
    def from_bytes(cls, message: bytes) -> WireChunk:
        """Raises DecodeError for a message that isn't a chunk, or was damaged before its data."""
        start = _data_at_the_end(message)
        if not is_intact(message if start is None else message[: start[0]]):
            raise DecodeError("a chunk's checksum is wrong")
        if start is None:
            head = pb.Chunk.FromString(message)
            data, head.data = head.data, b""
        else:
            tag_at, data_at = start
            head, data = pb.Chunk.FromString(message[:tag_at]), memoryview(message)[data_at:]
        head.crc32 = 0  # it has done its duty
        return cls(head, memoryview(data), message)


def _varint(number: int) -> bytes:
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    encoded.append(number)
    return bytes(encoded)


def _data_at_the_end(message: bytes) -> tuple[int, int] | None:
    """Where the data's tag and the data begin, when they are the last field, as `to_bytes` puts them."""
    at = 0
    try:
        while at < len(message):
            tag = message[at]
            if tag > 0x7F:
                return None  # a field that this version doesn't know
            if tag & 7 == _VARINT:
                _, next_at = _read_varint(message, at + 1)
            elif tag & 7 == _FIXED32:
                next_at = at + 5
            elif tag & 7 == _BYTES:
                size, start = _read_varint(message, at + 1)
                next_at = start + size
                if tag == _DATA_TAG[0]:
                    return (at, start) if next_at == len(message) else None
            else:
                return None
            at = next_at
    except IndexError:
        pass  # it is cut off
    return None


def _read_varint(message: bytes, at: int) -> tuple[int, int]:
    """The number, and where what follows begins."""
    number = shift = 0
    while True:
        byte = message[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
        if shift > 63:
            raise IndexError(at)
