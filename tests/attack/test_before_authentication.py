"""T1, T9: strangers who connect, and say little, slowly, or nothing. They cost no memory that grows, and end in time."""

from __future__ import annotations

import resource
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack

import psutil
import pytest

from easyremote import Client, ComputeNode, Server
from easyremote.security.certificates import dialer_context
from easyremote.transport.options import HANDSHAKE_S, SPARE_DESCRIPTORS, max_connections
from tests.conftest import wait_until

pytestmark = [pytest.mark.attack, pytest.mark.slow]

STRANGERS = 10_000
CEILING_BYTES = 800 * 1024 * 1024
"""For all of them together: 80 KiB each, as gRPC takes for TLS and HTTP/2. It keeps most of that for those who come next."""

GATEWAY = """
import sys
from easyremote import Server
server = Server(port=0, host="0.0.0.0").start_background()
print(server.port, flush=True)
sys.stdin.read()
"""


@pytest.fixture
def descriptors() -> Iterator[int]:
    """As many as this process may have at most, for as long as the test runs; its children likewise."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = 40_000 if hard == resource.RLIM_INFINITY else min(hard, 40_000)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    yield max(soft, most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
def gateway() -> Iterator[tuple[psutil.Process, int]]:
    """A gateway in a process of its own that speaks TLS, and its port."""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", GATEWAY], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        yield psutil.Process(process.pid), int(process.stdout.readline())
        process.communicate()


@pytest.mark.parametrize(
    "says", [b"", b"\x16", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"], ids=["none", "byte", "part"]
)
@pytest.mark.timeout(300)
def test_ten_thousand_slow_strangers_cost_bounded_memory_and_keep_nobody_from_working(
    descriptors: int, gateway: tuple[psutil.Process, int], says: bytes
) -> None:
    process, port = gateway
    count = min(STRANGERS, descriptors - 500)
    with ComputeNode(node_id="n") as node, Client() as client:
        node.register(len, name="length")
        before = process.memory_info().rss
        peaks: list[int] = []
        for _ in range(2):
            seen = [before]

            def look(seen: list[int] = seen) -> int:
                seen.append(process.memory_info().rss)
                assert client.call("length", "ab") == 2
                return len(process.net_connections("tcp"))

            with ExitStack() as strangers:
                for number in range(count):
                    stranger = socket.create_connection(("127.0.0.1", port), 30)
                    strangers.enter_context(stranger)
                    if says:
                        stranger.send(says)
                    if number % 500 == 0:
                        look()
                # None of them said anything that makes sense, so all are closed in time, though they themselves don't go.
                wait_until(lambda: look() < 50, 60 + 4 * HANDSHAKE_S)
            peaks.append(max(seen) - before)
        assert peaks[0] < CEILING_BYTES
        assert peaks[1] < CEILING_BYTES and peaks[1] < 1.5 * peaks[0] + 50 * 2**20, "each wave leaves something behind"
        assert process.num_fds() < 500


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
        return stranger.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True


def test_the_bound_leaves_descriptors_for_the_gateway_itself() -> None:
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert max_connections(10) == min(40, max(soft - SPARE_DESCRIPTORS, soft // 2))
    assert max_connections(10**9) <= max(soft - SPARE_DESCRIPTORS, soft // 2)
