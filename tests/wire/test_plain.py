"""Plain data: what goes in comes out, whatever else comes is refused, and nothing of the sender's runs."""

from __future__ import annotations

import dataclasses
import datetime
import enum
import math
import pickle
import sys
import tracemalloc
import uuid
import zoneinfo
from collections import OrderedDict
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import msgpack
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyremote import PayloadError, UnpicklableError, UsageError
from easyremote.wire import plain, plain_kinds
from easyremote.wire.known_types import register_type


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


class Point(NamedTuple):
    x: float
    y: float = 0.0


@dataclasses.dataclass
class Order:
    name: str
    items: list[Point] = dataclasses.field(default_factory=list)
    colour: Colour = Colour.RED
    total: float = dataclasses.field(init=False, default=0.0)

    def __post_init__(self) -> None:
        self.total = float(len(self.items))


def takes(order: Order) -> None: ...


KNOWN = takes


def there_and_back(value: Any) -> Any:
    return plain.decode(plain.encode(value), KNOWN)


VALUES = [
    *(None, True, False, 0, -1, 2**63 - 1, -(2**63), 2**64, -(2**64), 3**500, 0.0, -0.0, 1e308, math.inf, 1 + 2j),
    *("", "é\0😀", "\ud800", "x" * 100_000, b"", b"\0" * 100_000, b"abc"),
    *([], (), {}, set(), frozenset(), [1, [2, (3,)]], (1,), {1: 2, (1, 2): {3}, None: 1.5, "a": b"b"}, {1, "a", (2,)}),
    *(
        frozenset({(1, frozenset())}),
        OrderedDict(b=1, a=2),
        range(1, 10, 3),
        slice(None, 2),
        ...,
        Decimal("1.50"),
        Decimal("NaN"),
    ),
    *(uuid.UUID(int=7), Path("/a/b"), datetime.date(2026, 1, 2), datetime.timedelta(days=-1, microseconds=3)),
    datetime.datetime(2026, 1, 2, 3, 4, 5, 6),
    datetime.datetime(2026, 1, 2, tzinfo=datetime.UTC),
    datetime.datetime(2026, 10, 25, 2, 30, fold=1, tzinfo=zoneinfo.ZoneInfo("Europe/Berlin")),
    datetime.time(1, 2, 3, 4, datetime.timezone(datetime.timedelta(hours=-5))),
    *(Colour.BLUE, Point(1, 2), Order("a", [Point(1), Point(2)], Colour.BLUE), {"k": [Order("b" * 100_000)]}),
]


@pytest.mark.parametrize("value", VALUES, ids=[f"{n}-{type(value).__name__}" for n, value in enumerate(VALUES)])
def test_values_come_back_as_they_were(value: Any) -> None:
    back = there_and_back(value)
    assert type(back) is type(value)
    assert repr(back) == repr(value)  # NaN isn't equal to itself, 0.0 is to -0.0
    if isinstance(value, OrderedDict):
        assert list(back) == list(value)


ARRAYS = [
    *(np.arange(6), np.arange(6.0).reshape(2, 3), np.arange(600).reshape(20, 30).T, np.arange(100)[::3], np.array(3.5)),
    *(
        np.zeros((0, 3)),
        np.array(["ab", "ü"]),
        np.array([b"x", b"yz"]),
        np.array([1, "NaT"], "M8[ns]"),
        np.array([True, False]),
    ),
    *(
        np.array([1 + 2j]),
        np.arange(5, dtype=">i4"),
        np.arange(5, dtype="f2"),
        np.arange(10**5),
        np.asfortranarray(np.eye(40)),
    ),
    *(np.zeros((), "U0"), np.array([1, 2], "m8[s]")),
]


@pytest.mark.parametrize("value", ARRAYS, ids=lambda value: f"{value.dtype}{value.shape}")
def test_arrays_come_back_as_they_were(value: Any) -> None:
    back = there_and_back([value])[0]
    assert back.dtype == value.dtype
    np.testing.assert_array_equal(back, value)


@pytest.mark.parametrize(
    "value", [np.float32(1.5), np.int8(-3), np.bool_(True), np.datetime64("2026-01-01"), np.str_("ab"), np.str_("")]
)
def test_numbers_of_numpy_come_back_as_they_were(value: Any) -> None:
    back = there_and_back(value)
    assert type(back) is type(value)
    assert back == value


def test_a_large_array_is_never_copied() -> None:
    value = np.arange(10**6)
    parts = plain.encode({"a": value})
    assert np.shares_memory(np.frombuffer(parts[1], value.dtype), value)
    assert np.shares_memory(plain.decode(parts)["a"], value)


def test_a_thousand_arrays_and_a_large_text_come_back() -> None:
    value = [[np.full(500, index) for index in range(1000)], "é" * 200_000, b"x" * 200_000]
    arrays, text, data = there_and_back(value)
    assert all((array == index).all() for index, array in enumerate(arrays))
    assert [text, data] == value[1:]
    assert len(plain.encode(value)[0]) < plain.MAX_STREAM_BYTES


hashable = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False)
    | st.text()
    | st.binary()
    | st.dates()
    | st.decimals(allow_nan=False)
    | st.uuids()
    | st.timedeltas()
    | st.complex_numbers(allow_nan=False),
    lambda inner: st.tuples(inner, inner) | st.frozensets(inner, max_size=4),
    max_leaves=8,
)
values = st.recursive(
    hashable
    | st.datetimes()
    | st.times()
    | st.builds(Point, st.floats(allow_nan=False), st.just(0.5))
    | st.sampled_from(Colour),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(hashable, inner, max_size=5)
        | st.tuples(inner)
        | st.sets(hashable, max_size=4)
        | st.builds(Order, st.text(), st.lists(st.builds(Point, st.integers(0, 9), st.just(0.5)), max_size=3))
    ),
    max_leaves=20,
)


@settings(deadline=None)
@given(values)
def test_any_value_comes_back_as_it_was(value: Any) -> None:
    assert there_and_back(value) == value
    args, kwargs = plain.decode_arguments(plain.encode_arguments((value, 1), {"k": value}), KNOWN)
    assert (args, kwargs) == ((value, 1), {"k": value})


# ---- what isn't plain ------------------------------------------------------------------------------------------------


class Odd(dict): ...


LOOP: list[Any] = []
LOOP.append(LOOP)


@pytest.mark.parametrize(
    ("value", "path", "says"),
    [
        ({"a": [1, lambda: 1]}, "value['a'][1]", "code isn't data"),
        (Odd(), "value", "make it a dict"),
        ([np.array([object()])], "value[0]", "array of object"),
        (np.zeros(2, [("a", "i4")]), "value", "array of [('a'"),
        (np.ma.masked_array([1]), "value", "numpy.asarray"),
        (Order("a", [object()]), "value.items[0]", "object"),  # type: ignore[list-item]
        ({object(): 1}, "a key of value", "object"),
        (LOOP, "value", "recursion"),
        (open, "value", "builtin_function"),
        (object, "value", "code isn't data"),
    ],
)  # fmt: skip
def test_what_is_not_plain_is_named_with_the_path_to_it(value: Any, path: str, says: str) -> None:
    with pytest.raises(UnpicklableError) as refused:
        plain.encode(value, why="this client may not ship code")
    assert refused.value.path.startswith(path)
    assert says in str(refused.value)
    assert "this client may not ship code" in str(refused.value)
    assert "numpy arrays" in str(refused.value)  # and what is allowed


def test_an_argument_is_named() -> None:
    with pytest.raises(UnpicklableError) as refused:
        plain.encode_arguments((1, 2), {"model": {"lock": object()}}, ["a"])
    assert refused.value.path == "model['lock']"
    with pytest.raises(UnpicklableError) as refused:
        plain.encode_arguments((1, object()), {}, ["a"])
    assert refused.value.path == "argument 2"


def test_only_plain_classes_can_be_registered_and_only_known_ones_are_made() -> None:
    with pytest.raises(UsageError, match="dataclasses"):
        register_type(int)

    @dataclasses.dataclass
    class Late:
        x: int

    sent = plain.encode([Late(1)])
    with pytest.raises(PayloadError, match="register_type"):
        plain.decode(sent)
    assert register_type(Late) is Late
    assert plain.decode(sent) == [Late(1)]


def test_a_class_of_main_is_found_where_it_lives() -> None:
    assert plain.decode(plain.encode(kinds_of("__main__.Point")), KNOWN) == Point(3)


def kinds_of(name: str) -> Any:
    """A record of this class, taken apart."""
    module, _, called = name.rpartition(".")
    return plain_kinds.Record(type(called, (), {"__module__": module, "__qualname__": called}), {"x": 3})


@pytest.mark.parametrize("fields", [{"x": 1, "evil": 2}, {}, {"x": 1, "__class__": 2}, [1], None])
def test_fields_that_a_class_has_not_are_refused(fields: Any) -> None:
    record = plain_kinds.Record(Point, fields)
    with pytest.raises(PayloadError):
        plain.decode(plain.encode(record), KNOWN)


# ---- what anybody may send -------------------------------------------------------------------------------------------


def mark(kind: bytes, *items: Any) -> bytes:
    return msgpack.packb([msgpack.ExtType(0, kind), *items])


HOSTILE = {
    "nothing": b"",
    "a pickle": pickle.dumps([1]),
    "an array of 4 billion": b"\xdd\xff\xff\xff\xff",
    "arrays of 4 billion in each other": b"\xdd\xff\xff\xff\xff" * 1000,
    "bytes of 4 GiB": b"\xc6\xff\xff\xff\xff",
    "a map of 4 billion": b"\xdf\xff\xff\xff\xff",
    "depth of 100,000": b"\x91" * 100_000,
    "more behind it": b"\x01\x01",
    "a mark alone": msgpack.packb(msgpack.ExtType(0, b"t")),
    "a mark in the middle": msgpack.packb([1, msgpack.ExtType(0, b"t")]),
    "a mark as a key": msgpack.packb({msgpack.ExtType(0, b"t"): 1}),
    "two marks": mark(b"t", msgpack.ExtType(0, b"t")),
    "an unknown mark": mark(b"?"),
    "an unknown kind": msgpack.packb(msgpack.ExtType(99, b"")),
    "a buffer that isn't there": msgpack.packb(msgpack.ExtType(7, b"\1\0\0\0")),
    "a buffer twice": msgpack.packb([msgpack.ExtType(7, b"\0\0\0\0")] * 2),
    "an array of objects": mark(b"a", "|O", [1], "C", b"12345678"),
    "an array of a structure": mark(b"a", "i4,O", [1], "C", b"12345678"),
    "an array of 100 GiB": mark(b"a", "<i8", [1 << 34], "C", b"12345678"),
    "an array of -1": mark(b"a", "<i8", [-1], "C", b"12345678"),
    "an array of 2**63 × 0": mark(b"a", "<i8", [2**63 - 1, 0], "C", b""),
    "an array of 65 dimensions": mark(b"a", "|u1", [1] * 65, "C", b"1"),
    "a date that is none": msgpack.packb(msgpack.ExtType(5, b"\0\0\0\0")),
    "a zone from elsewhere": mark(b"T", 1, 1, 1, 1, 0, "../../etc/passwd"),
    "a zone that is a package": mark(b"T", 1, 1, 1, 1, 0, "sitecustomize"),
    "a set of lists": mark(b"s", [1]),
    "a range of texts": mark(b"r", "a", "b", "c"),
    "a class that isn't known": mark(b"c", "subprocess.Popen", {"args": "true"}),
    "an enum that isn't known": mark(b"e", "os.system", "x"),
    "a class of the standard library": mark(b"c", "builtins.object", {}),
    "a reference to nothing": msgpack.packb(msgpack.ExtType(9, b"x" * 16)),
    "a Decimal of a million digits": msgpack.packb(msgpack.ExtType(3, b"1" * 10**6)),
    "a timestamp": b"\xc7\x03\xff123",
    "numbers of one hash": mark(
        b"s", *(msgpack.ExtType(1, (i * (2**61 - 1)).to_bytes(24, "little")) for i in range(1, 200))
    ),
    "keys of one hash": msgpack.packb(
        {msgpack.ExtType(1, (i * (2**61 - 1)).to_bytes(24, "little")): 0 for i in range(1, 200)}
    ),
}


@pytest.mark.attack
@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_what_anybody_may_send_is_refused_before_memory_is_taken(data: bytes) -> None:
    """TRUST.md item 14: claims of sizes, depths, and kinds that would run something."""
    tracemalloc.start()
    try:
        with pytest.raises((PayloadError, UsageError)):
            plain.decode([data, b"abc"], KNOWN)
        assert tracemalloc.get_traced_memory()[1] < 40 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.attack
def test_the_number_of_elements_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plain, "MAX_ELEMENTS", 1000)
    with pytest.raises(PayloadError, match="1,000 elements"):
        plain.decode([msgpack.packb([[[]] * 600, [{}] * 600])])
    with pytest.raises(PayloadError):
        plain.decode([msgpack.packb([0] * 1001)])
    monkeypatch.setattr(plain, "MAX_STREAM_BYTES", 100)
    with pytest.raises(PayloadError):
        plain.decode([msgpack.packb(["a" * 101])])


@pytest.mark.attack
def test_decoding_imports_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Names in what came are compared, never imported."""
    before = set(sys.modules)
    for name in ("this.x", "antigravity.fly", "email.mime.audio.MIMEAudio"):
        with pytest.raises(PayloadError):
            plain.decode([mark(b"c", name, {})])
    assert not set(sys.modules) - before


@pytest.mark.attack
@settings(deadline=None)
@given(st.binary() | values.map(lambda value: bytes(plain.encode(value)[0])), st.data())
def test_any_bytes_are_a_value_or_refused(data: bytes, draw: st.DataObject) -> None:
    mutable = bytearray(data)
    for _ in range(draw.draw(st.integers(0, 4))):
        if mutable:
            mutable[draw.draw(st.integers(0, len(mutable) - 1))] = draw.draw(st.integers(0, 255))
    try:
        value = plain.decode([bytes(mutable), b"abc"], KNOWN)
    except (PayloadError, UsageError):
        return
    repr(value)
