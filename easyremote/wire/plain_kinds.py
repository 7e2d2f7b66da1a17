"""Kinds of plain data beyond MessagePack's own: how each is written, and how it is read from what anybody may have sent.

A writer gives an extension, or a list that begins with a mark. A reader gets what stands in it, of whatever kinds that is; what
it raises makes the whole value one that isn't plain.
"""

from __future__ import annotations

import dataclasses
import datetime
import enum
import os
import re
import struct
import sys
import uuid
import zoneinfo
from collections import Counter, OrderedDict
from collections.abc import Callable, Hashable, Sequence
from decimal import Decimal
from pathlib import Path, PosixPath, PurePath, PurePosixPath, PureWindowsPath, WindowsPath
from typing import TYPE_CHECKING, Any

from msgpack import ExtType

from easyremote.errors import PayloadError
from easyremote.wire.known_types import is_named_tuple, name_of

if TYPE_CHECKING:
    from easyremote.wire.codec import Part
    from easyremote.wire.plain import _Decoder as Decoder
    from easyremote.wire.plain import _Encoder as Encoder

MARK, INTEGER, COMPLEX, DECIMAL, IDENTIFIER, DATE, SPAN, LARGE_DATA, LARGE_TEXT, REFERENCE, ELLIPSIS, PATH = range(12)

_COMPLEX = struct.Struct("<dd")
_DATE = struct.Struct("<HBB")
_SPAN = struct.Struct("<iii")
_NUMBER = struct.Struct("<I")

SAME_HASHES = 64
"""Keys of one hash: so many happen with numbers, more are meant to make a dict slow."""

_MAX_DECIMAL = 10_000
"""Characters of a Decimal."""

_INLINE_BYTES = 1024
"""Smaller arrays lie in the stream."""

_FEW_BUFFERS = 200
_LARGE_ARRAY = 256 * 1024
"""Where there are so many buffers already, only arrays from this size on become one."""

_DTYPES = re.compile(
    r"[<>|=]?(b1|[iu][1248]|f(2|4|8|16)|c(8|16|32)|[SU]\d{1,9}|[mM]8(\[\d{0,9}(Y|M|W|D|h|m|s|ms|us|ns|ps|fs|as)\])?)"
)

_ZONE = re.compile(r"[A-Za-z0-9_+\-]+(/[A-Za-z0-9_+\-]+)*")


class NotPlain(TypeError):
    """There is no plain form of this value."""


@dataclasses.dataclass(frozen=True, slots=True)
class Record:
    """An object of a known class, taken apart already."""

    cls: type
    fields: dict[str, Any]


def hint_for(value: Any) -> str:
    """What to do about a value that isn't plain."""
    cls = type(value)
    if issubclass(cls, dict):
        return "make it a dict, dict(...)"
    if issubclass(cls, (list, tuple, str, int, float, bytes)):
        return "make it one of its base class"
    if callable(value):
        return "code isn't data"
    if hasattr(value, "__array__"):
        return "numpy.asarray(...) of it can be sent"
    return "send its parts"


# ---- writers ---------------------------------------------------------------------------------------------------------


def _mark(kind: bytes, *items: Any) -> list[Any]:
    return [ExtType(MARK, kind), *items]


def _integer(value: int) -> ExtType:
    return ExtType(INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "little", signed=True))


def _datetime(value: datetime.datetime) -> list[Any]:
    parts = (value.year, value.month, value.day, value.hour, value.minute, value.second, value.microsecond)
    return _mark(b"D", *parts, value.fold, _zone(value.tzinfo))


def _time(value: datetime.time) -> list[Any]:
    return _mark(b"T", value.hour, value.minute, value.second, value.microsecond, value.fold, _zone(value.tzinfo))


def _zone(zone: datetime.tzinfo | None) -> Any:
    if zone is None:
        return None
    if isinstance(zone, zoneinfo.ZoneInfo) and zone.key:
        return zone.key
    if type(zone) is datetime.timezone:
        return zone.utcoffset(None)
    raise NotPlain("its time zone is neither of datetime.timezone nor of zoneinfo")


def large(value: bytes | bytearray | str, encoder: Encoder) -> ExtType:
    """Bytes or a text, out of band."""
    if isinstance(value, str):
        return ExtType(LARGE_TEXT, _NUMBER.pack(encoder.out_of_band(value.encode("utf-8", "surrogatepass"))))
    return ExtType(LARGE_DATA, _NUMBER.pack(encoder.out_of_band(value)))


def reference(ref_id: bytes) -> ExtType:
    """What stands for a value elsewhere."""
    return ExtType(REFERENCE, ref_id)


def array(value: Any, encoder: Encoder) -> list[Any]:
    """A numpy array, or one number of its kinds."""
    import numpy

    if isinstance(value, numpy.ndarray) and type(value) not in (numpy.ndarray, numpy.memmap):
        raise NotPlain("numpy.asarray(...) of it can be sent")
    if not _DTYPES.fullmatch(value.dtype.str):
        raise NotPlain(f"an array of {value.dtype} can't; arrays of numbers, times and text can")
    if isinstance(value, numpy.generic):
        return _mark(b"n", value.dtype.str, value.tobytes()[: value.dtype.itemsize])
    order = "C" if value.flags.c_contiguous or not value.flags.f_contiguous else "F"
    data: Part | int = b""
    if value.nbytes:
        flat = numpy.ascontiguousarray(value).reshape(-1) if order == "C" else value.reshape(-1, order="F")
        data = memoryview(flat.view(numpy.uint8))  # pyright: ignore[reportArgumentType] - has a buffer
        limit = (
            sys.maxsize if encoder.is_whole else _INLINE_BYTES if len(encoder.buffers) < _FEW_BUFFERS else _LARGE_ARRAY
        )
        data = encoder.out_of_band(data) if data.nbytes >= limit else bytes(data)
    return _mark(b"a", value.dtype.str, list(value.shape), order, data)


def record(value: Any) -> list[Any]:
    """An object of a class that its receiver is to know."""
    if isinstance(value, enum.Enum):
        return _mark(b"e", name_of(type(value)), value.name)
    return _mark(b"c", name_of(type(value)), fields_of(value))


def _fields_of_class(cls: Any) -> tuple[str, ...]:
    return cls._fields if is_named_tuple(cls) else tuple(field.name for field in dataclasses.fields(cls) if field.init)


def fields_of(value: Any) -> dict[str, Any]:
    """What `__init__` takes to make the same object again."""
    cls = type(value)
    if issubclass(cls, enum.Enum):
        return {}
    return {name: getattr(value, name) for name in _fields_of_class(cls)}


WRITERS: dict[type, Callable[[Any], Any]] = {
    int: _integer,
    complex: lambda value: ExtType(COMPLEX, _COMPLEX.pack(value.real, value.imag)),
    tuple: lambda value: _mark(b"t", *value),
    set: lambda value: _mark(b"s", *value),
    frozenset: lambda value: _mark(b"f", *value),
    OrderedDict: lambda value: _mark(b"o", *value.items()),
    range: lambda value: _mark(b"r", value.start, value.stop, value.step),
    slice: lambda value: _mark(b"l", value.start, value.stop, value.step),
    type(...): lambda _: ExtType(ELLIPSIS, b""),
    Decimal: lambda value: ExtType(DECIMAL, str(value).encode()),
    uuid.UUID: lambda value: ExtType(IDENTIFIER, value.bytes),
    datetime.date: lambda value: ExtType(DATE, _DATE.pack(value.year, value.month, value.day)),
    datetime.timedelta: lambda value: ExtType(SPAN, _SPAN.pack(value.days, value.seconds, value.microseconds)),
    datetime.datetime: _datetime,
    datetime.time: _time,
    Record: lambda value: _mark(b"c", name_of(value.cls), value.fields),
    **dict.fromkeys(
        (Path, PosixPath, WindowsPath, PurePath, PurePosixPath, PureWindowsPath),
        lambda value: ExtType(PATH, os.fsencode(value)),
    ),
}


# ---- readers ---------------------------------------------------------------------------------------------------------


def _text_of(data: bytes, limit: int) -> str:
    if len(data) > limit:
        raise ValueError(f"a text of {len(data):,} bytes, where at most {limit:,} are allowed")
    return data.decode("ascii")


def check_hashes(keys: Sequence[Hashable]) -> None:
    """Raises PayloadError for keys that were made to be slow: a dict compares those of one hash with each other."""
    if len(keys) > SAME_HASHES and max(Counter(map(hash, keys)).values()) > SAME_HASHES:
        raise PayloadError(f"plain data with more than {SAME_HASHES} keys of one hash came")


def _read_path(data: bytes, _: Decoder) -> Path:
    if b"\0" in data:
        raise ValueError("a path with a null byte")
    return Path(os.fsdecode(data))


def _read_large_data(data: bytes, decoder: Decoder) -> bytes:
    part = decoder.buffer(*_NUMBER.unpack(data))
    return part if isinstance(part, bytes) else bytes(part)


def _read_large_text(data: bytes, decoder: Decoder) -> str:
    return str(decoder.buffer(*_NUMBER.unpack(data)), "utf-8", "surrogatepass")


EXTENSIONS: dict[int, Callable[[bytes, Any], Any]] = {
    INTEGER: lambda data, _: int.from_bytes(data, "little", signed=True),
    COMPLEX: lambda data, _: complex(*_COMPLEX.unpack(data)),
    DECIMAL: lambda data, _: Decimal(_text_of(data, _MAX_DECIMAL)),
    IDENTIFIER: lambda data, _: uuid.UUID(bytes=data),
    DATE: lambda data, _: datetime.date(*_DATE.unpack(data)),
    SPAN: lambda data, _: datetime.timedelta(*_SPAN.unpack(data)),
    LARGE_DATA: _read_large_data,
    LARGE_TEXT: _read_large_text,
    ELLIPSIS: lambda _, __: ...,
    PATH: _read_path,
}


def _ints(items: list[Any], count: int) -> list[int]:
    if len(items) != count or not all(type(item) is int for item in items):
        raise ValueError(f"{count} numbers were expected")
    return items


def _read_zone(zone: Any) -> datetime.tzinfo | None:
    if zone is None:
        return None
    if type(zone) is datetime.timedelta:
        return datetime.timezone(zone)
    if type(zone) is str and len(zone) <= 64 and _ZONE.fullmatch(zone):
        # From the system's files: else zoneinfo would import a package whose name is in the zone's.
        if any(os.path.isfile(os.path.join(folder, zone)) for folder in zoneinfo.TZPATH):
            return zoneinfo.ZoneInfo(zone)
        raise PayloadError(f"a time of the zone '{zone}' came, which this machine doesn't know")
    raise ValueError("a time zone that is none")


def _read_datetime(items: list[Any], _: Decoder) -> datetime.datetime:
    *parts, fold = _ints(items[:-1], 8)
    return datetime.datetime(*parts, fold=fold, tzinfo=_read_zone(items[-1]))  # pyright: ignore[reportArgumentType] - seven numbers


def _read_time(items: list[Any], _: Decoder) -> datetime.time:
    *parts, fold = _ints(items[:-1], 5)
    return datetime.time(*parts, fold=fold, tzinfo=_read_zone(items[-1]))


def _read_set(kind: Callable[[list[Any]], Any]) -> Callable[[list[Any], Decoder], Any]:
    def read(items: list[Any], _: Decoder) -> Any:
        check_hashes(items)
        return kind(items)

    return read


def _read_ordered(items: list[Any], _: Decoder) -> OrderedDict[Any, Any]:
    check_hashes([key for key, _ in items])
    return OrderedDict(items)


def _read_slice(items: list[Any], _: Decoder) -> slice:
    start, stop, step = items
    return slice(start, stop, step)


def _dtype(text: Any) -> Any:
    try:
        import numpy
    except ImportError:
        raise PayloadError("a numpy array came, and numpy isn't installed here") from None
    if type(text) is not str or not _DTYPES.fullmatch(text):
        raise ValueError("an array of something that arrays can't be sent of")
    return numpy.dtype(text)


def _read_array(items: list[Any], decoder: Decoder) -> Any:
    text, shape, order, data = items
    dtype = _dtype(text)
    import numpy

    _ints(shape, len(shape))
    if order not in ("C", "F") or len(shape) > 64 or any(length < 0 for length in shape):
        raise ValueError("an array of a shape that none has")
    part = data if type(data) is bytes else decoder.buffer(data)
    expected = dtype.itemsize
    for length in shape:
        expected *= length
    if memoryview(part).nbytes != expected:
        raise ValueError(f"an array of {expected:,} bytes in {memoryview(part).nbytes:,}")
    if not expected:
        return numpy.empty(shape, dtype)
    return numpy.frombuffer(part, dtype).reshape(shape, order=order)


def _read_scalar(items: list[Any], _: Decoder) -> Any:
    text, data = items
    dtype = _dtype(text)
    if type(data) is not bytes or len(data) != dtype.itemsize:
        raise ValueError("a number of a size that it hasn't")
    import numpy

    return numpy.frombuffer(data, dtype)[0] if data else dtype.type()


def _known(name: Any, decoder: Decoder) -> type:
    if type(name) is not str:
        raise ValueError("a class without a name")
    return decoder.known.find(name)


def _read_record(items: list[Any], decoder: Decoder) -> Any:
    name, fields = items
    cls = _known(name, decoder)
    if type(fields) is not dict or issubclass(cls, enum.Enum):
        raise ValueError(f"what came as a {name[:200]} isn't one")
    takes = _fields_of_class(cls)
    strange = [key for key in fields if key not in takes]
    if strange:
        raise PayloadError(
            f"a {name_of(cls)} came with '{str(strange[0])[:100]}', which it hasn't here; are the versions the same?"
        )
    try:
        return cls(**fields)
    except Exception as error:
        text = f"a {name_of(cls)} can't be made of the fields that came: {type(error).__name__}: {str(error)[:200]}"
        raise PayloadError(text) from error


def _read_enum(items: list[Any], decoder: Decoder) -> enum.Enum:
    name, member = items
    cls = _known(name, decoder)
    if not issubclass(cls, enum.Enum) or type(member) is not str or member not in cls.__members__:
        raise PayloadError(f"what came as a {str(name)[:200]} isn't one that is known here")
    return cls.__members__[member]


READERS: dict[bytes, Callable[[list[Any], Any], Any]] = {
    b"t": lambda items, _: tuple(items),
    b"s": _read_set(set),
    b"f": _read_set(frozenset),
    b"o": _read_ordered,
    b"r": lambda items, _: range(*_ints(items, 3)),
    b"l": _read_slice,
    b"D": _read_datetime,
    b"T": _read_time,
    b"a": _read_array,
    b"n": _read_scalar,
    b"c": _read_record,
    b"e": _read_enum,
}
