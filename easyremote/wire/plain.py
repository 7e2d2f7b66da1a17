"""Plain data: values of known kinds, in an encoding whose decoder runs no code of the sender's.

For senders that may make calls and not ship code, and for results of nodes that nobody vouches for. It is MessagePack, strictly
read, with what Python has beyond it; large bytes and arrays lie out of band, as a pickle's do.

Rules of the decoder:
- It makes values of the kinds in `ALLOWED`, and nothing else. It imports nothing but numpy, where an array came. It calls
  nothing but the constructors of these kinds, and of classes that this process's owner has named (`known_types`).
- Its bounds hold before memory is taken: a length that is claimed is compared with what is there, each buffer is used once, and a
  value has MAX_ELEMENTS elements, and the stream MAX_STREAM_BYTES, at most. It doesn't recurse.
- Whatever is wrong is a PayloadError.

In the stream, a value that MessagePack lacks is an extension with its bytes, or a list whose first element is a mark: an
extension that is no value by itself. A mark belongs to the list that it begins, and nowhere else.
"""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgpack

from easyremote.errors import PayloadError, UnpicklableError, UsageError
from easyremote.wire import plain_kinds as kinds
from easyremote.wire.known_types import KnownTypes, is_named_tuple, is_record
from easyremote.wire.references import Handle, resolve

if TYPE_CHECKING:
    from easyremote.wire.codec import Part

ALLOWED = (
    "None, bool, int, float, complex, str, bytes, list, tuple, dict, set, frozenset, range, slice, date, time, datetime, "
    "timedelta, Decimal, UUID, Path, numpy arrays and scalars of numbers, times and text, and dataclasses, NamedTuples and Enums"
)

MAX_ELEMENTS = 5_000_000
"""Elements of all containers of a value together. An array is one."""

MAX_STREAM_BYTES = 64 * 1024 * 1024
"""Everything but large bytes, large texts and arrays."""

LARGE_BYTES = 64 * 1024
"""Bytes and texts from this size on lie out of band, where there are some."""


# ---- values to bytes -------------------------------------------------------------------------------------------------


def encode(value: Any, name: str = "value", why: str = "", max_parts: int = sys.maxsize) -> list[Part]:
    """The stream and its buffers, so many at most. `name` is what the error calls the value, `why` tells why it must be plain.

    Raises UnpicklableError, whose `path` leads to the part at fault.
    """
    parts = _encoded(value, max_parts)
    if isinstance(parts, Exception):
        raise _not_plain(value, name, why, parts) from parts
    return parts


def encode_arguments(
    args: tuple[Any, ...], kwargs: dict[str, Any], names: Sequence[str] = (), why: str = ""
) -> list[Part]:
    """The same for the arguments of a call. `names` are what errors call the positional ones."""
    parts = _encoded([list(args), kwargs])
    if isinstance(parts, Exception):
        numbered = (*names, *(f"argument {index + 1}" for index in range(len(names), len(args))))
        for name, value in (*zip(numbered, args, strict=False), *kwargs.items()):
            encode(value, name, why)
        raise _not_plain((args, kwargs), "arguments", why, parts) from parts
    return parts


def small(value: Any, limit: int) -> bytes | None:
    """The stream alone, where it is all, no longer than this, and names nothing else; None for anything else."""
    encoder = _Encoder(may_name=False)
    try:
        data = encoder.stream(value)
    except Exception:
        return None
    return data if len(data) <= limit and not encoder.buffers else None


def _encoded(value: Any, max_parts: int = sys.maxsize) -> list[Part] | Exception:
    """Parts, or why there are none."""
    encoder = _Encoder()
    try:
        data = encoder.stream(value)
        if len(data) > LARGE_BYTES:
            encoder = _Encoder()
            data = encoder.stream(_outlined(value))
        if len(encoder.buffers) >= max_parts:
            encoder = _Encoder(is_whole=True)
            data = encoder.stream(value)
    except UsageError:  # says by itself what is wrong, e.g. a Ref of a client that is closed
        raise
    except Exception as error:
        return error
    if len(data) > MAX_STREAM_BYTES:
        return ValueError(f"it has {len(data):,} bytes besides arrays and large texts, more than {MAX_STREAM_BYTES:,}")
    return [data, *encoder.buffers]


class _Encoder:
    """One value."""

    def __init__(self, is_whole: bool = False, may_name: bool = True) -> None:
        """`is_whole`: all lies in the stream. `may_name`: values that are elsewhere may be named."""
        self.may_name = may_name
        self.buffers: list[Part] = []
        self.is_whole = is_whole

    def stream(self, value: Any) -> bytes:
        packb: Any = msgpack.packb  # its stubs say that it may give None
        try:
            return packb(value, default=self._other, strict_types=True)
        except UnicodeEncodeError:  # half a surrogate pair, as in names of files that aren't UTF-8
            self.buffers.clear()
            return packb(value, default=self._other, strict_types=True, unicode_errors="surrogatepass")

    def out_of_band(self, data: Part) -> int:
        """The number of the buffer that this becomes."""
        self.buffers.append(data)
        return len(self.buffers) - 1

    def _other(self, value: Any) -> Any:
        """What MessagePack takes instead of a value of a kind that it lacks."""
        cls = type(value)
        write = kinds.WRITERS.get(cls)
        if write is not None:
            return write(value)
        if cls is _Large:
            return kinds.large(value.value, self)
        if isinstance(value, Handle) and self.may_name:
            return kinds.reference(value.mentioned())
        if isinstance(value, _numpy_kinds()):
            return kinds.array(value, self)
        if is_record(cls):
            return kinds.record(value)
        raise kinds.NotPlain(kinds.hint_for(value))


class _Large:
    """Bytes or a text that are to lie out of band."""

    def __init__(self, value: bytes | str) -> None:
        self.value = value


def _outlined(value: Any) -> Any:
    """The same value with its large bytes and texts marked. Called for few values, so it may take its time."""
    cls = type(value)
    if cls in (bytes, bytearray, str):
        return _Large(value) if len(value) >= LARGE_BYTES else value
    if cls in (list, tuple):
        return cls(_outlined(item) for item in value)
    if cls is dict:
        return {key: _outlined(item) for key, item in value.items()}
    if dataclasses.is_dataclass(cls) or is_named_tuple(cls):
        return kinds.Record(cls, {name: _outlined(item) for name, item in kinds.fields_of(value).items()})
    return value


def _numpy_kinds() -> tuple[type, ...]:
    numpy = sys.modules.get("numpy")
    return (numpy.ndarray, numpy.generic) if numpy is not None else ()


# ---- bytes to values -------------------------------------------------------------------------------------------------


def decode(parts: Sequence[Part], function: Any = None) -> Any:
    """The value. `function`: its annotations name classes that are known. Raises PayloadError."""
    return _Decoder(parts[1:], KnownTypes(function)).value(parts[0])


def decode_arguments(parts: Sequence[Part], function: Any = None) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The pair (args, kwargs)."""
    value = decode(parts, function)
    match value:
        case [list(args), dict(kwargs)] if all(isinstance(key, str) for key in kwargs):
            return tuple(args), kwargs
    raise PayloadError("what came as the arguments of a call isn't a list of values and names with values")


class _Decoder:
    """One value."""

    def __init__(self, buffers: Sequence[Part], known: KnownTypes) -> None:
        self.known = known
        self._buffers: dict[int, Part] = dict(enumerate(buffers))
        self._marks: list[_Mark] = []  # those whose lists haven't ended, the innermost last
        self._elements = 0

    def value(self, stream: Part) -> Any:
        size = memoryview(stream).nbytes
        if size > MAX_STREAM_BYTES:
            raise PayloadError(
                f"{size:,} bytes of plain data came, besides its buffers, where {MAX_STREAM_BYTES:,} may"
            )
        longest = min(size, MAX_ELEMENTS)  # each element takes a byte at least
        try:
            value = msgpack.unpackb(
                stream,
                list_hook=self._list,
                object_pairs_hook=self._dict,
                ext_hook=self._extension,
                timestamp=1,
                strict_map_key=False,
                unicode_errors="surrogatepass",
                max_array_len=longest,
                max_map_len=longest,
            )
        except PayloadError:
            raise
        except MemoryError as error:
            raise PayloadError("there is no memory for the plain data that came") from error
        except Exception as error:  # a length beyond what is there, a key that can't be one, a date that is none, …
            raise PayloadError(f"what came isn't plain data: {_text(error)}") from error
        if self._marks:
            raise PayloadError("what came isn't plain data: a mark stands where none may")
        return value

    def buffer(self, number: Any) -> Part:
        """A buffer, which nobody else gets: a few bytes must not stand for many copies of it."""
        if type(number) is not int or number not in self._buffers:
            raise PayloadError("what came isn't plain data: it names a buffer that isn't there")
        return self._buffers.pop(number)

    def _count(self, elements: int) -> None:
        self._elements += elements
        if self._elements > MAX_ELEMENTS:
            raise PayloadError(f"plain data with more than {MAX_ELEMENTS:,} elements came; as an array it would be one")

    def _list(self, items: list[Any]) -> Any:
        self._count(len(items) + 1)
        if not items or type(items[0]) is not _Mark:
            return items
        mark: _Mark = items[0]
        if not self._marks or self._marks.pop() is not mark:
            raise PayloadError("what came isn't plain data: a mark stands where none may")
        read = kinds.READERS.get(mark.kind)
        if read is None:
            raise PayloadError(f"plain data of a kind that isn't known here ({mark.kind!r}); the sender may be newer")
        return read(items[1:], self)

    def _dict(self, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
        self._count(2 * len(pairs) + 1)
        if len(pairs) > kinds.SAME_HASHES:
            kinds.check_hashes([key for key, _ in pairs if type(key) is not str])
        return dict(pairs)

    def _extension(self, code: int, data: bytes) -> Any:
        if code == kinds.MARK:
            mark = _Mark(data)
            self._marks.append(mark)
            return mark
        if code == kinds.REFERENCE:
            return resolve(data)
        read = kinds.EXTENSIONS.get(code)
        if read is None:
            raise PayloadError(f"plain data of a kind that isn't known here ({code}); the sender may be newer")
        return read(data, self)


class _Mark:
    """Begins a list that stands for something else."""

    __slots__ = ("kind",)

    def __init__(self, kind: bytes) -> None:
        self.kind = kind


def _text(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0][:200] or type(error).__name__


# ---- what exactly isn't plain ----------------------------------------------------------------------------------------

_MAX_DEPTH = 20
_MAX_VISITS = 2000


def _not_plain(value: Any, name: str, why: str, error: Exception) -> UnpicklableError:
    path, culprit, error = _culprit(value, name, error)
    cls = type(culprit)
    kind = f"{cls.__module__}.{cls.__qualname__}".removeprefix("builtins.")
    reason = _text(error) if isinstance(error, kinds.NotPlain) or culprit is value else ""
    what = f"{path}, a {kind}, can't be sent as plain data" + (f": {reason}" if reason else "")
    return UnpicklableError(f"{what}{f' ({why})' if why else ''}. Plain data are {ALLOWED}", path=path)


def _culprit(value: Any, path: str, error: Exception) -> tuple[str, Any, Exception]:
    """The deepest part that fails by itself, the path to it, and why it fails."""
    visits = 0
    for _ in range(_MAX_DEPTH):
        for child_path, child in _children(value, path):
            visits += 1
            failed = _encoded(child) if visits <= _MAX_VISITS else None
            if isinstance(failed, Exception):
                path, value, error = child_path, child, failed
                break
        else:
            break
    return path, value, error


def _children(value: Any, path: str) -> list[tuple[str, Any]]:
    cls = type(value)
    if issubclass(cls, dict):
        keys = [(f"a key of {path}", key) for key in value]
        return keys + [(f"{path}[{key!r}]", item) for key, item in value.items()]
    if is_record(cls):
        return [(f"{path}.{name}", item) for name, item in kinds.fields_of(value).items()]
    if issubclass(cls, (list, tuple, set, frozenset)):
        return [(f"{path}[{index}]", item) for index, item in enumerate(value)]
    return []
