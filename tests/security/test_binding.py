"""Which addresses of a gateway others are told."""

from __future__ import annotations

import socket
from types import SimpleNamespace

import psutil
import pytest

from easyremote import binding


def addresses_of(host: str) -> tuple[str, ...]:
    return binding.Network(host, None, None, (), allow_plaintext_network=False).addresses(8080)


def test_in_a_network_that_leads_nowhere_else_the_addresses_in_it_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """A laboratory's network has no way out, and the machine's name often means nothing to others."""
    interfaces = {
        "lo": [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")],
        "eth0": [
            (socket.AF_INET, "10.77.0.1"),
            (socket.AF_INET6, "fe80::1%eth0"),
            (socket.AF_PACKET, "02:00:00:00:00:01"),
        ],
        "eth1": [(socket.AF_INET, "169.254.7.7"), (socket.AF_INET6, "fd00::7")],
    }
    monkeypatch.setattr(binding, "_SOMEWHERE", ())
    monkeypatch.setattr(
        psutil,
        "net_if_addrs",
        lambda: {
            name: [SimpleNamespace(family=family, address=address) for family, address in entries]
            for name, entries in interfaces.items()
        },
    )
    name = socket.gethostname()
    assert addresses_of("0.0.0.0") == ("10.77.0.1:8080", f"{name}:8080")
    assert addresses_of("::") == ("10.77.0.1:8080", "[fd00::7]:8080", f"{name}:8080")
