"""Bounds of a token, and its end: while its sessions have calls, and in virtual time."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyremote.core.allowances import Bucket
from easyremote.core.records import Close, EndStream, Send
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench
from tests.core.test_access import access


@given(st.floats(0.1, 1000), st.lists(st.tuples(st.floats(0, 5), st.integers(1, 20)), min_size=1, max_size=60))
def test_in_the_long_run_a_bucket_lets_pass_what_it_is_for(per_s: float, asks: list[tuple[float, int]]) -> None:
    """In any span no more than its rate brings, a second's worth at once, and one bundle more."""
    now, bucket = 100.0, Bucket(per_s, 100.0)
    taken: list[tuple[float, int]] = []
    for pause_s, count in asks:
        now += pause_s
        wait_s = bucket.wait_s(now)
        if wait_s > 0:
            assert bucket.wait_s(now + wait_s * 0.5) > 0 and bucket.wait_s(now + wait_s * 1.001 + 1e-9) == 0
            continue
        bucket.take(count, now)
        taken.append((now, count))
    for first, (since, _) in enumerate(taken):
        passed = 0  # before the one that is the last of the span
        for until, count in taken[first:]:
            assert passed <= max(per_s, 1.0) + per_s * (until - since) + 1e-6
            passed += count


@given(st.floats(0.1, 100), st.floats(0, 1e6))
def test_a_clock_that_stands_or_goes_back_brings_nothing(per_s: float, back_s: float) -> None:
    bucket = Bucket(per_s, 1e7)
    while not bucket.wait_s(1e7):
        bucket.take(1, 1e7)
    assert bucket.wait_s(1e7 - back_s) > 0
    bucket.take(1, 1e7 - back_s)
    assert bucket.wait_s(1e7) > 0


def test_calls_in_flight_of_all_sessions_of_a_token_are_bounded() -> None:
    bench = Bench()
    node = bench.node("n", slots=2)
    limited = access("a", "call", max_calls=3)
    one, two, other = bench.client(limited), bench.client(limited), bench.client()
    for client in (one, two, two):
        client.submit(queue_timeout_s=1e-3)
    assert not one.verdicts() and not two.verdicts()
    for client in (one, two):
        client.submit(queue_timeout_s=1e-3)
        error = client.only_verdict()
        assert error.code == "overloaded" and error.retry_after_s > 0
        assert "'token of a'" in error.message and "3 calls" in error.message
    other.submit(queue_timeout_s=1e-3)
    assert not other.verdicts()
    node.result(node.started()[0])
    one.taken(one.events()[-1])
    two.submit()
    assert not two.verdicts()


def test_what_waiting_calls_of_a_token_hold_is_bounded() -> None:
    bench = Bench()
    bench.node("n", slots=1)
    clients = [bench.client(access("a", "call", max_bytes=10_000)) for _ in range(2)]
    for index in range(6):
        call = pb.Submit(call_id=bytes([index] * 16), function="f", arguments=pb.Payload(data=bytes(4000)))
        call.options.queue_timeout_s = 1e-3
        clients[index % 2].core.submit(call, bench.now)
        bench.settle()
    refused = [error for client in clients for error in client.verdicts().values()]
    assert len(refused) == 2 and all(
        error.code == "overloaded" and "waiting calls" in error.message for error in refused
    )


def test_calls_per_second_are_bounded_and_a_new_session_has_no_new_ones() -> None:
    bench = Bench()
    limited = access("a", "call", calls_per_s=2)
    node = bench.node("n", slots=100)
    begun = 0
    for _ in range(40):
        client = bench.client(limited)
        client.submit(queue_timeout_s=1e-3)
        for error in client.verdicts().values():
            assert error.code == "overloaded" and 0 < error.retry_after_s <= 0.5 and "2 calls a second" in error.message
        client.send(pb.Frame(goodbye=pb.Goodbye()))
        begun += len(node.started())
        bench.pass_time(0.25)
    assert 20 <= begun <= 22, begun


def test_a_client_that_waits_gets_its_calls_done_at_the_rate() -> None:
    """It sends again by itself what was refused."""
    bench = Bench()
    node = bench.node("n", slots=100)
    client = bench.client(access("a", "call", calls_per_s=4))
    for _ in range(20):
        client.submit()
    began: list[float] = []
    for _ in range(200):
        for attempt in node.started():
            began.append(bench.now)
            node.result(attempt)
        for event in client.events():
            client.taken(event)
        client.core.resume(bench.now)
        bench.settle()
        bench.pass_time(0.25)
    assert len(began) == 20 and not client.verdicts()
    assert began[-1] - began[0] >= (20 - 4 - 1) / 4


def test_tasks_of_bundles_and_jobs_count_for_the_rate() -> None:
    bench = Bench()
    bench.node("n", slots=4)
    client = bench.client(access("a", "call", calls_per_s=10))
    bundle = pb.Submit(call_id=b"b" * 16, function="f", tasks=[b"t"] * 30)
    client.core.submit(bundle, bench.now)
    bench.settle()
    assert not client.verdicts()  # it comes whole
    keep = pb.JobRequest.Keep(submits=[pb.Submit(call_id=b"j" * 16, function="f")])
    refused = client.ask(pb.Query(job=pb.JobRequest(keep=keep))).error
    assert refused.code == "overloaded" and refused.retry_after_s == pytest.approx(2.1)
    client.submit(queue_timeout_s=1e-3)
    assert client.only_verdict().code == "overloaded"


def test_calls_that_a_restarted_gateway_has_to_learn_of_again_are_not_refused_for_the_rate() -> None:
    bench = Bench()
    node = bench.node("n", slots=50)
    client = bench.client(access("a", "call", calls_per_s=10))
    ids = []
    for _ in range(5):
        ids += [client.submit() for _ in range(10)]
        bench.pass_time(1)
    attempts = node.started()
    assert len(attempts) == 50
    bench.restart()
    client.connect()
    node.connect()
    assert not client.verdicts()
    for attempt in attempts:
        node.result(attempt)
    assert len([event for event in client.events() if event.HasField("result")]) == 50
    client.submit(queue_timeout_s=1e-3)
    assert client.only_verdict().code == "overloaded"  # they count


# ---- the end of a token ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_the_end_of_a_token_ends_all_that_it_has_opened(how: str) -> None:
    bench = Bench()
    node, other_node = bench.node("n", slots=1), bench.node("m", "g")
    expires_at = bench.now + 20 if how == "expired" else None
    mine = access("a", "call", expires_at=expires_at)
    client, idle, away, other = bench.client(mine), bench.client(mine), bench.client(mine), bench.client()
    running, waiting = client.submit(), client.submit()
    left = away.submit("g")
    attempt, theirs = node.only_started(), other_node.only_started()
    away.cut()
    kept = other.submit()
    ended = []
    if how == "revoked":
        bench.pass_time(3)
        ended = bench.broker.token_ended("a", "this token was revoked", bench.now)
        assert EndStream(client.core.session_id) in ended and Close(client.conn) in ended
        told = [
            action.frame.refused for action in ended if isinstance(action, Send) and action.frame.HasField("refused")
        ]
        assert len(told) == 2
        bench.perform(ended)
        bench.settle()
    else:
        bench.pass_time(19.5)
        bench.pass_time(0.75)
    for peer in (client, idle):
        (refused,) = peer.got("refused")
        assert refused.code == "auth" and how in refused.message
    assert [stopped.call_id for stopped in node.stopped()] == [running]
    assert [stopped.call_id for stopped in other_node.stopped()] == [left] or how == "expired"
    for session in (client, idle, away):
        assert not bench.broker.knows(session.core.session_id, mine)
    node.emit(attempt, pb.Event(error=pb.ErrorInfo(code="cancelled")))
    assert [started.call_id for started in node.started()] == [kept]  # what waited is gone, and others go on
    assert waiting and theirs and other.core.is_connected
    bench.broker.check()


def test_the_end_of_a_nodes_token_stops_what_runs_there_and_others_take_it_over() -> None:
    bench = Bench()
    node = bench.node("n", access=access("a", "serve"))
    client = bench.client()
    client.submit()
    attempt = node.only_started()
    spare = bench.node("spare")
    bench.perform(bench.broker.token_ended("a", "this token was revoked", bench.now))
    bench.settle()
    assert node.stopped() == [attempt]
    again = spare.only_started()
    assert again.call_id == attempt.call_id and again.number == 2
    spare.result(again)
    assert [event.result.data for event in client.events() if event.HasField("result")] == [b"value"]


def test_the_owner_does_not_end() -> None:
    bench = Bench()
    client = bench.client()
    bench.pass_time(1e4, step=5)
    assert client.core.is_connected and bench.broker.token_ids == []


def test_nothing_is_kept_of_tokens_that_have_left() -> None:
    bench = Bench()
    client = bench.client(access("a", "call", calls_per_s=1))
    client.submit()
    assert bench.broker.token_ids == ["a"]
    client.send(pb.Frame(goodbye=pb.Goodbye()))
    bench.pass_time(0.5)
    assert bench.broker.token_ids == ["a"]  # so that coming anew brings nothing
    bench.pass_time(2)
    assert bench.broker.token_ids == []
