"""T8: client A and client B with tokens of their own, and what B tries with calls and values of A, whose ids it knows somehow."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from easyremote.core.fairness import TOKEN_SHARE
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, NodePeer, spec
from tests.core.test_access import access

REF = b"r" * 16

Attack = Callable[[bytes], pb.Frame]

ATTACKS: dict[str, Attack] = {
    "cancel": lambda call_id: pb.Frame(cancel=pb.Cancel(call_id=call_id)),
    "cancel tasks": lambda call_id: pb.Frame(cancel=pb.Cancel(call_id=call_id, tasks=[0])),
    "take its end": lambda call_id: pb.Frame(
        ack=pb.Ack(calls=[pb.Acknowledged(call_id=call_id, attempt=1, seq=99, ended=True)])
    ),
    "submit it": lambda call_id: pb.Frame(submit=pb.Submit(call_id=call_id, function="f")),
    "claim it": lambda call_id: pb.Frame(submit=pb.Submit(call_id=call_id, function="f", owner="a", again=True)),
    "outdate it": lambda call_id: pb.Frame(submit=pb.Submit(call_id=call_id, function="f", seen_attempt=9, again=True)),
    "hedge it": lambda call_id: pb.Frame(submit=pb.Submit(call_id=b"h" * 16, function="f", hedge_of=call_id)),
    "complete it": lambda call_id: pb.Frame(
        event=pb.Event(call_id=call_id, attempt=1, seq=1, result=pb.Payload(data=b"!"))
    ),
    "hand it back": lambda call_id: pb.Frame(
        handed_back=pb.HandedBack(attempts=[pb.AttemptState(call_id=call_id, attempt=1)])
    ),
    "fetch its arguments": lambda call_id: pb.Frame(
        fetch=pb.Fetch(transfer_id=b"t", blob_id=b"b", call_id=call_id, limit=100)
    ),
    "release its value": lambda _: pb.Frame(handles=pb.Handles(released=[REF])),
    "hold nothing": lambda _: pb.Frame(handles=pb.Handles(complete=True)),
    "have its value": lambda _: pb.Frame(handles=pb.Handles(held=[pb.Handle(ref_id=REF, has_value=True)])),
    "drop its value": lambda _: pb.Frame(held_values=pb.HeldValues(dropped=[REF])),
    "be done": lambda _: pb.Frame(synced=pb.Synced()),
}


def world() -> tuple[Bench, NodePeer, ClientPeer, ClientPeer]:
    bench = Bench()
    node = bench.node("n", "f", slots=4)
    return bench, node, bench.client(access("a", "call")), bench.client(access("b", "call"))


def attacked(name: str, thief: ClientPeer, call_id: bytes) -> None:
    thief.send(ATTACKS[name](call_id))
    thief.bench.settle()
    thief.bench.broker.check()


@pytest.mark.parametrize("name", ATTACKS)
def test_a_running_call_goes_on_as_if_nothing_had_been_tried(name: str) -> None:
    bench, node, owner, thief = world()
    owner.send(pb.Frame(handles=pb.Handles(held=[pb.Handle(ref_id=REF, has_value=True)])))
    call_id = owner.submit()
    attempt = node.only_started()
    attacked(name, thief, call_id)
    bench.pass_time(1)
    assert not node.stopped() and not [other for other in node.started() if other.call_id == call_id]
    assert not node.got("unwanted") and not thief.got("event")
    node.result(attempt, b"for a")
    (event,) = [event for event in owner.events() if event.HasField("result")]
    assert event.result.data == b"for a"
    assert not thief.got("event") and not owner.verdicts()


@pytest.mark.parametrize("name", ATTACKS)
def test_a_waiting_call_waits_on(name: str) -> None:
    _, node, owner, thief = world()
    for _ in range(4):
        owner.submit()
    running = node.started()
    call_id = owner.submit()
    attacked(name, thief, call_id)
    node.result(running[0])
    assert call_id in [attempt.call_id for attempt in node.started()] and not owner.verdicts()


@pytest.mark.parametrize("name", [name for name in ATTACKS if "it" in name.split()])
def test_a_call_whose_client_is_away_or_not_back_yet_is_its_owners(name: str) -> None:
    """The gateway was restarted, and the thief is back first."""
    bench, node, owner, thief = world()
    call_id = owner.submit()
    attempt = node.only_started()
    bench.restart()
    node.connect()
    thief.connect()
    attacked(name, thief, call_id)
    owner.connect()
    assert not node.stopped() and not [other for other in node.started() if other.call_id == call_id]
    node.result(attempt, b"for a")
    assert [event.result.data for event in owner.events() if event.HasField("result")] == [b"for a"]
    assert not thief.got("event")


def test_a_call_that_a_node_of_an_earlier_version_brings_back_is_its_clients() -> None:
    """It doesn't say whose it is."""
    bench, node, owner, _ = world()
    call_id = owner.submit()
    attempt = node.only_started()
    bench.restart()
    hello = node.core.hello
    node.core.hello = lambda: _without_owners(hello())  # type: ignore[method-assign]
    node.connect()
    owner.connect()
    node.result(attempt, b"back")
    assert [event.result.data for event in owner.events() if event.HasField("result")] == [b"back"]
    assert call_id


def _without_owners(frame: pb.Frame) -> pb.Frame:
    for state in frame.hello.node.attempts:
        assert state.owner == "a"
        state.owner = ""
    return frame


def test_nobody_asks_why_anothers_call_waits() -> None:
    _, _, owner, thief = world()
    call_id = owner.submit()
    assert thief.ask(pb.Query(explain=pb.Submit(call_id=call_id))).error.code == "usage"


# ---- values ----------------------------------------------------------------------------------------------------------


def test_a_value_is_fetched_only_by_whose_it_is() -> None:
    bench, _, owner, thief = world()
    owner.send(pb.Frame(handles=pb.Handles(held=[pb.Handle(ref_id=REF, has_value=True)])))
    thief.send(pb.Frame(handles=pb.Handles(held=[pb.Handle(ref_id=REF)])))
    bench.pass_time(10)
    thief.send(pb.Frame(fetch=pb.Fetch(transfer_id=b"t", blob_id=REF, of_ref=True, limit=100)))
    assert not owner.got("fetch")
    ((receiver, refused),) = bench.chunks
    assert receiver == thief.core.session_id and refused.error
    second = bench.client(access("a", "call"))  # another session of the same token
    second.send(pb.Frame(handles=pb.Handles(held=[pb.Handle(ref_id=REF)])))
    second.send(pb.Frame(fetch=pb.Fetch(transfer_id=b"u", blob_id=REF, of_ref=True, limit=100)))
    bench.settle()
    assert owner.got("fetch")


def test_a_call_does_not_bring_anothers_value_to_a_node() -> None:
    bench, node, owner, thief = world()
    owner.send(pb.Frame(handles=pb.Handles(held=[pb.Handle(ref_id=REF, has_value=True)])))
    bench.pass_time(10)
    stolen = pb.Submit(call_id=b"s" * 16, function="f", refs=[pb.Ref(ref_id=REF)])
    thief.core.submit(stolen, bench.now)
    bench.settle()
    assert thief.only_verdict().code == "ref_lost" and not node.started()
    node.send(pb.Frame(fetch=pb.Fetch(transfer_id=b"t", blob_id=REF, of_ref=True, limit=100)))
    assert not owner.got("fetch")
    mine = pb.Submit(call_id=b"m" * 16, function="f", refs=[pb.Ref(ref_id=REF)])
    owner.core.submit(mine, bench.now)
    bench.settle()
    assert node.only_started()
    node.send(pb.Frame(fetch=pb.Fetch(transfer_id=b"u", blob_id=REF, of_ref=True, limit=100)))
    bench.settle()
    assert owner.got("fetch")


# ---- nodes -----------------------------------------------------------------------------------------------------------


def test_only_the_node_that_has_the_attempt_reports_of_it() -> None:
    """T6: another node sends its end, an older attempt's, one of its own that was lost."""
    bench = Bench()
    node, evil = bench.node("n", access=access("a", "serve")), bench.node("evil", "g", access=access("b", "serve"))
    client = bench.client()
    call_id = client.submit()
    attempt = node.only_started()
    for number in (0, 1, 2, 99):
        forged = pb.Event(call_id=call_id, attempt=number, seq=1, result=pb.Payload(data=b"forged"))
        evil.send(pb.Frame(event=forged))
        evil.send(pb.Frame(handed_back=pb.HandedBack(attempts=[pb.AttemptState(call_id=call_id, attempt=number)])))
    bench.settle()
    assert client.bodies() == [] and not node.started()
    evil.core.hello = _claiming(evil.core.hello, call_id)  # type: ignore[method-assign]
    evil.connect()
    evil.send(pb.Frame(event=pb.Event(call_id=call_id, attempt=2, seq=1, result=pb.Payload(data=b"forged"))))
    bench.settle()
    node.result(attempt, b"true")
    assert [event.result.data for event in client.events() if event.HasField("result")] == [b"true"]


def _claiming(hello: Callable[[], pb.Frame], call_id: bytes) -> Callable[[], pb.Frame]:
    def lying() -> pb.Frame:
        frame = hello()
        frame.hello.node.attempts.append(pb.AttemptState(call_id=call_id, attempt=2, owner="owner"))
        return frame

    return lying


# ---- shares ----------------------------------------------------------------------------------------------------------


def test_a_token_has_one_share_of_a_node_however_many_sessions_it_opens() -> None:
    """Five sessions of A and one of B: calls of both alternate."""
    bench = Bench()
    node = bench.node("n", spec("f"), slots=1)
    blocker = bench.client()
    blocker.submit()
    running = node.only_started()
    flood = [bench.client(access("a", "call")) for _ in range(5)]
    for client in flood:
        for _ in range(4):
            client.submit()
    other = bench.client(access("b", "call"))
    for _ in range(4):
        other.submit()
    turns = []
    for _ in range(9):
        bench.now += 1
        node.emit(running, pb.Event(result=pb.Payload(), run_s=1.0))
        running = node.only_started()
        turns.append(running.submit.owner)
    assert turns[:8].count("b") == 4, turns


def test_the_share_of_a_token_is_kept_for_tokens_only() -> None:
    bench, node, owner, _ = world()
    for _ in range(6):
        owner.submit()
    bench.broker.check()
    call = next(iter(bench.broker._calls.values()))
    assert call.owner == TOKEN_SHARE + b"a" and call.whose == "a" and len(node.started()) == 4
