"""Pretend values that stay where they are: what `refs` and `execution.values` do, in virtual time."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import TYPE_CHECKING

from easyremote.testing.sim_transfers import Incoming
from easyremote.wire.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from easyremote.testing.sim_client import SimClient
    from easyremote.testing.sim_node import SimNode

Ready = Callable[[bool], None]


class ClientRefs:
    """The refs of one client: each is held by its user for a while, and by the calls that name it."""

    def __init__(self, client: SimClient) -> None:
        self._client = client
        self._refs: dict[bytes, pb.Ref] = {}
        self._counts: dict[bytes, int] = {}
        self._of_call: dict[bytes, list[bytes]] = {}
        self._gets: list[Incoming] = []

    def choose(self, data: bytes, kept: bool, rng: Random) -> pb.Ref:
        """A ref for a call to name: of a result that stayed on its node, if `kept` and there is one, else of a put value."""
        there = [ref for ref in self._refs.values() if bool(ref.node_id) is kept]
        if there and (kept or rng.random() < 0.5):
            return rng.choice(there)
        ref = pb.Ref(ref_id=self._client.world.rng.randbytes(16), part_bytes=[len(data)])
        self._client.transfers.hold(ref.ref_id, data)
        self._hold(ref, rng)
        return ref

    def named_by(self, call_id: bytes, refs: Iterable[pb.Ref]) -> None:
        for ref in refs:
            self._counts[ref.ref_id] += 1
            self._of_call.setdefault(call_id, []).append(ref.ref_id)

    def call_ended(self, call_id: bytes) -> None:
        for ref_id in self._of_call.pop(call_id, ()):
            self._let_go(ref_id)

    def kept(self, ref: pb.Ref, expected: bytes, rng: Random) -> None:
        """A result stayed on its node. Now and then it is looked at."""
        self._hold(ref, rng)
        if rng.random() < 0.3:
            self._counts[ref.ref_id] += 1
            self._get(ref, expected)

    def close(self) -> None:
        for incoming in self._gets:
            self._client.transfers.give_up(incoming)

    def leftovers(self) -> list[str]:
        left = [f"{self._client.name} holds {len(self._counts)} refs"] if self._counts else []
        return left + ([f"{self._client.name} is getting {len(self._gets)} values"] if self._gets else [])

    def _get(self, ref: pb.Ref, expected: bytes) -> None:
        def arrived(data: bytes | None) -> None:
            self._gets.remove(incoming)
            self._client._client_world.value_came(self._client.name, data, expected)
            self._let_go(ref.ref_id)

        incoming = self._client.transfers.fetch_ref(ref, arrived)
        self._gets.append(incoming)

    def _hold(self, ref: pb.Ref, rng: Random) -> None:
        self._refs[ref.ref_id] = ref
        self._counts[ref.ref_id] = 1
        self._client.core.hold(pb.Handle(ref_id=ref.ref_id, has_value=not ref.node_id))
        self._client.flush()
        self._client.after(rng.uniform(0.0, 8.0), lambda: self._let_go(ref.ref_id))

    def _let_go(self, ref_id: bytes) -> None:
        self._counts[ref_id] -= 1
        if not self._counts[ref_id]:
            del self._counts[ref_id], self._refs[ref_id]
            self._client.transfers.release(ref_id)
            self._client.core.let_go([ref_id])
            self._client.core.check()
            self._client.flush()


@dataclass(slots=True, eq=False)
class Value:
    """One value at a node."""

    ref: pb.Ref
    data: bytes | None = None
    pins: int = 0
    is_made: bool = False
    is_wanted: bool = True
    incoming: Incoming | None = None
    waiting: list[Ready] = field(default_factory=list)


class NodeStore:
    """Values of one node. `use` pins them, and fetches what is missing once for all who wait."""

    def __init__(self, node: SimNode) -> None:
        self.max_idle = 1000  # values that it keeps when nobody uses them
        self._node = node
        self._values: OrderedDict[bytes, Value] = OrderedDict()
        self._pending: dict[object, Value] = {}

    def leftovers(self) -> list[str]:
        return [f"{self._node.name} has {len(self._values)} values"] if self._values else []

    def use(self, ref: pb.Ref, ready: Ready) -> Value:
        """Pinned until `done_with`. `ready(False)`: it is lost."""
        value = self._values.setdefault(ref.ref_id, Value(ref))
        self._values.move_to_end(ref.ref_id)
        value.pins += 1
        if not value.is_wanted:
            value.is_wanted = True
            self._tell(value)
        if value.data is not None:
            ready(True)
            return value
        value.waiting.append(ready)
        if value.incoming is None:
            value.incoming = self._node.transfers.fetch_ref(ref, lambda data: self._arrived(value, data))
        return value

    def done_with(self, value: Value, ready: Ready) -> None:
        value.pins -= 1
        if ready in value.waiting:
            value.waiting.remove(ready)
        if value.pins == 0 and (value.data is None or not value.is_wanted):
            self._drop(value)
        self._make_room()

    def keep(self, holder: object, data: bytes) -> pb.Ref:
        ref = pb.Ref(ref_id=self._node.world.rng.randbytes(16), part_bytes=[len(data)], node_id=self._node.name)
        value = self._values[ref.ref_id] = self._pending[holder] = Value(ref, data, pins=1, is_made=True)
        self._node.transfers.hold(ref.ref_id, data)
        self._tell(value, pending=True)
        return ref

    def settle(self, holder: object) -> None:
        value = self._pending.pop(holder, None)
        if value is None:
            return
        if value.is_wanted:
            self._tell(value)
        self.done_with(value, _nobody)

    def discard(self, ref_ids: Iterable[bytes]) -> None:
        for ref_id in ref_ids:
            value = self._values.get(ref_id)
            if value is not None:
                value.is_wanted = False
                if value.pins == 0:
                    self._drop(value)

    @property
    def known(self) -> Mapping[bytes, Value]:
        return self._values

    def _arrived(self, value: Value, data: bytes | None) -> None:
        value.incoming, value.data = None, data
        waiting, value.waiting = value.waiting, []
        if data is None:
            self._forget(value)
        else:
            self._node.transfers.hold(value.ref.ref_id, data)
            self._tell(value)
        for ready in waiting:
            ready(data is not None)

    def _tell(self, value: Value, pending: bool = False) -> None:
        if value.data is not None:
            size = len(value.data)
            self._node.core.has(pb.HeldValue(ref_id=value.ref.ref_id, size_bytes=size, pending=pending))
            self._node.flush()

    def _make_room(self) -> None:
        idle = [value for value in self._values.values() if value.pins == 0]
        gone = sorted(idle, key=lambda value: value.is_made)[: max(len(idle) - self.max_idle, 0)]
        for value in gone:
            self._drop(value)
        if gone:
            self._node.core.dropped([value.ref.ref_id for value in gone], self.max_idle)
            self._node.flush()

    def _drop(self, value: Value) -> None:
        self._forget(value)
        if value.incoming is not None:
            self._node.transfers.give_up(value.incoming)
            value.incoming = None

    def _forget(self, value: Value) -> None:
        if self._values.get(value.ref.ref_id) is value:
            del self._values[value.ref.ref_id]
            self._node.transfers.let_go(value.ref.ref_id)


def _nobody(_: bool) -> None:
    pass
