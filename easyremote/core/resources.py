"""What calls need, what nodes offer, and what is free of it.

Rules:
- Whatever is set aside for a call is taken from a *pot*: the processors and the memory of a node, and each of its GPUs. A pot is
  never filled beyond its total, but for what a node brings back after a restart of the gateway: that is there, whatever it is.
- Nodes of one machine share its GPUs (by uuid), and its processors and memory where they found them by themselves.
- `gpus` are for one call alone, each with `gpu_memory` free. `gpu_memory` without `gpus` is a part of one GPU that others share.
- Of a GPU's memory is free what calls don't hold and others don't use: as measured, less what the nodes' own processes use. Where
  a node can't tell which processes are its own, its calls are taken to use what they hold.
- A GPU that its node has lost gets nothing new. What runs there goes on.
- Calls of a function that runs them together (`batch`) need no slot, and what the function needs is held once, by one of them:
  when that one ends, another holds it. Up to two batches of them may be there.
- What is *kept* in a pot, for a call that was passed over for long, is free for that call only.

Everything is counted in whole numbers, so that nothing is lost in rounding.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple

from easyremote.sizes import LARGEST, format_size
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_LABELS = 16
"""Labels that a call may ask for."""

MAX_LABEL = 200
"""Characters of a label's name, and of its value."""

MAX_GPUS = 64
"""GPUs of a node; further ones aren't used."""

_MAX_COUNT = 2**20


class Needs(NamedTuple):
    """What a call holds at its node while it runs. Memory in bytes, processors in thousandths."""

    slots: int = 1
    millicpus: int = 0
    memory: int = 0
    gpus: int = 0
    gpu_memory: int = 0
    labels: tuple[tuple[str, str], ...] = ()


class Ask(NamedTuple):
    """What is said of needs in one place: None is nothing."""

    slots: int | None = None
    millicpus: int | None = None
    memory: int | None = None
    gpus: int | None = None
    gpu_memory: int | None = None
    labels: tuple[tuple[str, str], ...] = ()


NOTHING = Ask()
_NOTHING_KEPT = Needs(slots=0)


class Terms(NamedTuple):
    """What calls of one key need at one node. `limit`: how many of its function may be at work there; 0: any number.

    `is_batched`: they run together, so that all of them need no more than one.
    """

    needs: Needs
    function: str
    limit: int
    is_batched: bool = False


def asked(needs: pb.Needs) -> Ask | None:
    """As a value that can be compared and hashed; None where nothing is said."""
    ask = Ask(
        min(max(needs.slots, 1), _MAX_COUNT) if needs.HasField("slots") else None,
        min(needs.millicpus, _MAX_COUNT * 1000) if needs.HasField("millicpus") else None,
        min(needs.memory_bytes, LARGEST) if needs.HasField("memory_bytes") else None,
        min(needs.gpus, _MAX_COUNT) if needs.HasField("gpus") else None,
        min(needs.gpu_memory_bytes, LARGEST) if needs.HasField("gpu_memory_bytes") else None,
        tuple(sorted(needs.labels.items())),
    )
    return ask if ask != NOTHING else None


def needed(declared: Ask | None, ask: Ask | None) -> Needs:
    """A function's needs with those of a call, which count where they say something."""
    function, call = declared or NOTHING, ask or NOTHING
    labels = function.labels if not call.labels else tuple(sorted((dict(function.labels) | dict(call.labels)).items()))
    return Needs(
        _first(call.slots, function.slots, 1),
        _first(call.millicpus, function.millicpus, 0),
        _first(call.memory, function.memory, 0),
        _first(call.gpus, function.gpus, 0),
        _first(call.gpu_memory, function.gpu_memory, 0),
        labels,
    )


def _first(call: int | None, function: int | None, default: int) -> int:
    if call is not None:
        return call
    return function if function is not None else default


# ---- what there is -----------------------------------------------------------------------------------------------------


@dataclass(slots=True, eq=False)
class Pot:
    """An amount of which calls hold parts."""

    total: int
    held: int = 0
    kept: int = 0  # for calls that were passed over for long
    users: dict[str, None] = field(default_factory=dict)  # nodes that offer it

    def free(self, for_kept: bool = False) -> int:
        return max(self.total - self.held - (0 if for_kept else self.kept), 0)


@dataclass(slots=True, eq=False)
class Gpu:
    """One GPU, whoever offers it. `others`: bytes in use by processes that aren't the nodes' own."""

    total: int
    users: dict[str, None] = field(default_factory=dict)
    held: int = 0
    calls: int = 0
    is_exclusive: bool = False
    kept: int = 0
    kept_whole: int = 0  # kept as a whole by so many calls
    others: int = 0
    used: int = 0
    own: dict[str, int] = field(default_factory=dict)  # by node
    lost_since: float | None = None
    is_gone: bool = False  # it has been lost for so long that nobody is to wait for it

    def free(self, for_kept: bool = False) -> int:
        return max(self.total - self.held - self.others - (0 if for_kept else self.kept), 0)

    def is_whole(self, for_kept: bool = False) -> bool:
        """Whether one call could have it for itself now."""
        return self.calls == 0 and self.lost_since is None and (for_kept or (self.kept == 0 and self.kept_whole == 0))

    def is_open(self, for_kept: bool = False) -> bool:
        """Whether one more call could share it now."""
        return not self.is_exclusive and self.lost_since is None and (for_kept or self.kept_whole == 0)

    def measured(self, node_id: str, used: int, own: int) -> None:
        """A node's measurement of it. `own`: bytes that the node's processes use; 0 where it can't tell."""
        self.used, self.own[node_id] = used, own
        self.others = max(used - (sum(self.own.values()) or self.held), 0)


class Room:
    """One node's pots, and what its calls hold of them. Slots are counted by the node; `reserved` go beyond one for each call."""

    def __init__(self, labels: dict[str, str]) -> None:
        self.labels = labels
        self.cpus = Pot(0)
        self.memory = Pot(0)
        self.gpus: dict[int, Gpu] = {}
        self.reserved = 0
        self.counts: dict[str, int] = {}  # running calls of functions that have a `max_concurrency`
        self.kept = _NOTHING_KEPT
        self.kept_for: frozenset[str] = frozenset()  # the needs that were short
        self.kept_gpus: tuple[int, ...] = ()

    # ---- running calls -------------------------------------------------------------------------------------------

    def hold(self, grant: pb.Grant) -> None:
        """A call has what it was granted."""
        self._move(grant, 1)

    def release(self, grant: pb.Grant) -> None:
        """The same grant comes back."""
        self._move(grant, -1)

    def _move(self, grant: pb.Grant, sign: int) -> None:
        self.reserved += sign * (grant.slots - 1)
        self.cpus.held += sign * grant.millicpus
        self.memory.held += sign * grant.memory_bytes
        for gpu in self.of(grant.gpus):
            gpu.held += sign * grant.gpu_memory_bytes
            gpu.calls += sign
            gpu.is_exclusive = gpu.calls > 0 and (gpu.is_exclusive or grant.is_exclusive)
        if grant.counts_as:
            count = self.counts.get(grant.counts_as, 0) + sign
            if count:
                self.counts[grant.counts_as] = count
            else:
                del self.counts[grant.counts_as]

    def of(self, indexes: Iterable[int]) -> Iterator[Gpu]:
        """Those of its GPUs that have these numbers."""
        for index in indexes:
            gpu = self.gpus.get(index)
            if gpu is not None:
                yield gpu

    # ---- what fits -----------------------------------------------------------------------------------------------

    def fits(self, terms: Terms, free_slots: int, for_kept: bool = False) -> bool:
        """Whether a call has all that it needs there now. `free_slots`: by the node's count, without prefetching."""
        needs = terms.needs
        if terms.is_batched and terms.function in self.counts:
            return self.counts[terms.function] < terms.limit
        return (
            needs.slots <= free_slots
            and (not terms.limit or self.counts.get(terms.function, 0) < terms.limit)
            and (not needs.millicpus or needs.millicpus <= self.cpus.free(for_kept))
            and (not needs.memory or needs.memory <= self.memory.free(for_kept))
            and self.pick(needs, for_kept) is not None
        )

    def pick(self, needs: Needs, for_kept: bool = False) -> tuple[int, ...] | None:
        """The GPUs for a call: the fullest that has room; where it doesn't say how much, those that others use least."""
        memory = needs.gpu_memory
        if needs.gpus:
            whole = [
                (gpu.free(for_kept) if memory else gpu.others, index)
                for index, gpu in self.gpus.items()
                if gpu.is_whole(for_kept) and gpu.free(for_kept) >= memory
            ]
            return tuple(index for _, index in sorted(whole)[: needs.gpus]) if len(whole) >= needs.gpus else None
        if not memory:
            return ()
        shared = [
            (gpu.free(for_kept), index)
            for index, gpu in self.gpus.items()
            if gpu.is_open(for_kept) and gpu.free(for_kept) >= memory
        ]
        return (min(shared)[1],) if shared else None

    def grant(self, terms: Terms, for_kept: bool = False) -> pb.Grant:
        """What a call that fits is to have."""
        needs = terms.needs
        if terms.is_batched and terms.function in self.counts:
            return pb.Grant(slots=0, counts_as=terms.function)  # the rest is there
        return pb.Grant(
            slots=needs.slots,
            millicpus=needs.millicpus,
            memory_bytes=needs.memory,
            gpus=self.pick(needs, for_kept) or (),
            gpu_memory_bytes=needs.gpu_memory,
            is_exclusive=needs.gpus > 0,
            counts_as=terms.function if terms.limit else "",
        )

    # ---- keeping it free -----------------------------------------------------------------------------------------

    def keep(self, needs: Needs, short: Iterable[str]) -> None:
        """What is free, or becomes free, of the needs that are `short` is for one call from now on. More may be said later."""
        short = {*self.kept_for, *short}
        gpus = self.kept_gpus or self._likely_gpus(needs)
        self.drop_kept()
        if "gpus" in short or "gpu_memory" in short:
            self.kept_gpus = gpus
        self.kept_for = frozenset(short)
        self.kept = Needs(
            needs.slots if "slots" in short else 0,
            needs.millicpus if "cpus" in short else 0,
            needs.memory if "memory" in short else 0,
            needs.gpus if self.kept_gpus else 0,
            needs.gpu_memory if self.kept_gpus else 0,
        )
        self._keep(1)

    def drop_kept(self) -> None:
        """Nothing is kept any more."""
        self._keep(-1)
        self.kept, self.kept_gpus, self.kept_for = _NOTHING_KEPT, (), frozenset()

    def _likely_gpus(self, needs: Needs) -> tuple[int, ...]:
        """Those that are nearest to having room."""
        memory = needs.gpu_memory
        usable = [(i, gpu) for i, gpu in self.gpus.items() if gpu.lost_since is None and gpu.total >= memory]
        if needs.gpus:
            ranked = sorted((gpu.kept_whole, gpu.calls, gpu.others, i) for i, gpu in usable)
        else:
            ranked = sorted((gpu.kept_whole, gpu.is_exclusive, -gpu.free(), i) for i, gpu in usable if memory)
        return tuple(entry[-1] for entry in ranked[: needs.gpus or 1])

    def _keep(self, sign: int) -> None:
        kept = self.kept
        self.cpus.kept += sign * kept.millicpus
        self.memory.kept += sign * kept.memory
        for gpu in self.of(self.kept_gpus):
            gpu.kept += sign * kept.gpu_memory
            gpu.kept_whole += sign * (kept.gpus > 0)


# ---- what is missing ---------------------------------------------------------------------------------------------------


class Lack(NamedTuple):
    """One need that a node doesn't meet. Amounts are texts for people.

    `most`: what it ever could have there, while nothing else runs. `is_never`: that isn't enough.
    """

    need: str  # slots, cpus, memory, gpus, gpu_memory, max_concurrency, batch, or labels.NAME
    wanted: str
    free: str
    most: str
    is_never: bool
    amount: float  # `most` as a number, for comparing nodes

    def __str__(self) -> str:
        if self.need == "batch":
            return f"{self.free} calls of it are there, which is all that it may have for its next two batches"
        if self.need == "max_concurrency":
            return f"{self.free} calls of it run there, as many as its max_concurrency={self.most}"
        if self.need.startswith("labels."):
            return f"it needs {self.need[7:]}={self.wanted}, and the node has {self.most or 'no such label'}"
        if self.need.startswith("gpu") and not self.amount:
            return f"it needs {self.need}={self.wanted}, and the node has no GPU"
        if self.is_never:
            return f"it needs {self.need}={self.wanted}, and the node has {self.most}"
        return f"it needs {self.need}={self.wanted}, and {self.free} of {self.most} is free"


def lacks(room: Room, terms: Terms, slots: int, free_slots: int, for_kept: bool = False) -> list[Lack]:
    """Which needs aren't met, and whether they ever could be: those first that never can.

    `slots`: the node's; `free_slots`: of them, now. `for_kept`: what is kept there is kept for these calls.
    """
    needs, found = terms.needs, list[Lack]()
    count = room.counts.get(terms.function, 0) if terms.limit else 0
    if terms.is_batched and count:
        return [Lack("batch", "1", str(count), str(terms.limit), False, terms.limit)] if count >= terms.limit else []
    for name, value in needs.labels:
        if room.labels.get(name) != value:
            there = room.labels.get(name, "")
            found.append(Lack(f"labels.{name}", value, there, there, True, 0))
    if needs.slots > free_slots:
        found.append(_lack("slots", needs.slots, max(free_slots, 0), slots, str))
    cpus, memory = room.cpus.free(for_kept), room.memory.free(for_kept)
    if needs.millicpus > cpus:
        found.append(_lack("cpus", needs.millicpus, cpus, room.cpus.total, format_cpus))
    if needs.memory > memory:
        found.append(_lack("memory", needs.memory, memory, room.memory.total, format_size))
    found += _gpu_lacks(room, needs, for_kept)
    if terms.limit and count >= terms.limit:
        found.append(Lack("max_concurrency", "1", str(count), str(terms.limit), False, terms.limit))
    return sorted(found, key=lambda lack: not lack.is_never)


def _lack(need: str, wanted: int, free: int, most: int, text: Callable[[int], str]) -> Lack:
    return Lack(need, text(wanted), text(free), text(most), wanted > most, most)


def _gpu_lacks(room: Room, needs: Needs, for_kept: bool) -> list[Lack]:
    if room.pick(needs, for_kept) is not None:
        return []
    there = [gpu for gpu in room.gpus.values() if not gpu.is_gone]
    large = [gpu for gpu in there if gpu.total >= needs.gpu_memory]
    if not there and not needs.gpus:
        return [_lack("gpu_memory", needs.gpu_memory, 0, 0, format_size)]
    count = needs.gpus or 1
    found: list[Lack] = []
    whole = sum(gpu.is_whole(for_kept) for gpu in there)
    if len(there) < count or (needs.gpus and whole < count):
        found.append(_lack("gpus", count, whole, len(there), str))
    if needs.gpu_memory and len(there) >= count:
        memory = sorted((gpu.total for gpu in there), reverse=True)[count - 1]
        usable = [gpu for gpu in there if (gpu.is_whole(for_kept) if needs.gpus else gpu.is_open(for_kept))]
        free = sorted((gpu.free(for_kept) for gpu in usable), reverse=True)[count - 1 : count]
        if len(large) < count or not found:
            found.append(_lack("gpu_memory", needs.gpu_memory, free[0] if free else 0, memory, format_size))
    return found


def format_cpus(millicpus: int) -> str:
    return f"{millicpus / 1000:g}"
