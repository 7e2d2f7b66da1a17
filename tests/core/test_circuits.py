"""Nodes on which a function keeps failing rest, and come back by themselves."""

from __future__ import annotations

import pytest

from easyremote.core.circuits import (
    CODE,
    FORGOTTEN_AFTER_S,
    HARD,
    MAX_CIRCUITS,
    MAX_REST_S,
    REST_S,
    SOFT,
    UNSURE,
    Circuits,
    Fault,
    fault_of,
)
from easyremote.testing.fleet import Fleet, Machine, Work
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, NodePeer, new_id

CRASH = pb.ErrorInfo(code="worker_crashed", message="killed by SIGSEGV")
RAISED = pb.ErrorInfo(code="remote", type="ValueError", message="bad row")
STRATEGIES = ["round_robin", "resource_aware", "latency_based", "cost_aware", "smart_adaptive"]


def fail(circuits: Circuits, node: str, error: pb.ErrorInfo, times: int, now: float = 0.0, function: str = "f") -> None:
    for _ in range(times):
        circuits.failed(node, function, new_id(), error, now)
        circuits.check()


def succeed(circuits: Circuits, node: str, times: int = 1, function: str = "f") -> None:
    for _ in range(times):
        circuits.succeeded(node, function)
        circuits.check()


# ---- who is to blame -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "fault"),
    [
        (CRASH, Fault.HARD),
        (pb.ErrorInfo(code="environment_mismatch"), Fault.HARD),
        (pb.ErrorInfo(code="remote", type="RuntimeError", message="CUDA error: device-side assert"), Fault.HARD),
        (pb.ErrorInfo(code="remote", type="torch.cuda.OutOfMemoryError", message="CUDA out of memory."), Fault.HARD),
        (RAISED, Fault.SOFT),
        (pb.ErrorInfo(code="error", message="something"), Fault.SOFT),
        (pb.ErrorInfo(code="cancelled"), Fault.NOBODY),
        (pb.ErrorInfo(code="deadline"), Fault.NOBODY),
        (pb.ErrorInfo(code="bad_arguments"), Fault.NOBODY),
        (pb.ErrorInfo(code="lost", message="its arguments can't be had any more"), Fault.NOBODY),
    ],
)
def test_whom_an_error_speaks_against(error: pb.ErrorInfo, fault: Fault) -> None:
    assert fault_of(error) is fault


def test_failures_of_the_machine_in_a_row_let_it_rest_from_that_function_only() -> None:
    circuits = Circuits()
    fail(circuits, "a", CRASH, HARD - 1)
    succeed(circuits, "a")
    fail(circuits, "a", CRASH, HARD - 1)
    assert not circuits.is_open
    fail(circuits, "a", CRASH, 1)
    assert (circuits.trusts("a", "f"), circuits.trusts("a", "g"), circuits.trusts("b", "f")) == (False, True, True)
    (rest,) = circuits.resting("a", 0.0)
    assert (rest.function, rest.rests_s, rest.is_probed) == ("f", REST_S, False)
    assert "3 calls of 'f' in a row failed there, the last with: killed by SIGSEGV" in rest.reason


def test_exceptions_count_only_where_the_same_function_succeeds_elsewhere() -> None:
    circuits = Circuits()
    fail(circuits, "a", RAISED, 1)
    succeed(circuits, "b", 3)
    fail(circuits, "a", RAISED, SOFT - 2)
    assert not circuits.is_open
    fail(circuits, "a", RAISED, 1)
    assert circuits.concerns("f")


def test_a_function_that_raises_wherever_it_runs_opens_no_circuit() -> None:
    circuits = Circuits()
    for turn in range(200):
        fail(circuits, "abc"[turn % 3], RAISED, 1)
        assert not circuits.is_open


def test_a_function_that_only_one_node_gets_is_tried_elsewhere_and_forgiven_when_it_raises_there_too() -> None:
    circuits = Circuits()
    fail(circuits, "a", RAISED, UNSURE - 1)
    assert not circuits.is_open
    fail(circuits, "a", RAISED, 1)
    assert not circuits.trusts("a", "f")
    fail(circuits, "b", RAISED, HARD)
    assert not circuits.is_open
    fail(circuits, "b", RAISED, 50)
    fail(circuits, "a", RAISED, 50)
    assert not circuits.is_open


def test_an_exception_of_its_own_tells_that_the_node_as_a_whole_is_well() -> None:
    circuits = Circuits()
    circuits.lost("a", 0.0)
    circuits.lost("a", 0.0)
    circuits.tick(REST_S)
    probe = new_id()
    circuits.sent("a", "f", probe)
    circuits.failed("a", "f", probe, RAISED, 2.0)
    circuits.check()
    assert circuits.trusts("a", "g")


def test_exceptions_that_come_everywhere_now_and_then_open_nothing() -> None:
    circuits = Circuits()
    for turn in range(400):  # half of the arguments are bad, whatever the node; runs of bad ones come too
        node = "ab"[turn % 2]
        if (turn * 2654435761 >> 7) % 2:
            fail(circuits, node, RAISED, 1)
        else:
            succeed(circuits, node)
        assert not circuits.is_open


def test_a_function_that_crashes_wherever_it_runs_opens_no_circuit() -> None:
    circuits = Circuits()
    fail(circuits, "a", CRASH, HARD)
    assert circuits.is_open  # nobody else has tried
    fail(circuits, "b", CRASH, HARD)
    assert not circuits.is_open
    for _ in range(20):
        for node in "abc":
            fail(circuits, node, CRASH, 1)
            assert not circuits.is_open


def test_two_broken_nodes_rest_while_a_third_one_succeeds() -> None:
    circuits = Circuits()
    for _ in range(HARD):
        fail(circuits, "a", CRASH, 1)
        fail(circuits, "b", CRASH, 1)
        succeed(circuits, "c", 3)
    assert not circuits.trusts("a", "f")
    assert not circuits.trusts("b", "f")
    assert circuits.trusts("c", "f")


def test_code_of_clients_may_raise_as_often_as_it_likes_but_not_crash() -> None:
    circuits = Circuits()
    succeed(circuits, "b", 9, CODE)
    fail(circuits, "a", RAISED, 50, function=CODE)
    assert not circuits.is_used
    fail(circuits, "a", CRASH, HARD, function=CODE)
    assert not circuits.trusts("a", CODE)
    assert circuits.resting("a", 0.0)[0].function == "code from clients"


def test_failures_of_several_functions_let_the_whole_node_rest() -> None:
    circuits = Circuits()
    for function in ("f", "g", "f", "g"):
        fail(circuits, "a", CRASH, 1, function=function)
    assert not circuits.trusts("a", "h")
    assert not circuits.trusts("a", CODE)
    assert circuits.trusts("b", "f")


def test_a_node_that_vanishes_with_calls_twice_rests_and_a_clean_goodbye_is_forgiven() -> None:
    circuits = Circuits()
    circuits.lost("a", 0.0)
    succeed(circuits, "a")
    circuits.lost("a", 1.0)
    assert not circuits.is_open
    circuits.lost("a", 2.0)
    assert not circuits.trusts("a", "f")
    assert "vanished 2 times" in circuits.resting("a", 2.0)[0].reason
    circuits.forget("a")
    circuits.check()
    assert not circuits.is_used


# ---- resting and trying ----------------------------------------------------------------------------------------------


def test_a_rest_doubles_with_each_probe_that_fails_up_to_a_bound() -> None:
    circuits, now = Circuits(), 0.0
    fail(circuits, "a", CRASH, HARD)
    rests = []
    for _ in range(9):
        rests.append(circuits.resting("a", now)[0].rests_s)
        circuits.tick(now + rests[-1] - 0.001)
        assert not circuits.trusts("a", "f")
        now += rests[-1]
        circuits.tick(now)
        assert circuits.trusts("a", "f")
        probe = new_id()
        circuits.sent("a", "f", probe)
        circuits.check()
        assert not circuits.trusts("a", "f")  # one is enough
        circuits.failed("a", "f", probe, CRASH, now)
        circuits.check()
    assert rests == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, MAX_REST_S, MAX_REST_S, MAX_REST_S]


@pytest.mark.parametrize("code", ["cancelled", "deadline"])
def test_a_probe_that_says_nothing_makes_way_for_another(code: str) -> None:
    circuits = Circuits()
    fail(circuits, "a", CRASH, HARD)
    circuits.tick(REST_S)
    probe = new_id()
    circuits.sent("a", "f", probe)
    circuits.failed("a", "f", probe, pb.ErrorInfo(code=code), 2.0)
    circuits.check()
    assert circuits.trusts("a", "f")


def test_success_closes_it_and_the_next_rest_is_short_again() -> None:
    circuits = Circuits()
    for _ in range(2):
        fail(circuits, "a", CRASH, HARD)
        assert circuits.resting("a", 0.0)[0].rests_s == REST_S
        succeed(circuits, "a")
        assert not circuits.is_used


def test_what_happened_long_ago_is_forgotten_and_the_number_of_circuits_is_bounded() -> None:
    circuits = Circuits()
    for number in range(MAX_CIRCUITS + 10):
        circuits.failed(f"n{number}", "f", new_id(), RAISED, 0.0)
    circuits.check()
    circuits.tick(FORGOTTEN_AFTER_S + 1)
    circuits.check()
    assert not circuits.is_used


# ---- at the gateway --------------------------------------------------------------------------------------------------


def outlook(client: ClientPeer, node_id: str) -> pb.NodeOutlook:
    explanation = client.ask(pb.Query(explain=pb.Submit(function="f"))).explanation
    return next(row for row in explanation.nodes if row.node_id == node_id)


def two_nodes(strategy: str, count: int = 2) -> tuple[Bench, list[NodePeer], ClientPeer]:
    bench = Bench(default_strategy=strategy, grace_s=1.0)
    return bench, [bench.node(name) for name in "abcdefghijklm"[:count]], bench.client()


def work_off(bench: Bench, nodes: list[NodePeer], client: ClientPeer, broken: set[str], count: int) -> list[str]:
    """So many calls, one after the other. Tells where each went."""
    went: list[str] = []
    for _ in range(count):
        client.submit()
        (node, attempt) = next((node, attempt) for node in nodes for attempt in node.started())
        bench.now += 0.05
        went.append(node.name)
        error = pb.ErrorInfo(code="worker_crashed", message="died", node_id=node.name)
        node.emit(attempt, pb.Event(error=error) if node.name in broken else pb.Event(result=pb.Payload(data=b"x")))
        client.taken(client.events()[-1])
    return went


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("count", [2, 12])
def test_a_broken_node_gets_few_calls_under_any_strategy_and_a_mended_one_its_share_again(
    strategy: str, count: int
) -> None:
    bench, nodes, client = two_nodes(strategy, count)
    work_off(bench, nodes, client, set(), 2 * count)
    went = work_off(bench, nodes, client, {"a"}, 60 * count)
    assert went.count("a") <= HARD + 6, went  # in 6 s per node the rest doubles a few times
    for node in nodes:
        assert node.core.held_count == 0
    bench.pass_time(2 * MAX_REST_S)
    for node in nodes:
        node.core.check()
    went = work_off(bench, nodes, client, set(), 30 * count)
    assert went.count("a") >= 5 or strategy == "cost_aware", went
    assert not bench.broker._placing.circuits.is_used


def test_where_all_rest_calls_go_to_the_one_whose_rest_ends_first_and_none_is_refused() -> None:
    bench, (a, b), client = two_nodes("round_robin")
    circuits = bench.broker._placing.circuits
    fail(circuits, "a", CRASH, HARD, bench.now)
    circuits.succeeded("c", "f")
    fail(circuits, "b", CRASH, HARD, bench.now + 0.5)
    bench.settle()
    for _ in range(3):
        client.submit()
    assert (len(a.started()), len(b.started())) == (1, 0)
    client.ask(pb.Query(list_nodes=pb.Query.ListNodes()))
    assert client.verdicts() == {}


def test_calls_that_wait_go_to_a_resting_node_when_the_healthy_one_goes_away() -> None:
    bench, (a, b), client = two_nodes("round_robin")
    circuits = bench.broker._placing.circuits
    fail(circuits, "a", CRASH, HARD, bench.now)
    client.submit()
    client.submit()
    assert (len(a.started()), len(b.started())) == (0, 1)
    b.cut()
    bench.settle()
    assert len(a.started()) == 1


def test_when_the_rest_is_over_one_waiting_call_tries_the_node() -> None:
    bench, (a, b), client = two_nodes("round_robin")
    fail(bench.broker._placing.circuits, "a", CRASH, HARD, bench.now)
    for _ in range(4):
        client.submit()
    assert (len(a.started()), len(b.started())) == (0, 1)
    found = outlook(client, "a")
    assert found.outlook == pb.OUTLOOK_LATER
    assert "it rests for 1.0 s more: 3 calls of 'f' in a row failed there" in found.reason
    bench.pass_time(REST_S + 0.5)
    probe = a.only_started()
    assert "one call tries it now" in outlook(client, "a").reason
    record = next(n for n in client.ask(pb.Query(list_nodes=pb.Query.ListNodes())).nodes if n.node_id == "a")
    assert [(rest.function, rest.is_probed) for rest in record.resting] == [("f", True)]
    a.result(probe)
    assert len(a.started()) == 1  # trusted again


def test_a_node_that_rests_from_everything_says_so() -> None:
    bench, (a, _), client = two_nodes("round_robin")
    for _ in range(2):
        bench.broker._placing.circuits.lost("a", bench.now)
    statuses = {n.node_id: n.status for n in client.ask(pb.Query(list_nodes=pb.Query.ListNodes())).nodes}
    assert statuses == {"a": "resting", "b": "connected"}
    assert a.started() == []


def test_a_node_that_keeps_vanishing_with_calls_rests_when_it_is_back() -> None:
    bench, (a, _), client = two_nodes("round_robin")
    for _ in range(2):
        client.submit(node_id="a", retries=0)
        attempt = a.only_started()
        a.cut()
        bench.pass_time(2)
        assert client.only_verdict().code == "lost"
        a.connect()
        a.result(attempt)  # it was told to stop it
    record = next(n for n in client.ask(pb.Query(list_nodes=pb.Query.ListNodes())).nodes if n.node_id == "a")
    assert record.status == "resting"


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_in_simulation_a_machine_that_fails_fast_swallows_few_calls(strategy: str) -> None:
    machines = [Machine(((0.0, 1.0),), fails=((10.0, 60.0),)), Machine(((0.0, 1.0),)), Machine(((0.0, 1.0),))]
    works = [Work(0.5 * n, 0.5) for n in range(200)]
    outcomes = Fleet(strategy, machines, works, check_every=1).run()
    assert sum(outcome.failures for outcome in outcomes) <= UNSURE + 8  # it is tried 6 times in 50 s
    late = [outcome.machine for outcome in outcomes if outcome.work.at > 80]
    assert strategy == "cost_aware" or 0 in late  # it is mended


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_in_simulation_what_fails_everywhere_is_not_slowed_down(strategy: str) -> None:
    broken = [Machine(((0.0, 1.0),), fails=((0.0, 20.0),)) for _ in range(3)]
    outcomes = Fleet(strategy, broken, [Work(0.1 * n, 0.2) for n in range(100)], check_every=7).run()
    assert max(outcome.ended_at for outcome in outcomes) < 40
