"""A gateway that other machines can reach, which this machine's own address stands for."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from easyremote import Server, discovery


def own_address() -> str:
    """One that isn't loopback, of this machine; empty where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("203.0.113.1", 9))
        except OSError:
            return ""
        return sock.getsockname()[0]


@dataclass
class Reached:
    """A gateway, and how it looks from elsewhere: its address, and what opens it."""

    server: Server
    address: str

    def endpoint(self, **changed: object) -> discovery.Endpoint:
        facts = {"address": self.address, "token": self.server.token, "source": "a test", "tls": True}
        return discovery.Endpoint(**facts | {"fingerprint": self.server.fingerprint} | changed)  # type: ignore[arg-type]


@pytest.fixture
def own_host() -> str:
    host = own_address()
    if not host:
        pytest.skip("this machine has no address but loopback")
    return host


@pytest.fixture
def elsewhere(own_host: str) -> Iterator[Reached]:
    with Server(port=0, host="0.0.0.0") as server:
        yield Reached(server, f"{own_host}:{server.port}")
