"""What a call keeps of its output, displays and progress while nobody waits for it."""

from __future__ import annotations

from typing import Any

import pytest

from easyremote.calls import Call
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb


class Shown:
    """A presenter that remembers."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.displays = 0
        self.bars: list[float] = []

    def output(self, is_stderr: bool, text: str) -> None:
        self.texts.append(text)

    def display(self, display: pb.Display, bundle: dict[str, Any]) -> None:
        self.displays += 1

    def progress(self, progress: pb.Progress) -> None:
        self.bars.append(progress.done)


class Running:
    """A call whose events are made here."""

    def __init__(self) -> None:
        self.shown = Shown()
        self.taken: list[int] = []
        self.call: Call[Any] = Call(
            b"i" * 16,
            "f",
            lambda *_: None,
            lambda _, attempt, seq, size, items: self.taken.append(seq),
            lambda: self.shown,
        )
        self._seq = 0

    def arrive(self, payload: codec.Encoded | None = None, **body: Any) -> bool:
        self._seq += 1
        return self.call._arrive(pb.Event(call_id=b"i" * 16, attempt=1, seq=self._seq, **body), payload)

    def output(self, text: str) -> bool:
        return self.arrive(output=pb.Output(text=text))

    def progress(self, done: float) -> bool:
        return self.arrive(progress=pb.Progress(done=done, total=1e6))

    def display(self, size: int) -> bool:
        bundle = b'{"data": {"text/plain": "' + b"x" * size + b'"}}'
        return self.arrive(codec.Encoded(codec.JSON, [bundle]), display=pb.Display())

    def item(self, value: Any) -> bool:
        return self.arrive(codec.encode(value), item=pb.Payload())

    def end(self, value: Any = None, is_exhausted: bool = False) -> None:
        self.arrive(codec.encode(value), result=pb.Payload(), is_exhausted=is_exhausted)


@pytest.fixture
def running() -> Running:
    return Running()


def test_of_a_million_steps_the_newest_progress_is_kept_where_the_first_one_came(running: Running) -> None:
    for step in range(10_000):
        assert running.progress(step)
    running.output("after")
    running.progress(1e6)
    assert len(running.call._queue) == 2
    running.end(5)
    assert running.call.result() == 5
    assert running.shown.bars == [1e6] and running.shown.texts == ["after"]


def test_progress_that_is_watched_is_shown_step_by_step(running: Running) -> None:
    running.progress(1)
    running.item("a")
    running.progress(2)
    running.progress(3)
    items = iter(running.call)
    assert next(items) == "a"
    running.end(is_exhausted=True)
    assert list(items) == [] and running.shown.bars == [1, 2, 3]


def test_old_output_goes_first_and_that_is_said(running: Running) -> None:
    for number in range(300):
        running.output(f"{number:03}" + "." * 10_000)
    assert running.call._kept["output"] <= 1024 * 1024
    running.end()
    running.call.result()
    assert "characters of output from before were left out" in running.shown.texts[0]
    assert running.shown.texts[-1].startswith("299") and len(running.shown.texts) < 110
    assert running.call._kept["output"] == 0


def test_old_displays_go_first_and_that_is_said(running: Running) -> None:
    for _ in range(50):
        running.display(1_000_000)
    running.output("last")
    running.end()
    running.call.result()
    assert 8 <= running.shown.displays <= 16
    dropped = 50 - running.shown.displays
    assert running.shown.texts == [f"easyremote: {dropped} displays from before were left out\n", "last"]


def test_what_comes_behind_an_item_is_acknowledged_only_when_that_was_taken(running: Running) -> None:
    running.item("a")
    assert not running.progress(1)
    assert not running.output("x")
    running.end(is_exhausted=True)
    assert running.taken == []
    assert list(running.call) == ["a"]
    assert running.taken[-1] == 4
