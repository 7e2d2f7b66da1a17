"""Values to bytes and back, and what is said of those that can't travel."""

from __future__ import annotations

import json
import pickle
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyremote.config import INLINE_BYTES
from easyremote.errors import PayloadError, UnpicklableError
from easyremote.wire import codec
from easyremote.wire.codec import JSON, PICKLE, RAW, Encoded
from easyremote.wire.v1 import gateway_pb2 as pb

quick = settings(max_examples=100, deadline=None)


def over_the_wire(encoded: Encoded) -> Encoded:
    """As it arrives on the other side."""
    payload = pb.Payload.FromString(encoded.inline().SerializeToString())
    return Encoded.of(payload)


def there_and_back(value: Any) -> Any:
    return codec.decode(over_the_wire(codec.encode(value)))


# ---- values ----------------------------------------------------------------------------------------------------------

scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.complex_numbers(allow_nan=False),
    st.text(), st.binary(max_size=200), st.binary(max_size=50).map(bytearray), st.datetimes(), st.uuids(), st.decimals(allow_nan=False),
)  # fmt: skip
hashables = st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=5), st.binary(max_size=5))
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=3).map(tuple),
        st.dictionaries(hashables, inner, max_size=4),
        st.frozensets(hashables, max_size=4),
        st.sets(hashables, max_size=4),
    ),
    max_leaves=12,
)

dtypes = st.sampled_from(["u1", "<i4", ">i4", "f2", "<f8", ">f8", "c16", "?", "S3", "U2", "M8[us]", "V5"])
shapes = st.lists(st.integers(0, 4), max_size=4).map(tuple)


@st.composite
def arrays(draw: st.DrawFn) -> np.ndarray:
    """Of any type, shape, order and stride; empty ones, views that go backwards, and broadcast ones among them."""
    dtype, shape = np.dtype(draw(dtypes)), draw(shapes)
    count = int(np.prod(shape, dtype=int))
    raw = draw(st.binary(min_size=count * dtype.itemsize, max_size=count * dtype.itemsize))
    array = np.frombuffer(raw, dtype=np.uint8).copy().view(dtype) if count else np.empty(0, dtype)
    array = array.reshape(shape)
    change = draw(
        st.sampled_from(["none", "transpose", "fortran", "every second", "backwards", "broadcast", "readonly"])
    )
    if change == "transpose":
        return array.T
    if change == "fortran":
        return np.asfortranarray(array)
    if change == "every second" and array.ndim:
        return array[::2]
    if change == "backwards" and array.ndim:
        return array[::-1]
    if change == "broadcast":
        return np.broadcast_to(array, (2, *array.shape))
    if change == "readonly":
        array.flags.writeable = False
    return array


@quick
@given(values)
def test_plain_values_come_back_equal_and_of_the_same_type(value: Any) -> None:
    back = there_and_back(value)
    assert back == value
    assert type(back) is type(value)


@quick
@given(arrays())
def test_arrays_come_back_equal(array: np.ndarray) -> None:
    back = there_and_back({"array": array, "again": [array]})
    for copy in (back["array"], back["again"][0]):
        # numpy gives a view that isn't contiguous this machine's byte order; the numbers stay the same
        assert (copy.dtype.newbyteorder("="), copy.shape) == (array.dtype.newbyteorder("="), array.shape)
        assert copy.astype(array.dtype).tobytes() == array.tobytes()


@quick
@given(st.lists(values, max_size=3).map(tuple), st.dictionaries(st.text(min_size=1, max_size=5), values, max_size=3))
def test_arguments_come_back_equal(args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    assert codec.decode_arguments(over_the_wire(codec.encode_arguments(args, kwargs))) == (args, kwargs)


def test_object_arrays_come_back() -> None:
    array = np.array([{"a": 1}, None, "x", [1, 2]], dtype=object).reshape(2, 2)
    back = there_and_back(array)
    assert back.tolist() == array.tolist()
    assert back.dtype == object


def test_what_is_the_same_object_stays_one_object() -> None:
    shared = [1]
    back = there_and_back([shared, shared])
    assert back[0] is back[1]


def test_a_value_that_contains_itself_comes_back() -> None:
    loop: list[Any] = [1]
    loop.append(loop)
    back = there_and_back(loop)
    assert back[1] is back


def test_functions_and_classes_of_this_module_travel_by_value() -> None:
    base = 10

    class Adder:
        def __init__(self, step: int) -> None:
            self.step = step

        def __call__(self, x: int) -> int:
            return base + x + self.step

    assert there_and_back(Adder(5))(1) == 16
    assert there_and_back(lambda x: Adder(x)(0))(2) == 12


def test_a_large_array_lies_beside_the_stream_and_is_not_copied_into_it() -> None:
    array = np.arange(100_000)
    encoded = codec.encode([array, array.reshape(100, -1).T])
    assert len(encoded.parts[0]) < 2000
    assert encoded.size > 2 * array.nbytes
    assert np.shares_memory(np.frombuffer(encoded.parts[1], dtype=array.dtype), array)


def test_a_decoded_array_can_be_written_to_where_its_buffer_can() -> None:
    encoded = codec.encode(np.zeros(5))
    writable = Encoded(PICKLE, [encoded.parts[0], *(bytearray(part) for part in encoded.parts[1:])])
    array = codec.decode(writable)
    array[0] = 1
    assert array.sum() == 1


# ---- how it travels --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("size", "is_large"), [(0, False), (INLINE_BYTES, False), (INLINE_BYTES + 1, True)])
def test_a_value_is_fetched_when_it_is_larger_than_a_frame_should_be(size: int, is_large: bool) -> None:
    assert Encoded(RAW, [b"x" * size]).is_large is is_large


def test_the_size_counts_bytes_not_elements() -> None:
    assert Encoded(PICKLE, [b"abc", memoryview(np.zeros(10)), bytearray(2)]).size == 3 + 80 + 2


def test_a_payload_by_reference_tells_the_size_of_each_part() -> None:
    payload = Encoded(PICKLE, [b"abc", memoryview(np.zeros(10))]).by_reference(b"blob")
    assert payload.blob.blob_id == b"blob"
    assert list(payload.blob.part_bytes) == [3, 80]
    assert not payload.data


# ---- other programs --------------------------------------------------------------------------------------------------

json_values = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(), inner, max_size=3)),
    max_leaves=8,
)  # fmt: skip


@quick
@given(json_values)
def test_json_comes_back_equal(value: Any) -> None:
    encoded = codec.encode_as(value, JSON)
    assert encoded.content_type == JSON
    assert codec.decode(over_the_wire(encoded)) == value


@pytest.mark.parametrize("value", [b"\x00\xff", bytearray(b"\x00\xff"), memoryview(b"\x00\xff")])
def test_bytes_travel_raw_to_whoever_asked_for_json(value: Any) -> None:
    encoded = codec.encode_as(value, JSON)
    assert encoded.content_type == RAW
    assert codec.decode(over_the_wire(encoded)) == b"\x00\xff"


def test_numpy_numbers_and_arrays_are_json_for_those_who_asked_for_it() -> None:
    value = {"mean": np.float64(0.5), "count": np.int32(3), "rows": np.eye(2)}
    assert json.loads(bytes(codec.encode_as(value, JSON).parts[0])) == {
        "mean": 0.5,
        "count": 3,
        "rows": [[1.0, 0.0], [0.0, 1.0]],
    }


@pytest.mark.parametrize("value", [object(), {1, 2}, {"deep": [threading.Lock()]}, 1j, {(1, 2): 3}])
def test_what_is_not_json_is_refused_naming_its_type(value: Any) -> None:
    with pytest.raises(PayloadError, match=f"a {type(value).__qualname__}, can't be written as JSON"):
        codec.encode_as(value, JSON)


def test_whoever_asks_for_nothing_gets_a_pickle() -> None:
    assert codec.encode_as([1], PICKLE).content_type == PICKLE


@pytest.mark.parametrize(
    ("encoded", "expected"),
    [
        (Encoded(JSON, [b"[1, 2]"]), ((1, 2), {})),
        (Encoded(JSON, [b'{"x": 1}']), ((), {"x": 1})),
        (Encoded(JSON, [b"5"]), ((5,), {})),
        (Encoded(JSON, [b"null"]), ((None,), {})),
        (Encoded(RAW, [b"\x01"]), ((b"\x01",), {})),
    ],
)
def test_arguments_of_other_programs(encoded: Encoded, expected: tuple[tuple[Any, ...], dict[str, Any]]) -> None:
    assert codec.decode_arguments(encoded) == expected


# ---- what can't be sent ----------------------------------------------------------------------------------------------


class Holder:
    def __init__(self, **attributes: Any) -> None:
        self.__dict__.update(attributes)


class Slotted:
    __slots__ = ("empty", "lock")

    def __init__(self) -> None:
        self.lock = threading.Lock()


class Refuses:
    def __reduce__(self) -> Any:
        raise ValueError("I stay here\nand more")


def make_closure() -> Any:
    connection = threading.Lock()
    return lambda: connection


LOCK_IN_THIS_MODULE = threading.Lock()


def uses_a_global() -> Any:
    return LOCK_IN_THIS_MODULE


def with_default(_: int = 1, lock: Any = LOCK_IN_THIS_MODULE) -> None:
    return None


uses_a_global.__module__ = with_default.__module__ = Holder.__module__ = "__main__"  # as if written in a notebook


@pytest.mark.parametrize(
    ("value", "path"),
    [
        (threading.Lock(), "value"),
        ([1, {"k": threading.Lock()}], "value[1]['k']"),
        ({3: (0, threading.Lock())}, "value[3][1]"),
        (Holder(opt=Holder(lock=threading.Lock())), "value.opt.lock"),
        (Slotted(), "value.lock"),
        (Holder(many=[Holder(), Holder(socket=threading.Lock())]), "value.many[1].socket"),
        ((i for i in range(3)), "value"),
        (Refuses(), "value"),
        (make_closure(), "connection"),
        (uses_a_global, "LOCK_IN_THIS_MODULE"),
        (with_default, "default 2 of with_default"),
    ],
)
def test_what_cant_be_sent_is_named_by_the_path_that_leads_to_it(value: Any, path: str) -> None:
    with pytest.raises(UnpicklableError) as caught:
        codec.encode(value)
    assert caught.value.path == path
    assert path in str(caught.value)
    assert caught.value.code == "unpicklable"


def test_the_model_of_an_argument_is_named_with_the_argument() -> None:
    model = Holder(opt=Holder(lock=threading.Lock()))
    with pytest.raises(UnpicklableError) as caught:
        codec.encode_arguments((1,), {"model": model})
    assert caught.value.path == "model.opt.lock"


def test_positional_arguments_are_named_by_the_functions_parameters_where_they_are_known() -> None:
    for names, path in ((("data", "model"), "model"), ((), "argument 2")):
        with pytest.raises(UnpicklableError) as caught:
            codec.encode_arguments((1, threading.Lock()), {}, names)
        assert caught.value.path == path


def test_the_reason_is_told_in_one_line_with_what_to_do() -> None:
    with pytest.raises(UnpicklableError, match="I stay here") as caught:
        codec.encode(Refuses())
    assert "\n" not in str(caught.value)
    assert "Leave it out" in str(caught.value)


def test_a_value_that_cant_be_searched_for_long_is_still_refused() -> None:
    deep: Any = threading.Lock()
    for _ in range(200):
        deep = [deep]
    with pytest.raises(UnpicklableError) as caught:
        codec.encode(deep)
    assert caught.value.path.startswith("value[0]")
    wide = [list(range(10)) for _ in range(5000)] + [threading.Lock()]
    with pytest.raises(UnpicklableError):
        codec.encode(wide)


def test_a_value_that_contains_itself_and_a_lock_is_refused() -> None:
    loop: list[Any] = []
    loop.append(loop)
    loop.append(threading.Lock())
    with pytest.raises(UnpicklableError):
        codec.encode(loop)


def test_nothing_is_left_of_what_failed_before() -> None:
    with pytest.raises(UnpicklableError):
        codec.encode([np.zeros(1000), threading.Lock()])
    assert there_and_back([1]) == [1]


# ---- damaged bytes ---------------------------------------------------------------------------------------------------


@quick
@given(values, st.data())
def test_a_stream_that_was_cut_short_is_refused(value: Any, data: st.DataObject) -> None:
    encoded = codec.encode([value])
    stream = bytes(encoded.parts[0])
    cut = stream[: data.draw(st.integers(0, len(stream) - 1))]
    with pytest.raises((pickle.UnpicklingError, EOFError, ValueError, IndexError, OverflowError)):
        codec.decode(Encoded(PICKLE, [cut, *encoded.parts[1:]]))


def test_a_missing_buffer_is_refused() -> None:
    encoded = codec.encode([np.arange(10), np.arange(20)])
    with pytest.raises(pickle.UnpicklingError):
        codec.decode(Encoded(PICKLE, encoded.parts[:-1]))


def test_a_buffer_of_the_wrong_size_is_refused() -> None:
    encoded = codec.encode(np.arange(10))
    with pytest.raises(ValueError, match="size 9 into shape"):
        codec.decode(Encoded(PICKLE, [encoded.parts[0], bytes(encoded.parts[1])[:-8]]))


@pytest.mark.parametrize("data", [b"", b"{", b"\xff\xfe", b"[1,]"])
def test_damaged_json_is_refused(data: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        codec.decode(Encoded(JSON, [data]))


def test_an_unknown_content_type_is_refused_by_name() -> None:
    with pytest.raises(PayloadError, match=r"application/x-arrow.*newer version"):
        codec.decode(Encoded("application/x-arrow", [b""]))


def test_code_keeps_the_name_of_its_file() -> None:
    """Regression: cloudpickle 3.1.3 puts another name there, and tracebacks of shipped functions lost their lines."""
    there = codec.decode(codec.encode(lambda x: [x for _ in range(3)]))
    assert there.__code__.co_filename == __file__


def test_a_long_buffer_is_taken_as_it_is_now() -> None:
    array = np.arange(5_000_000)
    detached = codec.encode(array).detached()
    array[:] = -1
    assert np.array_equal(codec.decode(detached), np.arange(5_000_000))
