"""What is sent of what a call prints."""

from __future__ import annotations

import pytest

from easyremote.execution import bounding
from easyremote.execution.bounding import OutputBound, newest_lines
from easyremote.wire.v1 import gateway_pb2 as pb


def sent(outputs: list[pb.Output]) -> str:
    return "".join(output.text for output in outputs if not output.HasField("tail"))


def kept(outputs: list[pb.Output]) -> bytes:
    return b"".join(output.kept for output in outputs)


def test_without_a_limit_everything_is_sent() -> None:
    bound = OutputBound(0)
    outputs = [*bound.take(False, "a" * 100_000), *bound.take(True, "b"), *bound.rest()]
    assert sent(outputs) == "a" * 100_000 + "b" and [o.is_stderr for o in outputs] == [False, True]


def test_up_to_the_limit_nothing_is_kept() -> None:
    bound = OutputBound(10)
    assert sent(bound.take(False, "12345\n789\n") + bound.rest()) == "12345\n789\n"
    assert not bound.due()


@pytest.mark.parametrize("step", [1, 7, 50, 10_000])
def test_beyond_it_all_is_kept_and_the_newest_lines_are_shown(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bounding, "TAIL_EVERY_S", 0.0)
    text = "".join(f"line {number} ä\n" for number in range(700))
    bound = OutputBound(1000)
    outputs = [out for start in range(0, len(text), step) for out in bound.take(False, text[start : start + step])]
    outputs += bound.rest()
    head, whole = sent(outputs), kept(outputs).decode()
    assert whole == text
    assert text.startswith(head) and 980 < len(head) <= 1000
    last = [output for output in outputs if output.HasField("tail")][-1]
    assert text.endswith(last.text) and last.text.count("\n") == bounding.TAIL_LINES
    assert last.tail.left_out_bytes == len(text.encode()) - len(head.encode()) - len(last.text.encode())


def test_one_endless_line_is_cut() -> None:
    bound = OutputBound(1000)
    outputs = bound.take(False, "x" * 100_000) + bound.take(False, "y" * 100_000) + bound.rest()
    assert sent(outputs) == "x" * 1000
    assert outputs[-1].text == "y" * bounding.TAIL_CHARACTERS
    assert kept(outputs) == b"x" * 100_000 + b"y" * 100_000


def test_of_a_line_that_was_written_over_the_last_state_is_shown() -> None:
    assert newest_lines("a\r\nb\n 10 %\r 20 %\r 30 %") == "a\nb\n 30 %"
    assert newest_lines("10 %\r20 %\r") == "20 %"
