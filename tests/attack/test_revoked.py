"""T14: an ex-member's token. What it has opened ends at once, is told why, and brings nothing any more; and bounds of a token."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest

from easyremote import AuthError, Client, ComputeNode, OverloadedError, Server
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb
from easyremote.wire.v1 import gateway_pb2_grpc
from tests.conftest import wait_until
from tests.faults.stranger import SESSION, TRANSFER, Stranger

pytestmark = pytest.mark.attack

WITHIN_S = 5.0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(port=0, journal=tmp_path / "jobs.sqlite") as running:
        yield running


@pytest.fixture
def open_calls(server: Server, node: ComputeNode) -> Callable[[], int]:
    """`hold` runs until it is stopped; this tells how often it does."""
    running: list[int] = []

    def hold() -> None:
        running.append(1)
        try:
            while True:
                time.sleep(0.01)
        finally:
            running.pop()

    node.register(hold)
    return lambda: len(running)


@pytest.mark.parametrize("local", ["0", "1"])
@pytest.mark.parametrize("how", ["revoked", "expired"])
def test_open_sessions_end_with_all_that_runs_for_them_and_are_told_why(
    server: Server, open_calls: Callable[[], int], monkeypatch: pytest.MonkeyPatch, local: str, how: str
) -> None:
    monkeypatch.setenv("EASYREMOTE_LOCAL_SOCKET", local)
    record, text = server.tokens.create("ex", ["call"], expires_s=3 if how == "expired" else None)
    _, other = server.tokens.create("other", ["call"])
    with Client(server.address, token=text) as client, Client(server.address, token=other) as stays:
        call, kept = client.submit("hold"), stays.submit("hold")
        wait_until(lambda: open_calls() == 2)
        since = time.monotonic()
        if how == "revoked":
            server.tokens.revoke(record.token_id)
        with pytest.raises(AuthError, match=how):
            call.result(timeout=30)
        wait_until(lambda: open_calls() == 1)
        assert time.monotonic() - since < WITHIN_S + (3 if how == "expired" else 0)
        assert kept.running()
        wait_until(lambda: not client.is_connected)
        since = time.monotonic()
        for ask in (lambda: client.call("hold"), client.list_nodes, lambda: client.submit("hold").result()):
            with pytest.raises(AuthError):  # further ones don't wait for a gateway that won't let them in
                ask()
        assert time.monotonic() - since < 3
        with pytest.raises(AuthError):
            Client(server.address, token=text)
        kept.cancel()


def test_a_peer_that_goes_on_talking_is_not_heard(
    server: Server, open_calls: Callable[[], int], stranger: Callable[..., Stranger]
) -> None:
    """Its session and its transfer stream end; neither is opened again."""
    record, text = server.tokens.create("ex", ["admin"])
    credentials = {"authorization": f"Bearer {text}"}
    peer = stranger(SESSION, **credentials)
    session_id = peer.hello()
    stream = stranger(TRANSFER, **{"easyremote-session": session_id.hex(), **credentials})
    stream.message()
    nothing = pb.Payload(content_type=codec.JSON, data=b"[]")
    peer.frame(submit=pb.Submit(call_id=b"1" * 16, function="hold", arguments=nothing))
    wait_until(lambda: open_calls() == 1)
    since = time.monotonic()
    server.tokens.revoke(record.token_id)
    assert "revoked" in peer.hears("refused").message
    peer.frame(submit=pb.Submit(call_id=b"2" * 16, function="hold", arguments=nothing))
    peer.frame(query=pb.Query(query_id=1, resume_node="node-a"))
    peer.ends()
    stream.ends()
    wait_until(lambda: not open_calls())
    assert time.monotonic() - since < WITHIN_S
    for method, more in ((SESSION, {}), (TRANSFER, {"easyremote-session": session_id.hex()})):
        error = stranger(method, **credentials, **more).ends()
        assert isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.UNAUTHENTICATED


def test_an_invoked_call_ends_too(server: Server, open_calls: Callable[[], int]) -> None:
    record, text = server.tokens.create("ex", ["call"])
    with grpc.insecure_channel(server.address) as channel:
        stub = gateway_pb2_grpc.GatewayStub(channel)
        running = stub.Invoke.future(
            pb.InvokeRequest(function="hold"), metadata=(("authorization", f"Bearer {text}"),), timeout=60
        )
        wait_until(lambda: open_calls() == 1)
        server.tokens.revoke(record.token_id)
        with pytest.raises(grpc.RpcError) as refused:
            running.result()
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED and "revoked" in refused.value.details()
    wait_until(lambda: not open_calls())


def test_a_nodes_token_takes_the_node_away_and_what_runs_there_is_stopped(server: Server) -> None:
    record, text = server.tokens.create("box", ["serve"])
    running = threading.Event()
    stopped = threading.Event()

    def hold() -> None:
        running.set()
        try:
            while True:
                time.sleep(0.01)
        finally:
            stopped.set()

    with ComputeNode(server.address, "box", token=text) as box, Client(server.address) as client:
        box.register(hold)
        call = client.with_options(retries=0).submit("hold")
        assert running.wait(30)
        server.tokens.revoke(record.token_id)
        with pytest.raises(Exception, match="box"):
            call.result(timeout=30)
        assert stopped.wait(WITHIN_S)
        wait_until(lambda: not client.list_nodes())
        wait_until(lambda: isinstance(box.last_error, AuthError))


def test_jobs_of_a_revoked_token_are_stopped_and_kept_for_administrators(
    server: Server, open_calls: Callable[[], int], client: Client
) -> None:
    record, text = server.tokens.create("ex", ["call"])
    with Client(server.address, token=text) as member:
        job = member.submit_job("hold")
        wait_until(lambda: open_calls() == 1)
        server.tokens.revoke(record.token_id)
        wait_until(lambda: not open_calls())
    (info,) = client.jobs()
    assert (info.id, info.state) == (job.id, "cancelled") and "revoked" in info.error


# ---- bounds of a token -----------------------------------------------------------------------------------------------


def test_bounds_are_of_all_sessions_of_a_token_together(server: Server, open_calls: Callable[[], int]) -> None:
    _, text = server.tokens.create("few", ["call"], max_calls=2)
    with (
        Client(server.address, token=text) as one,
        Client(server.address, token=text) as two,
        Client(server.address) as free,
    ):
        calls = [one.submit("hold"), two.submit("hold")]
        wait_until(lambda: open_calls() == 2)
        for client in (one, two):
            with pytest.raises(OverloadedError, match=r"'few'.*2 calls") as refused:
                client.with_options(queue_timeout=0.01).call("echo", 1)
            assert refused.value.retry_after_s > 0 and refused.value.details["token_name"] == "few"
        assert free.call("echo", 1) == 1
        calls[0].cancel()
        assert two.call("echo", 2) == 2
        calls[1].cancel()
        jobs = [one.submit_job("hold"), two.submit_job("hold")]
        with pytest.raises(OverloadedError, match=r"2 jobs"):
            two.submit_job("hold")
        for job in jobs:
            job.cancel()


def test_a_rate_holds_for_whoever_calls(server: Server, node: ComputeNode) -> None:
    _, text = server.tokens.create("slow", ["call"], calls_per_s=20)
    began = time.monotonic()
    with Client(server.address, token=text) as client:
        results: list[Any] = [client.call("echo", index) for index in range(60)]
    assert results == list(range(60))
    assert time.monotonic() - began >= (60 - 20 - 1) / 20
    _, text = server.tokens.create("rare", ["call"], calls_per_s=0.001)
    with grpc.insecure_channel(server.address) as channel:
        stub = gateway_pb2_grpc.GatewayStub(channel)
        request, allowed = pb.InvokeRequest(function="echo", json="[1]"), (("authorization", f"Bearer {text}"),)
        assert stub.Invoke(request, metadata=allowed).json == "1"
        with pytest.raises(grpc.RpcError) as refused:
            stub.Invoke(request, metadata=allowed)
        assert refused.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED and "'rare'" in refused.value.details()
