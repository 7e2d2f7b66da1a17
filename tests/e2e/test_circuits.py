"""A node where calls keep failing rests, as a process of its own; a function that raises everywhere makes nobody rest."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from easyremote import Client, ComputeNode, RemoteError, Server, WorkerCrashed
from easyremote.core.circuits import HARD, SOFT
from tests.conftest import wait_until

pytestmark = pytest.mark.slow


@pytest.fixture
def nodes(server: Server) -> Iterator[list[ComputeNode]]:
    """Two nodes, of which calls take turns."""
    with ComputeNode(server.address, "a", slots=2) as first, ComputeNode(server.address, "b", slots=2) as second:
        yield [first, second]


@pytest.fixture
def in_turns(client: Client) -> Client:
    return client.with_options(strategy="round_robin", timeout=60)


def test_a_node_where_a_function_raises_while_it_succeeds_elsewhere_gets_few_calls_until_it_is_mended(
    nodes: list[ComputeNode], in_turns: Client
) -> None:
    broken = True
    for node in nodes:

        def work(name: str = node.node_id) -> str:
            if broken and name == "a":
                raise OSError("the data disk isn't mounted")
            return name

        node.register(work, name="work")
    outcomes = []
    for _ in range(80):
        try:
            outcomes.append(in_turns.call("work"))
        except OSError:
            outcomes.append("failed")
    info = in_turns.get_node_status("a")
    assert outcomes[-4:] != ["failed"] * 4
    assert SOFT <= outcomes.count("failed") <= SOFT + 8  # each rest ends with one that tries
    (rest,) = info.resting
    assert (rest.function, info.status) == ("work", "connected")
    assert "the data disk isn't mounted" in rest.reason
    broken = False
    wait_until(lambda: in_turns.call("work") and not in_turns.get_node_status("a").resting, 90)
    assert {in_turns.call("work") for _ in range(8)} == {"a", "b"}


def test_a_node_whose_workers_die_rests_and_says_why(
    nodes: list[ComputeNode], in_turns: Client, tmp_path: Path
) -> None:
    def crash() -> str:
        os._exit(13)

    def well() -> str:
        return "b"

    nodes[0].register(crash, name="work", isolation="process")
    nodes[1].register(well, name="work", isolation="process")
    died = 0
    for _ in range(40):
        try:
            assert in_turns.call("work") == "b"
        except WorkerCrashed:
            died += 1
    assert HARD <= died <= HARD + 8
    assert "exit code 13" in in_turns.get_node_status("a").resting[0].reason
    assert in_turns.get_node_status("b").resting == ()


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_function_that_raises_on_every_node_makes_nobody_rest(
    nodes: list[ComputeNode], in_turns: Client, isolation: str
) -> None:
    def work(row: int) -> int:
        raise ValueError(f"row {row} is bad")

    for node in nodes:
        node.register(work, name="work", isolation=isolation)
    calls = [in_turns.submit("work", row) for row in range(60)]
    for call in calls:
        with pytest.raises(ValueError, match="is bad") as caught:
            call.result()
        assert isinstance(caught.value.__cause__, RemoteError)
    assert [node.resting for node in in_turns.list_nodes()] == [(), ()]
