"""Values of the notebook as a cell on a node gets them, and tokens that tell whether they have changed."""

from __future__ import annotations

import dis
import functools
import hashlib
import linecache
import os
import pickle
import sys
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import CodeType, FunctionType, ModuleType
from typing import Any

from easyremote.errors import UnpicklableError
from easyremote.execution import place
from easyremote.wire import codec
from easyremote.wire.references import mentioning

_PIECE_BYTES = 1024 * 1024
_FUNCTION_STATE = ("__defaults__", "__kwdefaults__", "__doc__", "__qualname__", "__annotations__", "__module__")


@dataclass
class Value:
    """What a name stands for: how it travels, its token, its size in bytes, and other names of the notebook that its functions
    look up."""

    packed: place.Packed
    token: str
    size_bytes: int
    names: set[str] = field(default_factory=set[str])
    refs: dict[bytes, Any] = field(default_factory=dict[bytes, Any])  # that it mentions
    problem: UnpicklableError | None = None  # why it can't be sent

    @property
    def is_module(self) -> bool:
        """A module goes with each cell: it is but a name, and another version of it may have been shipped."""
        return self.packed[:1] == (place.MODULE,)


class Packer:
    """Packs values of one notebook. `names`: what its names stand for. `home`: the namespace that its functions were made in.
    `words`: attributes that the cell uses."""

    def __init__(self, names: Mapping[str, Any], home: Mapping[str, Any], words: Iterable[str] = ()) -> None:
        self._names = names
        self._home = home
        self._words = set(words)

    def pack(self, name: str) -> Value:
        """Raises UnpicklableError with the path to what can't be sent."""
        value = self._names[name]
        if isinstance(value, ModuleType):
            return self._module(value)
        names, words, home = set[str](), self._words, self._home

        class NotebookPickler(codec.Pickler):
            """Functions of the notebook look up their names where they arrive, so they come without them."""

            def reducer_override(self, obj: Any) -> Any:
                if isinstance(obj, FunctionType) and obj.__globals__ is home:
                    names.update(_globals_of(obj.__code__))
                    words.update(_words_of(obj.__code__))
                    return _reduced(obj)
                return super().reducer_override(obj)

        with mentioning() as refs:  # a variable may be a ref
            encoded = codec.encode(value, name, NotebookPickler)
        buffers = [pickle.PickleBuffer(part) for part in encoded.parts[1:]]
        packed = (place.VALUE, bytes(encoded.parts[0]), buffers)
        return Value(packed, _token(encoded.parts), encoded.size, names, dict(refs))

    def token(self, name: str) -> str:
        """The value's token."""
        try:
            return self.pack(name).token
        except UnpicklableError:
            return self.object_token(name)

    def object_token(self, name: str) -> str:
        """The token of a value that can't be sent: which object it is."""
        return f"object {id(self._names[name])}"

    def _module(self, module: ModuleType) -> Value:
        prefix = f"{module.__name__}."
        used = [name for name in sys.modules if name.startswith(prefix)]
        used = sorted(name for name in used if set(name[len(prefix) :].split(".")) <= self._words)
        return Value((place.MODULE, module.__name__, used), f"module {module.__name__} {' '.join(used)}", 0)


def _reduced(function: FunctionType) -> Any:
    state: dict[str, Any] = {name: getattr(function, name) for name in _FUNCTION_STATE}
    file = function.__code__.co_filename
    state["source"] = (file, "" if os.path.exists(file) else "".join(linecache.getlines(file)))
    state["cells"] = [_contents(cell) for cell in function.__closure__ or ()]
    state["dict"] = dict(function.__dict__)
    made = (function.__code__, function.__name__, len(state["cells"]))
    return place.session_function, made, state, None, None, place.fill_session_function


def _contents(cell: Any) -> tuple[Any, ...]:
    """Empty for a variable that isn't bound yet."""
    try:
        return (cell.cell_contents,)
    except ValueError:
        return ()


@functools.lru_cache(1000)
def _globals_of(code: CodeType) -> frozenset[str]:
    """The names that a function's code, and functions made in it, look up in its globals."""
    names = {item.argval for item in dis.get_instructions(code) if item.opname in ("LOAD_GLOBAL", "LOAD_NAME")}
    return frozenset(names.union(*(_globals_of(inner) for inner in code.co_consts if isinstance(inner, CodeType))))


@functools.lru_cache(1000)
def _words_of(code: CodeType) -> frozenset[str]:
    inner = (_words_of(constant) for constant in code.co_consts if isinstance(constant, CodeType))
    return frozenset(code.co_names).union(*inner)


def _token(parts: Iterable[codec.Part]) -> str:
    """Another one as soon as a byte is another one. Long buffers are read in pieces, by as many threads as there are cores."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        view = memoryview(part).cast("B")
        digest.update(view.nbytes.to_bytes(8, "little"))
        digest.update(view if view.nbytes <= _PIECE_BYTES else _checksums(view))
    return digest.hexdigest()


def _checksums(view: memoryview) -> bytes:
    pieces = [view[offset : offset + _PIECE_BYTES] for offset in range(0, view.nbytes, _PIECE_BYTES)]
    with ThreadPoolExecutor(min(len(pieces), os.cpu_count() or 1)) as threads:
        return b"".join(crc.to_bytes(4, "little") for crc in threads.map(zlib.crc32, pieces))


def own_names(namespace: Mapping[str, Any], names: Iterable[str], hidden: Mapping[str, Any]) -> list[str]:
    """Those of `names` that are the notebook's own, not IPython's. `hidden`: names that IPython put there, with their values."""
    return [
        name
        for name in names
        if name in namespace and not _is_ipythons(name) and hidden.get(name, _nothing) is not namespace[name]
    ]


_nothing = object()


def _is_ipythons(name: str) -> bool:
    """In, Out, the inputs and outputs of cells, and what Python itself puts into a module."""
    return (
        name.startswith("__")
        or name in ("In", "Out", "get_ipython", "exit", "quit")
        or (not name.strip("_i0123456789") and name.startswith("_"))
    )
