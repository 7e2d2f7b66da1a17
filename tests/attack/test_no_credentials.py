"""T1: a stranger on the network. Whatever is called, nothing of its body is read before the credentials are."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from google.protobuf import descriptor_pool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from easyremote import Client, Server
from easyremote.wire.v1 import gateway_pb2 as pb

pytestmark = pytest.mark.attack

WORDS = "credentials are missing or not valid here"


class _WithToken(grpc.StreamStreamClientInterceptor):
    def __init__(self, token: str) -> None:
        self._metadata = [("authorization", f"Bearer {token}")]

    def intercept_stream_stream(self, continuation: Any, details: Any, requests: Any) -> Any:
        return continuation(details._replace(metadata=self._metadata), requests)


def every_method(channel: grpc.Channel, server: Server) -> list[str]:
    """All that the server answers to, as its own reflection tells, and all that the .proto has; and one that nobody has."""
    allowed = grpc.intercept_channel(channel, _WithToken(server.token))
    database = ProtoReflectionDescriptorDatabase(allowed)
    pool = descriptor_pool.DescriptorPool(database)
    served = {f"/{s}/{method.name}" for s in database.get_services() for method in pool.FindServiceByName(s).methods}
    described = {f"/easyremote.v1.Gateway/{m.name}" for m in pb.DESCRIPTOR.services_by_name["Gateway"].methods}
    assert described <= served
    assert len(served) >= 7  # session, transfer, two invokes, two of health, reflection
    return [*sorted(served), "/easyremote.v1.Gateway/Nothing", "/"]


def refusal(
    channel: grpc.Channel, method: str, bodies: Iterator[bytes], *credentials: tuple[str, Any]
) -> grpc.RpcError:
    call: Any = channel.stream_stream(method)
    with pytest.raises(grpc.RpcError) as refused:
        list(call(bodies, metadata=credentials, timeout=30))
    return refused.value


def credentials_for(token: str) -> list[tuple[tuple[str, Any], ...]]:
    """None, and those that are almost right."""
    bad = [b"", b"Bearer", b"Bearer ", b"Bearer wrong", token.encode(), f"Basic {token}".encode()]
    bad += [f"Bearer {token[:-1]}".encode(), f"Bearer {token} ".encode(), f"bearer {token}".encode()]
    bad += [f"Bearer {'x' * 5000}".encode()]
    return [(), (("authorization-bin", f"Bearer {token}".encode()),), *((("authorization", text),) for text in bad)]


def test_every_method_without_credentials_is_refused_alike(server: Server, channel: grpc.Channel) -> None:
    for method in every_method(channel, server):
        for credentials in credentials_for(server.token):
            refused = refusal(channel, method, iter([b""]), *credentials)
            assert refused.code() is grpc.StatusCode.UNAUTHENTICATED, (method, credentials)
            assert refused.details() == WORDS


def test_the_refusal_waits_for_no_byte_of_the_body(server: Server, channel: grpc.Channel) -> None:
    """It comes while the body, if any, is still on its way; so nobody has parsed it."""
    for method in every_method(channel, server):
        is_refused = threading.Event()

        def silence(until: threading.Event = is_refused) -> Iterator[bytes]:
            until.wait(60)
            yield b""

        refused = refusal(channel, method, silence())
        is_refused.set()
        assert refused.code() is grpc.StatusCode.UNAUTHENTICATED, method


@pytest.mark.parametrize(
    "body", [b"\xff" * 100, b"\x0a" + b"\xff" * 9, bytes(1 << 20)], ids=["junk", "length", "1 MiB"]
)
def test_a_body_that_could_not_be_parsed_changes_nothing(server: Server, channel: grpc.Channel, body: bytes) -> None:
    for method in every_method(channel, server):
        refused = refusal(channel, method, iter([body] * 3))
        assert (refused.code(), refused.details()) == (grpc.StatusCode.UNAUTHENTICATED, WORDS), method


def test_a_megabyte_of_token_is_refused_and_others_notice_nothing(
    server: Server, channel: grpc.Channel, client: Client
) -> None:
    refused = refusal(
        channel, "/easyremote.v1.Gateway/Session", iter([b""]), ("authorization", "Bearer " + "x" * (1 << 20))
    )
    assert refused.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.UNAUTHENTICATED)
    assert client.call("echo", 7) == 7
