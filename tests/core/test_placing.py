"""Where calls go, what they wait for, and what they are told when they can't go anywhere."""

from collections.abc import Sequence
from typing import Any

import pytest

from easyremote.core import placing, strategies
from easyremote.core.records import MAX_PREFETCH, Node, Session
from easyremote.core.strategies import Offer
from easyremote.errors import UsageError
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, NodePeer, new_id, spec


def run_one(client: ClientPeer, nodes: list[NodePeer], takes_s: float = 0.1, **options: object) -> NodePeer:
    """Make one call, let its node end it, and tell which node that was."""
    call_id = client.submit(**options)  # type: ignore[arg-type]
    return end_one(client, nodes, call_id, takes_s)


def end_one(client: ClientPeer, nodes: list[NodePeer], call_id: bytes, takes_s: float = 0.1) -> NodePeer:
    ((node, attempt),) = [(node, attempt) for node in nodes for attempt in node.started()]
    assert attempt.call_id == call_id
    client.bench.now += takes_s
    node.result(attempt)
    (event,) = client.events()
    client.taken(event)
    return node


# ---- nobody can take it ----------------------------------------------------------------------------------------------


def test_without_any_node_a_call_fails_at_once_and_says_how_to_start_one() -> None:
    client = Bench().client()
    client.submit()
    error = client.only_verdict()
    assert (error.code, error.may_have_run) == ("no_node", False)
    assert "easyremote join" in error.message


def test_a_node_that_isnt_there_is_named_with_those_that_are() -> None:
    bench = Bench()
    bench.node("a"), bench.node("b")
    client = bench.client()
    client.submit(node_id="c")
    error = client.only_verdict()
    assert error.code == "node_gone"
    assert "'c'" in error.message
    assert "a, b" in error.message


def test_an_unknown_function_names_those_that_look_like_it() -> None:
    bench = Bench()
    bench.node("a", "train_model", "predict")
    client = bench.client()
    client.submit("Train_Modell")
    error = client.only_verdict()
    assert error.code == "function_not_found"
    assert error.details["close_names"] == "train_model"
    assert "did you mean train_model?" in error.message


def test_names_that_look_alike_are_sought_on_the_node_that_the_call_names() -> None:
    bench = Bench()
    bench.node("a", "train"), bench.node("b", "test")
    client = bench.client()
    client.submit("trai", node_id="b")
    error = client.only_verdict()
    assert error.details["close_names"] == ""
    assert "node 'b'" in error.message


def test_code_of_another_python_is_refused_before_anything_is_sent_naming_both() -> None:
    bench = Bench()
    node = bench.node("old", python="3.9.1")
    client = bench.client()
    client.submit(code=pb.Code(kind=pb.Code.KIND_CALLABLE, python="3.12"))
    error = client.only_verdict()
    assert error.code == "environment_mismatch"
    assert "3.12" in error.message
    assert "old has 3.9" in error.message
    assert node.started() == []


def test_code_goes_to_a_node_of_its_python_and_code_of_any_to_every_one() -> None:
    bench = Bench()
    nodes = [bench.node("old", python="3.9.1"), bench.node("new", python="3.12.4")]
    client = bench.client()
    code = pb.Code(kind=pb.Code.KIND_CALLABLE, python="3.12")
    assert {run_one(client, nodes, code=code).name for _ in range(3)} == {"new"}
    anything = pb.Code(kind=pb.Code.KIND_CELL)
    assert {run_one(client, nodes, code=anything).name for _ in range(3)} == {"old", "new"}


def test_with_a_queue_timeout_a_call_waits_for_a_node_that_may_come() -> None:
    bench = Bench()
    client = bench.client()
    call_id = client.submit(queue_timeout_s=10)
    bench.pass_time(5)
    node = bench.node("late")
    assert node.only_started().call_id == call_id
    assert client.verdicts() == {}


@pytest.mark.parametrize(
    ("functions", "words"), [([], "no node is connected"), (["g"], "no function 'f'"), (["f"], "slot is busy with f")]
)
def test_a_queue_timeout_that_runs_out_says_what_was_missing(functions: list[str], words: str) -> None:
    bench = Bench()
    client = bench.client()
    for name in functions:
        bench.node("n", name)
        bench.pass_time(1)
        client.submit(name, retries=1)
    client.submit("f", queue_timeout_s=2)
    bench.pass_time(1.5)
    assert client.verdicts() == {}
    bench.pass_time(1)
    error = client.only_verdict()
    assert error.code == "deadline"
    assert words in error.message
    assert "2.0 s" in error.message


def test_calls_that_wait_end_when_the_last_node_that_could_run_them_is_gone() -> None:
    bench = Bench(grace_s=5.0)
    node = bench.node("only")
    bench.node("other", "g")
    client = bench.client()
    running, waiting = client.submit(retries=0), client.submit()
    node.only_started()
    node.cut()
    bench.pass_time(4)
    assert client.verdicts() == {}
    bench.pass_time(2)
    errors = client.verdicts()
    assert errors[waiting].code == "function_not_found"
    assert (errors[running].code, errors[running].may_have_run) == ("lost", True)


def test_calls_that_wait_end_when_their_function_is_no_longer_offered() -> None:
    bench = Bench()
    node = bench.node("n", "f", "g")
    client = bench.client()
    client.submit()
    waiting = client.submit("f")
    node.offer("g")
    bench.settle()
    assert client.verdicts()[waiting].code == "function_not_found"


def test_calls_that_wait_end_when_their_node_comes_back_without_the_function() -> None:
    """Regression: they waited for ever."""
    bench = Bench()
    node = bench.node("n", "f", "g")
    client = bench.client()
    client.submit("g")
    waiting = client.submit("f")
    node.cut()
    node.offer("g")
    node.connect()
    assert client.verdicts()[waiting].code == "function_not_found"


# ---- credit and order ------------------------------------------------------------------------------------------------


def test_a_node_gets_as_many_calls_as_it_has_slots_and_the_rest_wait_at_the_gateway() -> None:
    bench = Bench()
    node = bench.node("n", slots=2)
    client = bench.client()
    calls = [client.submit() for _ in range(4)]
    first, second = node.started()
    assert node.core.held_count == 2
    node.result(second)
    assert node.only_started().call_id == calls[2]
    node.result(first)
    assert node.only_started().call_id == calls[3]


def test_a_node_of_short_calls_gets_some_ahead_so_that_it_doesnt_wait_for_the_next() -> None:
    bench = Bench()
    node = bench.node("n")
    client = bench.client()
    run_one(client, [node], takes_s=0.001)
    for _ in range(10):
        client.submit()
    assert node.core.held_count == 5  # one runs, and four of 1 ms each hide 4 ms


def test_calls_sent_ahead_are_bounded_however_short_they_are() -> None:
    bench = Bench()
    node = bench.node("n")
    client = bench.client()
    run_one(client, [node], takes_s=1e-7)
    for _ in range(2 * MAX_PREFETCH):
        client.submit()
    assert node.core.held_count == 1 + MAX_PREFETCH


@pytest.mark.parametrize("run_s", [float("inf"), float("nan"), 1e-320, -1.0, 1e308])
def test_a_node_that_reports_nonsense_durations_harms_nobody(run_s: float) -> None:
    """Regression: a duration of 1e-320 s, or two infinite ones, stopped the gateway."""
    bench = Bench()
    node = bench.node("n")
    client = bench.client()
    for _ in range(3):
        call_id = client.submit()
        (attempt,) = node.started()
        last = pb.Event(call_id=call_id, attempt=attempt.number, seq=1, run_s=run_s, result=pb.Payload())
        node.send(pb.Frame(event=last))
        node.core.emit(attempt, pb.Event(result=pb.Payload()), 0, bench.now)
        bench.settle()
        client.taken(client.events()[0])
    assert bench.broker.leftovers() == []


def test_calls_of_different_functions_are_served_in_the_order_in_which_they_came() -> None:
    bench = Bench()
    node = bench.node("n", "f", "g")
    client = bench.client()
    calls = [client.submit(function) for function in ("f", "g", "f", "g", "f")]
    served = []
    for _ in calls:
        attempt = node.only_started()
        served.append(attempt.call_id)
        node.result(attempt)
    assert served == calls


def test_a_node_that_is_free_doesnt_get_what_it_doesnt_offer() -> None:
    bench = Bench()
    f, g = bench.node("f", "f"), bench.node("g", "g")
    client = bench.client()
    client.submit("g"), client.submit("f")
    waiting = client.submit("g")
    f.result(f.only_started())
    assert f.started() == []
    g.result(g.only_started())
    assert g.only_started().call_id == waiting


def test_new_slots_are_used_at_once() -> None:
    bench = Bench()
    node = bench.node("n", slots=1)
    client = bench.client()
    client.submit(), client.submit()
    node.core._state.slots = 2
    node.offer("f")
    bench.settle()
    assert len(node.started()) == 2


def test_a_node_that_returns_with_other_slots_has_those() -> None:
    bench = Bench()
    node = bench.node("n", slots=1)
    client = bench.client()
    node.cut()
    node.core._state.slots = 2
    node.connect()
    client.submit(), client.submit()
    assert len(node.started()) == 2


def test_offers_that_name_no_slots_leave_them_as_they_are() -> None:
    bench = Bench()
    node = bench.node("n", slots=2)
    node.send(pb.Frame(offers=pb.Offers(revision=9, offers=[spec("f")])))
    client = bench.client()
    client.submit(), client.submit()
    assert len(node.started()) == 2


def test_a_client_that_submits_more_than_the_bound_is_refused_at_once_and_nothing_is_kept() -> None:
    """Regression: each refused call was kept until it was acknowledged, which a hostile client never does."""
    bench = Bench(max_queued_calls=3)
    bench.node("n")
    client = bench.client()
    for _ in range(3):
        client.submit()
    client.core.taken = lambda *_: None  # type: ignore[method-assign]
    for _ in range(5):
        client.submit(queue_timeout_s=0.01)  # no time to be sent again
    errors = client.verdicts().values()
    assert [error.code for error in errors] == ["overloaded"] * 5
    assert all(error.retry_after_s > 0 and "3 calls" in error.message for error in errors)
    assert len([line for line in bench.broker.leftovers() if "the gateway has" in line]) == 3


def test_a_client_at_its_bound_may_still_repeat_its_calls() -> None:
    bench = Bench(max_queued_calls=2)
    bench.node("n")
    client = bench.client()
    client.submit(), client.submit()
    client.cut()
    client.connect()
    assert client.verdicts() == {}


# ---- strategies ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "strategy", ["", "round_robin", "resource_aware", "latency_based", "cost_aware", "smart_adaptive"]
)
def test_calls_spread_over_equal_nodes_one_after_the_other_too(strategy: str) -> None:
    bench = Bench()
    nodes = [bench.node(f"n{i}") for i in range(3)]
    client = bench.client()
    served = [run_one(client, nodes, strategy=strategy).name for _ in range(9)]
    assert {name: served.count(name) for name in served} == {"n0": 3, "n1": 3, "n2": 3}


@pytest.mark.parametrize("strategy", ["round_robin", "resource_aware", "latency_based", "smart_adaptive"])
def test_calls_at_once_use_every_slot(strategy: str) -> None:
    bench = Bench()
    nodes = [bench.node("small", slots=1), bench.node("big", slots=3)]
    client = bench.client()
    for _ in range(5):
        client.submit(strategy=strategy)
    assert [len(node.started()) for node in nodes] == [1, 3]


def test_cost_aware_goes_to_the_cheap_node_once_it_knows_both() -> None:
    bench = Bench()
    nodes = [bench.node("dear", price=5.0), bench.node("cheap", price=1.0)]
    client = bench.client()
    served = [run_one(client, nodes, strategy="cost_aware").name for _ in range(6)]
    assert set(served[:2]) == {"dear", "cheap"}
    assert set(served[2:]) == {"cheap"}


def test_a_strategy_of_ones_own_is_known_once_it_is_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    class LastInAlphabet:
        def choose(self, function: str, offers: Sequence[Offer]) -> Offer:
            return max(offers, key=lambda offer: offer.node_id)

    monkeypatch.setattr(strategies, "_FACTORIES", dict(strategies._FACTORIES))
    strategies.register_strategy("mine", LastInAlphabet)
    bench = Bench()
    nodes = [bench.node("a"), bench.node("z"), bench.node("m")]
    assert run_one(bench.client(), nodes, strategy="mine").name == "z"


@pytest.mark.parametrize("fault", ["raises", "chooses what was not offered"])
def test_a_strategy_that_is_broken_costs_no_call_anything_and_is_told_of_once(
    fault: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken:
        def choose(self, function: str, offers: Sequence[Offer]) -> Any:
            return "the best" if fault != "raises" else offers[len(offers)]

    monkeypatch.setattr(strategies, "_FACTORIES", dict(strategies._FACTORIES))
    strategies.register_strategy("broken", Broken)
    bench = Bench()
    nodes = [bench.node("a"), bench.node("b")]
    client = bench.client()
    assert [run_one(client, nodes, strategy="broken").name for _ in range(3)] == ["a"] * 3
    assert [record.message for record in caplog.records] == [
        "strategy 'broken' failed, and calls go to the first offer instead"
    ]


def test_a_gateway_that_is_told_an_unknown_strategy_says_so() -> None:
    with pytest.raises(UsageError, match=r"unknown strategy 'best'; known are round_robin"):
        strategies.make_strategy("best")


def test_an_unknown_strategy_is_refused_with_the_known_ones() -> None:
    bench = Bench()
    bench.node("n")
    client = bench.client()
    client.submit(strategy="best")
    error = client.only_verdict()
    assert error.code == "usage"
    assert "'best'" in error.message
    assert "round_robin" in error.message


def test_a_call_that_names_a_node_goes_there_and_waits_for_it() -> None:
    bench = Bench()
    nodes = [bench.node("a"), bench.node("b")]
    client = bench.client()
    assert [run_one(client, nodes, node_id="b").name for _ in range(3)] == ["b"] * 3
    client.submit(node_id="b"), client.submit(node_id="b")
    assert [len(node.started()) for node in nodes] == [0, 1]


def test_without_load_balancing_only_the_node_that_registered_first_serves() -> None:
    """Regression: it was the node that had connected first."""
    bench = Bench()
    late = bench.node("connected first", "g")
    first = bench.node("registered first", spec("f", load_balancing=False))  # type: ignore[arg-type]
    late.offer("g", spec("f", load_balancing=False))
    bench.settle()
    client = bench.client()
    nodes = [late, first]
    assert [run_one(client, nodes).name for _ in range(3)] == ["registered first"] * 3
    assert run_one(client, nodes, node_id="connected first") is late
    first.core.goodbye("done")
    bench.settle()
    assert run_one(client, nodes) is late


# ---- cost limits -----------------------------------------------------------------------------------------------------


def learned(bench: Bench, client: ClientPeer, nodes: list[NodePeer], **seconds: float) -> None:
    """Let every node run the function once, for so long."""
    for node in nodes:
        assert run_one(client, nodes, takes_s=seconds[node.name], node_id=node.name) is node


def test_a_call_that_no_node_can_run_for_its_cost_limit_is_told_the_cheapest() -> None:
    bench = Bench()
    nodes = [bench.node("a", price=2.0), bench.node("b", price=1.0)]
    client = bench.client()
    learned(bench, client, nodes, a=4.0, b=6.0)
    client.submit(cost_limit=5.0)
    error = client.only_verdict()
    assert error.code == "cost_limit"
    assert (error.details["cheapest_node"], error.details["cheapest_cost"]) == ("b", "6")
    assert "'b'" in error.message
    assert run_one(client, nodes, cost_limit=7.0).name == "b"


def test_a_call_waits_for_the_node_that_it_can_afford() -> None:
    """Regression: it failed when that node was busy at the moment."""
    bench = Bench()
    nodes = [bench.node("dear", price=100.0), bench.node("cheap", price=1.0)]
    client = bench.client()
    learned(bench, client, nodes, dear=1.0, cheap=1.0)
    client.submit(node_id="cheap")
    (attempt,) = nodes[1].started()
    limited = client.submit(cost_limit=5.0)
    assert client.verdicts() == {}
    nodes[1].result(attempt)
    assert nodes[1].only_started().call_id == limited


def test_a_call_that_becomes_too_dear_while_it_waits_is_told() -> None:
    bench = Bench()
    node = bench.node("n", price=1.0)
    client = bench.client()
    learned(bench, client, [node], n=1.0)
    client.submit()
    attempt = node.only_started()
    waiting = client.submit(cost_limit=1.1)
    bench.now += 100
    node.result(attempt)
    bench.pass_time(0.5)
    assert client.verdicts()[waiting].code == "cost_limit"


# ---- bounds of what is remembered ------------------------------------------------------------------------------------


def test_functions_asked_for_that_nobody_offers_leave_no_trace(monkeypatch: pytest.MonkeyPatch) -> None:
    """Regression: each name that a client made up stayed in a cache."""
    monkeypatch.setattr(placing, "_MAX_KEYS", 1024)
    bench = Bench()
    bench.node("n")
    client = bench.client()
    for i in range(1100):
        client.submit(f"no such function {i}", settle=i % 100 == 99)
    bench.settle()
    assert len(client.verdicts()) == 1100
    assert len(bench.broker._placing._pools) <= 1024


@pytest.mark.parametrize(
    "options", [{"function": "x" * 201}, {"node_id": "x" * 201}, {"code": pb.Code(python="3" * 201)}]
)
def test_a_name_that_is_too_long_is_refused_and_not_repeated(options: dict[str, object]) -> None:
    bench = Bench()
    bench.node("n")
    client = bench.client()
    client.submit(**options)  # type: ignore[arg-type]
    error = client.only_verdict()
    assert (error.code, len(error.message) < 200) == ("usage", True)
    assert "at most 200 characters, not 201" in error.message


def test_the_credit_of_a_node_is_its_slots_until_a_duration_is_known() -> None:
    session = Session(new_id(), pb.ROLE_NODE, pb.Runtime(), 1, 0.0, 0.0, 0.0)
    node = Node("n", session, 4, 0.0, {})
    assert node.credit == 4
    node.learn("f", 0.0005)
    assert node.credit == 4 + 8
