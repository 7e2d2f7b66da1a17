"""A peer that asks and asks and never reads."""

from __future__ import annotations

import itertools
from typing import Any

import grpc
import pytest

from easyremote import Client, ComputeNode, Server
from easyremote.runtime import this_runtime
from easyremote.wire.v1 import gateway_pb2 as pb
from easyremote.wire.v1 import gateway_pb2_grpc
from tests.conftest import wait_until


def test_its_connection_is_closed_and_others_go_on(
    server: Server, node: ComputeNode, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("easyremote.transport.connections.MAX_FRAMES_WAITING", 2000)
    node.register(lambda x: x, name="echo", isolation="thread")
    hello = pb.Hello(protocol_min=1, protocol_max=1, role=pb.ROLE_CLIENT, session_id=b"s" * 16, runtime=this_runtime())
    sent = []

    def requests() -> Any:
        yield pb.Batch(frames=[pb.Frame(hello=hello)])
        for number in itertools.count(1):
            queries = [pb.Frame(query=pb.Query(query_id=number, list_nodes=pb.Query.ListNodes())) for _ in range(500)]
            sent.append(number)
            yield pb.Batch(frames=queries)

    with grpc.insecure_channel(server.address) as channel:
        stub = gateway_pb2_grpc.GatewayStub(channel)
        call = stub.Session(requests(), metadata=(("authorization", f"Bearer {server.token}"),))
        wait_until(lambda: client.gateway_info().clients == 2, 60)
        wait_until(lambda: client.gateway_info().clients == 1, 60)  # it is given up, though it still asks
        assert client.call("echo", 1) == 1
        assert len(sent) > 4
        call.cancel()
