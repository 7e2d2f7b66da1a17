"""T8 and TRUST.md item 55: what client B can't do with calls, values and jobs of client A, in real sessions. T6: nor a node."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from easyremote import Client, ComputeNode, JobNotFound, Server, UsageError
from easyremote.jobs import Job
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.conftest import wait_until
from tests.faults.stranger import SESSION, TRANSFER, Stranger

pytestmark = pytest.mark.attack


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(port=0, journal=tmp_path / "jobs.sqlite") as running:
        yield running


@pytest.fixture
def held(node: ComputeNode) -> threading.Event:
    """The function `hold` waits for it."""
    event = threading.Event()

    def hold(value: Any) -> Any:
        event.wait(60)
        return value

    node.register(hold)
    return event


@pytest.fixture
def texts(server: Server) -> dict[str, str]:
    return {name: server.tokens.create(name, ["ship"])[1] for name in "ab"}


@pytest.fixture
def owner(server: Server, node: ComputeNode, texts: dict[str, str]) -> Iterator[Client]:
    with Client(server.address, token=texts["a"]) as client:
        yield client


@pytest.fixture
def thief(stranger: Callable[..., Stranger], texts: dict[str, str]) -> Stranger:
    return stranger(SESSION, authorization=f"Bearer {texts['b']}")


def answer_to(thief: Stranger, **query: Any) -> pb.Answer:
    query_id = secrets.randbits(32)
    thief.frame(query=pb.Query(query_id=query_id, **query))
    while True:
        answer = thief.hears("answer")
        if answer.query_id == query_id:
            return answer


def test_a_call_of_another_is_neither_seen_nor_stopped_nor_taken(
    server: Server, held: threading.Event, owner: Client, thief: Stranger
) -> None:
    call = owner.submit("hold", 42)
    wait_until(lambda: call.running())
    thief.hello()
    call_id = call._id
    for _ in range(3):
        thief.frame(cancel=pb.Cancel(call_id=call_id, reason="stolen"))
        thief.frame(ack=pb.Ack(calls=[pb.Acknowledged(call_id=call_id, attempt=1, seq=9, ended=True)]))
        thief.frame(submit=pb.Submit(call_id=call_id, function="hold", again=True))
        thief.frame(submit=pb.Submit(call_id=secrets.token_bytes(16), function="echo", hedge_of=call_id))
        thief.frame(fetch=pb.Fetch(transfer_id=secrets.token_bytes(16), call_id=call_id, blob_id=call_id, limit=9))
    assert answer_to(thief, explain=pb.Submit(call_id=call_id)).error.code == "usage"
    assert call.running()
    held.set()
    assert call.result(timeout=30) == 42


def test_large_values_of_another_are_not_fetched(
    server: Server, node: ComputeNode, owner: Client, thief: Stranger, stranger: Callable[..., Stranger],
    texts: dict[str, str], held: threading.Event,
) -> None:  # fmt: skip
    """Neither arguments nor a value that was put: what comes back is that there is none."""
    value = bytes(8 << 20)
    ref = owner.put(value)
    assert owner.call("echo", ref) == value
    call = owner.submit("hold", value)
    wait_until(lambda: call.running())
    session_id = thief.hello()
    stream = stranger(TRANSFER, **{"easyremote-session": session_id.hex(), "authorization": f"Bearer {texts['b']}"})
    stream.message()
    ref_id = ref._wire.ref_id
    thief.frame(handles=pb.Handles(held=[pb.Handle(ref_id=ref_id)]))
    for fetch in (
        pb.Fetch(transfer_id=b"1" * 16, blob_id=ref_id, of_ref=True, limit=1 << 20),
        pb.Fetch(transfer_id=b"2" * 16, blob_id=call._id, call_id=call._id, limit=1 << 20),
    ):
        thief.frame(fetch=fetch)
        chunk = pb.Chunk.FromString(stream.message())
        assert chunk.transfer_id == fetch.transfer_id and chunk.error and not chunk.data
    thief.frame(submit=pb.Submit(call_id=b"3" * 16, function="echo", refs=[pb.Ref(ref_id=ref_id)]))
    assert thief.hears("verdict").error.code == "ref_lost"
    held.set()
    assert call.result(timeout=30) == value


def test_jobs_of_another_are_neither_listed_nor_read_nor_stopped(
    server: Server, held: threading.Event, owner: Client, texts: dict[str, str], thief: Stranger
) -> None:
    job = owner.submit_job("hold", bytes(1 << 20))
    done = owner.submit_job("echo", 1)
    assert done.result(timeout=30) == 1
    with Client(server.address, token=texts["b"]) as other:
        mine = other.submit_job("echo", 2)
        assert [info.id for info in other.jobs()] == [mine.id]
        for foreign in (job, done):
            for job_id in (foreign.id, foreign.id[:4]):
                if not mine.id.startswith(job_id):
                    with pytest.raises(JobNotFound):
                        other.job(job_id)
        assert {info.id for info in owner.jobs()} == {job.id, done.id}
        with pytest.raises(JobNotFound):
            owner.job(mine.id)
    thief.hello()
    for job_id in (bytes.fromhex(job.id), bytes.fromhex(done.id)):
        requests = [
            pb.JobRequest(read=pb.JobRequest.Read(job_id=job_id)),
            pb.JobRequest(piece=pb.JobRequest.Piece(job_id=job_id, blob_id=job_id)),
            pb.JobRequest(end=pb.JobRequest.End(job_id=job_id)),
            pb.JobRequest(forget=job_id),
            pb.JobRequest(collected=job_id),
        ]
        for request in requests:
            assert answer_to(thief, job=request).error.code == "job_not_found", request
        twin = pb.Submit(call_id=job_id, function="echo", owner="")
        (kept,) = answer_to(thief, job=pb.JobRequest(keep=pb.JobRequest.Keep(submits=[twin]))).job.kept
        assert kept.error.code == "usage"
    held.set()
    assert job.result(timeout=30) == bytes(1 << 20)


def test_an_upload_of_another_is_neither_added_to_nor_named(
    server: Server, thief: Stranger, stranger: Callable[..., Stranger], texts: dict[str, str]
) -> None:
    owner = stranger(SESSION, authorization=f"Bearer {texts['a']}")
    owner.hello()
    thief.hello()
    blob = pb.Blob(blob_id=secrets.token_bytes(16), part_bytes=[4])
    whole = pb.JobRequest.Put(blob_id=blob.blob_id, data=b"abcd", size=4)
    assert answer_to(owner, job=pb.JobRequest(put=whole)).job.size == 4
    assert answer_to(thief, job=pb.JobRequest(put=whole)).error.code == "usage"
    submit = pb.Submit(call_id=secrets.token_bytes(16), function="echo", arguments=pb.Payload(blob=blob))
    (kept,) = answer_to(thief, job=pb.JobRequest(keep=pb.JobRequest.Keep(submits=[submit]))).job.kept
    assert kept.error.code == "usage"
    (kept,) = answer_to(owner, job=pb.JobRequest(keep=pb.JobRequest.Keep(submits=[submit]))).job.kept
    assert not kept.HasField("error")


def test_the_gateways_own_user_sees_and_stops_all(
    server: Server, held: threading.Event, owner: Client, client: Client
) -> None:
    job = owner.submit_job("hold", 1)
    assert [info.id for info in client.jobs()] == [job.id]
    stopped: Job[Any] = client.job(job.id)
    stopped.cancel()
    wait_until(lambda: owner.jobs()[0].state == "cancelled")
    held.set()


def test_jobs_are_still_their_tokens_after_a_restart(server: Server, node: ComputeNode, owner: Client) -> None:
    job = owner.submit_job("echo", 5)
    assert job.result(timeout=30) == 5
    _, other = server.tokens.create("late", ["call"])
    port, journal = server.port, server._journal
    text = owner._connection.endpoint.token
    owner.close()
    server.stop()
    with (
        Server(port, journal=journal, token=server.token) as again,
        Client(again.address, token=text) as mine,
        Client(again.address, token=other) as theirs,
    ):
        assert [info.id for info in mine.jobs()] == [job.id] and theirs.jobs() == []
        assert mine.job(job.id).result(timeout=30) == 5


# ---- T6: nodes -------------------------------------------------------------------------------------------------------


def test_a_node_reports_only_of_what_it_has(
    server: Server, held: threading.Event, client: Client, stranger: Callable[..., Stranger]
) -> None:
    _, text = server.tokens.create("evil", ["serve"])
    evil = stranger(SESSION, authorization=f"Bearer {text}")
    evil.hello("evil", "other")
    call = client.submit("hold", "true")
    wait_until(lambda: call.running())
    for attempt in (0, 1, 2):
        forged = pb.Payload(content_type="application/json", data=b'"forged"')
        evil.frame(event=pb.Event(call_id=call._id, attempt=attempt, seq=1, started=pb.Started(node_id="evil")))
        evil.frame(event=pb.Event(call_id=call._id, attempt=attempt, seq=2, result=forged))
        evil.frame(handed_back=pb.HandedBack(attempts=[pb.AttemptState(call_id=call._id, attempt=attempt)]))
        evil.frame(fetch=pb.Fetch(transfer_id=secrets.token_bytes(16), call_id=call._id, blob_id=b"b", limit=9))
    assert evil.hears("forget")
    held.set()
    assert call.result(timeout=30) == "true"


def test_a_node_of_another_token_does_not_take_a_name(
    server: Server, node: ComputeNode, client: Client, stranger: Callable[..., Stranger]
) -> None:
    _, text = server.tokens.create("evil", ["serve"])
    evil = stranger(SESSION, authorization=f"Bearer {text}")
    with pytest.raises((AssertionError, grpc.RpcError, EOFError)):
        evil.hello("node-a", "echo")
    with pytest.raises(UsageError, match="'node-a' is known here under another token"):
        ComputeNode(server.address, "node-a", token=text).serve()
    assert client.call("echo", 1) == 1


def test_what_a_node_claims_to_have_is_capped(server: Server, stranger: Callable[..., Stranger]) -> None:
    for slots in (0, 4097, 2**32 - 1):
        evil = stranger()
        hello = pb.Hello(protocol_min=1, protocol_max=1, role=pb.ROLE_NODE, session_id=secrets.token_bytes(16))
        hello.node.node_id, hello.node.slots = "evil", slots
        evil.frame(hello=hello)
        assert evil.hears("refused").code == "usage"
