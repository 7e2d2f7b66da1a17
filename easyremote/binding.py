"""Where a gateway listens, in what it speaks there, and how others reach it."""

from __future__ import annotations

import contextlib
import ipaddress
import logging
import os
import socket
from collections.abc import Sequence
from typing import TYPE_CHECKING

from easyremote import discovery
from easyremote.errors import UsageError

if TYPE_CHECKING:
    from easyremote.security.certificates import Certificate

_log = logging.getLogger("easyremote")

_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_ALL = ("0.0.0.0", "::", "[::]", "*")

_SOMEWHERE = (("203.0.113.1", socket.AF_INET), ("2001:db8::1", socket.AF_INET6))
"""Addresses for documentation, which nobody has: to ask the system which way it would send."""

CERTIFICATE_FILE = "gateway.pem"


class Network:
    """What a `Server` was told of it. Raises UsageError for what doesn't go together."""

    def __init__(
        self,
        host: str,
        certificate: str | os.PathLike[str] | None,
        key: str | os.PathLike[str] | None,
        advertise: str | Sequence[str],
        allow_plaintext_network: bool,
    ) -> None:
        if not host or any(c.isspace() for c in host):
            raise UsageError(f"host is an address of this machine, or 0.0.0.0 for all of them, not {host!r}")
        self.host = "0.0.0.0" if host == "*" else host.strip("[]")
        self.is_local = self.host in _LOOPBACK
        if (certificate is None) != (key is None):
            raise UsageError("certificate and key are two PEM files that belong together; give both, or neither")
        if certificate is not None and (self.is_local or allow_plaintext_network):
            raise UsageError(
                "a certificate is for a gateway that other machines reach; give it a host that isn't loopback, and no "
                "allow_plaintext_network"
            )
        self._files = (certificate, key)
        self._advertised = tuple(map(discovery.normalize, [advertise] if isinstance(advertise, str) else advertise))
        self._allow_plaintext = allow_plaintext_network and not self.is_local
        self.fingerprint = ""

    def prepare(self) -> Certificate | None:
        """Load or make what it needs to listen; None where it speaks without TLS. Raises UsageError, AuthError, OSError."""
        if self._allow_plaintext:
            _log.warning(
                "this gateway listens on %s WITHOUT TLS, as allow_plaintext_network says: whoever is on the way can read and "
                "change code and values, and steal tokens",
                self.host,
            )
        if self.is_local or self._allow_plaintext:
            return None
        from easyremote.security.certificates import given_certificate, own_certificate

        certificate, key = self._files
        if certificate is not None and key is not None:
            loaded = given_certificate(certificate, key)
        else:
            hosts = [socket.gethostname(), *(discovery.split_address(address)[0] for address in self.addresses(1))]
            loaded = own_certificate(discovery.state_folder() / CERTIFICATE_FILE, hosts)
        self.fingerprint = loaded.fingerprint
        return loaded

    def local_address(self, port: int) -> str:
        """For this machine's own programs."""
        host = "127.0.0.1" if self.host in _ALL else self.host
        return _joined(host, port)

    def addresses(self, port: int) -> tuple[str, ...]:
        """For others, the likeliest first: what was advertised, else the ways out of this machine and its name."""
        if self.is_local or not port:
            return ()
        if self._advertised:
            return self._advertised
        if self.host not in _ALL:
            return (_joined(self.host, port),)
        families = (socket.AF_INET,) if self.host == "0.0.0.0" else (socket.AF_INET, socket.AF_INET6)
        hosts = [*(host for family in families for host in _own_addresses(family)), socket.gethostname()]
        return tuple(_joined(host, port) for host in dict.fromkeys(hosts))


def _own_addresses(wanted: socket.AddressFamily) -> list[str]:
    """This machine's address on the way to others; in a network that leads nowhere else, those in it. Nothing is sent."""
    for somewhere, family in _SOMEWHERE:
        if family == wanted:
            with contextlib.suppress(OSError), socket.socket(family, socket.SOCK_DGRAM) as sock:
                sock.connect((somewhere, 9))
                return [sock.getsockname()[0]]
    return _addresses_of_interfaces(wanted)


def _addresses_of_interfaces(wanted: socket.AddressFamily) -> list[str]:
    """All that another machine could dial."""
    import psutil

    found = [entry.address for entries in psutil.net_if_addrs().values() for entry in entries if entry.family == wanted]
    parsed = [ipaddress.ip_address(address) for address in found if "%" not in address]  # that of an IPv6 link names it
    return [str(address) for address in parsed if not (address.is_loopback or address.is_link_local)]


def _joined(host: str, port: int) -> str:
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
