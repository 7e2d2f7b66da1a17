"""What stands between this machine and a gateway, step by step, until one fails."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import grpc
import grpc.aio

from easyremote._version import __version__
from easyremote.config import PROTOCOL_VERSION
from easyremote.discovery import Endpoint, split_address
from easyremote.errors import (
    AuthError,
    EasyRemoteError,
    GatewayUnreachable,
    RemoteProtocolError,
    UntrustedGateway,
    UsageError,
    from_code,
)
from easyremote.runtime import this_runtime
from easyremote.transport.dialing import channel_to, compare, connect, resolve, shake_hands, speaks_tls
from easyremote.transport.grpc_stream import SESSION
from easyremote.transport.streams import WELCOME_TIMEOUT_S, open_batch
from easyremote.wire.v1 import gateway_pb2 as pb


@dataclass(frozen=True, slots=True)
class Step:
    """`name`: DNS, TCP, TLS, fingerprint (or certificate), token, version, role. `error` None: it went well."""

    name: str
    text: str
    error: EasyRemoteError | None = None


async def examine(endpoint: Endpoint, role: str = "") -> AsyncIterator[Step]:
    """The steps, the last of which may have failed. An endpoint without a token is looked at as far as one gets without.

    `role`: one that the token must have. All addresses are tried until one leads to the gateway.
    """
    addresses = (endpoint.address, *endpoint.others)
    for number, address in enumerate(addresses, 1):
        one = replace(endpoint, address=address, others=())
        failed = None
        async for step in _reach(one):
            failed = step if step.error is not None else None
            is_last = number == len(addresses) or isinstance(step.error, UntrustedGateway)
            yield step if failed is None or is_last else Step(step.name, f"{step.text}; trying the next address")
            if failed is not None and is_last:
                return
        if failed is None:
            if endpoint.token:
                async for step in _enter(one, role):
                    yield step
            return


async def _reach(endpoint: Endpoint) -> AsyncIterator[Step]:
    address, where = endpoint.address, f"{endpoint.address} ({endpoint.source})"
    name, done = "DNS", ""
    try:
        found = await resolve(address, where)
        yield Step(name, f"{split_address(address)[0]} is {', '.join(dict.fromkeys(str(one[4][0]) for one in found))}")
        name = "TCP"
        with await connect(address, where):
            done = f"port {split_address(address)[1]} is open"
        yield Step(name, done)
        name = "TLS"
        if not endpoint.tls:
            if await speaks_tls(address):
                raise GatewayUnreachable(
                    f"what answers at {where} speaks TLS, and would be spoken to without: join it with an invitation, which has "
                    "what TLS needs"
                )
            yield Step(
                name, "not used on this machine" if endpoint.is_own else "not used: nothing leaves this machine here"
            )
            return
        certificate = await shake_hands(await connect(address, where), address, where, verified=False)
        yield Step(name, "spoken")
        if endpoint.fingerprint:
            name = "fingerprint"
            compare(certificate, endpoint.fingerprint, where)
            yield Step(name, f"SHA256 {endpoint.fingerprint[:16]}…, as was joined")
        else:
            name = "certificate"
            await shake_hands(await connect(address, where), address, where, verified=True)
            yield Step(name, "one that this system trusts for this host")
    except EasyRemoteError as error:
        yield Step(name, error.message, error)


async def _enter(endpoint: Endpoint, role: str) -> AsyncIterator[Step]:
    try:
        frame = await _say_hello(endpoint, pb.ROLE_CLIENT)
    except EasyRemoteError as error:
        yield Step("token" if isinstance(error, AuthError) else "version", error.message, error)
        return
    refused = from_code(frame.refused.code, frame.refused.message) if frame.HasField("refused") else None
    yield Step("token", "taken")
    if refused is not None and not isinstance(refused, AuthError):
        yield Step("version" if refused.code == "protocol" else "gateway", refused.message, refused)
        return
    if refused is None:
        version = frame.welcome.version or "unknown"
        yield Step("version", f"the gateway has easyremote {version}, this machine {__version__}")
        yield _judged(list(frame.welcome.roles), role)
        return
    answer = await _say_hello(endpoint, pb.ROLE_NODE)  # without a name, and refused for that when it may be a node
    yield _judged(["serve"], role) if answer.refused.code == UsageError.code else Step("role", refused.message, refused)


def _judged(roles: list[str], wanted: str) -> Step:
    has = wanted in roles or "admin" in roles or (wanted == "call" and "ship" in roles)
    if not wanted or not roles or has:
        return Step("role", ", ".join(roles) or "an older gateway: every token may do all")
    error = AuthError(
        f"this token has the roles {', '.join(roles)}, and not {wanted}; ask for an invitation that 'easyremote invite' makes"
    )
    return Step("role", error.message, error)


async def _say_hello(endpoint: Endpoint, role: pb.Role) -> pb.Frame:
    """What the gateway says to a hello. Hello and goodbye go together with the opening of the stream: where they are written to
    an open one, grpc.aio forgets a refusal that came meanwhile, and says "Internal error from Core" instead."""
    hello = pb.Hello(
        protocol_min=PROTOCOL_VERSION,
        protocol_max=PROTOCOL_VERSION,
        role=role,
        session_id=secrets.token_bytes(16),
    )
    hello.runtime.CopyFrom(this_runtime())
    async with channel_to(endpoint) as channel:
        method = channel.unary_stream(
            SESSION, request_serializer=pb.Batch.SerializeToString, response_deserializer=open_batch
        )
        goodbye = pb.Goodbye(reason="it was only looked at")
        call = method(pb.Batch(frames=[pb.Frame(hello=hello), pb.Frame(goodbye=goodbye)]), metadata=endpoint.metadata())
        try:
            async with asyncio.timeout(WELCOME_TIMEOUT_S):
                batch = await call.read()
            if isinstance(batch, pb.Batch) and batch.frames:
                return batch.frames[0]
            raise _explained(endpoint, await call.code(), await call.details())
        except grpc.aio.AioRpcError as error:
            raise _explained(endpoint, error.code(), error.details()) from None
        except TimeoutError:
            raise RemoteProtocolError(
                f"what answers at {endpoint.address} says nothing to a hello within {WELCOME_TIMEOUT_S:g} s"
            ) from None
        finally:
            call.cancel()


def _explained(endpoint: Endpoint, code: grpc.StatusCode, details: str | None) -> EasyRemoteError:
    if code is grpc.StatusCode.UNAUTHENTICATED:
        return AuthError(
            f"the gateway at {endpoint.address} doesn't take the token: it was mistyped, has expired, or was revoked. Join again "
            "with a new invitation"
        )
    return RemoteProtocolError(
        f"what answers at {endpoint.address} is not an EasyRemote gateway, or too old a one ({code.name}: {details})"
    )
