"""A checksum in front of a message, so that bits that turn on the way are noticed: TCP's own misses one error in 65,536.

It is a field of the message, the first one, so whoever doesn't know it reads the message as before; what comes without one, from
an older peer, isn't checked.
"""

from __future__ import annotations

import struct
import zlib

_HEAD = struct.Struct("<BI")
_TAG = 15 << 3 | 5  # field 15, fixed32


def sealed(*parts: bytes | memoryview) -> bytes:
    """The message that these parts make, with the CRC-32 of all of it in front."""
    checksum = 0
    for part in parts:
        checksum = zlib.crc32(part, checksum)
    return b"".join((_HEAD.pack(_TAG, checksum), *parts))


def is_intact(message: bytes) -> bool:
    """Whether its checksum is right, if it has one."""
    if not message or (message[0] ^ _TAG).bit_count() > 1:
        return True  # it has none; one bit less than that would be a tag that was damaged itself
    if message[0] != _TAG or len(message) < _HEAD.size:
        return False
    return zlib.crc32(memoryview(message)[_HEAD.size :]) == _HEAD.unpack_from(message)[1]
