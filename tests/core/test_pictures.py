"""What a monitor is shown of a gateway, and by whom what may be seen and stopped."""

from __future__ import annotations

import pytest

from easyremote.core import pictures
from easyremote.core.tally import MAX_MESSAGE
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, spec
from tests.core.test_access import access


def look(client: ClientPeer, details: bool = False, most: int = 0) -> pb.Answer:
    return client.ask(pb.Query(look=pb.Query.Look(details=details, max_calls=most)))


def titles(answer: pb.Answer) -> list[tuple[str, bool]]:
    return [(call.title, call.is_running) for call in answer.picture.calls]


def test_calls_are_shown_with_where_they_are_and_how_far() -> None:
    bench = Bench()
    node, client = bench.node("n", spec("f", version="7")), bench.client()
    first = client.submit("f")
    client.submit("f")
    attempt = node.only_started()
    node.emit(attempt, pb.Event(progress=pb.Progress(done=3, total=12, text="epoch 3")))
    bench.pass_time(2)
    answer = look(client)
    running, waiting = answer.picture.calls
    assert (running.call_id, running.node_id, running.attempt, running.version) == (first, "n", 1, "7")
    assert (running.progress.done, running.progress.total, running.progress.text) == (3, 12, "epoch 3")
    assert running.is_own and running.is_running and round(running.running_s) == 2
    assert not waiting.is_running and not waiting.node_id and round(waiting.age_s) == 2
    assert (answer.picture.running, answer.picture.waiting, answer.gateway.queued) == (1, 1, 1)


def test_progress_of_a_lost_attempt_isnt_that_of_the_next_one() -> None:
    bench = Bench()
    node, client = bench.node("a"), bench.client()
    client.submit("f")
    node.emit(node.only_started(), pb.Event(progress=pb.Progress(done=3, total=4)))
    node.cut()
    bench.node("b")
    bench.pass_time(10)
    (call,) = look(client).picture.calls
    assert (call.node_id, call.HasField("progress")) == ("b", False)


def test_others_calls_failures_and_costs_arent_seen_but_by_administrators() -> None:
    bench = Bench()
    node = bench.node("n", slots=4, price=2.0)
    a, b, admin = (bench.client(access(name, role)) for name, role in (("a", "call"), ("b", "call"), ("x", "admin")))
    a.submit("f")
    attempt = node.only_started()
    bench.pass_time(3)
    node.emit(attempt, pb.Event(error=pb.ErrorInfo(code="remote", type="ValueError", message="secret"), run_s=3.0))
    running = a.submit("f")
    mine = b.submit("f")
    seen = {client: look(client).picture for client in (a, b, admin)}
    assert [call.call_id for call in seen[a].calls] == [running]
    assert [call.call_id for call in seen[b].calls] == [mine]
    assert [call.call_id for call in seen[admin].calls] == [running, mine]
    assert [len(seen[client].failures) for client in (a, b, admin)] == [1, 0, 1]
    assert [seen[client].spent for client in (a, b, admin)] == [6.0, 0.0, 6.0]
    assert [seen[client].sees_all for client in (a, b, admin)] == [False, False, True]
    assert {call.owner for call in seen[admin].calls} == {a.access.token_id, b.access.token_id}


def test_another_session_of_the_same_token_sees_them_as_not_its_own() -> None:
    bench = Bench()
    bench.node("n")
    one, two = bench.client(access("a", "call")), bench.client(access("a", "call"))
    one.submit("f")
    (call,) = look(two).picture.calls
    assert not call.is_own and look(one).picture.calls[0].is_own


def test_nodes_and_functions_that_a_token_may_not_use_arent_shown() -> None:
    bench = Bench()
    bench.node("a-1", "f", "g"), bench.node("b-1", "f")
    client = bench.client(access("t", "call", functions=("f",), nodes=("a-*",)))
    answer = look(client, details=True)
    assert [(node.node_id, node.offers, list(node.functions)) for node in answer.nodes] == [("a-1", 1, ["f"])]
    assert [offer.name for offer in answer.picture.offers] == ["f"]


def test_what_hardly_changes_comes_when_it_is_asked_for() -> None:
    bench = Bench()
    node, client = bench.node("n", "f"), bench.client()
    node.core.report(pb.Load(cpu_percent=5, gpus=[pb.Load.Gpu(name="Fake", uuid="u", power_w=70)]))
    bench.settle()
    (lean,), (full,) = look(client).nodes, look(client, details=True).nodes
    assert not lean.HasField("runtime") and not lean.functions and lean.offers == 1
    assert (lean.load.cpu_percent, lean.load.gpus[0].power_w, lean.load.gpus[0].name) == (5, 70, "")
    assert (full.runtime.host, list(full.functions), full.load.gpus[0].name) == ("host-of-n", ["f"], "Fake")
    assert look(client, details=True).nodes[0].load.gpus[0].uuid == "u", "an answer changes nothing"


def test_versions_of_a_function_are_told_by_node_the_newest_in_front() -> None:
    bench = Bench()
    bench.node("old", spec("f", version="1"))
    bench.node("new", spec("f", version="2"))
    bench.node("also", spec("f", version="2"))
    (offer,) = look(bench.client(), details=True).picture.offers
    assert [(each.version, list(each.nodes)) for each in offer.versions] == [("2", ["also", "new"]), ("1", ["old"])]


def test_failures_are_cut_counted_and_bounded_and_what_was_cancelled_is_none() -> None:
    bench = Bench()
    node, client = bench.node("n"), bench.client()
    client.submit("f")
    error = pb.ErrorInfo(code="remote", type="ValueError", message="x" * 900 + "\nmore")
    node.emit(node.only_started(), pb.Event(error=error))
    client.submit("none such")
    cancelled = client.submit("f")
    client.core.cancel(cancelled, "enough")
    bench.settle()
    bench.pass_time(1)
    newest, oldest = look(client).picture.failures
    assert (newest.code, newest.node_id, newest.title) == ("function_not_found", "", "none such")
    assert (oldest.type, oldest.node_id, len(oldest.message), round(oldest.ago_s)) == (
        "ValueError",
        "n",
        MAX_MESSAGE,
        1,
    )


def test_no_more_calls_are_sent_than_asked_for() -> None:
    bench = Bench()
    bench.node("n")
    client = bench.client()
    for _ in range(7):
        client.submit("f")
    answer = look(client, most=3)
    assert titles(answer) == [("f", True), ("f", False), ("f", False)]
    assert (answer.picture.running, answer.picture.waiting) == (1, 6)
    assert len(look(client, most=10**6).picture.calls) == 7 <= pictures.MAX_CALLS


@pytest.mark.parametrize("is_running", [True, False])
def test_a_call_is_stopped_by_another_session_of_its_token(is_running: bool) -> None:
    bench = Bench()
    node = bench.node("n")
    caller, other = bench.client(access("a", "call")), bench.client(access("a", "call"))
    first, second = caller.submit("f"), caller.submit("f")
    attempt = node.only_started()
    stopped = first if is_running else second
    assert not other.ask(pb.Query(cancel_call=stopped)).HasField("error")
    assert {call_id: error.code for call_id, error in caller.verdicts().items()} == {stopped: "cancelled"}
    assert bool(node.stopped()) is is_running
    if is_running:
        node.emit(attempt, pb.Event(error=pb.ErrorInfo(code="cancelled")))
    bench.pass_time(1)
    assert stopped not in {call.call_id for call in look(caller).picture.calls}
    bench.broker.check()


def test_a_call_of_another_token_is_stopped_by_administrators_alone() -> None:
    bench = Bench()
    node = bench.node("n")
    caller, thief = bench.client(access("a", "call")), bench.client(access("b", "ship"))
    admin = bench.client(access("x", "admin"))
    call_id = caller.submit("f")
    refused = thief.ask(pb.Query(cancel_call=call_id))
    assert refused.error.code == "usage" and refused.error == thief.ask(pb.Query(cancel_call=b"n" * 16)).error
    assert not node.stopped() and not caller.verdicts()
    assert not admin.ask(pb.Query(cancel_call=call_id)).HasField("error")
    assert node.stopped() and caller.verdicts()
