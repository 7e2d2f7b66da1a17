"""What sessions may do, by the token that each has shown: the broker's part."""

from __future__ import annotations

import pytest

from easyremote.core.access import OWNER, Access, Role
from easyremote.core.records import AskKeeper, Close, Send
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench
from tests.core.test_sessions import hello


def access(token_id: str, *roles: str, **bounds: object) -> Access:
    return Access(token_id, f"token of {token_id}", frozenset(map(Role, roles)), **bounds)  # type: ignore[arg-type]


def refused(bench: Bench, greeting: pb.Hello, allowed: Access) -> pb.Refused | None:
    conn = bench.next_conn()
    actions = bench.broker.connected(conn, greeting, bench.now, allowed)
    bench.broker.check()
    frames = [action.frame for action in actions if isinstance(action, Send) and action.conn == conn]
    if frames[0].HasField("welcome"):
        return None
    assert actions == [Send(conn, frames[0]), Close(conn)]
    return frames[0].refused


def test_a_peer_is_told_what_its_token_allows() -> None:
    bench = Bench()
    (sent,) = bench.broker.connected(7, hello(role=pb.ROLE_CLIENT), bench.now, access("a", "ship", "call"))
    assert isinstance(sent, Send) and list(sent.frame.welcome.roles) == ["call", "ship"]


def test_the_id_of_a_session_is_no_credential() -> None:
    bench = Bench()
    mine, theirs = access("a", "ship"), access("b", "admin")
    greeting = hello(role=pb.ROLE_CLIENT)
    assert refused(bench, greeting, mine) is None
    for thief in (theirs, OWNER):
        found = refused(bench, greeting, thief)
        assert found is not None and found.code == "auth"
        assert not bench.broker.knows(greeting.session_id, thief)  # nor its transfer stream
    assert bench.broker.knows(greeting.session_id, mine)
    assert refused(bench, greeting, mine) is None


# ---- roles -----------------------------------------------------------------------------------------------------------

CODE = pb.Code(kind=pb.Code.KIND_CALLABLE, spec=pb.FunctionSpec(name="mine"))
JOB = pb.Query(job=pb.JobRequest(keep=pb.JobRequest.Keep(submits=[pb.Submit(call_id=b"j" * 16, function="f")])))
CODE_JOB = pb.Query(job=pb.JobRequest(keep=pb.JobRequest.Keep(submits=[pb.Submit(call_id=b"j" * 16, code=CODE)])))
DRAIN = pb.Query(drain_node=pb.Query.DrainNode(node_id="n"))
RESUME = pb.Query(resume_node="n")

MAY: dict[str, set[str]] = {
    "be a client": {"call", "ship", "admin"},
    "be a node": {"serve", "admin"},
    "call": {"call", "ship", "admin"},
    "ship": {"ship", "admin"},
    "ask": {"call", "ship", "admin"},
    "keep a job": {"call", "ship", "admin"},
    "keep a job of code": {"ship", "admin"},
    "drain": {"admin"},
    "resume": {"admin"},
}


def is_denied(error: pb.ErrorInfo) -> bool:
    if error.code != "permission":
        return False
    assert "token of a" in error.message and "allows" in error.message  # its name, and what it may do
    assert (error.details["token"], error.details["token_name"]) == ("a", "token of a")
    return True


def may(what: str, role: str) -> bool:
    """Whether a token with this role alone gets this done."""
    bench = Bench()
    allowed = access("a", role)
    bench.node("n")
    if what.startswith("be "):
        greeting = hello(
            role=pb.ROLE_CLIENT if what == "be a client" else pb.ROLE_NODE, node=pb.NodeState(node_id="m", slots=1)
        )
        found = refused(bench, greeting, allowed)
        assert found is None or (found.code == "permission" and "token of a" in found.message)
        return found is None
    client = bench.client(allowed)
    if client.got("refused"):
        return False
    if what in ("call", "ship"):
        client.submit(code=CODE if what == "ship" else None)
        return not any(map(is_denied, client.verdicts().values()))
    queries = {"ask": pb.Query(list_nodes=pb.Query.ListNodes()), "keep a job": JOB, "keep a job of code": CODE_JOB}
    query = pb.Query()
    query.CopyFrom({**queries, "drain": DRAIN, "resume": RESUME}[what])
    query.query_id = 1
    asked = bench.broker.received(client.conn, [pb.Frame(query=query)], bench.now)
    if isinstance(asked[0], AskKeeper):
        return True
    assert isinstance(asked[0], Send)
    return not is_denied(asked[0].frame.answer.error)


@pytest.mark.parametrize("what", MAY)
def test_each_role_may_do_what_it_is_for_and_nothing_else(what: str) -> None:
    assert {str(role) for role in Role if may(what, role)} == MAY[what]


def test_what_a_token_allows_is_written_into_its_calls_whatever_the_client_says() -> None:
    bench = Bench()
    node = bench.node("gpu-1")
    liar = bench.client(access("a", "call", nodes=("gpu-*",)))
    liar.send(pb.Frame(submit=pb.Submit(call_id=b"x" * 16, function="f", owner="b", allowed_nodes=["*"])))
    bench.settle()
    attempt = node.only_started()
    assert (attempt.submit.owner, attempt.submit.plain_only) == ("a", True)
    assert list(attempt.submit.allowed_nodes) == ["gpu-*"]
    node.result(attempt)
    owner = bench.client()
    owner.send(pb.Frame(submit=pb.Submit(call_id=b"y" * 16, function="f", owner="b", allowed_nodes=["nowhere"])))
    bench.settle()
    attempt = node.only_started()
    assert (attempt.submit.owner, attempt.submit.plain_only, list(attempt.submit.allowed_nodes)) == ("", False, [])


def test_a_client_that_may_ship_may_still_send_plain_values() -> None:
    bench = Bench()
    node = bench.node("n")
    client = bench.client(access("a", "ship"))
    client.submit()
    client.core.submit(pb.Submit(call_id=b"p" * 16, function="f", plain_only=True), bench.now)
    bench.settle()
    first = node.only_started()
    assert not first.submit.plain_only
    node.result(first)
    assert node.only_started().submit.plain_only


# ---- allow-lists -----------------------------------------------------------------------------------------------------


def test_only_functions_of_the_list_are_called_and_seen() -> None:
    bench = Bench()
    node = bench.node("n", "fit", "fit_all", "train")
    client = bench.client(access("a", "call", functions=("fit*",)))
    client.submit("fit")
    node.result(node.only_started())
    assert not client.verdicts()
    for name in ("train", "unknown", "Fit"):  # whether there is such a function is nobody's business
        client.submit(name)
        assert is_denied(client.only_verdict())
        assert is_denied(client.ask(pb.Query(describe_function=name)).error)
        assert is_denied(client.ask(pb.Query(explain=pb.Submit(function=name))).error)
    listed = client.ask(pb.Query(list_functions=pb.Query.ListFunctions()))
    assert [record.spec.name for record in listed.functions] == ["fit", "fit_all"]
    assert client.ask(pb.Query(describe_function="fit_al")).close_names == ["fit_all", "fit"]
    nodes = client.ask(pb.Query(list_nodes=pb.Query.ListNodes())).nodes
    assert list(nodes[0].functions) == ["fit", "fit_all"]
    assert not node.started()


def test_calls_go_only_to_nodes_of_the_list() -> None:
    bench = Bench()
    other, allowed = bench.node("cpu-1", "f", "g", slots=4), bench.node("gpu-1", slots=4)
    client = bench.client(access("a", "call", nodes=("gpu-*",)))
    for _ in range(4):
        client.submit()
    assert len(allowed.started()) == 4 and not other.started()
    client.submit()  # it waits, beside a free node
    explanation = client.ask(pb.Query(explain=pb.Submit(function="f"))).explanation
    rows = {row.node_id: row for row in explanation.nodes}
    assert rows["cpu-1"].outlook == pb.OUTLOOK_NEVER and "allows calls on nodes gpu-*" in rows["cpu-1"].reason
    assert rows["gpu-1"].outlook == pb.OUTLOOK_LATER
    client.submit(node_id="cpu-1")
    assert is_denied(client.only_verdict())
    client.submit("g")
    error = client.only_verdict()
    assert error.code == "no_node" and "allows nodes gpu-* only" in error.message
    client.submit(node_id="gpu-2")
    error = client.only_verdict()
    assert error.code == "node_gone" and "cpu-1" not in error.message
    assert [record.node_id for record in client.ask(pb.Query(list_nodes=pb.Query.ListNodes())).nodes] == ["gpu-1"]
    listed = client.ask(pb.Query(list_functions=pb.Query.ListFunctions())).functions
    assert [(record.spec.name, list(record.nodes)) for record in listed] == [("f", ["gpu-1"])]
    assert not other.started()
    bench.client().submit()
    assert other.only_started()


def test_when_the_node_of_a_call_is_lost_only_allowed_ones_get_it() -> None:
    bench = Bench()
    client = bench.client(access("a", "call", nodes=("gpu-*",)))
    first, other = bench.node("gpu-1"), bench.node("cpu-1")
    client.submit(queue_timeout_s=60)
    first.only_started()
    first.cut()
    bench.pass_time(6)
    assert not other.started()
    again = bench.node("gpu-2")
    assert again.only_started().number == 2


def test_a_node_is_served_only_under_a_name_of_the_list() -> None:
    bench = Bench()
    serves = access("a", "serve", nodes=("gpu-*",))
    for name, code in (("gpu-1", None), ("cpu-1", "permission")):
        found = refused(bench, hello(node=pb.NodeState(node_id=name, slots=1)), serves)
        assert (found.code if found is not None else None) == code


def test_the_name_of_a_node_is_not_taken_over_by_another_token() -> None:
    bench = Bench()
    mine, theirs = access("a", "serve"), access("b", "serve")
    node = bench.node("gpu", access=mine)
    for state in ("here", "away"):
        for thief in (theirs, OWNER):
            found = refused(bench, hello(node=pb.NodeState(node_id="gpu", slots=1)), thief)
            assert found is not None and found.code == "duplicate_node" and "host-of" not in found.message, state
        node.cut()
    assert refused(bench, hello(node=pb.NodeState(node_id="gpu", slots=1)), mine) is None  # its process was restarted
    bench.pass_time(20)
    assert refused(bench, hello(node=pb.NodeState(node_id="gpu", slots=1)), theirs) is None  # nobody has it any more
