"""Sealed calls at the gateway: whom it tells of whose keys, and that a call goes only where it can be opened."""

import pytest

from easyremote.core.client_session import KeysCame
from easyremote.core.node_keys import NODES_TOGETHER
from easyremote.core.rings import MAX_ADMISSIONS, MAX_JOB_ADMISSIONS
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, NodePeer

EPOCH = b"e" * 16


def identity(name: str) -> bytes:
    return name.encode().ljust(128, b".")


def demanding(bench: Bench, name: str, **more: object) -> NodePeer:
    """A node that takes only sealed calls."""
    state = pb.NodeState(identity=identity(name), sealed_only=True)
    return bench.node(name, state=state, **more)  # type: ignore[arg-type]


def admission(name: str, epoch: bytes = EPOCH) -> pb.Admission:
    statement = pb.AdmissionStatement(node_key=identity(name)[:32], epoch=epoch)
    return pb.Admission(statement=statement.SerializeToString(), signature=name.encode())


def seal(epoch: bytes = EPOCH, *ring: pb.Admission) -> pb.Seal:
    return pb.Seal(statement=pb.CallStatement(epoch=epoch).SerializeToString(), admissions=ring)


def admit(client: ClientPeer, *names: str, complete: bool = False, epoch: bytes = EPOCH) -> None:
    client.core.admit([admission(name, epoch) for name in names], complete)
    client.bench.settle()


def keys_of(client: ClientPeer) -> list[pb.NodeKeys]:
    return [effect.keys for effect in client.took(KeysCame)]


# ---- who is told what ------------------------------------------------------------------------------------------------


def test_nothing_is_told_where_no_node_demands_sealed_calls() -> None:
    bench = Bench()
    client = bench.client(seals=True)
    bench.node("a", state=pb.NodeState(identity=identity("a")))
    bench.pass_time(2)
    assert keys_of(client) == []


def test_a_client_hears_of_all_nodes_with_the_first_that_demands_it_and_then_of_changes() -> None:
    bench = Bench()
    client, plain = bench.client(seals=True), bench.client()
    bench.node("with key", state=pb.NodeState(identity=identity("with key")))
    bench.node("without key")
    node = demanding(bench, "a")
    (told,) = keys_of(client)
    assert told.complete
    assert {(key.node_id, key.sealed_only) for key in told.nodes} == {("with key", False), ("a", True)}
    bench.pass_time(1)
    demanding(bench, "b")
    (told,) = keys_of(client)
    assert not told.complete
    assert [key.node_id for key in told.nodes] == ["b"]
    node.core.goodbye("done")
    bench.settle()
    bench.pass_time(1)
    (told,) = keys_of(client)
    assert (list(told.nodes), list(told.gone)) == ([], ["a"])
    assert keys_of(plain) == []


def test_who_connects_or_comes_back_hears_of_all() -> None:
    bench = Bench()
    demanding(bench, "a")
    client = bench.client(seals=True)
    assert [key.node_id for told in keys_of(client) for key in told.nodes] == ["a"]
    client.cut()
    bench.pass_time(1)
    client.connect()
    (told,) = keys_of(client)
    assert told.complete
    assert [key.node_id for key in told.nodes] == ["a"]


def test_changes_of_one_moment_are_told_together() -> None:
    bench = Bench()
    client = bench.client(seals=True)
    demanding(bench, "first")
    keys_of(client)
    for number in range(20):
        demanding(bench, f"n{number}")
    assert keys_of(client) == []
    bench.pass_time(1)
    (told,) = keys_of(client)
    assert len(told.nodes) == 20


def test_many_nodes_come_in_frames_of_a_bounded_size() -> None:
    bench = Bench()
    for number in range(NODES_TOGETHER + 1):
        demanding(bench, f"n{number}")
    client = bench.client(seals=True)
    told = keys_of(client)
    assert [(keys.complete, len(keys.nodes)) for keys in told] == [(True, NODES_TOGETHER), (False, 1)]


def test_a_node_that_comes_back_with_another_key_is_told_anew() -> None:
    bench = Bench()
    client = bench.client(seals=True)
    node = demanding(bench, "a")
    bench.pass_time(1)
    keys_of(client)
    node.core._state.identity = identity("another")
    node.cut()
    node.connect()
    bench.pass_time(1)
    assert [key.identity for told in keys_of(client) for key in told.nodes] == [identity("another")]


# ---- where calls go --------------------------------------------------------------------------------------------------


def test_a_sealed_call_goes_with_its_admission_to_a_node_that_its_client_trusts() -> None:
    bench = Bench()
    trusted, other = demanding(bench, "trusted"), demanding(bench, "other")
    client = bench.client(seals=True)
    admit(client, "trusted")
    client.submit(seal=seal())
    attempt = trusted.only_started()
    assert attempt.submit.seal.admission == admission("trusted")
    client.submit(seal=seal())
    assert other.started() == []


def test_a_call_that_is_not_sealed_never_goes_to_a_node_that_demands_it() -> None:
    bench = Bench()
    demanding(bench, "a")
    client = bench.client()
    client.submit()
    error = client.only_verdict()
    assert error.code == "no_node"
    assert error.details["sealed"] == "no"
    assert "'a' takes only sealed calls" in error.message
    assert "it takes only sealed calls" in error.details["why"]
    open_node = bench.node("open")
    client.submit()
    assert open_node.only_started().submit.seal == pb.Seal()


def test_a_node_without_a_demand_takes_both_where_it_can() -> None:
    bench = Bench()
    node = bench.node("a", state=pb.NodeState(identity=identity("a")), slots=2)
    client = bench.client(seals=True)
    admit(client, "a")
    client.submit(seal=seal())
    client.submit()
    assert len(node.started()) == 2


def test_a_node_that_has_no_key_gets_no_sealed_call() -> None:
    bench = Bench()
    bench.node("old")
    client = bench.client(seals=True)
    client.submit(seal=seal())
    error = client.only_verdict()
    assert error.details["sealed"] == "yes"
    assert "it has no key to open it with" in error.details["why"]


def test_an_admission_lets_calls_that_wait_go_at_once() -> None:
    bench = Bench()
    node = demanding(bench, "a")
    client = bench.client(seals=True)
    client.submit(seal=seal(), queue_timeout_s=10.0)
    assert node.started() == []
    admit(client, "a")
    assert node.only_started().submit.seal.admission == admission("a")


def test_the_explanation_names_what_keeps_a_sealed_call_from_a_node() -> None:
    bench = Bench()
    demanding(bench, "a")
    client = bench.client(seals=True)
    call_id = client.submit(seal=seal(), queue_timeout_s=10.0)
    explanation = client.ask(pb.Query(explain=pb.Submit(call_id=call_id))).explanation
    assert [(row.node_id, row.outlook) for row in explanation.nodes] == [("a", pb.OUTLOOK_NEVER)]
    assert "doesn't trust this node's key" in explanation.nodes[0].reason


def test_one_client_s_admissions_are_of_no_use_to_another() -> None:
    bench = Bench()
    node = demanding(bench, "a")
    first, second = bench.client(seals=True), bench.client(seals=True)
    admit(first, "a")
    second.core.admit([pb.Admission(statement=admission("b").statement)], complete=True)
    bench.settle()
    second.submit(seal=seal(b"x" * 16), queue_timeout_s=5.0)
    assert node.started() == []
    first.submit(seal=seal())  # what the other one said of this epoch wasn't heard
    assert node.only_started()


def test_an_attempt_more_on_another_node_has_that_node_s_admission() -> None:
    bench = Bench()
    first = demanding(bench, "a")
    client = bench.client(seals=True)
    admit(client, "a", "b")
    client.submit(seal=seal(), retries=1)
    assert first.only_started().submit.seal.admission == admission("a")
    second = demanding(bench, "b")
    first.cut()
    bench.pass_time(6)
    assert second.only_started().submit.seal.admission == admission("b")


def test_the_ring_comes_before_the_calls_when_a_client_comes_back_to_a_new_gateway() -> None:
    bench = Bench()
    node = demanding(bench, "a")
    client = bench.client(seals=True)
    admit(client, "a")
    client.submit(seal=seal(), retries=1)
    client.submit(seal=seal(), queue_timeout_s=60.0)
    node.started()
    bench.restart()
    node.connect()
    client.connect()
    bench.pass_time(6)
    bodies = [frame.WhichOneof("body") for frame in client.core.outbox]
    assert bodies == []
    assert node.core.held_count == 1  # the one that ran; the other waits for its slot
    node.result(next(iter(node.core._attempts.values())))
    client.taken(client.events()[-1])
    assert node.only_started().submit.seal.admission == admission("a")


def test_a_ring_that_is_replaced_or_left_behind_is_forgotten() -> None:
    bench = Bench()
    node = demanding(bench, "a")
    client = bench.client(seals=True)
    admit(client, "a")
    admit(client, "a", complete=True, epoch=b"f" * 16)
    client.submit(seal=seal())
    assert client.only_verdict().details["sealed"] == "yes"
    client.submit(seal=seal(b"f" * 16))
    node.result(node.only_started())
    client.taken(client.events()[-1])
    client.core.goodbye()
    bench.settle()
    rings = bench.broker._state.placing.rings
    assert not rings._rings
    assert not rings._of


def test_calls_that_wait_under_an_epoch_that_is_taken_back_end() -> None:
    bench = Bench()
    node = demanding(bench, "a")
    client = bench.client(seals=True)
    admit(client, "a")
    client.submit(seal=seal())
    client.submit(seal=seal())
    assert node.only_started()
    admit(client, complete=True)
    bench.pass_time(1)
    assert client.only_verdict().code == "no_node"


# ---- jobs ------------------------------------------------------------------------------------------------------------


def test_a_job_brings_its_ring_which_no_node_sees_and_which_stays_as_long_as_the_job() -> None:
    bench = Bench()
    node = demanding(bench, "a")
    keeper = bench.client()
    call_id = keeper.submit(seal=seal(EPOCH, admission("a"), admission("b")))
    keeper.submit(seal=seal(EPOCH, admission("a")))
    attempt = node.only_started()
    assert attempt.call_id == call_id
    assert attempt.submit.seal.admission == admission("a")
    assert not attempt.submit.seal.admissions
    node.result(attempt)
    keeper.taken(keeper.events()[-1])
    node.result(node.only_started())
    keeper.taken(keeper.events()[-1])
    assert not bench.broker._state.placing.rings._rings
    assert bench.broker.leftovers() == []


def test_a_job_outlives_the_session_whose_epoch_it_was_sealed_in() -> None:
    bench = Bench()
    node = demanding(bench, "a")
    client, keeper = bench.client(seals=True), bench.client()
    admit(client, "a", "b")
    keeper.submit(seal=seal(EPOCH, admission("a")))
    keeper.submit(seal=seal(EPOCH, admission("a")))
    client.core.goodbye()
    bench.settle()
    node.result(node.only_started())
    keeper.taken(keeper.events()[-1])
    assert node.only_started().submit.seal.admission == admission("a")


# ---- bounds and nonsense ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("statement", [b"", b"\xff", pb.CallStatement(epoch=b"short").SerializeToString()])
def test_a_call_whose_epoch_nobody_can_tell_is_refused(statement: bytes) -> None:
    bench = Bench()
    bench.node("a")
    client = bench.client()
    client.submit(seal=pb.Seal(statement=statement))
    assert client.only_verdict().code == "remote_protocol"


def test_a_job_with_more_admissions_than_allowed_is_refused() -> None:
    bench = Bench()
    bench.node("a")
    client = bench.client()
    client.submit(seal=seal(EPOCH, *(admission(f"n{number}") for number in range(MAX_JOB_ADMISSIONS + 1))))
    assert client.only_verdict().code == "usage"


def test_a_session_s_admissions_are_bounded_and_nonsense_among_them_is_dropped() -> None:
    bench = Bench()
    client = bench.client(seals=True)
    nonsense = [pb.Admission(statement=b"\xff"), pb.Admission(statement=b"x" * 2000), pb.Admission()]
    client.core.admit([*nonsense, *(admission(f"n{number}") for number in range(MAX_ADMISSIONS + 100))])
    bench.settle()
    (ring,) = bench.broker._state.placing.rings._rings.values()
    assert MAX_ADMISSIONS - len(nonsense) <= len(ring.admissions) <= MAX_ADMISSIONS


def test_a_node_has_no_keyring() -> None:
    bench = Bench()
    node = bench.node("a")
    before = bench.broker.unknown_frames
    node.send(pb.Frame(keyring=pb.Keyring(admissions=[admission("a")])))
    assert bench.broker.unknown_frames == before + 1
    assert not bench.broker._state.placing.rings._rings
