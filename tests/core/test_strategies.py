"""What each strategy prefers, and that no call waits for ever when one would rather wait."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyremote.core import strategies
from easyremote.core.placing import MAX_DECLINED
from easyremote.core.pools import FEW, MAX_RANKINGS
from easyremote.core.records import Node, Session
from easyremote.core.strategies import Offer, Ranked, make_strategy
from easyremote.testing.fleet import Fleet, Machine, Outcome, Work
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, NodePeer, new_id

BUILT_IN = ["round_robin", "resource_aware", "latency_based", "cost_aware", "smart_adaptive"]


@pytest.fixture(autouse=True)
def own_names(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is known in it alone."""
    monkeypatch.setattr(strategies, "_FACTORIES", dict(strategies._FACTORIES))


def node_of(name: str = "n", slots: int = 1, price: float = 1.0) -> Node:
    return Node(name, Session(new_id(), pb.ROLE_NODE, pb.Runtime(), 1, 0.0, 0.0, 0.0), slots, price, {})


def knowing(name: str, seconds: float, times: int = 1, slots: int = 1) -> Node:
    """A node where `f` has taken so long."""
    node = node_of(name, slots)
    for _ in range(times):
        node.learn("f", seconds)
    return node


def chosen(strategy: str, *nodes: Node) -> str:
    picked = make_strategy(strategy).choose("f", nodes)
    assert picked is not None
    return picked.node_id


def run_one(
    client: ClientPeer,
    nodes: Sequence[NodePeer],
    takes_s: float | dict[str, float] = 0.1,
    failing: Sequence[str] = (),
    code: str = "remote",
) -> str:
    """Make one call and end it, with an error of this code on the nodes that are failing. Tells which node had it."""
    client.submit()
    ((node, attempt),) = [(node, attempt) for node in nodes for attempt in node.started()]
    client.bench.now += takes_s if isinstance(takes_s, float) else takes_s[node.name]
    if node.name in failing:
        node.emit(attempt, pb.Event(error=pb.ErrorInfo(code=code)))
    else:
        node.result(attempt)
    for event in client.events():
        client.taken(event)
    return node.name


# ---- resource_aware --------------------------------------------------------------------------------------------------


def report(node: NodePeer, **load: object) -> None:
    node.send(pb.Frame(load=pb.Load(**load)))  # type: ignore[arg-type]
    node.bench.pass_time(0.25)


@pytest.mark.parametrize(
    "load",
    [{"cpu_percent": 95.0}, {"memory_used_bytes": 15 << 30, "memory_total_bytes": 16 << 30}],
    ids=["cpu", "memory"],
)
def test_resource_aware_avoids_a_machine_that_is_busy_with_something_else(load: dict[str, object]) -> None:
    bench = Bench(default_strategy="resource_aware")
    nodes = [bench.node("busy", slots=4), bench.node("idle", slots=4)]
    client = bench.client()
    report(nodes[0], **load)
    for _ in range(4):
        client.submit()
    assert [len(node.started()) for node in nodes] == [0, 4]
    report(nodes[0], cpu_percent=3.0, memory_used_bytes=1, memory_total_bytes=2)
    client.submit()
    assert [len(node.started()) for node in nodes] == [1, 0]


def test_all_nodes_of_a_machine_are_as_loaded_as_it_is() -> None:
    bench = Bench(default_strategy="resource_aware")
    nodes = [bench.node("a"), bench.node("b")]
    for node in nodes:
        bench.broker._placing.nodes[node.name].host = "one host"
    report(nodes[0], cpu_percent=90.0)
    client = bench.client()
    assert {run_one(client, nodes) for _ in range(2)} == {"a", "b"}


def test_a_node_that_reports_a_nonsense_load_counts_as_idle() -> None:
    bench = Bench(default_strategy="resource_aware")
    nodes = [bench.node("n")]
    for cpu in (float("nan"), float("inf"), -5.0, 1e300):
        report(nodes[0], cpu_percent=cpu, memory_used_bytes=1 << 60, memory_total_bytes=1)
        assert bench.broker._placing.nodes["n"].pressure == 0


def test_the_load_of_machines_that_are_gone_is_forgotten() -> None:
    bench = Bench()
    for i in range(50):
        node = bench.node(f"n{i}")
        report(node, cpu_percent=50.0)
        node.core.goodbye("done")
        bench.settle()
    assert len(bench.broker._placing._pressures) <= 20


# ---- latency_based ---------------------------------------------------------------------------------------------------


def test_latency_based_leaves_a_node_that_stalls_and_comes_back_to_it() -> None:
    bench = Bench(default_strategy="latency_based")
    nodes = [bench.node("a"), bench.node("b")]
    client = bench.client()
    takes = {"a": 5.0, "b": 0.1}
    assert [run_one(client, nodes, takes) for _ in range(6)] == ["a", "b", "b", "b", "b", "b"]
    bench.pass_time(60)
    takes["a"] = 0.1
    assert "a" in [run_one(client, nodes, takes) for _ in range(4)]


def test_latency_follows_a_slow_call_at_once_and_fast_ones_slowly() -> None:
    bench = Bench()
    peer, client = bench.node("n"), bench.client()
    node = bench.broker._placing.nodes["n"]
    run_one(client, [peer], 0.1)
    run_one(client, [peer], 2.0)
    assert node.latency_s("f") == pytest.approx(2.0)
    run_one(client, [peer], 0.1)
    assert 1.5 < node.latency_s("f") < 1.7
    bench.pass_time(20)
    assert node.latency_s("f") < 0.5


# ---- smart_adaptive: preferences -------------------------------------------------------------------------------------


def test_smart_adaptive_tries_each_node_once_and_then_takes_the_fastest() -> None:
    bench = Bench()
    nodes = [bench.node("slow"), bench.node("fast"), bench.node("medium")]
    client = bench.client()
    takes = {"slow": 0.8, "fast": 0.1, "medium": 0.4}
    served = [run_one(client, nodes, takes) for _ in range(10)]
    assert served[:3] == ["slow", "fast", "medium"]
    assert set(served[3:]) == {"fast"}


def test_while_a_node_is_being_tried_others_that_are_known_come_first() -> None:
    new, known = node_of("new", slots=4), knowing("known", 1.0, slots=4)
    assert chosen("smart_adaptive", known, new) == "new"
    new.trying.add("f")
    new.running_count = 1
    assert chosen("smart_adaptive", known, new) == "known"


def test_equal_nodes_take_turns_whatever_noise_says() -> None:
    bench = Bench()
    nodes = [bench.node(f"n{i}") for i in range(3)]
    client = bench.client()
    rng = Random(1)
    served = [run_one(client, nodes, rng.uniform(0.001, 0.015)) for _ in range(30)]
    assert {name: served.count(name) for name in served} == {"n0": 10, "n1": 10, "n2": 10}


def test_a_node_whose_calls_wait_there_is_as_slow_as_they_make_it() -> None:
    fast, slow = knowing("fast", 1.0), knowing("slow", 1.5)
    assert chosen("smart_adaptive", slow, fast) == "fast"
    fast.running_count = 1
    assert chosen("smart_adaptive", slow, fast) == "slow"


def test_a_few_very_long_runs_hardly_change_what_is_typical() -> None:
    node = knowing("n", 1.0, times=20)
    node.learn("f", 1000.0)
    assert node.expected_s("f") > 100
    assert node.typical_s("f") < 1.6


def test_durations_that_vary_leave_more_doubt_than_those_that_do_not_and_many_less_than_few() -> None:
    def width(*durations: float) -> float:
        node = node_of()
        for seconds in durations:
            node.learn("f", seconds)
        low, high = node.typical_range_s("f")
        assert low < node.typical_s("f") < high
        return high / low

    assert width(1.0) > width(1.0, 1.0) > width(*[1.0] * 10)
    assert width(*[0.3, 3.0] * 10) > 2 * width(*[1.0] * 20)
    assert node_of().typical_range_s("f") == (0.0, float("inf"))


def test_a_node_that_was_long_unused_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easyremote.core.placing.OUT_OF_SIGHT", 10)
    bench = Bench()
    nodes = [bench.node("was slow"), bench.node("fast")]
    client = bench.client()
    takes = {"was slow": 1.0, "fast": 0.1}
    for _ in range(22):
        run_one(client, nodes, takes)
    takes["was slow"] = 0.001
    bench.pass_time(0.25)
    assert run_one(client, nodes, takes) == "was slow"
    assert run_one(client, nodes, takes) == "was slow"  # since it is the faster one now


def test_it_is_tried_again_just_once_where_it_is_still_slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easyremote.core.placing.OUT_OF_SIGHT", 10)
    bench = Bench()
    nodes = [bench.node("slow"), bench.node("fast")]
    client = bench.client()
    served = []
    for _ in range(30):
        served.append(run_one(client, nodes, {"slow": 1.0, "fast": 0.1}))
        bench.pass_time(0.25)
    assert served.count("slow") == 2


# ---- smart_adaptive: nodes that fail ---------------------------------------------------------------------------------


def test_a_node_whose_calls_fail_is_avoided_and_tried_again_when_that_has_faded() -> None:
    bench = Bench()
    nodes = [bench.node("broken"), bench.node("sound")]
    client = bench.client()

    takes = {"broken": 0.01, "sound": 0.5}
    served = [run_one(client, nodes, takes, failing=["broken"]) for _ in range(20)]
    assert served.count("broken") == 2
    assert set(served[4:]) == {"sound"}
    bench.pass_time(40)
    assert "broken" in [run_one(client, nodes, takes) for _ in range(2)]


def test_what_a_failed_run_took_counts_only_until_one_succeeds() -> None:
    node = node_of()
    node.learn("f", 0.001, failed=True)
    node.learn("f", 0.002, failed=True)
    assert node.expected_s("f") == 0.001
    node.learn("f", 3.0)
    node.learn("f", 0.001, failed=True)
    assert (node.expected_s("f"), node.typical_s("f")) == pytest.approx((3.0, 3.0))


def test_failures_of_one_function_do_not_keep_others_away() -> None:
    bench = Bench()
    node = bench.node("n", "f", "g")
    client = bench.client()
    for _ in range(5):
        run_one(client, [node], failing=["n"])
    there = bench.broker._placing.nodes["n"]
    assert there.failing("f") > 0.7
    assert there.failing("g") == 0


@pytest.mark.parametrize("code", ["cancelled", "deadline"])
def test_calls_that_were_ended_from_outside_are_no_failures(code: str) -> None:
    bench = Bench()
    node, client = bench.node("n"), bench.client()
    for _ in range(5):
        run_one(client, [node], failing=["n"], code=code)
    assert bench.broker._placing.nodes["n"].failing("f") == 0


def test_a_node_that_was_lost_with_its_calls_comes_back_with_less_trust() -> None:
    bench = Bench(grace_s=1.0)
    crashing = bench.node("crashing")
    client = bench.client()
    for _ in range(3):
        client.submit(retries=0)
        bench.settle()
        crashing.started()
        crashing.cut()
        bench.pass_time(2)
        crashing = bench.node("crashing")
    assert bench.broker._placing.nodes["crashing"].failing("f") > 0.4
    bench.node("sound")
    client.verdicts()
    assert run_one(client, [crashing, *bench_nodes(bench, "sound")]) == "sound"
    bench.pass_time(300)
    assert bench.broker._placing.nodes["crashing"].failing("f") == 0


def bench_nodes(bench: Bench, *names: str) -> list[NodePeer]:
    return [peer for peer in bench.peers if isinstance(peer, NodePeer) and peer.name in names]


def test_what_is_held_against_nodes_that_are_gone_fades_too() -> None:
    bench = Bench(grace_s=1.0)
    client = bench.client()
    node = bench.node("n")
    client.submit(retries=0)
    node.cut()
    bench.pass_time(2)
    assert bench.broker._placing._lost
    bench.pass_time(200)
    assert not bench.broker._placing._lost


def test_where_every_node_fails_none_is_waited_for() -> None:
    bench = Bench()
    nodes = [bench.node("a"), bench.node("b")]
    client = bench.client()
    for _ in range(10):
        run_one(client, nodes, failing=["a", "b"])
    client.submit()
    client.submit()
    assert [len(node.started()) for node in nodes] == [1, 1]


# ---- smart_adaptive: waiting -----------------------------------------------------------------------------------------


def fast_and_slow(bench: Bench, client: ClientPeer) -> tuple[NodePeer, NodePeer]:
    """What both take is known: 1 s and 10 s."""
    fast, slow = bench.node("fast"), bench.node("slow")
    for node, seconds in ((fast, 1.0), (slow, 10.0)):
        for _ in range(3):
            client.submit(node_id=node.name)
            attempt = node.only_started()
            bench.now += seconds
            node.result(attempt)
            client.taken(client.events()[0])
    return fast, slow


def test_a_call_rather_waits_for_a_fast_node_than_goes_to_a_slow_one() -> None:
    bench = Bench()
    client = bench.client()
    fast, slow = fast_and_slow(bench, client)
    client.submit()
    waiting = client.submit()
    bench.pass_time(0.9)
    assert slow.started() == []
    fast.result(fast.only_started())
    assert fast.only_started().call_id == waiting
    assert slow.started() == []


def test_when_many_wait_a_slow_node_does_its_share() -> None:
    bench = Bench()
    client = bench.client()
    fast, slow = fast_and_slow(bench, client)
    for _ in range(20):
        client.submit()
    assert [len(fast.started()), len(slow.started())] == [1, 1]


def test_when_the_fast_node_takes_longer_than_it_should_the_call_goes_to_the_slow_one() -> None:
    bench = Bench()
    client = bench.client()
    _, slow = fast_and_slow(bench, client)
    client.submit()
    waiting = client.submit()
    bench.pass_time(12)
    assert slow.only_started().call_id == waiting


@pytest.mark.parametrize("how", ["cut", "goodbye"])
def test_when_the_fast_node_goes_the_call_goes_to_the_slow_one(how: str) -> None:
    bench = Bench(grace_s=1.0)
    client = bench.client()
    fast, slow = fast_and_slow(bench, client)
    client.submit()
    client.submit()
    if how == "cut":
        fast.cut()
    else:
        fast.core.goodbye("done")
    bench.settle()
    assert len(slow.started()) == 1


def test_when_more_calls_come_the_first_goes_to_the_slow_node() -> None:
    bench = Bench()
    client = bench.client()
    _, slow = fast_and_slow(bench, client)
    client.submit()
    first = client.submit()
    assert slow.started() == []
    for _ in range(12):
        client.submit()
    assert slow.only_started().call_id == first


def test_a_call_that_waited_as_long_as_the_slow_node_would_take_waits_no_more() -> None:
    strategy = make_strategy("smart_adaptive")
    assert isinstance(strategy, Ranked)
    slow, fast = knowing("slow", 10.0, times=5), knowing("fast", 1.0, times=5)
    assert strategy.waits("f", slow, [fast], 1, 9.0, 100.0)
    assert not strategy.waits("f", slow, [fast], 1, 11.0, 100.0)


def test_a_call_that_is_to_wait_only_so_long_takes_what_there_is_before_that_is_over() -> None:
    bench = Bench()
    client = bench.client()
    _, slow = fast_and_slow(bench, client)
    client.submit()
    waiting = client.submit(queue_timeout_s=3.0)
    bench.pass_time(1.5)
    assert slow.started() == []
    bench.pass_time(1.25)
    assert slow.only_started().call_id == waiting


def test_nobody_waits_where_durations_leave_doubt_about_who_is_faster() -> None:
    strategy = make_strategy("smart_adaptive")
    assert isinstance(strategy, Ranked)
    first, second = node_of("a"), node_of("b")
    for seconds in (0.5, 4.0, 1.0, 2.0):
        first.learn("f", seconds)
        second.learn("f", seconds / 2)
    assert not strategy.waits("f", first, [second], 1, 0.0, 100.0)


def test_a_call_waits_for_a_sound_node_rather_than_goes_to_one_that_fails_but_not_for_ever() -> None:
    strategy = make_strategy("smart_adaptive")
    assert isinstance(strategy, Ranked)
    broken, sound = knowing("broken", 0.001), knowing("sound", 1.0)
    broken.failures["f"] = 0.9
    assert strategy.may_wait("f", broken)
    assert strategy.waits("f", broken, [sound], 1, 0.0, 100.0)
    assert not strategy.waits("f", broken, [sound], 1, 61.0, 100.0)
    sound.failures["f"] = 0.9
    assert not strategy.waits("f", broken, [sound], 1, 0.0, 100.0)


def test_of_many_nodes_too_a_call_waits_for_a_fast_one() -> None:
    bench = Bench()
    client = bench.client()
    fast, slow = fast_and_slow(bench, client)
    others = [bench.node(f"other {i}", "g") for i in range(FEW)]
    crowd = [bench.node(f"slow {i}") for i in range(FEW)]
    for node in crowd:
        for _ in range(3):
            client.submit(node_id=node.name)
            attempt = node.only_started()
            bench.now += 10.0
            node.result(attempt)
            client.taken(client.events()[0])
    client.submit()
    waiting = client.submit()
    assert [len(node.started()) for node in (slow, *crowd, *others)] == [0] * (1 + 2 * FEW)
    bench.now += 1
    fast.result(fast.only_started())
    assert fast.only_started().call_id == waiting


def test_only_so_many_functions_may_wait_by_choice_and_the_fastest_nodes_of_so_many_are_remembered() -> None:
    bench = Bench()
    client = bench.client()
    names = [f"f{i}" for i in range(MAX_DECLINED + 2)]
    nodes = [bench.node(f"n{i}", *names, slots=1 if i == 0 else 64) for i in range(FEW + 1)]
    known = bench.broker._placing.nodes
    for name in names:
        for node in nodes:
            for _ in range(5):
                known[node.name].learn(name, 1.0 if node is nodes[0] else 50.0)
    client.submit(names[0], node_id="n0")
    nodes[0].only_started()
    bench.now += 0.5
    for name in names:
        client.submit(name)
    assert len(bench.broker._placing.declined) == MAX_DECLINED
    assert sum(len(node.started()) for node in nodes) == 2
    (pool,) = {id(pool): pool for pool in bench.broker._placing._pools.values() if len(pool.nodes) > FEW}.values()
    assert len(pool._fastest) <= MAX_RANKINGS


# ---- a strategy of one's own that waits ------------------------------------------------------------------------------


class Picky:
    """Takes the node called good, or none."""

    asked = 0

    def choose(self, function: str, offers: Sequence[Offer]) -> Offer | None:
        Picky.asked += 1
        return next((offer for offer in offers if offer.node_id == "good"), None)


@pytest.fixture
def picky() -> Bench:
    strategies.register_strategy("picky", Picky)
    return Bench(default_strategy="picky")


def test_none_lets_a_call_wait_until_something_changes(picky: Bench) -> None:
    good, bad, client = picky.node("good"), picky.node("bad"), picky.client()
    client.submit()
    waiting = client.submit()
    attempt = good.only_started()
    asked = Picky.asked
    picky.pass_time(5)
    assert Picky.asked >= asked + 10
    assert bad.started() == []
    good.result(attempt)
    assert good.only_started().call_id == waiting


def test_none_is_not_heeded_where_no_node_is_at_work(picky: Bench) -> None:
    bad, worse, client = picky.node("bad"), picky.node("worse"), picky.client()
    client.submit()
    assert len(bad.started()) + len(worse.started()) == 1


def test_who_waits_by_choice_gets_what_there_is_when_nothing_is_left_to_wait_for(picky: Bench) -> None:
    good, bad, client = picky.node("good"), picky.node("bad"), picky.client()
    client.submit()
    waiting = client.submit()
    good.core.goodbye("done")
    picky.settle()
    bad.result(bad.only_started())  # the one that was lost
    assert bad.only_started().call_id == waiting
    assert picky.broker._placing.declined == {}


def test_a_node_that_gets_free_is_not_used_against_its_strategy(picky: Bench) -> None:
    good, bad, client = picky.node("good"), picky.node("bad"), picky.client()
    pinned = client.submit(node_id="bad")
    client.submit()
    client.submit()
    attempt = bad.only_started()
    assert attempt.call_id == pinned
    bad.result(attempt)
    assert bad.started() == []
    good.only_started()


def test_a_call_that_waits_by_choice_can_be_cancelled_and_runs_out_of_time(picky: Bench) -> None:
    good, bad, client = picky.node("good"), picky.node("bad"), picky.client()
    client.submit()
    cancelled = client.submit()
    timed = client.submit(queue_timeout_s=1.0)
    client.cancel(cancelled)
    picky.pass_time(2)
    assert client.verdicts()[timed].code == "deadline"
    assert bad.started() == []
    good.result(good.only_started())
    assert picky.broker._placing.declined == {}


# ---- unlike machines -------------------------------------------------------------------------------------------------


def steady(*speeds: float, slots: int = 1) -> list[Machine]:
    return [Machine(((0.0, speed),), slots) for speed in speeds]


def counts(outcomes: Sequence[Outcome]) -> list[int]:
    return [sum(outcome.machine == index for outcome in outcomes) for index in range(4)]


@pytest.mark.parametrize("strategy", BUILT_IN)
def test_unlike_machines_get_calls_in_proportion_to_their_speed_when_there_is_much_to_do(strategy: str) -> None:
    outcomes = Fleet(strategy, steady(1, 2, 4, 8), [Work(0.0, 1.0)] * 300, check_every=5).run()
    assert counts(outcomes) == pytest.approx([20, 40, 80, 160], abs=2)


def test_the_last_call_does_not_go_to_the_slow_machine() -> None:
    """All is done within 1.10 times what the machines need at least; others let the slow one have a last, long call."""
    works = [Work(0.0, 1.0)] * 100

    def makespan_s(strategy: str) -> float:
        return max(outcome.ended_at for outcome in Fleet(strategy, steady(0.2, 2, 4, 8), works).run())

    assert makespan_s("smart_adaptive") <= 1.1 * 100 / 14.2
    assert makespan_s("round_robin") > 1.3 * 100 / 14.2


def test_a_machine_that_became_slow_gets_less() -> None:
    machines = [Machine(((0.0, 8.0), (10.0, 0.5))), Machine(((0.0, 1.0),))]
    works = [Work(0.25 * n, 0.5) for n in range(400)]
    outcomes = Fleet("smart_adaptive", machines, works, check_every=5).run()
    late = [outcome for outcome in outcomes if 20 < outcome.work.at < 60]
    assert sum(outcome.machine == 1 for outcome in late) > 0.6 * len(late)


def test_a_machine_that_fails_fast_does_not_swallow_the_calls() -> None:
    machines = [Machine(((0.0, 1.0),), fails=((10.0, 60.0),)), *steady(1, 1)]
    works = [Work(0.5 * n, 0.5) for n in range(200)]

    def failures(strategy: str) -> int:
        return sum(outcome.failures for outcome in Fleet(strategy, machines, works, check_every=5).run())

    assert failures("smart_adaptive") <= 6
    assert failures("round_robin") <= 12  # its circuit is open most of the time


class Whimsical:
    """Declines at whim."""

    _turns: Iterator[int] = itertools.count()

    def choose(self, function: str, offers: Sequence[Offer]) -> Offer | None:
        turn = next(Whimsical._turns)
        return None if turn % 3 else offers[turn % len(offers)]


class Never:
    """Declines always."""

    def choose(self, function: str, offers: Sequence[Offer]) -> Offer | None:
        return None


@given(st.data())
@settings(deadline=None, max_examples=100)
def test_every_call_ends_whatever_machines_do_and_strategies_want(data: st.DataObject) -> None:
    strategies.register_strategy("whimsical", Whimsical)
    strategies.register_strategy("never", Never)
    rng = Random(data.draw(st.integers(0, 10**6)))
    strategy = data.draw(st.sampled_from([*["smart_adaptive"] * 3, *BUILT_IN, "whimsical", "never"]))
    count = data.draw(st.sampled_from([1, 2, 4, FEW + 2]))

    def spans() -> tuple[tuple[float, float], ...]:
        at = rng.uniform(0.0, 30.0)
        return ((at, at + rng.uniform(0.5, 6.0)),) if rng.random() < 0.3 else ()

    def machine() -> Machine:
        speeds = ((0.0, rng.choice([0.5, 1, 2, 8, 100])), (rng.uniform(1.0, 30.0), rng.choice([0.2, 1, 10])))
        return Machine(speeds, rng.choice([1, 1, 3]), fails=spans(), is_gone=spans(), price=rng.choice([0.0, 1.0, 3.0]))

    works = [
        Work(
            rng.choice([0.0, rng.uniform(0.0, 40.0)]),
            rng.choice([0.001, 0.5, min(rng.paretovariate(1.5), 9.0)]),
            rng.choice("fg"),
        )
        for _ in range(40)
    ]
    outcomes = Fleet(strategy, [machine() for _ in range(count)], works, check_every=3).run(patience_s=3000.0)
    assert all(outcome.ended_at >= outcome.work.at for outcome in outcomes)


@given(st.lists(st.floats(1e-6, 1e6), min_size=1, max_size=30), st.floats(0, 100), st.integers(0, 4))
def test_what_is_told_of_a_node_is_within_what_was_measured(
    durations: list[float], within_s: float, running: int
) -> None:
    node = node_of(slots=4)
    for seconds in durations:
        node.learn("f", seconds)
    low, high = node.typical_range_s("f")
    tolerance = 1 + 1e-9
    assert min(durations) / tolerance <= node.typical_s("f") <= max(durations) * tolerance
    assert low <= node.typical_s("f") <= high
    assert node.could_end("f", within_s, 0.0) <= 4 * within_s / min(durations) * tolerance + 1
    assert node.could_end("unknown", within_s, 0.0) == 0
    node.running_count = running
    assert (node.wait_s > 0) == (running >= 4)
