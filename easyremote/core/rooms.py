"""The rooms of all nodes: which share a pot, what calls need at each of them, and what is missing there."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from easyremote.core.records import Call, Node, QueueKey
from easyremote.core.resources import MAX_GPUS, Ask, Gpu, Lack, Needs, Pot, Terms, asked, lacks, needed
from easyremote.sizes import LARGEST
from easyremote.wire.v1 import gateway_pb2 as pb

GONE_AFTER_S = 10.0
"""Calls wait for a GPU that was lost for so long; then it counts as one that the node never had."""

MAX_BATCH = 1024
"""A function's batch beyond this is taken for so many."""

_ONE_SLOT = Needs()


class Rooms:
    """Furnishes nodes with pots, and keeps account of what is measured of them.

    `freed`: nodes where something may have become free that isn't seen from their own calls.
    """

    def __init__(self) -> None:
        self.freed: dict[Node, None] = {}
        self._gpus: dict[str, Gpu] = {}  # by uuid
        self._pots: dict[tuple[str, str], Pot] = {}  # by machine
        self._lost: dict[Gpu, None] = {}  # and not gone yet

    # ---- nodes ---------------------------------------------------------------------------------------------------

    def furnish(self, node: Node, capacity: pb.Capacity) -> None:
        """A node came, and says what it offers."""
        node.capacity = capacity
        room, cpus, memory = node.room, min(capacity.millicpus, 2**31), min(capacity.memory_bytes, LARGEST)
        room.cpus = self._pot(node, "cpus", cpus, capacity.shares_cpus)
        room.memory = self._pot(node, "memory", memory, capacity.shares_memory)
        for offered in capacity.gpus[:MAX_GPUS]:
            total = min(offered.memory_bytes, LARGEST)
            gpu = self._gpus.get(offered.uuid) if offered.uuid else None
            if offered.index in room.gpus or gpu in room.gpus.values():
                continue
            if gpu is None:
                gpu = Gpu(total)
                if offered.uuid:
                    self._gpus[offered.uuid] = gpu
            gpu.total = max(gpu.total, total)
            gpu.users[node.node_id] = None
            room.gpus[offered.index] = gpu

    def _pot(self, node: Node, what: str, total: int, is_shared: bool) -> Pot:
        pot = self._pots.setdefault((node.host, what), Pot(total)) if is_shared else Pot(total)
        pot.total = max(pot.total, total)
        pot.users[node.node_id] = None
        return pot

    def left(self, node: Node, is_replaced: bool) -> None:
        """A node is gone. `is_replaced`: another has its name already."""
        node.room.drop_kept()
        for pot in (node.room.cpus, node.room.memory, *node.room.gpus.values()):
            if isinstance(pot, Gpu):
                pot.own.pop(node.node_id, None)
            if not is_replaced:
                pot.users.pop(node.node_id, None)
        self._lost = {gpu: None for gpu in self._lost if gpu.users}
        self._gpus = {uuid: gpu for uuid, gpu in self._gpus.items() if gpu.users}
        self._pots = {key: pot for key, pot in self._pots.items() if pot.users}

    def loaded(self, node: Node, gpus: Iterable[pb.Load.Gpu], nodes: Mapping[str, Node], now: float) -> bool:
        """A node's measurement. Tells whether a GPU is there again that was given up."""
        is_back = False
        for measured in gpus:
            gpu = node.room.gpus.get(measured.index)
            if gpu is None:
                continue
            before = gpu.lost_since is None, gpu.others
            if measured.lost:
                gpu.lost_since = gpu.lost_since if gpu.lost_since is not None else now
                self._lost[gpu] = None
            else:
                is_back = is_back or gpu.is_gone
                gpu.lost_since, gpu.is_gone = None, False
                self._lost.pop(gpu, None)
                used = min(measured.memory_used_bytes, LARGEST)
                gpu.measured(node.node_id, used, min(measured.own_memory_bytes, used))
            if before != (gpu.lost_since is None, gpu.others):
                self.freed[node] = None
                self._free_others(gpu, node, nodes)
        return is_back

    def time_passed(self, now: float) -> bool:
        """Tells whether a GPU was given up."""
        gone = [gpu for gpu in self._lost if gpu.lost_since is not None and now - gpu.lost_since > GONE_AFTER_S]
        for gpu in gone:
            gpu.is_gone = True
            del self._lost[gpu]
        return bool(gone)

    def released(self, node: Node, grant: pb.Grant, nodes: Mapping[str, Node]) -> None:
        """A call's grant came back at this node: others may have waited for it."""
        for pot in self._touched(node, grant):
            self._free_others(pot, node, nodes)

    def _free_others(self, pot: Pot | Gpu, node: Node, nodes: Mapping[str, Node]) -> None:
        for name in pot.users:
            if name != node.node_id and name in nodes:
                self.freed[nodes[name]] = None

    def _touched(self, node: Node, grant: pb.Grant) -> Iterator[Pot | Gpu]:
        if grant.millicpus:
            yield node.room.cpus
        if grant.memory_bytes:
            yield node.room.memory
        yield from node.room.of(grant.gpus)


# ---- a call at a node --------------------------------------------------------------------------------------------------


def terms_of(node: Node, key: QueueKey) -> Terms | None:
    """What calls of this key need at this node; None where nothing is said of it."""
    spec = node.offers.get(key.function) if not key.is_code else None
    declared = asked(spec.needs) if spec is not None and spec.HasField("needs") else None
    limit = spec.max_concurrency if spec is not None else 0
    if spec is not None and spec.batch:
        room = 2 * min(spec.batch, MAX_BATCH)  # one batch runs, the next one fills
        labels = Ask(labels=key.needs.labels) if key.needs is not None else None
        needs = needed(declared, labels)._replace(
            slots=0
        )  # the function's, held once for all; a call can't have others
        return Terms(needs, key.function, min(limit or room, room), is_batched=True)
    if declared is None and key.needs is None and not limit:
        return None
    return Terms(needed(declared, key.needs), key.function if limit else "", limit)


def admission_of(node: Node, key: QueueKey) -> Terms | None:
    """The same for a node that has the labels; None where a slot is all that is needed."""
    terms = terms_of(node, key)
    if terms is None or (terms.limit == 0 and terms.needs._replace(labels=()) == _ONE_SLOT):
        return None
    return terms


def lacks_at(node: Node, key: QueueKey) -> list[Lack]:
    """What calls of this key lack at a node that runs them, those first that it will never have. Empty: nothing.

    A call that needs no more than a slot may be sent beyond them; whether it may is `node.has_credit`.
    """
    terms = terms_of(node, key)
    if terms is None:
        return []
    is_kept = node.keeper == key
    free = node.free_slots if is_kept else max(node.free_slots - node.room.kept.slots, 0)
    return lacks(node.room, terms, node.slots, free, is_kept)


def could_ever(node: Node, key: QueueKey) -> bool:
    """Whether this node has all that a call needs while nothing else runs there."""
    return not any(lack.is_never for lack in lacks_at(node, key))


def never_fits(call: Call, nodes: Sequence[Node]) -> pb.ErrorInfo:
    """What to tell a call that each of these nodes would run if it had what the call needs: the most that there is of each."""
    found: dict[str, list[tuple[Lack, Node]]] = {}
    for node in nodes:
        for lack in lacks_at(node, call.key):
            if lack.is_never:
                found.setdefault(lack.need, []).append((lack, node))
    nowhere = [
        max(here, key=lambda pair: (pair[0].amount, pair[0].most)) for here in found.values() if len(here) == len(nodes)
    ]
    if nowhere:
        texts = [_most(lack, node, is_named=bool(call.key.node_id)) for lack, node in nowhere]
    else:  # each need is met somewhere, but never all on one node
        texts = [f"'{node.node_id}': {lacks_at(node, call.key)[0]}" for node in nodes[:8]]
    where = f"node '{call.key.node_id[:200]}' never has" if call.key.node_id else "no node here ever has"
    details = {f"most_{lack.need}": lack.most for lack, _ in nowhere}
    details |= {f"wanted_{lack.need}": lack.wanted for lack, _ in nowhere}
    return pb.ErrorInfo(
        code="insufficient_resources",
        message=f"{where} what '{call.title}' needs: {'; '.join(texts)}. "
        "Ask for less, or wait for a node that has it with queue_timeout",
        details=details,
    )


def _most(lack: Lack, node: Node, is_named: bool) -> str:
    none = "it has no" if is_named else "no node has a"
    if lack.need.startswith("labels."):
        there = (
            f"'{node.node_id}' has {lack.most}"
            if lack.most
            else "it has no such label"
            if is_named
            else "no node has such a label"
        )
        return f"{lack.need[7:]}={lack.wanted} ({there})"
    if lack.need.startswith("gpu") and not lack.amount:
        return f"{lack.need}={lack.wanted} ({none} GPU)"
    return f"{lack.need}={lack.wanted} (the most is {lack.most}, on '{node.node_id}')"


def in_use(node: Node) -> pb.NodeRecord.Use:
    """What running calls hold at a node, for those who ask."""
    room = node.room
    return pb.NodeRecord.Use(
        slots=max(node.running_count + room.reserved, 0),
        millicpus=min(room.cpus.held, 2**31),
        memory_bytes=room.memory.held,
        gpus=[
            pb.NodeRecord.Use.Gpu(
                index=index,
                calls=gpu.calls,
                memory_bytes=gpu.held,
                is_exclusive=gpu.is_exclusive,
                is_lost=gpu.lost_since is not None,
            )
            for index, gpu in room.gpus.items()
        ],
    )


def holdings(state: pb.NodeState) -> dict[tuple[bytes, int], pb.Grant]:
    """What a node that came back says that its attempts hold, by call and attempt, within sensible bounds."""
    found: dict[tuple[bytes, int], pb.Grant] = {}
    for item in state.holdings:
        grant = pb.Grant()
        grant.CopyFrom(item.grant)
        grant.slots = min(grant.slots, 4096)
        grant.millicpus = min(grant.millicpus, 2**24)
        grant.memory_bytes = min(grant.memory_bytes, LARGEST)
        grant.gpu_memory_bytes = min(grant.gpu_memory_bytes, LARGEST)
        del grant.gpus[MAX_GPUS:]
        grant.counts_as = grant.counts_as[:200]
        found[item.call_id, item.attempt] = grant
    return found


__all__ = [
    "GONE_AFTER_S",
    "Ask",
    "Rooms",
    "could_ever",
    "holdings",
    "in_use",
    "lacks_at",
    "never_fits",
    "terms_of",
]
