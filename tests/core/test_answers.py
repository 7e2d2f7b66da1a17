"""What the gateway tells those who ask."""

from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, spec

NODES = pb.Query(list_nodes=pb.Query.ListNodes())


def test_nodes_are_listed_with_what_is_known_of_them() -> None:
    bench = Bench()
    here, away = bench.node("here", "g", "f", slots=2, price=1.5), bench.node("away")
    client = bench.client()
    client.submit(node_id="here")
    here.core.report(pb.Load(cpu_percent=12.5, cpus=8))
    bench.settle()
    away.cut()
    bench.pass_time(3)
    answer = client.ask(NODES)
    first, second = answer.nodes
    assert (first.node_id, first.status, first.slots, first.running) == ("here", "connected", 2, 1)
    assert (list(first.functions), first.load.cpus, first.price) == (["f", "g"], 8, 1.5)
    assert (first.runtime.host, round(first.connected_s)) == ("host-of-here", 3)
    assert (second.node_id, second.status) == ("away", "away")
    assert (answer.gateway.clients, answer.gateway.running, answer.gateway.queued) == (1, 1, 0)
    assert answer.gateway.version == "9.9"
    assert round(answer.gateway.uptime_s) == 3


def test_how_long_a_node_is_connected_is_counted_from_its_hello() -> None:
    bench = Bench()
    client = bench.client()
    bench.now += 1.5
    bench.node("n")
    (record,) = client.ask(NODES).nodes
    assert record.connected_s == 0


def test_ended_calls_are_counted_once() -> None:
    bench = Bench()
    node, client = bench.node("n"), bench.client()
    client.submit()
    node.result(node.only_started())
    client.submit()
    node.emit(node.only_started(), pb.Event(error=pb.ErrorInfo(code="remote")))
    node.cut()
    node.connect()  # both ends come again: nothing of them was acknowledged
    (record,) = client.ask(NODES).nodes
    assert (record.finished, record.failed, record.running) == (2, 1, 0)


def test_functions_are_listed_once_with_their_nodes() -> None:
    bench = Bench()
    bench.node("a", "f", "g"), bench.node("b", spec("f", version="2"))  # type: ignore[arg-type]
    functions = bench.client().ask(pb.Query(list_functions=pb.Query.ListFunctions())).functions
    assert [(record.spec.name, list(record.nodes)) for record in functions] == [("f", ["a", "b"]), ("g", ["a"])]
    assert functions[0].spec.version == "2"


def test_a_function_is_described_or_its_like_is_named() -> None:
    bench = Bench()
    bench.node("a", "train")
    client = bench.client()
    known = client.ask(pb.Query(describe_function="train"))
    assert (known.functions[0].spec.name, list(known.close_names)) == ("train", [])
    unknown = client.ask(pb.Query(describe_function="trian"))
    assert (list(unknown.functions), list(unknown.close_names)) == ([], ["train"])


def test_a_question_that_this_gateway_doesnt_know_is_answered_with_an_error() -> None:
    assert Bench().client().ask(pb.Query()).error.code == "remote_protocol"


def test_a_question_is_asked_again_after_a_cut() -> None:
    bench = Bench()
    client = bench.client()
    query = pb.Query(query_id=5)
    query.CopyFrom(pb.Query(query_id=5, list_nodes=pb.Query.ListNodes()))
    client.core.query(query)
    client.cut()
    client.connect()
    (effect,) = client.effects[-1:]
    assert effect.answer.query_id == 5
    client.core.query(query)
    client.core.forget_query(5)
    client.effects.clear()
    bench.settle()
    assert client.effects == []
