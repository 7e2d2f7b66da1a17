"""`make bench-micro`: what one step of each hot function costs, so that the next person sees a regression.

Without processes and sockets. pyperf runs each benchmark in processes of its own, and leaves all values in
`.build/bench/micro.json`. Keep that file before a change; afterwards `python -m pyperf compare_to before.json micro.json` tells.
Each function here takes a number of loops and returns the seconds that they took, what it prepares left out; it prepares little
for each, since that takes time too.
"""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable, Iterable
from pathlib import Path
from time import perf_counter
from typing import Any

import numpy as np
import pyperf

from easyremote.calls import Call
from easyremote.config import GatewaySettings, WindowSettings
from easyremote.core.broker import Broker
from easyremote.core.client_session import ClientSession, Deliver
from easyremote.core.node_session import NodeSession, Start
from easyremote.core.records import Node, Session
from easyremote.core.strategies import make_strategy
from easyremote.execution import pipe
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb

_OUT = Path(__file__).parent.parent / ".build" / "bench" / "micro.json"
_AT_ONCE = 64
"""Frames in a batch, where there are several: what a gateway sees under load."""

_ids = itertools.count(1)


def new_id() -> bytes:
    return next(_ids).to_bytes(16, "big")


def arrived(frames: Iterable[pb.Frame]) -> Any:
    """The frames as they come from the wire: parsed, and not looked at yet."""
    return pb.Batch.FromString(pb.Batch(frames=frames).SerializeToString()).frames


def submission(call_id: bytes) -> pb.Frame:
    return pb.Frame(submit=pb.Submit(call_id=call_id, function="f", arguments=pb.Payload(data=b"x" * 30)))


def outcome(call_id: bytes) -> pb.Frame:
    started = pb.Started(node_id="node-0", version="0123456789abcdef", kind=pb.FUNCTION_KIND_FUNCTION)
    event = pb.Event(call_id=call_id, attempt=1, seq=1, started=started, run_s=1.0, result=pb.Payload(data=b"x" * 10))
    return pb.Frame(event=event)


def acknowledgement(call_ids: Iterable[bytes]) -> pb.Frame:
    taken = [pb.Acknowledged(call_id=call_id, attempt=1, seq=1, ended=True) for call_id in call_ids]
    return pb.Frame(ack=pb.Ack(calls=taken))


def node_state(name: str, slots: int) -> pb.NodeState:
    offers = [pb.FunctionSpec(name="f", load_balancing=True, kind=pb.FUNCTION_KIND_FUNCTION)]
    return pb.NodeState(node_id=name, slots=slots, offers=offers)


# ---- the three cores -------------------------------------------------------------------------------------------------


class Gateway:
    """A broker with nodes that offer `f`, and a client."""

    client = 1_000_000

    def __init__(self, nodes: int, slots: int = 1) -> None:
        self.broker = Broker(b"g" * 16, GatewaySettings(max_queued_calls=1 << 30, silence_s=1e9), "0", 0.0)
        for number in range(nodes):
            self._connect(number, pb.Hello(role=pb.ROLE_NODE, node=node_state(f"node-{number}", slots)))
        self._connect(self.client, pb.Hello(role=pb.ROLE_CLIENT))

    def _connect(self, conn: int, hello: pb.Hello) -> None:
        hello.protocol_min = hello.protocol_max = 1
        hello.session_id = new_id()
        self.broker.connected(conn, hello, 0.0)


def broker_cycle(nodes: int, at_once: int = 1, waiting: int = 0) -> Callable[[int], float]:
    """One call: submitted, sent to a node, its result sent to the client, acknowledged. `waiting` others have no node yet."""

    def run(loops: int) -> float:
        gateway = Gateway(nodes, slots=max(at_once // nodes, 1))
        received = gateway.broker.received
        queued = [new_id() for _ in range(waiting)]
        if waiting:
            received(gateway.client, arrived(map(submission, queued)), 0.0)
        took = 0.0
        for _ in range(loops):
            ids = [new_id() for _ in range(at_once)]
            submits = arrived(map(submission, ids))
            queued += ids
            began = perf_counter()
            received(gateway.client, submits, 0.0)
            took += perf_counter() - began
            took += _finish_calls(gateway, queued, at_once)
        return took

    return run


def _finish_calls(gateway: Gateway, queued: list[bytes], count: int) -> float:
    """The first so many of these calls end."""
    received = gateway.broker.received
    ended, queued[:count] = queued[:count], []
    node_of = {call_id: gateway.broker._calls[call_id].node for call_id in ended}
    by_conn: dict[int, list[pb.Frame]] = {}
    for call_id, node in node_of.items():
        assert node is not None
        assert node.session.conn is not None
        by_conn.setdefault(node.session.conn, []).append(outcome(call_id))
    batches = [(conn, arrived(frames)) for conn, frames in by_conn.items()]
    acks = arrived([acknowledgement(ended)])
    began = perf_counter()
    for conn, frames in batches:
        received(conn, frames, 0.0)
    received(gateway.client, acks, 0.0)
    return perf_counter() - began


def broker_tick(nodes: int, calls: int) -> Callable[[int], float]:
    """A quarter of a second passes in which nothing happens but heartbeats that are due."""

    def run(loops: int) -> float:
        gateway = Gateway(nodes, slots=4096)
        gateway.broker.received(gateway.client, arrived(submission(new_id()) for _ in range(calls)), 0.0)
        began = perf_counter()
        for number in range(loops):
            gateway.broker.tick(number / 4)
        return perf_counter() - began

    return run


def client_cycle(loops: int) -> float:
    """One call: submitted, its result delivered and taken, acknowledged."""
    session = ClientSession(new_id(), pb.Runtime())
    session.received(arrived([pb.Frame(welcome=pb.Welcome(gateway_id=b"g" * 16, incarnation=1))]), 0.0)
    took = 0.0
    for _ in range(loops):
        submit = submission(new_id()).submit
        results = arrived([outcome(submit.call_id)])
        began = perf_counter()
        session.submit(submit, 0.0)
        for effect in session.received(results, 0.0):
            assert isinstance(effect, Deliver)
            session.taken(effect.call_id, effect.event.attempt, effect.event.seq, 10)
        session.flush_acks()
        took += perf_counter() - began
        session.outbox.clear()
    return took


def node_cycle(loops: int) -> float:
    """One attempt: started, its result emitted, acknowledged, released."""
    session = NodeSession(new_id(), pb.Runtime(), node_state("node-0", 4), WindowSettings())
    session.received(arrived([pb.Frame(welcome=pb.Welcome())]), 0.0)
    took = 0.0
    for _ in range(loops):
        call_id = new_id()
        frame = submission(call_id)
        frame.submit.attempt = 1
        submits, acks = arrived([frame]), arrived([acknowledgement([call_id])])
        result = pb.Event(result=pb.Payload(data=b"x" * 10))
        began = perf_counter()
        (start,) = session.received(submits, 0.0)
        assert isinstance(start, Start)
        session.emit(start.attempt, result, 10, 0.0)
        session.received(acks, 0.0)
        took += perf_counter() - began
        session.outbox.clear()
    return took


def choice(strategy: str, nodes: int) -> Callable[[int], float]:
    """One node of so many."""

    def run(loops: int) -> float:
        session = Session(b"", pb.ROLE_NODE, pb.Runtime(), 0, 0.0, 0.0, 0.0)
        offers = [Node(f"node-{i}", session, 4, 1.0, {}) for i in range(nodes)]
        choose = make_strategy(strategy).choose
        began = perf_counter()
        for _ in range(loops):
            choose("f", offers)
        return perf_counter() - began

    return run


# ---- bytes -----------------------------------------------------------------------------------------------------------


def repeated(step: Callable[[], object]) -> Callable[[int], float]:
    def run(loops: int) -> float:
        began = perf_counter()
        for _ in range(loops):
            step()
        return perf_counter() - began

    return run


def new_call() -> None:
    Call(b"i" * 16, "f", lambda *_: None, lambda *_: None)


_ARRAY = np.zeros(1024 * 1024 // 8)
_SMALL = codec.encode_arguments((1, "two"), {})
_LARGE = codec.encode_arguments((_ARRAY,), {})
_BATCH = pb.Batch(frames=[submission(new_id()) for _ in range(_AT_ONCE)])
_BATCH_BYTES = _BATCH.SerializeToString()
_FRAME = _BATCH.frames[0]
_PACKED = pipe.pack_frame(_FRAME)


def unpack() -> None:
    pipe.FrameUnpacker().feed(_PACKED)


BENCHMARKS: dict[str, Callable[[int], float]] = {
    "broker: a call, 1 node": broker_cycle(1),
    "broker: a call, 1,000 nodes": broker_cycle(1000),
    f"broker: a call, {_AT_ONCE} at once, 1 node": broker_cycle(1, _AT_ONCE),
    f"broker: a call, {_AT_ONCE} at once, 1,000 nodes": broker_cycle(1000, _AT_ONCE),
    f"broker: a call, {_AT_ONCE} at once, 4,000 wait, 1 node": broker_cycle(1, _AT_ONCE, 4000),
    "broker: a tick, 1,000 nodes": broker_tick(1000, 0),
    "broker: a tick, 1,000 nodes, 10,000 calls": broker_tick(1000, 10_000),
    "client session: a call": client_cycle,
    "node session: a call": node_cycle,
    "Call made": repeated(new_call),
    "round_robin: a choice of 1,000": choice("round_robin", 1000),
    "smart_adaptive: a choice of 1,000": choice("smart_adaptive", 1000),
    "cost_aware: a choice of 1,000": choice("cost_aware", 1000),
    "small arguments encoded": repeated(lambda: codec.encode_arguments((1, "two"), {})),
    "small arguments decoded": repeated(lambda: codec.decode_arguments(_SMALL)),
    "an array of 1 MiB encoded": repeated(lambda: codec.encode_arguments((_ARRAY,), {})),
    "an array of 1 MiB decoded": repeated(lambda: codec.decode_arguments(_LARGE)),
    f"a batch of {_AT_ONCE} made bytes": repeated(_BATCH.SerializeToString),
    f"a batch of {_AT_ONCE} parsed": repeated(lambda: pb.Batch.FromString(_BATCH_BYTES)),
    "a frame packed for a worker": repeated(lambda: pipe.pack_frame(_FRAME)),
    "a frame unpacked from a worker": repeated(unpack),
}


def table(suite: pyperf.BenchmarkSuite) -> str:
    lines = ["| one step | median, µs | spread, µs |", "| --- | ---: | ---: |"]
    lines += [
        f"| {found.get_name()} | {found.median() * 1e6:,.2f} | ±{found.median_abs_dev() * 1e6:,.2f} |"
        for found in suite
    ]
    return "\n".join(lines)


def main() -> None:
    is_worker = "--worker" in sys.argv
    if not is_worker:
        _OUT.parent.mkdir(parents=True, exist_ok=True)
        _OUT.unlink(missing_ok=True)
    runner = pyperf.Runner(
        values=3, processes=2, warmups=1, min_time=0.02, program_args=("-m", "benchmarks.micro"), add_cmdline_args=_only
    )
    runner.argparser.add_argument("--only", default="", help="the benchmarks whose name has this in it")
    options = runner.parse_args(["--quiet", "--output", str(_OUT), *sys.argv[1:]] if not is_worker else None)
    for name, run in BENCHMARKS.items():
        if options.only in name:
            runner.bench_time_func(name, run, inner_loops=_AT_ONCE if "at once" in name else 1)
    if not is_worker:
        print(table(pyperf.BenchmarkSuite.load(str(_OUT))))


def _only(command: list[str], options: Any) -> None:
    command += ["--only", options.only]


if __name__ == "__main__":
    main()
