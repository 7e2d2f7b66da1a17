"""A node's store of values: one transfer for all who wait, pins, the bound, what goes first."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import pytest

from easyremote.errors import PayloadError, RefLost
from easyremote.execution.values import Value, ValueStore
from easyremote.wire.shared_files import SharedFiles
from easyremote.wire.v1 import gateway_pb2 as pb


class Node:
    """Surroundings whose values come when the test says so."""

    def __init__(self, bound_bytes: int = 100) -> None:
        self.shared = SharedFiles()
        self.store = ValueStore("n", self.shared, bound_bytes, self)
        self.fetches: list[asyncio.Future[Any]] = []
        self.served: dict[bytes, Value] = {}
        self.told: list[pb.HeldValue] = []
        self.dropped: list[bytes] = []

    async def fetch(self, ref: pb.Ref) -> Sequence[bytes]:
        self.fetches.append(asyncio.get_running_loop().create_future())
        return await self.fetches[-1]

    async def fetch_to_file(self, ref: pb.Ref) -> str:
        return self.shared.write(await self.fetch(ref))

    def serve(self, value: Value) -> None:
        self.served[value.ref.ref_id] = value

    def gone(self, ref_id: bytes) -> None:
        del self.served[ref_id]

    def tell(self, held: pb.HeldValue) -> None:
        self.told.append(held)

    def tell_dropped(self, ref_ids: Sequence[bytes]) -> None:
        self.dropped += ref_ids

    async def have(self, ref: pb.Ref, in_files: bool = False) -> None:
        """It comes for a call, which ends."""
        using = asyncio.create_task(self.store.use([ref], in_files))
        await settled()
        self.fetches[-1].set_result(content(ref))
        self.store.done_with(await using)
        self.store.check()


def ref(number: int, size: int = 40) -> pb.Ref:
    return pb.Ref(ref_id=bytes([number]) * 16, part_bytes=[10, size - 10])


def content(of: pb.Ref) -> list[bytes]:
    return [of.ref_id[:1] * size for size in of.part_bytes]


async def settled() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


def held(node: Node) -> list[int]:
    return sorted(ref_id[0] for ref_id in node.served)


def run(test: Callable[[Node], Awaitable[None]], bound_bytes: int = 100) -> None:
    async def whole() -> None:
        node = Node(bound_bytes)
        try:
            await test(node)
            node.store.check()
        finally:
            await node.store.close()
            assert not node.served and not len(node.store) and not node.store.held_bytes

    asyncio.run(whole())


def test_calls_that_need_the_same_value_wait_for_one_transfer() -> None:
    async def test(node: Node) -> None:
        using = [asyncio.create_task(node.store.use([ref(1)], index % 2 == 1)) for index in range(6)]
        await settled()
        assert len(node.fetches) == 1
        node.fetches[0].set_result(content(ref(1)))
        values = [(await each)[0] for each in using]
        assert len({id(value) for value in values}) == 1
        assert bytes(b"".join(values[0].parts)) == b"\1" * 40
        assert node.shared.has(values[0].file)
        assert len(node.told) == 1 and node.told[0].size_bytes == 40
        node.store.done_with(values)
        assert held(node) == [1]

    run(test)


def test_one_that_gives_up_leaves_the_transfer_to_the_others_and_the_last_one_ends_it() -> None:
    async def test(node: Node) -> None:
        first, second = (asyncio.create_task(node.store.use([ref(1)], False)) for _ in range(2))
        await settled()
        first.cancel()
        await settled()
        assert not node.fetches[0].cancelled()
        second.cancel()
        await settled()
        assert node.fetches[0].cancelled() and not len(node.store)
        await node.have(ref(1))  # whoever needs it later begins anew
        assert len(node.fetches) == 2

    run(test)


def test_what_fails_fails_for_all_who_wait_and_is_tried_again() -> None:
    async def test(node: Node) -> None:
        using = [asyncio.create_task(node.store.use([ref(1), ref(2)], False)) for _ in range(2)]
        await settled()
        assert len(node.fetches) == 2  # both at once
        node.fetches[0].set_exception(RefLost("gone"))
        for each in using:
            with pytest.raises(RefLost):
                await each
        await settled()
        assert node.fetches[1].cancelled() and not len(node.store)
        await node.have(ref(1))

    run(test)


def test_the_value_used_longest_ago_goes_and_copies_before_what_was_made_here() -> None:
    async def test(node: Node) -> None:
        kept = node.store.keep("call", content(ref(9)), "bytes")
        node.store.settle("call")
        await node.have(ref(1))
        await node.have(ref(2))
        assert node.dropped == [ref(1).ref_id]
        other = node.store.keep("other", content(ref(8)), "bytes")
        node.store.settle("other")
        assert node.dropped == [ref(1).ref_id, ref(2).ref_id]
        node.store.touch(kept.ref_id)
        node.store.keep("third", content(ref(7)), "bytes")
        assert len(node.served) == 3  # its call is pending: it doesn't count yet
        node.store.settle("third")
        assert node.dropped[2:] == [other.ref_id]

    run(test)


def test_what_is_in_use_stays_and_does_not_count() -> None:
    async def test(node: Node) -> None:
        pinned: list[Value] = []
        for number in (1, 2, 3, 4):
            using = asyncio.create_task(node.store.use([ref(number)], True))
            await settled()
            node.fetches[-1].set_result(content(ref(number)))
            pinned += await using
        assert held(node) == [1, 2, 3, 4] and not node.dropped
        node.store.done_with(pinned)
        assert len(node.dropped) == 2 and node.store.held_bytes == 80

    run(test)


def test_what_nobody_holds_goes_at_once_or_when_its_last_user_ends() -> None:
    async def test(node: Node) -> None:
        await node.have(ref(1))
        await node.have(ref(2), in_files=True)
        (used,) = await node.store.use([ref(2)], True)
        node.store.discard([ref(1).ref_id, ref(2).ref_id, ref(3).ref_id])
        assert held(node) == [2] and node.shared.has(used.file)
        told = len(node.told)
        again = await node.store.use([ref(2)], True)  # its client has put the same bytes once more
        assert len(node.told) == told + 1
        node.store.discard([ref(2).ref_id])
        node.store.done_with([used, *again])
        assert held(node) == [] and not node.shared.has(used.file)
        assert not node.dropped

    run(test)


def test_a_kept_result_is_pending_until_its_call_is_settled() -> None:
    async def test(node: Node) -> None:
        kept = node.store.keep("call", [b"x" * 50], "bytes")
        assert node.told[-1].pending and kept.node_id == "n"
        node.store.settle("call")
        node.store.settle("call")
        assert not node.told[-1].pending
        gone = node.store.keep("next", [b"x" * 50], "bytes")
        node.store.discard([gone.ref_id])
        assert gone.ref_id in node.served
        node.store.settle("next")
        assert gone.ref_id not in node.served and node.told[-1].pending
        with pytest.raises(PayloadError, match=r"101 B.*values may take 100 B"):
            node.store.keep("large", [b"x" * 101], "bytes")

    run(test)
