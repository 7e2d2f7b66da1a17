"""What is in the way of a call, at each node."""

from __future__ import annotations

from typing import Any

import pytest

from easyremote.core.explaining import LATER, MAX_ROWS, NEVER, NOW, span
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, NodePeer, spec


def explained(client: ClientPeer, function: str = "f", code: pb.Code | None = None, **options: Any) -> pb.Explanation:
    submit = pb.Submit(function="" if code else function, code=code, options=pb.Options(**options))
    answer = client.ask(pb.Query(explain=submit))
    assert answer.HasField("explanation"), answer.error
    return answer.explanation


def row(explanation: pb.Explanation, node: str) -> pb.NodeOutlook:
    (found,) = [row for row in explanation.nodes if row.node_id == node]
    return found


def test_a_call_that_would_run_now_says_where() -> None:
    bench = Bench()
    bench.node("a", "f"), bench.node("b", "g")
    client = bench.client()
    explanation = explained(client)
    assert (explanation.outlook, explanation.expected_s) == (NOW, 0.0)
    assert "a" in explanation.headline
    assert [(r.node_id, r.outlook) for r in explanation.nodes] == [("a", NOW), ("b", NEVER)]
    assert "doesn't offer" in row(explanation, "b").reason
    assert not bench.broker.leftovers()


def test_a_busy_node_names_what_it_runs_and_for_how_long() -> None:
    bench = Bench(silence_s=1e9)
    node, client = bench.node("a", "f", "g", slots=2), bench.client()
    client.submit("g"), client.submit("f")
    for attempt in node.started():
        bench.now += 5
        node.result(attempt)
    client.submit("f"), client.submit("g")
    bench.now += 1
    explanation = explained(bench.client())
    busy = row(explanation, "a")
    assert busy.outlook == LATER
    assert "all 2 slots are busy with" in busy.reason
    assert "f ×1" in busy.reason
    assert "g ×1" in busy.reason
    assert busy.expected_s == pytest.approx(4.0, abs=1)
    assert explanation.expected_s == busy.expected_s
    assert not explanation.before


def test_where_nothing_is_known_of_the_duration_nothing_is_promised() -> None:
    bench = Bench(silence_s=1e9)
    bench.node("a")
    client = bench.client()
    client.submit()
    bench.now += 30
    explanation = explained(client)
    assert not explanation.HasField("expected_s")
    assert row(explanation, "a").reason == "its slot is busy with f ×1, for 30 s so far"


def test_a_call_that_waits_is_told_how_many_go_first() -> None:
    bench = Bench(silence_s=1e9)
    bench.node("a")
    one, two = bench.client(), bench.client()
    one.submit()
    mine = [one.submit() for _ in range(3)]
    for _ in range(10):
        two.submit()
    high = two.submit(priority=3)
    bench.now += 2
    last = one.ask(pb.Query(explain=pb.Submit(call_id=mine[2]))).explanation
    assert last.before == 1 + 2 + 3  # the high one, its own client's, and as many of the other client
    assert last.waited_s == 2
    assert two.ask(pb.Query(explain=pb.Submit(call_id=high))).explanation.before == 0
    assert explained(bench.client()).before == 1 + 2  # one of each client


def test_the_calls_of_others_are_nobody_s_business() -> None:
    bench = Bench()
    bench.node("a")
    one, two = bench.client(), bench.client()
    one.submit()
    call_id = one.submit()
    assert two.ask(pb.Query(explain=pb.Submit(call_id=call_id))).error.code == "usage"
    assert one.ask(pb.Query(explain=pb.Submit(call_id=call_id))).HasField("explanation")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"node_id": "b"}, "the call is to run on 'b'"),
        ({"cost_limit": 1.0}, "more than cost_limit=1"),
    ],
)
def test_what_the_call_s_own_options_rule_out(options: dict[str, Any], reason: str) -> None:
    bench = Bench(silence_s=1e9)
    node, client = bench.node("a", price=3.0), bench.client()
    client.submit()
    attempt = node.only_started()
    bench.now += 2
    node.result(attempt)
    bench.node("b", "f")
    found = row(explained(client, **options), "a")
    assert found.outlook == NEVER
    assert reason in found.reason
    assert found.remedy


def test_a_node_that_isn_t_there_has_a_row_too() -> None:
    bench = Bench()
    bench.node("a")
    explanation = explained(bench.client(), node_id="nowhere")
    assert explanation.outlook == NEVER
    assert row(explanation, "nowhere").reason == "it isn't connected"


def test_code_of_another_python() -> None:
    bench = Bench()
    bench.node("old", python="3.11.2"), bench.node("new", python="3.13.0")
    explanation = explained(bench.client(), code=pb.Code(kind=pb.Code.KIND_CALLABLE, python="3.13"))
    assert row(explanation, "new").outlook == NOW
    assert "it has Python 3.11" in row(explanation, "old").reason


def test_a_function_without_load_balancing() -> None:
    bench = Bench()
    only: Any = spec("f", load_balancing=False)
    bench.node("first", only), bench.node("second", only)
    explanation = explained(bench.client())
    assert row(explanation, "first").outlook == NOW
    assert "'first' registered it first" in row(explanation, "second").reason


def test_a_node_that_is_away() -> None:
    bench = Bench(grace_s=5.0)
    node, client = bench.node("a"), bench.client()
    node.cut()
    bench.pass_time(2.0)
    found = row(explained(client), "a")
    assert found.outlook == LATER
    assert found.reason == "its connection broke 2.0 s ago; it is given up in 3.0 s"


def test_a_node_that_was_lost_with_the_call_comes_after_others() -> None:
    bench = Bench()
    bench.node("a"), bench.node("b")
    explanation = explained(bench.client(), not_on=["a"])
    assert row(explanation, "a").outlook == LATER
    assert row(explanation, "b").outlook == NOW
    assert row(explained(bench.client(), not_on=["a", "b"]), "a").outlook == NOW


def test_a_free_node_that_the_strategy_would_rather_not_use() -> None:
    bench = Bench(silence_s=1e9)
    fast, slow, client = bench.node("fast"), bench.node("slow"), bench.client()
    nodes: list[tuple[NodePeer, float]] = [(fast, 0.5), (slow, 50.0)]
    for _ in range(8):
        calls = [client.submit(), client.submit()]
        for node, took_s in nodes:
            for attempt in node.started():
                bench.now += took_s
                node.result(attempt)
        assert len(calls) == 2
    client.submit(node_id="fast")
    explanation = explained(client)
    assert explanation.outlook == LATER
    assert "rather waits" in row(explanation, "slow").reason
    waiting = client.submit()
    assert "rather waits" in row(client.ask(pb.Query(explain=pb.Submit(call_id=waiting))).explanation, "slow").reason
    assert explained(client, strategy="round_robin").outlook == LATER  # that one waits before it


def test_a_call_that_runs_and_one_that_is_held() -> None:
    bench = Bench(grace_s=5.0)
    node, client = bench.node("a"), bench.client()
    call_id = client.submit()
    assert node.only_started()
    running = client.ask(pb.Query(explain=pb.Submit(call_id=call_id))).explanation
    assert (running.outlook, len(running.nodes)) == (NOW, 0)
    assert "is at a since" in running.headline
    bench.restart()
    client.connect()
    held = client.ask(pb.Query(explain=pb.Submit(call_id=call_id))).explanation
    assert held.outlook == LATER
    assert "after the gateway was restarted" in held.headline


@pytest.mark.parametrize("submit", [pb.Submit(), pb.Submit(function="f" * 300), pb.Submit(call_id=b"x" * 16)])
def test_questions_that_make_no_sense_are_answered_with_an_error(submit: pb.Submit) -> None:
    bench = Bench()
    assert bench.client().ask(pb.Query(explain=submit)).HasField("error")


def test_of_very_many_nodes_the_best_are_shown() -> None:
    bench = Bench()
    for number in range(MAX_ROWS + 20):
        bench.node(f"n{number:03}", "g")
    bench.node("zz", "f")
    explanation = explained(bench.client())
    assert len(explanation.nodes) == MAX_ROWS
    assert explanation.nodes[0].node_id == "zz"
    assert explanation.left_out == 21


def test_a_queue_timeout_says_what_was_in_the_way() -> None:
    bench = Bench()
    bench.node("a"), bench.node("b", "g")
    client = bench.client()
    client.submit()
    client.submit(queue_timeout_s=1.0)
    bench.pass_time(1.5)
    error = client.only_verdict()
    assert error.code == "deadline"
    assert "a: its slot is busy with f ×1" in error.message
    assert "b: can't: it doesn't offer this function" in error.details["why"]


def test_what_can_never_run_says_so_of_each_node() -> None:
    bench = Bench()
    bench.node("a")
    client = bench.client()
    client.submit(node_id="elsewhere")
    assert "a: can't: the call is to run on 'elsewhere'" in client.only_verdict().details["why"]


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.0, "0.1 s"), (3.14, "3.1 s"), (59.6, "60 s"), (600, "10 min"), (7200, "2 h")]
)
def test_spans_are_for_people(seconds: float, text: str) -> None:
    assert span(seconds) == text


def test_what_a_node_hasn_t_got_and_what_is_in_use_there() -> None:
    bench = Bench(silence_s=1e9)
    gib = 2**30
    for name, memory in (("small", 8 * gib), ("large", 64 * gib)):
        bench.node(name, state=pb.NodeState(capacity=pb.Capacity(memory_bytes=memory)), slots=4)
    client, needs = bench.client(), pb.Needs(memory_bytes=40 * gib)
    client.submit(needs=needs)
    explanation = explained(client, needs=needs)
    assert explanation.outlook == LATER
    assert row(explanation, "small").outlook == NEVER
    assert row(explanation, "small").reason == "it needs memory=40 GiB, and the node has 8 GiB"
    assert row(explanation, "large").outlook == LATER
    assert row(explanation, "large").reason == "it needs memory=40 GiB, and 24 GiB of 64 GiB is free"
    client.submit(needs=pb.Needs(memory_bytes=100 * gib))
    error = client.only_verdict()
    assert "small: can't: it needs memory=100 GiB, and the node has 8 GiB" in error.details["why"]


def test_a_node_that_drains() -> None:
    bench = Bench()
    bench.node("a"), bench.node("b")
    client = bench.client()
    client.ask(pb.Query(drain_node=pb.Query.DrainNode(node_id="a", reason="new disks")))
    found = row(explained(client), "a")
    assert (found.outlook, found.reason) == (NEVER, "it takes no new calls: new disks")
    assert found.remedy == "easyremote node resume a"
