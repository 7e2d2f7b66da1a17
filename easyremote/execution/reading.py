"""What code that came over the wire would do, told without running any of it.

A pickle is a program: here it is gone through with everything it names replaced by a stand-in that only notes what is done with
it. So all functions and classes that it would call are known, and the bytecode that it brings can be taken out. Source that came
beside bytecode is shown only where compiling it gives that very bytecode; else the bytecode itself is shown.
"""

from __future__ import annotations
import __future__

import ast
import dis
import functools
import inspect
import io
import operator
import pickle
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from types import CodeType
from typing import Any

from easyremote.runtime import python_minor
from easyremote.wire import codec

MAX_LINES = 5000
"""Longer code can't be looked at, and is refused where somebody is to do so."""

_MAKES_CODE = "easyremote.wire.codec.code_made_by"
_MAKES_TYPES = "cloudpickle.cloudpickle._builtin_type"
_MACHINERY = {_MAKES_CODE} | {
    f"cloudpickle.cloudpickle.{name}"
    for name in (
        "_builtin_type",
        "_class_setstate",
        "_function_setstate",
        "_make_cell",
        "_make_empty_cell",
        "_make_function",
        "_make_skeleton_class",
    )
}
_MAKES_FUNCTIONS = "cloudpickle.cloudpickle._make_function"
_INSTALLS = "easyremote.execution.shipped_modules.install"
_IMPORTS = "cloudpickle.cloudpickle.subimport"

_DATA = {
    *(
        f"builtins.{name}"
        for name in ("bool", "bytearray", "bytes", "complex", "dict", "float", "frozenset", "int", "list")
    ),
    *(f"builtins.{name}" for name in ("object", "range", "set", "slice", "str", "tuple")),
    *(f"datetime.{name}" for name in ("date", "datetime", "time", "timedelta", "timezone")),
    *(f"numpy.{name}" for name in ("dtype", "ndarray")),
    *(f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("_reconstruct", "scalar")),
    *(f"numpy.{core}.numeric._frombuffer" for core in ("core", "_core")),
    "_codecs.encode",
    "collections.OrderedDict",
    "collections.deque",
    "decimal.Decimal",
    "fractions.Fraction",
    "uuid.UUID",
}
"""What builds plain values and nothing else."""


_FUTURES = functools.reduce(
    operator.or_, (getattr(__future__, name).compiler_flag for name in __future__.all_feature_names)
)
"""A notebook's cells have the `from __future__` of the cells before them."""


@dataclass(slots=True)
class Reading:
    """What was found. `text`: what runs, for a person. `notes`: what else happens. `is_data`: there is nothing that runs."""

    text: str = ""
    notes: list[str] = field(default_factory=list[str])
    is_data: bool = True


class _Stand:
    """Stands for anything that a pickle names or makes. It does nothing."""

    name = ""
    parts: list[Any]
    made: list[_Stand]  # all of one pickle: what it makes and throws away has been made too

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        stand = object.__new__(cls)
        stand.parts = [*args, *kwargs.values()]
        cls.made.append(stand)
        return stand

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        called = object.__new__(_Called)
        called.parts, called.made = [self, *args, *kwargs.values()], self.made
        self.made.append(called)
        return called

    def __setstate__(self, state: Any) -> None:
        self.parts.append(state)

    def __setitem__(self, key: Any, value: Any) -> None:
        self.parts += [key, value]

    def append(self, value: Any) -> None:
        self.parts.append(value)

    add = append

    def extend(self, values: Iterable[Any]) -> None:
        self.parts += list(values)


class _Called(_Stand):
    """The outcome of calling what was made before."""


class _Reader(pickle.Unpickler):
    def __init__(self, data: bytes, buffers: Iterable[Any]) -> None:
        super().__init__(io.BytesIO(data), buffers=buffers)
        self.names: dict[str, type[_Stand]] = {}
        self.made: list[_Stand] = []
        self.has_refs = False

    def find_class(self, module: str, name: str, /) -> Any:
        full = f"{module}.{name}"
        return self.names.setdefault(full, type("_Named", (_Stand,), {"name": full, "made": self.made}))

    def persistent_load(self, pid: Any, /) -> Any:
        self.has_refs = True
        return self.find_class("easyremote", "Ref")(pid)


def read_arguments(encoded: codec.Encoded) -> Reading:
    """Arguments of a call."""
    reader, content = _go_through(encoded)
    if reader is None:
        return Reading(notes=["its arguments can't be read without running them"], is_data=False)
    found = Reading()
    _note_names(reader, found, "its arguments build objects with")
    if set(reader.names) & (_MACHINERY | {_IMPORTS, _INSTALLS}):  # each can run something while they are loaded
        found.is_data = False
        found.notes.append("its arguments bring functions, classes or modules")
        _show_code(reader, content, {}, found)
    if reader.has_refs:
        found.notes.append("its arguments name values that are elsewhere, which aren't looked at")
        found.is_data = False
    return found


def read_cell(encoded: codec.Encoded) -> Reading:
    """A notebook cell: its source is what runs."""
    reader, content = _go_through(encoded)
    is_plain = reader is not None and not set(reader.names) - {_INSTALLS} and not reader.has_refs
    if not is_plain or not isinstance(content, tuple) or not content or not isinstance(content[0], str):
        return Reading(notes=["this isn't what a notebook cell looks like; don't run it"], is_data=False)
    assert reader is not None, "it was read"
    found = Reading(content[0], ["a notebook cell; what is shown is what runs"], is_data=False)
    _show_modules(reader, found)
    return found


def read_function(encoded: codec.Encoded) -> Reading:
    """A function that was shipped."""
    reader, content = _go_through(encoded)
    if reader is None:
        return Reading(notes=["it can't be read without running it"], is_data=False)
    found = Reading(is_data=False)
    sources = content[0] if isinstance(content, tuple) and content and isinstance(content[0], dict) else {}
    if not _show_code(reader, content, sources, found):
        found.notes.append("it brings no bytecode: it is a function of a module that is installed here")
    _note_names(reader, found, "to load it calls")
    return found


def _show_code(reader: _Reader, content: Any, sources: dict[Any, Any], found: Reading) -> bool:
    """What code there is, and what of it runs while it is loaded. Whether there is any."""
    everything = list(_walk([content, reader.made]))
    codes = list(_outermost([code for value in everything if (code := _code_of(value)) is not None]))
    shown: list[str] = []
    for code in codes:
        source = _verified(code, sources)
        if source is not None:
            shown.append(f"# {code.co_qualname}: this source compiles to exactly the bytecode that runs\n{source}")
        else:
            shown.append(
                f"# {code.co_qualname}: no source gives this bytecode; it is shown as it is\n{_disassembled(code)}"
            )
    is_hidden = any(_hides_code(value) for value in everything)
    if is_hidden:
        found.notes.append("it brings bytecode that can't be shown; don't run it")
    found.text = "\n\n".join(shown)
    _show_modules(reader, found)
    imports = sorted({str(part) for stand in everything if _is(stand, _IMPORTS) for part in stand.parts})
    if imports:
        found.notes.append(f"it imports {', '.join(imports)}")
    if any(isinstance(stand, _Called) and _makes_code(stand.parts[0]) for stand in everything):
        found.notes.append("it runs code of its own already while it is loaded")
    return is_hidden or bool(codes)


def _go_through(encoded: codec.Encoded) -> tuple[_Reader | None, Any]:
    parts = [bytes(memoryview(part).cast("B")) for part in encoded.parts]
    reader = _Reader(parts[0], parts[1:])
    try:
        return reader, reader.load()
    except Exception:  # whatever is wrong with it, it can't be shown
        return None, None


def _show_modules(reader: _Reader, found: Reading) -> None:
    """Sources of modules that come along: they run when they are imported."""
    for stand in reader.made:
        if not _is(stand, _INSTALLS):
            continue
        modules = stand.parts[0] if len(stand.parts) == 1 and isinstance(stand.parts[0], dict) else {}
        if not modules:
            found.notes.append(_UNREADABLE)
        for name, content in modules.items():
            if _is_module(name, content):
                _show_module(name, content[1], found)
            else:
                found.notes.append(_UNREADABLE)


_UNREADABLE = "it brings modules that can't be read; don't run it"


def _is_module(name: Any, content: Any) -> bool:
    """Whether it is what a client sends: plain names, texts and bytes."""
    if not (
        isinstance(name, str) and isinstance(content, tuple) and len(content) == 2 and isinstance(content[1], dict)
    ):
        return False
    return all(isinstance(path, str) and isinstance(data, bytes) for path, data in content[1].items())


def _show_module(name: str, files: dict[str, bytes], found: Reading) -> None:
    found.notes.append(f"it brings the module {name}, {len(files)} files; its code runs when it is imported")
    for path, data in sorted(files.items()):
        if path.endswith(".py"):
            found.text += f"\n\n# {path}: a file of the module {name}\n{data.decode('utf-8', 'backslashreplace')}"
        else:
            found.notes.append(f"with it comes the file {path}, {len(data):,} bytes, which isn't shown")


def _note_names(reader: _Reader, found: Reading, what: str) -> None:
    names = sorted(set(reader.names) - _MACHINERY - _DATA - {_IMPORTS, _INSTALLS, "easyremote.Ref"})
    if names:
        found.notes.append(f"{what} {', '.join(names[:30])}{' and more' if len(names) > 30 else ''}")
        found.is_data = False


# ---- bytecode ----------------------------------------------------------------------------------------------------------


def _is(value: Any, name: str) -> bool:
    return isinstance(value, _Stand) and value.name == name


def _makes_code(value: Any) -> bool:
    return _is(value, _MAKES_FUNCTIONS) or isinstance(value, _Called)


def _walk(root: Any) -> Iterator[Any]:
    """Everything that hangs together, each once."""
    seen: set[int] = set()
    pending = [root]
    while pending:
        value = pending.pop()
        if id(value) in seen:
            continue
        seen.add(id(value))
        yield value
        if isinstance(value, _Stand):
            pending += value.parts
        elif isinstance(value, dict):
            pending += [*value.keys(), *value.values()]
        elif isinstance(value, (list, tuple, set, frozenset)):
            pending += value


def _code_of(value: Any) -> CodeType | None:
    """The code object that the pickle would make here."""
    args = _parts_of_code(value)
    if args is None:
        return None
    try:
        make: Any = CodeType
        return make(*(_constants(arg) if isinstance(arg, tuple) else arg for arg in args))
    except (TypeError, ValueError, SystemError):
        return None


def _hides_code(value: Any) -> bool:
    """Whether loading it may make code that isn't shown, since its parts are made only then."""
    if _is(value, _MAKES_TYPES):
        return not (len(value.parts) == 1 and isinstance(value.parts[0], str))
    is_made = _is(value, _MAKES_CODE) and isinstance(value.parts, list) and bool(value.parts)
    is_called = (
        isinstance(value, _Called) and _is(value.parts[0], _MAKES_TYPES) and value.parts[0].parts == ["CodeType"]
    )
    return (is_made or is_called) and _code_of(value) is None


def _parts_of_code(value: Any) -> list[Any] | None:
    """What the code object would be made of; None where none is made: that of another Python is refused when it is loaded."""
    if not isinstance(value, _Stand) or not value.parts:
        return None
    first, *args = value.parts
    if _is(value, _MAKES_CODE):
        return args if first == python_minor() else None
    is_type = _is(first, _MAKES_TYPES) and first.parts == ["CodeType"]
    return args if is_type and isinstance(value, _Called) else None


def _constants(values: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(_code_of(value) or value for value in values)


def _outermost(codes: list[CodeType]) -> Iterator[CodeType]:
    """Those that no other one contains, in the order of their lines."""
    inner = {id(part) for code in codes for part in _inner(code)}
    within = [part for code in codes for part in _inner(code)]
    for code in sorted(codes, key=lambda code: (code.co_filename, code.co_firstlineno)):
        if id(code) not in inner and code not in within:
            yield code


def _inner(code: CodeType) -> Iterator[CodeType]:
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield constant
            yield from _inner(constant)


def _verified(code: CodeType, sources: dict[Any, Any]) -> str | None:
    """The part of the source that compiles to this code, if there is one."""
    source = sources.get(code.co_filename)
    if not isinstance(source, str):
        return None
    try:
        flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT | (code.co_flags & _FUTURES)
        whole = compile(source, code.co_filename, "exec", flags, dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if not any(part == code and part.co_qualname == code.co_qualname for part in _inner(whole)):
        return None
    lines = source.splitlines(keepends=True)[code.co_firstlineno - 1 :]
    try:
        return "".join(inspect.getblock(lines))
    except Exception:  # it compiles, so this is a limit of getblock
        return "".join(lines)


def _disassembled(code: CodeType) -> str:
    text = io.StringIO()
    try:
        dis.dis(code, file=text)
    except Exception as error:
        return f"(it can't be shown: {type(error).__name__})"
    return text.getvalue()
