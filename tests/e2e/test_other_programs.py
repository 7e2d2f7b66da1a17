"""What programs that aren't Python see: the service's other methods, and who may use them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from easyremote import AuthError, Client, ComputeNode, Server
from easyremote.wire.v1 import gateway_pb2 as pb
from easyremote.wire.v1 import gateway_pb2_grpc


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:
    with grpc.insecure_channel(server.address) as opened:
        yield opened


def test_invoke_with_json_and_raw_bytes(server: Server, node: ComputeNode, channel: grpc.Channel) -> None:
    node.register(lambda a, b=1: {"sum": a + b}, name="add")
    node.register(lambda data: data[::-1], name="turn")
    node.register(lambda n: (i for i in range(n)), name="count")

    @node.register
    def fail() -> None:
        raise ValueError("bad input")

    stub = gateway_pb2_grpc.GatewayStub(channel)
    allowed = (("authorization", f"Bearer {server.token}"),)

    def invoke(**request: Any) -> pb.InvokeReply:
        return stub.Invoke(pb.InvokeRequest(**request), metadata=allowed, timeout=30)

    assert json.loads(invoke(function="add", json="[2, 3]").json) == {"sum": 5}
    assert json.loads(invoke(function="add", json='{"a": 2}').json) == {"sum": 3}
    assert invoke(function="turn", raw=b"abc").raw == b"cba"
    assert json.loads(invoke(function="count", json="[3]").json) == [0, 1, 2]
    assert json.loads(invoke(function="count", json="[0]").json) == []
    streamed = stub.InvokeStream(pb.InvokeRequest(function="count", json="[3]"), metadata=allowed, timeout=30)
    assert [json.loads(reply.json) for reply in streamed] == [0, 1, 2]
    for request, code, text in (
        ({"function": "ad", "json": "[1]"}, grpc.StatusCode.NOT_FOUND, "did you mean add"),
        ({"function": "add", "json": "[]"}, grpc.StatusCode.INVALID_ARGUMENT, "missing a required argument"),
        ({"function": "fail"}, grpc.StatusCode.ABORTED, "ValueError: bad input"),
        ({"function": "add", "json": "{not json"}, grpc.StatusCode.ABORTED, "JSONDecodeError"),
    ):
        with pytest.raises(grpc.RpcError) as refused:
            invoke(**request)
        assert refused.value.code() is code
        assert text in refused.value.details()
    with Client(server.address) as client:
        assert client.list_nodes()[0].running == 0


def test_health_and_reflection_answer(server: Server, channel: grpc.Channel) -> None:
    allowed = (("authorization", f"Bearer {server.token}"),)
    health = health_pb2_grpc.HealthStub(channel)
    reply = health.Check(health_pb2.HealthCheckRequest(service="easyremote.v1.Gateway"), metadata=allowed, timeout=30)
    assert reply.status == health_pb2.HealthCheckResponse.SERVING
    reflection = reflection_pb2_grpc.ServerReflectionStub(channel)
    ask = iter([reflection_pb2.ServerReflectionRequest(list_services="")])
    answer = next(reflection.ServerReflectionInfo(ask, metadata=allowed, timeout=30))
    assert "easyremote.v1.Gateway" in [service.name for service in answer.list_services_response.service]


def test_a_wrong_token_is_refused_at_once_and_never_shown(server: Server) -> None:
    with pytest.raises(AuthError, match="EASYREMOTE_TOKEN") as refused:
        Client(server.address, token="not-the-right-one")
    assert "not-the-right-one" not in str(refused.value)
    with pytest.raises(AuthError):
        ComputeNode(server.address, token="not-the-right-one").serve()
    assert server.token not in repr(server)


def test_the_connection_file_is_the_users_alone(
    server: Server, runtime_folder: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (path,) = runtime_folder.glob("gateway-*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    assert runtime_folder.stat().st_mode & 0o777 == 0o700
    path.chmod(0o644)
    with monkeypatch.context() as patch:  # the gateway's own record is there again when it stops
        patch.setattr("easyremote.discovery._in_this_process", {})  # as another process sees it
        with pytest.raises(AuthError, match="open to other users"):
            Client()
