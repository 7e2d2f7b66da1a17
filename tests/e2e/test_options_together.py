"""Options of calls that meet each other."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from easyremote import Client, ComputeNode, Server, UsageError
from easyremote.transport.transfers import Transfers
from tests.conftest import wait_until


def plus_one(number: int) -> int:
    return number + 1


@pytest.mark.parametrize("options", [{"hedge": True}, {"durable": True}, {"keep": True}, {"cost_limit": 1e-9}])
def test_options_for_calls_say_nothing_of_how_functions_are_registered(remote: Client, options: dict[str, Any]) -> None:
    remote.with_options(**options).node().register(plus_one, idempotent=True)
    assert remote.call("plus_one", 1) == 2
    remote.with_options(**options).node().unregister("plus_one")


@pytest.mark.parametrize("options", [{"hedge": True}, {"keep": True}])
def test_many_jobs_are_refused_the_options_that_one_is(
    client: Client, node: ComputeNode, options: dict[str, Any]
) -> None:
    node.register(plus_one, idempotent=True)
    with pytest.raises(UsageError):
        client.with_options(**options).submit_job("plus_one", 1)
    with pytest.raises(UsageError):
        client.with_options(**options).submit_jobs("plus_one", [1])


@pytest.mark.parametrize("name", ["idempotent", "output", "keep", "explain_waiting", "durable"])
@pytest.mark.parametrize("value", ["no", 1, None, 0.0])
def test_a_switch_is_true_or_false(client: Client, name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=f"{name} is True or False"):
        client.with_options(**{name: value})


def test_a_hedged_call_that_a_call_waits_for_has_its_slot(server: Server) -> None:
    with ComputeNode(server.address, "a", slots=1) as node, Client(server.address) as client:
        node.register(plus_one, idempotent=True)

        def outer(number: int) -> int:
            return client.with_options(hedge=60.0, queue_timeout=20.0).call("plus_one", number)

        node.register(outer)
        assert client.with_options(timeout=30.0).call("outer", 1) == 2


def test_a_stream_that_was_to_be_hedged_brings_all_of_its_large_items(
    client: Client, node: ComputeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    def several() -> Any:
        return (np.full(100_000, number) for number in range(4))

    node.register(several, idempotent=True)
    call = client.with_options(hedge=60.0)
    fetch = Transfers.fetch

    async def fetch_late(self: Transfers, call_id: bytes, payload: Any) -> Any:
        gathered = client._connection._pipelines[call_id]
        await asyncio.to_thread(wait_until, lambda: len(gathered) == 5)  # all items, and the end
        monkeypatch.undo()
        return await fetch(self, call_id, payload)

    monkeypatch.setattr(Transfers, "fetch", fetch_late)
    assert [int(array[0]) for array in call.stream("several")] == [0, 1, 2, 3]


def test_two_ways_of_one_client_learn_that_a_function_became_another(client: Client, node: ComputeNode) -> None:
    other = client.with_options(hedge=60.0)
    node.register(plus_one, idempotent=True)
    assert (client.call("plus_one", 1), other.call("plus_one", 1)) == (2, 2)

    def many(number: int, times: int) -> Iterator[int]:
        yield from [number] * times

    node.register(many, name="plus_one", idempotent=True)
    assert client.call("plus_one", 1, 2) == [1, 1]
    with pytest.raises(UsageError):
        other.call("plus_one", 1, 2)


@pytest.mark.parametrize(
    "option",
    [
        {"cost_limit": 10**400},
        {"hedge": 10**400},
        {"hedge": 1e300},
        {"memory": "9" * 5000},
        {"memory": "9" * 400 + ".5KB"},
        {"labels": {"zone": "\ud800"}},
    ],
    ids=lambda option: next(iter(option)),
)
def test_absurd_values_are_refused_at_once(client: Client, option: dict[str, Any]) -> None:
    with pytest.raises(UsageError, match=next(iter(option))):
        client.with_options(**option)
