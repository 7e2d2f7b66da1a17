"""Messages on a byte stream: whatever pieces the bytes come in, the same messages come out."""

from __future__ import annotations

import itertools
import struct
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyremote.errors import LocalProtocolError
from easyremote.wire.framing import Unpacker, pack

messages = st.lists(st.binary(max_size=40) | st.integers(0, 3000).map(bytes), max_size=8)


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    """The bytes cut at these places; the same place twice gives an empty piece."""
    places = [0, *sorted(cut % (len(data) + 1) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(places)]


@given(sent=messages, cuts=st.lists(st.integers(0, 10**6), max_size=20))
def test_any_pieces_give_the_messages_back(sent: list[bytes], cuts: list[int]) -> None:
    unpacker = Unpacker()
    pieces = pieces_of(b"".join(map(pack, sent)), cuts)
    assert [message for piece in pieces for message in unpacker.feed(piece)] == sent


@given(sent=messages)
def test_byte_by_byte_each_message_comes_with_its_last_byte(sent: list[bytes]) -> None:
    unpacker = Unpacker()
    for message in sent:
        *before, last = pack(message)
        assert not [came for byte in before for came in unpacker.feed(bytes([byte]))]
        assert list(unpacker.feed(bytes([last]))) == [message]


@given(sent=messages, torn=st.binary(min_size=1, max_size=50), keep=st.integers(0, 10**6))
def test_a_message_that_is_not_complete_is_never_given_out(sent: list[bytes], torn: bytes, keep: int) -> None:
    unpacker = Unpacker()
    data = b"".join(map(pack, sent)) + pack(torn)[: keep % (4 + len(torn))]
    assert list(unpacker.feed(data)) == sent


@given(limit=st.integers(0, 100), cuts=st.lists(st.integers(0, 200), max_size=5), over=st.integers(1, 50))
def test_at_the_limit_passes_and_above_it_is_refused(limit: int, cuts: list[int], over: int) -> None:
    unpacker = Unpacker(limit)
    assert list(unpacker.feed(pack(bytes(limit)))) == [bytes(limit)]
    pieces = pieces_of(pack(bytes(limit + over)), cuts)
    with pytest.raises(LocalProtocolError):
        list(itertools.chain.from_iterable(unpacker.feed(piece) for piece in pieces))


def test_a_length_beyond_the_limit_is_refused_before_its_bytes_are_gathered() -> None:
    unpacker = Unpacker(1000)
    tracemalloc.start()
    try:
        with pytest.raises(LocalProtocolError, match="4,294,967,295"):
            list(unpacker.feed(struct.pack("<I", 2**32 - 1)))
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


def test_what_a_message_says_of_the_limit_counts_for_the_one_behind_it() -> None:
    """As with a token, which may be short only, and the hello behind it, in the same piece of bytes."""
    unpacker = Unpacker(10)
    came = []
    for message in unpacker.feed(pack(b"token") + pack(bytes(100))):
        came.append(message)
        unpacker.limit = 1000
    assert came == [b"token", bytes(100)]
