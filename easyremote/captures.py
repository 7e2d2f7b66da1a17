"""What a function would bring along, as a record and as tables: made by `Client.explain_capture`."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from dataclasses import dataclass

from easyremote import foreign
from easyremote.model import Record
from easyremote.sizes import format_size
from easyremote.tables import Table

__all__ = ["CaptureExplanation", "CapturedItem", "NeededModule", "ShippedModule"]

_WIDTH = 56


@dataclass(frozen=True, eq=False)
class CapturedItem(Record):
    """One thing that comes along.

    `kind`: "global", "closure", "default", "attribute" (of a class or a function), "argument" (of a partial), "function",
    "class", or "name" (that a cell reads). `size_bytes`: encoded, without functions and classes that it names, which have lines
    of their own; None where it can't be sent, and `problem` says why and which part of it (`path`). `secret`: why it looks like
    one; its value is never shown. `note`: what else is to be known.
    """

    name: str
    kind: str
    type: str
    size_bytes: int | None
    used_by: tuple[str, ...] = ()
    problem: str = ""
    path: str = ""
    secret: str = ""
    note: str = ""


@dataclass(frozen=True, eq=False)
class NeededModule(Record):
    """A module that has to exist where the function runs; those of the standard library aren't listed.

    `where`: "installed", "beside the notebook" (outside of what is installed: a node doesn't have it unless it is shipped), or
    "not found here". `version`: of what is installed; else of the files. `nodes`: which of the connected ones have it, as far as
    that is known.
    """

    name: str
    where: str
    version: str = ""
    used_by: tuple[str, ...] = ()
    shipped: bool = False
    nodes: tuple[tuple[str, str], ...] = ()
    path: str = ""


@dataclass(frozen=True, eq=False)
class ShippedModule(Record):
    """A module beside the notebook that goes along with code. `path`: its file, or its folder. `version`: changes with its files,
    and with those of modules beside the notebook that it imports. `needed_by`: modules that it goes along for; empty: it was
    named itself."""

    name: str
    path: str
    files: int
    size_bytes: int
    version: str
    needed_by: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False, repr=False)
class CaptureExplanation(Record):
    """Everything that a function, or a cell, would bring along. Nothing was sent.

    `total_bytes`: of what would be sent, arguments aside; None where something can't be. `version`: what results would carry as
    their `function_version`. Shown as tables, in a notebook and as text.
    """

    function: str
    total_bytes: int | None
    version: str
    brings: tuple[CapturedItem, ...] = ()
    modules: tuple[NeededModule, ...] = ()

    @property
    def can_be_sent(self) -> bool:
        return self.total_bytes is not None

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of what looks like a secret."""
        return tuple(item.name for item in self.brings if item.secret)

    @property
    def headline(self) -> str:
        """What is most to be known, in a sentence or two."""
        if self.total_bytes is None:
            problem = next((item for item in self.brings if item.problem), None)
            text = f"{self.function} can't be sent" + (f": {problem.problem}" if problem is not None else "")
        else:
            text = f"{self.function} would bring {format_size(self.total_bytes)}; nothing was sent"
        if self.secrets:
            text += f". Looks like a secret: {', '.join(self.secrets)}"
        return text

    def tables(self, wrap: Callable[[str], str] = str) -> list[Table]:
        """What comes along, the largest first, and what has to be there."""
        found = [self._items(wrap)]
        if self.modules:
            found.append(self._modules(wrap))
        return found

    def _items(self, wrap: Callable[[str], str]) -> Table:
        rows = sorted(self.brings, key=lambda item: -(item.size_bytes if item.size_bytes is not None else 1 << 62))
        columns = {
            "brings": [foreign.name(item.name) for item in rows],
            "kind": [item.kind for item in rows],
            "type": [foreign.name(item.type) for item in rows],
            "size": [_size(item) for item in rows],
            "used by": [wrap(foreign.name(", ".join(item.used_by), 200)) for item in rows],
            "note": [wrap(foreign.name(_note(item), 1000)) for item in rows],
        }
        return _table(self.headline, columns, "it brings nothing along but itself")

    def _modules(self, wrap: Callable[[str], str]) -> Table:
        rows = self.modules
        columns = {
            "module": [foreign.name(module.name) for module in rows],
            "version": [module.version for module in rows],
            "here": [module.where for module in rows],
            "there": [wrap(foreign.name(_there(module), 300)) for module in rows],
            "used by": [wrap(foreign.name(", ".join(module.used_by), 200)) for module in rows],
        }
        return _table("Modules that have to be there, besides Python's own:", columns, "")

    def __repr__(self) -> str:
        return "\n\n".join(repr(table) for table in self.tables(lambda text: textwrap.fill(text, _WIDTH)))

    def _repr_html_(self) -> str:
        return "".join(table.html() for table in self.tables())


def _table(caption: str, columns: dict[str, list[str]], empty: str) -> Table:
    known = {name: values for name, values in columns.items() if any(values)}
    return Table(caption, list(known), zip(*known.values(), strict=True), empty)


def _size(item: CapturedItem) -> str:
    return "-" if item.size_bytes is None else format_size(item.size_bytes) if item.size_bytes else ""


def _note(item: CapturedItem) -> str:
    return ". ".join(filter(None, [item.problem, item.secret and f"looks like a secret ({item.secret})", item.note]))


def _there(module: NeededModule) -> str:
    if module.shipped:
        return "shipped"
    if module.nodes:
        return ", ".join(f"{node}: {has}" for node, has in module.nodes)
    top = module.name.partition(".")[0]
    if module.where == "beside the notebook":
        return f"isn't shipped: `%easyremote ship {top}`"
    return "not known"
