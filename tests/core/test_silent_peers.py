"""Peers that say nothing, though their processes are known to live."""

from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, Peer


def pass_time(bench: Bench, seconds: float, *living: Peer) -> None:
    """Time passes; the shell sees that the processes of these peers live."""
    until = bench.now + seconds
    while bench.now < until:
        for conn in bench.broker.doubtful(bench.now):
            if conn in [peer.conn for peer in living]:
                bench.broker.vouch(conn, bench.now)
        bench.pass_time(0.25)


def status(bench: Bench, name: str) -> str:
    nodes = bench.client().ask(pb.Query(list_nodes=pb.Query.ListNodes())).nodes
    return next((node.status for node in nodes if node.node_id == name), "gone")


def test_a_silent_node_whose_process_lives_keeps_its_calls_and_gets_no_others() -> None:
    bench = Bench(silence_s=6.0, hold_s=60.0)
    node, client = bench.node("a", slots=2), bench.client()
    client.submit(retries=0)
    attempt = node.only_started()
    node.is_mute = True
    pass_time(bench, 50.0, node)
    assert status(bench, "a") == "silent"
    client.submit()
    pass_time(bench, 2.0, node)
    assert client.verdicts() == {}  # it waits
    node.is_mute = False
    bench.pass_time(0.5)
    assert status(bench, "a") == "connected"
    node.result(attempt)
    node.result(node.only_started())
    assert client.bodies() == [None, "result", "result"]


def test_what_waits_goes_to_another_node_while_one_is_silent() -> None:
    bench = Bench(default_strategy="round_robin")
    silent, client = bench.node("a", slots=4), bench.client()
    silent.is_mute = True
    pass_time(bench, 8.0, silent)
    client.submit()
    assert bench.node("b").only_started().number == 1


def test_a_silent_peer_is_given_up_when_its_process_is_not_seen_any_more_or_after_the_hold_time() -> None:
    bench = Bench(silence_s=6.0, hold_s=20.0, grace_s=5.0)
    node, other = bench.node("a"), bench.node("b")
    node.is_mute = other.is_mute = True
    pass_time(bench, 10.0, node, other)
    assert (status(bench, "a"), status(bench, "b")) == ("silent", "silent")
    pass_time(bench, 4.0, other)
    assert (status(bench, "a"), status(bench, "b")) == ("away", "silent")
    pass_time(bench, 8.0, other)
    assert (status(bench, "a"), status(bench, "b")) == ("gone", "away")


def test_nobody_is_asked_about_while_all_talk() -> None:
    bench = Bench()
    bench.node("a")
    bench.client()
    bench.pass_time(10)
    assert bench.broker.doubtful(bench.now) == []
