"""Tests of calls, streams, maps and values once more, sealed."""

from __future__ import annotations

import pytest

from easyremote import Client, ComputeNode
from tests.e2e import test_calls, test_map, test_refs, test_streams
from tests.e2e.sealed import sealing, take

__all__ = ["sealing"]

take(test_streams, globals())
take(test_calls, globals())
take(test_refs, globals(), "value")
take(test_map, globals())


@pytest.fixture
def isolation(node: ComputeNode, client: Client) -> str:
    """In workers alone: that is the longer way, and what is sealed goes the same one from a thread to the node."""
    client.call(lambda: None)
    return "process"


@pytest.fixture(params=["gRPC", "shared memory"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How values travel: each sort of wire once."""
    for name, value in test_refs.WAYS[request.param].items():
        monkeypatch.setenv(name, value)
    return request.param


def test_calls_are_sealed(client: Client) -> None:
    assert client._connection.sealing is not None
    assert client._connection.sealing.is_wanted()
