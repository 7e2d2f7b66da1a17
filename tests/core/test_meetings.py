"""Where features meet: what each does by itself is tested elsewhere."""

from __future__ import annotations

import pytest

from easyremote.config import WindowSettings
from easyremote.core import placing, relay
from easyremote.core.circuits import HARD
from easyremote.core.node_session import Attempt, NodeSession, Start
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, new_id, spec

GIB = 2**30


def shared_gpu(index: int = 0, gib: int = 16) -> pb.NodeState:
    """A node with one GPU, which others of its machine offer too."""
    state = pb.NodeState()
    state.capacity.gpus.add(index=index, uuid="GPU-1", memory_bytes=gib * GIB)
    return state


def test_many_kinds_of_waiting_calls_and_a_node_that_rests(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(placing, "_MAX_KEYS", 50)
    bench = Bench(silence_s=1e9)
    nodes = [bench.node(name, "f", "g") for name in ("a", "b")]
    client = bench.client()
    for _ in range(HARD):
        client.submit("f", node_id="a")
        attempt = nodes[0].only_started()
        nodes[0].emit(attempt, pb.Event(error=pb.ErrorInfo(code="worker_crashed", message="killed")))
        client.taken(client.events()[-1])
    for name in ("a", "b"):
        client.submit("g", node_id=name)
    for index in range(80):  # more keys than answers are remembered
        client.submit("g", settle=False, cost_limit=1.0 + index)
    bench.settle()
    bench.pass_time(3.0)
    assert client.verdicts() == {}


def test_who_waits_for_a_shared_gpu_gets_it_when_the_node_that_used_it_is_gone() -> None:
    bench = Bench(silence_s=1e9)
    first = bench.node("a", state=shared_gpu(), host="box")
    second = bench.node("b", "g", state=shared_gpu(), host="box")
    client = bench.client()
    client.submit("f", needs=pb.Needs(gpus=1), retries=0)
    first.only_started()
    client.submit("g", needs=pb.Needs(gpus=1))
    assert second.started() == []
    first.send(pb.Frame(goodbye=pb.Goodbye()))
    bench.settle()
    assert len(second.started()) == 1


def test_who_waits_for_a_shared_gpu_gets_it_whichever_node_measured_that_it_is_free() -> None:
    bench = Bench(silence_s=1e9)
    first = bench.node("a", state=shared_gpu(), host="box")
    second = bench.node("b", "g", state=shared_gpu(), host="box")
    client = bench.client()
    for node, used in ((first, 15), (second, 15), (first, 0)):
        report = pb.Load()
        report.gpus.add(index=0, memory_used_bytes=used * GIB, own_memory_bytes=0)
        node.core.report(report)
        bench.settle()
        if used and node is second:
            client.submit("g", needs=pb.Needs(gpu_memory_bytes=8 * GIB))
            assert second.started() == []
    assert len(second.started()) == 1


def test_children_at_a_node_that_lends_no_slot_take_its_slots_and_no_more() -> None:
    bench = Bench(silence_s=1e9)
    caller, worker = bench.node("a", "f"), bench.node("b", "g")
    client = bench.client()
    for _ in range(5):  # it is known to be quick, so that calls are sent ahead
        client.submit("g")
        bench.now += 1e-4
        worker.result(worker.only_started())
        client.taken(client.events()[-1])
    parent = client.submit("f")
    caller.only_started()
    for _ in range(20):
        client.submit("g", parent_id=parent)
    assert len(worker.started()) == 1


def test_a_node_may_say_any_speed_of_the_values_that_it_fetched() -> None:
    for fetch_s in (1e-320, 1e308, float("inf"), float("nan"), -1.0):
        bench = Bench(silence_s=1e9)
        nodes = [bench.node(name) for name in ("a", "b")]
        client = bench.client()
        held = [pb.HeldValue(ref_id=bytes([7] * 16), size_bytes=2**40, fetch_s=fetch_s) for _ in range(2500)]
        nodes[0].send(pb.Frame(held_values=pb.HeldValues(held=held)))
        submit = pb.Submit(call_id=new_id(), function="f", refs=[pb.Ref(ref_id=new_id(), part_bytes=[2**63])])
        client.core.submit(submit, bench.now)
        bench.settle()
        assert len(nodes[0].started() + nodes[1].started()) == 1


def test_what_is_known_of_a_nodes_speed_goes_with_it() -> None:
    bench = Bench(silence_s=1e9)
    node = bench.node("a")
    held = pb.HeldValue(ref_id=new_id(), size_bytes=2**20, fetch_s=1.0)
    node.send(pb.Frame(held_values=pb.HeldValues(held=[held])))
    node.send(pb.Frame(held_values=pb.HeldValues(dropped=[held.ref_id])))
    node.send(pb.Frame(goodbye=pb.Goodbye()))
    assert not bench.broker._values._bytes_per_s


def test_errors_of_earlier_attempts_are_kept_short() -> None:
    bench = Bench(silence_s=1e9)
    node, client = bench.node("a"), bench.client()
    client.submit(retries=3, retry_on=["ValueError"], backoff_s=0.0)
    for _ in range(2):
        long = pb.ErrorInfo(code="remote" * 1000, type="E" * 10**5, message="m" * 10**5, retriable=True)
        node.emit(node.only_started(), pb.Event(error=long))
    assert node.only_started().submit.ByteSize() < 10_000


def test_a_second_copy_is_refused_by_a_gateway_that_ends() -> None:
    bench = Bench(silence_s=1e9)
    nodes = [bench.node(name) for name in ("a", "b")]
    client = bench.client()
    first = client.submit()
    (attempt,) = [attempt for node in nodes for attempt in node.started()]
    assert attempt.call_id == first
    bench.perform(bench.broker.drain(bench.now))
    submit = pb.Submit(call_id=new_id(), function="f", hedge_of=first, options=pb.Options(retries_set=True))
    client.core.submit(submit, bench.now)
    bench.settle()
    assert [node.started() for node in nodes] == [[], []]


def test_a_claimed_call_is_no_try_of_code() -> None:
    bench = Bench(silence_s=1e9)
    node, client = bench.node("a"), bench.client()
    client.submit()
    node.only_started()
    bench.restart()
    node.connect()
    client.connect()
    assert "" not in bench.broker._placing.nodes["a"].trying


def test_a_child_that_waits_for_a_gpu_doesnt_wait_behind_who_waits_for_its_parents_slot() -> None:
    state = pb.NodeState(node_id="a", slots=1)
    state.MergeFrom(shared_gpu())
    node = NodeSession(new_id(), pb.Runtime(), state, WindowSettings())
    node.offer([spec("f")])
    node.received([pb.Frame(welcome=pb.Welcome())], 1.0)

    def send(grant: pb.Grant | None) -> list[Attempt]:
        submit = pb.Submit(call_id=new_id(), function="f", attempt=1, grant=grant)
        effects = node.received([pb.Frame(submit=submit)], 1.0)
        return [effect.attempt for effect in effects if isinstance(effect, Start)]

    whole = pb.Grant(gpus=[0], is_exclusive=True)
    (other,) = send(
        pb.Grant(slots=0, gpus=[0], is_exclusive=True)
    )  # the gateway gave it up, and it is still being stopped
    (parent,) = send(None)
    assert not send(None)
    child = pb.Grant(slots=0)
    child.MergeFrom(whole)
    assert not send(child)
    effects = node.emit(other, pb.Event(result=pb.Payload()), 0, 2.0)
    (started,) = [effect.attempt for effect in effects if isinstance(effect, Start)]
    assert started.submit.grant == child
    assert parent is not started


def test_a_peer_fetches_so_much_at_a_time_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(relay, "MAX_TRANSFERS", 3)
    bench = Bench(silence_s=1e9)
    node, client = bench.node("a"), bench.client()
    call_id = client.submit()
    attempt = node.only_started()
    fetches = [pb.Fetch(transfer_id=new_id(), call_id=call_id, blob_id=b"b") for _ in range(4)]
    for fetch in [*fetches, pb.Fetch(transfer_id=b"x" * 65, call_id=call_id)]:
        node.send(pb.Frame(fetch=fetch))
    refused = [chunk.transfer_id for _, chunk in bench.chunks if chunk.error]
    assert refused == [fetches[-1].transfer_id, b"x" * 64]
    fetches[0].done = True
    node.send(pb.Frame(fetch=fetches[0]), pb.Frame(fetch=fetches[-1]))
    assert len(bench.broker._relay) == 3
    assert len(bench.chunks) == 2
    node.result(attempt)
    client.taken(client.events()[-1])
    assert not bench.broker._relay._of
