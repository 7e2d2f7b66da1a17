"""T9 and the fuzzer: FUZZ_INPUTS inputs over every frame before and after authentication, and every parser of what strangers send.

`make attack` tries a million. No input may end in anything but being taken, being refused as documented, or the end of the stream
that it came over; memory doesn't grow; and in the end the gateway serves an honest client as before.
"""

from __future__ import annotations

import asyncio
import base64
import gc
import hashlib
import logging
import os
import secrets
from collections.abc import Callable
from typing import Any

import psutil
import pytest
from google.protobuf.message import DecodeError

from easyremote.config import GatewaySettings
from easyremote.core.access import OWNER, Access, Role
from easyremote.core.broker import Broker
from easyremote.core.records import Close, Send
from easyremote.errors import AuthError, EasyRemoteError, LocalProtocolError, PayloadError, UsageError
from easyremote.execution.failure import rebuild
from easyremote.security.authorized_keys import parse_line
from easyremote.security.identity import PublicIdentity
from easyremote.security.joining import Invitation
from easyremote.security.statements import read_admission, read_call
from easyremote.security.tokens import TokenStore
from easyremote.transport.joining import Reception
from easyremote.transport.local_listener import LocalListener
from easyremote.transport.streams import open_batch, open_chunk
from easyremote.wire import codec, plain
from easyremote.wire.chunks import WireChunk
from easyremote.wire.framing import Unpacker, pack
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.attack.fuzzing import Fuzzer, survives

pytestmark = pytest.mark.attack

INPUTS = int(os.environ.get("FUZZ_INPUTS", "20000"))
SEED = int(os.environ.get("FUZZ_SEED", "1"))
MANY = pytest.mark.timeout(max(120, INPUTS // 100))

ALLOWED_GROWTH = 64 * 1024 * 1024
"""Of this process, from a twentieth of the inputs on to all of them."""

ACCESSES = [OWNER, *(Access(f"{n:08x}", "t", frozenset({role}), max_calls=3) for n, role in enumerate(Role))]


@pytest.fixture(autouse=True)
def quiet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each refusal is logged, and pytest keeps what is: that would be growth of its own."""
    monkeypatch.setattr(logging.getLogger("easyremote"), "disabled", True)


class Memory:
    """Fails when the process grows."""

    def __init__(self, inputs: int) -> None:
        self._warm = max(inputs // 20, 1)
        self._process = psutil.Process()
        self._base = 0

    def after(self, count: int) -> None:
        if count == self._warm:
            gc.collect()
            self._base = self._process.memory_info().rss

    def check(self) -> None:
        gc.collect()
        grown = self._process.memory_info().rss - self._base
        assert grown < ALLOWED_GROWTH, f"{grown:,} bytes more than after a twentieth of the inputs"


def batch_of(fuzzer: Fuzzer) -> bytes:
    """A message with one frame, or some."""
    fields = list(pb.Frame.DESCRIPTOR.fields)
    batch = pb.Batch()
    for _ in range(fuzzer.random.choice((1, 1, 2, 4))):
        fuzzer.set(batch.frames.add(), fuzzer.random.choice(fields), 4)
    return batch.SerializeToString()


# ---- the broker ------------------------------------------------------------------------------------------------------


class Gateway:
    """A broker as the listener drives it: what raises ends that peer's stream only."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.broker = Broker(b"g" * 16, GatewaySettings(max_queued_calls=20, max_client_bytes=1 << 20), "1", self.now)
        self.conns = 0
        self.open: list[int] = []

    def did(self, actions: list[Any]) -> None:
        for action in actions:
            if isinstance(action, Send):
                action.frame.SerializeToString()
            elif isinstance(action, Close) and action.conn in self.open:
                self.open.remove(action.conn)

    def connect(self, hello: pb.Hello, access: Access) -> None:
        self.conns += 1
        self.open.append(self.conns)
        self.did(self.broker.connected(self.conns, hello, self.now, access))

    def honest(self, role: Any, session_id: bytes) -> None:
        hello = pb.Hello(protocol_min=1, protocol_max=1, role=role, session_id=session_id)
        hello.runtime.python = "3.11.7"
        if role == pb.ROLE_NODE:
            hello.node.node_id, hello.node.slots = "node-a", 2
            for name in ("f", "g"):
                hello.node.offers.add(name=name, load_balancing=True)
        self.connect(hello, OWNER)


@MANY
def test_no_frame_shakes_the_broker() -> None:
    """Every frame, from peers of every role, in batches as they come over the wire."""
    fuzzer, gateway, memory = Fuzzer(SEED), Gateway(), Memory(INPUTS // 2)
    rng = fuzzer.random
    for count in range(INPUTS // 2):
        if len(gateway.open) < 3 or count % 50 == 0:
            gateway.honest(rng.choice((pb.ROLE_NODE, pb.ROLE_CLIENT)), rng.choice(fuzzer.ids))
        what = rng.random()
        if what < 0.85:
            data = batch_of(fuzzer)
            batch = open_batch(fuzzer.spoiled(data) if what < 0.3 else data)
            if batch is not None and gateway.open:
                gateway.did(gateway.broker.received(rng.choice(gateway.open), batch.frames, gateway.now))
        elif what < 0.9:
            gateway.connect(fuzzer.message(pb.Hello), rng.choice(ACCESSES))
        elif what < 0.93:
            gateway.now += rng.choice((0.01, 0.5, 4.0, 7.0))
            gateway.did(gateway.broker.tick(gateway.now))
        elif what < 0.96 and gateway.open:
            gateway.did(gateway.broker.disconnected(gateway.open.pop(rng.randrange(len(gateway.open))), gateway.now))
        else:
            chunk = open_chunk(fuzzer.spoiled(fuzzer.message(pb.Chunk).SerializeToString()))
            if chunk is not None:
                gateway.broker.chunk(rng.choice(fuzzer.ids), chunk.head, chunk.data.nbytes)
        if count % 500 == 0:
            gateway.broker.check()
        if count % 5000 == 4999:  # as after a quiet night
            gateway.now += 3600.0
            gateway.did(gateway.broker.tick(gateway.now))
        memory.after(count)
    for conn in list(gateway.open):
        gateway.did(gateway.broker.disconnected(conn, gateway.now))
    for _ in range(6):
        gateway.now += 1.9
        gateway.did(gateway.broker.tick(gateway.now))
    gateway.broker.check()
    assert gateway.broker.leftovers() == []
    memory.check()


# ---- the Unix socket, before and after the token ---------------------------------------------------------------------


class FakeTransport:
    """What asyncio gives a protocol."""

    def __init__(self) -> None:
        self.is_over = False

    def write(self, data: bytes) -> None: ...
    def get_extra_info(self, name: str) -> None: ...
    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...
    def is_closing(self) -> bool:
        return self.is_over

    def abort(self) -> None:
        self.is_over = True

    close = abort


class Host:
    """The listener's other half, with a real broker."""

    def __init__(self) -> None:
        self.broker = Broker(b"g" * 16, GatewaySettings(max_queued_calls=20), "1", 0.0)
        self.tokens: TokenStore
        self.connections: dict[int, Any] = {}
        self.count = 0
        self.raised: list[Exception] = []
        for name in ("connected", "received", "disconnected"):
            setattr(self.broker, name, self._noting(getattr(self.broker, name)))

    def _noting(self, work: Callable[..., Any]) -> Callable[..., Any]:
        """The protocol would end the one stream, and go on."""

        def do(*args: Any) -> Any:
            try:
                return work(*args)
            except Exception as error:
                self.raised.append(error)
                raise

        return do

    def add_connection(self, connection: Any) -> int:
        self.count += 1
        self.connections[self.count] = connection
        return self.count

    def remove_connection(self, conn: int) -> None:
        self.connections.pop(conn, None)

    def perform(self, actions: list[Any]) -> None:
        for action in actions:
            if isinstance(action, Send) and action.conn in self.connections:
                self.connections[action.conn].put(action.frame)
            elif isinstance(action, Close) and action.conn in self.connections:
                self.connections.pop(action.conn).close()

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: None


@MANY
def test_no_bytes_on_the_unix_socket_shake_the_listener() -> None:
    """Framing, the token's message, Hello, and frames; all through the listener's own code."""
    count = INPUTS // 5

    async def attack() -> None:
        fuzzer, host, memory = Fuzzer(SEED + 1), Host(), Memory(count)
        rng = fuzzer.random
        token = secrets.token_urlsafe(32)
        host.tokens = TokenStore(None, token)
        listener = LocalListener(host)  # type: ignore[arg-type] - all that it asks of a host
        let_in = 0
        for number in range(count):
            protocol, transport = listener._protocol(), FakeTransport()
            protocol.connection_made(transport)  # type: ignore[arg-type]
            hello = pb.Hello(protocol_min=1, protocol_max=1, role=pb.ROLE_CLIENT, session_id=rng.choice(fuzzer.ids))
            greeting = hello if rng.random() < 0.5 else fuzzer.message(pb.Hello)
            first = token.encode() if rng.random() < 0.7 else fuzzer.spoiled(token.encode())
            messages = [pack(first), pack(pb.Batch(frames=[pb.Frame(hello=greeting)]).SerializeToString())]
            messages += [pack(batch_of(fuzzer)) for _ in range(rng.choice((0, 1, 2)))]
            stream = b"".join(messages)
            stream = stream if rng.random() < 0.5 else fuzzer.spoiled(stream)
            cut = rng.randrange(len(stream) + 1)
            for piece in (stream[:cut], stream[cut:]):
                if not transport.is_over and piece:
                    protocol.data_received(piece)
            let_in += not transport.is_over
            protocol.connection_lost(None)
            if number % 100 == 0:
                await asyncio.sleep(0)
            memory.after(number)
        assert 0 < let_in < count
        assert host.raised == []
        memory.check()

    asyncio.run(attack())


# ---- parsers of what strangers send ----------------------------------------------------------------------------------


def _framing(data: bytes) -> None:
    list(Unpacker(4096).feed(data))


def _arguments(data: bytes) -> None:
    plain.decode_arguments([data, b"buffer"])


def _error(data: bytes) -> None:
    """What a node says went wrong is shown, whatever it is."""
    error = rebuild(pb.ErrorInfo.FromString(data))
    assert isinstance(error, Exception)
    str(error), repr(error)


def _invoked(data: bytes) -> None:
    codec.decode_arguments(codec.Encoded(codec.JSON, [data]), may_unpickle=False)


def _of(kind: type[Any]) -> Callable[[Fuzzer], bytes]:
    return lambda fuzzer: fuzzer.message(kind).SerializeToString()


def _line(fuzzer: Fuzzer) -> bytes:
    options = 'call-only,functions="a,b*",expires="2027-01-01",memory="8GiB"'
    return f"{fuzzer.random.choice((options, '', 'x'))} er-key:{'A' * 171} me".encode()


def _plain(fuzzer: Fuzzer) -> bytes:
    value = [[1, "a", (2, {3: b"x"}), 2**70, 1.5j, ...], {"k": {4, 5}, "l": range(3)}]
    return bytes(plain.encode(value)[0])


def _token(fuzzer: Fuzzer) -> bytes:
    return b"er_0123abcd_" + fuzzer.random.randbytes(20).hex().encode()


def _json(fuzzer: Fuzzer) -> bytes:
    return fuzzer.random.choice((b'{"a": [1, 2.5, null]}', b"[" * 500, b"1" * 5000, b'"\\ud800"', b"NaN"))


store = TokenStore(None, "the owner's")
reception = Reception(store, lambda: (("gpu.example.org:8080",), "ab" * 32, "gpu"))
welcome = store.create("guests", kind="invitation", for_roles=["ship"], uses_left=1_000_000)[1].encode()


def _join(data: bytes) -> None:
    """What Join does with whatever comes with a good invitation. The token that it makes is forgotten again."""
    reply = reception.join(welcome, pb.JoinRequest.FromString(data))
    assert reply is not None and reply.token and store.revoke(reply.token_id)


def _invite(data: bytes) -> None:
    store.revoke(reception.invite(pb.InviteRequest.FromString(data)).invitation_id)


def _invitation(fuzzer: Fuzzer) -> bytes:
    """A text that is one, or has the sum of one and anything in it."""
    if fuzzer.random.random() < 0.3:
        return ONE.format().encode()
    data = fuzzer.spoiled(fuzzer.message(pb.Invitation).SerializeToString())
    return b"er1:" + base64.urlsafe_b64encode(hashlib.sha256(data).digest()[:4] + data).rstrip(b"=")


ONE = Invitation(("gpu.example.org:8080",), "ab" * 32, "er_01234567_" + "s" * 43, (Role.SERVE,), "gpu")

PARSERS: dict[str, tuple[Callable[[Fuzzer], bytes], Callable[[bytes], Any], tuple[type[BaseException], ...]]] = {
    "framing": (lambda fuzzer: pack(b"x" * 50) * 3, _framing, (LocalProtocolError,)),
    "chunk": (_of(pb.Chunk), WireChunk.from_bytes, (DecodeError,)),
    "plain data": (_plain, _arguments, (PayloadError, UsageError)),
    "an error": (_of(pb.ErrorInfo), _error, (DecodeError,)),
    "JSON": (_json, _invoked, (ValueError, RecursionError, TypeError)),
    "token": (_token, lambda data: store.access_of(data, 0.0), ()),
    "joining": (_of(pb.JoinRequest), _join, (DecodeError,)),
    "inviting": (_of(pb.InviteRequest), _invite, (DecodeError, UsageError)),
    "an invitation": (_invitation, lambda data: Invitation.parse(data.decode("latin-1")), (UsageError,)),
    "authorized_keys": (_line, lambda data: parse_line(data.decode("latin-1")), (EasyRemoteError, ValueError)),
    "identity": (lambda fuzzer: fuzzer.random.randbytes(128), PublicIdentity.parse, (EasyRemoteError, ValueError)),
    "admission": (_of(pb.Admission), lambda data: read_admission(pb.Admission.FromString(data)), (AuthError, EasyRemoteError, DecodeError)),
    "call statement": (_of(pb.Seal), lambda data: read_call(pb.Seal.FromString(data)), (EasyRemoteError, DecodeError)),
}  # fmt: skip


@MANY
@pytest.mark.parametrize("name", PARSERS)
def test_no_bytes_shake_a_parser(name: str) -> None:
    make, parse, refusals = PARSERS[name]
    count = max(INPUTS * 3 // 10 // len(PARSERS), 1)
    fuzzer, memory = Fuzzer(SEED + len(name)), Memory(count)
    taken = sum(0 if survives(parse, fuzzer.spoiled(make(fuzzer)), *refusals) else 1 for _ in _noting(memory, count))
    assert taken <= count
    memory.check()


def _noting(memory: Memory, count: int) -> Any:
    for number in range(count):
        yield number
        memory.after(number + 1)
