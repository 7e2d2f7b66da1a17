"""A new connection to a gateway: in TLS unless the gateway is on this machine, and only with the one that was meant.

gRPC tells little of why a handshake failed, and can't be asked for a peer's certificate. So another handshake comes first,
which looks at the certificate and compares it; gRPC is then told to trust exactly that one. The gateway proves to gRPC
that it has the certificate's key.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import socket
import ssl
from collections.abc import AsyncIterator
from typing import TYPE_CHECKING, Any

from easyremote.discovery import Endpoint, split_address
from easyremote.errors import EasyRemoteError, GatewayUnreachable, UntrustedGateway
from easyremote.security import certificates

if TYPE_CHECKING:
    from cryptography import x509

HANDSHAKE_TIMEOUT_S = 4.0
"""For the name, the TCP connection and the TLS handshake, each."""

_PIECE_BYTES = 16 * 1024


@contextlib.asynccontextmanager
async def channel_to(endpoint: Endpoint) -> AsyncIterator[Any]:
    """A gRPC channel that is a connection of its own. Raises GatewayUnreachable and UntrustedGateway."""
    import grpc.aio

    from easyremote.transport.options import CHANNEL_OPTIONS

    if not endpoint.tls:
        async with grpc.aio.insecure_channel(endpoint.address, options=CHANNEL_OPTIONS) as channel:
            yield channel
        return
    address, certificate = await find_gateway(endpoint)
    credentials = grpc.ssl_channel_credentials(certificates.to_pem(certificate))
    options = [*CHANNEL_OPTIONS, ("grpc.ssl_target_name_override", certificates.name_in(certificate))]
    async with grpc.aio.secure_channel(address, credentials, options=options) as channel:
        yield channel


async def find_gateway(endpoint: Endpoint) -> tuple[str, x509.Certificate]:
    """The first of its addresses at which the gateway answers that was meant, and its certificate. All are tried at once, since
    some can't be reached from here and wouldn't say so. Raises what is wrong with the first of them, a wrong certificate above
    all."""
    tries = {asyncio.create_task(look(address, endpoint)): address for address in (endpoint.address, *endpoint.others)}
    try:
        for done in asyncio.as_completed(tries):
            with contextlib.suppress(EasyRemoteError):
                await done
                break
    finally:
        for task in tries:
            task.cancel()
        outcomes = await asyncio.gather(*tries, return_exceptions=True)
    for address, outcome in zip(tries.values(), outcomes, strict=True):
        if not isinstance(outcome, BaseException):
            return address, outcome
    errors = [error for error in outcomes if isinstance(error, EasyRemoteError)]
    raise next((error for error in errors if isinstance(error, UntrustedGateway)), errors[0])


async def look(address: str, endpoint: Endpoint) -> x509.Certificate:
    """Shake hands and compare. Raises UntrustedGateway, GatewayUnreachable."""
    where = f"{address} ({endpoint.source})"
    certificate = await shake_hands(await connect(address, where), address, where, verified=not endpoint.fingerprint)
    if endpoint.fingerprint:
        compare(certificate, endpoint.fingerprint, where)
    return certificate


async def connect(address: str, where: str) -> socket.socket:
    """A TCP connection. Raises GatewayUnreachable."""
    last = None
    for family, kind, _, _, found in await resolve(address, where):
        sock = socket.socket(family, kind)
        try:
            sock.setblocking(False)
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                await asyncio.get_running_loop().sock_connect(sock, found)
            return sock
        except TimeoutError:
            sock.close()
            last = f"no connection within {HANDSHAKE_TIMEOUT_S:g} s. Is the address right, and the port open in the firewall?"
        except OSError as error:
            sock.close()
            last = f"{_short(error)}. Is a gateway running there?"
        except BaseException:
            sock.close()
            raise
    raise GatewayUnreachable(f"no gateway answers at {where}: {last}")


async def resolve(address: str, where: str) -> list[Any]:
    """What `getaddrinfo` says, at least one. Raises GatewayUnreachable."""
    host, port = split_address(address)
    try:
        async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
            return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):  # a TimeoutError too; a name that is too long for DNS
        raise GatewayUnreachable(f"no gateway answers at {where}: its name can't be resolved") from None


async def shake_hands(sock: socket.socket, address: str, where: str, verified: bool) -> x509.Certificate:
    """TLS on this connection, which is closed then. Raises UntrustedGateway for a certificate that the system doesn't trust,
    where it is asked; GatewayUnreachable for what doesn't speak TLS."""
    try:
        with sock:
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                return certificates.parse_der(await _certificate_from(sock, split_address(address)[0], verified))
    except ssl.SSLCertVerificationError as error:
        raise UntrustedGateway(
            f"the certificate of the gateway at {where} is not trusted: {error.verify_message.rstrip('.')}. Join it with an "
            "invitation, which has its fingerprint ('easyremote invite' there makes one), or have it use a certificate that this "
            "machine trusts",
            reason=error.verify_message,
        ) from None
    except TimeoutError:
        raise GatewayUnreachable(
            f"what answers at {where} doesn't speak TLS: it said nothing for {HANDSHAKE_TIMEOUT_S:g} s. Is that its port?"
        ) from None
    except (OSError, ValueError) as error:  # ssl.SSLError is one; ValueError: a certificate that is none
        raise GatewayUnreachable(
            f"what answers at {where} doesn't speak TLS ({_short(error)}), and code doesn't cross a network without. If that "
            "is a gateway, start it with --bind, which gives it TLS"
        ) from None


async def _certificate_from(sock: socket.socket, host: str, verified: bool) -> bytes:
    """Shake hands as a client, and no more. In memory, because that is the same on every loop, and ends without a word."""
    loop = asyncio.get_running_loop()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = certificates.dialer_context(verified).wrap_bio(incoming, outgoing, server_hostname=host)
    is_done = False
    while not is_done:
        try:
            tls.do_handshake()
            is_done = True
        except ssl.SSLWantReadError:
            pass
        if outgoing.pending:
            await loop.sock_sendall(sock, outgoing.read())
        if not is_done:
            received = await loop.sock_recv(sock, _PIECE_BYTES)
            if not received:
                raise ConnectionResetError(errno.ECONNRESET, "closed")
            incoming.write(received)
    return tls.getpeercert(binary_form=True) or b""


def compare(certificate: x509.Certificate, fingerprint: str, where: str) -> None:
    """Raises UntrustedGateway for a certificate of another key, or one that isn't valid now."""
    seen = certificates.fingerprint_of(certificate)
    if seen != fingerprint:
        raise UntrustedGateway(
            f"what answers at {where} is not the gateway that was joined: its key is {_brief(seen)}, and {_brief(fingerprint)} "
            "was expected. Somebody may be in between. If the gateway was set up anew, join it again with a new invitation",
            expected=fingerprint,
            seen=seen,
        )
    if problem := certificates.validity_problem(certificate):
        raise UntrustedGateway(
            f"the certificate of the gateway at {where} {problem}. Restarting the gateway renews its own certificate",
            reason=problem,
        )


async def speaks_tls(address: str) -> bool:
    """Whether TLS is spoken there: for a message, after plain gRPC has failed."""
    try:
        await shake_hands(await connect(address, address), address, address, verified=False)
    except (EasyRemoteError, ValueError):
        return False
    return True


def _brief(fingerprint: str) -> str:
    return f"SHA256 {fingerprint[:16]}…"


def _short(error: Exception) -> str:
    if reason := getattr(error, "reason", None):
        return str(reason).replace("_", " ").lower()
    number = getattr(error, "errno", None)
    return os.strerror(number).lower() if number else str(error).lower()
