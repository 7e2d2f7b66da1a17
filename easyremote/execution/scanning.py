"""Pickles a value into nothing: how large it would be, a digest of it, and which functions, classes and modules it names."""

from __future__ import annotations

import hashlib
import pickle
import sys
from collections.abc import Callable
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any

from easyremote.wire import codec
from easyremote.wire.references import Handle


class TooLarge(Exception):
    """There is more of it than was to be looked at. `size`: how much was seen."""

    def __init__(self, size: int) -> None:
        super().__init__(size)
        self.size = size


@dataclass(frozen=True, slots=True)
class Scan:
    """`digest`: empty where the value can't be pickled, which `error` tells."""

    in_band_bytes: int
    buffer_bytes: int
    digest: bytes
    error: Exception | None = None

    @property
    def size(self) -> int:
        """Bytes that the value takes on the wire, without the functions and classes that it names."""
        return self.in_band_bytes + self.buffer_bytes


def scan(
    value: Any,
    reference: Callable[[Any], bytes],
    in_band_bytes: int = sys.maxsize,
    buffer_bytes: int = sys.maxsize,
) -> Scan:
    """Go through a value as pickling does. `reference` is given each function, class and module in it, and says what stands for
    it in the digest. Raises TooLarge beyond either bound."""
    sink = _Sink(in_band_bytes, buffer_bytes)
    try:
        _Scanner(sink, reference).dump(value)
    except TooLarge:
        raise
    except Exception as error:
        if isinstance(error.__context__, TooLarge):
            raise error.__context__ from None
        kind = type(value)
        return Scan(0, 0, f"unpicklable {kind.__module__}.{kind.__qualname__}".encode(), error)
    return Scan(sink.written, sink.buffered, sink.digest.digest())


class _Sink:
    """Where the stream goes: it is counted, and nothing is kept."""

    def __init__(self, in_band_bytes: int, buffer_bytes: int) -> None:
        self._bounds = in_band_bytes, buffer_bytes
        self.written = self.buffered = 0
        self.digest = hashlib.blake2b(digest_size=32)
        self._is_bounded = buffer_bytes != sys.maxsize

    def write(self, data: Any) -> int:
        size = memoryview(data).nbytes
        self.written += size
        if self.written > self._bounds[0]:
            raise TooLarge(self.written)
        if self._is_bounded:
            self.digest.update(data)
        return size

    def buffer(self, buffer: pickle.PickleBuffer) -> None:
        try:
            data: Any = buffer.raw()
        except BufferError:  # not contiguous
            data = memoryview(buffer).tobytes()
        self.buffered += memoryview(data).nbytes
        if self.buffered > self._bounds[1]:
            raise TooLarge(self.buffered)
        if self._is_bounded:
            self.digest.update(data)


class _Scanner(codec.Pickler):
    def __init__(self, sink: _Sink, reference: Callable[[Any], bytes]) -> None:
        super().__init__(sink, protocol=5, buffer_callback=sink.buffer)
        self._reference = reference
        self._sink = sink

    def persistent_id(self, obj: Any) -> Any:
        kind = type(obj)
        if kind in _FREQUENT:
            return None
        if kind in _NAMED or isinstance(obj, type):
            return self._reference(obj)
        return getattr(obj, "ref_id", "") if isinstance(obj, Handle) else None


_FREQUENT = frozenset({int, float, str, bytes, bool, tuple, list, dict, type(None)})
_NAMED = frozenset({FunctionType, ModuleType, BuiltinFunctionType})
