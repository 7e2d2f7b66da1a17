"""Whatever a peer sends, in whatever order: it is handled or ignored, every invariant holds, and in the end nothing is left."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from easyremote.config import GatewaySettings, WindowSettings
from easyremote.core.broker import Broker
from easyremote.core.client_session import ClientSession
from easyremote.core.node_session import Attempt, NodeSession, Start
from easyremote.core.records import Close, Send
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import spec
from tests.core.messages import FUNCTIONS, NODE_NAMES, SESSION_IDS, frames, messages

many = settings(
    max_examples=int(os.environ.get("SIM_SEEDS", "300")) // 6,
    deadline=None,
    suppress_health_check=list(HealthCheck),
    print_blob=True,
)

PEER_FRAMES = [
    *("submit", "cancel", "ack", "synced", "query", "event", "offers", "load", "fetch", "goodbye", "heartbeat"),
    *("hello", "welcome", "verdict", "forget", "resume", "drain", "handed_back", "withdrawn"),
    *("handles", "held_values", "chunk", "unwanted", "answer", "reply"),
]


@dataclass
class Sensible:
    """A hello that is taken in: one of two nodes or two clients."""

    index: int

    def hello(self, state: pb.NodeState | None = None) -> pb.Hello:
        hello = pb.Hello(protocol_min=1, protocol_max=1, session_id=SESSION_IDS[self.index])
        hello.runtime.python = "3.11.7"
        if self.index < 2:
            hello.role = pb.ROLE_NODE
            if state is not None:
                hello.node.CopyFrom(state)
            hello.node.node_id = NODE_NAMES[self.index]
            hello.node.slots = 2
            for name in FUNCTIONS:
                hello.node.offers.add(name=name, load_balancing=True)
        else:
            hello.role = pb.ROLE_CLIENT
        return hello


class Gateway:
    """A broker, and what each step may be."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.broker = Broker(b"g" * 16, GatewaySettings(max_queued_calls=5), "1", self.now)
        self.conns = 0
        self.open: set[int] = set()
        for index in range(4):
            self.connect(Sensible(index).hello())

    def did(self, actions: list[Any]) -> None:
        self.broker.check()
        for action in actions:
            if isinstance(action, Send):
                action.frame.SerializeToString()
            elif isinstance(action, Close):
                self.open.discard(action.conn)

    def connect(self, hello: pb.Hello) -> None:
        self.conns += 1
        self.open.add(self.conns)
        self.did(self.broker.connected(self.conns, hello, self.now))

    def step(self, draw: Callable[[st.SearchStrategy[Any]], Any]) -> None:
        others = ["time", "connect", "connect", "cut", "chunk", "stranger", "drain"]
        what = draw(st.sampled_from(["frames"] * 8 + others))
        conn = draw(st.integers(1, self.conns))
        if what == "frames":
            batch = draw(st.lists(frames(*PEER_FRAMES), min_size=1, max_size=3))
            self.did(self.broker.received(conn, batch, self.now))
        elif what == "time":
            self.now += draw(st.sampled_from([0.01, 0.5, 4.0, 6.5, 100.0]))
            self.did(self.broker.tick(self.now))
        elif what == "connect":
            self.connect(Sensible(draw(st.integers(0, 3))).hello(draw(messages(pb.NodeState))))
        elif what == "drain" and draw(st.booleans()):
            self.did(self.broker.drain(self.now))
        elif what == "cut":
            self.open.discard(conn)
            self.did(self.broker.disconnected(conn, self.now))
        elif what == "chunk":
            self.broker.chunk(draw(st.sampled_from(SESSION_IDS)), draw(messages(pb.Chunk)))
        else:
            self.connect(draw(messages(pb.Hello)))

    def wind_down(self) -> None:
        """Everybody goes away and stays away."""
        for conn in sorted(self.open):
            self.did(self.broker.disconnected(conn, self.now))
        for _ in range(4):
            self.now += 1.9
            self.did(self.broker.tick(self.now))


@many
@given(st.data())
def test_a_gateway_survives_any_frames_and_keeps_nothing_of_those_who_are_gone(data: st.DataObject) -> None:
    gateway = Gateway()
    for _ in range(data.draw(st.integers(1, 25))):
        gateway.step(data.draw)
    gateway.wind_down()
    assert gateway.broker.leftovers() == []
    assert not any(gateway.broker.knows(session_id) for session_id in SESSION_IDS)


@many
@given(st.data())
def test_a_node_survives_any_frames(data: st.DataObject) -> None:
    core = NodeSession(b"n" * 16, pb.Runtime(), pb.NodeState(node_id="n", slots=2), WindowSettings(max_events=3))
    core.offer([spec("f")])
    running: list[Attempt] = []
    now = 10.0
    for _ in range(data.draw(st.integers(1, 30))):
        what = data.draw(st.sampled_from(["frames"] * 4 + ["emit"] * 4 + ["time", "cut", "welcome", "leave"]))
        effects: list[Any] = []
        if what == "frames":
            bodies = (
                "submit",
                "cancel",
                "ack",
                "resume",
                "forget",
                "fetch",
                "offers_taken",
                "refused",
                "goodbye",
                "drain",
                "unwanted",
                "reply",
            )
            effects = core.received(data.draw(st.lists(frames(*bodies), max_size=3)), now)
        elif what == "emit" and running:
            attempt = data.draw(st.sampled_from(running))
            effects = core.emit(attempt, data.draw(messages(pb.Event)), data.draw(st.integers(0, 10**7)), now)
        elif what == "time":
            now += data.draw(st.sampled_from([0.01, 1.0, 10.0]))
            effects = core.tick(now)
        elif what == "leave":
            core.leave(now)
        elif what == "cut":
            core.disconnected(now)
            core.hello().SerializeToString()
        elif what == "welcome":
            effects = core.received([pb.Frame(welcome=data.draw(messages(pb.Welcome)))], now)
        core.check()
        running += [effect.attempt for effect in effects if isinstance(effect, Start)]
        for frame in core.outbox:
            frame.SerializeToString()
        core.outbox.clear()
    for attempt in running:
        core.emit(attempt, pb.Event(result=pb.Payload()), 0, now)
        core.check()


@many
@given(st.data())
def test_a_client_survives_any_frames(data: st.DataObject) -> None:
    core = ClientSession(b"c" * 16, pb.Runtime())
    used: set[bytes] = set()
    now = 10.0
    for _ in range(data.draw(st.integers(1, 30))):
        what = data.draw(
            st.sampled_from(["frames"] * 5 + ["submit", "submit", "cancel", "take", "reply", "again", "cut", "welcome"])
        )
        call_id = data.draw(messages(pb.Cancel)).call_id
        if what == "frames":
            bodies = ("event", "event", "verdict", "answer", "fetch", "refused", "goodbye", "handed_back", "withdrawn")
            core.received(data.draw(st.lists(frames(*bodies), max_size=3)), now)
        elif what == "submit":
            submit = data.draw(messages(pb.Submit))
            if submit.call_id not in used:
                used.add(submit.call_id)
                core.submit(submit, now)
        elif what == "cancel":
            core.cancel(call_id, "why not")
        elif what == "take" and call_id in core._open:
            call = core._open[call_id]
            core.taken(call_id, call.attempt, data.draw(st.integers(call.taken_seq, call.seq)), 10**6)
        elif what == "reply":
            core.reply(data.draw(messages(pb.Reply)))
        elif what == "again":
            core.again(call_id, now, 1, data.draw(st.integers(0, 3)))
        elif what == "cut":
            core.disconnected(now)
            core.hello().SerializeToString()
        elif what == "welcome":
            core.received([pb.Frame(welcome=data.draw(messages(pb.Welcome)))], now)
        core.flush_acks()
        core.check()
        for frame in core.outbox:
            frame.SerializeToString()
        core.outbox.clear()
