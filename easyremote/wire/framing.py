"""Messages on a byte stream: four bytes of length, least significant first, then the message."""

from __future__ import annotations

import struct
from collections.abc import Iterator

from easyremote.errors import LocalProtocolError

_LENGTH = struct.Struct("<I")


def pack(message: bytes) -> bytes:
    return _LENGTH.pack(len(message)) + message


class Unpacker:
    """Bytes in any pieces to messages."""

    def __init__(self, limit: int = 2**32 - 1) -> None:
        self.limit = limit
        self._pieces: list[bytes] = []
        self._have = 0
        self._need = 4  # bytes that must be here before the next message can be complete

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The messages that are complete now, one by one, so that each may change `limit` for those behind it: take them all.

        Raises LocalProtocolError for one longer than `limit`, before it is gathered.
        """
        self._have += len(data)
        if self._pieces or self._have < self._need:
            self._pieces.append(data)
            if self._have < self._need:
                return
            data = b"".join(self._pieces)
            self._pieces.clear()
        start, end = 0, len(data)
        self._need = 4
        while end - start >= 4:
            (size,) = _LENGTH.unpack_from(data, start)
            if size > self.limit:
                raise LocalProtocolError(f"a message of {size:,} bytes came where at most {self.limit:,} are allowed")
            if end - start - 4 < size:
                self._need = 4 + size
                break
            start += 4 + size
            yield data[start - size : start]
        self._have = end - start
        if self._have:
            self._pieces.append(data[start:])
