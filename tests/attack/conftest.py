"""A gateway over gRPC, and what its attackers need."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import grpc
import pytest

from easyremote import Server
from tests.faults.conftest import client, node, server, stranger  # noqa: F401 - fixtures


@pytest.fixture
def channel(server: Server) -> Iterator[grpc.Channel]:  # noqa: F811
    with grpc.insecure_channel(server.address) as opened:
        yield opened


class Canary:
    """Unpickling this makes a file: nobody may."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, (str(self.path), "w")


@pytest.fixture
def canary(tmp_path: Path) -> Iterator[Canary]:
    """The file of this one isn't there when the test ends."""
    bird = Canary(tmp_path / "canary")
    yield bird
    assert not bird.path.exists(), "somebody has unpickled what a hostile peer sent"
