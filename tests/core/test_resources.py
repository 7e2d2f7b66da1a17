"""Calls that say what they need: where they go, what they wait for, and what is never given out twice."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from easyremote.core.keeping import KEEP_AFTER_S
from easyremote.core.node_session import Attempt
from easyremote.core.rooms import GONE_AFTER_S
from easyremote.core.strategies import Offer
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, NodePeer, spec

GIB = 2**30


def machine(
    gpus: tuple[int, ...] = (), cpus: float = 0, memory_gib: int = 0, labels: dict[str, str] | None = None
) -> pb.NodeState:
    """What a node offers; of each GPU its GiB."""
    capacity = pb.Capacity(millicpus=int(cpus * 1000), memory_bytes=memory_gib * GIB)
    for index, size in enumerate(gpus):
        capacity.gpus.add(index=index, uuid="", memory_bytes=size * GIB)
    return pb.NodeState(capacity=capacity, labels=labels)


def needs(
    slots: int | None = None,
    cpus: float | None = None,
    memory_gib: int | None = None,
    gpus: int | None = None,
    gpu_gib: int | None = None,
    labels: dict[str, str] | None = None,
) -> pb.Needs:
    return pb.Needs(
        slots=slots,
        millicpus=None if cpus is None else int(cpus * 1000),
        memory_bytes=None if memory_gib is None else memory_gib * GIB,
        gpus=gpus,
        gpu_memory_bytes=None if gpu_gib is None else gpu_gib * GIB,
        labels=labels,
    )


def function(name: str, of: pb.Needs | None = None, max_concurrency: int = 0) -> pb.FunctionSpec:
    made = spec(name)
    made.max_concurrency = max_concurrency
    if of is not None:
        made.needs.CopyFrom(of)
    return made


def submit(client: ClientPeer, name: str = "f", queue_timeout_s: float = 0.0, **wanted: Any) -> bytes:
    return client.submit(name, needs=needs(**wanted), queue_timeout_s=queue_timeout_s)


def load(node: NodePeer, *gpus: tuple[int, int, str]) -> None:
    """Report of each GPU (GiB in use, of them by the node itself, why it is lost)."""
    report = pb.Load()
    for index, (used, own, lost) in enumerate(gpus):
        report.gpus.add(index=index, memory_used_bytes=used * GIB, own_memory_bytes=own * GIB, lost=lost)
    node.core.report(report)
    node.bench.settle()


def gpus_of(attempt: Attempt) -> list[int]:
    return list(attempt.submit.grant.gpus)


# ---- what is given out -------------------------------------------------------------------------------------------------


def test_whole_gpus_go_to_one_call_each_and_the_rest_waits() -> None:
    bench = Bench()
    node, client = bench.node("a", slots=8, state=machine(gpus=(16, 16))), bench.client()
    for _ in range(3):
        submit(client, gpus=1)
    first, second = node.started()
    assert [gpus_of(first), gpus_of(second)] == [[0], [1]]
    assert first.submit.grant.is_exclusive
    node.result(second)
    assert gpus_of(node.only_started()) == [1]


def test_calls_share_a_gpu_up_to_its_memory_and_fill_the_fullest_first() -> None:
    bench = Bench()
    node, client = bench.node("a", slots=8, state=machine(gpus=(24, 16))), bench.client()
    submit(client, gpu_gib=10)
    submit(client, gpu_gib=6)
    submit(client, gpu_gib=7)
    assert [gpus_of(attempt) for attempt in node.started()] == [[1], [1], [0]]
    submit(client, gpus=1)  # each has a call already
    assert node.started() == []
    submit(client, gpu_gib=17)
    assert gpus_of(node.only_started()) == [0]
    submit(client, gpu_gib=1)
    assert node.started() == [], "24 - 7 - 17 and 16 - 10 - 6 leave nothing"


def test_memory_is_needed_on_each_of_several_gpus() -> None:
    bench = Bench()
    node, client = bench.node("a", slots=8, state=machine(gpus=(8, 16, 8, 16))), bench.client()
    submit(client, gpus=2, gpu_gib=12)
    assert gpus_of(node.only_started()) == [1, 3]
    submit(client, gpus=3, gpu_gib=12)
    error = client.only_verdict()
    assert error.code == "insufficient_resources"
    assert (error.details["wanted_gpu_memory"], error.details["most_gpu_memory"]) == ("12 GiB", "8 GiB")


@pytest.mark.parametrize(
    ("wanted", "at_once"),
    [
        ({"slots": 3}, 2),
        ({"slots": 2, "cpus": 0.1}, 3),
        ({"cpus": 0.3}, 6),
        ({"cpus": 2}, 1),
        ({"memory_gib": 3}, 2),
        ({"memory_gib": 1, "cpus": 1}, 2),
    ],
)
def test_no_more_run_than_what_they_need_is_there(wanted: dict[str, Any], at_once: int) -> None:
    bench = Bench()
    node, client = bench.node("a", slots=6, state=machine(cpus=2, memory_gib=6)), bench.client()
    for _ in range(10):
        submit(client, **wanted)
    running = node.started()
    ended = 0
    while running:
        assert len(running) == min(at_once, 10 - ended)
        node.result(running.pop())
        ended += 1
        running += node.started()
    assert ended == 10


def test_a_call_overrides_what_its_function_declares_and_labels_come_together() -> None:
    bench = Bench()
    declared = function("f", needs(gpus=1, gpu_gib=8, labels={"zone": "lab"}))
    node = bench.node("a", declared, slots=4, state=machine(gpus=(16, 16), labels={"zone": "lab", "disk": "ssd"}))
    client = bench.client()
    client.submit()
    assert gpus_of(node.only_started()) == [0]
    submit(client, gpus=0, gpu_gib=0)
    assert gpus_of(node.only_started()) == []
    submit(client, gpu_gib=12)
    assert gpus_of(node.only_started()) == [1]
    submit(client, labels={"disk": "tape"})
    assert client.only_verdict().details["most_labels.disk"] == "ssd"
    submit(client, labels={"zone": "elsewhere"})
    assert client.only_verdict().details["wanted_labels.zone"] == "elsewhere"


def test_nodes_without_what_a_call_needs_never_get_it() -> None:
    bench = Bench()
    plain = bench.node("plain", slots=8)
    lab = bench.node("lab", slots=8, state=machine(cpus=4, labels={"zone": "lab"}))
    client = bench.client()
    for _ in range(4):
        submit(client, labels={"zone": "lab"})
        submit(client, cpus=0.5)
    assert len(lab.started()) == 8
    assert plain.started() == []


def test_a_call_that_needs_nothing_may_be_sent_ahead_and_one_that_does_may_not() -> None:
    bench = Bench()
    node, client = bench.node("a", "f", "g", slots=2, state=machine(cpus=8)), bench.client()
    for _ in range(20):  # so short that calls are sent beyond the slots
        client.submit()
        bench.now += 0.0005
        node.result(node.only_started())
        client.taken(client.events()[-1])
    ids = [client.submit() for _ in range(6)]
    assert node.core.held_count == 6
    submit(client, "g", cpus=1)
    assert node.core.held_count == 6, "it waits at the gateway"
    for call_id in ids[:5]:
        (attempt,) = [a for a in node.core._running.values() if a.call_id == call_id]
        node.result(attempt)
    assert [attempt.submit.function for attempt in node.core._running.values()] == ["f", "g"]


def test_a_function_is_at_work_no_more_often_than_it_allows_and_others_use_the_rest() -> None:
    bench = Bench()
    node = bench.node("a", function("f", max_concurrency=2), "g", slots=5)
    client = bench.client()
    for _ in range(5):
        client.submit("f")
    for _ in range(4):
        client.submit("g")
    started = node.started()
    assert sorted(attempt.submit.function for attempt in started) == ["f", "f", "g", "g", "g"]
    node.result(started[0])
    assert node.only_started().submit.function == "f"


# ---- how it comes back -------------------------------------------------------------------------------------------------


def test_a_cancelled_call_holds_its_gpu_until_the_node_says_that_it_ended() -> None:
    bench = Bench()
    node, client = bench.node("a", slots=4, state=machine(gpus=(16,))), bench.client()
    first = submit(client, gpus=1)
    attempt = node.only_started()
    submit(client, gpus=1)
    client.cancel(first)
    assert node.started() == []
    node.emit(attempt, pb.Event(error=pb.ErrorInfo(code="cancelled")))
    assert gpus_of(node.only_started()) == [0]


def test_what_a_lost_node_held_is_free_when_it_is_back() -> None:
    bench = Bench()
    node, client = bench.node("a", slots=4, state=machine(gpus=(16,))), bench.client()
    client.submit(needs=needs(gpus=1), retries=2, queue_timeout_s=60)
    node.only_started()
    bench.peers.remove(node)
    bench.perform(bench.broker.disconnected(node.conn, bench.now))
    bench.pass_time(7)
    again = bench.node("a", slots=4, state=machine(gpus=(16,)))
    assert gpus_of(again.only_started()) == [0]


def test_after_a_restart_of_the_gateway_what_runs_is_accounted_for_before_anything_is_sent() -> None:
    bench = Bench()
    node = bench.node("a", function("f", max_concurrency=2), "g", slots=6, state=machine(gpus=(16, 16), cpus=4))
    client = bench.client()
    submit(client, gpus=1, cpus=1)
    submit(client, "g", gpu_gib=10, cpus=3)
    running = node.started()
    bench.restart()
    late = bench.client()
    node.connect()
    submit(late, "g", gpus=1)
    submit(late, "g", gpu_gib=6)
    submit(late, "f")
    submit(late, "f")
    submit(late, "g", cpus=1)
    bench.broker.check()
    assert [(a.submit.function, gpus_of(a)) for a in node.started()] == [("g", [1]), ("f", [])]
    client.connect()
    node.result(running[0])
    assert [(a.submit.function, gpus_of(a)) for a in node.started()] == [("g", [0]), ("f", []), ("g", [])]


def test_a_call_with_a_gpu_that_is_still_stopping_holds_up_the_next_one_at_the_node() -> None:
    bench = Bench()
    node, client = bench.node("a", slots=4, state=machine(gpus=(16,))), bench.client()
    submit(client, gpus=1)
    attempt = node.only_started()
    node.send()  # the gateway gives it up without waiting for its end
    broker_call = bench.broker._calls[attempt.call_id]
    bench.broker._attempts.forget_at(broker_call.node, attempt.call_id, attempt.number)  # type: ignore[arg-type]
    bench.broker._endings.drop(broker_call)
    bench.perform(bench.broker._take())
    bench.settle()
    submit(client, gpus=1)
    assert node.started() == []
    node.emit(attempt, pb.Event(error=pb.ErrorInfo(code="cancelled")))
    assert gpus_of(node.only_started()) == [0]


# ---- nodes of one machine ----------------------------------------------------------------------------------------------


def test_nodes_of_one_machine_share_its_gpus_processors_and_memory() -> None:
    bench = Bench()
    states = []
    for _ in range(2):
        state = machine(gpus=(16,), cpus=4, memory_gib=8)
        state.capacity.gpus[0].uuid = "GPU-1"
        state.capacity.shares_cpus = state.capacity.shares_memory = True
        states.append(state)
    a = bench.node("a", slots=4, state=states[0], host="box")
    b = bench.node("b", slots=4, state=states[1], host="box")
    client = bench.client()
    submit(client, gpus=1)
    submit(client, gpus=1)
    first = a.started() + b.started()
    assert len(first) == 1
    (a if first[0].started.node_id == "a" else b).result(first[0])
    assert len(a.started() + b.started()) == 1, "the other node was told that it is free"
    for _ in range(3):
        submit(client, cpus=2, memory_gib=1)
    assert len(a.started() + b.started()) == 2
    submit(client, memory_gib=7)
    assert a.started() + b.started() == []


def test_what_an_owner_has_set_is_the_nodes_own() -> None:
    bench = Bench()
    a = bench.node("a", slots=4, state=machine(cpus=2), host="box")
    b = bench.node("b", slots=4, state=machine(cpus=2), host="box")
    client = bench.client()
    for _ in range(4):
        submit(client, cpus=1)
    assert len(a.started() + b.started()) == 4


# ---- what is measured --------------------------------------------------------------------------------------------------


def test_what_others_use_of_a_gpu_is_not_free_and_comes_back_with_them() -> None:
    bench = Bench()
    node, client = bench.node("a", slots=4, state=machine(gpus=(16,))), bench.client()
    load(node, (10, 0, ""))
    submit(client, gpu_gib=8)
    assert node.started() == []
    load(node, (4, 0, ""))
    attempt = node.only_started()
    load(node, (12, 8, ""))  # it uses what it holds
    submit(client, gpu_gib=4)
    assert len(node.started()) == 1
    node.result(attempt)
    load(node, (12, 8, ""))  # its worker lives on, idle, with what it had
    submit(client, gpu_gib=8)
    assert len(node.started()) == 1


def test_where_a_node_can_not_tell_its_own_processes_its_calls_use_what_they_hold() -> None:
    bench = Bench()
    node, client = bench.node("a", slots=4, state=machine(gpus=(16,))), bench.client()
    submit(client, gpu_gib=8)
    node.only_started()
    load(node, (8, 0, ""))
    submit(client, gpu_gib=8)
    assert len(node.started()) == 1


def test_a_gpu_that_vanishes_gets_nothing_new_until_it_is_back() -> None:
    bench = Bench()
    node, client = bench.node("a", slots=4, state=machine(gpus=(16, 16))), bench.client()
    submit(client, gpus=1)
    running = node.only_started()
    load(node, (0, 0, "GPU is lost"), (0, 0, ""))
    submit(client, gpus=1)
    assert gpus_of(node.only_started()) == [1]
    submit(client, gpus=1)
    node.result(running)
    assert node.started() == [], "what ran there went on, and nothing new is begun"
    load(node, (0, 0, ""), (0, 0, ""))
    assert gpus_of(node.only_started()) == [0]


def test_a_call_waits_a_moment_for_a_lost_gpu_and_then_fails() -> None:
    bench = Bench()
    node, client = bench.node("a", slots=4, state=machine(gpus=(16,))), bench.client()
    load(node, (0, 0, "GPU is lost"))
    submit(client, gpus=1)
    bench.pass_time(GONE_AFTER_S - 2)
    assert client.verdicts() == {}
    bench.pass_time(4)
    error = client.only_verdict()
    assert error.code == "insufficient_resources"
    assert error.details["most_gpus"] == "0"
    submit(client, gpus=1)
    client.only_verdict()
    load(node, (0, 0, ""))
    submit(client, gpus=1)
    assert gpus_of(node.only_started()) == [0]


# ---- what can't be -----------------------------------------------------------------------------------------------------


def test_what_no_node_could_ever_have_fails_at_once_with_the_most_that_any_has() -> None:
    bench = Bench()
    bench.node("small", slots=2, state=machine(gpus=(8,), cpus=2, memory_gib=4))
    bench.node("large", slots=4, state=machine(gpus=(24, 24), cpus=16, memory_gib=64, labels={"zone": "lab"}))
    client = bench.client()
    for wanted, need, most in [
        ({"gpus": 3}, "gpus", "2"),
        ({"gpu_gib": 40}, "gpu_memory", "24 GiB"),
        ({"cpus": 17}, "cpus", "16"),
        ({"memory_gib": 100}, "memory", "64 GiB"),
        ({"slots": 5}, "slots", "4"),
        ({"labels": {"zone": "x"}}, "labels.zone", "lab"),
    ]:
        submit(client, **wanted)  # type: ignore[arg-type]
        error = client.only_verdict()
        assert error.code == "insufficient_resources"
        assert error.details[f"most_{need}"] == most
        assert most in error.message
        assert "'large'" in error.message


def test_needs_that_no_single_node_meets_are_told_node_by_node() -> None:
    bench = Bench()
    bench.node("a", slots=2, state=machine(cpus=16))
    bench.node("b", slots=2, state=machine(gpus=(8,), cpus=2))
    client = bench.client()
    submit(client, cpus=4, gpus=1)
    message = client.only_verdict().message
    assert "'a': it needs gpus=1, and the node has no GPU" in message
    assert "'b': it needs cpus=4, and the node has 2" in message


def test_memory_of_a_gpu_is_told_as_such_where_there_is_none() -> None:
    bench = Bench()
    bench.node("a", slots=2, state=machine(cpus=16))
    client = bench.client()
    submit(client, gpu_gib=20)
    error = client.only_verdict()
    assert "gpu_memory=20 GiB (no node has a GPU)" in error.message
    assert error.details["wanted_gpu_memory"] == "20 GiB" and "wanted_gpus" not in error.details
    bench.node("b", slots=2, state=machine(gpus=(8,), cpus=2))
    submit(client, gpu_gib=20)
    assert "gpu_memory=20 GiB (the most is 8 GiB, on 'b')" in client.only_verdict().message


def test_a_call_whose_time_to_wait_is_over_is_told_what_it_lacked() -> None:
    bench = Bench()
    node, client = bench.node("a", slots=4, state=machine(gpus=(16,))), bench.client()
    submit(client, gpu_gib=10)
    submit(client, gpu_gib=10, queue_timeout_s=2)
    bench.pass_time(3)
    assert "it needs gpu_memory=10 GiB, and 6 GiB of 16 GiB is free" in client.only_verdict().message
    assert len(node.started()) == 1


# ---- everybody's turn --------------------------------------------------------------------------------------------------


def test_a_call_that_needs_much_does_not_hold_up_those_that_need_less() -> None:
    bench = Bench()
    node, client = bench.node("a", slots=4, state=machine(gpus=(16, 16))), bench.client()
    submit(client, gpus=1)
    submit(client, gpus=2)
    submit(client, gpu_gib=2)
    client.submit()
    assert len(node.started()) == 3


def test_a_call_that_needs_much_is_not_passed_over_for_ever() -> None:
    bench = Bench()
    node, client = bench.node("a", slots=4, state=machine(gpus=(16,))), bench.client()
    submit(client, gpu_gib=8)
    submit(client, gpu_gib=8)
    large = submit(client, gpus=1)
    for _ in range(50):  # small ones come all the time, so that the GPU is never without a call
        submit(client, gpu_gib=8)
    bench.pass_time(0.5)
    for _ in range(20):
        running = list(node.core._running.values())
        assert running
        if running[0].call_id == large:
            break
        bench.pass_time(1)
        node.result(running[0])
    else:
        raise AssertionError("the call for a whole GPU never had its turn")
    waited_s = bench.now - 1000
    assert waited_s < KEEP_AFTER_S + 4


def test_a_node_that_is_kept_for_a_gpu_call_goes_on_with_what_needs_none() -> None:
    bench = Bench()
    node, client = bench.node("a", "f", "g", slots=2, state=machine(gpus=(16,))), bench.client()
    submit(client, gpus=1)
    node.only_started()
    submit(client, gpus=1)
    bench.pass_time(KEEP_AFTER_S + 1)
    for _ in range(5):
        client.submit("g")
        node.result(node.only_started())


def test_a_call_for_many_slots_gets_them_though_single_slots_are_wanted_all_the_time() -> None:
    bench = Bench()
    node, client = bench.node("a", slots=3), bench.client()
    for _ in range(3):
        client.submit()
    submit(client, slots=3)
    for _ in range(60):
        client.submit()
    begun = 0
    for _ in range(30):
        bench.pass_time(0.5)
        running = list(node.core._running.values())
        if running and running[0].slots == 3:
            break
        node.result(running[0])
        begun += 1
    else:
        raise AssertionError("it never had its turn")
    assert 3 < begun < 20
    node.result(running[0])
    assert len(node.core._running) == 3, "the others go on"


def test_what_was_kept_for_a_call_that_went_elsewhere_goes_to_the_next_one_at_once() -> None:
    """Regression ("calls that need much, short faults", seed 60092): it lay idle until something else happened."""
    bench = Bench()
    first, second = bench.node("first", slots=2), bench.node("second", slots=2)
    client = bench.client()
    is_patient = True

    class Patient:
        """Rather waits for another node than uses the second one."""

        def choose(self, function: str, offers: Sequence[Offer]) -> Offer | None:
            others = [offer for offer in offers if offer.node_id != "second"]
            return next(iter(others), None) if is_patient else offers[0]

    bench.broker._placing._strategies["smart_adaptive"] = Patient()
    client.submit("f", node_id="second", needs=needs(slots=2))
    client.submit("f", node_id="first")
    large = submit(client, slots=2)  # both lack a slot for it
    bench.pass_time(KEEP_AFTER_S + 0.5)
    assert len(first.started()) == 1
    small = client.submit("f", node_id="first", needs=needs(slots=1))
    assert not first.started()  # its free slot is kept
    second.result(second.only_started())
    assert not second.started()  # by the strategy's choice
    is_patient = False
    client.send(pb.Frame(heartbeat=pb.Heartbeat()))
    bench.settle()
    assert [attempt.call_id for attempt in second.started()] == [large]
    assert [attempt.call_id for attempt in first.started()] == [small]
