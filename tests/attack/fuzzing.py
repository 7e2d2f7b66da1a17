"""A fuzzer of our own: it knows the messages, so that most of what it makes gets past the parser, and spoils the rest.

Fast, since it runs in the process of what it attacks, and the same inputs come from the same seed. Atheris would be guided by
coverage, but is built for few versions of Python; hypothesis makes some hundred of these inputs a second.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from random import Random
from typing import Any

from google.protobuf.descriptor import FieldDescriptor as F

_INTEGERS = (0, 1, 2, 3, 7, 255, 2**16, 2**31 - 1, 2**32 - 1, 2**63 - 1, 2**64 - 1)
_SIGNED = (0, 1, -1, 100, -100, 2**31 - 1, -(2**31))
_FLOATS = (0.0, -0.0, 1.0, -1.0, 1e-9, 0.5, 30.0, 1e9, 1e308, -1e308, math.inf, -math.inf, math.nan)
_TEXTS = (
    "",
    "f",
    "g",
    "node-a",
    "x" * 300,
    "\0",
    "../..",
    "a\nb",
    "\x1b[2J",
    "<script>",
    "é😀\u202e",
    "*",
    "%s",
    "gpu=1",
)
_BLOBS = (b"", b"\0", b"\xff" * 16, b"x" * 1000, b"\x80\x05cos\nsystem\n", b"{}")


class Fuzzer:
    """`ids`: what stands for calls, sessions, blobs and refs, so that messages speak of the same ones."""

    def __init__(self, seed: int, ids: int = 6) -> None:
        self.random = Random(seed)
        self.ids = [bytes([65 + number]) * 16 for number in range(ids)]

    def message(self, kind: type[Any], depth: int = 3) -> Any:
        """A message with some of its fields set, to values at the edges or to such as others have too."""
        made = kind()
        fields = list(kind.DESCRIPTOR.fields)
        for field in self.random.sample(fields, min(self.random.choice((0, 1, 2, 3, 5, 9)), len(fields))):
            self.set(made, field, depth)
        return made

    def set(self, made: Any, field: Any, depth: int) -> None:
        is_map = field.message_type is not None and field.message_type.GetOptions().map_entry
        if is_map:
            for _ in range(self.random.choice((0, 1, 3))):
                getattr(made, field.name)[self.random.choice(_TEXTS)] = self.random.choice(_TEXTS)
        elif field.is_repeated:
            values = getattr(made, field.name)
            for _ in range(self.random.choice((0, 1, 1, 2, 3))):
                if field.message_type is None:
                    values.append(self.scalar(field))
                elif depth:
                    values.add().CopyFrom(self.message(field.message_type._concrete_class, depth - 1))
        elif field.message_type is not None:
            if depth:
                getattr(made, field.name).CopyFrom(self.message(field.message_type._concrete_class, depth - 1))
        else:
            setattr(made, field.name, self.scalar(field))

    def scalar(self, field: Any) -> Any:
        pick = self.random.choice
        kind = field.type
        if kind == F.TYPE_STRING:
            return pick(_TEXTS)
        if kind == F.TYPE_BYTES:
            return pick(self.ids) if self.random.random() < 0.8 else pick(_BLOBS)
        if kind == F.TYPE_BOOL:
            return pick((True, False))
        if kind in (F.TYPE_DOUBLE, F.TYPE_FLOAT):
            return pick(_FLOATS)
        if kind == F.TYPE_ENUM:
            return pick((0, 1, 2, 3, 4, 5, 99))
        if kind in (F.TYPE_INT32, F.TYPE_SINT32, F.TYPE_SFIXED32):
            return pick(_SIGNED)
        if kind in (F.TYPE_UINT32, F.TYPE_FIXED32):
            return pick([number for number in _INTEGERS if number < 2**32])
        return pick(_INTEGERS)

    def spoiled(self, data: bytes) -> bytes:
        """The same bytes with some turned, cut out, doubled or put in."""
        spoiled = bytearray(data)
        for _ in range(self.random.choice((0, 1, 1, 2, 5))):
            at = self.random.randrange(len(spoiled) + 1)
            kind = self.random.random()
            if kind < 0.4 and at < len(spoiled):
                spoiled[at] ^= 1 << self.random.randrange(8)
            elif kind < 0.6:
                del spoiled[at : at + self.random.choice((1, 2, 8, 100))]
            elif kind < 0.8:
                spoiled[at:at] = spoiled[at : at + self.random.choice((1, 4, 30))]
            else:
                spoiled[at:at] = self.random.choice((b"\xff" * 5, b"\0", b"\x7f\xff\xff\xff", self.random.randbytes(8)))
        return bytes(spoiled)


def survives(work: Callable[[bytes], Any], data: bytes, *refusals: type[BaseException]) -> bool:
    """Whether it takes the input, or refuses it in the way that it says it does. Anything else goes through."""
    try:
        work(data)
    except refusals:
        return False
    return True
