"""Unlike machines under the real broker, in virtual time: what a strategy makes of them.

Nothing is lost here and the way takes no time; `sim` is about that. A machine has a speed that may change, may fail every
call for a while, and may be gone for a while. The user calls again whatever fails, at once, until it succeeds.
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from dataclasses import dataclass, field

from easyremote.config import GatewaySettings
from easyremote.core.broker import Broker
from easyremote.core.records import Action, Send
from easyremote.wire.v1 import gateway_pb2 as pb

TICK_S = 0.25
FAILS_AFTER_S = 0.05
"""A machine that fails does so fast; that is what makes it look free."""

Span = tuple[float, float]


@dataclass(frozen=True, slots=True)
class Machine:
    """A node. `speeds`: (from when, how fast), the first from 0; a call of size 1 takes 1 s at speed 1."""

    speeds: tuple[Span, ...]
    slots: int = 1
    fails: tuple[Span, ...] = ()
    is_gone: tuple[Span, ...] = ()
    price: float = 1.0

    def speed(self, at: float) -> float:
        """0 while it is gone."""
        if any(begin <= at < end for begin, end in self.is_gone):
            return 0.0
        return next(speed for since, speed in reversed(self.speeds) if since <= at)

    def ends_at(self, begins_at: float, size: float) -> float:
        """When a call that begins then has ended."""
        at, left = begins_at, size
        for until in [since for since, _ in self.speeds if since > begins_at] + [float("inf")]:
            speed = next(speed for since, speed in reversed(self.speeds) if since <= at)
            if at + left / speed <= until:
                return at + left / speed
            left -= (until - at) * speed
            at = until
        raise AssertionError("it ends some time")


@dataclass(frozen=True, slots=True)
class Work:
    """A call that its user makes at `at`."""

    at: float
    size: float
    function: str = "f"


@dataclass(slots=True)
class Outcome:
    """What became of it."""

    work: Work
    ended_at: float = float("nan")
    machine: int = -1
    failures: int = 0

    @property
    def latency_s(self) -> float:
        return self.ended_at - self.work.at


@dataclass(slots=True)
class _Node:
    machine: Machine
    conn: int = 0
    running: dict[bytes, int] = field(default_factory=dict)  # attempts
    waiting: list[tuple[bytes, int]] = field(default_factory=list)


class Fleet:
    """A gateway, a node on each machine, and a client. `run` ends when every call has succeeded."""

    def __init__(self, strategy: str, machines: Sequence[Machine], works: Sequence[Work], check_every: int = 0) -> None:
        settings = GatewaySettings(default_strategy=strategy, silence_s=1e9, grace_s=0.5, max_queued_calls=1 << 30)
        self.now = 0.0
        self.outcomes = [Outcome(work) for work in works]
        self.broker = Broker(b"g" * 16, settings, "fleet", 0.0)
        self._check_every = check_every
        self._events: list[tuple[float, int, tuple[object, ...]]] = []
        self._planned = self._conns = self._left = self._steps = 0
        self._by_id: dict[bytes, Outcome] = {}
        self._nodes = [_Node(machine) for machine in machines]
        self._by_conn: dict[int, int] = {}
        functions = sorted({work.function for work in works})
        self._offers = [pb.FunctionSpec(name=name, load_balancing=True) for name in functions]
        self._client = self._connect(pb.Hello(role=pb.ROLE_CLIENT, session_id=self._new_id()))
        for index, machine in enumerate(machines):
            self._arrive(index)
            for begin, end in machine.is_gone:
                self._plan(begin, "gone", index)
                self._plan(end, "back", index)
        for outcome in self.outcomes:
            self._plan(outcome.work.at, "submit", outcome)
        self._plan(TICK_S, "tick")

    def run(self, patience_s: float = 1e5) -> list[Outcome]:
        """Raises AssertionError where a call waits for longer than `patience_s`."""
        self._left = len(self.outcomes)
        while self._left:
            self.now, _, (what, *arguments) = heapq.heappop(self._events)
            assert self.now < patience_s, f"{self._left} calls wait"
            getattr(self, f"_{what}")(*arguments)
            self._steps += 1
            if self._check_every and self._steps % self._check_every == 0:
                self.broker.check()
        return self.outcomes

    # ---- what happens --------------------------------------------------------------------------------------------

    def _submit(self, outcome: Outcome) -> None:
        call_id = self._new_id()
        self._by_id[call_id] = outcome
        submit = pb.Submit(call_id=call_id, function=outcome.work.function)
        self._receive(self._client, pb.Frame(submit=submit))

    def _end(self, index: int, call_id: bytes, attempt: int, took_s: float, failed: bool) -> None:
        node = self._nodes[index]
        if node.running.get(call_id) != attempt:
            return  # it was gone meanwhile
        del node.running[call_id]
        event = pb.Event(call_id=call_id, attempt=attempt, seq=1, run_s=took_s)
        if failed:
            event.error.code = "remote"
        else:
            event.result.SetInParent()
        self._begin(index)
        self._receive(node.conn, pb.Frame(event=event))

    def _gone(self, index: int) -> None:
        node = self._nodes[index]
        node.running.clear()
        node.waiting.clear()
        self._perform(self.broker.disconnected(node.conn, self.now))

    def _back(self, index: int) -> None:
        self._arrive(index)

    def _tick(self) -> None:
        self._perform(self.broker.tick(self.now))
        self._plan(self.now + TICK_S, "tick")

    # ---- both ends -----------------------------------------------------------------------------------------------

    def _arrive(self, index: int) -> None:
        node = self._nodes[index]
        state = pb.NodeState(node_id=f"n{index}", slots=node.machine.slots, price=node.machine.price)
        state.offers.extend(self._offers)
        hello = pb.Hello(role=pb.ROLE_NODE, session_id=self._new_id(), node=state)
        self._by_conn[self._conns + 1] = index
        node.conn = self._conns + 1
        self._connect(hello)

    def _connect(self, hello: pb.Hello) -> int:
        self._conns += 1
        hello.protocol_min = hello.protocol_max = 1
        self._perform(self.broker.connected(self._conns, hello, self.now))
        return self._conns

    def _receive(self, conn: int, frame: pb.Frame) -> None:
        self._perform(self.broker.received(conn, [frame], self.now))

    def _perform(self, actions: list[Action]) -> None:
        for action in actions:
            if not isinstance(action, Send):
                continue
            body = action.frame.WhichOneof("body")
            if body == "submit":
                index = self._by_conn[action.conn]
                submit = action.frame.submit
                self._nodes[index].waiting.append((submit.call_id, submit.attempt))
                self._begin(index)
            elif body == "event" and action.conn == self._client:
                self._ended(action.frame.event)
            elif body == "verdict":  # no machine is there, or it was lost too often
                self._failed(action.frame.verdict.call_id, 0, again_s=TICK_S)

    def _begin(self, index: int) -> None:
        node = self._nodes[index]
        while node.waiting and len(node.running) < node.machine.slots:
            call_id, attempt = node.waiting.pop(0)
            node.running[call_id] = attempt
            failed = any(begin <= self.now < end for begin, end in node.machine.fails)
            size = self._by_id[call_id].work.size
            ends_at = self.now + FAILS_AFTER_S if failed else node.machine.ends_at(self.now, size)
            self._plan(ends_at, "end", index, call_id, attempt, ends_at - self.now, failed)
            self._by_id[call_id].machine = index

    def _ended(self, event: pb.Event) -> None:
        outcome = self._by_id[event.call_id]
        if event.HasField("error"):
            self._failed(event.call_id, event.attempt)
            return
        outcome.ended_at = self.now
        self._left -= 1
        self._plan(self.now, "acknowledge", event.call_id, event.attempt)

    def _failed(self, call_id: bytes, attempt: int, again_s: float = 0.001) -> None:
        outcome = self._by_id[call_id]
        outcome.failures += 1
        self._plan(self.now, "acknowledge", call_id, attempt)
        self._plan(self.now + again_s, "submit", outcome)

    def _acknowledge(self, call_id: bytes, attempt: int) -> None:
        taken = pb.Acknowledged(call_id=call_id, attempt=attempt, seq=1, ended=True)
        self._receive(self._client, pb.Frame(ack=pb.Ack(calls=[taken])))

    def _plan(self, at: float, what: str, *arguments: object) -> None:
        self._planned += 1
        heapq.heappush(self._events, (at, self._planned, (what, *arguments)))

    def _new_id(self) -> bytes:
        self._planned += 1
        return self._planned.to_bytes(16, "big")
