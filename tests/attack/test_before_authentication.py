"""T1, T9: strangers who connect, and say little, slowly, or nothing. They cost no memory that grows, and end in time."""

from __future__ import annotations

import asyncio
import itertools
import os
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from easyremote import Client, ComputeNode, GatewaySettings, Server
from easyremote.errors import EasyRemoteError
from easyremote.security.certificates import dialer_context
from easyremote.transport.options import HANDSHAKE_S, SPARE_DESCRIPTORS, max_connections
from easyremote.transport.strangers import BRIEF_S, Bounds, Strangers, _open_sockets, address_of, too_many
from tests.conftest import wait_until

pytestmark = [pytest.mark.attack, pytest.mark.slow]

PLACES = [f"127.0.0.{number}" for number in range(2, 42)]
"""Where the strangers come from."""

GATEWAY = """
import sys
from easyremote import GatewaySettings, Server
server = Server(0, "0.0.0.0", advertise="127.0.0.1:1", settings=GatewaySettings(max_strangers=500, stranger_s=4)).start_background()
server._network._advertised = (f"127.0.0.1:{server.port}",)
print(server.port, server.invite("node"), server.invite("ship"), server.invite("ship"), flush=True)
sys.stdin.read()
"""


@pytest.fixture
def descriptors() -> Iterator[int]:
    """As many as this process may have at most, for as long as the test runs; its children likewise."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 20_000 if hard == resource.RLIM_INFINITY else min(hard, 20_000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    yield max(soft, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@dataclass
class Gateway:
    """In a process of its own, which speaks TLS; with invitations for a node and two clients."""

    process: psutil.Process
    port: int
    for_node: str
    for_clients: list[str]

    def connections(self) -> int:
        """Of those that are connected with its port."""
        return sum(
            one.laddr.port == self.port and one.status != "LISTEN" for one in self.process.net_connections("tcp")
        )


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    """Nobody here finds its Unix socket."""
    tmp_path.chmod(0o700)
    own = os.environ | {"EASYREMOTE_RUNTIME_DIR": str(tmp_path)}
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", GATEWAY], stdin=pipe, stdout=pipe, text=True, env=own) as process:
        assert process.stdout is not None
        port, for_node, *for_clients = process.stdout.readline().split()
        yield Gateway(psutil.Process(process.pid), int(port), for_node, for_clients)
        process.communicate()


def wave(gateway: Gateway, strangers: ExitStack, meanwhile: Callable[[], object]) -> None:
    """Four thousand who say nothing, part of a TLS handshake, or after it part of HTTP/2. None of them goes."""
    context = dialer_context(verified=False)
    places = itertools.cycle(PLACES)
    for number in range(4000):
        stranger = socket.create_connection(("127.0.0.1", gateway.port), 30, (next(places), 0))
        if number % 20 == 0:  # the gateway may have had too many of them
            with suppress(OSError):
                stranger = context.wrap_socket(stranger)
                stranger.send(b"PRI * HTTP/2.0\r\n")
        elif number % 3:
            with suppress(OSError):
                stranger.send(b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"[: number % 12])
        strangers.enter_context(stranger)
        if number % 200 == 0:
            meanwhile()


@pytest.mark.timeout(300)
def test_memory_is_flat_under_thousands_of_strangers_and_nobody_is_kept_from_working(
    descriptors: int, gateway: Gateway
) -> None:
    assert descriptors > 10_000
    with ComputeNode(gateway.for_node, node_id="n") as node, Client(gateway.for_clients[0]) as client:
        node.register(len, name="length")
        quiet, before = gateway.connections(), gateway.process.memory_info().rss
        peaks: list[int] = []
        for number in range(3):
            seen = [before]

            def look(seen: list[int] = seen) -> None:
                seen.append(gateway.process.memory_info().rss)
                assert client.call("length", "ab") == 2

            with ExitStack() as strangers:
                wave(gateway, strangers, look)
                wait_until(lambda: gateway.connections() <= 500 + 2 * quiet, 30)
                if number == 1:
                    with Client(gateway.for_clients[1]) as another:
                        assert another.call("length", "abc") == 3
                wait_until(lambda: gateway.connections() <= 2 * quiet, 60)
                look()
            peaks.append(max(seen) - before)
        # How many there are at once at a peak depends on how soon a busy machine gets to close them. What each wave leaves
        # behind would add as much as the first one took.
        assert peaks[2] - peaks[1] < peaks[0] / 2, "each wave leaves something behind"
        assert peaks[2] < 400 * 2**20
        assert gateway.process.num_fds() < 200


def watched(port: int, token: str, host: str = "127.0.0.1") -> tuple[grpc.Channel, Any]:
    """A connection on which a token was shown, and an RPC on it that lasts as long as it does."""
    channel = grpc.insecure_channel(f"{host}:{port}", [("grpc.use_local_subchannel_pool", 1)])
    request = health_pb2.HealthCheckRequest(service="")
    answers = health_pb2_grpc.HealthStub(channel).Watch(request, metadata=[("authorization", f"Bearer {token}")])
    next(answers)
    return channel, answers


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_those_of_one_address_who_show_no_token_are_few_and_go_in_time(host: str) -> None:
    """And those who show one are as many as they like, and stay."""
    settings = GatewaySettings(max_strangers_per_address=5, stranger_s=10)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        server = Server(0, host, settings=settings).start_background()
    except EasyRemoteError:
        pytest.skip("this machine has no IPv6")
    with server, ExitStack() as open_ones:
        name = f"[{host}]" if ":" in host else host
        members = [watched(server.port, server.token, name) for _ in range(8)]
        for channel, _ in members:
            open_ones.callback(channel.close)
        many = [open_ones.enter_context(socket.create_connection((host, server.port), 5)) for _ in range(20)]
        wait_until(lambda: sum(map(_is_closed, many)) == 15, 10)
        assert all(map(_is_closed, many[:15])), "the oldest"
        if family is socket.AF_INET:
            alone = open_ones.enter_context(socket.create_connection((host, server.port), 5, ("127.0.0.9", 0)))
            assert not _is_closed(alone)
        wait_until(lambda: all(map(_is_closed, many)))
        assert all(answers.is_active() for _, answers in members)


def test_who_is_let_go_first() -> None:
    """Those too slow; the oldest of one address; of all, those of addresses with many: who comes alone stays."""
    bounds = Bounds(in_all=4, of_one=3, time_s=10)
    slow = [(1, "192.0.2.1", 0.0)]
    many = [(number, "192.0.2.2", float(number)) for number in range(2, 8)]
    alone = [(8, "192.0.2.3", 1.5), (9, "2001:db8::1", 2.5)]
    assert too_many([*slow, *many, *alone], bounds, 11.0) == {1, 2, 3, 4, 5}
    one_network = [(number, f"2001:db8::{number}", float(number)) for number in range(5)]
    assert too_many(one_network, bounds, 5.0) == {0, 1}


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        ("ipv4:192.0.2.1:4711", ("192.0.2.1", 4711)),
        ("ipv6:%5B2001:db8::1%5D:4711", ("2001:db8::1", 4711)),
        ("ipv6:[::ffff:192.0.2.1]:4711", ("192.0.2.1", 4711)),
        ("ipv6:%5Bfe80::1%252%5D:4711", ("fe80::1", 4711)),
        ("unix:/run/socket", None),
        ("ipv4:192.0.2.1:port", None),
        ("", None),
    ],
)
def test_how_peers_are_written(peer: str, address: tuple[str, int] | None) -> None:
    assert address_of(peer) == address


def test_a_descriptor_that_is_anothers_by_now_is_left_alone() -> None:
    """Between the look and the end of a connection its number may have gone to another one."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ExitStack() as opened:
        port = listening.getsockname()[1]
        watch = Strangers(Bounds(in_all=0, of_one=0, time_s=0), port)
        theirs = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
        accepted, _ = listening.accept()
        here = {number: watch._known(number, descriptor, 0.0) for number, descriptor in _open_sockets()}
        (number, stranger) = next((n, one) for n, one in here.items() if one.descriptor == accepted.fileno())
        other = opened.enter_context(socket.create_connection(("127.0.0.1", port)))
        replacement, _ = listening.accept()
        opened.enter_context(replacement)
        os.dup2(replacement.fileno(), accepted.fileno())
        opened.enter_context(accepted)
        assert not watch._shut(number, stranger)
        assert not _is_closed(other) and _is_closed(theirs)


def test_a_system_that_starts_no_more_threads_is_watched_all_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    """T9: who floods the port may have taken the last thread that there was; the bound has to hold then, too."""
    looks = 0

    async def start_none(_: object) -> None:
        raise RuntimeError("can't start new thread")

    async def watch_until_three() -> None:
        enough = asyncio.Event()

        class Slow(Strangers):
            def look(self) -> int:
                nonlocal looks
                looks += 1
                time.sleep(BRIEF_S)  # so that the next look is for a thread
                if looks == 3:
                    enough.set()
                return 0

        watching = asyncio.create_task(Slow(Bounds(1, 1, 1)).watch(0))
        await asyncio.wait_for(enough.wait(), 20)
        watching.cancel()

    monkeypatch.setattr("easyremote.transport.strangers.LOOK_EVERY_S", 0)
    monkeypatch.setattr("easyremote.transport.strangers.SHARE_OF_A_CORE", 1)
    monkeypatch.setattr(asyncio, "to_thread", start_none)
    asyncio.run(watch_until_three())
    assert looks >= 3


def test_one_byte_at_a_time_keeps_no_connection_open() -> None:
    """Slowloris: each byte comes in time, and the handshake never ends."""
    with Server(port=0, host="0.0.0.0") as server, socket.create_connection(("127.0.0.1", server.port), 5) as stranger:
        began = time.monotonic()
        assert not all(_is_taken(stranger, bytes([byte])) for byte in _client_hello())
        assert HANDSHAKE_S - 1 < time.monotonic() - began < 4 * HANDSHAKE_S


def _is_taken(stranger: socket.socket, byte: bytes) -> bool:
    """Send it, wait a moment, and look whether the connection lives."""
    stranger.settimeout(0.2)
    try:
        stranger.send(byte)
        return stranger.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def _client_hello() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = dialer_context(verified=False).wrap_bio(incoming, outgoing, server_hostname="gateway.test")
    with pytest.raises(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()


def test_connections_beyond_the_bound_are_closed_when_they_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easyremote.transport.listener.max_connections", lambda _: 20)
    with Server(port=0, host="0.0.0.0") as server, ExitStack() as strangers:
        many = [strangers.enter_context(socket.create_connection(("127.0.0.1", server.port), 5)) for _ in range(60)]
        wait_until(lambda: sum(map(_is_closed, many)) >= 40, HANDSHAKE_S)
        with Client() as client:  # this user's own come over the Unix socket
            assert client.list_nodes() == []


def _is_closed(stranger: socket.socket) -> bool:
    stranger.setblocking(False)
    try:
        while stranger.recv(4096):  # where there is no TLS, the gateway speaks first
            pass
        return True
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_the_bound_leaves_descriptors_for_the_gateway_itself() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert max_connections(10) == min(40, max(soft - SPARE_DESCRIPTORS, soft // 2))
    assert max_connections(10**9) <= max(soft - SPARE_DESCRIPTORS, soft // 2)
