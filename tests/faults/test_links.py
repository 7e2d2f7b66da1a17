"""Addresses and networks that aren't what one expects."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator

import pytest

from easyremote import Client, ComputeNode, EasyRemoteError, GatewayUnreachable, Server, UsageError
from tests.e2e.conftest import Wire


def test_a_name_that_does_not_resolve_is_said_soon() -> None:
    began = time.monotonic()
    with pytest.raises(GatewayUnreachable) as caught:
        Client("no-such-host.invalid:8080", token="a-token-that-is-long-enough")
    assert "no-such-host.invalid" in str(caught.value)
    assert time.monotonic() - began < 20


@pytest.mark.parametrize(
    "address", ["", ":", "host", "host:", "host:port", "host:0", "host:99999", "a b:80", "http://x:80/y"]
)
def test_what_is_no_address_is_refused_before_anything_is_tried(address: str) -> None:
    began = time.monotonic()
    with pytest.raises(EasyRemoteError) as caught:
        Client(address, token="a-token-that-is-long-enough")
    assert isinstance(caught.value, UsageError) or "host" in str(caught.value) or not address
    assert time.monotonic() - began < 20


def test_a_gateway_on_ipv6_alone_works() -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("there is no IPv6 here")
    with Server(port=0, host="::1") as server:
        address = server.address
        assert address == f"[::1]:{server.port}"
        with ComputeNode(address, "six", token=server.token) as node, Client(address, token=server.token) as client:
            node.register(lambda: 6, name="six")
            assert client.call("six") == 6


@pytest.mark.slow
def test_a_proxy_for_web_pages_is_not_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as proxy:

        def accept() -> None:
            try:
                proxy.accept()[0].close()
                asked.set()
            except OSError:
                pass

        threading.Thread(target=accept, daemon=True).start()
        for name in ("http_proxy", "https_proxy", "grpc_proxy", "all_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.getsockname()[1]}")
        monkeypatch.delenv("no_proxy", raising=False)
        monkeypatch.delenv("NO_PROXY", raising=False)
        with Server(port=0) as server, ComputeNode(server.address, "n") as node, Client(server.address) as client:
            node.register(lambda x: x, name="echo")
            assert client.call("echo", b"x" * 300_000) == b"x" * 300_000
        assert not asked.is_set()


@pytest.fixture
def silent() -> Iterator[str]:
    """Accepts connections, acknowledges what comes, says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        kept = []

        def accept() -> None:
            try:
                while True:
                    kept.append(listener.accept()[0])
            except OSError:
                pass

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        yield f"127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)  # `accept` returns
        thread.join()
        for connection in kept:
            connection.close()


@pytest.mark.slow
def test_something_that_accepts_and_says_nothing_is_given_up(silent: str) -> None:
    began = time.monotonic()
    with pytest.raises(GatewayUnreachable):
        Client(silent, token="a-token-that-is-long-enough")
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_a_gateway_that_moves_to_another_address_behind_its_name_is_found_there(
    server: Server, node: ComputeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each try to connect is a channel of its own, which resolves the name anew. The wire stands for the name."""
    with Server(port=0, token=server.token) as other:
        wire = Wire(server.address)
        with (
            Client(wire.address, token=server.token) as client,
            ComputeNode(other.address, "moved", token=server.token) as moved,
        ):
            assert client.call("echo", 1) == 1
            moved.register(lambda: "here", name="where")
            host, _, port = other.address.rpartition(":")
            wire._target = (host, int(port))
            wire.cut()
            until = time.monotonic() + 30
            while True:
                try:
                    assert client.call("where") == "here"
                    break
                except EasyRemoteError:
                    assert time.monotonic() < until
        wire.close()
