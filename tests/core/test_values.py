"""Values that stay where they are, as the gateway sees them: who holds a ref, who has the value, who is asked for it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyremote.core import client_session, node_session
from easyremote.core.records import Session
from easyremote.core.values import ASSUMED_BYTES_PER_S, MAX_REFS, Values
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, NodePeer, new_id

MIB = 1024 * 1024


def ref_of(size: int = 10 * MIB, node_id: str = "") -> pb.Ref:
    return pb.Ref(ref_id=new_id(), part_bytes=[100, size - 100], node_id=node_id)


def hold(client: ClientPeer, ref: pb.Ref) -> None:
    client.core.hold(pb.Handle(ref_id=ref.ref_id, has_value=not ref.node_id))
    client.bench.settle()


def let_go(client: ClientPeer, ref: pb.Ref) -> None:
    client.core.let_go([ref.ref_id])
    client.bench.settle()


def has(node: NodePeer, ref: pb.Ref, **fields: Any) -> None:
    node.core.has(pb.HeldValue(ref_id=ref.ref_id, size_bytes=sum(ref.part_bytes), **fields))
    node.bench.settle()


def submit(client: ClientPeer, *refs: pb.Ref, **options: Any) -> bytes:
    call_id = new_id()
    call = pb.Submit(call_id=call_id, function="f", refs=refs, options=pb.Options(**options))
    client.core.submit(call, client.bench.now)
    client.bench.settle()
    return call_id


def ask(peer: NodePeer | ClientPeer, ref: pb.Ref) -> pb.Fetch:
    fetch = pb.Fetch(transfer_id=new_id(), blob_id=ref.ref_id, of_ref=True, limit=100)
    peer.core.fetch(fetch)
    peer.bench.settle()
    return fetch


def asked(peer: NodePeer | ClientPeer) -> list[bytes]:
    """Transfers that it is asked to send."""
    kinds = (client_session.SendBlob, node_session.SendBlob)
    return [effect.fetch.transfer_id for effect in peer.effects if isinstance(effect, kinds) and not effect.fetch.done]


def discarded(node: NodePeer) -> list[bytes]:
    effects = [effect for effect in node.effects if isinstance(effect, node_session.Discard)]
    return [ref_id for effect in effects for ref_id in effect.ref_ids]


def told(bench: Bench, fetch: pb.Fetch) -> pb.Chunk:
    """The newest chunk that the gateway itself sent for this transfer."""
    return [chunk for _, chunk in bench.chunks if chunk.transfer_id == fetch.transfer_id][-1]


def finish(node: NodePeer, client: ClientPeer) -> bytes:
    """The newest call there ends: its id."""
    attempt = node.started()[-1]
    node.result(attempt)
    client.taken(client.events()[-1])
    client.core.flush_acks()
    node.bench.settle()
    return attempt.call_id


def known(bench: Bench) -> int:
    return len(bench.broker._values)


def test_a_value_is_unwanted_when_its_last_handle_goes() -> None:
    bench = Bench()
    nodes, client, ref = [bench.node("a"), bench.node("b")], bench.client(), ref_of()
    hold(client, ref)
    for node in nodes:
        has(node, ref)
    let_go(client, ref)
    assert [discarded(node) for node in nodes] == [[ref.ref_id]] * 2
    assert known(bench) == 0


@pytest.mark.parametrize("says_goodbye", [True, False])
def test_a_client_that_ends_or_stays_away_holds_nothing(says_goodbye: bool) -> None:
    bench = Bench(grace_s=5.0)
    node, client, ref = bench.node("a"), bench.client(), ref_of()
    hold(client, ref)
    has(node, ref)
    if says_goodbye:
        client.core.goodbye()
        bench.settle()
    else:
        client.cut()
        bench.pass_time(4.9)
        assert not discarded(node)
        bench.pass_time(0.6)
    assert discarded(node) == [ref.ref_id]


def test_what_a_client_let_go_of_while_it_was_away_is_unwanted_when_it_is_back() -> None:
    bench = Bench(grace_s=5.0)
    node, client, ref, other = bench.node("a"), bench.client(), ref_of(), ref_of()
    for each in (ref, other):
        hold(client, each)
        has(node, each)
    client.cut()
    client.core.let_go([ref.ref_id])
    client.connect()
    assert discarded(node) == [ref.ref_id]
    assert known(bench) == 1


def test_what_a_node_did_not_hear_it_hears_when_it_is_back() -> None:
    bench = Bench(grace_s=5.0)
    node, client, ref = bench.node("a"), bench.client(), ref_of()
    hold(client, ref)
    has(node, ref)
    node.cut()
    let_go(client, ref)
    node.connect()
    assert not discarded(node)  # its client might be about to come
    bench.pass_time(10.5)
    assert discarded(node) == [ref.ref_id]
    assert known(bench) == 0


def test_a_gateway_that_was_restarted_knows_it_all_again_and_drops_only_what_nobody_claims() -> None:
    bench = Bench(grace_s=5.0)
    node, client, ref, nobodys = bench.node("a"), bench.client(), ref_of(), ref_of()
    hold(client, ref)
    for each in (ref, nobodys):
        has(node, each)
    bench.restart()
    node.connect()
    client.connect()
    bench.pass_time(11)
    assert discarded(node) == [nobodys.ref_id]
    let_go(client, ref)
    assert discarded(node) == [nobodys.ref_id, ref.ref_id]


def test_a_kept_result_waits_for_a_client_that_has_not_heard_of_it() -> None:
    bench = Bench(grace_s=5.0)
    node, client, ref = bench.node("a"), bench.client(), ref_of(node_id="a")
    has(node, ref, pending=True)
    bench.pass_time(60)
    assert not discarded(node)
    hold(client, ref)
    has(node, ref)  # the end of its call was acknowledged
    bench.pass_time(60)
    assert not discarded(node)
    let_go(client, ref)
    assert discarded(node) == [ref.ref_id]


def test_one_that_is_let_go_of_before_its_node_knows_that_it_was_taken_goes_too() -> None:
    bench = Bench()
    node, client, ref = bench.node("a"), bench.client(), ref_of(node_id="a")
    has(node, ref, pending=True)
    hold(client, ref)
    let_go(client, ref)
    assert discarded(node) == [ref.ref_id]


def test_a_value_is_asked_of_its_client_and_a_kept_one_of_its_node() -> None:
    bench = Bench()
    nodes, client = [bench.node("a"), bench.node("b")], bench.client()
    put, kept = ref_of(), ref_of(node_id="a")
    for ref in (put, kept):
        hold(client, ref)
        has(nodes[0], ref)
    submit(client, put, kept, node_id="b")
    fetch = ask(nodes[1], put)
    assert asked(client) == [fetch.transfer_id] and not asked(nodes[0])
    fetch = ask(nodes[1], kept)
    assert asked(nodes[0]) == [fetch.transfer_id]
    chunk = pb.Chunk(transfer_id=fetch.transfer_id, data=b"x" * 10)
    assert bench.broker.chunk(nodes[0].core.session_id, chunk) == nodes[1].core.session_id
    assert bench.broker.chunk(client.core.session_id, chunk) is None  # it isn't the one that was asked
    fetch = ask(client, kept)
    assert asked(nodes[0])[-1] == fetch.transfer_id


def test_a_value_is_asked_of_a_node_on_the_same_machine_where_its_client_is_elsewhere() -> None:
    bench = Bench()
    nodes, client, ref = [bench.node("a"), bench.node("b"), bench.node("c")], bench.client(), ref_of()
    sessions = {node.name: bench.broker._sessions[node.core.session_id] for node in nodes}
    sessions["b"].runtime.host = sessions["c"].runtime.host = "big"
    hold(client, ref)
    for node in nodes[:2]:
        has(node, ref)
    submit(client, ref, node_id="c")
    assert [ask(nodes[2], ref).transfer_id] == asked(nodes[1])
    nodes[1].cut()
    assert [ask(nodes[2], ref).transfer_id] == asked(client)


def test_nobody_gets_what_it_has_no_business_with() -> None:
    bench = Bench()
    node, client, stranger, ref = bench.node("a"), bench.client(), bench.client(), ref_of()
    bench.pass_time(6)  # the gateway isn't young any more
    hold(client, ref)
    for peer in (node, stranger):
        assert told(bench, ask(peer, ref)).error
    assert not asked(client)
    submit(client, ref)
    assert ask(node, ref).transfer_id in asked(client)


def test_where_the_one_that_was_asked_has_dropped_it_another_one_is() -> None:
    bench = Bench()
    nodes, client, ref = [bench.node("a"), bench.node("b")], bench.client(), ref_of(node_id="a")
    bench.pass_time(6)
    hold(client, ref)
    for node in nodes:
        has(node, ref)
    fetch = ask(client, ref)
    assert asked(nodes[0]) == [fetch.transfer_id]
    gone = pb.Chunk(transfer_id=fetch.transfer_id, error="dropped")
    assert bench.broker.chunk(nodes[0].core.session_id, gone) is None
    bench.pass_time(0.25)
    assert told(bench, fetch).again
    fetch = ask(client, ref)
    assert asked(nodes[1]) == [fetch.transfer_id]
    gone = pb.Chunk(transfer_id=fetch.transfer_id, error="dropped")
    assert bench.broker.chunk(nodes[1].core.session_id, gone) is None
    bench.pass_time(0.25)
    assert told(bench, fetch).error == "node 'b' has dropped it"


def test_the_reason_of_a_loss_is_told() -> None:
    bench = Bench()
    node, client = bench.node("a"), bench.client()
    bench.pass_time(6)
    evicted, gone = ref_of(node_id="a"), ref_of(node_id="a")
    for ref in (evicted, gone):
        hold(client, ref)
        has(node, ref)
    node.core.dropped([evicted.ref_id], 1000)
    bench.settle()
    assert told(bench, ask(client, evicted)).error == "node 'a' had no room for it: its values may take 1000 B"
    fetch = ask(client, gone)
    node.core.goodbye("stopping")
    bench.settle()
    assert told(bench, fetch).error == "node 'a' is gone"
    assert told(bench, ask(client, gone)).error == "node 'a' is gone"


def test_a_receiver_is_told_when_the_last_handle_goes() -> None:
    bench = Bench()
    node, client, ref = bench.node("a"), bench.client(), ref_of()
    hold(client, ref)
    submit(client, ref)
    fetch = ask(node, ref)
    let_go(client, ref)
    assert told(bench, fetch).error == "its client has released it"


def test_a_young_gateway_waits_for_who_has_it_and_not_for_ever() -> None:
    bench = Bench(grace_s=5.0)
    nodes, client, ref = [bench.node("a"), bench.node("b")], bench.client(), ref_of(node_id="a")
    hold(client, ref)
    has(nodes[0], ref)
    bench.restart()
    client.connect()
    fetch = ask(client, ref)
    assert not bench.chunks
    nodes[0].connect()
    assert asked(nodes[0]) == [fetch.transfer_id]
    bench.restart()
    client.connect()
    fetch = ask(client, ref)
    bench.pass_time(5.5)
    assert told(bench, fetch).error == "nobody connected here has it"


def test_a_call_goes_where_its_values_are_and_elsewhere_when_that_node_is_busy() -> None:
    for strategy in ("smart_adaptive", "round_robin", "resource_aware", "latency_based", "cost_aware"):
        bench = Bench(default_strategy=strategy)
        nodes, client, ref = [bench.node("a"), bench.node("b")], bench.client(), ref_of(100 * MIB)
        hold(client, ref)
        has(nodes[1], ref)
        for _ in range(3):
            call_id = submit(client, ref)
            assert finish(nodes[1], client) == call_id, strategy
        submit(client, ref)
        submit(client, ref)
        there = (
            [0, 1] if strategy == "smart_adaptive" else [1, 1]
        )  # which knows that the call ends before the value comes
        assert [len(node.core._running) for node in nodes] == there, strategy


def test_smart_adaptive_weighs_the_way_of_values_against_the_time_of_a_call() -> None:
    bench = Bench()
    slow, fast, client = bench.node("slow"), bench.node("fast"), bench.client()
    for node, run_s in ((slow, 10.0), (fast, 1.0)):
        bench.broker._placing.nodes[node.name].learn("f", run_s)
        bench.broker._placing.nodes[node.name].last_used = 1
    small, large = ref_of(int(0.1 * ASSUMED_BYTES_PER_S)), ref_of(int(30 * ASSUMED_BYTES_PER_S))
    for ref in (small, large):
        hold(client, ref)
        has(slow, ref)
    call_id = submit(client, small)
    assert finish(fast, client) == call_id
    call_id = submit(client, large)
    assert finish(slow, client) == call_id


def test_a_call_rather_waits_for_a_busy_node_than_for_its_values_but_not_longer_than_they_would_take() -> None:
    bench = Bench()
    nodes, client, large = [bench.node("a"), bench.node("b")], bench.client(), ref_of(int(30 * ASSUMED_BYTES_PER_S))
    hold(client, large)
    has(nodes[1], large)
    for node in bench.broker._placing.nodes.values():
        node.learn("f", 1.0)
    first = submit(client, large)
    second = submit(client, large)
    assert not nodes[0].started()
    assert finish(nodes[1], client) == first
    assert nodes[1].only_started().call_id == second
    third = submit(client, large)
    bench.pass_time(29)
    assert not nodes[0].started()
    bench.pass_time(2)
    assert nodes[0].only_started().call_id == third


def test_many_calls_do_not_all_wait_for_the_one_node_that_has_their_values() -> None:
    bench = Bench()
    nodes, client, large = [bench.node("a"), bench.node("b")], bench.client(), ref_of(int(30 * ASSUMED_BYTES_PER_S))
    hold(client, large)
    has(nodes[1], large)
    for node in bench.broker._placing.nodes.values():
        node.learn("f", 1.0)
    for _ in range(20):
        submit(client, large)
    assert not nodes[0].started()
    for _ in range(15):
        submit(client, large)
    assert len(nodes[0].started()) == 1


def test_what_is_beyond_the_bound_is_not_known() -> None:
    bench = Bench()
    client = bench.client()
    handles = [pb.Handle(ref_id=new_id()) for _ in range(MAX_REFS + 5)]
    client.send(pb.Frame(handles=pb.Handles(held=handles)), pb.Frame(handles=pb.Handles(held=[pb.Handle(ref_id=b"x")])))
    assert known(bench) == MAX_REFS
    client.send(pb.Frame(handles=pb.Handles(complete=True)))
    assert known(bench) == 0


IDS = [bytes([n]) * 16 for n in range(4)]


@settings(deadline=None)
@given(st.lists(st.tuples(st.integers(0, 7), st.integers(0, 1), st.integers(0, 3), st.booleans()), max_size=60))
def test_any_sequence_leaves_a_state_that_agrees_with_itself(steps: list[tuple[int, int, int, bool]]) -> None:
    bench = Bench()
    clients = [bench.client(), bench.client()]
    nodes = [bench.node("a"), bench.node("b")]
    sessions = list(bench.broker._sessions.values())
    sent: list[tuple[Session, pb.Frame]] = []
    values = Values(lambda session, frame: sent.append((session, frame)), lambda ref_id: None, 10.0)
    of_clients, of_nodes = sessions[: len(clients)], sessions[len(clients) :]
    assert len(of_nodes) == len(nodes)
    now = 0.0
    for step, index, number, flag in steps:
        client, node, ref_id = of_clients[index], of_nodes[index], IDS[number]
        now += 1.0
        if step == 0:
            values.handles(client, pb.Handles(held=[pb.Handle(ref_id=ref_id, has_value=flag)], complete=flag), now)
        elif step == 1:
            values.handles(client, pb.Handles(released=[ref_id]), now)
        elif step == 2:
            held = [pb.HeldValue(ref_id=ref_id, size_bytes=5, pending=flag, fetch_s=0.1)]
            values.changed(node, pb.HeldValues(held=held), now)
        elif step == 3:
            values.changed(node, pb.HeldValues(dropped=[ref_id]), now)
        elif step == 4:
            values.node_came(node, [pb.HeldValue(ref_id=ref_id)] if flag else [], now)
        elif step == 5:
            values.session_left(client if flag else node, now)
        elif step == 6:
            source = values.source(ref_id, node)
            assert source is not node
            if source is not None and flag:
                values.fails(source, ref_id, now)
                assert values.source(ref_id, node) is not source
        else:
            values.tick(now)
        values.check(sessions)
    for session in sessions:
        values.session_left(session, now)
    values.check(sessions)
    assert not len(values) and not values._of and not values._unclaimed
