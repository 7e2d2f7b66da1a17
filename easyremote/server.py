"""`Server`: the gateway."""

from __future__ import annotations

import asyncio
import os
import secrets
import socket
import threading
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from easyremote import discovery, joining, lifetime
from easyremote._version import __version__
from easyremote.binding import Network
from easyremote.config import DEFAULT_PORT, GATEWAY_DRAIN_GRACE_S, GatewaySettings
from easyremote.core.broker import Broker
from easyremote.core.strategies import make_strategy
from easyremote.errors import PortInUse, UsageError
from easyremote.security.audit import gateway_path, open_log
from easyremote.security.tokens import TokenStore
from easyremote.transport.joining import Reception
from easyremote.transport.listener import Listener
from easyremote.transport.loop import shared_loop

if TYPE_CHECKING:
    from easyremote.keeping.keeper import Keeper

__all__ = ["Server"]


class Server:
    """The process, or the part of one, that nodes and clients dial. It relays, registers and schedules, and runs no code.

    `port`: where it listens; 0 takes any free one. Without it: 8080 when that is free, else any. `host`: loopback by default. On
    any other, e.g. "0.0.0.0", it speaks TLS, with a certificate of its own that outlives it, or with yours: `certificate` and
    `key` name PEM files, the certificate's chain in the first. `advertise`: the addresses ("host:port") that invitations tell,
    where those that it finds by itself can't be reached; `name`: what they call it. `allow_plaintext_network=True` has it speak
    without TLS there, so that whoever is on the way can read and change code, and steal tokens.

    `token`: what peers must show; random without it. A connection file tells the programs of the same user on this machine.
    `journal`: the file that keeps jobs, which outlive their client and this process; True takes `jobs-PORT.sqlite` in this user's
    state folder. Without it jobs are refused. `audit`: the file that tells who ran what, where and when, see docs/audit.md; True
    takes `audit-gateway-PORT.jsonl` there.
    """

    def __init__(
        self,
        port: int | None = None,
        host: str = "127.0.0.1",
        *,
        token: str | None = None,
        settings: GatewaySettings | None = None,
        journal: str | os.PathLike[str] | bool | None = None,
        certificate: str | os.PathLike[str] | None = None,
        key: str | os.PathLike[str] | None = None,
        advertise: str | Sequence[str] = (),
        name: str | None = None,
        allow_plaintext_network: bool = False,
        audit: str | os.PathLike[str] | bool | None = None,
    ) -> None:
        if port is not None and not 0 <= port <= 65535:
            raise UsageError(f"a port is a number from 0 to 65535, not {port!r}")
        self.name = name or socket.gethostname()
        self._network = Network(host, certificate, key, advertise, allow_plaintext_network)
        if token is not None and len(token) < 16:
            raise UsageError("a token has at least 16 characters")
        self._wanted_port = port
        self._settings = settings or GatewaySettings()
        make_strategy(self._settings.default_strategy)
        self.token = token or secrets.token_urlsafe(32)
        self._journal = journal
        self._audit = audit
        self._tokens: TokenStore | None = None
        self._listener: Listener | None = None
        self._keeper: Keeper | None = None
        self._record: discovery.ConnectionFile | None = None
        self._lock = threading.RLock()
        self._stopped = threading.Event()

    def start(self) -> Server:
        """Listen, and return after `stop`, Ctrl-C or SIGTERM. SIGTERM drains it first, see `drain`; another SIGTERM or Ctrl-C
        then stops it at once. Raises PortInUse."""
        with lifetime.until_told_to_end() as told:
            self.start_background()
            self._wait_stopped()
        self._end(told)
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
                self.address, self.token, os.getpid(), time.time(), socket.gethostname(), self.fingerprint
            )
            discovery.publish(self._record)
            lifetime.opened(self, self.stop)
        return self

    async def _open(self) -> Listener:
        now = time.monotonic()
        broker = Broker(secrets.token_bytes(16), self._settings, __version__, now)
        tokens = TokenStore(None, self.token)
        listener = Listener(broker, tokens, self._settings)
        listener.reception = Reception(
            tokens, lambda: (self._network.addresses(listener.port), self.fingerprint, self.name)
        )
        try:
            if self._wanted_port:
                tokens.open(_tokens_path(self._wanted_port))
            if self._wanted_port or isinstance(self._journal, (str, os.PathLike)):
                await self._keep_jobs(listener, self._wanted_port or 0)  # before nodes bring back what they run of them
            await self._listen(listener)
            if self._keeper is None:
                await self._keep_jobs(listener, listener.port)
            if not self._wanted_port:
                tokens.open(_tokens_path(listener.port))
            self._open_audit(listener)
        except BaseException:
            await self._stop_keeping()
            if listener.port:
                await listener.stop("the gateway couldn't start")
            raise
        self._tokens = tokens
        return listener

    def _open_audit(self, listener: Listener) -> None:
        listener.audit = open_log(self._audit, gateway_path(discovery.state_folder(), listener.port))
        listener.broker.audits = listener.audit is not None
        listener.tokens.note = listener.audit.note if listener.audit is not None else None

    async def _listen(self, listener: Listener) -> None:
        host, certificate = self._network.host, self._network.prepare()
        if self._wanted_port is not None:
            await listener.start(host, self._wanted_port, certificate)
            return
        try:
            await listener.start(host, DEFAULT_PORT, certificate)
        except PortInUse:
            await listener.start(host, 0, certificate)

    async def _keep_jobs(self, listener: Listener, port: int) -> None:
        if self._journal is None or self._journal is False:
            return
        from easyremote.keeping.keeper import Keeper

        default = discovery.state_folder() / f"jobs-{port}.sqlite"
        path = default if self._journal is True else Path(self._journal)
        self._keeper = listener.keeper = Keeper(path, self._settings.jobs, listener)
        await self._keeper.start(now=self._journal is not True)

    async def _stop_keeping(self) -> None:
        keeper, self._keeper = self._keeper, None
        if keeper is not None:
            await keeper.close()

    async def _close(self, listener: Listener) -> None:
        await self._stop_keeping()
        await listener.stop("the gateway was stopped")
        if listener.audit is not None:
            await asyncio.to_thread(listener.audit.close)

    def wait(self) -> None:
        """Wait until the gateway is stopped: by `stop`, Ctrl-C or SIGTERM, the latter two when called in the main thread.

        SIGTERM drains it first, as `start` says.
        """
        with lifetime.until_told_to_end() as told:
            self._wait_stopped()
        self._end(told)

    def _end(self, told: lifetime.Told) -> None:
        if told.to_terminate:
            self.drain_as_told()
        self.stop()

    def drain_as_told(self, grace_s: float = GATEWAY_DRAIN_GRACE_S) -> None:
        """SIGTERM came: `drain` for so long, or until another one or Ctrl-C comes."""
        with lifetime.until_told_to_end():
            self.drain(grace_s)

    def _wait_stopped(self) -> None:
        while not self._stopped.wait(3600):
            pass

    def drain(self, timeout: float = GATEWAY_DRAIN_GRACE_S) -> bool:
        """Stop with little harm: take no new calls, and let those that run end and be collected for up to `timeout` seconds.

        Clients keep calls that no node has, and all that they make from then on, for the gateway that comes next at this address;
        for others, such as those of `Invoke`, they end with Unavailable. Returns whether all that ran has ended; the gateway is
        stopped then in either case. What still runs goes on at its node, and is taken up by a gateway that is started within the
        grace time.

        Raises UsageError for a timeout that is no number of seconds.
        """
        if not timeout >= 0:
            raise UsageError(f"timeout is a number of seconds, not {timeout!r}")
        listener = self._listener
        if listener is None or shared_loop.is_parents:
            return True
        has_ended = shared_loop.run(listener.drain(timeout))
        self.stop()
        return has_ended

    def stop(self) -> None:
        """Say goodbye to all peers and close, at once; `drain` waits. Stopping again does nothing."""
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
                shared_loop.run(self._close(listener))
            finally:
                shared_loop.release()
                self._stopped.set()

    def invite(
        self,
        role: str = "node",
        *,
        expires: float | str = joining.DEFAULT_EXPIRY_S,
        uses: int = 1,
        name: str = "",
        functions: Iterable[str] = (),
        nodes: Iterable[str] = (),
    ) -> str:
        """An invitation for one machine or person elsewhere: a text for `easyremote join`, `Client` or `ComputeNode` there.

        `role`: "node"; "call" (functions that nodes offer), "ship" (code of one's own too) or "admin". `expires`: how long it is
        good, in seconds or as a text like "1h". `uses`: how often. `name`: for lists. `functions`, `nodes`: shell patterns of
        what may be called, and where; none: all. What it is exchanged for stays good until it is revoked.

        Raises UsageError for what can't be, and for a gateway that listens on loopback only.
        """
        listener = self._listener
        if listener is None:
            raise UsageError("the gateway isn't running, so nobody could join it; start it first")
        return listener.reception.invite(joining.request(role, expires, uses, name, functions, nodes)).format()

    @property
    def port(self) -> int:
        """Where it listens; 0 while it doesn't."""
        return self._listener.port if self._listener is not None else 0

    @property
    def address(self) -> str:
        """host:port for nodes and clients of this machine; `addresses` has those for others."""
        return self._network.local_address(self.port)

    @property
    def addresses(self) -> tuple[str, ...]:
        """host:port for nodes and clients elsewhere, the likeliest first; none when it listens on loopback only."""
        return self._network.addresses(self.port)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the key with which it speaks TLS, in hexadecimal; empty where it doesn't."""
        return self._network.fingerprint

    @property
    def tokens(self) -> TokenStore:
        """The tokens that open this gateway beside its own, `token`, while it runs. Raises UsageError when it doesn't."""
        if self._listener is None or self._tokens is None:
            raise UsageError("a gateway's tokens can be had while it runs; start it first")
        return self._tokens

    @property
    def open_calls(self) -> int:
        """Calls that nodes have, those included whose end isn't collected yet."""
        return self._listener.broker.open_count if self._listener is not None else 0

    @property
    def notes(self) -> list[str]:
        """What whoever runs it should know, e.g. that its journal was damaged."""
        return list(self._keeper.notes) if self._keeper is not None else []

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


def _tokens_path(port: int) -> Path:
    return discovery.state_folder() / f"tokens-{port}.json"
