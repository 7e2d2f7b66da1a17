"""Peers come, go away for a moment, return, and are given up."""

import pytest

from easyremote.core.node_session import OffersConfirmed
from easyremote.core.records import Close, Send
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, NodePeer, new_id, spec


def hello(**fields: object) -> pb.Hello:
    values: dict[str, object] = {
        "protocol_min": 1,
        "protocol_max": 1,
        "role": pb.ROLE_NODE,
        "session_id": new_id(),
        "node": pb.NodeState(node_id="n", slots=1),
    }
    return pb.Hello(**(values | fields))  # type: ignore[arg-type]


def refusal_of(bench: Bench, greeting: pb.Hello) -> pb.Refused:
    """What it is refused with; nothing else may happen but that the connection is closed."""
    actions = bench.broker.connected(77, greeting, bench.now)
    bench.broker.check()
    sent, closed = actions
    assert isinstance(sent, Send)
    assert closed == Close(77)
    assert sent.conn == 77
    return sent.frame.refused


def test_a_new_peer_is_welcomed_with_what_it_must_keep_to() -> None:
    bench = Bench(heartbeat_s=1.5, grace_s=4.0)
    node = bench.node("gpu")
    (welcome,) = node.got("welcome")
    assert (welcome.protocol, welcome.heartbeat_s, welcome.grace_s) == (1, 1.5, 4.0)
    assert (welcome.node_id, welcome.version, welcome.resumed) == ("gpu", "9.9", False)
    assert welcome.gateway_id == bench.broker.gateway_id


def test_a_peer_that_returns_within_the_grace_time_is_resumed_and_later_it_is_not() -> None:
    bench = Bench(grace_s=5.0)
    client = bench.client()
    client.cut()
    bench.pass_time(4.0)
    client.connect()
    client.cut()
    bench.pass_time(6.0)
    client.connect()
    welcomes = client.got("welcome")
    assert [welcome.resumed for welcome in welcomes] == [False, True, False]
    assert welcomes[0].incarnation == welcomes[1].incarnation != welcomes[2].incarnation


def test_a_new_connection_replaces_the_old_one_whose_frames_are_then_dropped() -> None:
    bench = Bench()
    client = bench.client()
    old = client.conn
    again = bench.broker.connected(bench.next_conn(), client.core.hello().hello, bench.now)
    assert again[0] == Close(old)
    client.connect()
    actions = bench.broker.received(old, [pb.Frame(query=pb.Query(list_nodes=pb.Query.ListNodes()))], bench.now)
    assert actions == []
    bench.broker.disconnected(old, bench.now)  # what the old one does now doesn't matter
    bench.broker.check()
    assert client.ask(pb.Query(list_nodes=pb.Query.ListNodes())).gateway.clients == 1


@pytest.mark.parametrize(
    ("fields", "code", "words"),
    [
        ({"protocol_min": 2, "protocol_max": 3}, "protocol", ["2 to 3", "1", "9.9"]),
        ({"protocol_min": 0, "protocol_max": 0}, "protocol", ["0 to 0"]),
        ({"session_id": b"short"}, "remote_protocol", ["16 bytes"]),
        ({"role": pb.ROLE_UNSPECIFIED}, "remote_protocol", ["role"]),
        ({"node": pb.NodeState(node_id="n", slots=0)}, "usage", ["1 to 4096 slots", "not 0"]),
        ({"node": pb.NodeState(node_id="n", slots=4097)}, "usage", ["4097"]),
        ({"node": pb.NodeState(node_id="", slots=1)}, "usage", ["1 to 200"]),
        ({"node": pb.NodeState(node_id="x" * 201, slots=1)}, "usage", ["1 to 200"]),
        ({"node": pb.NodeState(node_id="a\nb", slots=1)}, "usage", ["printable"]),
    ],
)
def test_a_hello_that_makes_no_sense_is_refused(fields: dict[str, object], code: str, words: list[str]) -> None:
    refused = refusal_of(Bench(), hello(**fields))
    assert refused.code == code
    for word in words:
        assert word in refused.message


def test_the_number_of_sessions_is_bounded_but_a_known_one_may_always_return() -> None:
    bench = Bench(max_sessions=2)
    client = bench.client()
    bench.node("n1")
    refused = refusal_of(bench, hello(role=pb.ROLE_CLIENT))
    assert refused.code == "overloaded"
    assert refused.retry_after_s > 0
    client.connect()
    assert [welcome.resumed for welcome in client.got("welcome")] == [False, True]


def test_a_session_keeps_its_role_and_its_name() -> None:
    bench = Bench()
    node = bench.node("n")
    for changed in (
        hello(session_id=node.core.session_id, role=pb.ROLE_CLIENT),
        hello(session_id=node.core.session_id, node=pb.NodeState(node_id="other", slots=1)),
    ):
        assert refusal_of(bench, changed).code == "remote_protocol"


def test_a_second_node_of_a_name_is_refused_while_the_first_is_here() -> None:
    bench = Bench()
    bench.node("gpu")
    refused = refusal_of(bench, hello(node=pb.NodeState(node_id="gpu", slots=1)))
    assert refused.code == "duplicate_node"
    for word in ("'gpu'", "process 4711", "host-of-gpu"):
        assert word in refused.message


def test_a_name_is_taken_over_when_its_node_is_away_and_calls_go_to_the_new_one() -> None:
    bench = Bench(grace_s=60.0)
    old = bench.node("gpu")
    client = bench.client()
    running = client.submit()
    queued = client.submit(node_id="gpu")
    old.only_started()
    old.cut()
    new = bench.node("gpu")
    first = new.only_started()
    new.result(first)
    second = new.only_started()
    new.result(second)
    assert {first.call_id, second.call_id} == {running, queued}
    assert client.verdicts() == {}
    assert client.bodies() == ["result", "result"]


def test_a_silent_peer_is_closed_then_given_up() -> None:
    bench = Bench(silence_s=6.0, grace_s=5.0)
    client = bench.client()
    client.submit("f", queue_timeout_s=100)
    client.is_mute = True
    watcher = bench.client()

    def clients() -> int:
        return watcher.ask(pb.Query(list_nodes=pb.Query.ListNodes())).gateway.clients

    bench.pass_time(10.5)
    assert clients() == 2
    bench.pass_time(1.5)
    assert clients() == 1
    assert bench.broker.leftovers() == []


def test_absence_and_silence_are_counted_from_when_they_began_not_from_the_tick_before() -> None:
    bench = Bench(silence_s=6.0, grace_s=5.0)
    client, mute = bench.client(), bench.client()
    bench.now += 1.9
    client.cut()
    mute.is_mute = True
    mute.connect(settle=False)
    bench.pass_time(4.5)
    assert bench.broker.knows(client.core.session_id)
    assert mute.inbox[-1] is not None
    bench.pass_time(2.0)
    assert not bench.broker.knows(client.core.session_id)
    assert mute.inbox[-1] is None


def test_a_peer_that_returns_has_its_full_time_again() -> None:
    bench = Bench(silence_s=6.0, grace_s=5.0)
    client = bench.client()
    client.cut()
    bench.pass_time(4.5)
    client.is_mute = True
    client.connect(settle=False)
    bench.pass_time(5.5)
    assert client.inbox[-1] is not None


def test_a_peer_to_which_nothing_is_sent_hears_a_heartbeat() -> None:
    bench = Bench(heartbeat_s=2.0)
    client = bench.client()
    bench.pass_time(5.0)
    assert 1 <= len(client.got("heartbeat")) <= 2


def test_a_standstill_of_the_gateway_costs_nobody_his_session() -> None:
    bench = Bench()
    here, away = bench.client(), bench.client()
    away.cut()
    bench.now += 3600
    bench.perform(bench.broker.tick(bench.now))
    bench.settle()
    away.connect()
    assert here.conn
    assert [welcome.resumed for welcome in away.got("welcome")] == [False, True]


def test_after_a_standstill_a_silent_peer_is_noticed_as_soon_as_ever() -> None:
    """Regression: its time was set forward by the whole standstill, even when it had been heard since."""
    bench = Bench(silence_s=6.0)
    client = bench.client()
    bench.now += 3600
    client.send(pb.Frame(heartbeat=pb.Heartbeat()))  # read before the first tick
    bench.perform(bench.broker.tick(bench.now))
    client.is_mute = True
    bench.pass_time(6.5)
    assert client.inbox[-1] is None, "its connection is closed"


def test_a_goodbye_ends_the_session_at_once() -> None:
    bench = Bench(grace_s=60.0)
    node = bench.node("n")
    client = bench.client()
    client.submit("f", retries=1)
    attempt = node.only_started()
    client.core.goodbye()
    bench.settle()
    assert client.conn == 0
    assert node.stopped() == [attempt]
    client.connect()
    assert not client.got("welcome")[-1].resumed


def test_what_follows_a_goodbye_is_dropped() -> None:
    """Regression: a call submitted after it belonged to nobody and stayed for ever."""
    bench = Bench()
    client = bench.client()
    late = pb.Submit(call_id=new_id(), function="f", options=pb.Options(queue_timeout_s=100))
    client.send(pb.Frame(goodbye=pb.Goodbye()), pb.Frame(submit=late))
    assert bench.broker.leftovers() == []


def test_a_client_may_say_only_once_a_connection_that_it_has_repeated_its_calls() -> None:
    bench = Bench()
    node, client = bench.node("n"), bench.client()
    client.submit()
    client.send(pb.Frame(synced=pb.Synced()))
    bench.settle()
    assert node.stopped() == []


def test_frames_that_nobody_knows_are_counted_and_ignored() -> None:
    bench = Bench()
    client = bench.client()
    client.send(pb.Frame(), pb.Frame(hello=pb.Hello()), pb.Frame(welcome=pb.Welcome()))
    assert bench.broker.unknown_frames == 3
    assert client.conn


def test_frames_of_the_other_role_are_ignored() -> None:
    bench = Bench()
    client, node = bench.client(), bench.node("n")
    client.send(
        pb.Frame(event=pb.Event(call_id=new_id(), attempt=1, seq=1)),
        pb.Frame(offers=pb.Offers(revision=1)),
        pb.Frame(load=pb.Load()),
    )
    node.send(
        pb.Frame(submit=pb.Submit(call_id=new_id(), function="f")),
        pb.Frame(cancel=pb.Cancel(call_id=new_id())),
        pb.Frame(ack=pb.Ack(calls=[pb.Acknowledged(call_id=new_id(), ended=True)])),
        pb.Frame(synced=pb.Synced()),
    )
    bench.settle()
    assert bench.broker.leftovers() == []
    assert node.started() == []
    assert bench.broker.unknown_frames == 1, "a node makes no calls"


def test_offers_made_between_hello_and_welcome_arrive() -> None:
    """Regression: they were confirmed although the gateway had been told the old ones."""
    bench = Bench()
    node: NodePeer = bench.node("n", "old")
    node.connect(settle=False)
    revision = node.offer(spec("new"))
    bench.settle()
    functions = bench.client().ask(pb.Query(list_functions=pb.Query.ListFunctions())).functions
    assert [record.spec.name for record in functions] == ["new"]
    assert node.took(OffersConfirmed)[-1].revision == revision
