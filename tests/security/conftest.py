"""A gateway that other machines can reach, which this machine's own address stands for."""

from __future__ import annotations

import datetime
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from easyremote import Server, discovery
from easyremote.security import certificates


def own_address() -> str:
    """One that isn't loopback, of this machine; empty where it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect(("203.0.113.1", 9))
        except OSError:
            return ""
        return sock.getsockname()[0]


@dataclass
class Reached:
    """A gateway, and how it looks from elsewhere: its address, and what opens it."""

    server: Server
    address: str

    def endpoint(self, **changed: object) -> discovery.Endpoint:
        facts = {"address": self.address, "token": self.server.token, "source": "a test", "tls": True}
        return discovery.Endpoint(**facts | {"fingerprint": self.server.fingerprint} | changed)  # type: ignore[arg-type]


@pytest.fixture
def own_host() -> str:
    host = own_address()
    if not host:
        pytest.skip("this machine has no address but loopback")
    return host


@pytest.fixture
def elsewhere(own_host: str) -> Iterator[Reached]:
    with Server(port=0, host="0.0.0.0") as server:
        yield Reached(server, f"{own_host}:{server.port}")


@pytest.fixture
def other_user(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, elsewhere: Reached) -> Reached:
    """This process is as on another machine: it finds no gateway by itself."""
    tmp_path.chmod(0o700)
    monkeypatch.setenv("EASYREMOTE_RUNTIME_DIR", str(tmp_path))
    discovery._in_this_process.clear()
    return elsewhere


class Recorder:
    """Speaks TLS with its own certificate and keeps what it hears. `context`: what it speaks. `hangs_up`: after the first words."""

    def __init__(self, chain: Path, key: Path, heard: list[bytes], protocol: str = "h2") -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.load_cert_chain(chain, key)
        self.context.set_alpn_protocols([protocol])
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self.accepted = 0
        self.hangs_up = False
        self._heard = heard
        self._thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            self.accepted += 1
            with sock:
                try:
                    sock.settimeout(5)
                    with self.context.wrap_socket(sock, server_side=True) as tls:
                        while data := tls.recv(65536):
                            self._heard.append(data)
                            if self.hangs_up:
                                break
                except OSError:
                    pass

    def __enter__(self) -> Recorder:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()


Make = Callable[..., tuple[Path, Path]]


_FOR_SIGNING = x509.KeyUsage(
    digital_signature=True,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=True,
    crl_sign=True,
    encipher_only=False,
    decipher_only=False,
)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """`make(names, days, by)`: files of a certificate and its key. `by`: the files of an authority; by itself without."""

    def build(
        names: list[str], days: int = 30, by: tuple[Path, Path] | None = None, is_authority: bool = False
    ) -> tuple[Path, Path]:
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, names[0])])
        issuer, signer = name, key
        if by is not None:
            issuer = x509.load_pem_x509_certificate(by[0].read_bytes()).subject
            signer = serialization.load_pem_private_key(by[1].read_bytes(), None)
            assert isinstance(signer, ec.EllipticCurvePrivateKey)
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=60))
            .not_valid_after(now + datetime.timedelta(days=days))
            .add_extension(x509.BasicConstraints(is_authority, None), critical=True)
            .add_extension(x509.SubjectAlternativeName(certificates._names(names)), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        )
        if is_authority:  # Python 3.13 and newer take none that doesn't say so
            builder = builder.add_extension(_FOR_SIGNING, critical=True)
        folder = tmp_path / f"certificate-{names[0]}-{days}-{time.monotonic_ns()}"
        folder.mkdir()
        files = folder / "chain.pem", folder / "key.pem"
        files[0].write_bytes(certificates.to_pem(builder.sign(signer, hashes.SHA256())))
        files[1].write_bytes(certificates._key_pem(key))
        files[1].chmod(0o600)
        return files

    return build
