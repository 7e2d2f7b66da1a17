"""When a batch leaves. Its wait is either over at once, or longer than any test."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from easyremote.execution.gathering import LOOKS_BACK, Gatherer

LONG_S = 1000.0


class Line:
    """A gatherer whose runs end when they are told to."""

    def __init__(self, size: int, wait_s: float = LONG_S) -> None:
        self.batches: list[list[int]] = []
        self.gatherer = Gatherer[int](size, wait_s, self.batches.append)

    async def add(self, *calls: int) -> None:
        for call in calls:
            self.gatherer.add(call)
        await settle()

    async def end(self) -> None:
        self.gatherer.ended()
        await settle()


async def settle() -> None:
    for _ in range(3):
        await asyncio.sleep(0)


def run(test: Callable[[], Awaitable[None]]) -> None:
    async def bounded() -> None:
        await asyncio.wait_for(test(), 60)  # type: ignore[arg-type]

    asyncio.run(bounded())


def test_a_full_batch_leaves_at_once_and_the_rest_waits_for_its_end() -> None:
    async def scene() -> None:
        line = Line(3)
        await line.add(1, 2)
        assert line.batches == []
        await line.add(3, 4, 5, 6, 7)
        assert line.batches == [[1, 2, 3]]
        await line.end()
        assert line.batches == [[1, 2, 3], [4, 5, 6]]
        await line.end()
        assert line.batches[2:] == []
        line.gatherer.close()

    run(scene)


def test_a_batch_leaves_when_its_first_call_has_waited() -> None:
    async def scene() -> None:
        line = Line(3, wait_s=0.001)
        await line.add(1)
        while not line.batches:  # noqa: ASYNC110 - it is a matter of milliseconds
            await asyncio.sleep(0.001)
        await line.add(2)
        await line.end()
        while len(line.batches) < 2:  # noqa: ASYNC110 - the same
            await asyncio.sleep(0.001)
        assert line.batches == [[1], [2]]

    run(scene)


def test_who_calls_one_after_the_other_waits_no_more_after_a_while() -> None:
    async def scene() -> None:
        line = Line(3, wait_s=0.001)
        for call in range(LOOKS_BACK):
            await line.add(call)
            while len(line.batches) <= call:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.001)
            await line.end()
        line.gatherer._wait_s = LONG_S
        await line.add(LOOKS_BACK)
        assert line.batches[-1] == [LOOKS_BACK]
        line.gatherer.close()

    run(scene)


def test_a_few_callers_are_waited_for_and_nobody_else() -> None:
    """Two callers that wait for their results."""

    async def scene() -> None:
        line = Line(8, wait_s=0.001)
        for number in range(LOOKS_BACK):
            await line.add(1, 2)
            while len(line.batches) <= number:  # noqa: ASYNC110 - the same
                await asyncio.sleep(0.001)
            await line.end()
        line.gatherer._wait_s = LONG_S
        await line.add(1)
        assert len(line.batches) == LOOKS_BACK
        await line.add(2)
        assert line.batches[-1] == [1, 2]
        line.gatherer.close()

    run(scene)


def test_many_at_once_after_that_are_taken_together() -> None:
    async def scene() -> None:
        line = Line(8, wait_s=0.0)
        for call in range(2 * LOOKS_BACK):
            await line.add(call)
            await line.end()
        await line.add(*range(8))
        assert line.batches[-1] == list(range(8))

    run(scene)


def test_who_has_a_result_isnt_under_way_any_more() -> None:
    """A caller's next call may come before the run that gave it its result has ended."""

    async def scene() -> None:
        batches: list[list[int]] = []
        gatherer = Gatherer[int](4, 0.0, batches.append, is_open=lambda call: False)
        gatherer.add(0)
        for call in range(1, 2 * LOOKS_BACK):
            await settle()
            gatherer.add(call)
            gatherer.ended()
        await settle()
        gatherer.ended()
        gatherer._wait_s = LONG_S
        gatherer.add(100)
        await settle()
        assert batches[-1] == [100]
        gatherer.close()

    run(scene)


def test_what_runs_alone_goes_first() -> None:
    async def scene() -> None:
        line = Line(2)
        await line.add(1, 2, 3, 4)
        line.gatherer.add_alone(2)
        line.gatherer.add_alone(1)
        for _ in range(3):
            await line.end()
        assert line.batches == [[1, 2], [2], [1], [3, 4]]
        assert not line.gatherer.is_idle
        await line.end()
        assert line.gatherer.is_idle

    run(scene)


def test_who_leaves_the_line_is_in_no_batch() -> None:
    async def scene() -> None:
        line = Line(2)
        await line.add(1)
        assert line.gatherer.remove(1)
        assert not line.gatherer.remove(1)
        await line.add(2, 3)
        assert line.batches == [[2, 3]]
        assert not line.gatherer.remove(2)

    run(scene)
