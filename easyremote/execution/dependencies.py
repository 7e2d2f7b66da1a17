"""What a function brings along when it travels: everything that it reaches and that isn't a module's own.

Functions and classes of a notebook or a script travel by value (cloudpickle), and with each of them the globals that its bytecode
names, what its closure holds, its defaults and attributes, and so on, transitively. What can be imported travels by its name, so
its module has to be there. The walk here follows the same rules, runs nothing, and gives all of it in an order that depends on
the code alone, so that a version can be made of it.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from types import BuiltinFunctionType, CodeType, FunctionType, MethodType, ModuleType
from typing import Any

from easyremote.execution.scanning import TooLarge, scan

MAX_PARTS = 2000
"""Functions and classes that a walk looks at."""

IN_BAND_BYTES = 1 << 20
"""A captured value counts into the version with all it holds up to this size, and by its type and size beyond it."""

BUFFER_BYTES = 8 << 20
"""The same of what lies in buffers of arrays, which costs far less to look at."""

_SKIPPED = frozenset(
    {"__dict__", "__weakref__", "__module__", "__qualname__", "_abc_impl", "__doc__", "__firstlineno__"}
)
_SKIPPED_OF_A_FUNCTION = frozenset({"__wrapped__"})  # in its closure too, where it is of use
_LOADS = frozenset({"LOAD_GLOBAL"})
_CHANGES = frozenset({"STORE_GLOBAL", "DELETE_GLOBAL"})
VERSION_DIGITS = 12


@dataclass(slots=True, eq=False)
class Variable:
    """A value that comes along. `how`: global, closure, default, attribute or argument (of a partial)."""

    name: str
    value: Any
    how: str
    used_by: list[str]
    changed_by: list[str] = field(default_factory=list[str])  # functions with `global name` that assign to it


@dataclass(slots=True, eq=False)
class Part:
    """A function or a class that comes along by value."""

    name: str
    value: Any
    used_by: str
    content: bytes = b""


@dataclass(frozen=True, slots=True)
class CodeNames:
    """What a code object, with those in it, names."""

    globals: tuple[str, ...]
    changed: frozenset[str]
    imports: tuple[str, ...]  # "package.module", as imported


class Dependencies:
    """The walk from one function, or from several values.

    `parts`, `variables`, `modules` (name: who needs it; a package's module by its full name), `undefined` (globals that don't
    exist here: name: who needs it).
    """

    def __init__(self, *roots: tuple[str, Any]) -> None:
        self.parts: list[Part] = []
        self.variables: list[Variable] = []
        self.modules: dict[str, list[str]] = {}
        self.undefined: dict[str, list[str]] = {}
        self._index: dict[int, int] = {}
        self._known: dict[tuple[int, str], Variable] = {}
        self._kept: list[Any] = []  # ids are good only as long as their objects live
        self._root = hashlib.sha256()
        for name, value in roots:
            self._root.update(self._of_value(name, value, "argument", ""))
        done = 0
        while done < len(self.parts) and done < MAX_PARTS:
            part = self.parts[done]
            part.content = self._content(part)
            done += 1

    def version(self, modules: Mapping[str, str] | None = None) -> str:
        """Changes with the code of any function that is reached, and with any value; with neither comments nor line numbers.

        `modules`: versions of those that are sent along, by top-level name.
        """
        digest = self._root.copy()
        for part in self.parts:
            digest.update(len(part.content).to_bytes(8, "little") + part.content)
        for name in sorted({module.partition(".")[0] for module in self.modules}):
            digest.update(f"{name}={(modules or {}).get(name, '')};".encode())
        return digest.hexdigest()[:VERSION_DIGITS]

    # ---- what a part brings --------------------------------------------------------------------------------------

    def _content(self, part: Part) -> bytes:
        digest = hashlib.sha256()
        for token in self._of_class(part) if isinstance(part.value, type) else self._of_function(part):
            digest.update(len(token).to_bytes(8, "little") + token)
        return digest.digest()

    def _of_function(self, part: Part) -> Iterator[bytes]:
        function: FunctionType = part.value
        code = function.__code__
        names = names_of(code)
        yield code_digest(code)
        for module in names.imports:
            self._needs(module, part.name)
        for name in names.globals:
            yield name.encode()
            yield self._global(function, name, names, part.name)
        for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=False):
            try:
                yield name.encode() + self._of_value(name, cell.cell_contents, "closure", part.name)
            except ValueError:  # not filled yet
                yield name.encode()
        yield from self._defaults(function, part.name)
        for name, value in vars(function).items():
            if name not in _SKIPPED_OF_A_FUNCTION:
                yield name.encode() + self._of_value(f"{part.name}.{name}", value, "attribute", part.name)

    def _global(self, function: FunctionType, name: str, names: CodeNames, part: str) -> bytes:
        where = function.__globals__
        if name not in where:
            builtins = where.get("__builtins__", {})
            has_it = name in (vars(builtins) if isinstance(builtins, ModuleType) else builtins)
            if not has_it and name not in names.changed:
                _note(self.undefined.setdefault(name, []), part)
            return b"undefined"
        token = self._of_value(name, where[name], "global", part, id(where))
        variable = self._known.get((id(where), name))
        if variable is not None and name in names.changed:
            _note(variable.changed_by, part)
        return token

    def _defaults(self, function: FunctionType, part: str) -> Iterator[bytes]:
        code = function.__code__
        defaults = function.__defaults__ or ()
        positional = code.co_varnames[: code.co_argcount]
        for name, value in (
            *zip(positional[len(positional) - len(defaults) :], defaults, strict=True),
            *(function.__kwdefaults__ or {}).items(),
        ):
            yield name.encode() + self._of_value(f"{part}({name}=…)", value, "default", part)

    def _of_class(self, part: Part) -> Iterator[bytes]:
        cls: type = part.value
        yield cls.__qualname__.encode()
        for base in cls.__bases__:
            yield self._reference(base, part.name)
        yield self._reference(type(cls), part.name)
        for name, value in list(vars(cls).items()):
            if name in _SKIPPED or inspect.isgetsetdescriptor(value) or inspect.ismemberdescriptor(value):
                continue
            yield name.encode()
            for inner in _unwrapped(value):
                if isinstance(inner, (FunctionType, type)):
                    yield self._reference(inner, part.name)
                elif name == "__annotations__":
                    yield repr(inner).encode()
                else:
                    hidden = name.startswith(("__", "_member"))
                    yield self._of_value(f"{part.name}.{name}", inner, "" if hidden else "attribute", part.name)

    # ---- values --------------------------------------------------------------------------------------------------

    def _of_value(self, name: str, value: Any, how: str, part: str, where: int = 0) -> bytes:
        """What counts of it into the version. It is a variable unless it is a function, a class or a module."""
        if isinstance(value, functools.partial):
            named = (*((f"argument {n + 1}", arg) for n, arg in enumerate(value.args)), *value.keywords.items())
            bound = [self._of_value(f"{name}({key})", arg, "argument", part) for key, arg in named]
            return b"".join([b"partial", self._of_value(name, value.func, how, part), *bound])
        if isinstance(value, MethodType):
            owner = self._of_value(f"{name}.__self__", value.__self__, how, part)
            return b"method" + owner + self._reference(value.__func__, part)
        if isinstance(value, (FunctionType, type, ModuleType, BuiltinFunctionType)):
            return self._reference(value, part)
        if how:
            known = self._known.get((where or id(value), name))
            if known is not None:
                _note(known.used_by, part)
            else:
                self._known[where or id(value), name] = made = Variable(name, value, how, [part] if part else [])
                self.variables.append(made)
                self._kept.append(value)
        return value_digest(value, lambda inner: self._reference(inner, name))

    def _reference(self, value: Any, user: str) -> bytes:
        """A function, a class or a module: which part of the walk it is, or what it is imported as."""
        if isinstance(value, ModuleType):
            self._needs(value.__name__, user)
            return f"module {value.__name__}".encode()
        if not travels_by_value(value):
            module = getattr(value, "__module__", None) or "builtins"
            self._needs(module, user)
            return f"{module}.{getattr(value, '__qualname__', '')}".encode()
        index = self._index.get(id(value))
        if index is None:
            index = self._index[id(value)] = len(self.parts)
            self.parts.append(Part(getattr(value, "__qualname__", "?").replace("<locals>.", ""), value, user))
        return f"part {index}".encode()

    def _needs(self, module: str, user: str) -> None:
        if module.partition(".")[0] not in ("builtins", "__main__", "__mp_main__"):
            _note(self.modules.setdefault(module, []), user)


def travels_by_value(value: Any) -> bool:
    """Whether a function or a class is sent as a whole, since nothing can be imported that is it."""
    module_name = getattr(value, "__module__", None)
    if isinstance(value, BuiltinFunctionType) or module_name == "builtins":
        return False
    if module_name in (None, "__main__"):
        return True
    found: Any = sys.modules.get(module_name)
    for name in getattr(value, "__qualname__", "").split("."):
        found = getattr(found, name, None)
    return found is not value or _is_registered_by_value(module_name)


def _is_registered_by_value(module_name: str) -> bool:
    from cloudpickle import cloudpickle

    by_value = cloudpickle.list_registry_pickle_by_value()
    return any(module_name == name or module_name.startswith(f"{name}.") for name in by_value)


def _unwrapped(value: Any) -> list[Any]:
    """The functions in a descriptor of a class."""
    if isinstance(value, (staticmethod, classmethod)):
        return [value.__func__]
    if isinstance(value, property):
        return [function for function in (value.fget, value.fset, value.fdel) if function is not None]
    if isinstance(value, functools.cached_property):
        return [value.func]
    return [value]


def _note(users: list[str], user: str) -> None:
    if user and user not in users:
        users.append(user)


# ---- code and values as digests ----------------------------------------------------------------------------------------


@functools.lru_cache(maxsize=2048)
def names_of(code: CodeType) -> CodeNames:
    """What the code names, in the order in which it does."""
    found: dict[str, None] = {}
    changed: set[str] = set()
    imports: dict[str, None] = {}
    for inner in _with_inner(code):
        for instruction in dis.get_instructions(inner):
            if instruction.opname in _LOADS or instruction.opname in _CHANGES:
                found[instruction.argval] = None
                if instruction.opname in _CHANGES:
                    changed.add(instruction.argval)
            elif instruction.opname == "IMPORT_NAME" and instruction.argval:
                imports[instruction.argval] = None
    return CodeNames(tuple(found), frozenset(changed), tuple(imports))


def _with_inner(code: CodeType) -> Iterator[CodeType]:
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _with_inner(constant)


@functools.lru_cache(maxsize=2048)
def code_digest(code: CodeType) -> bytes:
    """Of what the code does: not of the place where it stands."""
    digest = hashlib.sha256(code.co_code)
    shape = (code.co_name, code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags)
    counts = (code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_exceptiontable)
    digest.update(repr((shape, counts)).encode("utf-8", "surrogatepass"))
    for constant in code.co_consts:
        digest.update(code_digest(constant) if isinstance(constant, CodeType) else value_digest(constant))
    return digest.digest()


_ATOMS = (type(None), bool, int, float, complex, str, bytes, type(...))


def value_digest(value: Any, reference: Callable[[Any], bytes] = lambda value: repr(value).encode()) -> bytes:
    """Of a value; for a large one, of its type and size. `reference`: what stands for a function, a class or a module in it."""
    try:
        return _ValueDigest(reference).of(value)
    except TooLarge as large:
        kind = type(value)
        shape = getattr(value, "shape", None)
        length = len(value) if shape is None and hasattr(kind, "__len__") else shape
        return f"large {kind.__module__}.{kind.__qualname__} {length} {large.size}".encode()


class _ValueDigest:
    """Containers by what is in them, so that neither the order of a set nor which texts are one object makes a difference."""

    def __init__(self, reference: Callable[[Any], bytes]) -> None:
        self._reference = reference
        self._left = IN_BAND_BYTES
        self._open: set[int] = set()

    def of(self, value: Any) -> bytes:
        kind = type(value)
        if kind in _ATOMS:
            return self._atom(kind, value)
        if kind not in (tuple, list, dict, set, frozenset):
            return self._other(value)
        if id(value) in self._open:
            return b"itself"
        self._open.add(id(value))
        parts = [self.of(part) for part in (value if kind is not dict else (x for item in value.items() for x in item))]
        self._open.discard(id(value))
        return hashlib.sha256(
            b"".join([kind.__name__.encode(), *(sorted(parts) if kind in (set, frozenset) else parts)])
        ).digest()

    def _atom(self, kind: type, value: Any) -> bytes:
        self._use(len(value) if kind in (str, bytes) else 8)
        data = value if kind is bytes else repr(value).encode("utf-8", "surrogatepass")
        return hashlib.sha256(kind.__name__.encode() + data).digest()

    def _other(self, value: Any) -> bytes:
        if isinstance(value, (FunctionType, type, ModuleType, BuiltinFunctionType)):
            return self._reference(value)
        if isinstance(value, CodeType):
            return code_digest(value)
        found = scan(value, self._reference, self._left, BUFFER_BYTES)
        self._use(found.in_band_bytes)
        return found.digest

    def _use(self, size: int) -> None:
        self._left -= size
        if self._left < 0:
            raise TooLarge(IN_BAND_BYTES)
