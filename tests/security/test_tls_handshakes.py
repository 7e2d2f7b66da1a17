"""T3: who shakes hands in an older TLS than 1.2, or for another protocol than gRPC's, gets nowhere, on either side."""

from __future__ import annotations

import contextlib
import socket
import ssl
import warnings
from collections.abc import Iterator
from pathlib import Path
from ssl import TLSVersion

import pytest
from cryptography import x509

from easyremote import Client, ComputeNode, discovery
from easyremote.connection import Connection
from easyremote.errors import GatewayUnreachable
from easyremote.security import certificates
from easyremote.transport import dialing
from tests.security.conftest import Make, Reached, Recorder

pytestmark = [pytest.mark.attack, pytest.mark.slow]

OLD = [TLSVersion.TLSv1, TLSVersion.TLSv1_1]
NEW = [TLSVersion.TLSv1_2, TLSVersion.TLSv1_3]
TOKEN = "er_01234567_a-token-that-nobody-may-hear"

BEGINNING = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes((0, 0, 0, 4, 0, 0, 0, 0, 0))
"""Of HTTP/2: what each client says first, and its settings, which are empty."""

SETTINGS = 4
"""Type of the frame that each server answers with."""


def speaking(context: ssl.SSLContext, oldest: TLSVersion, newest: TLSVersion) -> ssl.SSLContext:
    """These versions and no other, and whatever cipher there is, so that nothing but the version can be in the way."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version, context.maximum_version = oldest, newest
    context.set_ciphers("ALL:@SECLEVEL=0")
    return context


def visitor(version: TLSVersion, protocols: list[str]) -> ssl.SSLContext:
    """A client that believes every certificate."""
    context = speaking(ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT), version, version)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    if protocols:
        context.set_alpn_protocols(protocols)
    return context


@contextlib.contextmanager
def visit(address: str, context: ssl.SSLContext) -> Iterator[ssl.SSLSocket]:
    """Shake hands. Raises OSError where that fails."""
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), 5) as sock, context.wrap_socket(sock) as tls:
        yield tls


def answer(address: str, context: ssl.SSLContext) -> bytes:
    """To the beginning of HTTP/2, after a handshake; nothing where the connection was closed on it."""
    with visit(address, context) as tls, contextlib.suppress(ConnectionError, ssl.SSLEOFError):
        tls.sendall(BEGINNING)
        return tls.recv(100)
    return b""


@pytest.fixture
def old_is_spoken_here(make: Make) -> None:
    """Else a refusal would say nothing of who refuses: some builds of OpenSSL have no TLS 1.1 left."""
    with Recorder(*make(["old.test"]), []) as recorder:
        speaking(recorder.context, *OLD)
        for version in OLD:
            try:
                with visit(recorder.address, visitor(version, ["h2"])):
                    pass
            except OSError as error:
                pytest.skip(f"this OpenSSL doesn't speak {version.name}: {error}")


@pytest.mark.parametrize("version", NEW)
def test_a_gateway_speaks_tls_1_2_and_1_3_with_who_speaks_http_2(elsewhere: Reached, version: TLSVersion) -> None:
    assert answer(elsewhere.address, visitor(version, ["h2"]))[3] == SETTINGS
    assert answer(elsewhere.address, visitor(version, ["http/1.1", "h2"]))[3] == SETTINGS


@pytest.mark.parametrize("version", OLD)
def test_a_gateway_refuses_a_client_that_speaks_an_older_tls(
    elsewhere: Reached, old_is_spoken_here: None, version: TLSVersion
) -> None:
    with pytest.raises((ssl.SSLError, ConnectionError)), visit(elsewhere.address, visitor(version, ["h2"])):
        pass
    assert answer(elsewhere.address, visitor(TLSVersion.TLSv1_2, ["h2"])), "and goes on"


@pytest.mark.parametrize("version", NEW)
@pytest.mark.parametrize("protocols", [[], ["http/1.1"], ["h2c"], ["h3", "http/1.1"]], ids=",".join)
def test_a_gateway_closes_on_a_client_that_offers_no_http_2(
    elsewhere: Reached, version: TLSVersion, protocols: list[str]
) -> None:
    assert answer(elsewhere.address, visitor(version, protocols)) == b""


@pytest.fixture
def heard() -> list[bytes]:
    return []


@pytest.fixture
def old_gateway(make: Make, heard: list[bytes], old_is_spoken_here: None) -> Iterator[tuple[Recorder, Path]]:
    """The one that was meant, its key is right, but of old TLS alone; and the file of its certificate."""
    files = make(["gateway.test"])
    with Recorder(*files, heard) as recorder:
        speaking(recorder.context, *OLD)
        yield recorder, files[0]


def of(chain: Path) -> x509.Certificate:
    return x509.load_pem_x509_certificate(chain.read_bytes())


def endpoint_of(recorder: Recorder, chain: Path) -> discovery.Endpoint:
    fingerprint = certificates.fingerprint_of(of(chain))
    return discovery.Endpoint(recorder.address, TOKEN, "a test", tls=True, fingerprint=fingerprint)


def test_a_client_and_a_node_refuse_a_gateway_that_speaks_an_older_tls_alone(
    old_gateway: tuple[Recorder, Path], heard: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    endpoint = endpoint_of(*old_gateway)
    monkeypatch.setattr(discovery, "find", lambda *_: endpoint)
    for dial in (Client, lambda address: ComputeNode(address, "n").serve(connect_timeout=1)):
        with pytest.raises(GatewayUnreachable, match=r"TLS.*(protocol|version)"):
            dial(endpoint.address)
    assert old_gateway[0].accepted >= 2 and heard == []


def test_grpc_itself_refuses_it_too_where_it_is_told_that_it_was_looked_at(
    old_gateway: tuple[Recorder, Path], heard: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when somebody lets the first handshake pass, and is in between at the second."""
    recorder, chain = old_gateway
    trust_at_once(recorder, chain, monkeypatch)
    with pytest.raises(GatewayUnreachable):
        Connection(endpoint_of(recorder, chain)).close()
    assert recorder.accepted >= 1 and heard == []
    speaking(recorder.context, *NEW)
    recorder.hangs_up = True
    with pytest.raises(GatewayUnreachable):  # it answers nothing
        Connection(endpoint_of(recorder, chain)).close()
    assert heard[0].startswith(b"PRI * HTTP/2.0"), "so it was the version that was in the way"


def test_a_client_says_nothing_to_what_does_not_choose_http_2(
    make: Make, heard: list[bytes], monkeypatch: pytest.MonkeyPatch
) -> None:
    files = make(["gateway.test"])
    with Recorder(*files, heard, protocol="http/1.1") as recorder:
        with pytest.raises(GatewayUnreachable):
            Connection(endpoint_of(recorder, files[0])).close()
        trust_at_once(recorder, files[0], monkeypatch)
        with pytest.raises(GatewayUnreachable):
            Connection(endpoint_of(recorder, files[0])).close()
    assert recorder.accepted >= 2 and heard == []


def trust_at_once(recorder: Recorder, chain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The handshake that looks at a certificate is left out; gRPC's own comes next."""

    async def found(_: discovery.Endpoint) -> tuple[str, x509.Certificate]:
        return recorder.address, of(chain)

    monkeypatch.setattr(dialing, "find_gateway", found)
