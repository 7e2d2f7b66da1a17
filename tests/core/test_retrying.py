"""Calls that are run again after an error: when, where, how often, and what is told of the attempts before."""

import pytest

from easyremote.core import retrying
from easyremote.core.node_session import Attempt
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, NodePeer, new_id, spec


def flaky(text: str = "no answer") -> pb.Event:
    return pb.Event(error=pb.ErrorInfo(code="remote", type="Flaky", message=text, traceback="...", retriable=True))


def begun(*nodes: NodePeer) -> tuple[NodePeer, Attempt]:
    """Where the one attempt began that began since the last time."""
    ((node, attempt),) = [(node, attempt) for node in nodes for attempt in node.started()]
    return node, attempt


def two_nodes(**settings: float) -> tuple[Bench, NodePeer, NodePeer, ClientPeer]:
    bench = Bench(**settings)
    return bench, bench.node("a"), bench.node("b"), bench.client()


def test_it_waits_and_runs_on_another_node_and_its_client_sees_one_end() -> None:
    bench, *nodes, client = two_nodes()
    client.submit(retry_on=["Flaky"], backoff_s=4.0)
    first, attempt = begun(*nodes)
    first.emit(attempt, flaky())
    assert first.core.held_count == 0
    bench.pass_time(1.75)
    assert not any(node.started() for node in nodes)  # half of the wait at least
    bench.pass_time(2.5)
    second, attempt = begun(*nodes)
    assert (second is not first, attempt.number) == (True, 2)
    second.result(attempt)
    (event,) = client.events()
    assert (event.result.data, event.started.after) == (b"value", "Flaky: no answer")
    client.taken(event)
    assert bench.broker.leftovers() == []


def test_the_last_error_tells_of_all_attempts() -> None:
    _bench, *nodes, client = two_nodes()
    client.submit(retry_on=["Flaky"], backoff_s=0.0, retries=2)
    for number in (1, 2, 3):
        node, attempt = begun(*nodes)
        assert attempt.number == number
        node.emit(attempt, flaky(f"no {number}"))
    (event,) = client.events()
    assert event.error.message == "no 3"
    assert event.error.details["not_again"] == "it had run 3 times and 2 retries are allowed"
    earlier = [(info.message, info.details["attempt"]) for info in event.error.earlier]
    assert earlier == [("no 1", "1"), ("no 2", "2")]


def test_an_error_that_the_node_doesnt_call_retriable_ends_it() -> None:
    _, *nodes, client = two_nodes()
    client.submit(retry_on=["Flaky"], backoff_s=0.0)
    node, attempt = begun(*nodes)
    event = flaky()
    event.error.retriable = False
    node.emit(attempt, event)
    assert client.bodies() == ["error"]


def test_retries_0_allows_none() -> None:
    _, *nodes, client = two_nodes()
    client.submit(retry_on=["Flaky"], retries=0)
    node, attempt = begun(*nodes)
    node.emit(attempt, flaky())
    assert client.bodies() == [None, "error"]


def test_after_an_item_it_isnt_run_again_and_the_error_says_so() -> None:
    _, *nodes, client = two_nodes()
    client.submit(retry_on=["Flaky"], backoff_s=0.0)
    node, attempt = begun(*nodes)
    node.item(attempt)
    node.emit(attempt, flaky())
    *_, last = client.events()
    assert last.error.details["not_again"] == "it had delivered items already"


def test_lost_attempts_and_failed_ones_count_together() -> None:
    bench, *nodes, client = two_nodes(grace_s=1.0)
    client.submit(retry_on=["Flaky"], backoff_s=0.0, retries=1)
    first, _ = begun(*nodes)
    first.cut()
    bench.pass_time(1.5)
    second, attempt = begun(*nodes)
    second.emit(attempt, flaky())
    (event,) = client.events()
    (lost,) = event.error.earlier
    assert (lost.code, lost.node_id, attempt.number) == ("lost", first.name, 2)


def test_a_wait_beyond_its_timeout_isnt_begun() -> None:
    _, *nodes, client = two_nodes()
    client.submit(retry_on=["Flaky"], backoff_s=10.0, timeout_s=3.0)
    node, attempt = begun(*nodes)
    node.emit(attempt, flaky())
    (event,) = client.events()
    assert event.error.details["not_again"] == "its timeout would be over before"


def test_one_that_waits_can_be_cancelled() -> None:
    bench, *nodes, client = two_nodes()
    call_id = client.submit(retry_on=["Flaky"], backoff_s=5.0)
    node, attempt = begun(*nodes)
    node.emit(attempt, flaky())
    client.cancel(call_id)
    bench.pass_time(10)
    assert bench.broker.leftovers() == []
    assert not any(node.started() for node in nodes)


def test_its_client_reconnects_while_it_waits() -> None:
    bench, *nodes, client = two_nodes()
    client.submit(retry_on=["Flaky"], backoff_s=2.0)
    node, attempt = begun(*nodes)
    node.emit(attempt, flaky())
    client.cut()
    bench.pass_time(1)
    client.connect()
    bench.pass_time(2)
    node, attempt = begun(*nodes)
    node.result(attempt)
    assert client.bodies() == ["result"]


def test_an_error_that_came_while_the_gateway_knew_no_client_is_retried_when_it_is_back() -> None:
    bench = Bench()
    node, client = bench.node("a"), bench.client()
    client.submit(retry_on=["Flaky"], backoff_s=0.0)
    attempt = node.only_started()
    bench.restart()
    node.connect()
    node.emit(attempt, flaky())
    client.connect()
    node.result(node.only_started())
    assert client.bodies() == ["result"]


def test_nobody_offers_it_any_more_when_its_wait_is_over() -> None:
    bench = Bench()
    node, client = bench.node("a"), bench.client()
    client.submit(retry_on=["Flaky"], backoff_s=1.0)
    node.emit(node.only_started(), flaky())
    node.offer("g")
    bench.settle()
    bench.pass_time(2)
    error = client.only_verdict()
    assert (error.code, error.may_have_run, len(error.earlier)) == ("lost", True, 1)
    assert "'f' failed (Flaky: no answer)" in error.message


def test_few_earlier_attempts_are_kept() -> None:
    bench = Bench()
    node, client = bench.node("a"), bench.client()
    client.submit(retry_on=["Flaky"], backoff_s=0.0, retries=30)
    for _ in range(20):
        node.emit(node.only_started(), flaky("x" * 10_000))
    submit = node.only_started().submit
    assert [info.details["attempt"] for info in submit.earlier] == [str(n) for n in range(11, 21)]
    assert submit.ByteSize() < 10_000


@pytest.mark.parametrize("first_s", [0.1, 0.5, 20.0, float("nan"), float("inf"), -1.0])
def test_waits_double_are_bounded_and_differ_between_calls(first_s: float) -> None:
    bench = Bench()
    bench.node("a", slots=50)
    client = bench.client()
    for _ in range(40):
        client.submit(retry_on=["Flaky"], backoff_s=first_s)
    calls = list(bench.broker._calls.values())
    base_s = first_s if 0 <= first_s <= retrying.MAX_BACKOFF_S else retrying.MAX_BACKOFF_S
    for runs in (1, 2, 3, 12, 1000):
        for call in calls:
            call.runs = runs
        waits = [retrying.wait_s(call) for call in calls]
        longest = min(base_s * 2 ** min(runs - 1, 20), retrying.MAX_BACKOFF_S)
        assert all(longest / 2 <= wait <= longest for wait in waits)
        assert len({round(wait / longest, 3) for wait in waits}) > 20


# ---- what the owner of the function says -------------------------------------------------------------------------------


def owned(retries: int | None = None, idempotent: bool = False, retry_on: list[str] | None = None) -> pb.FunctionSpec:
    made = spec("f")
    made.idempotent = idempotent
    if retries is not None:
        made.retry.retries, made.retry.retries_set = retries, True
    made.retry.retry_on.extend(retry_on or [])
    made.retry.backoff_s = 0.0
    return made


def with_owned(made: pb.FunctionSpec, **settings: float) -> tuple[Bench, NodePeer, ClientPeer]:
    bench = Bench(**settings)
    node, client = bench.node("a"), bench.client()
    node.offer(made)
    bench.settle()
    return bench, node, client


def test_the_owners_rule_holds_for_calls_that_say_nothing() -> None:
    _, node, client = with_owned(owned(retries=1, retry_on=["Flaky"]))
    client.submit()
    node.emit(node.only_started(), flaky())
    node.emit(node.only_started(), flaky())
    assert client.bodies() == ["error"]


def test_a_call_that_says_something_is_believed() -> None:
    _, node, client = with_owned(owned(retries=5, retry_on=["Flaky"]))
    client.submit(retries=0)
    node.emit(node.only_started(), flaky())
    assert client.bodies() == [None, "error"]


def test_an_owners_retries_0_is_kept_across_a_loss_and_a_restart() -> None:
    bench, node, client = with_owned(owned(retries=0), grace_s=1.0)
    client.submit()
    assert node.only_started().submit.options.retries_set
    node.lose()
    bench.restart()
    client.connect()
    other = bench.node("b")
    bench.pass_time(3)
    error = client.only_verdict()
    assert (error.code, error.may_have_run, other.started()) == ("lost", True, [])


def test_an_idempotent_call_is_run_again_where_the_owner_or_the_gateway_allow_others_none() -> None:
    for made, settings in ((owned(retries=0), {}), (spec("f"), {"default_retries": 0})):
        bench, node, client = with_owned(made, grace_s=1.0, **settings)
        client.submit(idempotent=True)
        assert len(node.started()) == 1
        node.lose()
        node.bench.perform(bench.broker.disconnected(1, bench.now))
        other = bench.node("b")
        bench.pass_time(8)
        assert len(other.started()) == 1


def test_an_idempotent_function_likewise() -> None:
    _, node, client = with_owned(owned(idempotent=True), default_retries=0)
    client.submit()
    assert not node.only_started().submit.options.retries_set


# ---- second copies -----------------------------------------------------------------------------------------------------


def second_copy(client: ClientPeer, first: bytes, **options: float) -> bytes:
    call = pb.Submit(call_id=new_id(), function="f", options=pb.Options(**options), hedge_of=first)
    call_id = call.call_id
    client.core.submit(call, client.bench.now)
    client.bench.settle()
    return call_id


def test_a_second_copy_goes_to_another_node() -> None:
    bench, *nodes, client = two_nodes()
    first = client.submit()
    node, _ = begun(*nodes)
    second_copy(client, first)
    other, attempt = begun(*nodes)
    assert other is not node
    other.result(attempt)
    client.cancel(first)
    (event,) = client.events()
    client.taken(event)
    assert node.stopped()
    bench.pass_time(1)


@pytest.mark.parametrize(
    "why", ["first waits", "first has ended", "first is unknown", "others are busy", "no other", "a stranger's"]
)
def test_or_it_goes_nowhere(why: str) -> None:
    bench = Bench()
    nodes = [bench.node("a"), *([bench.node("b")] if why != "no other" else [])]
    client = bench.client()
    first = client.submit()
    node, attempt = begun(*nodes)
    if why == "others are busy":
        client.submit()
    elif why == "first waits":
        client.submit()
        first = client.submit()
    elif why == "first has ended":
        node.result(attempt)
        client.taken(client.events()[0])
    elif why == "first is unknown":
        first = new_id()
    elif why == "a stranger's":
        client = bench.client()
    for one in nodes:
        one.started()
    call_id = second_copy(client, first)
    error = client.verdicts()[call_id]
    assert (error.code, error.details["copy"], error.may_have_run) == ("unavailable", "refused", False)
    assert not any(one.started() for one in nodes)


def test_a_second_copy_that_is_lost_is_not_run_again() -> None:
    bench, *nodes, client = two_nodes(grace_s=1.0)
    third = bench.node("c")
    first = client.submit()
    begun(*nodes, third)
    call_id = second_copy(client, first)
    other, _ = begun(*nodes, third)
    other.cut()
    bench.pass_time(2)
    assert client.verdicts()[call_id].code == "lost"
