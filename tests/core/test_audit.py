"""What the gateway notes of who ran what: each attempt that a node had once, and each call that none got."""

from __future__ import annotations

from easyremote.core.access import Access, Role
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, new_id


def audited() -> Bench:
    bench = Bench()
    bench.broker.audits = True
    return bench


def outcomes(bench: Bench) -> list[tuple[str, str, str, int]]:
    return [(noted.outcome, noted.error, noted.node_id, noted.attempt) for noted in bench.noted]


def test_an_attempt_is_noted_when_it_ends_and_once() -> None:
    bench = audited()
    node, client = bench.node("a"), bench.client()
    bench.now += 0.5
    client.submit()
    attempt = node.only_started()
    assert not bench.noted
    bench.now += 2.0
    node.result(attempt)
    client.taken(client.events()[-1])
    bench.pass_time(20)
    (noted,) = bench.noted
    assert outcomes(bench) == [("succeeded", "", "a", 1)]
    assert (noted.function, noted.call_id, noted.tasks, noted.token_id) == ("f", attempt.call_id, 1, "owner")
    assert (noted.waited_s, noted.took_s) == (0.0, 2.0)


def test_who_called_is_noted_though_its_client_has_given_the_call_up() -> None:
    bench = audited()
    alice = Access("1a2b3c4d", "alice", frozenset({Role.SHIP}))
    node, client = bench.node("a"), bench.client(alice)
    call_id = client.submit()
    client.send(pb.Frame(cancel=pb.Cancel(call_id=call_id, reason="enough")))
    bench.settle()
    (attempt,) = node.started()
    node.core.emit(attempt, pb.Event(error=pb.ErrorInfo(code="cancelled")), 0, bench.now)
    bench.settle()
    assert outcomes(bench) == [("failed", "cancelled", "a", 1)]
    assert (bench.noted[0].token_id, bench.noted[0].token_name) == ("1a2b3c4d", "alice")


def test_a_lost_attempt_and_the_one_after_it_are_noted() -> None:
    bench = audited()
    first, client = bench.node("a"), bench.client()
    client.submit(retries=1)
    assert first.only_started()
    first.cut()
    second = bench.node("b")
    bench.pass_time(6)
    node_result = second.only_started()
    second.result(node_result)
    assert outcomes(bench) == [("lost", "", "a", 1), ("succeeded", "", "b", 2)]


def test_what_no_node_got_is_noted_as_refused() -> None:
    bench = audited()
    client = bench.client()
    client.submit(queue_timeout_s=1.0)
    bench.pass_time(3)
    (noted,) = bench.noted
    assert (noted.outcome, noted.node_id) == ("refused", "") and noted.error
    assert noted.waited_s >= 0 and noted.took_s == 0


def test_a_call_that_its_token_does_not_allow_is_noted() -> None:
    bench = audited()
    bench.node("a", "f", "g")
    client = bench.client(Access("1a2b3c4d", "alice", frozenset({Role.CALL}), functions=("g",)))
    client.send(pb.Frame(submit=pb.Submit(call_id=new_id(), function="f")))
    bench.settle()
    (noted,) = bench.noted
    assert (noted.outcome, noted.function, noted.token_name) == ("refused", "f", "alice")


def test_a_broker_that_is_not_asked_notes_nothing() -> None:
    bench = Bench()
    node, client = bench.node("a"), bench.client()
    client.submit()
    node.result(node.only_started())
    client.submit()
    node.only_started()
    node.cut()
    bench.pass_time(6)
    assert not bench.noted
