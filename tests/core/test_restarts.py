"""The gateway's process is replaced, and knows nothing; those who come back tell it."""

from collections.abc import Sequence

from easyremote.core.client_session import ATTEMPTS_PER_GATEWAY
from easyremote.core.strategies import Offer
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, NodePeer, new_id


def running(bench: Bench, **options: object) -> tuple[NodePeer, ClientPeer, bytes]:
    node, client = bench.node("n"), bench.client()
    return node, client, client.submit(**options)  # type: ignore[arg-type]


def test_a_running_call_goes_on_whoever_comes_back_first() -> None:
    for node_first in (True, False):
        bench = Bench()
        node, client, _ = running(bench)
        attempt = node.only_started()
        node.item(attempt, b"0")
        bench.restart()
        node.item(attempt, b"1")
        for peer in (node, client) if node_first else (client, node):
            peer.connect()
        node.item(attempt, b"2")
        node.result(attempt)
        events = client.events()
        assert [event.seq for event in events] == [1, 2, 3, 4]
        assert [event.item.data for event in events[:3]] == [b"0", b"1", b"2"]
        client.taken(events[-1])
        assert node.started() == []
        assert bench.broker.leftovers() == []


def test_a_node_that_returns_is_told_how_far_the_client_has_come() -> None:
    bench = Bench()
    node, client, _ = running(bench)
    attempt = node.only_started()
    node.item(attempt), node.item(attempt)
    client.core.taken(attempt.call_id, 1, 1, 0)
    bench.restart()
    client.connect()
    node.connect()
    (resume,) = node.got("resume")
    assert (resume.attempt, resume.after_seq, resume.taken_seq) == (1, 2, 1)


def test_a_call_that_its_node_brought_back_first_is_as_whole_as_any_other() -> None:
    """What the gateway learned from the node alone is completed by the client."""
    bench = Bench(grace_s=2.0)
    node, client = bench.node("n", "g"), bench.client()
    client.submit("g", timeout_s=30, label="mine")
    node.only_started()
    bench.restart()
    node.connect()
    client.connect()
    bench.node("wrong", "f")
    busy, other = bench.client(), bench.node("other", "g")
    busy.submit("g", node_id="other")
    blocking = other.only_started()
    node.cut()
    bench.pass_time(3)
    other.result(blocking)
    attempt = other.only_started()
    assert (attempt.submit.function, attempt.submit.options.label) == ("g", "mine")
    assert 25 < attempt.submit.options.timeout_s < 28


def test_a_call_that_nobody_brings_back_runs_again_when_the_grace_time_is_over() -> None:
    bench = Bench(grace_s=5.0)
    node, client, call_id = running(bench)
    node.started()
    bench.restart()
    client.connect()
    other = bench.node("other")
    bench.pass_time(4.5)
    assert other.started() == []
    bench.pass_time(1)
    attempt = other.only_started()
    assert attempt.call_id == call_id
    assert attempt.number > 1


def test_attempts_of_two_gateways_never_have_the_same_number() -> None:
    """Regression: after two restarts two nodes could hold attempt 2, and the client got a mixture of both."""
    bench = Bench(grace_s=5.0)
    client, numbers = bench.client(), []
    bench.node("first")
    client.submit()
    for name in ("second", "third"):
        bench.restart()
        client.connect()
        node = bench.node(name)
        bench.pass_time(5.5)
        numbers.append(node.only_started().number)
    assert numbers == [ATTEMPTS_PER_GATEWAY + 1, 2 * ATTEMPTS_PER_GATEWAY + 1]


def test_a_stream_that_has_delivered_items_is_not_begun_again_after_a_restart() -> None:
    """Regression: the new gateway didn't know of the items, and the consumer got them twice."""
    bench = Bench(grace_s=5.0)
    node, client, _ = running(bench)
    node.item(node.only_started())
    bench.restart()
    client.connect()
    other = bench.node("other")
    bench.pass_time(6)
    assert other.started() == []
    assert client.only_verdict().code == "lost"


def test_a_stream_of_which_the_client_has_no_item_yet_may_be_begun_again() -> None:
    bench = Bench(grace_s=2.0)
    node, client, _ = running(bench)
    other = bench.node("other")
    attempt = node.only_started()
    client.is_mute = True
    node.item(attempt)  # passes the gateway and is lost
    node.cut()
    client.is_mute = False
    client.connect()
    bench.pass_time(3)
    assert other.only_started().number == 2


def test_a_call_without_retries_that_may_have_begun_is_not_begun_again() -> None:
    """Regression: it ran a second time."""
    bench = Bench(grace_s=5.0)
    node, client, _ = running(bench, retries=0)
    node.only_started()
    bench.restart()
    client.connect()
    other = bench.node("other")
    bench.pass_time(6)
    error = client.only_verdict()
    assert (other.started(), error.code, error.may_have_run) == ([], "lost", True)


def test_a_call_without_retries_that_waited_at_the_old_gateway_goes_on_at_once() -> None:
    """Regression: it was taken for one that may have run, and was lost."""
    bench = Bench(grace_s=5.0)
    node, client, _ = running(bench, retries=0)
    node.only_started()
    waiting = client.submit(retries=0)
    bench.restart()
    client.connect()
    other = bench.node("other")
    attempt = other.only_started()
    assert attempt.call_id == waiting
    assert attempt.number > ATTEMPTS_PER_GATEWAY


def test_a_call_made_while_the_gateway_was_away_waits_for_the_nodes_that_may_return() -> None:
    """Regression: it was held for the whole grace time even when a node was there."""
    bench = Bench(grace_s=5.0)
    node, client = bench.node("n"), bench.client()
    bench.restart()
    early = client.submit()
    client.connect()
    bench.pass_time(2)
    assert client.verdicts() == {}
    node.connect()
    attempt = node.only_started()
    assert attempt.call_id == early
    node.result(attempt)
    late = client.submit()
    assert node.only_started().call_id == late


def test_a_call_that_is_sent_because_of_anothers_time_is_not_given_up_for_its_own() -> None:
    """Regression ("gateway crashes and cuts", seed 5232): it was stopped as one whose client hadn't come back, and never ended."""
    bench = Bench(grace_s=5.0, silence_s=1000.0)
    client, other = bench.client(), bench.client()
    held = client.submit(queue_timeout_s=60)
    bench.restart()
    is_over = bench.now + 5.0

    class Patient:
        """Rather waits, until the grace time is over."""

        def choose(self, function: str, offers: Sequence[Offer]) -> Offer | None:
            return offers[0] if bench.now > is_over else None

    bench.broker._placing._strategies["smart_adaptive"] = Patient()
    busy, free = bench.node("busy", "f", "g"), bench.node("free", slots=2)
    other.connect()
    other.submit("g")
    client.connect()
    early = client.submit()
    assert len(busy.started()) == 1 and not free.started()
    bench.now = is_over + 1.0
    bench.perform(bench.broker.tick(bench.now))
    bench.settle()
    assert {attempt.call_id for attempt in free.started()} == {held, early}
    assert not free.stopped() and client.verdicts() == {}


def test_when_no_node_returns_in_time_such_a_call_is_told() -> None:
    bench = Bench(grace_s=5.0)
    client = bench.client()
    bench.restart()
    client.submit()
    client.connect()
    bench.pass_time(4)
    assert client.verdicts() == {}
    bench.pass_time(1.5)
    assert client.only_verdict().code == "no_node"


def test_a_first_submission_that_was_lost_is_not_held() -> None:
    """Regression: a cut at the wrong moment cost the grace time, although the gateway knew its client."""
    bench = Bench()
    node, client = bench.node("n"), bench.client()
    client.submit(settle=False)
    client.cut()
    client.connect()
    assert node.only_started().number == 1


def test_a_submission_is_held_though_the_welcome_of_the_new_gateway_was_lost() -> None:
    """Regression: the second welcome said that the session was known, so the call was taken for one that never arrived."""
    bench = Bench(grace_s=5.0)
    node, client, _ = running(bench)
    node.only_started()
    bench.restart()
    other = bench.node("other")
    client.connect(settle=False)
    client.cut()
    client.connect()
    bench.pass_time(3)
    assert other.started() == []
    node.connect()
    bench.pass_time(3)
    assert other.started() == []


def test_an_attempt_that_nobody_asks_for_is_stopped_after_the_grace_time() -> None:
    bench = Bench(grace_s=5.0)
    node, _, _ = running(bench)
    attempt = node.only_started()
    bench.restart()
    node.connect()
    bench.pass_time(4.5)
    assert node.stopped() == []
    bench.pass_time(1)
    assert node.stopped() == [attempt]
    node.emit(attempt, pb.Event(error=pb.ErrorInfo(code="cancelled")))
    assert (node.core.held_count, bench.broker.leftovers()) == (0, [])


def test_an_ended_attempt_that_nobody_asks_for_is_forgotten_after_the_grace_time() -> None:
    bench = Bench(grace_s=5.0)
    node, _, _ = running(bench)
    node.result(node.only_started())
    bench.restart()
    node.connect()
    bench.pass_time(5.5)
    assert (node.core.held_count, bench.broker.leftovers()) == (0, [])


def test_a_result_waits_at_its_node_for_a_client_that_is_slower_than_the_gateway() -> None:
    bench = Bench(grace_s=5.0)
    node, client, _ = running(bench)
    attempt = node.only_started()
    bench.restart()
    node.result(attempt)
    node.connect()
    bench.pass_time(3)
    client.connect()
    assert client.bodies() == ["result"]


# ---- fencing ---------------------------------------------------------------------------------------------------------


def two_attempts(bench: Bench) -> tuple[NodePeer, NodePeer, ClientPeer]:
    """A call whose first attempt is on a node that was given up, and its second on another."""
    old, new = bench.node("old"), bench.node("new")
    client = bench.client()
    client.submit()
    old.only_started()
    old.cut()
    bench.pass_time(bench.settings.grace_s + 1)
    assert new.only_started().number == 2
    return old, new, client


def test_a_node_that_returns_with_a_call_that_runs_elsewhere_is_told_to_forget_it() -> None:
    bench = Bench()
    old, new, client = two_attempts(bench)
    attempt = next(iter(old.core._attempts.values()))
    old.result(attempt, b"old")
    old.connect()
    assert old.core.held_count == 0
    new.result(next(iter(new.core._attempts.values())), b"new")
    (event,) = client.events()
    assert event.result.data == b"new"


def test_after_a_restart_the_newer_attempt_goes_on_whichever_is_back_first() -> None:
    """Regression: the node that came first won; when it was the older one the client waited for ever."""
    for first, second in ((0, 1), (1, 0)):
        bench = Bench()
        nodes = two_attempts(bench)
        old, new, client = nodes
        bench.restart()
        client.connect()
        nodes[first].connect()
        nodes[second].connect()
        assert len(old.stopped()) == 1
        assert new.stopped() == []
        new.result(next(iter(new.core._attempts.values())), b"new")
        assert client.events()[-1].result.data == b"new"


def test_an_older_attempt_than_the_client_has_seen_is_not_taken_for_the_call() -> None:
    """Regression: its events were dropped by the client, which waited for ever."""
    for client_first in (True, False):
        bench = Bench(grace_s=5.0)
        old, new, client = two_attempts(bench)
        new.emit(next(iter(new.core._attempts.values())), pb.Event(output=pb.Output(text="seen")))
        bench.restart()
        for peer in (client, old) if client_first else (old, client):
            peer.connect()
        (stopped,) = old.stopped()
        old.emit(stopped, pb.Event(error=pb.ErrorInfo(code="cancelled")))
        third = bench.node("third")
        bench.pass_time(6)
        (attempt,) = third.started() + [a for a in old.started() if a.number > 1]
        assert attempt.number > 2


def test_a_newer_attempt_does_not_undo_an_end_that_the_client_has() -> None:
    """Regression: a node that came back with it stopped the gateway (a call that has ended can't be claimed)."""
    bench = Bench()
    old, new, client = two_attempts(bench)
    bench.restart()
    client.connect()
    old.connect()
    old.result(next(iter(old.core._attempts.values())), b"old")
    new.connect()
    assert len(new.stopped()) == 1
    (event,) = client.events()
    client.taken(event)
    new.emit(next(iter(new.core._running.values())), pb.Event(error=pb.ErrorInfo(code="cancelled")))
    assert bench.broker.leftovers() == []


def test_a_newer_attempt_goes_on_though_an_older_one_has_ended_as_long_as_nobody_has_its_end() -> None:
    bench = Bench()
    old, new, client = two_attempts(bench)
    old.result(next(iter(old.core._attempts.values())), b"old")
    bench.restart()
    old.connect()
    new.connect()
    client.connect()
    new.result(next(iter(new.core._attempts.values())), b"new")
    assert [event.result.data for event in client.events()] == [b"new"]


def claim(bench: Bench, name: str, call_id: bytes, attempt: int) -> list[str | None]:
    """A node says that it holds this attempt; what it is answered."""
    hello = pb.Hello(protocol_min=1, protocol_max=1, role=pb.ROLE_NODE, session_id=new_id())
    hello.node.CopyFrom(pb.NodeState(node_id=name, slots=1))
    hello.node.attempts.add(call_id=call_id, attempt=attempt)
    actions = bench.broker.connected(bench.next_conn(), hello, bench.now)
    bench.broker.check()
    return [action.frame.WhichOneof("body") for action in actions]  # type: ignore[union-attr]


def test_no_node_takes_over_what_this_gateway_has_given_to_another() -> None:
    bench = Bench(grace_s=2.0)
    node, client, call_id = running(bench)
    node.only_started()
    assert "forget" in claim(bench, "thief", call_id, 9)
    assert node.stopped() == []
    bench.restart()
    node.connect()
    client.connect()
    other = bench.node("other")
    node.cut()
    bench.pass_time(3)
    assert other.only_started().number == 2
    assert "forget" in claim(bench, "another thief", call_id, 9)
    assert other.stopped() == []


def test_claims_that_make_no_sense_are_answered_with_forget() -> None:
    bench = Bench()
    hello = pb.Hello(protocol_min=1, protocol_max=1, role=pb.ROLE_NODE, session_id=new_id())
    hello.node.CopyFrom(pb.NodeState(node_id="n", slots=1))
    for call_id, attempt in ((b"short", 1), (new_id(), 0), (new_id(), 2**32 - 1)):
        hello.node.attempts.add(call_id=call_id, attempt=attempt)
    actions = bench.broker.connected(5, hello, bench.now)
    bench.broker.check()
    assert sum(action.frame.HasField("forget") for action in actions) == 3  # type: ignore[union-attr]
    assert bench.broker.leftovers() == []


# ---- a client that was given up --------------------------------------------------------------------------------------


def away_for_long(bench: Bench, **options: object) -> tuple[NodePeer, ClientPeer]:
    node, client, _ = running(bench, **options)
    client.cut()
    bench.pass_time(6)
    client.connect()
    return node, client


def test_a_client_that_returns_after_it_was_given_up_has_its_call_run_again() -> None:
    """Regression: it got the end of the attempt that had been stopped: as if somebody had cancelled its call."""
    bench = Bench(grace_s=5.0)
    node, client = away_for_long(bench)
    (stopped,) = node.stopped()
    node.emit(stopped, pb.Event(error=pb.ErrorInfo(code="cancelled")))
    first, second = node.started()
    assert (first.number, second.number) == (1, 2)
    node.result(second)
    assert client.bodies() == ["result"]


def test_a_client_that_returns_after_it_was_given_up_has_lost_a_call_without_retries() -> None:
    bench = Bench(grace_s=5.0)
    _, client = away_for_long(bench, retries=0)
    assert client.only_verdict().code == "lost"


def test_a_client_that_lost_the_payload_of_an_end_while_its_call_is_held_has_it_run_again() -> None:
    bench = Bench(grace_s=5.0)
    node, client, call_id = running(bench)
    node.result(node.only_started())
    bench.restart()
    client.connect()
    client.core.again(call_id, bench.now, attempt=1, seq=1)
    other = bench.node("other")
    bench.pass_time(6)
    assert other.only_started().call_id == call_id


def test_each_time_a_client_returns_only_what_it_lacks_is_sent() -> None:
    bench = Bench()
    node, client, _ = running(bench)
    attempt = node.only_started()
    for already in (1, 2):
        node.item(attempt)
        client.cut()
        node.item(attempt)  # lost
        client.connect()
        (resume,) = node.got("resume")
        assert (resume.attempt, resume.after_seq) == (1, 2 * already - 1)
    assert [event.seq for event in client.events()] == [1, 2, 3, 4]


def test_a_standstill_gives_the_nodes_of_a_restarted_gateway_their_time() -> None:
    bench = Bench(grace_s=5.0)
    node, client, _ = running(bench)
    node.only_started()
    bench.restart()
    client.connect()
    bench.now += 60
    bench.perform(bench.broker.tick(bench.now))
    bench.settle()
    node.connect()
    bench.pass_time(1)
    assert client.verdicts() == {}
    assert node.stopped() == []


def test_attempts_of_earlier_gateways_use_up_no_retries() -> None:
    """Regression: an attempt that a second gateway began has number 2001, and counted for a third as 2,001 runs."""
    bench = Bench(grace_s=5.0)
    client = bench.client()
    bench.node("first")
    client.submit()
    bench.restart()
    client.connect()
    second = bench.node("second")
    bench.pass_time(6)
    attempt = second.only_started()
    assert attempt.number > ATTEMPTS_PER_GATEWAY
    second.emit(attempt, pb.Event())
    bench.restart()
    client.connect()
    third = bench.node("third")
    bench.pass_time(6)
    assert third.only_started().number > 2 * ATTEMPTS_PER_GATEWAY
