"""Values of refs that a node has: fetched for calls that name them, or returned by calls that were asked to keep them.

Rules:
- A value is here once, whoever uses it: in this process's memory for functions in threads, in a shared file as soon as a worker
  needs it, which all of them map. Calls that need the same one wait for one transfer.
- What a running call uses is pinned. The rest, which is idle, may take `bound_bytes` together: beyond that the one used longest
  ago goes, copies before those that were made here, which are lost then.
- A value that nobody holds a ref of goes at once, or when the last call that uses it has ended.
"""

from __future__ import annotations

import asyncio
import secrets
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass, field
from time import monotonic
from typing import Protocol

from easyremote.errors import PayloadError
from easyremote.sizes import format_size
from easyremote.wire.codec import PICKLE, Encoded, Part
from easyremote.wire.shared_files import SharedFiles, file_bytes, split
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_VALUES = 10_000
"""Values of one node, as many as a gateway keeps track of."""


@dataclass(slots=True, eq=False)
class Value:
    """One value: `parts` always, and the shared file that they lie in once a worker has needed it."""

    ref: pb.Ref
    parts: Sequence[Part] = ()
    file: str = ""
    pins: int = 0
    is_made: bool = False  # here, so that nobody else may have it
    is_wanted: bool = True
    coming: asyncio.Task[None] | None = None
    filing: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def size(self) -> int:
        return sum(self.ref.part_bytes)

    @property
    def encoded(self) -> Encoded:
        return Encoded(self.ref.content_type, self.parts)


class Surroundings(Protocol):
    """What a store needs of its node."""

    async def fetch(self, ref: pb.Ref) -> Sequence[Part]:
        """The value's parts from whoever has it. Raises what its call is to end with where nobody has."""
        ...

    async def fetch_to_file(self, ref: pb.Ref) -> str:
        """The same in a shared file of this process's."""
        ...

    def serve(self, value: Value) -> None:
        """Others may fetch the value here, from the bytes that it has now."""
        ...

    def gone(self, ref_id: bytes) -> None:
        """They can't any more."""
        ...

    def tell(self, held: pb.HeldValue) -> None:
        """The gateway is to know that a value is here."""
        ...

    def tell_dropped(self, ref_ids: Sequence[bytes]) -> None:
        """And that there was no room for these."""
        ...


class ValueStore:
    """Runs on the loop of the node."""

    def __init__(self, node_id: str, shared: SharedFiles, bound_bytes: int, node: Surroundings) -> None:
        self.bound_bytes = bound_bytes
        self._node_id = node_id
        self._shared = shared
        self._node = node
        self._values: OrderedDict[bytes, Value] = OrderedDict()  # the one used longest ago in front
        self._pending: dict[Hashable, list[Value]] = {}
        self.held_bytes = self._idle_bytes = 0

    def __len__(self) -> int:
        return len(self._values)

    # ---- for calls -----------------------------------------------------------------------------------------------

    async def use(self, refs: Iterable[pb.Ref], in_files: bool) -> list[Value]:
        """Have these values here and pinned until `done_with`. `in_files`: for a worker. Raises what fetching one raised."""
        values = [self._pin(ref) for ref in refs]
        try:
            for value in values:
                self._begin(value, in_files)
            for value in values:
                if value.coming is not None:
                    await asyncio.shield(value.coming)
                if in_files and not value.file:
                    await self._file(value)
        except BaseException:
            self.done_with(values)
            raise
        return values

    def done_with(self, values: Iterable[Value]) -> None:
        for value in values:
            value.pins -= 1
            if value.pins:
                continue
            if self._is_here(value):
                self._idle_bytes += value.size
            if value.coming is not None or not value.is_wanted:
                self._drop(value)
        self._make_room()

    def keep(
        self, holder: Hashable, parts: Sequence[Part], type_text: str, file: str = "", content_type: str = PICKLE
    ) -> pb.Ref:
        """A value that was made here, pinned until `settle(holder)`. `file`: the shared file that its parts lie in.

        Raises PayloadError for one that is larger than all may be together.
        """
        ref = pb.Ref(
            ref_id=secrets.token_bytes(16),
            part_bytes=[memoryview(part).nbytes for part in parts],
            type=type_text,
            node_id=self._node_id,
            content_type=content_type,
        )
        value = Value(ref, _read_only(parts), file, pins=1, is_made=True)
        if value.size > self.bound_bytes:
            if file:
                self._shared.remove(file)
            raise PayloadError(
                f"the result, {format_size(value.size)}, is to stay on node '{self._node_id}', whose values may take "
                f"{format_size(self.bound_bytes)}; give it more (value_memory, --value-memory), or call without keep"
            )
        self._add(value)
        self._pending.setdefault(holder, []).append(value)
        self._node.serve(value)
        self._node.tell(pb.HeldValue(ref_id=ref.ref_id, size_bytes=value.size, pending=True))
        return ref

    def settle(self, holder: Hashable) -> None:
        """The client of this call knows what it returned, or will never."""
        values = self._pending.pop(holder, None)
        if values is None:
            return
        for value in values:
            if value.is_wanted:
                self._tell(value)
        self.done_with(values)

    def discard(self, ref_ids: Iterable[bytes]) -> None:
        """Nobody holds a ref of these any more."""
        for ref_id in ref_ids:
            value = self._values.get(ref_id)
            if value is not None:
                value.is_wanted = False
                if value.pins == 0:
                    self._drop(value)

    def touch(self, ref_id: bytes) -> None:
        """Somebody else is fetching it."""
        if ref_id in self._values:
            self._values.move_to_end(ref_id)

    async def close(self) -> None:
        values = list(self._values.values())
        coming = [value.coming for value in values if value.coming is not None]
        for value in values:
            self._drop(value)
        await asyncio.gather(*coming, return_exceptions=True)

    # ---- plumbing ------------------------------------------------------------------------------------------------

    def _pin(self, ref: pb.Ref) -> Value:
        value = self._values.get(ref.ref_id)
        if value is None:
            value = Value(ref)
            self._values[ref.ref_id] = value
        self._values.move_to_end(ref.ref_id)
        if value.pins == 0 and value.parts:
            self._idle_bytes -= value.size
        value.pins += 1
        if not value.is_wanted:
            value.is_wanted = True
            self._tell(value)
        return value

    def _tell(self, value: Value) -> None:
        if value.parts:
            self._node.tell(pb.HeldValue(ref_id=value.ref.ref_id, size_bytes=value.size))

    def _begin(self, value: Value, in_files: bool) -> None:
        """Have it come, unless it is here or somebody has done so already."""
        if not value.parts and value.coming is None:
            value.coming = asyncio.get_running_loop().create_task(self._fetch(value, in_files))
            value.coming.add_done_callback(lambda done: done.cancelled() or done.exception())  # whoever waits is told

    async def _fetch(self, value: Value, in_files: bool) -> None:
        began = monotonic()
        try:
            if in_files:
                self._lie_in(value, await self._node.fetch_to_file(value.ref))
            else:
                value.parts = _read_only(await self._node.fetch(value.ref))
        except BaseException:
            self._forget(value)
            raise
        finally:
            value.coming = None
        self.held_bytes += value.size
        self._node.serve(value)
        took_s = monotonic() - began
        self._node.tell(pb.HeldValue(ref_id=value.ref.ref_id, size_bytes=value.size, fetch_s=took_s))

    async def _file(self, value: Value) -> None:
        """Put it into a shared file too, or rather instead: the memory that it had is given back."""
        async with value.filing:
            if value.file:
                return
            try:
                name = await _in_thread(lambda: self._shared.write(value.parts), self._shared.remove)
            except OSError as error:
                raise PayloadError(
                    f"node '{self._node_id}' has no room in shared memory for a value of {format_size(value.size)}: {error}"
                ) from error
            self._lie_in(value, name)
            self._node.serve(value)

    def _lie_in(self, value: Value, name: str) -> None:
        sizes = list(value.ref.part_bytes)
        try:
            value.parts = _read_only(split(self._shared.map(name, file_bytes(sizes)), sizes))
        except BaseException:
            self._shared.remove(name)
            raise
        value.file = name

    def _add(self, value: Value) -> None:
        self._values[value.ref.ref_id] = value
        self.held_bytes += value.size

    def _make_room(self) -> None:
        """Keep what is idle within the bound: copies go first, since they can be had again."""
        dropped: list[bytes] = []
        for are_made in (False, True):
            if not self._is_too_much:
                break
            for value in [v for v in self._values.values() if v.is_made is are_made and v.parts and v.pins == 0]:
                if not self._is_too_much:
                    break
                self._drop(value)
                dropped.append(value.ref.ref_id)
        if dropped:
            self._node.tell_dropped(dropped)

    @property
    def _is_too_much(self) -> bool:
        return self._idle_bytes > self.bound_bytes or len(self._values) > MAX_VALUES

    def _is_here(self, value: Value) -> bool:
        return bool(value.parts) and self._values.get(value.ref.ref_id) is value

    def _drop(self, value: Value) -> None:
        if not self._forget(value):
            return
        if value.coming is not None:
            value.coming.cancel()
        if value.parts:
            self.held_bytes -= value.size
            self._idle_bytes -= value.size if value.pins == 0 else 0
            self._node.gone(value.ref.ref_id)
        if value.file:
            self._shared.remove(value.file)

    def _forget(self, value: Value) -> bool:
        """Whoever needs it from now on begins anew. False: it was forgotten already."""
        is_known = self._values.get(value.ref.ref_id) is value
        if is_known:
            del self._values[value.ref.ref_id]
        return is_known

    def check(self) -> None:
        """Assert that bytes are counted and the bound is kept."""
        values = self._values.values()
        assert self.held_bytes == sum(value.size for value in values if value.parts), "bytes are counted"
        idle = sum(value.size for value in values if value.parts and value.pins == 0)
        assert self._idle_bytes == idle <= self.bound_bytes, "what is idle is counted, and within the bound"
        assert all(value.pins or value.parts for value in values), "what isn't here is waited for"


def _read_only(parts: Sequence[Part]) -> list[Part]:
    """Everybody who uses the value sees the same bytes."""
    return [part if isinstance(part, bytes) else memoryview(part).toreadonly() for part in parts]


async def _in_thread(work: Callable[[], str], undo: Callable[[str], object]) -> str:
    """In a thread, which goes on when this is cancelled; what it made is undone then."""
    running = asyncio.get_running_loop().run_in_executor(None, work)
    try:
        return await asyncio.shield(running)
    except asyncio.CancelledError:
        running.add_done_callback(lambda done: done.exception() is None and undo(done.result()))
        raise
