"""Two hosts and a cable between them, on one machine: network namespaces, and a process between their ends that passes packets on.

What the kernel's netem does (delay, loss, rate, reordering, duplication, one way only) is done here, to IP packets, so it needs no
kernel module; TCP on both sides is the kernel's own. Nothing has a name: the namespaces live as long as the processes in them,
and those die with this one. Needs `unshare`, `nsenter`, `ip` and /dev/net/tun; root, or namespaces for users.
"""

from __future__ import annotations

import contextlib
import heapq
import os
import select
import shutil
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random
from time import monotonic

from tests.chaos.promises import NotHere

NEAR, FAR = "10.77.0.1", "10.77.0.2"
_QUEUED = 200
"""Packets that a slow cable holds; more are lost, as a router loses them."""


@dataclass
class Way:
    """One direction of the cable."""

    delay_s: float = 0.0
    jitter_s: float = 0.0  # more than the time between packets: they overtake each other
    loss: float = 0.0
    doubles: float = 0.0
    bits_per_s: float = float("inf")
    is_cut: bool = False
    passed: int = 0
    lost: int = 0
    queued: int = 0
    free_at: float = 0.0


class Cable(threading.Thread):
    """Passes packets between two file descriptors. What `ways` say may be changed at any time; keys are where packets go."""

    def __init__(self, near: int, far: int, rng: Random) -> None:
        super().__init__(daemon=True, name="cable")
        self.ways = {NEAR: Way(), FAR: Way()}
        self._ends = {NEAR: near, FAR: far}
        self._rng = rng
        self._due: list[tuple[float, int, str, bytes]] = []
        self._count = 0
        self._wake_read, self._wake_write = os.pipe()
        self._lock = threading.Lock()

    def is_like(self, **settings: float) -> None:
        """Both ways from now on: as given, and else as a new cable is."""
        with self._lock:
            for way in self.ways.values():
                fresh = Way(passed=way.passed, lost=way.lost, queued=way.queued)
                way.__dict__.update(fresh.__dict__ | settings)

    def one_way(self, towards: str, **settings: float) -> None:
        with self._lock:
            self.ways[towards].__dict__.update(settings)

    def close(self) -> None:
        os.write(self._wake_write, b"x")
        self.join()
        for fd in (*self._ends.values(), self._wake_read, self._wake_write):
            os.close(fd)

    def run(self) -> None:
        came_from = {self._ends[NEAR]: FAR, self._ends[FAR]: NEAR}  # where its packets go
        while True:
            timeout = max(self._due[0][0] - monotonic(), 0) if self._due else None
            ready = select.select([*came_from, self._wake_read], [], [], timeout)[0]
            if self._wake_read in ready:
                return
            with self._lock:
                for fd in ready:
                    self._take(came_from[fd], os.read(fd, 65536))
                self._deliver()

    def _take(self, towards: str, packet: bytes) -> None:
        way, now = self.ways[towards], monotonic()
        if way.is_cut or self._rng.random() < way.loss or way.queued >= _QUEUED:
            way.lost += 1
            return
        way.free_at = max(way.free_at, now) + len(packet) * 8 / way.bits_per_s
        for _ in range(2 if self._rng.random() < way.doubles else 1):
            way.queued += 1
            self._count += 1
            at = way.free_at + way.delay_s + self._rng.uniform(0, way.jitter_s)
            heapq.heappush(self._due, (at, self._count, towards, packet))

    def _deliver(self) -> None:
        while self._due and self._due[0][0] <= monotonic():
            _, _, towards, packet = heapq.heappop(self._due)
            way = self.ways[towards]
            way.queued -= 1
            if way.is_cut:
                way.lost += 1
                continue
            way.passed += 1
            with contextlib.suppress(OSError):  # its host is gone
                os.write(self._ends[towards], packet)


@dataclass
class Network:
    """`prefixes`: what to put before a command to run it on a host, by address."""

    cable: Cable
    prefixes: dict[str, list[str]]


@contextlib.contextmanager
def network(seed: int) -> Iterator[Network]:
    """Raises NotHere, with the reason, where this machine doesn't allow one."""
    for program in ("unshare", "nsenter", "ip"):
        if shutil.which(program) is None:
            raise NotHere(f"there is no '{program}' (Debian: util-linux, iproute2)")
    if not os.access("/dev/net/tun", os.R_OK | os.W_OK):
        raise NotHere("/dev/net/tun can't be opened")
    with contextlib.ExitStack() as stack:
        ends: dict[str, int] = {}
        prefixes: dict[str, list[str]] = {}
        for address in (NEAR, FAR):
            pid, ends[address] = _host(address, stack)
            enter = ["nsenter", "--target", str(pid), "--net"]
            prefixes[address] = enter if os.geteuid() == 0 else [*enter, "--user", "--preserve-credentials"]
        cable = Cable(ends[NEAR], ends[FAR], Random(seed))
        cable.start()
        stack.callback(cable.close)
        yield Network(cable, prefixes)


def _host(address: str, stack: contextlib.ExitStack) -> tuple[int, int]:
    """Its process, and the end of the cable."""
    ours, theirs = socket.socketpair()
    stack.callback(ours.close)
    unshare = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    script = str(Path(__file__).with_name("host.py"))
    with theirs:
        process = subprocess.Popen(
            [*unshare, sys.executable, script, str(theirs.fileno()), address],
            pass_fds=[theirs.fileno()],
            stderr=subprocess.PIPE,
            text=True,
        )

    def end() -> None:
        process.kill()
        process.communicate()

    stack.callback(end)
    said, fds, *_ = socket.recv_fds(ours, 16, 1)
    if said != b"ready":
        assert process.stderr is not None
        raise NotHere(f"no network namespace can be made: {process.stderr.read().strip()[-200:]}")
    return process.pid, fds[0]
