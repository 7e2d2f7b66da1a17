"""Which node has which call, through a real gateway. Nothing here is timed: calls meet each other, or are counted."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

from easyremote import Call, Client, ComputeNode, DeadlineExceeded, GatewaySettings, Server, register_strategy
from easyremote.cluster import LocalCluster
from easyremote.core import strategies
from easyremote.core.strategies import Offer
from tests.conftest import wait_until

THREE_AT_ONCE = """
def meet(folder, number):
    "Wait until the two others of the same three are here too, so it can only end where three run at once."
    import pathlib, time
    first = number - number % 3
    folder = pathlib.Path(folder)
    (folder / str(number)).touch()
    until = time.monotonic() + 60
    while not all((folder / str(other)).exists() for other in range(first, first + 3)):
        assert time.monotonic() < until, "the others did not come"
        time.sleep(0.005)
    time.sleep(0.02)  # long enough for nothing to be sent ahead
    return number
"""


def shipped(source: str, name: str) -> Any:
    """A function that goes by value, as one of a notebook does."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(source, namespace)
    return namespace[name]


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["round_robin", "smart_adaptive"])
def test_three_equal_nodes_run_three_calls_at_a_time_to_the_end(strategy: str, tmp_path: Path) -> None:
    """Work that sleeps is done three times as fast as by one: from the first call to the last, three run."""
    meet = shipped(THREE_AT_ONCE, "meet")
    with LocalCluster(3, slots=1) as cluster, cluster.client() as client:
        wait_until(lambda: len(client.list_nodes()) == 3)
        chosen = client.with_options(strategy=strategy)
        calls = [chosen.submit(meet, str(tmp_path), number) for number in range(15)]
        assert [call.result() for call in calls] == list(range(15))
        assert Counter(call.node for call in calls) == {f"node-{n}": 5 for n in (1, 2, 3)}


@pytest.fixture
def unlike(server: Server) -> Iterator[list[ComputeNode]]:
    """A fast node and one that takes eight times as long, with one slot each."""
    nodes = [ComputeNode(server.address, name, slots=1).serve() for name in ("fast", "slow")]
    for node, seconds in zip(nodes, (0.03, 0.24), strict=True):
        node.register(lambda seconds=seconds: time.sleep(seconds), name="work")
    yield nodes
    for node in nodes:
        node.stop()


@pytest.mark.slow
def test_nodes_of_unlike_speed_get_calls_accordingly(unlike: list[ComputeNode], client: Client) -> None:
    calls = [client.submit("work") for _ in range(54)]
    for call in calls:
        call.result()
    count = Counter(call.node for call in calls)
    assert count["fast"] > 3 * count["slow"] > 0
    assert calls[-1].node == "fast"


@pytest.mark.slow
def test_one_by_one_they_go_to_the_faster_node_once_both_are_known(unlike: list[ComputeNode], client: Client) -> None:
    served = [settled(client.submit("work")).node for _ in range(10)]
    assert sorted(served[:2]) == ["fast", "slow"]  # type: ignore[type-var]
    assert set(served[2:]) == {"fast"}


def settled(call: Call[Any]) -> Call[Any]:
    call.result()
    return call


# ---- a strategy of one's own -----------------------------------------------------------------------------------------


class OnlyGood:
    """Rather waits than takes another node than the one called good."""

    def choose(self, function: str, offers: Sequence[Offer]) -> Offer | None:
        return next((offer for offer in offers if offer.node_id == "good"), None)


@pytest.fixture
def picky(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(strategies, "_FACTORIES", dict(strategies._FACTORIES))
    register_strategy("only_good", OnlyGood)
    with Server(port=0, settings=GatewaySettings(default_strategy="only_good")) as server:
        yield server


def test_a_strategy_of_ones_own_that_waits_is_asked_again_and_never_for_ever(picky: Server) -> None:
    may_end = threading.Event()

    def work(name: str) -> str:
        return name if may_end.wait(60) else "nobody came"

    good, other = (ComputeNode(picky.address, name, slots=1).serve() for name in ("good", "other"))
    with Client(picky.address) as client:
        try:
            for node in (good, other):
                node.register(lambda name=node.node_id: work(name), name="work")
            first, second = client.submit("work"), client.submit("work")
            wait_until(lambda: first.state == "running")
            with pytest.raises(DeadlineExceeded):  # longer than a tick
                client.with_options(queue_timeout=0.5).call("work")
            assert second.state == "queued"  # though the other node is free
            third = client.submit("work")
            may_end.set()
            assert [first.result(), second.result(), third.result()] == ["good"] * 3

            may_end.clear()
            held, left = client.submit("work"), client.submit("work")
            wait_until(lambda: held.state == "running")
            may_end.set()
            good.stop()  # from now on there is nothing to wait for
            assert left.result() in ("good", "other")
            assert client.call("work") == "other"
        finally:
            may_end.set()
            good.stop()
            other.stop()
