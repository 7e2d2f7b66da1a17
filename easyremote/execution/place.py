"""A session as a place: the names that cells leave in its process, and which values of the notebook's they are.

For each name the notebook tells a token: a hash of the value that it has there. A value comes when the token is another one than
that of the value which was taken last, so what a cell binds here is not overwritten by what the notebook had when that cell ran.
This process alone knows what it has; a notebook that believes otherwise is told what is wanted, and sends it.
"""

from __future__ import annotations

import importlib
import linecache
import pickle
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypedDict

from easyremote.errors import PayloadError

VALUE, MODULE = "value", "module"

Packed = tuple[Any, ...]
"""(VALUE, pickle stream, buffers), or (MODULE, name, names of submodules that are used): what a name stands for."""


class Sent(TypedDict, total=False):
    """What a cell's notebook knows of names. `values`: what it sends. `tokens`: of each value that the cell needs. `always`:
    names that are taken in any case. `binds`: tokens of what the notebook has under names that the cell may bind. `same`:
    tokens of values of this place that the notebook has taken over. `figures`: in which formats it shows them."""

    values: Mapping[str, Packed]
    tokens: Mapping[str, str]
    always: Iterable[str]
    binds: Mapping[str, str]
    same: Mapping[str, str]
    figures: Mapping[str, Any]


class Place:
    """The names of one process. `names()` is the namespace that cells run in."""

    def __init__(self, names: Callable[[], dict[str, Any]]) -> None:
        self.names = names
        self._tokens: dict[str, str] = {}  # of the notebook's values, as it had them when they were taken or replaced
        self._taken: list[str] = []

    def wanted(self, sent: Sent) -> list[str]:
        """Names that the cell needs, and that neither are here nor came."""
        self._tokens.update(sent.get("same", {}))
        values = sent.get("values", {})
        return [
            name for name, token in sent.get("tokens", {}).items() if name not in values and not self._has(name, token)
        ]

    def take(self, sent: Sent, node_id: str = "") -> None:
        """Bind what came and isn't here yet. Raises what loading it raises, with the variable's and the node's name."""
        tokens, always = sent.get("tokens", {}), set(sent.get("always", ()))
        came = {
            name: load_packed(name, packed, node_id)
            for name, packed in sent.get("values", {}).items()
            if name in always or not self._has(name, tokens.get(name, "")) or self._is_outdated(name, packed)
        }
        self.names().update(came)
        self._tokens.update({name: tokens.get(name, "") for name in came})
        self._taken = list(came)

    def ran(self, sent: Sent, before: Mapping[str, Any]) -> None:
        """A cell has run, to its end or not. `before`: what `marks` gave when it began."""
        binds = sent.get("binds", {})
        names = self.names()
        for name in list(self._tokens):
            if name not in names:
                del self._tokens[name]
        for name, value in list(names.items()):
            if not _is_marked(before.get(name, _nothing), value):
                if name in binds:
                    self._tokens[name] = binds[name]
                else:
                    self._tokens.pop(name, None)

    def marks(self) -> dict[str, Any]:
        """What each name stands for now, without keeping it alive."""
        return {name: _mark(value) for name, value in self.names().items()}

    @property
    def taken(self) -> list[str]:
        """What the last cell has brought."""
        return self._taken

    def _is_outdated(self, name: str, packed: Packed) -> bool:
        """Whether it is a module of which another version has been shipped since."""
        value = self.names()[name]
        return packed[0] == MODULE and isinstance(value, types.ModuleType) and sys.modules.get(packed[1]) is not value

    def _has(self, name: str, token: str) -> bool:
        return name in self.names() and self._tokens.get(name) == token


_nothing = object()


def _mark(value: Any) -> Any:
    try:
        return weakref.ref(value)
    except TypeError:
        return id(value)


def _is_marked(mark: Any, value: Any) -> bool:
    return mark() is value if isinstance(mark, weakref.ref) else mark == id(value)


def load_packed(name: str, packed: Packed, node_id: str) -> Any:
    """The value. Raises ModuleNotFoundError, or PayloadError, that names the variable and the node."""
    where = f" on node '{node_id}'" if node_id else ""
    try:
        if packed[0] == MODULE:
            return _module(packed[1], packed[2])
        return pickle.loads(packed[1], buffers=[_writable(part) for part in packed[2]])  # nosec B301 - as the cell itself
    except ModuleNotFoundError as error:
        what = f"the module {packed[1]}, `{name}` here," if packed[0] == MODULE else f"`{name}`, which the cell reads,"
        raise ModuleNotFoundError(
            f"{what} needs '{error.name}', which isn't installed{where}. Install it there, e.g. with `%pip install` in a "
            "cell that doesn't read it, or name another node",
            name=error.name,
        ) from None
    except Exception as error:
        text = f"`{name}`, which the cell reads, can't be loaded{where}: {type(error).__name__}: {error}"
        raise PayloadError(text) from error


def _module(name: str, submodules: Iterable[str]) -> types.ModuleType:
    module = importlib.import_module(name)
    for submodule in submodules:
        importlib.import_module(submodule)
    return module


def _writable(part: Any) -> Any:
    """An array of a cell's own is the cell's to change."""
    return bytearray(part) if memoryview(part).readonly else part


# ---- functions of the notebook ---------------------------------------------------------------------------------------


def session_function(code: types.CodeType, name: str, cells: int) -> types.FunctionType:
    """A function of the notebook as one of this session: what it looks up is what the session has."""
    from easyremote.execution.cells import namespace

    return types.FunctionType(code, namespace(), name, None, tuple(types.CellType() for _ in range(cells)))


def fill_session_function(function: types.FunctionType, state: dict[str, Any]) -> None:
    """The rest of it, which may lead back to itself."""
    file, source = state.pop("source")
    if source:
        linecache.cache[file] = (len(source), None, source.splitlines(keepends=True), file)
    for cell, contents in zip(function.__closure__ or (), state.pop("cells"), strict=True):
        if contents:
            cell.cell_contents = contents[0]
    function.__dict__.update(state.pop("dict"))
    for name, value in state.items():
        setattr(function, name, value)
