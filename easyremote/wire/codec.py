"""Values to payloads and back.

A value becomes a list of parts: a pickle stream and, out of band, the buffers of arrays in it, which are never copied into the
stream (PEP 574). Functions and classes of the notebook travel by value (cloudpickle). Where a pickle isn't wanted, since whoever
loads it runs what its sender likes, values travel as plain data (`wire.plain`). Other programs send JSON or raw bytes.
"""

from __future__ import annotations

import io
import json
import mmap
import pickle
import sys
from collections import ChainMap
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from types import CodeType
from typing import Any, ClassVar

import cloudpickle

from easyremote.config import INLINE_BYTES
from easyremote.errors import EnvironmentMismatch, PayloadError, UnpicklableError, UsageError
from easyremote.wire.references import mentioning
from easyremote.wire.v1 import gateway_pb2 as pb

PICKLE = ""
JSON = "application/json"
RAW = "application/octet-stream"
PLAIN = "application/x-easyremote-plain"

SMALL_BYTES = 1024
"""A pickle stream up to this size may share its event, or its bundle, with others."""

_LONG_BYTES = 16 * 1024 * 1024
_PIECE_BYTES = 2 * 1024 * 1024
"""What is longer than the first is copied in pieces of the second."""

_FEW = 32

_SIZED = frozenset({str, bytes})

_FIXED = frozenset({int, float, bool, type(None)})
_PLAIN = _FIXED | _SIZED

Part = bytes | bytearray | memoryview


@dataclass(frozen=True, slots=True)
class Encoded:
    """A value as bytes. `parts[0]` is the stream, the others are its out-of-band buffers."""

    content_type: str
    parts: Sequence[Part]
    size: int = field(default=-1)
    refs: Sequence[Any] = ()  # handles of values that it mentions; they are to live as long as somebody may load it

    def __post_init__(self) -> None:
        if self.size < 0:
            object.__setattr__(self, "size", sum(self.part_bytes))

    @property
    def is_large(self) -> bool:
        """Whether it is fetched instead of travelling inside its frame."""
        return self.size > INLINE_BYTES

    @property
    def part_bytes(self) -> list[int]:
        return [memoryview(part).nbytes for part in self.parts]

    def detached(self) -> Encoded:
        """The same with buffers of its own: what the user changes in an array from now on isn't sent."""
        parts = [part if isinstance(part, bytes) else _copied(part) for part in self.parts]
        return Encoded(self.content_type, parts, self.size, self.refs)

    def inline(self) -> pb.Payload:
        return pb.Payload(
            content_type=self.content_type,
            data=bytes(self.parts[0]),
            buffers=[bytes(part) for part in self.parts[1:]],
        )

    def by_reference(self, blob_id: bytes) -> pb.Payload:
        return pb.Payload(content_type=self.content_type, blob=pb.Blob(blob_id=blob_id, part_bytes=self.part_bytes))

    @classmethod
    def of(cls, payload: pb.Payload) -> Encoded:
        """The parts of a payload that travelled inside its frame."""
        return cls(payload.content_type, [payload.data, *payload.buffers])


def _copied(part: Part) -> Part:
    """A long one piece by piece, so that other threads get the interpreter lock in between: the node's heartbeat, small calls."""
    view = memoryview(part).cast("B")
    if view.nbytes < _LONG_BYTES:
        return bytes(view)
    area = memoryview(mmap.mmap(-1, view.nbytes))
    for offset in range(0, view.nbytes, _PIECE_BYTES):
        area[offset : offset + _PIECE_BYTES] = view[offset : offset + _PIECE_BYTES]
    return area


def pickled_small(value: Any) -> bytes | None:
    """The pickle stream of a small value of plain parts, quickly; None for anything else."""
    if not _is_plain(value, 3, SMALL_BYTES):
        return None
    data = pickle.dumps(value, protocol=5)
    return data if len(data) <= SMALL_BYTES else None


def _is_plain(value: Any, depth: int, longest: int = sys.maxsize) -> bool:
    """Whether plain pickle takes it as cloudpickle would, as far as a short look can tell. No text in it, and no bytes, may be
    longer than `longest`."""
    kind = type(value)
    if kind in _PLAIN:
        return kind not in _SIZED or len(value) <= longest
    if depth == 0 or kind not in (tuple, list, dict) or len(value) > _FEW:
        return False
    for part in (*value, *value.values()) if kind is dict else value:
        plain_at_once = type(part) in _FIXED
        if not plain_at_once and not _is_plain(part, depth - 1, longest):
            return False
    return True


unpickle = pickle.loads
"""A value from a stream that `pickled_small` made."""


def encode(value: Any, name: str = "value", pickler: type[cloudpickle.Pickler] | None = None) -> Encoded:
    """Pickle a value. `name` is what the error calls it. `pickler`: instead of the usual one.

    Raises UnpicklableError, whose `path` leads to the part at fault.
    """
    if _is_plain(value, 3):
        return Encoded(PICKLE, [pickle.dumps(value, protocol=5)])
    buffers: list[pickle.PickleBuffer] = []
    try:
        with io.BytesIO() as stream:
            (pickler or Pickler)(stream, protocol=5, buffer_callback=buffers.append).dump(value)
            data = stream.getvalue()
        return Encoded(PICKLE, [data, *(_raw(buffer) for buffer in buffers)])
    except UsageError:  # says by itself what is wrong
        raise
    except Exception as error:
        raise _unpicklable(value, name, error) from error


def encode_whole(value: Any) -> Encoded:
    """The same with its buffers inside the pickle stream, for one that has thousands."""
    with io.BytesIO() as stream:
        Pickler(stream, protocol=5).dump(value)
        return Encoded(PICKLE, [stream.getvalue()])


_reducers: Any = cloudpickle.Pickler.dispatch_table


_MINOR = f"{sys.version_info.major}.{sys.version_info.minor}"


def _reduce_code(code: CodeType) -> Any:
    """Pickle code with the Python that made it, and with the name of its file or cell, which tracebacks show lines by.

    cloudpickle 3.1.3 and newer leave out the name.
    """
    _, args = _reducers[CodeType](code)
    named = (code.co_filename if isinstance(arg, str) and arg == "<dynamic-code>" else arg for arg in args)
    return code_made_by, (_MINOR, *named)


def code_made_by(python: str, *args: Any) -> CodeType:
    """The code object of a function, where this Python made its bytecode: another one would crash in it.

    Raises EnvironmentMismatch.
    """
    if python != _MINOR:
        raise EnvironmentMismatch(
            f"there is a function in it that was made by Python {python}, and {_MINOR} can't load it"
        )
    return CodeType(*args)


class Pickler(cloudpickle.Pickler):
    """What `encode` pickles with. A face may have one of its own."""

    dispatch_table: ClassVar[Any] = ChainMap({CodeType: _reduce_code}, _reducers)


def encode_arguments(args: tuple[Any, ...], kwargs: dict[str, Any], names: Sequence[str] = ()) -> Encoded:
    """Pickle the arguments of a call, the fast way where all are plain. `names` are what errors call the positional ones."""
    if _is_plain(args, 3) and (not kwargs or _is_plain(kwargs, 3)):
        return Encoded(PICKLE, [pickle.dumps((args, kwargs), protocol=5)])
    with mentioning() as refs:
        try:
            encoded = encode((args, kwargs), "arguments")
        except UnpicklableError as error:
            numbered = (*names, *(f"argument {index + 1}" for index in range(len(names), len(args))))
            for name, value in (*zip(numbered, args, strict=False), *kwargs.items()):
                encode(value, name)
            raise error
    return replace(encoded, refs=tuple(refs.values())) if refs else encoded


def encode_as(value: Any, accept: str) -> Encoded:
    """Encode in the content type that the receiver asked for."""
    if accept == PICKLE:
        return encode(value)
    if accept == PLAIN:
        return encode_plain(value, "the result", _WHY_PLAIN)
    if isinstance(value, (bytes, bytearray, memoryview)):
        return Encoded(RAW, [bytes(value)])
    try:
        return Encoded(JSON, [json.dumps(value, default=_json_default).encode()])
    except (TypeError, ValueError) as error:
        raise PayloadError(f"the result, a {type(value).__qualname__}, can't be written as JSON: {error}") from error


def kept_as(accept: str) -> str:
    """The content type of a value that stays on its node, where results are to be of this one."""
    return PLAIN if accept == PLAIN else PICKLE


def encode_item(value: Any, accept: str) -> bytes | Encoded:
    """The same, but a small pickle as its bytes alone: it may leave together with others."""
    small = pickled_small(value) if accept == PICKLE else plain_small(value) if accept == PLAIN else None
    return small if small is not None else encode_as(value, accept)


def decode(encoded: Encoded, may_unpickle: bool = True, function: Any = None) -> Any:
    """The value. `may_unpickle`: a pickle may be loaded, which may run anything. `function`: its annotations name classes of
    which plain data may make objects.

    Raises PayloadError for a content type that is unknown or may not be, and whatever loading the value raises.
    """
    data = encoded.parts[0]
    if encoded.content_type == PICKLE and may_unpickle:
        return pickle.loads(data, buffers=encoded.parts[1:])  # nosec B301 - from whom it may be one
    if encoded.content_type == PLAIN:
        return _plain().decode(encoded.parts, function)
    if encoded.content_type == JSON:
        return json.loads(bytes(data))
    if encoded.content_type == RAW:
        return bytes(data)
    if encoded.content_type == PICKLE:
        raise PayloadError(
            "a pickle came, which may run anything where it is loaded, from somebody who isn't trusted with that"
        )
    raise PayloadError(f"unknown content type '{encoded.content_type}'; the other side may be a newer version")


def decode_arguments(
    encoded: Encoded, may_unpickle: bool = True, function: Any = None
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """The pair (args, kwargs). JSON carries an array of positional or an object of named arguments; raw bytes are one."""
    if encoded.content_type == PLAIN:
        return _plain().decode_arguments(encoded.parts, function)
    value = decode(encoded, may_unpickle)
    if encoded.content_type == RAW:
        return (value,), {}
    if encoded.content_type == JSON:
        if isinstance(value, dict):
            return (), value
        return (tuple(value) if isinstance(value, list) else (value,)), {}
    args, kwargs = value
    return args, kwargs


def _raw(buffer: pickle.PickleBuffer) -> memoryview | bytes:
    try:
        return buffer.raw()
    except BufferError:  # not contiguous
        return bytes(buffer)


def _json_default(value: Any) -> Any:
    if hasattr(value, "tolist"):  # numpy scalars and arrays
        return value.tolist()
    raise TypeError(f"a {type(value).__qualname__} is not JSON")


# ---- plain data ------------------------------------------------------------------------------------------------------

_WHY_PLAIN = "its caller doesn't load pickles from this node"


def _plain() -> Any:
    """Loaded where plain data are used, which is where somebody isn't trusted."""
    from easyremote.wire import plain

    return plain


def encode_plain(value: Any, name: str = "value", why: str = "") -> Encoded:
    """The value as plain data. Raises UnpicklableError, which says `why` it must be, for one that isn't."""
    return Encoded(PLAIN, _plain().encode(value, name, why))


def plain_small(value: Any) -> bytes | None:
    """The stream of a small plain value; None for anything else."""
    return _plain().small(value, SMALL_BYTES)


class Pickles:
    """How a client encodes arguments that may be anything."""

    content_type = PICKLE

    @staticmethod
    def small(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes | None:
        """The stream alone, where it is all, small, and quickly made."""
        return pickled_small((args, kwargs))

    @staticmethod
    def arguments(args: tuple[Any, ...], kwargs: dict[str, Any], names: Sequence[str] = ()) -> Encoded:
        return encode_arguments(args, kwargs, names)

    @staticmethod
    def value(value: Any, max_parts: int) -> Encoded:
        """One with fewer parts than it may have is as good as it gets."""
        encoded = encode(value)
        return encoded if len(encoded.parts) <= max_parts else encode_whole(value)


class PlainData(Pickles):
    """The same for a client that may make calls and not ship code."""

    content_type = PLAIN

    _WHY = "this client's token allows calls and not code, and anything else could be code"

    @staticmethod
    def small(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bytes | None:
        return _plain().small([list(args), kwargs], SMALL_BYTES)

    @staticmethod
    def arguments(args: tuple[Any, ...], kwargs: dict[str, Any], names: Sequence[str] = ()) -> Encoded:
        with mentioning() as refs:
            parts = _plain().encode_arguments(args, kwargs, names, PlainData._WHY)
        return Encoded(PLAIN, parts, refs=tuple(refs.values()))

    @staticmethod
    def value(value: Any, max_parts: int) -> Encoded:
        return Encoded(PLAIN, _plain().encode(value, "value", PlainData._WHY, max_parts))


# ---- what exactly can't be pickled -----------------------------------------------------------------------------------

_MAX_DEPTH = 12
_MAX_VISITS = 2000


def _unpicklable(value: Any, name: str, error: Exception) -> UnpicklableError:
    path, culprit = _find_culprit(value, name)
    kind = f"{type(culprit).__module__}.{type(culprit).__qualname__}".removeprefix("builtins.")
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    what = f"{path} (a {kind}) can't be sent" if path != name else f"{name}, a {kind}, can't be sent"
    return UnpicklableError(
        f"{what}: {reason}. Leave it out, make it where the function runs, or give its class a __getstate__", path=path
    )


def _find_culprit(value: Any, name: str) -> tuple[str, Any]:
    """The deepest part that fails by itself, and the path to it."""
    visits = 0
    seen: set[int] = set()
    for _ in range(_MAX_DEPTH):
        for child_name, child in _children(value, name):
            visits += 1
            if visits > _MAX_VISITS:
                return name, value
            if id(child) not in seen and not _can_pickle(child):
                seen.add(id(child))
                name, value = child_name, child
                break
        else:
            return name, value
    return name, value


def _can_pickle(value: Any) -> bool:
    try:
        cloudpickle.dumps(value, protocol=5, buffer_callback=lambda _: None)
    except Exception:
        return False
    return True


def _children(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, dict):
        for key, item in list(value.items()):
            yield f"{name}[{key!r}]" if not _is_pair(name) else str(key), item
    elif isinstance(value, (list, tuple, set, frozenset)):
        for index, item in enumerate(value):
            yield f"{name}[{index}]", item
    elif hasattr(value, "__code__"):
        yield from _captured(value)
    else:
        for attribute, item in _attributes(value):
            yield f"{name}.{attribute}", item


def _captured(function: Any) -> Iterator[tuple[str, Any]]:
    """What a function brings along: closure cells, globals that it names, defaults."""
    code = function.__code__
    for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
        try:
            yield variable, cell.cell_contents
        except ValueError:
            continue  # not filled yet
    for variable in code.co_names:
        if variable in function.__globals__:
            yield variable, function.__globals__[variable]
    for index, default in enumerate(function.__defaults__ or ()):
        yield f"default {index + 1} of {function.__name__}", default


def _attributes(value: Any) -> Iterator[tuple[str, Any]]:
    yield from list(getattr(value, "__dict__", {}).items())
    for cls in type(value).__mro__:
        slots = cls.__dict__.get("__slots__", ())
        for slot in (slots,) if isinstance(slots, str) else slots:
            if hasattr(value, slot):
                yield slot, getattr(value, slot)


def _is_pair(name: str) -> bool:
    return name.startswith("arguments")
