"""Connections of strangers: how many of them the gateway's port has at once, from one address and in all, and for how long.

A stranger is a connection on which nobody has shown a token yet. gRPC bounds neither those of one address nor the time until a
token comes. So this looks at the sockets that its process has at the port, a few times a second, and shuts down those too many;
gRPC then takes them for connections that broke. It never shuts down one on which a token was shown.
"""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import os
import socket
import stat
from collections import defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import lru_cache
from time import monotonic
from urllib.parse import unquote

_log = logging.getLogger("easyremote")

LOOK_EVERY_S = 0.25
SHARE_OF_A_CORE = 0.1
"""Looking takes no more of a core than this, so with thousands of connections it is done less often: at least every"""
LOOK_AT_LEAST_EVERY_S = 2.0
BRIEF_S = 0.002
TELL_EVERY_S = 60.0

_DESCRIPTORS = "/dev/fd"  # of this process; on Linux a link to /proc/self/fd

Peer = tuple[str, int]


@dataclass(frozen=True, slots=True)
class Bounds:
    """`in_all`: strangers at once; `of_one`: those of one address (of IPv6: of one network of 64 bits); `time_s`: how long each
    may take until it shows a token."""

    in_all: int
    of_one: int
    time_s: float


@dataclass(slots=True)
class _Socket:
    """One connection at the port."""

    descriptor: int
    peer: Peer
    since: float
    is_stranger: bool


@dataclass(slots=True)
class Strangers:
    """Watches the port of one gateway. `note_token` may be called while `look` runs in another thread."""

    bounds: Bounds
    port: int = 0
    _sockets: dict[int, _Socket] = field(
        default_factory=dict[int, _Socket]
    )  # by the number that the system gives to each
    _noted: dict[Peer, float] = field(default_factory=dict[Peer, float])
    _told: float = -TELL_EVERY_S

    def note_token(self, peer: str) -> None:
        """A good token was shown on the connection with this peer, in gRPC's notation."""
        if (address := address_of(peer)) is not None:
            self._noted[address] = monotonic()

    def look(self) -> int:
        """Shut down strangers who are too many, or have taken too long. Returns how many."""
        now = monotonic()
        self._sockets = {number: self._known(number, descriptor, now) for number, descriptor in _open_sockets()}
        self._forget_noted(now)
        strangers = {number: one for number, one in self._sockets.items() if one.is_stranger}
        unwanted = too_many([(number, one.peer[0], one.since) for number, one in strangers.items()], self.bounds, now)
        closed = sum(self._shut(number, strangers[number]) for number in unwanted)
        if closed and now - self._told >= TELL_EVERY_S:
            self._told = now
            _log.warning("port %d: closed %d of %d connections without a token", self.port, closed, len(strangers))
        return closed

    async def watch(self, port: int) -> None:
        """Look at the port again and again; in a thread while there is much to look at."""
        self.port = port
        took = 0.0
        while True:
            began = monotonic()
            try:
                if took < BRIEF_S:
                    self.look()
                else:
                    await self._look_elsewhere()
            except Exception:  # a fault of ours; the gateway goes on without
                _log.exception("a fault in this gateway, which goes on; please report it")
            took = monotonic() - began
            await asyncio.sleep(min(max(LOOK_EVERY_S, took / SHARE_OF_A_CORE), LOOK_AT_LEAST_EVERY_S))

    async def _look_elsewhere(self) -> None:
        """In a thread, or here where the system starts none: who floods the port may have taken the last of them."""
        try:
            await asyncio.to_thread(self.look)
        except RuntimeError:
            self.look()

    def _known(self, number: int, descriptor: int, now: float) -> _Socket:
        """What is known of this socket. One that isn't a connection at the port is no stranger, and has no peer."""
        known = self._sockets.get(number)
        if known is None:
            with _borrowed(descriptor) as sock:
                peer = self._peer_at_port(sock)
            known = _Socket(descriptor, peer or ("", 0), now, is_stranger=peer is not None)
        known.descriptor = descriptor
        known.is_stranger = known.is_stranger and known.peer not in self._noted
        return known

    def _forget_noted(self, now: float) -> None:
        """Of connections that are gone: their address may be somebody else's next."""
        present = {one.peer for one in self._sockets.values()}
        for peer in [peer for peer, noted in list(self._noted.items()) if noted < now and peer not in present]:
            self._noted.pop(peer, None)

    def _peer_at_port(self, sock: socket.socket | None) -> Peer | None:
        if sock is None or sock.family not in (socket.AF_INET, socket.AF_INET6):
            return None
        with suppress(OSError):
            if sock.getsockname()[1] == self.port:
                host, port = sock.getpeername()[:2]
                return _plain(host), port
        return None

    def _shut(self, number: int, one: _Socket) -> bool:
        """The descriptor may be another's by now, so it is looked at once more when nobody can close or replace it."""
        if one.peer in self._noted:
            return False
        with suppress(OSError):
            held = os.dup(one.descriptor)
            try:
                if os.fstat(held).st_ino == number:
                    with _borrowed(held) as sock:
                        if sock is not None and self._peer_at_port(sock) == one.peer:
                            sock.shutdown(socket.SHUT_RDWR)
                            return True
            finally:
                os.close(held)
        return False


def too_many(strangers: Iterable[tuple[int, str, float]], bounds: Bounds, now: float) -> set[int]:
    """Which of them have to go, of (number, address, time when it came): who has taken too long, then the oldest of an address
    with too many, then of those addresses that have most, so that whoever comes alone is spared as long as possible."""
    by_address: dict[str, list[tuple[float, int]]] = defaultdict(list)
    unwanted: set[int] = set()
    for number, address, since in strangers:
        if now - since > bounds.time_s:
            unwanted.add(number)
        else:
            by_address[_network_of(address)].append((since, number))
    left: list[tuple[int, float, int]] = []  # how many newer ones its address has, since when, which
    for of_one in by_address.values():
        for newer, (since, number) in enumerate(sorted(of_one, reverse=True)):
            if newer >= bounds.of_one:
                unwanted.add(number)
            else:
                left.append((newer, -since, number))
    return unwanted.union(number for _, _, number in sorted(left)[bounds.in_all :])


def address_of(peer: str) -> Peer | None:
    """Of gRPC's notation, such as "ipv4:192.0.2.1:4711" or "ipv6:%5B::1%5D:4711"; None for any that isn't TCP."""
    kind, _, rest = unquote(peer).partition(":")
    host, _, port = rest.rpartition(":")
    return (_plain(host.strip("[]")), int(port)) if kind in ("ipv4", "ipv6") and port.isdigit() else None


@lru_cache(4096)
def _plain(host: str) -> str:
    """One text for each address: IPv4 as such also where it is mapped into IPv6, and no scope."""
    with suppress(ValueError):
        address = ipaddress.ip_address(host.partition("%")[0])
        return str(getattr(address, "ipv4_mapped", None) or address)
    return host


@lru_cache(4096)
def _network_of(host: str) -> str:
    """Whoever has one address of IPv6 has a network of 64 bits of them."""
    if ":" not in host:
        return host
    with suppress(ValueError):
        return str(ipaddress.ip_network((host, 64), strict=False))
    return host


def _open_sockets() -> Iterator[tuple[int, int]]:
    """The number and a descriptor of each socket of this process."""
    try:
        names = os.listdir(_DESCRIPTORS)
    except OSError:  # Windows: there gRPC's own bounds are all there is
        return
    for descriptor in map(int, names):
        try:
            status = os.fstat(descriptor)
        except OSError:  # it was closed meanwhile
            continue
        if stat.S_ISSOCK(status.st_mode):
            yield status.st_ino, descriptor


@contextmanager
def _borrowed(descriptor: int) -> Iterator[socket.socket | None]:
    """Somebody else's socket, to look at. It is left open, and blocking or not as it is, which SOCK_NONBLOCK sees to."""
    kind = socket.SOCK_STREAM | getattr(socket, "SOCK_NONBLOCK", 0)
    try:
        sock = socket.socket(type=kind, fileno=descriptor)
    except OSError:  # it was closed meanwhile
        yield None
        return
    try:
        yield sock
    finally:
        sock.detach()
