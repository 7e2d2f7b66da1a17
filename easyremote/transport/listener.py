"""The gateway's sockets: accepts sessions and transfer streams, and moves frames between them and the broker."""

from __future__ import annotations

import asyncio
import logging
from time import monotonic
from typing import Any, Protocol

import grpc
import grpc.aio
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from easyremote.config import GatewaySettings
from easyremote.core.access import Access
from easyremote.core.audit import facts_of
from easyremote.core.broker import Broker
from easyremote.core.records import Action, AskKeeper, AskTokens, Close, EndStream, Send, SendChunk
from easyremote.errors import PortInUse
from easyremote.security.audit import AuditLog
from easyremote.security.certificates import Certificate
from easyremote.security.tokens import REVOKED, TokenStore
from easyremote.transport.administering import administer
from easyremote.transport.connections import HELLO_TIMEOUT_S, Connection
from easyremote.transport.doorkeeper import Doorkeeper, refuse, token_in
from easyremote.transport.invoke import Invoker
from easyremote.transport.joining import Reception
from easyremote.transport.local_listener import LocalListener
from easyremote.transport.options import END_OF_STREAM, SERVER_OPTIONS, max_connections
from easyremote.transport.strangers import Bounds, Strangers
from easyremote.transport.streams import Counter, open_batch, open_chunk, seal_batch, take_batch
from easyremote.transport.turns import turns
from easyremote.wire.chunks import WireChunk
from easyremote.wire.v1 import gateway_pb2 as pb

_log = logging.getLogger("easyremote")

SERVICE = "easyremote.v1.Gateway"
TICK_S = 0.25
DRAIN_TICK_S = 0.02

DEFAULTS = GatewaySettings()

_MAX_CHUNKS_WAITING = 256
"""A transfer stream whose receiver doesn't read is ended at this many; each transfer's window is far below it."""


class Keeper(Protocol):
    """What keeps jobs for this gateway."""

    def ask(self, session_id: bytes, query: pb.Query, access: Access) -> None:
        """Answer through `Listener.answer`, now or later."""
        ...

    def token_revoked(self, token_id: str) -> None:
        """Stop the jobs that it has made."""
        ...


class Listener:
    """Serves one broker. Runs on the loop where it was made."""

    def __init__(self, broker: Broker, tokens: TokenStore, settings: GatewaySettings = DEFAULTS) -> None:
        self.broker = broker
        self.tokens = tokens
        self.port = 0
        self.keeper: Keeper | None = None
        self.reception = Reception(tokens, lambda: ((), "", ""))
        self._loop = asyncio.get_running_loop()
        self._connections: dict[int, Any] = {}
        self.audit: AuditLog | None = None
        self._invoker = Invoker(self)
        self._local = LocalListener(self)
        self._chunk_queues: dict[bytes, asyncio.Queue[WireChunk | None]] = {}
        self._next_conn = 0
        self._server: Any = None
        self._health: Any = None
        self._administering: set[asyncio.Task[None]] = set()
        self._returns = False  # it was told to end, and may be started again
        self._ticker: asyncio.Task[None] | None = None
        self._watcher: asyncio.Task[None] | None = None
        most = max_connections(settings.max_sessions)
        self._max_connections = most
        # Half of the connections are for others than strangers, however few there may be.
        self._bounds = Bounds(
            min(settings.max_strangers, most // 2), settings.max_strangers_per_address, settings.stranger_s
        )

    async def start(self, host: str, port: int, certificate: Certificate | None = None) -> int:
        """Bind and serve, on a Unix socket too; in TLS where there is a certificate. Returns the port. Raises PortInUse."""
        options = [*SERVER_OPTIONS, ("grpc.max_allowed_incoming_connections", self._max_connections)]
        strangers = Strangers(self._bounds)
        doorkeeper = Doorkeeper(self.tokens, strangers.note_token)
        self._server = grpc.aio.server(options=options, interceptors=[doorkeeper])
        self._server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, self._methods()),))
        self._health = health.aio.HealthServicer()  # pyright: ignore[reportAttributeAccessIssue] - its stubs lack it
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._server)
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        reflection.enable_server_reflection((SERVICE, health.SERVICE_NAME, reflection.SERVICE_NAME), self._server)
        try:
            self.port = self._add_port(f"[{host}]:{port}" if ":" in host else f"{host}:{port}", certificate)
        except RuntimeError:
            self.port = 0
        if self.port == 0:
            await self._server.stop(None)
            raise PortInUse(
                f"port {port} on {host} is taken, perhaps by another gateway; stop that program, or choose another port "
                "(port=0 takes any free one)"
            )
        await self._server.start()
        await self._local.start(self.port)
        self._ticker = self._loop.create_task(self._tick())
        self._watcher = self._loop.create_task(strangers.watch(self.port))
        return self.port

    def _add_port(self, address: str, certificate: Certificate | None) -> int:
        if certificate is None:
            return self._server.add_insecure_port(address)
        credentials = grpc.ssl_server_credentials([(certificate.key, certificate.chain)])
        return self._server.add_secure_port(address, credentials)

    async def drain(self, grace_s: float) -> bool:
        """Take no new calls, and wait until those that run have ended and been collected. False: some ran for longer."""
        for name in ("", SERVICE):
            await self._health.set(name, health_pb2.HealthCheckResponse.NOT_SERVING)
        self._returns = True
        self.perform(self.broker.drain(monotonic()))
        until = monotonic() + grace_s
        while self.broker.open_count and monotonic() < until:  # noqa: ASYNC110 - many things end it
            await asyncio.sleep(DRAIN_TICK_S)
        return not self.broker.open_count

    async def stop(self, reason: str, grace_s: float = 0.3) -> None:
        """Say goodbye to every peer, then close."""
        for connection in list(self._connections.values()):
            connection.put(pb.Frame(goodbye=pb.Goodbye(reason=reason, returns=self._returns)))
            connection.close()
        for task in (self._ticker, self._watcher):
            if task is not None:
                task.cancel()
        await asyncio.gather(*self._administering, return_exceptions=True)
        for queue in self._chunk_queues.values():
            _end(queue)
        await self._local.stop()
        if self._server is not None:
            await self._server.stop(grace_s)

    def remove_connection(self, conn: int) -> None:
        self._connections.pop(conn, None)

    def perform(self, actions: list[Action]) -> None:
        """Do what the broker decided."""
        for action in actions:
            if isinstance(action, Send):
                connection = self._connections.get(action.conn)
                if connection is not None:
                    connection.put(action.frame)
            elif isinstance(action, SendChunk):
                self._queue_chunk(action.session_id, WireChunk(action.chunk))
            elif isinstance(action, Close):
                connection = self._connections.pop(action.conn, None)
                if connection is not None:
                    connection.close()
            elif isinstance(action, AskKeeper):
                self._ask(action)
            elif isinstance(action, AskTokens):
                task = self._loop.create_task(self._administer(action))
                self._administering.add(task)
                task.add_done_callback(self._administering.discard)
            elif isinstance(action, EndStream):
                stream = self._chunk_queues.get(action.session_id)
                if stream is not None:
                    _end(stream)
            elif self.audit is not None:
                self.audit.note(facts_of(action))

    async def _administer(self, action: AskTokens) -> None:
        """In a thread, as it writes a file. What was revoked ends before it is told."""
        answer = await self._loop.run_in_executor(None, administer, self.tokens, action.query, action.by)
        self._end_tokens(monotonic())
        self.answer(action.session_id, answer)

    def _end_tokens(self, now: float) -> None:
        """End what tokens have opened that aren't good any more."""
        for token_id in self.tokens.take_revoked():
            self.perform(self.broker.token_ended(token_id, REVOKED, now))
            if self.keeper is not None:
                self.keeper.token_revoked(token_id)
        for token_id in self.broker.token_ids:
            if why := self.tokens.why_over(token_id, now):
                self.perform(self.broker.token_ended(token_id, why, now))

    def _ask(self, action: AskKeeper) -> None:
        if self.keeper is not None:
            self.keeper.ask(*action)
            return
        text = (
            "this gateway keeps no jobs: it was started without a journal. Start it as 'easyremote gateway', or in Python as "
            "Server(journal=True)"
        )
        error = pb.ErrorInfo(code="jobs_unavailable", message=text)
        self.answer(action.session_id, pb.Answer(query_id=action.query.query_id, error=error))

    def answer(self, session_id: bytes, answer: pb.Answer) -> None:
        """Send an answer to a session, or drop it where the session is away: it asks again when it is back."""
        connection = self._connections.get(self.broker.connection_of(session_id) or 0)
        if connection is not None:
            connection.put(pb.Frame(answer=answer))

    def _methods(self) -> dict[str, Any]:
        return {
            "Session": grpc.stream_stream_rpc_method_handler(
                self._session, request_deserializer=open_batch, response_serializer=seal_batch
            ),
            "Transfer": grpc.stream_stream_rpc_method_handler(
                self._transfer, request_deserializer=open_chunk, response_serializer=WireChunk.to_bytes
            ),
            "Join": grpc.unary_unary_rpc_method_handler(
                self._join,
                request_deserializer=pb.JoinRequest.FromString,
                response_serializer=pb.JoinReply.SerializeToString,
            ),
            "Invite": grpc.unary_unary_rpc_method_handler(
                self._invite,
                request_deserializer=pb.InviteRequest.FromString,
                response_serializer=pb.InviteReply.SerializeToString,
            ),
            "Invoke": grpc.unary_unary_rpc_method_handler(
                self._invoker.one,
                request_deserializer=pb.InvokeRequest.FromString,
                response_serializer=pb.InvokeReply.SerializeToString,
            ),
            "InvokeStream": grpc.unary_stream_rpc_method_handler(
                self._invoker.stream,
                request_deserializer=pb.InvokeRequest.FromString,
                response_serializer=pb.InvokeReply.SerializeToString,
            ),
        }

    async def _tick(self) -> None:
        while True:
            await asyncio.sleep(TICK_S)
            try:
                self._tick_once(monotonic())
            except Exception:  # a fault of ours; without ticks it would be dead to everybody
                _log.exception("a fault in this gateway, which goes on; please report it")

    def _tick_once(self, now: float) -> None:
        for conn in self.broker.doubtful(now):
            connection = self._connections.get(conn)
            if isinstance(connection, Connection) and connection.lives():
                self.broker.vouch(conn, now)
        self._end_tokens(now)
        self.perform(self.broker.tick(now))

    # ---- sessions ------------------------------------------------------------------------------------------------

    def add_connection(self, connection: Any) -> int:
        """Anything with `put(frame)` and `close()` can stand for a peer."""
        self._next_conn += 1
        self._connections[self._next_conn] = connection
        return self._next_conn

    async def access_of(self, context: Any) -> Access:
        """What whoever makes this RPC may do. The doorkeeper has let it in, perhaps a moment before its token was revoked."""
        access = self.tokens.access_of(token_in(context.invocation_metadata()), monotonic())
        if access is None:
            await refuse(None, context)
        assert access is not None, "an abort raises"
        return access

    async def _join(self, request: pb.JoinRequest, context: Any) -> pb.JoinReply:
        reply = self.reception.join(token_in(context.invocation_metadata()), request)
        if reply is None:
            await refuse(None, context)
        assert reply is not None, "an abort raises"
        return reply

    async def _invite(self, request: pb.InviteRequest, context: Any) -> pb.InviteReply:
        access = await self.access_of(context)
        if not access.may_administer:
            await context.abort(grpc.StatusCode.PERMISSION_DENIED, "it doesn't have the role admin")
        return await self.reception.on_invite(request, context, access.name)

    async def _session(self, _: Any, context: Any) -> None:
        access = await self.access_of(context)
        try:
            first = await asyncio.wait_for(context.read(), HELLO_TIMEOUT_S)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "no hello came")
        if first is END_OF_STREAM or not first or not first.frames or first.frames[0].WhichOneof("body") != "hello":
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "the first frame of a session is Hello")
        wake = asyncio.Event()
        counter = Counter()
        counter.follows(first)
        handler = asyncio.current_task()
        assert handler is not None
        # gRPC's own threads answer its pings while Python says nothing; without an answer it ends the connection.
        connection = Connection(wake.set, handler.cancel, lives=lambda: True)
        conn = self.add_connection(connection)
        self.perform(self.broker.connected(conn, first.frames[0].hello, monotonic(), access))
        reader = self._loop.create_task(self._read(conn, connection, context, counter))
        try:
            await self._write(connection, wake, context, counter)
        finally:
            reader.cancel()
            connection.ended()
            self._connections.pop(conn, None)
            self.perform(self.broker.disconnected(conn, monotonic()))

    async def _read(self, conn: int, connection: Connection, context: Any, counter: Counter) -> None:
        """A peer's death looks like a clean end of its stream; only a Goodbye is one, and the broker has seen it then."""
        try:
            while (batch := await context.read()) is not END_OF_STREAM and batch is not None and counter.follows(batch):
                for number, frames in enumerate(turns(batch.frames)):
                    if number:
                        await asyncio.sleep(0)
                    self.perform(self.broker.received(conn, frames, monotonic()))
        finally:
            connection.close()

    async def _write(self, connection: Connection, wake: asyncio.Event, context: Any, counter: Counter) -> None:
        outbox = connection.outbox
        while True:
            if outbox:
                await context.write(counter.numbered(take_batch(outbox)))
            elif connection.is_closed:
                return
            else:
                wake.clear()
                await wake.wait()

    # ---- transfer streams ----------------------------------------------------------------------------------------

    async def _transfer(self, _: Any, context: Any) -> None:
        access = await self.access_of(context)
        session_id = _from_hex(dict(context.invocation_metadata()).get("easyremote-session", ""))
        if not self.broker.knows(session_id, access):
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "no such session is connected")
        queue: asyncio.Queue[WireChunk | None] = asyncio.Queue(_MAX_CHUNKS_WAITING)
        replaced = self._chunk_queues.get(session_id)
        self._chunk_queues[session_id] = queue
        if replaced is not None:
            _end(replaced)
        reader = self._loop.create_task(self._read_chunks(session_id, queue, context))
        try:
            await context.write(WireChunk(pb.Chunk()))
            while (chunk := await queue.get()) is not None:
                await context.write(chunk)
        finally:
            reader.cancel()
            if self._chunk_queues.get(session_id) is queue:
                del self._chunk_queues[session_id]

    async def _read_chunks(self, session_id: bytes, queue: asyncio.Queue[WireChunk | None], context: Any) -> None:
        try:
            while (chunk := await context.read()) is not END_OF_STREAM and chunk is not None:
                target = self.broker.chunk(session_id, chunk.head, chunk.data.nbytes)
                if target is not None:
                    self._queue_chunk(target, chunk)
        finally:
            _end(queue)

    def take_chunks(self, session_id: bytes, queue: Any) -> None:
        """A session of this process takes its chunks itself: `queue` is anything with `full()` and `put_nowait(chunk)`."""
        self._chunk_queues[session_id] = queue

    async def pass_chunk(self, session_id: bytes, chunk: WireChunk) -> None:
        """A chunk from a session of this process, which waits while its receiver has enough to read."""
        target = self.broker.chunk(session_id, chunk.head, chunk.data.nbytes)
        if target is None:
            return
        while self._has_enough(target):  # noqa: ASYNC110 - each chunk that is read would have to tell
            await asyncio.sleep(0.002)
        self._queue_chunk(target, chunk)

    def _has_enough(self, session_id: bytes) -> bool:
        queue = self._chunk_queues.get(session_id)
        return queue is not None and queue.qsize() > _MAX_CHUNKS_WAITING // 2

    def _queue_chunk(self, session_id: bytes, chunk: WireChunk) -> None:
        queue = self._chunk_queues.get(session_id)
        if queue is None:
            conn = self.broker.connection_of(session_id)
            if conn in self._connections and not chunk.data.nbytes:
                self._connections[conn].put(pb.Frame(chunk=chunk.head))
            return
        if queue.full():
            _end(queue)  # its peer attaches anew and asks again
        else:
            queue.put_nowait(chunk)


def _from_hex(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        return b""


def _end(queue: asyncio.Queue[WireChunk | None]) -> None:
    while queue.full():
        queue.get_nowait()
    queue.put_nowait(None)
