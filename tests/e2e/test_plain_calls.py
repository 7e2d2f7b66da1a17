"""Clients that may call and not ship code, and clients that don't trust the nodes: what they send and take is plain data."""

from __future__ import annotations

import enum
import pickle
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date
from typing import Any, NamedTuple

import numpy as np
import pytest

from easyremote import (
    Client,
    ComputeNode,
    EasyRemoteError,
    PayloadError,
    RemoteError,
    Server,
    UnpicklableError,
    UsageError,
)
from easyremote.core.client_session import ClientSession
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.e2e.conftest import Wire, submit_together


class Colour(enum.Enum):
    RED = 1


class Item(NamedTuple):
    name: str
    price: float


@dataclass
class Order:
    items: list[Item]
    day: date
    colour: Colour = Colour.RED
    notes: dict[int, str] = field(default_factory=dict)


class OfTheNode(Exception):
    """An exception that a client may not have."""


ORDER = Order([Item("a", 1.5)], date(2026, 1, 2), notes={1: "x"})


def ship_order(order: Order, extra: Any = None) -> float:
    assert type(order) is Order and order == ORDER
    return sum(item.price for item in order.items)


def echo(*args: Any, **kwargs: Any) -> Any:
    return (args, kwargs) if kwargs or len(args) != 1 else args[0]


def stream(count: int, size: int = 1) -> Iterator[Any]:
    for number in range(count):
        yield np.full(size, number) if size > 1 else number


def fail(what: str) -> None:
    raise {
        "value": ValueError("bad", 3),
        "key": KeyError("k"),
        "own": OfTheNode("o"),
        "os": FileNotFoundError(2, "no", "f"),
    }[what]


@pytest.fixture(params=["thread", "process"])
def node(request: pytest.FixtureRequest, server: Server) -> Iterator[ComputeNode]:
    with ComputeNode(server.address, "node-a") as running:
        for function in (ship_order, echo, stream, fail):
            running.register(function, isolation=request.param)
        running.register(lambda x: [value + 1 for value in x], name="together", batch=8, isolation=request.param)
        running.register(lambda: object, name="odd", isolation=request.param)
        yield running


@pytest.fixture
def caller(server: Server, node: ComputeNode) -> Iterator[Client]:
    """It may make calls, and nothing else."""
    _, token = server.tokens.create("caller", ["call"])
    with Client(server.address, token=token) as client:
        yield client


@pytest.fixture
def doubtful(server: Server, node: ComputeNode) -> Iterator[Client]:
    """It may do all, and trusts nobody: its gateway is none of its user's, as far as it knows."""
    wire = Wire(server.address)
    with Client(wire.address, token=server.token) as client:
        yield client
    wire.close()


@pytest.fixture
def no_pickles(monkeypatch: pytest.MonkeyPatch) -> None:
    """The client loads none. It does so in the thread of whoever takes a value; the node, which may, in threads of its own."""
    load = pickle.loads

    def refuse(*args: Any, **options: Any) -> Any:
        assert threading.current_thread() is not threading.main_thread(), "a pickle was loaded"
        return load(*args, **options)

    monkeypatch.setattr(pickle, "loads", refuse)


LARGE = np.arange(300_000)


def test_a_client_that_may_only_call_sends_plain_data_by_itself(
    caller: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    sent: list[pb.Submit] = []
    submit = ClientSession.submit
    monkeypatch.setattr(
        ClientSession, "submit", lambda self, message, now: (sent.append(message), submit(self, message, now))
    )
    assert caller.call("echo", 1, (2,), k={3: {4}}) == ((1, (2,)), {"k": {3: {4}}})
    assert caller.call("ship_order", ORDER) == 1.5
    np.testing.assert_array_equal(caller.call("echo", LARGE), LARGE)
    assert {message.arguments.content_type for message in sent} == {codec.PLAIN}


def test_every_way_to_call_works_without_pickles(caller: Client) -> None:
    assert [call.result() for call in submit_together(caller, "echo", [(n,) for n in range(30)])] == [
        (n,) for n in range(30)
    ]
    assert list(caller.map("echo", range(100))) == list(range(100))
    assert list(caller.map("echo", [LARGE[:5000]] * 3, as_completed=True))[2].size == 5000
    assert list(caller.stream("stream", 20)) == list(range(20))
    assert [int(item[0]) for item in caller.stream("stream", 3, 50_000)] == [0, 1, 2]
    assert sorted(caller.map("together", range(20))) == list(range(1, 21))
    ref = caller.put({"a": LARGE})
    np.testing.assert_array_equal(caller.call("echo", [ref])[0]["a"], LARGE)
    np.testing.assert_array_equal(ref.get()["a"], LARGE)
    kept = caller.with_options(keep=True).call("echo", LARGE)
    assert caller.call("together", kept)[3] == 4
    many = caller.put([np.full(1000, n) for n in range(300)])
    assert [int(array[0]) for array in caller.call("echo", many)] == list(range(300))


def test_what_is_not_plain_is_refused_before_it_is_sent(caller: Client) -> None:
    with pytest.raises(UnpicklableError, match=r"argument 1\['f'\].*allows calls and not code") as refused:
        caller.call("echo", {"f": lambda: 1})
    assert refused.value.path == "argument 1['f']"
    with pytest.raises(UnpicklableError):
        caller.put(object())
    with pytest.raises(EasyRemoteError):
        caller.call(lambda: 1)


class Canary:
    def __init__(self, path: Any) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return open, (str(self.path), "w")


def send_pickle(caller: Client, canary: Canary, way: str) -> None:
    if way == "bundle":
        submit_together(caller, "echo", [1, 2, 3])[0].result()
    elif way == "tasks":
        call = caller._new_call("echo")
        target = caller._target(caller._describe("echo"))
        caller._connection.submit_tasks(call, target, [pickle.dumps(((canary,), {}))])
        call.result()
    elif way == "put":
        caller.call("echo", caller.put(canary))
    elif way == "stream":
        list(caller.stream("stream", canary))
    elif way == "batch":
        caller.call("together", canary)
    else:
        caller.call("echo", canary, b"x" * (10**6 if way == "large" else 1))


@pytest.mark.attack
@pytest.mark.parametrize("way", ["call", "bundle", "tasks", "batch", "large", "put", "stream"])
def test_a_client_that_may_only_call_has_no_pickle_loaded(caller: Client, tmp_path: Any, way: str) -> None:
    """It sends one all the same: it is refused before anything of it is loaded."""
    canary = Canary(tmp_path / "canary")
    caller.call("echo", 1)  # a worker that has to be started first gives tasks back
    caller._connection.encoding = codec.Pickles
    with pytest.raises(PayloadError, match="pickle came"):
        send_pickle(caller, canary, way)
    assert not canary.path.exists()
    caller._connection.encoding = codec.PlainData
    assert caller.call("echo", 7) == 7


def test_a_client_that_does_not_trust_the_nodes_takes_plain_data(doubtful: Client, no_pickles: None) -> None:
    assert doubtful.call("echo", 1, (2,)) == ((1, (2,)), {})
    np.testing.assert_array_equal(doubtful.call("echo", LARGE), LARGE)
    assert [call.result() for call in submit_together(doubtful, "echo", range(30))] == list(range(30))
    assert list(doubtful.map("echo", range(100))) == list(range(100))
    assert list(doubtful.stream("stream", 20)) == list(range(20))
    assert [int(item[0]) for item in doubtful.stream("stream", 3, 50_000)] == [0, 1, 2]
    assert list(doubtful.map("together", range(20))) == list(range(1, 21))
    kept = doubtful.with_options(keep=True).call("echo", LARGE)
    np.testing.assert_array_equal(kept.get(), LARGE)
    np.testing.assert_array_equal(doubtful.call("echo", kept), LARGE)


def test_shipped_code_runs_for_a_client_that_takes_plain_data(doubtful: Client) -> None:
    assert doubtful.call(lambda x: {"y": x}, 3) == {"y": 3}
    assert doubtful.call(sum, [1, 2]) == 3
    doubtful.node("node-a").register(lambda x: x + 1, name="more")
    assert doubtful.call("more", 1) == 2


def test_a_result_that_is_not_plain_is_an_error_that_says_what_to_do(doubtful: Client, server: Server) -> None:
    with pytest.raises(UnpicklableError, match="doesn't load pickles"):
        doubtful.call("odd")
    with Client(doubtful.address, token=server.token, results="pickle") as trusting:
        assert trusting.call("odd") is object
    with pytest.raises(UsageError, match="'auto', 'plain', 'pickle'"):
        Client(doubtful.address, token=server.token, results="all")  # type: ignore[arg-type]


@pytest.mark.usefixtures("no_pickles")
def test_exceptions_are_text_but_for_builtin_ones(doubtful: Client) -> None:
    with pytest.raises(ValueError, match="bad") as value:
        doubtful.call("fail", "value")
    assert value.value.args == ("bad", 3)
    assert isinstance(value.value.__cause__, RemoteError) and "in fail" in value.value.__cause__.remote_traceback
    with pytest.raises(KeyError, match="'k'"):
        doubtful.call("fail", "key")
    with pytest.raises(FileNotFoundError) as missing:
        doubtful.call("fail", "os")
    assert (missing.value.errno, missing.value.filename) == (2, "f")
    with pytest.raises(RemoteError) as own:
        doubtful.call("fail", "own")
    assert own.value.remote_type.endswith("OfTheNode") and own.value.remote_message == "o"


def test_plain_results_can_be_asked_of_ones_own_gateway(server: Server, node: ComputeNode, no_pickles: None) -> None:
    with Client(server.address, results="plain") as client:
        assert client.call("echo", {1: (2,)}) == {1: (2,)}
        with pytest.raises(UnpicklableError):
            client.call("odd")


def test_ones_own_gateway_gives_whatever_it_gave(client: Client, node: ComputeNode) -> None:
    assert client.call("odd") is object
    with pytest.raises(OfTheNode):
        client.call("fail", "own")
