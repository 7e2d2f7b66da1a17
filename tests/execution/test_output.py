"""What is printed leaves before what comes after it, whichever thread sends it."""

from __future__ import annotations

import threading
import time

import pytest

from easyremote.execution.output import OutputBuffer
from easyremote.execution.packing import Packer


def test_text_that_another_thread_is_sending_just_now_still_counts_as_waiting() -> None:
    """Else an item that comes after it would overtake it."""
    is_sending, go_on = threading.Event(), threading.Event()
    sent: list[str] = []

    def send(is_stderr: bool, text: str) -> None:
        is_sending.set()
        assert go_on.wait(30)
        sent.append(text)

    buffer = OutputBuffer(send)
    buffer._flushed_at = time.monotonic()  # so that it is kept
    buffer.write(False, "text\n")
    thread = threading.Thread(target=buffer.flush)
    thread.start()
    assert is_sending.wait(30)
    assert not buffer.is_empty
    go_on.set()
    buffer.flush()  # waits for the other one
    assert sent == ["text\n"]
    thread.join()
    assert buffer.is_empty


@pytest.mark.slow
def test_a_pack_that_is_taken_and_sealed_while_it_grows_loses_and_doubles_no_item() -> None:
    packer = Packer()
    packs: list[list[bytes]] = []
    taken: list[bytes] = []
    items = [number.to_bytes(4, "big") for number in range(20_000)]
    has_ended = threading.Event()

    def take() -> None:
        done = 0
        while not has_ended.is_set() or done < len(packs):
            while done < len(packs):
                taken.extend(packer.take(packs[done]))
                done += 1
            packer.seal()

    thread = threading.Thread(target=take)
    thread.start()
    for item in items:
        pack = packer.add(item)
        if pack is not None:
            packs.append(pack)
    has_ended.set()
    thread.join()
    assert taken == items
