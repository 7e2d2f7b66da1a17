"""Tests of calls, streams, maps and values once more, sealed."""

from __future__ import annotations

from easyremote import Client
from tests.e2e import test_calls, test_map, test_refs, test_streams
from tests.e2e.sealed import sealing, take

__all__ = ["sealing"]

take(test_streams, globals())
take(test_calls, globals())
take(test_refs, globals(), "value")
take(test_map, globals())


def test_calls_are_sealed(client: Client) -> None:
    assert client._connection.sealing is not None
    assert client._connection.sealing.is_wanted()
