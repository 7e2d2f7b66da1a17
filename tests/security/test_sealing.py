"""What is sealed opens for whom it is for, as it was, and not otherwise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyremote.errors import SealError
from easyremote.security.identity import PUBLIC_BYTES, Identity
from easyremote.security.sealing import (
    SEGMENT_BYTES,
    EventKey,
    Origin,
    open_box,
    open_value,
    plain_bytes,
    seal_box,
    seal_value,
    sealed_bytes,
)
from easyremote.wire.codec import Encoded
from easyremote.wire.v1 import gateway_pb2 as pb

KEY, CALL = b"k" * 32, b"c" * 16


def origin(**changes: bytes) -> Origin:
    parts = {"node": b"n" * PUBLIC_BYTES, "epoch": b"e" * 16, "salt": b"s" * 16, "own": b""} | changes
    return Origin(**parts)


# ---- boxes -----------------------------------------------------------------------------------------------------------


def test_a_box_opens_beside_its_statement() -> None:
    content = pb.Submit(tasks=[b"one", b"two"])
    box = seal_box(KEY, CALL, b"statement", content)
    assert open_box(KEY, CALL, b"statement", box) == content
    assert b"one" not in box


@pytest.mark.parametrize(
    ("key", "call", "statement"), [(b"x" * 32, CALL, b"s"), (KEY, b"d" * 16, b"s"), (KEY, CALL, b"other")]
)
def test_a_box_opens_with_no_other_key_call_or_statement(key: bytes, call: bytes, statement: bytes) -> None:
    box = seal_box(KEY, CALL, b"s", pb.Submit())
    with pytest.raises(SealError):
        open_box(key, call, statement, box)


@given(st.binary(max_size=80))
def test_any_bytes_are_no_box(data: bytes) -> None:
    with pytest.raises(SealError):
        open_box(KEY, CALL, b"s", data)


# ---- events ----------------------------------------------------------------------------------------------------------


def test_an_event_opens_as_the_one_with_its_number() -> None:
    shared = b"z" * 32
    key = EventKey(KEY, shared, origin(own=b"own"), CALL, 1)
    sealed = key.seal(pb.Event(output=pb.Output(text="hello")), 7)
    found, behind = Origin.of(sealed)
    assert found == origin(own=b"own")
    again = EventKey(KEY, shared, found, CALL, 1)
    assert again.open(behind, 7).output.text == "hello"
    with pytest.raises(SealError):
        again.open(behind, 8)


@pytest.mark.parametrize(
    "other",
    [
        EventKey(b"x" * 32, b"z" * 32, origin(), CALL, 1),
        EventKey(KEY, b"y" * 32, origin(), CALL, 1),
        EventKey(KEY, b"z" * 32, origin(node=b"m" * PUBLIC_BYTES), CALL, 1),
        EventKey(KEY, b"z" * 32, origin(salt=b"t" * 16), CALL, 1),
        EventKey(KEY, b"z" * 32, origin(own=b"o"), CALL, 1),
        EventKey(KEY, b"z" * 32, origin(), b"d" * 16, 1),
        EventKey(KEY, b"z" * 32, origin(), CALL, 2),
    ],
    ids=["epoch", "pair", "node", "run", "own", "call", "attempt"],
)
def test_an_event_opens_with_no_other_s_key(other: EventKey) -> None:
    sealed = EventKey(KEY, b"z" * 32, origin(), CALL, 1).seal(pb.Event(), 1)
    with pytest.raises(SealError):
        other.open(Origin.of(sealed)[1], 1)


@given(st.binary(max_size=400))
def test_any_bytes_are_no_event(data: bytes) -> None:
    def read() -> pb.Event:
        found, behind = Origin.of(data)
        return EventKey(KEY, b"z" * 32, found, CALL, 1).open(behind, 1)

    with pytest.raises(SealError):
        read()


def test_both_sides_agree_on_the_pair_s_key() -> None:
    client, node = Identity.generate(), Identity.generate()
    assert client.agree(node.public.seal_key) == node.agree(client.public.seal_key)


# ---- values ----------------------------------------------------------------------------------------------------------

SIZES = [0, 1, SEGMENT_BYTES - 1, SEGMENT_BYTES, SEGMENT_BYTES + 1, 3 * SEGMENT_BYTES]


@pytest.mark.parametrize("size", SIZES)
def test_a_value_comes_out_as_it_went_in(size: int) -> None:
    parts = [b"stream", bytes(size), memoryview(bytearray(b"x" * size))]
    sealed, key = seal_value(Encoded("kind", parts))
    assert [memoryview(part).nbytes for part in sealed.parts] == [sealed_bytes(len(part)) for part in parts]
    opened = open_value("kind", sealed.parts, key)
    assert [bytes(part) for part in opened.parts] == [bytes(part) for part in parts]
    assert all(plain_bytes(sealed_bytes(len(part))) == len(part) for part in parts)


def test_each_value_has_a_key_of_its_own() -> None:
    encoded = Encoded("", [b"same"])
    (first, one), (second, two) = seal_value(encoded), seal_value(encoded)
    assert one != two
    assert bytes(first.parts[0]) != bytes(second.parts[0])


def _change(name: str, parts: list[bytes]) -> list[bytes]:
    step = SEGMENT_BYTES + 16
    if name == "a byte":
        return [parts[0], parts[1][:100] + bytes([parts[1][100] ^ 1]) + parts[1][101:]]
    if name == "cut after a segment":
        return [parts[0], parts[1][:step]]
    if name == "segments swapped":
        return [parts[0], parts[1][step : 2 * step] + parts[1][:step] + parts[1][2 * step :]]
    if name == "parts swapped":
        return parts[::-1]
    if name == "a part left out":
        return parts[1:]
    return [*parts, parts[0]]


@pytest.mark.parametrize(
    "name", ["a byte", "cut after a segment", "segments swapped", "parts swapped", "a part left out", "a part more"]
)
def test_a_value_that_was_changed_does_not_open(name: str) -> None:
    sealed, key = seal_value(Encoded("", [b"stream", b"x" * (2 * SEGMENT_BYTES + 5)]))
    with pytest.raises(SealError):
        open_value("", _change(name, [bytes(part) for part in sealed.parts]), key)


def test_a_value_is_not_opened_as_another_kind() -> None:
    sealed, key = seal_value(Encoded("application/json", [b"{}"]))
    with pytest.raises(SealError):
        open_value("", sealed.parts, key)


@pytest.mark.parametrize("size", [0, 1, 15, SEGMENT_BYTES + 17, SEGMENT_BYTES + 16 + 15])
def test_a_length_that_none_has_is_refused(size: int) -> None:
    with pytest.raises(SealError):
        plain_bytes(size)
