"""Values and exceptions that behave badly: their own call fails, and says why."""

from __future__ import annotations

import functools
import math
import socket
import threading
from typing import Any

import numpy as np
import pytest

import easyremote
from easyremote import Client, ComputeNode, RemoteError


class Nasty:
    """Its every method raises, but for those that pickle needs."""

    def __repr__(self) -> str:
        raise ValueError("no repr")

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        raise ValueError("no equality")

    def __hash__(self) -> int:
        raise ValueError("no hash")

    def __bool__(self) -> bool:
        raise ValueError("no truth")

    def __len__(self) -> int:
        raise ValueError("no length")


@pytest.mark.parametrize(
    "make", [threading.Lock, socket.socket, lambda: (i for i in range(3))], ids=["lock", "socket", "generator"]
)
def test_what_can_not_be_sent_is_named_before_anything_is(client: Client, make: Any) -> None:
    value = make()
    with pytest.raises(easyremote.UnpicklableError) as caught:
        client.call("echo", {"deep": [value]})
    assert "deep" in caught.value.path
    if isinstance(value, socket.socket):
        value.close()


@pytest.mark.slow
def test_an_object_whose_methods_raise_travels_and_comes_back(node: ComputeNode, client: Client) -> None:
    node.register(lambda: Nasty(), name="make")
    assert type(client.call("echo", Nasty())) is Nasty
    assert type(client.call("make")) is Nasty
    assert type(client.submit(lambda value: value, Nasty()).result()) is Nasty
    (item,) = client.map("echo", [Nasty()])
    assert type(item) is Nasty


@pytest.mark.slow
def test_an_object_whose_end_raises_harms_no_worker(client: Client) -> None:
    def work() -> int:
        class Mortal:
            def __del__(self) -> None:
                raise ValueError("a raising __del__")

        Mortal()
        return 3

    assert client.submit(work).result() == 3
    assert client.submit(lambda: 4).result() == 4


class Unpicklable(Exception):
    """Carries a lock."""

    def __init__(self, text: str) -> None:
        super().__init__(text, threading.Lock())


class Secretive(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no text")

    __repr__ = __str__


@pytest.mark.slow
def test_exceptions_that_can_not_travel_come_as_their_text(node: ComputeNode, client: Client) -> None:
    def unpicklable() -> None:
        raise Unpicklable("this is what happened")

    def secretive() -> None:
        raise Secretive

    def in_a_circle() -> None:
        first, second = ValueError("first"), ValueError("second")
        first.__cause__, second.__cause__ = second, first
        first.__context__ = first
        raise first

    def in_a_chain() -> None:
        error: Exception = ValueError("the last of many")
        for i in range(3000):
            outer = ValueError(i)
            outer.__cause__ = error
            error = outer
        raise error

    for function in (unpicklable, secretive, in_a_circle, in_a_chain):
        node.register(function)
        for call in (client.submit(function.__name__), client.submit(function)):
            with pytest.raises((ValueError, RemoteError, Unpicklable, Secretive)) as caught:
                call.result(timeout=60)
            cause = caught.value if isinstance(caught.value, RemoteError) else caught.value.__cause__
            assert isinstance(cause, RemoteError)
            assert function.__name__ in cause.remote_traceback or "described" in cause.remote_traceback
            assert len(cause.remote_traceback) < 300_000
    assert client.call("echo", 1) == 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", [SystemExit, KeyboardInterrupt, GeneratorExit, BaseException, MemoryError, StopIteration]
)
def test_whatever_a_function_raises_ends_its_call_alone(node: ComputeNode, client: Client, kind: type) -> None:
    def plain() -> None:
        raise kind("raised by the function")

    async def coroutine() -> None:
        raise kind("raised by the function")

    def generator() -> Any:
        yield 1
        raise kind("raised by the function")

    async def async_generator() -> Any:
        yield 1
        raise kind("raised by the function")

    for function in (plain, coroutine, generator, async_generator):
        node.register(function)
        for call in (client.submit(function.__name__), client.submit(function)):
            with pytest.raises((RemoteError, Exception)) as caught:
                call.result(timeout=60)
            assert not isinstance(caught.value, TimeoutError)
            cause = caught.value if isinstance(caught.value, RemoteError) else caught.value.__cause__
            assert isinstance(cause, RemoteError), caught.value
            assert "raised by the function" in cause.remote_traceback
    assert client.call("echo", 1) == 1
    assert client.submit(lambda: 2).result() == 2


@pytest.mark.slow
def test_values_at_the_borders_of_a_frame_come_back_whole(client: Client) -> None:
    for size in (0, 1, 64 * 1024 - 100, 64 * 1024, 256 * 1024 - 1, 256 * 1024, 256 * 1024 + 1, 9_000_000):
        assert client.call("echo", b"x" * size) == b"x" * size
    readonly = np.arange(100_000)
    readonly.flags.writeable = False
    for array in (readonly, np.arange(100_000)[::3], np.array([{"a": 1}, None], dtype=object), np.empty((0, 3))):
        assert np.array_equal(client.call("echo", array), array)
    for number in (math.inf, -0.0, 2**200):
        assert client.call("echo", number) == number


@pytest.mark.slow
def test_generators_that_end_late_raise_midway_or_are_left_early(node: ComputeNode, client: Client) -> None:
    ended = threading.Event()

    def forever() -> Any:
        try:
            i = 0
            while True:
                yield i
                i += 1
        finally:
            ended.set()

    def returns() -> Any:
        yield 1
        return "what it returned"

    def midway() -> Any:
        yield from (1, 2)
        raise ValueError("midway")

    for function in (forever, returns, midway):
        node.register(function)
    for item in client.stream("forever"):
        if item == 1000:
            break
    assert ended.wait(30)
    assert list(client.stream("returns")) == [1]
    stream = iter(client.stream("midway"))
    assert [next(stream), next(stream)] == [1, 2]
    with pytest.raises(ValueError, match="midway"):
        next(stream)


class Holder:
    def method(self, x: int) -> int:
        return x + 1

    @classmethod
    def of_the_class(cls, x: int) -> int:
        return x + 2

    @staticmethod
    def static(x: int) -> int:
        return x + 3

    def __call__(self, x: int) -> int:
        return x + 4


def decorated(function: Any) -> Any:
    @functools.wraps(function)
    def inner(*args: Any, **kwargs: Any) -> Any:
        return function(*args, **kwargs) * 10

    return inner


@decorated
def wrapped(x: int) -> int:
    return x + 5


CALLABLES = [
    Holder().method,
    Holder.of_the_class,
    Holder.static,
    Holder(),
    wrapped,
    functools.partial(max, 3),
    math.factorial,
    abs,
]


@pytest.mark.slow
@pytest.mark.parametrize("function", CALLABLES, ids=lambda f: getattr(f, "__name__", type(f).__name__))
def test_every_callable_can_be_registered_and_shipped(node: ComputeNode, client: Client, function: Any) -> None:
    node.register(function, name="callable")
    assert client.call("callable", 4) == function(4)
    assert client.submit(function, 4).result() == function(4)


@pytest.mark.slow
def test_a_name_that_hides_another_is_the_one_that_is_called(node: ComputeNode, client: Client) -> None:
    node.register(lambda x: "mine", name="abs")
    assert client.call("abs", -1) == "mine"
    assert client.submit(abs, -1).result() == 1  # the callable itself, not the name
