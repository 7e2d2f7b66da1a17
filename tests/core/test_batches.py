"""Calls that run together: how many of them a node gets, and what they hold there."""

from __future__ import annotations

import pytest

from easyremote.core import rooms
from easyremote.core.node_session import Attempt
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, spec


def together(batch: int, name: str = "f", **needs: int) -> pb.FunctionSpec:
    made = spec(name)
    made.batch = batch
    if needs:
        made.needs.CopyFrom(pb.Needs(**needs))
    return made


@pytest.fixture
def bench() -> Bench:
    return Bench()


def test_a_node_gets_two_batches_whatever_its_slots_are(bench: Bench) -> None:
    node, client = bench.node("n", together(3)), bench.client()
    ids = [client.submit() for _ in range(8)]
    first = node.started()
    assert [attempt.call_id for attempt in first] == ids[:6]
    for attempt in first[:2]:
        node.result(attempt)
    assert [attempt.call_id for attempt in node.started()] == ids[6:]


def test_they_take_no_slot_and_wait_for_none(bench: Bench) -> None:
    node, client = bench.node("n", together(2), "g", slots=1), bench.client()
    plain = client.submit("g")
    batched = [client.submit("f") for _ in range(4)]
    queued = client.submit("g")
    started = node.started()
    assert [attempt.call_id for attempt in started] == [plain, *batched]
    node.result(started[1])
    assert node.started() == []
    node.result(started[0])
    assert node.only_started().call_id == queued


def test_others_get_the_slots_while_batches_are_full(bench: Bench) -> None:
    node, client = bench.node("n", together(1), "g", slots=2), bench.client()
    batched = [client.submit("f") for _ in range(5)]
    plain = [client.submit("g") for _ in range(3)]
    assert [attempt.call_id for attempt in node.started()] == [*batched[:2], *plain[:2]]


def test_a_full_node_leaves_calls_to_another(bench: Bench) -> None:
    nodes, client = [bench.node(name, together(2)) for name in "ab"], bench.client()
    for _ in range(10):
        client.submit()
    assert [len(node.started()) for node in nodes] == [4, 4]


def test_what_the_function_needs_is_held_once_until_its_last_call_ends(bench: Bench) -> None:
    state = pb.NodeState(capacity=pb.Capacity(gpus=[pb.Capacity.Gpu(index=0, memory_bytes=8)]))
    node = bench.node("n", together(2, gpus=1), "g", slots=4, state=state)
    client = bench.client()
    for _ in range(4):
        client.submit("f")
    alone = client.submit("g", needs=pb.Needs(gpus=1))
    started = node.started()
    assert len(started) == 4
    assert [list(attempt.submit.grant.gpus) for attempt in started] == [[0], [], [], []]
    for attempt in started[:3]:
        node.result(attempt)
        assert node.started() == []
    node.result(started[3])
    assert node.only_started().call_id == alone


def test_two_functions_that_need_the_same_gpu_take_turns(bench: Bench) -> None:
    state = pb.NodeState(capacity=pb.Capacity(gpus=[pb.Capacity.Gpu(index=0, memory_bytes=8)]))
    node = bench.node("n", together(2, "f", gpus=1), together(2, "g", gpus=1), slots=4, state=state)
    client = bench.client()
    mine = client.submit("f")
    theirs = client.submit("g")
    first = node.only_started()
    assert first.call_id == mine
    node.result(first)
    assert node.only_started().call_id == theirs


def test_calls_wait_for_a_node_that_could_ever_run_them_and_fail_where_there_is_none(bench: Bench) -> None:
    bench.node("n", together(2, gpus=1))
    client = bench.client()
    client.submit()
    assert client.only_verdict().code == "insufficient_resources"


def test_a_lost_node_gives_everything_back(bench: Bench) -> None:
    node, client = bench.node("n", together(2)), bench.client()
    ids = [client.submit() for _ in range(5)]
    assert len(node.started()) == 4
    other = bench.node("other", together(4))
    assert [attempt.call_id for attempt in other.started()] == ids[4:]
    node.cut()
    bench.pass_time(10)
    assert {attempt.call_id for attempt in other.started()} == set(ids[:4])


def test_after_a_restart_of_the_gateway_they_still_count(bench: Bench) -> None:
    node, client = bench.node("n", together(2), slots=1), bench.client()
    for _ in range(4):
        client.submit()
    started = node.started()
    bench.restart()
    node.connect()
    client.connect()
    more = [client.submit() for _ in range(2)]
    assert node.started() == []
    for attempt in started[:2]:
        node.result(attempt)
    assert [attempt.call_id for attempt in node.started()] == more


def test_a_batch_has_a_bound_and_a_limit_counts_too(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "MAX_BATCH", 16)
    wide, narrow = together(2**31), together(64, "g")
    narrow.max_concurrency = 5
    node, client = bench.node("n", wide, narrow), bench.client()
    for _ in range(2 * 16 + 3):
        client.submit("f")
    assert len(node.started()) == 2 * 16
    for _ in range(6):
        client.submit("g")
    assert len(node.started()) == 5


def test_how_long_their_runs_take_tells_nothing_of_the_slots(bench: Bench) -> None:
    node, client = bench.node("n", together(2), "g", slots=1), bench.client()

    def run(name: str, takes_s: float) -> None:
        client.submit(name)
        attempt = node.only_started()
        bench.now += takes_s
        node.result(attempt)
        for event in client.events():
            client.taken(event)

    run("g", 0.0001)
    before = bench.broker._placing.nodes["n"].prefetch
    assert before > 0
    run("f", 5.0)
    assert bench.broker._placing.nodes["n"].prefetch == before
    assert bench.broker._placing.nodes["n"].typical_s("f") == pytest.approx(5.0)


def test_a_run_says_how_long_it_took(bench: Bench) -> None:
    """The node measures it: a call's own time has its wait for others in it."""
    node, client = bench.node("n", together(2)), bench.client()
    client.submit()
    attempt: Attempt = node.only_started()
    bench.now += 3.0
    node.emit(attempt, pb.Event(result=pb.Payload(), run_s=0.5))
    (event,) = client.events()
    assert event.run_s == 0.5
