"""Chunks as messages: what Python's protobuf would write and read, without its copies."""

from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st

from easyremote.wire.chunks import WireChunk
from easyremote.wire.v1 import gateway_pb2 as pb

heads = st.builds(
    pb.Chunk,
    transfer_id=st.binary(max_size=16),
    offset=st.integers(0, 2**64 - 1),
    error=st.text(max_size=20),
    shared_file=st.text(max_size=20),
    again=st.booleans(),
)


@given(heads, st.binary(max_size=300))
def test_protobuf_reads_what_we_write(head: pb.Chunk, data: bytes) -> None:
    read = pb.Chunk.FromString(WireChunk(head, memoryview(data)).to_bytes())
    assert read.data == data
    read.data, read.crc32 = b"", 0
    assert read == head


@given(heads, st.binary(max_size=300))
def test_we_read_what_we_write_and_pass_it_on_as_it_is(head: pb.Chunk, data: bytes) -> None:
    message = WireChunk(head, memoryview(data)).to_bytes()
    read = WireChunk.from_bytes(message)
    assert read.head == head
    assert bytes(read.data) == data
    assert read.to_bytes() is message


@given(heads, st.binary(max_size=300))
def test_we_read_what_protobuf_writes(head: pb.Chunk, data: bytes) -> None:
    """It writes fields in the order of their numbers, so the data may lie in the middle."""
    whole = pb.Chunk()
    whole.CopyFrom(head)
    whole.data = data
    read = WireChunk.from_bytes(whole.SerializeToString())
    assert read.head == head
    assert bytes(read.data) == data


def test_a_field_of_a_newer_version_does_no_harm() -> None:
    message = WireChunk(pb.Chunk(offset=7), memoryview(b"data")).to_bytes()
    read = WireChunk.from_bytes(b"\xfa\x01\x03new" + message)  # field 31
    assert read.head.offset == 7
    assert bytes(read.data) == b"data"


@given(st.binary(max_size=60))
def test_anything_else_is_read_as_protobuf_would_or_refused(message: bytes) -> None:
    try:
        expected = pb.Chunk.FromString(message)
    except DecodeError:
        with pytest.raises(DecodeError):
            WireChunk.from_bytes(message)
        return
    try:
        read = WireChunk.from_bytes(message)
    except DecodeError:
        assert expected.crc32 or message[0] != 0x7D  # its checksum is wrong
        return
    assert bytes(read.data) == expected.data
    assert read.head.transfer_id == expected.transfer_id
    assert read.head.offset == expected.offset


@given(heads, st.binary(max_size=300), st.data())
def test_a_bit_that_turns_anywhere_is_noticed_or_changes_nothing(
    head: pb.Chunk, data: bytes, draw: st.DataObject
) -> None:
    sent = pb.Chunk()
    sent.CopyFrom(head)
    message = bytearray(WireChunk.checked(sent, memoryview(data)).to_bytes())
    message[draw.draw(st.integers(0, len(message) - 1))] ^= 1 << draw.draw(st.integers(0, 7))
    try:
        read = WireChunk.from_bytes(bytes(message))
    except DecodeError:
        return
    if read.is_intact:
        assert read.head == sent
        assert bytes(read.data) == data


def test_data_without_a_checksum_counts_as_intact() -> None:
    assert WireChunk(pb.Chunk(offset=7), memoryview(b"data")).is_intact
