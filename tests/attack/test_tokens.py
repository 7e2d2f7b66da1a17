"""Tokens that aren't the gateway's own: what they open, and that nothing else does."""

from __future__ import annotations

import secrets
from collections.abc import Callable

import grpc
import pytest

from easyremote import AuthError, Client, ComputeNode, Server
from easyremote.discovery import state_folder
from easyremote.wire.v1 import gateway_pb2 as pb
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
