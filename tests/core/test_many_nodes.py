"""What is kept in order, so that many nodes and many calls cost no more than few, agrees with looking at all of them."""

import math
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyremote.core.alarms import Alarms
from easyremote.core.placing import Placing, queue_key
from easyremote.core.pools import FEW, MAX_RANKINGS
from easyremote.core.queues import Queues
from easyremote.core.records import MAX_HELD_ACKS, Call, Node, Session
from easyremote.core.strategies import LeastLoaded, known_strategies, make_strategy, register_strategy
from easyremote.core.transitions import CallState
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, NodePeer, new_id, spec

STRATEGIES = known_strategies()


def some_node(name: str, slots: int = 2, price: float = 1.0) -> Node:
    return Node(name, Session(new_id(), pb.ROLE_NODE, pb.Runtime(), 1, 0.0, 0.0, 0.0), slots, price, {})


def some_call(order: int = 0, function: str = "f", **options: object) -> Call:
    submit = pb.Submit(call_id=new_id(), function=function, options=pb.Options(**options))  # type: ignore[arg-type]
    frame = pb.Frame(submit=submit)
    return Call(submit.call_id, queue_key(submit), frame, frame.submit, None, CallState.QUEUED, 0.0, order)


def best(placing: Placing, call: Call) -> Node | None:
    """What looking at every node comes to."""
    name = call.submit.options.strategy or "smart_adaptive"
    ready = [node for node in placing.nodes.values() if call.key.function in node.offers and node.has_credit]
    return make_strategy(name).choose(call.key.function, ready) if ready else None  # type: ignore[return-value]


@given(seed=st.integers(0, 10**6), count=st.integers(FEW + 1, 3 * FEW))
@settings(deadline=None)
def test_a_node_is_chosen_as_if_all_were_looked_at(seed: int, count: int) -> None:
    rng = Random(seed)
    placing = Placing("smart_adaptive")
    nodes = [some_node(f"n{i}", rng.randint(1, 3), rng.choice([0.0, 1.0, 2.5])) for i in range(count)]
    used = 0

    def offer(node: Node) -> None:
        placing.take_offers(node, [spec(name) for name in ("f", "g") if rng.random() < 0.9])

    def step(node: Node) -> None:
        nonlocal used
        what = rng.choice(
            ["ends", "ends", "learns", "comes or goes", "offers", "leaves", "call", "call", "call", "call"]
        )
        if what == "ends" and node.running_count:
            node.running_count -= 1
        elif what == "learns":
            node.learn(rng.choice("fg"), rng.choice([1e-4, 0.01, 1.0]))
        elif what == "comes or goes":
            node.session.conn = None if node.session.conn else 1
        elif what == "offers":
            offer(node)
        elif what == "leaves" and rng.random() < 0.2:
            placing.remove(node)
        elif what == "call":
            call = some_call(function=rng.choice("fg"), strategy=rng.choice(STRATEGIES))
            placing.batch_begins()
            chosen = placing.choose(call)
            assert chosen is best(placing, call)
            if chosen is not None:
                used += 1
                chosen.last_used, node = used, chosen
                node.running_count += 1
        placing.changed(node)
        placing.check()

    for node in nodes:
        placing.add(node)
        offer(node)
    for _ in range(100):
        step(rng.choice(nodes))


def calls_of(nodes: list[NodePeer]) -> list[int]:
    """How many calls each got since the last time."""
    return [len(node.started()) for node in nodes]


def nodes_that_ran(bench: Bench, client: ClientPeer, took_s: float) -> list[NodePeer]:
    """More than a few nodes, each of which has run a call for so long."""
    nodes = [bench.node(f"n{i}", slots=4) for i in range(FEW + 1)]
    for node in nodes:
        client.submit(node_id=node.name)
        attempt = node.only_started()
        bench.now += took_s
        node.result(attempt)
        client.taken(client.events()[0])
    return nodes


@pytest.mark.parametrize(
    ("took_s", "expected"), [(5e-5, [4, 2, 0]), (1e-4, [3, 3, 0]), (3e-4, [1] * 6), (0.1, [1] * 6)]
)
def test_very_short_calls_that_come_together_go_to_few_nodes(took_s: float, expected: list[int]) -> None:
    bench = Bench()
    client = bench.client()
    nodes = nodes_that_ran(bench, client, took_s)
    for _ in range(6):
        client.submit(settle=False)
    bench.settle()
    assert calls_of(nodes)[: len(expected)] == expected


def test_short_calls_that_come_one_by_one_or_by_another_strategy_go_round() -> None:
    bench = Bench()
    client = bench.client()
    nodes = nodes_that_ran(bench, client, 5e-5)
    for _ in range(3):
        client.submit()
    for _ in range(3):
        client.submit(settle=False, strategy="round_robin")
    bench.settle()
    assert calls_of(nodes) == [1] * 6 + [0] * 3


# ---- acknowledgements ------------------------------------------------------------------------------------------------


def test_acknowledgements_of_short_calls_go_with_the_next_frame_to_their_node_or_soon() -> None:
    bench = Bench()
    node, client = bench.node("n"), bench.client()

    def run_one() -> None:
        client.submit()
        attempt = node.only_started()
        bench.now += 1e-4
        node.result(attempt)
        client.taken(client.events()[0])

    run_one()
    assert node.core.held_count == 1
    run_one()
    assert node.core.held_count == 1
    bench.pass_time(0.25)
    assert node.core.held_count == 0


def test_many_acknowledgements_do_not_wait() -> None:
    bench = Bench()
    node, client = bench.node("n", slots=MAX_HELD_ACKS + 1), bench.client()
    for _ in range(MAX_HELD_ACKS + 1):
        client.submit(settle=False)
    bench.settle()
    bench.now += 1e-4
    for attempt in node.started():
        node.result(attempt)
    for event in client.events():
        client.taken(event)
    assert node.core.held_count < MAX_HELD_ACKS


def test_acknowledgements_that_waited_for_a_node_that_comes_back_are_lost() -> None:
    bench = Bench(grace_s=1.0)
    node, client = bench.node("n"), bench.client()
    client.submit()
    attempt = node.only_started()
    bench.now += 1e-4
    node.result(attempt)
    client.taken(client.events()[0])
    node.connect()
    assert node.received[0].HasField("welcome")
    assert node.core.held_count == 1
    bench.pass_time(2)
    assert node.core.held_count == 0
    assert bench.broker.leftovers() == []


# ---- what is kept in order -------------------------------------------------------------------------------------------


def test_strategies_beyond_those_that_are_kept_in_order_are_looked_for() -> None:
    placing = Placing("cost_aware")
    names = [f"f{i}" for i in range(MAX_RANKINGS + 2)]
    for i in range(FEW + 1):
        node = some_node(f"n{i}", price=1.0 + abs(i - 5))
        placing.add(node)
        placing.take_offers(node, map(spec, names))
        for name in names:
            node.learn(name, 1.0)
    chosen = [placing.choose(some_call(function=name)) for name in names]
    assert {node.node_id for node in chosen if node is not None} == {"n5"}
    placing.check()


def test_a_strategy_of_ones_own_still_sees_every_node(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    class Last:
        def choose(self, function: str, offers: list[Node]) -> Node:
            seen.append(len(offers))
            return offers[-1]

    monkeypatch.setattr("easyremote.core.strategies._FACTORIES", {"least": LeastLoaded})
    register_strategy("last", Last)  # type: ignore[arg-type]
    bench = Bench(default_strategy="last")
    nodes = [bench.node(f"n{i}") for i in range(FEW + 3)]
    client = bench.client()
    client.submit(), client.submit()
    assert [len(node.started()) for node in nodes] == [0] * (FEW + 1) + [1, 1]
    assert seen == [FEW + 3, FEW + 2]


def test_a_node_that_was_away_is_chosen_again() -> None:
    bench = Bench()
    nodes = [bench.node(f"n{i}") for i in range(FEW + 1)]
    client = bench.client()
    for node in nodes:
        node.cut()
    waiting = client.submit()
    nodes[3].connect()
    assert nodes[3].only_started().call_id == waiting
    client.submit()
    nodes[5].connect()
    nodes[5].only_started()


@given(seed=st.integers(0, 10**6))
@settings(deadline=None)
def test_queues_lead_each_node_to_the_calls_that_wait_for_it(seed: int) -> None:
    rng = Random(seed)
    queues = Queues()
    waiting: list[Call] = []
    node = some_node("n1")
    node.offers = {name: spec(name) for name in ("f0", "f1")[: rng.randint(0, 2)]}
    for order in range(60):
        if waiting and rng.random() < 0.4:
            call = waiting.pop(rng.randrange(len(waiting)))
            queues.remove(call)
        else:
            call = some_call(order, f"f{rng.randint(0, 5)}", node_id=rng.choice(["", "n1", "n2"]))
            in_front = rng.random() < 0.2
            (queues.push_front if in_front else queues.push)(call)
            waiting.insert(0 if in_front else len(waiting), call)
        queues.check()
        heads = {key: next(call for call in waiting if call.key == key) for key in {call.key for call in waiting}}
        assert {key: queues.head(key) for key in queues.by_key} == heads
        wanted = {c.order for c in heads.values() if c.key.function in node.offers and c.key.node_id in ("", "n1")}
        assert (
            wanted <= {line.head().order for line in queues.lines_for(node)} <= {call.order for call in heads.values()}
        )
        assert len(queues) == len(waiting)


@given(seed=st.integers(0, 10**6))
@settings(deadline=None)
def test_calls_are_looked_at_when_they_are_due(seed: int) -> None:
    rng = Random(seed)
    calls: dict[bytes, Call] = {}
    alarms = Alarms(calls)
    for step in range(200):
        now = step / 10
        call = some_call(step)
        call.deadline = rng.choice([None, now + rng.random(), math.inf, math.nan])
        call.queue_deadline = rng.choice([None, now + rng.random()])
        call.hold_until = rng.choice([None, now + rng.random()])
        calls[call.call_id] = call
        alarms.set(call)
        if rng.random() < 0.3:
            calls.pop(rng.choice(list(calls)))
        due = [call for call in calls.values() if call.due <= now]
        assert alarms.ring(now) == due
        for call in due:
            del calls[call.call_id]
        alarms.check()


def test_alarms_of_calls_that_ended_long_before_their_time_are_not_kept() -> None:
    calls: dict[bytes, Call] = {}
    alarms = Alarms(calls)
    for order in range(5000):
        call = some_call(order)
        call.deadline = 1e6
        calls[call.call_id] = call
        alarms.set(call)
        del calls[call.call_id]
    assert len(alarms._heap) < 2000
