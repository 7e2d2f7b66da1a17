"""What happens at the gateway's bounds, at both ends."""

from __future__ import annotations

import pytest

from easyremote.config import GatewaySettings
from easyremote.core.client_session import FEW_AGAIN, HeldBack
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, NodePeer, new_id


def flood(client: ClientPeer, count: int, size: int = 0, **options: object) -> list[bytes]:
    ids = []
    for _ in range(count):
        submit = pb.Submit(call_id=new_id(), function="f", options=pb.Options(**options))  # type: ignore[arg-type]
        submit.arguments.data = b"x" * size
        client.core.submit(submit, client.bench.now)
        ids.append(submit.call_id)
    client.bench.settle()
    return ids


def serve(bench: Bench, node: NodePeer, client: ClientPeer, until: int) -> int:
    """Calls end one by one, and what is refused goes again when it is time. Returns the most that the gateway had."""
    done = most = 0
    resumes: list[float] = []
    while done < until:
        resumes += [bench.now + effect.wait_s for effect in client.took(HeldBack)]
        for attempt in node.started():
            bench.now += 0.01
            node.result(attempt)
            done += 1
        for event in client.events():
            client.taken(event)
        most = max(most, len(bench.broker._calls))
        bench.perform(bench.broker.tick(bench.now))
        bench.now += 0.05
        for at in [at for at in resumes if at <= bench.now]:
            resumes.remove(at)
            client.core.resume(bench.now)
        bench.settle()
    return most


def test_refused_calls_go_again_until_all_have_run_in_their_order() -> None:
    bench = Bench(max_queued_calls=20, silence_s=1e9)
    node, client = bench.node("n"), bench.client()
    ran: list[bytes] = []
    original = node.started

    def started() -> list:  # type: ignore[type-arg]
        attempts = original()
        ran.extend(attempt.call_id for attempt in attempts)
        return attempts

    node.started = started  # type: ignore[method-assign]
    calls = flood(client, 200)
    assert client.verdicts() == {}
    assert serve(bench, node, client, 200) <= 20
    assert ran == calls
    assert client.core.open_count == 0


@pytest.mark.parametrize(
    "settings", [{"max_client_bytes": 100_000}, {"max_waiting_bytes": 100_000}], ids=["of one client", "of all"]
)
def test_what_waiting_calls_hold_is_bounded(settings: dict[str, int]) -> None:
    bench = Bench(silence_s=1e9, **settings)
    bench.node("n")
    client, other = bench.client(), bench.client()
    flood(client, 30, 10_000, queue_timeout_s=0.001)
    errors = list(client.verdicts().values())
    assert {error.code for error in errors} == {"overloaded"}
    assert all("KiB" in error.message and 0 < error.retry_after_s <= 30 for error in errors)
    assert 100_000 <= bench.broker._queues.bytes < 120_000
    flood(other, 1, 10, queue_timeout_s=0.001)
    assert len(other.verdicts()) == ("max_waiting_bytes" in settings)


def test_the_other_client_is_served_meanwhile() -> None:
    bench = Bench(max_queued_calls=20, silence_s=1e9)
    node, client, other = bench.node("n"), bench.client(), bench.client()
    flood(client, 500)
    node.result(node.only_started())
    (single,) = flood(other, 1)
    node.result(node.only_started())
    assert node.only_started().call_id == single


def test_when_to_come_back_follows_from_how_fast_calls_end() -> None:
    bench = Bench(max_queued_calls=20, silence_s=1e9)
    node, client = bench.node("n"), bench.client()
    flood(client, 20)
    told = []
    for pause_s in (0.25, 5.0):
        for _ in range(40):
            (attempt,) = node.started()
            bench.now += pause_s
            node.result(attempt)
            for event in client.events():
                client.taken(event)
            bench.perform(bench.broker.tick(bench.now))
            flood(client, 1)
        flood(client, 1, queue_timeout_s=0.001)
        (error,) = client.verdicts().values()
        told.append(error.retry_after_s)
    assert told[0] == pytest.approx(20 * 0.25 * 0.25, rel=0.3)
    assert told[1] > 5 * told[0]


def test_a_call_that_may_not_wait_so_long_is_refused() -> None:
    bench = Bench(max_queued_calls=1, silence_s=1e9)
    bench.node("n")
    client = bench.client()
    flood(client, 1)
    flood(client, 1, queue_timeout_s=0.5)
    flood(client, 1, timeout_s=0.5)
    assert [error.code for error in client.verdicts().values()] == ["overloaded", "overloaded"]
    (patient,) = flood(client, 1, queue_timeout_s=3.0)
    (held,) = client.took(HeldBack)
    bench.now += held.wait_s
    client.core.resume(bench.now)
    bench.settle()
    (again,) = client.took(HeldBack)
    assert again.wait_s == 2 * held.wait_s
    bench.now += again.wait_s
    client.core.resume(bench.now)
    bench.settle()
    assert client.verdicts()[patient].code == "overloaded"


def test_a_refused_call_can_be_cancelled_and_a_reconnect_changes_nothing() -> None:
    bench = Bench(max_queued_calls=1, silence_s=1e9)
    node, client = bench.node("n"), bench.client()
    flood(client, 1)
    first, second = flood(client, 2)
    client.cancel(first)
    client.cut()
    client.connect()
    assert client.verdicts() == {}
    node.result(node.only_started())
    for event in client.events():
        client.taken(event)
    client.core.resume(bench.now)
    bench.settle()
    assert node.only_started().call_id == second
    assert FEW_AGAIN > 1


def restarted_with_less_room(
    slots: int = 2, begin: bool = False, **options: object
) -> tuple[Bench, NodePeer, ClientPeer, bytes]:
    """Two calls are there when the gateway is restarted, and the one that comes then takes one. Returns the other's id."""
    bench = Bench(max_queued_calls=2, silence_s=1e9)
    node, client = bench.node("n", slots=slots), bench.client()
    _, second = flood(client, 2, **options)
    attempts = node.started()
    assert len(attempts) == slots
    for attempt in attempts if begin else ():
        node.emit(attempt, pb.Event(output=pb.Output(text="at it")))
        assert len(client.events()) == 1
    bench.settings = GatewaySettings(max_queued_calls=1, silence_s=1e9)
    bench.restart()
    client.connect()
    return bench, node, client, second


def test_a_refused_call_that_an_earlier_gateway_had_says_that_it_may_have_run() -> None:
    *_, client, second = restarted_with_less_room(queue_timeout_s=0.001)
    error = client.verdicts()[second]
    assert (error.code, error.may_have_run) == ("overloaded", True)


def test_a_refused_call_that_no_node_can_have_says_that_it_has_not_run() -> None:
    *_, client, second = restarted_with_less_room(slots=1, queue_timeout_s=0.001, retries_set=True)
    error = client.verdicts()[second]  # it begins with its client's word only, which wasn't asked for
    assert (error.code, error.may_have_run) == ("overloaded", False)


def test_a_refused_call_that_an_earlier_gateway_had_is_found_at_its_node_when_it_goes_again() -> None:
    bench, node, client, second = restarted_with_less_room()
    (held,) = client.took(HeldBack)
    assert client.core.may_have_run(second)
    node.connect()
    client.cancel(next(call_id for call_id in client.core._open if call_id != second))
    bench.now += held.wait_s
    client.core.resume(bench.now)
    bench.settle()
    assert not node.started()
    node.result(next(attempt for attempt in node.core._attempts.values() if attempt.call_id == second))
    (event,) = client.events()
    assert (event.call_id, event.attempt) == (second, 1)


def test_a_refused_call_that_an_earlier_gateway_had_may_have_run_when_its_time_is_over() -> None:
    bench, _, client, second = restarted_with_less_room(timeout_s=3.0)
    bench.now += 4.0
    client.core.resume(bench.now)
    bench.pass_time(3.0)
    error = client.verdicts()[second]
    assert (error.code, error.may_have_run) == ("deadline", True)


def test_a_call_that_runs_is_not_ended_by_a_restart_that_leaves_no_room_for_it() -> None:
    bench, node, client, second = restarted_with_less_room(queue_timeout_s=0.001, begin=True)
    assert client.verdicts() == {}
    (held,) = client.took(HeldBack)
    node.connect()
    first = next(call_id for call_id in client.core._open if call_id != second)
    client.cancel(first)
    bench.now += held.wait_s
    client.core.resume(bench.now)
    bench.settle()
    node.result(next(attempt for attempt in node.core._attempts.values() if attempt.call_id == second))
    events = [event for event in client.events() if event.call_id == second]
    assert [event.WhichOneof("body") for event in events] == ["result"]
