"""Calls that are made by calls."""

from __future__ import annotations

from easyremote.core.nesting import MAX_DEPTH
from easyremote.core.node_session import Attempt
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, NodePeer


def family(*names: str) -> tuple[Bench, list[NodePeer], ClientPeer]:
    bench = Bench(silence_s=1e9)
    nodes = [bench.node(name) for name in names or ("a",)]
    return bench, nodes, bench.client()


def test_a_call_may_call_its_own_node_though_it_holds_the_only_slot() -> None:
    _, (node,), client = family()
    parent = client.submit()
    outer = node.only_started()
    client.submit(parent_id=parent)
    inner = node.only_started()
    assert inner.submit.options.parent_id == parent
    node.result(inner), node.result(outer)
    assert sorted(client.bodies(), key=str) == ["result", "result"]
    client.submit()
    assert node.only_started()


def test_others_still_wait_for_the_slot() -> None:
    _, (node,), client = family()
    parent = client.submit()
    outer = node.only_started()
    stranger = client.submit()
    client.submit(parent_id=parent)
    inner = node.only_started()
    assert inner.call_id != stranger
    node.result(inner)
    assert node.started() == []
    node.result(outer)
    assert node.only_started().call_id == stranger


def test_of_many_children_one_at_a_time_runs_beside_the_slots() -> None:
    _, (node,), client = family()
    parent = client.submit()
    node.only_started()
    children = [client.submit(parent_id=parent) for _ in range(5)]
    ran = []
    for _ in children:
        inner = node.only_started()
        ran.append(inner.call_id)
        node.result(inner)
    assert ran == children


def test_two_nodes_may_call_each_other() -> None:
    _, (a, b), client = family("a", "b")
    on_a, on_b = client.submit(node_id="a"), client.submit(node_id="b")
    outer = [a.only_started(), b.only_started()]
    client.submit(node_id="b", parent_id=on_a), client.submit(node_id="a", parent_id=on_b)
    a.result(a.only_started()), b.result(b.only_started())
    a.result(outer[0]), b.result(outer[1])
    assert client.bodies() == ["result"] * 4


def test_a_function_that_calls_itself_for_ever_is_stopped() -> None:
    _, (node,), client = family()
    call, depth = client.submit(), 0
    while node.started():
        call, depth = client.submit(parent_id=call), depth + 1
    assert depth == MAX_DEPTH + 1
    error = client.only_verdict()
    assert error.code == "usage"
    assert "calls itself without an end" in error.message


def test_a_parent_that_is_lost_lends_nothing_any_more() -> None:
    bench, (a, b), client = family("a", "b")
    parent = client.submit(node_id="a", retries=0)
    started = a.started() or [_allowed(client, a)]
    assert started
    a.core.goodbye("")
    bench.settle()
    client.submit(node_id="b")
    assert b.only_started()
    client.submit(node_id="b", parent_id=parent)
    assert b.started() == []


def _allowed(client: ClientPeer, node: NodePeer) -> Attempt:
    client.core.flush_acks()
    client.bench.settle()
    return node.only_started()


def test_a_child_that_is_cancelled_while_it_waits_gives_the_slot_back() -> None:
    _, (node,), client = family()
    parent = client.submit()
    node.only_started()
    first, second = client.submit(parent_id=parent), client.submit(parent_id=parent)
    client.cancel(second)
    inner = node.only_started()
    assert inner.call_id == first
    node.result(inner)
    assert client.submit(parent_id=parent)
    assert node.only_started()


def test_a_child_needs_what_it_says_that_it_needs() -> None:
    """A slot is lent, and nothing else."""
    bench = Bench(silence_s=1e9)
    state = pb.NodeState(capacity=pb.Capacity(memory_bytes=10))
    node, client = bench.node("a", state=state, slots=2), bench.client()
    parent = client.submit(needs=pb.Needs(memory_bytes=6))
    outer = node.only_started()
    client.submit(needs=pb.Needs(memory_bytes=6), parent_id=parent)
    assert node.started() == []
    client.submit(needs=pb.Needs(memory_bytes=4, slots=2), parent_id=parent)
    inner = node.only_started()
    node.result(inner)
    node.result(outer)
    assert node.only_started()


def test_after_the_restart_of_a_gateway_a_child_finds_its_parent_again() -> None:
    bench, (node,), client = family()
    parent = client.submit()
    node.only_started()
    bench.restart()
    client.connect()
    client.submit(parent_id=parent)
    assert node.started() == []
    node.connect()
    bench.pass_time(1)
    assert node.only_started().submit.options.parent_id == parent


def test_an_unknown_parent_is_no_parent() -> None:
    _, (node,), client = family()
    client.submit()
    node.only_started()
    client.submit(parent_id=b"?" * 16)
    assert node.started() == []
