"""Submitting, cancelling, acknowledging, losing, running again, and running out of time."""

import pytest

from easyremote.core import client_session
from easyremote.core.broker import Broker
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, new_id


def one_node(**settings: object):  # type: ignore[no-untyped-def]
    bench = Bench(**settings)
    return bench, bench.node("n"), bench.client()


# ---- submitting ------------------------------------------------------------------------------------------------------


def test_a_call_runs_and_its_end_is_forgotten_everywhere_once_it_is_taken() -> None:
    bench, node, client = one_node()
    client.submit()
    node.result(node.only_started())
    (event,) = client.events()
    assert event.result.data == b"value"
    assert node.core.held_count == 1
    client.taken(event)
    assert (node.core.held_count, client.core.open_count, bench.broker.leftovers()) == (0, 0, [])


def test_submitting_twice_starts_one_run() -> None:
    bench, node, client = one_node()
    frame = pb.Frame(submit=pb.Submit(call_id=new_id(), function="f"))
    client.send(frame, frame)
    client.send(frame)
    bench.settle()
    assert len(node.started()) == 1


def test_the_gateway_passes_on_bytes_not_objects() -> None:
    """What it does to a call later must not change what it has handed to the writer before."""
    bench = Bench(grace_s=1.0)
    first, second = bench.node("a"), bench.node("b")
    client = bench.client()
    client.submit(settle=False)
    actions = bench.broker.received(client.conn, list(client.core.outbox), bench.now)
    sent = [action for action in actions if action.frame.HasField("submit")]  # type: ignore[union-attr]
    client.core.outbox.clear()
    before = sent[0].frame.SerializeToString()  # type: ignore[union-attr]
    first.cut()
    bench.pass_time(2)
    assert second.only_started().number == 2
    assert sent[0].frame.SerializeToString() == before  # type: ignore[union-attr]


def test_a_submission_that_comes_twice_on_one_connection_forgets_nothing() -> None:
    bench = Bench(grace_s=1.0)
    node, other = bench.node("a"), bench.node("b")
    client = bench.client()
    client.submit(settle=False)
    frame = client.core.outbox[0]
    bench.settle()
    node.item(node.only_started())
    client.send(frame)
    node.cut()
    bench.pass_time(2)
    assert (other.started(), client.only_verdict().code) == ([], "lost")


def test_a_call_belongs_to_the_session_that_submitted_it() -> None:
    bench, node, client = one_node()
    call_id = client.submit()
    node.started()
    stranger = bench.client()
    stranger.send(
        pb.Frame(submit=pb.Submit(call_id=call_id, function="f", seen_attempt=1, taken_seq=99)),
        pb.Frame(cancel=pb.Cancel(call_id=call_id)),
        pb.Frame(ack=pb.Ack(calls=[pb.Acknowledged(call_id=call_id, attempt=1, seq=9, ended=True)])),
    )
    bench.settle()
    assert node.stopped() == []
    assert node.core.held_count == 1
    assert stranger.got("event") == []


@pytest.mark.parametrize(
    "submit",
    [
        pb.Submit(call_id=b"short", function="f"),
        pb.Submit(call_id=bytes(16)),
        pb.Submit(call_id=bytes(16), function="f", code=pb.Code(kind=pb.Code.KIND_CELL)),
        pb.Submit(call_id=bytes(16), function="f", seen_attempt=2**32 - 1),
        pb.Submit(call_id=bytes(16), function="f", again=True, attempt_floor=2**32 - 1),
    ],
)
def test_a_submission_that_makes_no_sense_is_told_so_and_not_kept(submit: pb.Submit) -> None:
    bench, _, client = one_node()
    client.send(pb.Frame(submit=submit))
    bench.settle()
    (verdict,) = client.got("verdict")
    assert verdict.error.code == "remote_protocol"
    assert bench.broker.leftovers() == []


def test_a_verdict_that_was_lost_comes_again() -> None:
    bench = Bench()
    client = bench.client()
    client.submit(settle=False)
    client.send(*client.core.outbox)  # the answer is on its way ...
    client.core.outbox.clear()
    client.cut()
    client.connect()
    assert client.only_verdict().code == "no_node"
    assert bench.broker.leftovers() != []
    client.core.flush_acks()
    bench.settle()
    assert bench.broker.leftovers() == []


# ---- cancelling ------------------------------------------------------------------------------------------------------


def test_cancelling_a_call_that_waits_takes_it_out_of_the_queue() -> None:
    _, node, client = one_node()
    client.submit()
    waiting = client.submit()
    attempt = node.only_started()
    client.cancel(waiting)
    node.result(attempt)
    assert node.started() == []


def test_cancelling_a_call_that_runs_stops_it_and_frees_the_slot_when_it_has_stopped() -> None:
    _, node, client = one_node()
    call_id = client.submit()
    waiting = client.submit()
    attempt = node.only_started()
    client.cancel(call_id)
    assert node.stopped() == [attempt]
    assert node.started() == []
    node.emit(attempt, pb.Event(error=pb.ErrorInfo(code="cancelled")))
    assert node.only_started().call_id == waiting
    assert node.core.held_count == 1
    assert client.bodies() == []


def test_a_result_that_comes_after_the_cancel_is_dropped_and_forgotten() -> None:
    bench, node, client = one_node()
    call_id = client.submit()
    attempt = node.only_started()
    node.result(attempt, settle=False)
    client.cancel(call_id)
    bench.settle()
    assert (client.bodies(), node.core.held_count, bench.broker.leftovers()) == ([], 0, [])


def test_a_cancel_that_was_lost_is_understood_from_what_the_client_no_longer_wants() -> None:
    _, node, client = one_node()
    call_id = client.submit()
    attempt = node.only_started()
    client.cut()
    client.cancel(call_id)
    client.connect()
    assert node.stopped() == [attempt]


def test_a_cancel_reaches_a_node_that_was_away() -> None:
    bench, node, client = one_node()
    call_id = client.submit()
    attempt = node.only_started()
    node.cut()
    client.cancel(call_id)
    node.connect()
    assert node.stopped() == [attempt]
    node.emit(attempt, pb.Event(error=pb.ErrorInfo(code="cancelled")))
    assert bench.broker.leftovers() == []


def test_a_call_that_was_cancelled_before_it_reached_its_node_is_dropped_when_the_node_returns() -> None:
    bench, node, client = one_node()
    node.is_mute = True
    call_id = client.submit()
    client.cancel(call_id)
    node.cut()
    node.is_mute = False
    node.connect()
    assert (node.started(), bench.broker.leftovers()) == ([], [])


def test_a_client_that_is_gone_has_its_calls_stopped_with_a_reason() -> None:
    bench, node, client = one_node(grace_s=5.0)
    client.submit(), client.submit()
    attempt = node.only_started()
    client.cut()
    bench.pass_time(6)
    assert node.stopped() == [attempt]
    (cancel,) = node.got("cancel")
    assert "away for longer than the grace time" in cancel.reason
    node.emit(attempt, pb.Event(error=pb.ErrorInfo(code="cancelled")))
    assert bench.broker.leftovers() == []


def test_a_call_that_is_given_up_when_its_client_returns_gives_its_slot_to_the_next_one() -> None:
    """Regression ("long cuts", seed 82): the next one waited beside a free node until something else happened."""
    bench, node, client = one_node(grace_s=5.0)
    call_id = client.submit()
    node.item(node.only_started())
    other = bench.client()
    waiting = other.submit()
    client.cut()
    bench.pass_time(6)
    node.got("submit")
    client.connect()
    (judged,) = client.took(client_session.Judged)
    assert judged.call_id == call_id and judged.error.code == "lost"
    (submit,) = node.got("submit")
    assert submit.call_id == waiting


# ---- acknowledging ---------------------------------------------------------------------------------------------------


def test_a_lost_acknowledgement_is_repeated_so_that_a_full_window_opens() -> None:
    """Regression: it was lost between gateway and node, the window stayed closed, and the stream stood still for ever."""
    _, node, client = one_node()
    client.submit()
    attempt = node.only_started()
    while node.core.window_is_open(attempt):
        node.item(attempt, size=1024 * 1024)
    events = client.events()
    node.is_mute = True
    client.taken(events[-1], size=sum(1024 * 1024 for _ in events))
    node.is_mute = False
    node.cut()  # the acknowledgement was on its way
    node.connect()
    assert node.core.window_is_open(attempt)


def test_an_end_that_is_acknowledged_before_the_restarted_gateway_has_heard_of_it_counts() -> None:
    """Regression: the call stayed, and ran again when its node had another cut."""
    bench, node, client = one_node()
    client.submit()
    attempt = node.only_started()
    node.result(attempt)
    (event,) = client.events()
    bench.restart()
    client.connect()
    node.connect(settle=False)
    node.is_mute = True
    client.taken(event)  # while the node's own report is still on its way
    node.is_mute = False
    bench.settle()
    node.cut()
    node.connect()
    assert (node.started(), node.core.held_count, bench.broker.leftovers()) == ([], 0, [])


def test_an_end_of_another_attempt_stops_the_one_that_runs() -> None:
    _, node, client = one_node()
    call_id = client.submit()
    waiting = client.submit()
    attempt = node.only_started()
    client.send(pb.Frame(ack=pb.Ack(calls=[pb.Acknowledged(call_id=call_id, attempt=7, seq=1, ended=True)])))
    client.bench.settle()
    assert node.stopped() == [attempt]
    node.emit(attempt, pb.Event(error=pb.ErrorInfo(code="cancelled")))
    assert node.only_started().call_id == waiting


def test_an_end_whose_call_is_held_is_acknowledged_to_nobody_and_never_runs_again() -> None:
    """Regression: the call stayed held, and then ran again although its client had the result."""
    bench, node, client = one_node(grace_s=5.0)
    client.submit()
    node.result(node.only_started())
    (event,) = client.events()
    bench.restart()
    client.connect()
    client.taken(event)
    other = bench.node("other")
    bench.pass_time(10)
    assert (other.started(), bench.broker.leftovers()) == ([], [])


def test_a_call_whose_end_was_delivered_is_not_run_again_when_its_node_is_gone() -> None:
    """Regression: a client that hadn't taken the end yet, and reconnected, had its call run a second time."""
    bench, node, client = one_node()
    other = bench.node("other")
    client.submit(node_id="")
    (ran,) = [peer for peer in (node, other) for _ in peer.started()]
    attempt = next(iter(ran.core._attempts.values()))
    ran.result(attempt)
    (event,) = client.events()
    ran.core.goodbye("done")
    bench.settle()
    client.cut()
    client.connect()
    assert node.started() + other.started() == []
    assert client.verdicts() == {}
    client.taken(event)
    assert bench.broker.leftovers() == []


def test_an_end_that_the_client_missed_is_not_counted_as_delivered() -> None:
    """Regression: the client came back while the node was away; when the node was gone nobody told the client."""
    bench, node, client = one_node(grace_s=5.0)
    client.submit()
    attempt = node.only_started()
    client.is_mute = True
    node.result(attempt)  # passes the gateway, and is lost
    node.cut()
    client.is_mute = False
    client.connect()
    other = bench.node("other")
    bench.pass_time(6)
    assert other.only_started().number == 2


def test_an_end_that_came_after_a_gap_is_not_counted_as_delivered() -> None:
    """Regression: events between were lost, so the client dropped the end; its node was stopped before it could repeat them."""
    bench, node, client = one_node()
    client.submit()
    attempt = node.only_started()
    client.is_mute = True
    node.emit(attempt, pb.Event(output=pb.Output(text="lost on the way")))
    client.is_mute = False
    node.is_mute = True
    client.connect()  # the node doesn't get the request to repeat
    other = bench.node("other")
    last = pb.Event(call_id=attempt.call_id, attempt=1, seq=2, result=pb.Payload())
    node.send(pb.Frame(event=last), pb.Frame(goodbye=pb.Goodbye()))
    bench.settle()
    assert client.bodies() == []
    assert other.only_started().number == 2


# ---- losing a node ---------------------------------------------------------------------------------------------------


def test_a_lost_call_runs_again_on_another_node_and_says_where_it_was_lost() -> None:
    bench = Bench(grace_s=5.0)
    nodes = [bench.node("a"), bench.node("b")]
    client = bench.client()
    client.submit()
    first = nodes[0].only_started()
    nodes[0].cut()
    bench.pass_time(6)
    second = nodes[1].only_started()
    assert (first.number, second.number) == (1, 2)
    assert list(second.submit.options.not_on) == ["a"]


def test_a_call_prefers_a_node_that_has_not_lost_it_but_takes_the_same_rather_than_none() -> None:
    bench = Bench(grace_s=2.0)
    node, client = bench.node("a"), bench.client()
    client.submit(queue_timeout_s=60)
    node.only_started()
    node.cut()
    bench.pass_time(3)
    node.connect()
    (stopped,) = node.stopped()
    node.emit(stopped, pb.Event(error=pb.ErrorInfo(code="cancelled")))
    assert node.only_started().number == 2


def test_a_call_goes_to_a_busier_node_rather_than_to_one_that_has_lost_it() -> None:
    bench = Bench(grace_s=60.0)
    lost, client = bench.node("a", slots=4), bench.client()
    client.submit()
    lost.only_started()
    busy = bench.node("b", slots=4)
    client.submit(node_id="b")
    busy.only_started()
    lost.cut()
    again = bench.node("a", slots=4)  # another process of that name
    assert again.started() == []
    assert busy.only_started().number == 2


def test_a_node_that_returns_without_a_call_that_it_had_begun_has_lost_it() -> None:
    bench, node, client = one_node()
    client.submit(retries=1)
    attempt = node.only_started()
    node.emit(attempt, pb.Event(output=pb.Output(text="begun")))
    del node.core._attempts[attempt.key]
    node.core._stopped_running(attempt)
    node.cut()
    node.connect()
    assert node.only_started().number == 2
    assert bench.broker.leftovers()


def test_a_lost_call_gives_up_after_its_retries() -> None:
    bench = Bench(grace_s=1.0)
    client = bench.client()
    nodes = [bench.node(f"n{i}") for i in range(4)]
    client.submit(retries=2)
    for node in nodes[:3]:
        (attempt,) = node.started()
        node.cut()
        bench.pass_time(1.5)
    error = client.only_verdict()
    assert attempt.number == 3
    assert (error.code, error.may_have_run, error.node_id) == ("lost", True, "n2")
    assert "2 retries" in error.message
    assert nodes[3].started() == []


def test_a_stream_that_has_delivered_items_is_not_run_again() -> None:
    bench = Bench(grace_s=1.0)
    nodes = [bench.node("a"), bench.node("b")]
    client = bench.client()
    client.submit()
    nodes[0].item(nodes[0].only_started())
    nodes[0].cut()
    bench.pass_time(2)
    assert nodes[1].started() == []
    error = client.only_verdict()
    assert error.code == "lost"
    assert "delivered items" in error.message


def test_a_call_that_never_reached_its_node_costs_no_retry() -> None:
    """Regression: each connection that broke under a dispatch counted as a run."""
    bench, node, client = one_node(grace_s=1.0)
    node.is_mute = True
    client.submit(retries=1)
    for _ in range(3):
        node.cut()
        node.is_mute = False
        node.connect(settle=False)  # it is sent once more, and lost once more
    node.cut()
    node.connect()
    assert node.only_started().number == 1
    other = bench.node("other")
    node.cut()
    bench.pass_time(2)
    assert other.only_started().number == 2


def test_an_attempt_that_was_lost_on_the_way_is_sent_again_though_the_node_holds_an_older_one() -> None:
    """Regression: the older one hid that the newer had never come, and the call waited for ever."""
    bench, node, client = one_node(grace_s=5.0)
    client.submit()
    node.only_started()
    node.is_mute = True  # the gateway doesn't notice
    client.cut()
    bench.pass_time(5.5, step=0.5)
    client.connect()  # given up meanwhile, so the call begins anew: on the node that nobody hears
    node.is_mute = False
    node.connect()
    (stopped,) = node.stopped()
    node.emit(stopped, pb.Event(error=pb.ErrorInfo(code="cancelled")))
    assert node.only_started().number == 2


def test_a_queue_timeout_begins_anew_when_a_node_is_lost() -> None:
    """Regression: a call that ran for longer than it ends with a deadline instead of going to the next node."""
    bench = Bench(grace_s=5.0)
    first, second = bench.node("a"), bench.node("b")
    client = bench.client()
    call_id = client.submit(queue_timeout_s=3)
    blocker = client.submit(node_id="b")
    attempt = second.only_started()
    bench.pass_time(10)
    first.cut()
    bench.pass_time(5.5)
    bench.pass_time(2)
    assert client.verdicts() == {}
    second.result(attempt)
    assert second.only_started().call_id == call_id
    assert blocker != call_id


def test_errors_tell_the_truth_about_whether_a_call_has_run() -> None:
    bench = Bench(grace_s=1.0)
    client, node, other = bench.client(), bench.node("a"), bench.node("b", "g")
    client.submit("g")
    other.only_started()
    lost = client.submit("f")
    node.only_started()
    other.offer("g", "f")
    bench.settle()
    node.cut()
    bench.pass_time(2)  # it waits for b, which then stops offering it
    other.offer("g")
    bench.settle()
    error = client.verdicts()[lost]
    assert (error.code, error.may_have_run) == ("lost", True)


# ---- at most once ----------------------------------------------------------------------------------------------------


def test_a_call_without_retries_begins_when_its_client_has_acknowledged_it() -> None:
    bench, node, client = one_node()
    client.submit(retries=0, settle=False)
    client.exchange()
    node.exchange()
    assert node.started() == []
    bench.settle()
    assert node.only_started().number == 1
    (event,) = client.events()
    assert event.started.waits
    assert event.started.node_id == "n"
    assert event.started.kind == pb.FUNCTION_KIND_FUNCTION


def test_a_call_without_retries_that_began_is_lost_with_its_node() -> None:
    bench = Bench(grace_s=1.0)
    node, other = bench.node("a"), bench.node("b")
    client = bench.client()
    client.submit(retries=0)
    node.only_started()
    node.cut()
    bench.pass_time(2)
    assert other.started() == []
    error = client.only_verdict()
    assert (error.code, error.may_have_run) == ("lost", True)


def test_a_call_without_retries_whose_node_vanished_before_it_began_goes_to_another() -> None:
    bench = Bench(grace_s=3.0)
    node = bench.node("a")
    client = bench.client()
    client.submit(retries=0, settle=False)
    client.exchange()
    node.exchange()
    assert node.core.held_count == 1
    client.lose()  # with the question whether it may begin
    node.cut()
    client.connect()
    other = bench.node("b")
    bench.pass_time(4)
    assert node.started() == []
    assert other.only_started().number == 2
    assert client.verdicts() == {}


def test_a_gateway_whose_default_is_no_retries_lets_calls_begin_with_their_clients_word_too() -> None:
    bench = Bench(default_retries=0, grace_s=1.0)
    node, other = bench.node("a"), bench.node("b")
    client = bench.client()
    client.submit()
    assert client.events()[0].started.waits
    node.only_started()
    node.cut()
    bench.pass_time(2)
    assert (other.started(), client.only_verdict().code) == ([], "lost")


def test_a_second_attempt_of_a_call_that_may_begin_only_once_is_not_allowed() -> None:
    bench, node, client = one_node()
    call_id = client.submit(retries=0)
    node.only_started()
    started = pb.Started(node_id="x", waits=True)
    again = pb.Frame(event=pb.Event(call_id=call_id, attempt=2, seq=1, started=started))
    client.did(client.core.received([again], bench.now))
    bench.settle()
    error = client.only_verdict()
    assert (error.code, error.may_have_run) == ("lost", True)
    assert client.core.open_count == 0
    assert len(node.stopped()) == 1


# ---- time ------------------------------------------------------------------------------------------------------------


def test_the_time_left_travels_with_a_call() -> None:
    bench, node, client = one_node()
    client.submit()
    client.submit(timeout_s=10)
    attempt = node.only_started()
    bench.pass_time(4)
    node.result(attempt)
    assert node.only_started().submit.options.timeout_s == pytest.approx(6, abs=0.3)


def test_a_call_whose_time_is_over_is_not_sent_to_a_node() -> None:
    """Regression: between two ticks it was dispatched with a thousandth of a second left, and began."""
    bench, node, client = one_node()
    client.submit()
    late = client.submit(timeout_s=1.0)
    attempt = node.only_started()
    bench.now += 1.1
    node.result(attempt)
    assert node.started() == []
    assert client.verdicts()[late].code == "deadline"


def test_a_call_that_comes_again_after_its_deadline_is_not_begun() -> None:
    """Regression: it was submitted with a thousandth of a second left."""
    bench, node, client = one_node()
    client.submit(timeout_s=1.0, settle=False)
    client.cut()  # its submission is lost
    bench.now += 2
    client.connect()
    bench.pass_time(0.5)
    assert node.started() == []
    assert client.only_verdict().code == "deadline"


def test_a_deadline_passes_while_the_call_waits() -> None:
    bench, _, client = one_node()
    client.submit()
    waiting = client.submit(timeout_s=3)
    bench.pass_time(3.5)
    error = client.verdicts()[waiting]
    assert (error.code, error.may_have_run) == ("deadline", False)
    assert "busy" in error.message


def test_a_deadline_passes_while_the_call_is_held() -> None:
    bench, node, client = one_node(grace_s=5.0)
    client.submit(timeout_s=3)
    node.only_started()
    bench.restart()
    client.connect()
    bench.pass_time(3.5)
    error = client.only_verdict()
    assert (error.code, error.may_have_run) == ("deadline", True)
    node.connect()
    assert len(node.stopped()) == 1


@pytest.mark.parametrize("timeout_s", [float("inf"), float("nan"), 1e308, -1.0, -1e308])
def test_strange_timeouts_harm_nobody(timeout_s: float) -> None:
    bench, node, client = one_node()
    client.submit(timeout_s=timeout_s, queue_timeout_s=timeout_s, run_timeout_s=timeout_s)
    bench.pass_time(1)
    assert len(node.started()) == (0 if timeout_s < 0 else 1)


def test_check_notices_a_call_that_nobody_would_ever_end() -> None:
    """The invariants have teeth."""
    bench, _, client = one_node()
    client.submit(), client.submit()
    broker: Broker = bench.broker
    broker._queues.by_key.clear()
    with pytest.raises(AssertionError, match="in its queue"):
        broker.check()
