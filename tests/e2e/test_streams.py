"""Streams: small items travel in packs, and nobody can tell but by how fast they come."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from easyremote import Call, CallCancelled, Client, ComputeNode, Server, UnpicklableError
from easyremote.config import WindowSettings
from easyremote.execution.worker import ITEMS_AHEAD
from tests.conftest import wait_until
from tests.e2e.conftest import Wire, held_loop


@pytest.fixture(params=["thread", "process"])
def isolation(request: pytest.FixtureRequest) -> str:
    """Where the functions run."""
    return request.param


class Log:
    """A presenter whose log the consumer of the items writes too."""

    def __init__(self) -> None:
        self.lines: list[Any] = []

    def output(self, is_stderr: bool, text: str) -> None:
        if self.lines and isinstance(self.lines[-1], str):
            text = self.lines.pop() + text
        self.lines.append(text)

    def display(self, display: Any, bundle: Any) -> None:
        self.lines.append(("display", bundle["data"]["text/plain"]))

    def progress(self, progress: Any) -> None:
        self.lines.append(("progress", progress.done))


def watched(client: Client, function: str, *arguments: Any) -> tuple[Call[Any], list[Any]]:
    log = Log()
    return client.with_presenter(lambda: log).stream(function, *arguments), log.lines


def test_items_of_every_size_prints_displays_and_progress_keep_their_order(
    node: ComputeNode, client: Client, isolation: str
) -> None:
    def talk(total: int) -> Any:
        import sys

        import numpy as np

        import easyremote
        from easyremote.execution import rich_display

        for i in range(total):
            kind = i % 6
            if kind == 0:
                print(f"print {i}")
            elif kind == 1:
                print(f"no newline {i}", end="", file=sys.stderr)
            elif kind == 2:
                rich_display.publish({"text/plain": f"display {i}"})
            elif kind == 3:
                easyremote.progress(i, total)
            yield i
            if kind == 4:
                yield "a" * 2000
            elif kind == 5:
                yield b"b" * 100_000
                yield np.full(3, i)

    expected: list[Any] = []
    total = 120
    for i in range(total):
        kind = i % 6
        expected += [
            [f"print {i}\n"],
            [f"no newline {i}"],
            [("display", f"display {i}")],
            [("progress", float(i))],
            [],
            [],
        ][kind]
        expected.append(("item", i))
        if kind == 4:
            expected.append(("item", "a" * 2000))
        elif kind == 5:
            expected += [("item", b"b" * 100_000), ("array", [i] * 3)]
    node.register(talk, isolation=isolation)
    call, log = watched(client, "talk", total)
    for item in call:
        log.append(("array", item.tolist()) if isinstance(item, np.ndarray) else ("item", item))
    assert log == expected


def test_what_c_code_prints_keeps_its_place_among_the_items(node: ComputeNode, client: Client) -> None:
    def write() -> Any:
        import os

        for i in range(20):
            os.write(1, f"line {i}\n".encode())
            yield i

    node.register(write, isolation="process")
    call, log = watched(client, "write")
    for item in call:
        log.append(("item", item))
    assert log == [entry for i in range(20) for entry in (f"line {i}\n", ("item", i))]


def test_each_item_comes_before_the_next_one_is_made(
    node: ComputeNode, client: Client, isolation: str, tmp_path: Path
) -> None:
    place = str(tmp_path)

    def step_by_step(total: int) -> Any:
        import os
        import time

        for i in range(total):
            while not os.path.exists(f"{place}/{i}"):
                time.sleep(0.001)
            yield i

    node.register(step_by_step, isolation=isolation)
    items = iter(client.stream("step_by_step", 20))
    for i in range(20):
        (tmp_path / str(i)).touch()
        assert next(items) == i
    assert list(items) == []


def test_the_last_of_many_quick_items_does_not_wait_for_another(
    node: ComputeNode, client: Client, isolation: str, tmp_path: Path
) -> None:
    place = str(tmp_path)

    def burst() -> Any:
        import os
        import time

        yield from range(100)
        while not os.path.exists(f"{place}/gate"):
            time.sleep(0.001)
        yield "end"

    node.register(burst, isolation=isolation)
    items = iter(client.stream("burst"))
    assert [next(items) for _ in range(100)] == list(range(100))
    (tmp_path / "gate").touch()
    assert list(items) == ["end"]


def test_a_reader_who_stops_reading_pauses_the_generator(
    node: ComputeNode, client: Client, isolation: str, tmp_path: Path
) -> None:
    counter = tmp_path / "made"
    counter.write_bytes(bytes(8))
    place = str(counter)

    def produce(total: int) -> Any:
        import mmap

        with open(place, "r+b") as file, mmap.mmap(file.fileno(), 8) as made:
            for i in range(total):
                made[:8] = (i + 1).to_bytes(8, "little")
                yield i

    def made() -> int:
        return int.from_bytes(counter.read_bytes(), "little")

    node.register(produce, isolation=isolation)
    node.register(lambda x: x, name="echo")
    window = WindowSettings().max_events
    items = iter(client.stream("produce", 50_000))
    assert next(items) == 0
    wait_until(lambda: made() > window)
    for i in range(200):  # it could make all of them meanwhile
        client.call("echo", i)
    assert made() <= window + 2 * ITEMS_AHEAD
    assert sum(items) == sum(range(50_000))
    assert made() == 50_000


def test_large_items_are_made_only_a_few_ahead(node: ComputeNode, client: Client) -> None:
    made = []

    @node.register
    def produce(total: int) -> Any:
        for i in range(total):
            made.append(i)
            yield bytes([i]) * 1_000_000

    node.register(lambda x: x, name="echo")
    items = iter(client.stream("produce", 60))
    assert next(items)[:1] == b"\0"
    for i in range(200):
        client.call("echo", i)
    ahead = len(made)
    assert [item[0] for item in items] == list(range(1, 60))
    assert ahead <= 4 * WindowSettings().max_bytes // 1_000_000


def test_large_items_of_a_paused_generator_that_is_cancelled_are_removed(
    node: ComputeNode, client: Client, isolation: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of them waits at `yield` and is never sent. (That nothing is left in shared memory is looked at after each test.)"""
    monkeypatch.setattr("easyremote.execution.pool.KILL_AFTER_S", 1e6)  # it ends by itself
    monkeypatch.setattr("easyremote.execution.thread_calls.ITEMS_AHEAD", 8)
    monkeypatch.setattr("easyremote.serving.WindowSettings", lambda: WindowSettings(max_events=4))
    place = str(tmp_path)

    def produce() -> Any:
        i = 0
        try:
            while True:
                with open(f"{place}/made", "a") as file:
                    file.write(".")
                yield bytes([i % 256]) * 200_000
                i += 1
        finally:
            open(f"{place}/closed", "w").close()

    with ComputeNode(node.address, "narrow") as narrow:
        narrow.register(produce, isolation=isolation)
        narrow.register(lambda x: x, name="echo")
        items = iter(client.stream("produce"))
        assert next(items)[:1] == b"\0"
        wait_until(lambda: len((tmp_path / "made").read_text()) >= 5)
        for i in range(50):  # then it waits at the next one
            client.call("echo", i)
        items.close()  # type: ignore[attr-defined]
        wait_until((tmp_path / "closed").exists)
        wait_until(lambda: narrow._engine is not None and narrow._engine._core.held_count == 0)


def test_fifty_thousand_items_in_order_for_every_kind_of_reader(
    node: ComputeNode, client: Client, isolation: str
) -> None:
    def count(total: int) -> Any:
        yield from range(total)

    node.register(count, isolation=isolation)
    total = 50_000
    expected = list(range(total))
    assert list(client.stream("count", total)) == expected
    assert client.call("count", total) == expected

    async def read() -> list[int]:
        return [item async for item in client.stream("count", total)]

    assert asyncio.run(read()) == expected

    async def wait() -> Any:
        return await client.submit("count", total)

    assert asyncio.run(wait()) == expected


def test_an_async_generator_streams_and_pauses_likewise(node: ComputeNode, client: Client) -> None:
    made = []

    @node.register
    async def count(total: int) -> Any:
        for i in range(total):
            made.append(i)
            yield i if i % 100 else "x" * 5000

    items = iter(client.stream("count", 10_000))
    assert next(items) == "x" * 5000
    wait_until(lambda: len(made) > WindowSettings().max_events)
    for _ in range(50):
        client.list_nodes()
    assert len(made) <= WindowSettings().max_events + 2 * ITEMS_AHEAD
    assert list(items) == [i if i % 100 else "x" * 5000 for i in range(1, 10_000)]


@pytest.mark.parametrize("reader", ["for", "async for"])
def test_leaving_early_closes_the_generator(
    node: ComputeNode, client: Client, isolation: str, reader: str, tmp_path: Path
) -> None:
    place = str(tmp_path)

    def count() -> Any:
        i = 0
        try:
            while True:
                yield i
                i += 1
        finally:
            open(f"{place}/closed", "w").close()

    node.register(count, isolation=isolation)
    call = client.stream("count")

    async def read() -> None:
        items = aiter(call)
        async for item in items:
            if item == 700:
                break
        await items.aclose()  # type: ignore[attr-defined]

    if reader == "for":
        for item in call:
            if item == 700:
                break
    else:
        asyncio.run(read())
    wait_until((tmp_path / "closed").exists)
    with pytest.raises(CallCancelled):
        call.result(timeout=60)
    wait_until(lambda: client._connection._core.open_count == 0)


def test_what_was_made_before_an_error_comes_before_it(node: ComputeNode, client: Client, isolation: str) -> None:
    def fail(total: int) -> Any:
        yield from range(total)
        raise ValueError("after the items")

    def end(total: int) -> Any:
        yield from range(total)
        return "what a generator returns is nobody's"

    node.register(fail, isolation=isolation)
    node.register(end, isolation=isolation)
    for total in (0, 1, 700):
        came: list[int] = []
        with pytest.raises(ValueError, match="after the items"):
            came.extend(client.stream("fail", total))
        assert came == list(range(total))
        with pytest.raises(ValueError, match="after the items"):
            client.call("fail", total)
        assert client.call("end", total) == list(range(total))


def test_an_item_that_cannot_be_sent_ends_the_stream_where_it_would_come(
    node: ComputeNode, client: Client, isolation: str
) -> None:
    def produce() -> Any:
        import threading

        yield from range(50)
        yield threading.Lock()

    node.register(produce, isolation=isolation)
    came: list[int] = []
    with pytest.raises(UnpicklableError):
        came.extend(client.stream("produce"))
    assert came == list(range(50))


def test_the_rest_of_a_stream_that_was_begun_by_hand_is_its_result(node: ComputeNode, client: Client) -> None:
    """Whoever took items with `next` gets those behind them, however they were packed."""
    begun, gate, made = threading.Event(), threading.Event(), threading.Event()

    def count() -> Any:
        begun.set()
        gate.wait(60)
        yield from range(200)
        made.set()

    node.register(count)
    call = client.stream("count")
    assert begun.wait(60)
    with held_loop():  # so that all of them are in one pack
        gate.set()
        assert made.wait(60)
    items = iter(call)
    first = [next(items) for _ in range(10)]
    assert [*first, *call.result(timeout=60)] == list(range(200))


def test_several_streams_side_by_side_are_not_mixed_up(node: ComputeNode, client: Client, isolation: str) -> None:
    def count(start: int) -> Any:
        yield from range(start, start + 3000)

    node.register(count, isolation=isolation)
    streams = [client.stream("count", start) for start in (0, 10_000)]
    for n, row in enumerate(zip(*streams, strict=True)):
        assert row == (n, 10_000 + n)


@pytest.mark.parametrize("whose", ["node", "client"])
def test_a_wire_that_breaks_in_the_middle_of_packs_loses_and_doubles_no_item(
    server: Server, wires: list[Wire], isolation: str, whose: str
) -> None:
    def count(total: int) -> Any:
        for i in range(total):
            yield i if i % 50 else "x" * 3000

    total = 20_000
    with (
        ComputeNode(wires[0].address, "far", token=server.token) as node,
        Client(wires[1].address, token=server.token) as client,
    ):
        node.register(count, isolation=isolation)
        items = []
        for item in client.stream("count", total):
            items.append(item)
            if len(items) in (1, 200, 5000, 5001, 12_000):
                wires[whose == "client"].cut()
        assert items == [i if i % 50 else "x" * 3000 for i in range(total)]
