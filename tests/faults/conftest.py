"""A gateway, a node and a client over gRPC, beside whom others do what they shouldn't."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from easyremote import Client, ComputeNode, Server
from tests.faults.stranger import strangers


@pytest.fixture(autouse=True)
def over_grpc(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYREMOTE_LOCAL_SOCKET", "0")
    monkeypatch.setenv("EASYREMOTE_SHARED_MEMORY", "0")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(port=0) as running:
        yield running


@pytest.fixture
def node(server: Server) -> Iterator[ComputeNode]:
    with ComputeNode(server.address, "node-a", slots=4) as running:
        running.register(lambda x: x, name="echo")
        yield running


@pytest.fixture
def client(server: Server, node: ComputeNode) -> Iterator[Client]:
    with Client(server.address) as running:
        yield running


@pytest.fixture
def stranger(server: Server) -> Iterator[Any]:
    """Makes a peer that follows no rule."""
    yield from strangers(server)
