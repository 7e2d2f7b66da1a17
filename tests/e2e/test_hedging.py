"""Second copies of calls that take too long."""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from easyremote import (
    CallCancelled,
    Client,
    ComputeNode,
    DeadlineExceeded,
    NoNodeAvailable,
    Server,
    UsageError,
    hedging,
)
from easyremote.hedging import Durations
from tests.conftest import wait_until


class Slow:
    """A function on two nodes: the first copy of each call waits until it is let go or cancelled, a second one ends at once."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.runs: list[Any] = []
        self.go_on = threading.Event()
        self.stopped: list[Any] = []
        self.errors: list[Exception] = []

    def __call__(self, key: Any) -> Any:
        with self.lock:
            self.runs.append(key)
            number = self.runs.count(key)
            error = self.errors[number - 1] if number <= len(self.errors) else None
        print(f"copy {number}")
        try:
            while number == 1 and not self.go_on.is_set():
                time.sleep(0.005)
        except BaseException:
            self.stopped.append(key)
            raise
        if error is not None:
            raise error
        return key, number


@pytest.fixture
def slow(server: Server) -> Iterator[Slow]:
    function = Slow()
    with ComputeNode(server.address, "a", slots=4) as first, ComputeNode(server.address, "b", slots=4) as second:
        for node in (first, second):
            node.register(function, name="slow", idempotent=True)
        yield function
        function.go_on.set()


def test_a_slow_call_gets_a_second_copy_elsewhere_and_the_first_value_wins(slow: Slow, client: Client) -> None:
    call = client.with_options(hedge=0.1).submit("slow", 1)
    assert call.result(30) == (1, 2)
    wait_until(lambda: slow.stopped == [1])  # the one that lost is stopped
    wait_until(lambda: all(node.running == 0 for node in client.list_nodes()))
    assert call.node in ("a", "b")
    assert client._connection._calls == {}


def test_whoever_watches_sees_the_output_of_both(
    slow: Slow, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    client.with_options(hedge=0.3).call("slow", 1)
    assert capsys.readouterr().out == "copy 1\ncopy 2\n"


def test_the_first_copy_may_win_as_well(slow: Slow, client: Client) -> None:
    slow.go_on.set()
    assert client.with_options(hedge=20).call("slow", 1) == (1, 1)
    assert slow.runs == [1]


def test_every_face_of_a_future_sees_it(slow: Slow, client: Client) -> None:
    hedged = client.with_options(hedge=0.05)
    client._hedged["slow"] = generous()
    seen: list[Any] = []
    call = hedged.submit("slow", 1)
    call.add_done_callback(lambda done: seen.append(done.result()))
    assert concurrent.futures.wait([call], 30).not_done == set()
    assert next(concurrent.futures.as_completed([call])) is call
    wait_until(lambda: seen == [(1, 2)])

    async def wait() -> Any:
        return await hedged.submit("slow", 2)

    assert asyncio.run(wait()) == (2, 2)
    assert list(hedged.map("slow", [3, 4])) == [(3, 2), (4, 2)]
    assert sorted(hedged.map("slow", [5, 6], as_completed=True)) == [(5, 2), (6, 2)]


def generous() -> Durations:
    """Second copies for as many calls as there are here."""
    made = Durations()
    made._may_send = 100.0
    made.begun = lambda: None  # type: ignore[method-assign]
    return made


def test_large_arguments_and_values_go_both_ways(slow: Slow, client: Client) -> None:
    data = bytes(300_000)
    assert client.with_options(hedge=0.1).call("slow", data) == (data, 2)


def test_cancelling_stops_both(slow: Slow, client: Client) -> None:
    def waits(key: int) -> None:
        slow(key * 0 + len(slow.runs))  # each run counts as a first one, and waits

    with ComputeNode(client.address, "c") as third, ComputeNode(client.address, "d") as fourth:
        for node in (third, fourth):
            node.register(waits, idempotent=True)
        call = client.with_options(hedge=0.1).submit("waits", 1)
        wait_until(lambda: len(slow.runs) == 2)
        call.cancel()
        with pytest.raises(CallCancelled):
            call.result()
        wait_until(lambda: len(slow.stopped) == 2)
        timed = client.with_options(hedge=0.05, timeout=2, idempotent=True)
        client._hedged["waits"] = generous()
        late = timed.submit("waits", 1)
        with pytest.raises(DeadlineExceeded):
            late.result()
        wait_until(lambda: len(slow.stopped) == len(slow.runs) == 4)
    assert client._connection._calls == {}


def test_an_error_waits_for_the_other_copy(slow: Slow, client: Client) -> None:
    slow.errors = [KeyError("first")]
    call = client.with_options(hedge=0.1).submit("slow", 1)
    assert call.result(30) == (1, 2)
    slow.errors = [KeyError("first"), ValueError("second")]
    client._hedged["slow"] = generous()
    call = client.with_options(hedge=0.1).submit("slow", 2)
    wait_until(lambda: slow.runs.count(2) == 2)
    wait_until(lambda: sum(node.running for node in client.list_nodes()) == 1)  # the second has failed
    assert not call.done()
    slow.go_on.set()
    with pytest.raises(KeyError, match="first"):
        call.result(30)


def test_at_most_a_tenth_get_one(slow: Slow, client: Client) -> None:
    hedged = client.with_options(hedge=0.02)
    calls = [hedged.submit("slow", number) for number in range(8)]  # both nodes have four slots
    wait_until(lambda: calls[0].done() or len(slow.runs) > 8 or len(slow.runs) == 8)
    time.sleep(0.3)
    slow.go_on.set()
    for call in calls:
        call.result(30)
    assert len(slow.runs) <= 8 + 1


def test_where_no_other_node_is_free_there_is_none(slow: Slow, client: Client) -> None:
    client._hedged["slow"] = generous()
    hedged = client.with_options(hedge=0.02)
    calls = [hedged.submit("slow", number) for number in range(8)]
    wait_until(lambda: len(slow.runs) == 8)
    wait_until(lambda: client._hedged["slow"]._may_send == 100.0 and not any(map(_second_of, calls)))
    assert len(slow.runs) == 8
    slow.go_on.set()
    assert sorted(call.result(30) for call in calls) == [(number, 1) for number in range(8)]


def _second_of(call: Any) -> bool:
    return len(call._race.copies) > 1


def test_p95_is_learned_from_this_clients_calls(slow: Slow, client: Client) -> None:
    slow.go_on.set()
    hedged = client.with_options(hedge="p95")
    for number in range(hedging.MIN_SAMPLES):
        assert client._hedged.get("slow", Durations()).usual_s() is None
        assert hedged.call("slow", number) == (number, 1)
    usual_s = client._hedged["slow"].usual_s()
    assert usual_s is not None and usual_s > 0
    slow.go_on.clear()
    assert client.with_options(hedge=True).call("slow", "late") == ("late", 2)


def test_streams_and_functions_that_arent_idempotent_are_refused(server: Server, client: Client) -> None:
    with ComputeNode(server.address) as node:
        node.register(lambda: 1, name="once")
        node.register(lambda: 1, name="often", idempotent=True)

        @node.register(idempotent=True)
        def items() -> Iterator[int]:
            yield 1

        hedged = client.with_options(hedge=1)
        for attempt in (hedged.call, hedged.submit, lambda name: list(hedged.map(name, []))):
            if attempt in (hedged.call, hedged.submit):
                with pytest.raises(UsageError, match="isn't declared idempotent"):
                    attempt("once")
                with pytest.raises(UsageError, match="a stream isn't hedged"):
                    attempt("items")
        with pytest.raises(UsageError, match="isn't declared idempotent"):
            hedged.call(len, [])
        assert hedged.with_options(idempotent=True).call(len, [1]) == 1
        assert hedged.with_options(idempotent=True).call("once") == 1
        assert hedged.call("often") == 1


def test_a_function_that_turns_out_to_yield_items_is_a_stream(server: Server, client: Client) -> None:
    with ComputeNode(server.address, "a") as first, ComputeNode(server.address, "b") as second:
        for node in (first, second):
            node.register(lambda count: (number for number in range(count)), name="items", idempotent=True)
        call = client.with_options(hedge=5).submit("items", 1000)
        assert list(call) == list(range(1000))
        assert client.with_options(hedge=5).call("items", 10) == list(range(10))
    wait_until(lambda: client._connection._calls == {})


@pytest.mark.parametrize("hedge", [0, -1, "p99", float("nan"), float("inf"), [1]])
def test_what_is_no_hedge_is_refused(client: Client, hedge: Any) -> None:
    with pytest.raises(UsageError, match="hedge is True"):
        client.with_options(hedge=hedge)


@pytest.mark.parametrize("option", [{"node": "a"}, {"keep": True}, {"durable": True}])
def test_what_a_hedged_call_cant_be(client: Client, option: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(option))):
        client.with_options(hedge=1, **option)


def test_a_lost_gateway_ends_it_once(gateway_process: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    address, token = gateway_process()
    monkeypatch.setenv("EASYREMOTE_TOKEN", token)
    with Client(address) as client, pytest.raises(NoNodeAvailable):
        client.with_options(hedge=1, idempotent=True).call(len, [])
