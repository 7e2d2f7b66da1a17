"""T2 and T3: between machines it is TLS, with the gateway that was meant, or nothing."""

from __future__ import annotations

import logging
import socket
import stat
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from easyremote import Client, ComputeNode, Server, discovery
from easyremote.binding import CERTIFICATE_FILE
from easyremote.connection import Connection
from easyremote.errors import AuthError, GatewayUnreachable, UntrustedGateway, UsageError
from easyremote.security import certificates
from tests.security.conftest import Make, Reached, Recorder

pytestmark = [pytest.mark.attack, pytest.mark.slow]


def connect(endpoint: discovery.Endpoint) -> None:
    Connection(endpoint).close()


# ---- it works -----------------------------------------------------------------------------------------------------------


def test_a_gateway_on_the_network_speaks_tls_to_nodes_and_clients(
    elsewhere: Reached, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = elsewhere.server
    endpoint = elsewhere.endpoint()
    monkeypatch.setattr(discovery, "find", lambda *_: endpoint)
    with ComputeNode(elsewhere.address, "far") as node, Client(elsewhere.address) as client:
        node.register(len, name="length")
        assert client.call("length", "abc") == 3
        assert client.call("length", b"x" * 3_000_000) == 3_000_000  # over the second stream
        assert not client._connection._link.is_local
    assert len(server.fingerprint) == 64


def test_this_users_own_programs_find_it_without_configuration(elsewhere: Reached) -> None:
    server = elsewhere.server
    assert server.address == f"127.0.0.1:{server.port}"
    with ComputeNode(node_id="near") as node, Client(server.address) as client:
        node.register(len, name="length")
        assert client.call("length", "abc") == 3
        assert client._connection._link.is_local
        assert client._connection._link.endpoint.is_own


def test_they_speak_tls_with_it_where_they_have_no_unix_socket(monkeypatch: pytest.MonkeyPatch, own_host: str) -> None:
    monkeypatch.setenv("EASYREMOTE_LOCAL_SOCKET", "0")
    for host in ("0.0.0.0", own_host):
        with Server(port=0, host=host) as server, Client() as client:
            assert client._connection.endpoint.fingerprint == server.fingerprint
            assert client.list_nodes() == []


def test_a_gateway_of_one_address_serves_its_users_programs_over_its_socket(own_host: str) -> None:
    with Server(port=0, host=own_host) as server, Client() as client:
        assert server.address == f"{own_host}:{server.port}"
        assert client._connection._link.is_local


def test_the_certificate_outlives_the_gateway(runtime_folder: Path) -> None:
    with Server(port=0, host="0.0.0.0") as first:
        fingerprint = first.fingerprint
    with Server(port=0, host="0.0.0.0") as second:
        assert second.fingerprint == fingerprint
    path = runtime_folder / "state" / CERTIFICATE_FILE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_certificate_that_ends_soon_is_replaced_and_keeps_its_key(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(certificates, "VALID_DAYS", 20)
    old = certificates.own_certificate(tmp_path / "gateway.pem", ["a"])
    monkeypatch.undo()
    new = certificates.own_certificate(tmp_path / "gateway.pem", ["a"])
    assert new.chain != old.chain
    assert (new.fingerprint, new.key) == (old.fingerprint, old.key)
    assert certificates.own_certificate(tmp_path / "gateway.pem", ["a"]) == new


def test_a_damaged_or_open_certificate_file_stops_the_gateway(runtime_folder: Path) -> None:
    path = runtime_folder / "state" / CERTIFICATE_FILE
    with Server(port=0, host="0.0.0.0"):
        pass
    path.chmod(0o644)
    with pytest.raises(AuthError, match="open to other users"):
        Server(port=0, host="0.0.0.0").start_background()
    path.write_text("nothing")
    path.chmod(0o600)
    with pytest.raises(AuthError, match="holds no key and certificate"):
        Server(port=0, host="0.0.0.0").start_background()


def test_the_first_of_its_addresses_that_answers_is_taken(elsewhere: Reached) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        dead = f"127.0.0.1:{nobody.getsockname()[1]}"
        connect(elsewhere.endpoint(address=dead, others=("no.such.host.invalid:1", elsewhere.address)))


# ---- it isn't the gateway that was meant ------------------------------------------------------------------------------


def test_another_key_is_refused_and_told_what_was_expected(elsewhere: Reached) -> None:
    with pytest.raises(UntrustedGateway, match="is not the gateway that was joined") as caught:
        connect(elsewhere.endpoint(fingerprint="ab" * 32))
    assert caught.value.details == {"expected": "ab" * 32, "seen": elsewhere.server.fingerprint}
    assert elsewhere.server.token not in str(caught.value)


def test_a_key_that_is_not_the_certificates_is_refused(make: Make) -> None:
    (chain, _), (_, key) = make(["one.test"]), make(["other.test"])
    with pytest.raises(UsageError, match="isn't the one of the certificate"):
        Server(port=0, host="0.0.0.0", certificate=chain, key=key).start_background()


def test_an_expired_certificate_is_refused(make: Make, own_host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    files = make(["gateway.test"], days=-1)
    with pytest.raises(UsageError, match="has expired on"):
        Server(port=0, host="0.0.0.0", certificate=files[0], key=files[1]).start_background()
    monkeypatch.setattr(certificates, "validity_problem", lambda _: "")  # the gateway's clock is wrong
    with Server(port=0, host="0.0.0.0", certificate=files[0], key=files[1]) as server:
        monkeypatch.undo()
        monkeypatch.setenv("EASYREMOTE_RUNTIME_DIR", str(files[0].parent))
        endpoint = discovery.Endpoint(
            f"{own_host}:{server.port}", server.token, "a test", tls=True, fingerprint=server.fingerprint
        )
        with pytest.raises(UntrustedGateway, match="has expired on"):
            connect(endpoint)


def test_a_certificate_that_nobody_vouches_for_is_refused_without_a_fingerprint(elsewhere: Reached) -> None:
    with pytest.raises(UntrustedGateway, match=r"not trusted: self.signed.*invitation"):
        Client(elsewhere.address, token=elsewhere.server.token)
    with pytest.raises(UntrustedGateway):
        ComputeNode(elsewhere.address, token=elsewhere.server.token).serve()


def test_a_certificate_of_an_authority_is_taken_for_its_host_alone(
    make: Make, own_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make(["authority"], is_authority=True)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    right, wrong = make([own_host], by=authority), make(["other.test"], by=authority)
    with Server(port=0, host=own_host, certificate=right[0], key=right[1]) as server:
        monkeypatch.setenv("EASYREMOTE_RUNTIME_DIR", str(authority[0].parent))
        with Client(server.address, token=server.token) as client:
            assert client.list_nodes() == []
    with Server(port=0, host="0.0.0.0", certificate=wrong[0], key=wrong[1]) as server:
        with pytest.raises(UntrustedGateway, match="mismatch"):
            Client(f"{own_host}:{server.port}", token=server.token)
        connect(Reached(server, f"{own_host}:{server.port}").endpoint())  # who has the fingerprint needs no authority


# ---- TLS and none don't meet ------------------------------------------------------------------------------------------


def test_a_client_that_speaks_tls_tells_a_plain_gateway_from_a_silent_port(stopwatch: Callable[[], float]) -> None:
    with Server(port=0) as server, pytest.raises(GatewayUnreachable, match="doesn't speak TLS"):
        connect(discovery.Endpoint(server.address, server.token, "a test", tls=True, fingerprint="ab" * 32))
    assert stopwatch() < 15


def test_a_client_that_speaks_no_tls_is_told_that_the_gateway_does(
    elsewhere: Reached, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """As through a tunnel, whose end looks local."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("EASYREMOTE_RUNTIME_DIR", str(tmp_path))
    discovery._in_this_process.clear()
    with pytest.raises(GatewayUnreachable, match=r"speaks TLS.*invitation"):
        Client(f"localhost:{elsewhere.server.port}", token=elsewhere.server.token)


def test_a_port_that_says_nothing_is_given_up_in_bounded_time(stopwatch: Callable[[], float]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        endpoint = discovery.Endpoint(
            f"127.0.0.1:{silent.getsockname()[1]}", "t" * 20, "a test", tls=True, fingerprint="ab" * 32
        )
        with pytest.raises(GatewayUnreachable, match="said nothing for 4 s"):
            connect(endpoint)
    assert 3.5 < stopwatch() < 15


def test_the_token_never_goes_to_what_is_not_the_gateway(make: Make, own_host: str) -> None:
    """An impostor with a certificate of its own records all that it gets."""
    heard: list[bytes] = []
    with Recorder(*make(["impostor"]), heard) as recorder:
        for endpoint in (
            discovery.Endpoint(recorder.address, "a token of ours, secret", "a test", tls=True, fingerprint="ab" * 32),
            discovery.Endpoint(recorder.address, "a token of ours, secret", "a test", tls=True),
        ):
            with pytest.raises(UntrustedGateway):
                connect(endpoint)
    assert heard == [], "it shook hands and left"
    assert recorder.accepted >= 2


@pytest.fixture
def stopwatch() -> Callable[[], float]:
    began = time.monotonic()
    return lambda: time.monotonic() - began


# ---- without TLS, loudly ----------------------------------------------------------------------------------------------


def test_without_tls_a_network_is_crossed_only_when_both_sides_say_so(
    own_host: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    caplog.set_level(logging.WARNING, "easyremote")
    with Server(port=0, host="0.0.0.0", allow_plaintext_network=True) as server:
        assert server.fingerprint == ""
        assert "WITHOUT TLS" in caplog.text
        address, token = f"{own_host}:{server.port}", server.token
        tmp_path.chmod(0o700)
        with pytest.raises(GatewayUnreachable, match="doesn't speak TLS"):
            Client(address, token=token)
        with pytest.raises(GatewayUnreachable, match="doesn't speak TLS"):
            ComputeNode(address, token=token).serve()
        caplog.clear()
        with (
            ComputeNode(address, "n", token=token, allow_plaintext_network=True) as node,
            Client(address, token=token, allow_plaintext_network=True) as client,
        ):
            node.register(len, name="length")
            assert client.call("length", "abc") == 3
        assert caplog.text.count("unprotected") == 2
        with Client(server.address) as client:
            assert [node.status for node in client.list_nodes()] != ["connected"]
        monkeypatch.setenv("EASYREMOTE_ALLOW_PLAINTEXT_NETWORK", "1")
        with Client(address, token=token):
            pass


def test_each_start_without_tls_warns_again(caplog: pytest.LogCaptureFixture) -> None:
    for _ in range(2):
        caplog.clear()
        with Server(port=0, host="0.0.0.0", allow_plaintext_network=True):
            assert "WITHOUT TLS" in caplog.text
    caplog.clear()
    with Server(port=0, allow_plaintext_network=True):  # loopback: nothing crosses a network
        assert caplog.text == ""


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"certificate": "a.pem"}, "belong together"),
        ({"key": "a.pem"}, "belong together"),
        ({"certificate": "a.pem", "key": "b.pem", "host": "127.0.0.1"}, "isn't loopback"),
        ({"certificate": "a.pem", "key": "b.pem", "allow_plaintext_network": True}, "isn't loopback"),
        ({"certificate": "/none.pem", "key": "/none.pem"}, "can't be read"),
        ({"host": ""}, "an address of this machine"),
        ({"advertise": "a b"}, "no gateway address"),
    ],
)
def test_what_does_not_go_together_is_refused(facts: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        Server(port=0, **{"host": "0.0.0.0"} | facts).start_background()


def test_a_key_that_everybody_can_read_is_refused(make: Make) -> None:
    files = make(["gateway.test"])
    files[1].chmod(0o644)
    with pytest.raises(AuthError, match="open to everybody"):
        Server(port=0, host="0.0.0.0", certificate=files[0], key=files[1]).start_background()
