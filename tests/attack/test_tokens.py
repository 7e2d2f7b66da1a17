"""Tokens that aren't the gateway's own: what they open, and that nothing else does."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc
import pytest

from easyremote import AuthError, Client, ComputeNode, PermissionDenied, Server
from easyremote.discovery import state_folder
from easyremote.wire.v1 import gateway_pb2 as pb
from easyremote.wire.v1 import gateway_pb2_grpc
from tests.attack.test_no_credentials import WORDS, every_method, refusal
from tests.faults.stranger import SESSION, TRANSFER, Stranger

pytestmark = pytest.mark.attack


def test_a_token_opens_the_gateway_and_a_revoked_or_expired_one_is_refused_like_none(
    server: Server, node: ComputeNode, channel: grpc.Channel
) -> None:
    record, text = server.tokens.create("lab", ["call"])
    gone, revoked = server.tokens.create("gone", ["admin"])
    _, expired = server.tokens.create("over", ["admin"], expires_s=1e-6)
    _, invitation = server.tokens.create("guest", kind="invitation", for_roles=["admin"])
    server.tokens.revoke(gone.token_id)
    with Client(server.address, token=text) as client:
        assert client.call("echo", 1) == 1
    for method in every_method(channel, server):
        bad = [revoked, expired, text[:-1], f"er_{record.token_id}_", "er_ffffffff_" + "x" * 43]
        for token in [*bad, *([] if method.endswith("/Join") else [invitation])]:
            refused = refusal(channel, method, iter([b""]), ("authorization", f"Bearer {token}"))
            assert (refused.code(), refused.details()) == (grpc.StatusCode.UNAUTHENTICATED, WORDS), (method, token)


@pytest.mark.parametrize("local", ["0", "1"])
def test_a_client_with_a_bad_token_is_told_the_same_whatever_is_wrong(
    server: Server, node: ComputeNode, monkeypatch: pytest.MonkeyPatch, local: str
) -> None:
    """Over the Unix socket too, where the token is the first message."""
    monkeypatch.setenv("EASYREMOTE_LOCAL_SOCKET", local)
    gone, revoked = server.tokens.create("gone", ["admin"])
    _, expired = server.tokens.create("over", ["admin"], expires_s=1e-6)
    server.tokens.revoke(gone.token_id)
    told: set[str] = set()
    for bad in (revoked, expired, "x" * 20, server.token[:-1]):
        with pytest.raises(AuthError) as caught:
            Client(server.address, token=bad)
        assert bad not in str(caught.value)
        told.add(str(caught.value))
    assert len(told) == 1


def test_tokens_outlive_the_gateway_on_its_port(server: Server) -> None:
    _, text = server.tokens.create("lab", ["call"])
    port = server.port
    server.stop()
    path = state_folder() / f"tokens-{port}.json"
    with Server(port) as again, Client(again.address, token=text) as client:
        assert client.is_connected
    path.chmod(0o644)
    with pytest.raises(AuthError, match="chmod 600"):
        Server(port).start_background()
    path.chmod(0o600)


def test_a_transfer_stream_is_of_the_token_that_the_session_is_of(
    server: Server, stranger: Callable[..., Stranger]
) -> None:
    """The id of somebody's session opens nothing."""
    session_id = stranger().hello()
    _, text = server.tokens.create("thief", ["admin"])
    stolen = stranger(TRANSFER, **{"easyremote-session": session_id.hex(), "authorization": f"Bearer {text}"})
    error = stolen.ends()
    assert isinstance(error, grpc.Call) and error.code() is grpc.StatusCode.FAILED_PRECONDITION
    own = stranger(TRANSFER, **{"easyremote-session": session_id.hex()})
    assert own.message() is not None


def test_a_session_is_not_taken_over_by_another_token(server: Server, stranger: Callable[..., Stranger]) -> None:
    session_id = stranger().hello()
    _, text = server.tokens.create("thief", ["admin"])
    thief = stranger(SESSION, authorization=f"Bearer {text}")
    thief.frame(hello=hello_of(session_id))
    assert thief.hears("refused").code == "auth"
    again = stranger(SESSION, authorization=f"Bearer {text}")
    again.frame(hello=hello_of(secrets.token_bytes(16)))
    assert list(again.hears("welcome").roles) == ["admin"]


def hello_of(session_id: bytes) -> pb.Hello:
    return pb.Hello(protocol_min=1, protocol_max=1, role=pb.ROLE_CLIENT, session_id=session_id)


# ---- T4: the holder of a token does what it isn't for ----------------------------------------------------------------


def test_a_clients_token_makes_no_node_and_a_nodes_token_no_client(server: Server, node: ComputeNode) -> None:
    _, calls = server.tokens.create("caller", ["call"])
    _, serves = server.tokens.create("gpu box", ["serve"], nodes=["gpu-*"])
    with pytest.raises(PermissionDenied, match=r"'caller'.* allows call"):
        ComputeNode(server.address, "evil", token=calls).serve()
    with pytest.raises(PermissionDenied, match=r"'gpu box'.* allows serve"):
        Client(server.address, token=serves)
    with pytest.raises(PermissionDenied, match=r"of nodes gpu-\*"):
        ComputeNode(server.address, "node-b", token=serves).serve()
    with ComputeNode(server.address, "gpu-1", token=serves) as served, Client(server.address) as client:
        served.register(lambda: "here", name="where")
        assert client.call("where") == "here"
        assert [found.node_id for found in client.list_nodes()] == ["gpu-1", "node-a"]


def test_who_may_only_call_ships_no_code_by_any_way(server: Server, node: ComputeNode, canary: Any) -> None:
    _, text = server.tokens.create("caller", ["call"])

    def mine() -> None:
        open(canary.path, "w").close()

    with Client(server.address, token=text) as client:
        attacks: list[Callable[[], object]] = [
            lambda: client.call(mine),
            lambda: list(client.map(lambda x: mine(), range(100))),
            lambda: client.node("node-a").register(mine),
            lambda: client.node("node-a").unregister("echo"),
        ]
        for attack in attacks:
            with pytest.raises(PermissionDenied, match="code of one's own") as caught:
                attack()
            assert caught.value.details["token_name"] == "caller"
        assert client.call("echo", 3) == 3


def test_only_functions_of_the_list_are_called_by_any_way(
    server: Server, node: ComputeNode, channel: grpc.Channel
) -> None:
    node.register(lambda: 1, name="secret")
    _, text = server.tokens.create("caller", functions=["ec*"])
    stub = gateway_pb2_grpc.GatewayStub(channel)
    allowed = (("authorization", f"Bearer {text}"),)
    with Client(server.address, token=text) as client:
        assert [function.name for function in client.list_functions()] == ["echo"]
        for attack in (client.call, client.submit, client.stream, client.explain):
            with pytest.raises(PermissionDenied, match=r"'secret'.*'caller'"):
                attack("secret")
    with pytest.raises(grpc.RpcError) as refused:
        stub.Invoke(pb.InvokeRequest(function="secret"), metadata=allowed, timeout=30)
    assert (refused.value.code(), "'caller'" in refused.value.details()) == (grpc.StatusCode.PERMISSION_DENIED, True)
    with pytest.raises(grpc.RpcError) as refused:
        list(stub.InvokeStream(pb.InvokeRequest(function="secret"), metadata=allowed, timeout=30))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    assert stub.Invoke(pb.InvokeRequest(function="echo", json="[4]"), metadata=allowed, timeout=30).json == "4"


def test_a_nodes_token_calls_nothing_through_invoke(server: Server, node: ComputeNode, channel: grpc.Channel) -> None:
    _, text = server.tokens.create("gpu box", ["serve"])
    stub = gateway_pb2_grpc.GatewayStub(channel)
    with pytest.raises(grpc.RpcError) as refused:
        stub.Invoke(
            pb.InvokeRequest(function="echo", json="[4]"), metadata=(("authorization", f"Bearer {text}"),), timeout=30
        )
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


def test_only_administrators_drain(server: Server, node: ComputeNode) -> None:
    for role in ("call", "ship"):
        _, text = server.tokens.create(role, [role])
        with Client(server.address, token=text) as client:
            for attack in (client.drain_node, client.resume_node):
                with pytest.raises(PermissionDenied):
                    attack("node-a")
    _, text = server.tokens.create("boss", ["admin"])
    with Client(server.address, token=text) as client:
        assert client.drain_node("node-a").status == "draining"
        assert client.resume_node("node-a").status == "connected"


def test_jobs_obey_the_same_and_remember_what_their_token_allowed(tmp_path: Path) -> None:
    with (
        Server(port=0, journal=tmp_path / "jobs.sqlite") as server,
        ComputeNode(server.address, "cpu-1") as other,
        ComputeNode(server.address, "gpu-1", slots=1) as allowed,
    ):
        other.register(lambda _: "cpu", name="where")
        allowed.register(lambda _: "gpu", name="where")
        _, text = server.tokens.create("caller", functions=["where"], nodes=["gpu-*"])
        with Client(server.address, token=text) as client:
            attacks: list[Callable[[], object]] = [
                lambda: client.submit_job(lambda: 1),
                lambda: client.submit_jobs(lambda x: x, [1, 2]),
                lambda: client.submit_job("other"),
                lambda: client.with_options(node="cpu-1").submit_job("where", 1),
            ]
            for attack in attacks:
                with pytest.raises(PermissionDenied):
                    attack()
            jobs = client.submit_jobs("where", range(6))
            assert [job.result(timeout=30) for job in jobs] == ["gpu"] * 6
