"""The certificate with which a gateway speaks TLS: one of its own making, or its owner's.

Who joins keeps the fingerprint of the certificate's public key, as with SSH's host keys, so no authority has to vouch for it and
the address may change. A certificate that is renewed with the same key is the same gateway.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import ssl
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from easyremote.errors import AuthError, UsageError
from easyremote.security.files import create_private, read_private, write_private

if TYPE_CHECKING:
    from cryptography import x509

NAME = "easyremote-gateway"
"""In every certificate that a gateway makes; who has its fingerprint asks for no other name."""

VALID_DAYS = 3650
RENEWED_BEFORE_DAYS = 30
"""A gateway that starts so close to the end of its certificate makes a new one, for the same key."""

_MAX_FILE_BYTES = 256 * 1024


@dataclass(frozen=True, slots=True)
class Certificate:
    """What a gateway shows, with the key that only it has. Both are PEM; `chain` has the gateway's own certificate first."""

    chain: bytes
    key: bytes = field(repr=False)
    fingerprint: str = ""


def own_certificate(path: Path, hosts: Iterable[str]) -> Certificate:
    """The one in this file, made where there is none yet, and anew for the same key where it ends soon.

    Raises AuthError where other users can read the file or it holds something else, OSError where it can't be made.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    try:
        content = read_private(path, "the gateway's key")
    except FileNotFoundError:
        key = ec.generate_private_key(ec.SECP256R1())
        create_private(
            path, _key_pem(key) + _signed(key, hosts)
        )  # of two gateways that start at once, both get the same
        content = read_private(path, "the gateway's key")
    try:
        key = serialization.load_pem_private_key(content, None)
        found = x509.load_pem_x509_certificate(content)
    except ValueError:
        raise AuthError(
            f"{path} holds no key and certificate; put it back, or delete it: a gateway with a new key is one that has to be "
            "joined anew"
        ) from None
    if found.not_valid_after_utc - _now() < datetime.timedelta(days=RENEWED_BEFORE_DAYS):
        write_private(path, _key_pem(key) + _signed(key, hosts))
        found = x509.load_pem_x509_certificate(read_private(path, "the gateway's key"))
    return Certificate(found.public_bytes(serialization.Encoding.PEM), _key_pem(key), fingerprint_of(found))


def given_certificate(certificate: str | os.PathLike[str], key: str | os.PathLike[str]) -> Certificate:
    """From PEM files: the chain, with the gateway's own certificate first, and its key.

    Raises UsageError for what can't be read, doesn't belong together, or has ended; AuthError for a key that anybody can read.
    """
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization

    chain, secret = _read(certificate, "certificate"), _read(key, "key")
    if os.name == "posix" and os.stat(key).st_mode & 0o007:
        raise AuthError(
            f"the gateway's key in {os.fspath(key)} is open to everybody on this machine; close it: chmod 640"
        )
    try:
        found = x509.load_pem_x509_certificates(chain)[0]
    except ValueError as error:
        raise UsageError(f"{os.fspath(certificate)} holds no certificate in PEM form: {error}") from None
    try:
        loaded = serialization.load_pem_private_key(secret, None)
    except (ValueError, TypeError):  # its text may be a part of the secret
        raise UsageError(f"{os.fspath(key)} holds no key in PEM form that can be read without a password") from None
    if _public_bytes(loaded.public_key()) != _public_bytes(found.public_key()):
        raise UsageError(f"the key in {os.fspath(key)} isn't the one of the certificate in {os.fspath(certificate)}")
    if problem := validity_problem(found):
        raise UsageError(f"the certificate in {os.fspath(certificate)} {problem}; renew it first")
    return Certificate(chain, _key_pem(loaded), fingerprint_of(found))


def parse_der(der: bytes) -> x509.Certificate:
    """As TLS delivers it. Raises ValueError for what is none."""
    from cryptography import x509

    return x509.load_der_x509_certificate(der)


def to_pem(certificate: x509.Certificate) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return certificate.public_bytes(serialization.Encoding.PEM)


def fingerprint_of(certificate: x509.Certificate) -> str:
    """SHA-256 of its public key (SubjectPublicKeyInfo in DER), in hexadecimal."""
    return hashlib.sha256(_public_bytes(certificate.public_key())).hexdigest()


def readable_fingerprint(fingerprint: str) -> str:
    """Groups that two people can compare on the telephone."""
    return ":".join(fingerprint[i : i + 4] for i in range(0, len(fingerprint), 4))


def validity_problem(certificate: x509.Certificate) -> str:
    """`has expired on …` or `is not valid before …`; empty when it is valid now."""
    now = _now()
    if now > certificate.not_valid_after_utc:
        return f"has expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M} UTC (now: {now:%Y-%m-%d %H:%M})"
    if now < certificate.not_valid_before_utc:
        return (
            f"is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M} UTC (now: {now:%Y-%m-%d %H:%M}); "
            "is the clock of this machine right?"
        )
    return ""


def name_in(certificate: x509.Certificate) -> str:
    """A name that the certificate is good for, which gRPC has to be told to ask for."""
    from cryptography import x509
    from cryptography.x509.oid import NameOID

    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        common = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        return str(common[0].value) if common else NAME
    for name in names.get_values_for_type(x509.DNSName):
        return name.replace("*", "gateway", 1)
    for address in names.get_values_for_type(x509.IPAddress):
        return str(address)
    return NAME


def dialer_context(verified: bool) -> ssl.SSLContext:
    """For the handshake that looks at a gateway's certificate: `verified` by the roots that this system trusts, or by nobody, for
    whoever knows its fingerprint."""
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["h2"])
    if not verified:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _read(path: str | os.PathLike[str], what: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(_MAX_FILE_BYTES)
    except OSError as error:
        raise UsageError(f"the {what} in {os.fspath(path)} can't be read: {error.strerror}") from None


def _signed(key: Any, hosts: Iterable[str]) -> bytes:
    """A certificate that says of itself that it is this key's."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes
    from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, NAME)])
    began = _now() - datetime.timedelta(days=1)  # clocks differ
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(began)
        .not_valid_after(began + datetime.timedelta(days=VALID_DAYS))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(NAME), *_names(hosts)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    return to_pem(made)


def _names(hosts: Iterable[str]) -> list[x509.GeneralName]:
    from cryptography import x509

    names: list[x509.GeneralName] = []
    for host in dict.fromkeys(hosts):
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(host.strip("[]"))))
        except ValueError:
            if host.isascii():
                names.append(x509.DNSName(host))
    return names


def _key_pem(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _public_bytes(key: Any) -> bytes:
    from cryptography.hazmat.primitives import serialization

    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)


def _now() -> datetime.datetime:
    return datetime.datetime.now(datetime.UTC)
