"""The three cores joined by a pretend wire that loses nothing unless it is told to. Frames cross it as bytes."""

from __future__ import annotations

import itertools
from typing import Any

from easyremote.config import GatewaySettings, WindowSettings
from easyremote.core import client_session, node_session
from easyremote.core.access import OWNER, Access
from easyremote.core.audit import Audited
from easyremote.core.broker import Broker
from easyremote.core.client_session import ClientSession
from easyremote.core.node_session import NodeSession
from easyremote.core.records import Action, Close, Send, SendChunk
from easyremote.wire.v1 import gateway_pb2 as pb

_ids = itertools.count(1)


def new_id() -> bytes:
    return next(_ids).to_bytes(16, "big")


def copied(frame: pb.Frame) -> pb.Frame:
    return pb.Frame.FromString(frame.SerializeToString())


def event_frames(frames: list[pb.Frame]) -> list[pb.Event]:
    return [frame.event for frame in frames if frame.HasField("event")]


class Bench:
    """A gateway and its peers. `settle` carries frames to and fro until none is left."""

    def __init__(self, **settings: Any) -> None:
        self.settings = GatewaySettings(**settings)
        self.now = 1000.0
        self.peers: list[Peer] = []
        self.chunks: list[tuple[bytes, pb.Chunk]] = []
        self._conns = itertools.count(1)
        self.noted: list[Audited] = []
        self.broker = self._new_broker()

    def _new_broker(self) -> Broker:
        return Broker(new_id(), self.settings, "9.9", self.now)

    def restart(self) -> None:
        """The gateway's process is replaced; every peer has lost its connection."""
        for peer in self.peers:
            peer.lose()
        self.broker = self._new_broker()

    def node(
        self,
        name: str,
        *functions: str | pb.FunctionSpec,
        slots: int = 1,
        python: str = "3.11.7",
        price: float = 0.0,
        state: pb.NodeState | None = None,
        host: str = "",
        access: Access = OWNER,
    ) -> NodePeer:
        """`state`: what else it says of itself."""
        return NodePeer(self, name, functions or ("f",), slots, python, price, state, host, access)

    def client(self, access: Access = OWNER, seals: bool = False) -> ClientPeer:
        return ClientPeer(self, access, seals)

    def next_conn(self) -> int:
        return next(self._conns)

    def perform(self, actions: list[Action]) -> None:
        self.broker.check()
        by_conn = {peer.conn: peer for peer in self.peers if peer.conn}
        for action in actions:
            if isinstance(action, Audited):
                self.noted.append(action)
                continue
            if isinstance(action, SendChunk):
                self.chunks.append((action.session_id, action.chunk))
            if not isinstance(action, (Send, Close)):
                continue
            peer = by_conn.get(action.conn)
            if peer is None:
                continue
            if isinstance(action, Send):
                peer.inbox.append(copied(action.frame))
            elif isinstance(action, Close):
                peer.inbox.append(None)

    def settle(self) -> None:
        moved = True
        while moved:
            moved = sum(peer.exchange() for peer in self.peers) > 0

    def pass_time(self, seconds: float, step: float = 0.25) -> None:
        """Everybody who is connected says something now and then."""
        until = self.now + seconds
        while self.now < until - 1e-9:
            self.now = min(self.now + step, until)
            for peer in self.peers:
                if peer.conn and not peer.is_mute:
                    peer.core.heartbeat()
            self.settle()
            self.perform(self.broker.tick(self.now))
            self.settle()


class Peer:
    """One end. `effects` gathers what its core wanted done."""

    core: Any

    def __init__(self, bench: Bench, access: Access = OWNER) -> None:
        self.bench = bench
        self.access = access
        self.conn = 0
        self.inbox: list[pb.Frame | None] = []
        self.effects: list[Any] = []
        self.received: list[pb.Frame] = []
        self.is_mute = False
        bench.peers.append(self)

    def connect(self, settle: bool = True) -> None:
        """Dial. A connection that it had is replaced, and what was on its way there is lost."""
        self.lose()
        self.conn = self.bench.next_conn()
        hello = copied(self.core.hello())
        self.bench.perform(self.bench.broker.connected(self.conn, hello.hello, self.bench.now, self.access))
        if settle:
            self.bench.settle()

    def lose(self) -> None:
        """Its side notices that the connection is gone; the gateway doesn't."""
        self.conn = 0
        self.inbox.clear()
        self.core.disconnected(self.bench.now)
        self.core.check()

    def cut(self) -> None:
        """Both sides notice."""
        conn = self.conn
        self.lose()
        self.bench.perform(self.bench.broker.disconnected(conn, self.bench.now))

    def send(self, *frames: pb.Frame) -> None:
        """Frames that the core wouldn't send."""
        copies = [copied(frame) for frame in frames]
        self.bench.perform(self.bench.broker.received(self.conn, copies, self.bench.now))

    def exchange(self) -> bool:
        """Take what came and send what waits. Tells whether there was anything."""
        if not self.conn or self.is_mute:
            return False
        inbox, self.inbox = self.inbox, []
        if inbox:
            frames = [frame for frame in inbox if frame is not None]
            self.received += frames
            self.did(self.core.received(frames, self.bench.now))
            if None in inbox:
                self.cut()
                return True
        outbox = list(self.core.outbox)
        self.core.outbox.clear()
        if outbox:
            self.send(*outbox)
        return bool(inbox or outbox)

    def did(self, effects: list[Any]) -> None:
        self.effects += effects
        self.core.check()

    def took(self, kind: type) -> list[Any]:
        """The effects of this kind, and forget them."""
        found = [effect for effect in self.effects if isinstance(effect, kind)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, kind)]
        return found

    def got(self, body: str) -> list[Any]:
        """The frames of this kind that came, and forget them."""
        found = [getattr(frame, body) for frame in self.received if frame.HasField(body)]
        self.received = [frame for frame in self.received if not frame.HasField(body)]
        return found


class NodePeer(Peer):
    core: NodeSession

    def __init__(
        self,
        bench: Bench,
        name: str,
        functions: tuple[str | pb.FunctionSpec, ...],
        slots: int,
        python: str,
        price: float,
        more: pb.NodeState | None,
        host: str,
        access: Access = OWNER,
    ) -> None:
        super().__init__(bench, access)
        self.name = name
        runtime = pb.Runtime(python=python, host=host or f"host-of-{name}", pid=4711)
        state = pb.NodeState(node_id=name, slots=slots, price=price)
        state.MergeFrom(more or pb.NodeState())
        self.core = NodeSession(new_id(), runtime, state, WindowSettings())
        self.offer(*functions)
        self.connect()

    def offer(self, *functions: str | pb.FunctionSpec) -> int:
        return self.core.offer([f if isinstance(f, pb.FunctionSpec) else spec(f) for f in functions])

    def started(self) -> list[node_session.Attempt]:
        """Attempts that it was told to run since the last time."""
        return [effect.attempt for effect in self.took(node_session.Start)]

    def stopped(self) -> list[node_session.Attempt]:
        return [effect.attempt for effect in self.took(node_session.Stop)]

    def only_started(self) -> node_session.Attempt:
        (attempt,) = self.started()
        return attempt

    def emit(self, attempt: node_session.Attempt, event: pb.Event, size: int = 0, settle: bool = True) -> None:
        self.did(self.core.emit(attempt, event, size, self.bench.now))
        if settle:
            self.bench.settle()

    def result(self, attempt: node_session.Attempt, data: bytes = b"value", settle: bool = True) -> None:
        self.emit(attempt, pb.Event(result=pb.Payload(data=data)), settle=settle)

    def item(self, attempt: node_session.Attempt, data: bytes = b"item", size: int = 0, settle: bool = True) -> None:
        self.emit(attempt, pb.Event(item=pb.Payload(data=data)), size, settle=settle)

    def tick(self) -> None:
        self.did(self.core.tick(self.bench.now))
        self.bench.settle()


class ClientPeer(Peer):
    core: ClientSession

    def __init__(self, bench: Bench, access: Access = OWNER, seals: bool = False) -> None:
        super().__init__(bench, access)
        self.core = ClientSession(new_id(), pb.Runtime(python="3.11.7"), seals=seals)
        self.connect()

    def submit(
        self,
        function: str = "f",
        settle: bool = True,
        code: pb.Code | None = None,
        seal: pb.Seal | None = None,
        **options: Any,
    ) -> bytes:
        if "retries" in options:
            options["retries_set"] = True
        call = pb.Submit(call_id=new_id(), function=function, options=pb.Options(**options))
        if code is not None:
            call.function = ""
            call.code.CopyFrom(code)
        if seal is not None:
            call.seal.CopyFrom(seal)
        call_id = call.call_id
        self.core.submit(call, self.bench.now)
        self.core.check()
        if settle:
            self.bench.settle()
        return call_id

    def cancel(self, call_id: bytes) -> None:
        self.core.cancel(call_id, "not wanted")
        self.bench.settle()

    def taken(self, event: pb.Event, size: int = 0) -> None:
        """Its consumer took this event, and says so at once."""
        self.core.taken(event.call_id, event.attempt, event.seq, size)
        self.core.check()
        self.core.flush_acks()
        self.bench.settle()

    def events(self) -> list[pb.Event]:
        """Events delivered since the last time."""
        return [effect.event for effect in self.took(client_session.Deliver)]

    def bodies(self) -> list[str | None]:
        return [event.WhichOneof("body") for event in self.events()]

    def verdicts(self) -> dict[bytes, pb.ErrorInfo]:
        return {effect.call_id: effect.error for effect in self.took(client_session.Judged)}

    def only_verdict(self) -> pb.ErrorInfo:
        (error,) = self.verdicts().values()
        return error

    def ask(self, query: pb.Query) -> pb.Answer:
        query.query_id = next(_ids)
        self.core.query(query)
        self.bench.settle()
        (effect,) = self.took(client_session.Answered)
        return effect.answer


def spec(name: str, load_balancing: bool = True, version: str = "1") -> pb.FunctionSpec:
    return pb.FunctionSpec(name=name, version=version, load_balancing=load_balancing, kind=pb.FUNCTION_KIND_FUNCTION)
