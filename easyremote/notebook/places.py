"""What a notebook sends along with a cell: the names that the cell reads and the session on the node hasn't got.

The rule: a name's value is sent when the notebook has another value now than when it was sent last, or than when a cell on the
node bound that name. So what a cell makes there stays, until the notebook's own value changes. The node has the last word on what
it has (`execution.place`); what is kept here only saves sending everything each time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from easyremote.errors import UnpicklableError
from easyremote.execution.place import Sent
from easyremote.notebook.names import CellNames
from easyremote.notebook.packing import Packer, Value, own_names
from easyremote.refs import Ref

REF_BYTES = 16 * 1024 * 1024
"""A value of this size or more travels as a Ref: once to each node, which keeps it when the session's process has ended."""

REFS_BYTES = 1024 * 1024 * 1024
"""So much of such values is kept for that; a node's own bound is the same by default. Beyond it a value travels with its cell."""


@dataclass
class Believed:
    """What one session on one node has, as far as this notebook knows."""

    tokens: dict[str, str] = field(default_factory=dict[str, str])
    same: dict[str, str] = field(default_factory=dict[str, str])  # brought back since, to be told with the next cell


@dataclass
class Parcel:
    """What goes along with one cell. `sizes`: bytes of each name that is sent. `reads`: what the cell reads, sent or not."""

    sent: Sent
    sizes: dict[str, int]
    refs: dict[bytes, Any]
    reads: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True)
class Notebook:
    """What a cell may read of where it is written. `names`: what names stand for. `home`: the namespace itself, which its
    functions look up their names in. `hidden`: what IPython put there."""

    names: Mapping[str, Any]
    home: Mapping[str, Any]
    hidden: Mapping[str, Any] = field(default_factory=dict[str, Any])

    def own(self, names: Iterable[str]) -> list[str]:
        """Those of these names that somebody has bound here."""
        return own_names(self.names, names, self.hidden)


class Places:
    """The sessions of a notebook, by node."""

    def __init__(self) -> None:
        self._believed: dict[str, Believed] = {}
        self._large: dict[str, tuple[str, Ref[Any]]] = {}  # by name: token of the value, and where it is kept for nodes

    def forget(self, node: str | None = None) -> None:
        """The session on this node, or all of them, is gone."""
        if node is None:
            self._believed.clear()
            self._large.clear()
        else:
            self._believed.pop(node, None)

    def parcel(
        self,
        node: str,
        cell: CellNames,
        notebook: Notebook,
        put: Callable[[Any], Ref[Any]] | None,
        *,
        always: Iterable[str] = (),
        by_itself: bool = True,
        surely: bool = False,
        wanted: Iterable[str] = (),
    ) -> Parcel:
        """What is sent with a cell. `always`: names that are sent in any case. `by_itself`: whether what the cell reads is.
        `put`: where large values are kept for nodes; None: they go with the cell. `surely`: whether nothing can be asked for
        later, so all of it goes. `wanted`: what the node has asked for.

        Raises UnpicklableError for a name that can't be sent and has to be.
        """
        believed = self._believed.setdefault(node, Believed()).tokens
        packer = Packer(notebook.names, notebook.home, cell.words)
        always = list(always)
        packed = _pack_all(packer, [*always, *(notebook.own(cell.reads) if by_itself else ())], notebook)
        must = {*always, *wanted} | {name for name, value in packed.items() if believed.get(name) != value.token}
        for name, value in packed.items():
            if name in must and value.problem is not None:
                raise value.problem
        values = {
            name: value
            for name, value in packed.items()
            if name in must or value.is_module or (surely and not value.problem)
        }
        sent = Sent(
            values={name: self._as_sent(name, value, put) for name, value in values.items()},
            tokens={name: value.token for name, value in packed.items()},
            always=always,
            binds={
                name: packed[name].token if name in packed else packer.token(name) for name in notebook.own(cell.binds)
            },
            same=dict(self._believed[node].same),
        )
        refs = {ref_id: ref for value in values.values() for ref_id, ref in value.refs.items()}
        sizes = {name: value.size_bytes for name, value in values.items() if surely or name in must}
        return Parcel(sent, sizes, refs, {name: notebook.names[name] for name in packed})

    def ran(self, node: str, parcel: Parcel) -> None:
        """A cell with this parcel has run there, to its end or not."""
        believed = self._believed.setdefault(node, Believed())
        believed.tokens.update(parcel.sent.get("tokens", {}))
        believed.tokens.update(parcel.sent.get("binds", {}))
        believed.same.clear()

    def brought_back(self, node: str, names: Iterable[str], notebook: Notebook) -> None:
        """The notebook has these names from there now."""
        believed = self._believed.setdefault(node, Believed())
        packer = Packer(notebook.names, notebook.home)
        tokens = {name: packer.token(name) for name in names}
        believed.same.update(tokens)
        believed.tokens.update(tokens)

    def _as_sent(self, name: str, value: Value, put: Callable[[Any], Ref[Any]] | None) -> Any:
        if put is None or value.size_bytes < REF_BYTES or value.refs:
            return value.packed
        token, ref = self._large.pop(name, ("", None))
        kept_bytes = sum(other.size_bytes for _, other in self._large.values())
        if token != value.token or ref is None or ref.is_released:
            if kept_bytes + value.size_bytes > REFS_BYTES:
                return value.packed
            ref = put(value.packed)
        self._large[name] = (value.token, ref)
        return ref


def _pack_all(packer: Packer, names: list[str], notebook: Notebook) -> dict[str, Value]:
    """These names, and those that their functions look up."""
    packed: dict[str, Value] = {}
    pending = [(name, "") for name in names]
    while pending:
        name, reader = pending.pop(0)
        if name in packed:
            continue
        try:
            packed[name] = packer.pack(name)
        except UnpicklableError as error:
            who = f"`{reader}`, which the cell reads, uses" if reader else "the cell reads"
            problem = UnpicklableError(f"{who} `{name}`: {error.message}", path=error.path)
            packed[name] = Value((), packer.object_token(name), 0, problem=problem)
        pending += [(other, name) for other in notebook.own(packed[name].names)]
    return packed
