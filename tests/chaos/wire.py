"""A TCP connection that goes through this process, and what can happen to it on the way.

Bytes are counted in both directions together, over all connections of the wire, so a fault can be set for a place: after so
many bytes from now on. TCP keeps their order, and so does this; `delay_s` holds all of them up.
"""

from __future__ import annotations

import contextlib
import select
import socket
import struct
import threading
import time
from dataclasses import dataclass

_RESET = struct.pack("ii", 1, 0)  # SO_LINGER: closing sends RST

UP, DOWN = "up", "down"
"""Towards the gateway, and back."""


@dataclass(eq=False)
class _Pair:
    near: socket.socket  # the peer's end
    far: socket.socket  # the gateway's
    is_broken: bool = False


class Wire:
    """Listens on loopback for a gateway at `target`. All methods may be called from any thread."""

    def __init__(self, target: str, host: str = "127.0.0.1") -> None:
        target_host, _, port = target.rpartition(":")
        self._target = (target_host, int(port))
        self._listener = socket.create_server((host, 0))
        self.address = f"{host}:{self._listener.getsockname()[1]}"
        self.passed = 0  # bytes
        self.connections = 0
        self.delay_s = 0.0
        self.swallows: frozenset[str] = frozenset()  # directions in which nothing is passed on
        self.is_down = False
        self._pairs: list[_Pair] = []
        self._lock = threading.RLock()
        self._cut_at: int | None = None
        self._flip_at: int | None = None
        self._flip_bit = 0
        self.flipped = 0
        self._is_open = True
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self, reset: bool = True) -> None:
        """Break every connection that there is, by RST or by FIN. New ones work."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            self._break(pair, reset)

    def cut_after(self, count: int) -> None:
        """Cut when so many bytes more have passed; what comes behind that byte is lost."""
        with self._lock:
            self._cut_at = self.passed + count

    def flip_after(self, count: int, bit: int) -> None:
        """Turn one bit of the byte that comes so many bytes later."""
        with self._lock:
            self._flip_at, self._flip_bit = self.passed + count, bit

    @property
    def is_armed(self) -> bool:
        return self._cut_at is not None or self._flip_at is not None

    def down(self) -> None:
        """Cut, and refuse new connections until `up`."""
        self.is_down = True
        self.cut()

    def up(self) -> None:
        self.is_down = False
        self.swallows = frozenset()

    def swallow(self, *directions: str) -> None:
        """Keep the connections and pass nothing on until `up`; what comes meanwhile waits, and is acknowledged by TCP."""
        self.swallows = frozenset(directions or (UP, DOWN))

    def close(self) -> None:
        self._is_open = False
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if self.is_down:
                near.close()
                continue
            try:
                far = socket.create_connection(self._target)
            except OSError:
                near.close()
                continue
            for end in (near, far):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            pair = _Pair(near, far)
            with self._lock:
                self._pairs.append(pair)
                self.connections += 1
            threading.Thread(target=self._pump, args=(pair,), daemon=True).start()

    def _pump(self, pair: _Pair) -> None:
        ends: list[tuple[str, socket.socket, socket.socket]] = [
            (UP, pair.near, pair.far),
            (DOWN, pair.far, pair.near),
        ]
        with contextlib.suppress(OSError, ValueError):
            while not pair.is_broken and self._is_open:
                reading = [source for direction, source, _ in ends if direction not in self.swallows]
                ready = select.select(reading, [], [], 0.05)[0] if reading else self._idle()
                for direction, source, target in ends:
                    if source in ready and direction not in self.swallows and not self._pass_on(pair, source, target):
                        return
        self._break(pair, reset=False)

    def _idle(self) -> list[socket.socket]:
        time.sleep(0.02)
        return []

    def _pass_on(self, pair: _Pair, source: socket.socket, target: socket.socket) -> bool:
        data = source.recv(65536)
        if not data:
            self._break(pair, reset=False)
            return False
        if self.delay_s:
            time.sleep(self.delay_s)
        data, is_cut = self._damaged(data)
        target.sendall(data)
        if is_cut:
            self.cut(reset=True)
        return not is_cut

    def _damaged(self, data: bytes) -> tuple[bytes, bool]:
        with self._lock:
            begins_at = self.passed
            is_cut = self._cut_at is not None and self._cut_at <= begins_at + len(data)
            if is_cut:
                assert self._cut_at is not None
                data, self._cut_at = data[: max(self._cut_at - begins_at, 0)], None
            if self._flip_at is not None and begins_at <= self._flip_at < begins_at + len(data):
                changed = bytearray(data)
                changed[self._flip_at - begins_at] ^= 1 << self._flip_bit
                data, self._flip_at = bytes(changed), None
                self.flipped += 1
            self.passed += len(data)
        return data, is_cut

    def _break(self, pair: _Pair, reset: bool) -> None:
        with self._lock:
            if pair in self._pairs:
                self._pairs.remove(pair)
            pair.is_broken = True
        for end in (pair.near, pair.far):
            with contextlib.suppress(OSError):
                if reset:
                    end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
                else:
                    end.shutdown(socket.SHUT_RDWR)
            end.close()
