"""Nodes and gateways that take no new calls: what hasn't begun goes elsewhere, what runs may end."""

import pytest

from easyremote.core.client_session import GatewayLeaves
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, NodePeer, copied, new_id


def leave(node: NodePeer) -> None:
    node.core.leave(node.bench.now)
    node.core.check()
    node.bench.settle()


def drain(client: ClientPeer, name: str, reason: str = "") -> pb.Answer:
    return client.ask(pb.Query(drain_node=pb.Query.DrainNode(node_id=name, reason=reason)))


def resume(client: ClientPeer, name: str) -> pb.Answer:
    return client.ask(pb.Query(resume_node=name))


def record(client: ClientPeer, name: str) -> pb.NodeRecord:
    nodes = client.ask(pb.Query(list_nodes=pb.Query.ListNodes())).nodes
    return next(node for node in nodes if node.node_id == name)


def busy_with_one_waiting(bench: Bench, **options: object) -> tuple[NodePeer, ClientPeer]:
    """A node that runs one call and has another that hasn't begun: it has learned that calls are short."""
    node, client = bench.node("a"), bench.client()
    for _ in range(2):
        client.submit(**options)  # type: ignore[arg-type]
        attempt = node.only_started()
        bench.now += 0.0001
        node.result(attempt)
        client.taken(client.events()[-1])
    client.submit(**options)  # type: ignore[arg-type]
    client.submit(**options)  # type: ignore[arg-type]
    assert node.core.held_count == 2
    return node, client


# ---- a node that leaves ----------------------------------------------------------------------------------------------


def test_what_a_leaving_node_has_not_begun_goes_elsewhere_and_counts_as_no_attempt() -> None:
    bench = Bench()
    node, client = busy_with_one_waiting(bench, retries=1)
    other = bench.node("b")
    leave(node)
    (running,) = node.started()
    node.result(running)
    client.taken(client.events()[-1])
    bench.pass_time(1)
    assert node.core.held_count == 0
    assert other.only_started().number == 2  # numbers aren't used twice
    third = bench.node("c")
    other.cut()
    bench.pass_time(6)
    assert third.only_started().number == 3  # the one attempt more that retries=1 allows
    third.cut()
    bench.pass_time(6)
    assert client.only_verdict().code == "lost"


def test_a_leaving_node_gets_no_new_call_and_one_on_its_way_comes_back() -> None:
    bench = Bench()
    node, client = bench.node("a"), bench.client()
    client.submit(settle=False)
    frames = list(client.core.outbox)
    client.core.outbox.clear()
    client.send(*frames)  # it is in the node's inbox
    node.core.leave(bench.now)
    other = bench.node("b")
    assert node.started() == []
    assert other.only_started().number == 2
    client.submit()
    assert node.started() == []


def test_a_call_with_retries_0_that_was_announced_and_handed_back_runs_elsewhere() -> None:
    node, client = busy_with_one_waiting(Bench(), retries=0)
    assert [event.started.waits for event in client.events()] == [True, True]
    other = node.bench.node("b")
    leave(node)
    other.result(other.only_started(), b"from b")
    events = client.events()
    assert [event.attempt for event in events] == [2, 2]
    assert events[-1].result.data == b"from b"
    assert client.verdicts() == {}


def test_a_withdrawal_that_was_lost_is_said_again_before_the_next_attempt_announces_itself() -> None:
    node, client = busy_with_one_waiting(Bench(), retries=0)
    bench = node.bench
    other = bench.node("b")
    client.cut()
    leave(node)
    assert other.started() == []  # announced; it waits for the client's word
    client.connect()
    other.result(other.only_started(), b"from b")
    assert client.verdicts() == {}
    assert client.events()[-1].result.data == b"from b"


def test_a_hand_back_that_was_lost_is_said_again_and_then_forgotten() -> None:
    node, client = busy_with_one_waiting(Bench(), retries=0)
    bench = node.bench
    node.cut()
    node.core.leave(bench.now)
    assert node.core.held_count == 2
    other = bench.node("b")
    assert other.started() == []
    node.connect()
    other.result(other.only_started())
    assert node.core.held_count == 1  # the one that runs
    assert client.verdicts() == {}


def test_calls_that_only_a_draining_node_could_take_fail_with_the_reason_or_wait_as_long_as_they_may() -> None:
    bench = Bench()
    node, client = bench.node("a"), bench.client()
    answer = drain(client, "a", "new driver")
    assert (answer.nodes[0].status, answer.nodes[0].draining) == ("draining", "new driver")
    client.submit()
    client.submit(node_id="a")
    errors = client.verdicts().values()
    assert [error.code for error in errors] == ["no_node", "no_node"]
    for error in errors:
        assert not error.may_have_run
        for words in ("'a' (new driver)", "easyremote node resume a", "queue_timeout"):
            assert words in error.message
    client.submit(queue_timeout_s=3.0)
    assert client.verdicts() == {}
    resume(client, "a")
    assert node.only_started().number == 1


def test_a_drain_outlives_a_reconnect_of_the_node_and_a_restart_of_the_gateway() -> None:
    bench = Bench()
    node, client = bench.node("a"), bench.client()
    drain(client, "a", "new driver")
    node.cut()
    node.connect()
    assert record(client, "a").draining == "new driver"
    bench.restart()
    client.connect()
    node.connect()
    assert record(client, "a").draining == "new driver"
    assert resume(client, "a").nodes[0].status == "connected"
    node.cut()
    node.connect()
    assert record(client, "a").draining == ""


@pytest.mark.parametrize("drained", [True, False])
def test_a_drain_asked_for_or_taken_back_while_the_node_is_away_reaches_it(drained: bool) -> None:
    bench = Bench()
    node, client = bench.node("a"), bench.client()
    if not drained:
        drain(client, "a", "x")
    node.cut()
    assert (drain if drained else resume)(client, "a").nodes[0].status == "away"
    node.connect()
    assert node.core.is_draining is drained
    assert record(client, "a").status == ("draining" if drained else "connected")


def test_who_leaves_can_not_be_resumed_and_an_unknown_node_can_not_be_drained() -> None:
    bench = Bench()
    node, client = bench.node("a"), bench.client()
    leave(node)
    assert resume(client, "a").nodes[0].draining == "its process is ending"
    error = drain(client, "nobody").error
    assert error.code == "node_gone"
    assert "'nobody'" in error.message
    assert "connected are: a" in error.message


def test_what_a_leaving_node_disowns_is_lost_with_it_and_goes_elsewhere() -> None:
    bench = Bench()
    node, client = bench.node("a", slots=2), bench.client()
    client.submit()
    once = client.submit(retries=0)
    attempts = node.started()
    other = bench.node("b")
    leave(node)
    for attempt in attempts:
        node.core.disown(attempt)
        node.result(attempt)  # too late
    node.core.goodbye("it drained")
    bench.settle()
    assert {call_id: error.code for call_id, error in client.verdicts().items()} == {once: "lost"}
    assert other.only_started().number == 2


def test_a_node_that_hands_back_what_has_begun_or_what_it_never_had_harms_nobody() -> None:
    bench = Bench()
    node, client = bench.node("a"), bench.client()
    stranger = bench.node("b", "g")
    client.submit()
    attempt = node.only_started()
    node.item(attempt)
    handed_back = pb.HandedBack(attempts=[pb.AttemptState(call_id=attempt.call_id, attempt=1)])
    stranger.send(pb.Frame(handed_back=handed_back))
    client.send(pb.Frame(handed_back=handed_back))
    bench.settle()
    assert client.verdicts() == {}
    node.send(pb.Frame(handed_back=handed_back))
    bench.settle()
    assert client.only_verdict().code == "lost"  # an item was delivered


def test_a_node_that_hands_back_for_ever_uses_up_the_attempts_of_its_calls() -> None:
    bench = Bench()
    node, client = bench.node("a"), bench.client()
    call_id = client.submit(retries=2)
    for number in range(1, 200):
        state = pb.AttemptState(call_id=call_id, attempt=number)
        node.send(pb.Frame(handed_back=pb.HandedBack(attempts=[state])))
        bench.settle()
    assert client.only_verdict().code == "lost"


def test_an_older_gateway_gets_nothing_back() -> None:
    bench = Bench()
    node = bench.node("a")
    node.core.received([pb.Frame(welcome=pb.Welcome(gateway_id=new_id()))], bench.now)
    node.core.leave(bench.now)
    submit = pb.Submit(call_id=new_id(), function="f", attempt=1)
    node.did(node.core.received([pb.Frame(submit=submit)], bench.now))
    assert node.only_started().number == 1
    assert not [frame for frame in node.core.outbox if frame.HasField("handed_back")]


# ---- a gateway that is about to end ----------------------------------------------------------------------------------


def test_a_gateway_that_ends_gives_back_what_no_node_has_and_the_next_one_gets_it() -> None:
    bench = Bench()
    node, client = bench.node("a"), bench.client()
    client.submit()
    running = node.only_started()
    client.submit()
    bench.perform(bench.broker.drain(bench.now))
    bench.settle()
    client.submit()  # made when it had been told already
    assert (client.core.open_count, bench.broker.open_count) == (3, 1)
    node.result(running)
    client.taken(client.events()[-1])
    assert bench.broker.leftovers() == []
    bench.restart()
    client.connect()
    node.connect()
    first = node.only_started()
    assert first.number == 1
    node.result(first)
    node.result(node.only_started())
    assert client.verdicts() == {}
    assert client.bodies() == ["result", "result"]


def test_a_gateway_that_ends_tells_older_clients_when_to_try_again() -> None:
    bench = Bench()
    client = bench.client()
    bench.node("a")
    hello = copied(client.core.hello()).hello
    del hello.features[:]
    hello.session_id = new_id()
    conn = bench.next_conn()
    bench.perform(bench.broker.connected(conn, hello, bench.now))
    bench.perform(bench.broker.drain(bench.now))
    submit = pb.Frame(submit=pb.Submit(call_id=new_id(), function="f"))
    actions = bench.broker.received(conn, [submit], bench.now)
    bench.broker.check()
    (error,) = [action.frame.verdict.error for action in actions if action.frame.HasField("verdict")]  # type: ignore[union-attr]
    assert (error.code, error.retry_after_s > 0, error.may_have_run) == ("unavailable", True, False)


def test_calls_lost_with_their_node_while_the_gateway_ends_go_on_at_the_next_one() -> None:
    bench = Bench()
    node, client = bench.node("a"), bench.client()
    client.submit()
    node.only_started()
    bench.perform(bench.broker.drain(bench.now))
    node.core.goodbye("gone")
    bench.settle()
    assert client.verdicts() == {}
    bench.restart()
    other = bench.node("b")
    client.connect()
    bench.pass_time(6)
    assert len(other.started()) == 1


def test_a_goodbye_says_whether_the_gateway_may_return() -> None:
    client = Bench().client()
    client.did(client.core.received([pb.Frame(goodbye=pb.Goodbye(reason="x", returns=True))], 0.0))
    assert client.took(GatewayLeaves) == [GatewayLeaves("x", True)]
