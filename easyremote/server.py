"""`Server`: the gateway."""

from __future__ import annotations

import os
import secrets
import socket
import threading
import time
from types import TracebackType

from easyremote import discovery, lifetime
from easyremote._version import __version__
from easyremote.config import DEFAULT_PORT, GatewaySettings
from easyremote.core.broker import Broker
from easyremote.core.strategies import make_strategy
from easyremote.errors import PortInUse, UsageError
from easyremote.transport.listener import Listener
from easyremote.transport.loop import shared_loop

__all__ = ["Server"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


class Server:
    """The process, or the part of one, that nodes and clients dial. It relays, registers and schedules, and runs no code.

    `port`: where it listens; 0 takes any free one. Without it: 8080 when that is free, else any. `host`: loopback by default; any
    other is refused in this version, which has no TLS yet. `token`: what peers must show; random without it. A connection file
    tells the programs of the same user on this machine.
    """

    def __init__(
        self,
        port: int | None = None,
        host: str = "127.0.0.1",
        *,
        token: str | None = None,
        settings: GatewaySettings | None = None,
    ) -> None:
        if port is not None and not 0 <= port <= 65535:
            raise UsageError(f"a port is a number from 0 to 65535, not {port!r}")
        if host not in _LOOPBACK:
            raise UsageError(
                f"this version listens on loopback only, not on {host}: it has no TLS yet, and code would travel unprotected. "
                "Reach it from elsewhere through 'ssh -L 8080:localhost:8080 HOST'"
            )
        if token is not None and len(token) < 16:
            raise UsageError("a token has at least 16 characters")
        self._wanted_port = port
        self._host = host
        self._settings = settings or GatewaySettings()
        make_strategy(self._settings.default_strategy)
        self.token = token or secrets.token_urlsafe(32)
        self._listener: Listener | None = None
        self._record: discovery.ConnectionFile | None = None
        self._lock = threading.RLock()
        self._stopped = threading.Event()

    def start(self) -> Server:
        """Listen, and return after `stop`, Ctrl-C or SIGTERM. Raises PortInUse."""
        with lifetime.until_told_to_end():
            self.start_background()
            self._wait_stopped()
        self.stop()
        return self

    def start_background(self) -> Server:
        """Listen, and return at once. Starting again does nothing. Raises PortInUse."""
        with self._lock:
            if self._listener is not None:
                return self
            shared_loop.hold()
            try:
                self._listener = shared_loop.run(self._open())
            except BaseException:
                shared_loop.release()
                raise
            self._stopped.clear()
            self._record = discovery.ConnectionFile(
                self.address, self.token, os.getpid(), time.time(), socket.gethostname()
            )
            discovery.publish(self._record)
            lifetime.opened(self, self.stop)
        return self

    async def _open(self) -> Listener:
        now = time.monotonic()
        broker = Broker(secrets.token_bytes(16), self._settings, __version__, now)
        listener = Listener(broker, self.token)
        if self._wanted_port is not None:
            await listener.start(self._host, self._wanted_port)
            return listener
        try:
            await listener.start(self._host, DEFAULT_PORT)
        except PortInUse:
            listener = Listener(broker, self.token)
            await listener.start(self._host, 0)
        return listener

    def wait(self) -> None:
        """Wait until the gateway is stopped: by `stop`, Ctrl-C or SIGTERM, the latter two when called in the main thread."""
        with lifetime.until_told_to_end():
            self._wait_stopped()
        self.stop()

    def _wait_stopped(self) -> None:
        while not self._stopped.wait(3600):
            pass

    def stop(self) -> None:
        """Say goodbye to all peers and close. Stopping again does nothing."""
        if shared_loop.is_parents:
            return
        with self._lock:
            listener, self._listener = self._listener, None
            if listener is None:
                self._stopped.set()
                return
            lifetime.closed(self)
            if self._record is not None:
                discovery.withdraw(self._record)
            try:
                shared_loop.run(listener.stop("the gateway was stopped"))
            finally:
                shared_loop.release()
                self._stopped.set()

    @property
    def port(self) -> int:
        """Where it listens; 0 while it doesn't."""
        return self._listener.port if self._listener is not None else 0

    @property
    def address(self) -> str:
        """host:port for nodes and clients."""
        return f"{self._host}:{self.port}"

    @property
    def is_running(self) -> bool:
        return self._listener is not None

    def __enter__(self) -> Server:
        return self.start_background()

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        return f"<Server {self.address}>" if self.is_running else "<Server, not running>"
