"""Connections that are cut anywhere, frames that come twice, bits that turn: R3, R4, R11."""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterator
from random import Random
from typing import Any

from easyremote import EasyRemoteError, PayloadError
from easyremote.transport.link import Link
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.chaos.load import Load, Outcome
from tests.chaos.promises import Trial, promise
from tests.chaos.stage import stage
from tests.chaos.wire import Wire
from tests.conftest import wait_until

SETTLED_S = 60.0


def double_frames(link: Link, rng: Random) -> None:
    """Whatever this peer says about its calls, it says twice; frames of different calls overtake each other."""
    next_batch = link.next_batch

    def doubled() -> list[pb.Frame]:
        frames: list[pb.Frame] = []
        for frame in next_batch():
            frames += [frame, frame] if frame.WhichOneof("body") in ("submit", "event", "ack", "cancel") else [frame]
        return _shuffled(frames, rng)

    link.next_batch = doubled  # type: ignore[method-assign]


def _shuffled(frames: list[pb.Frame], rng: Random) -> list[pb.Frame]:
    """In an order that keeps the frames of each call, and what is about no call, as they were."""
    calls: dict[bytes, list[pb.Frame]] = {}
    for frame in frames:
        body = frame.WhichOneof("body")
        call_id = getattr(frame, body).call_id if body in ("submit", "event", "cancel") else b""
        calls.setdefault(call_id, []).append(frame)
    queues, mixed = list(calls.values()), []
    while queues:
        queue = rng.choice(queues)
        mixed.append(queue.pop(0))
        queues = [queue for queue in queues if queue]
    return mixed


@promise(
    "R3",
    "submitted twice, begun once",
    "Submitting a call twice starts one run, whatever else comes twice or in another order.",
    trials="calls whose frames are all sent twice, in both directions, while calls overtake each other",
    figure="longest time until an end, in s",
    share=1,
)
def submitted_twice(for_s: float) -> Iterator[Trial]:
    with stage() as on:
        on.gateway()
        for i in range(2):
            on.actor("node", name=f"node-{i}", slots=20, doubles=i + 1)
        client = on.client()
        connection = client._connection
        double_frames(connection._link, Random(3))
        load = Load(client, on.marks, Random(0))

        def submit_again() -> None:
            """All open calls, as after a reconnect."""
            core = connection._core
            for call in core._open.values():
                if call.is_sent and core.is_connected:
                    core._send_submit(call)
            connection._link.flush()

        def trial(rng: Random) -> Outcome:
            load.rng = rng
            load.submit(40, longest_s=0.4)
            for _ in range(5):
                time.sleep(rng.uniform(0, 0.1))
                connection.post(submit_again)
            return load.settle(SETTLED_S, gentle=True)

        yield trial


@promise(
    "R4",
    "nothing lost or doubled by a cut",
    "A connection that breaks at any byte and comes back costs no call anything: no result, no item, no second run.",
    trials="cuts at random bytes of the client's or a node's connections",
    figure="longest time until an end, in s",
    share=3,
)
def cuts(for_s: float) -> Iterator[Trial]:
    with stage() as on:
        on.gateway()
        wires = [Wire(on.address) for _ in range(2)]
        on.node("node", wires[0].address, slots=50)
        client = on.client(wires[1].address)
        load = Load(client, on.marks, Random(0))
        payload = Random(1).randbytes(300_000)
        client.call("echo", 1)
        uncut: dict[Wire, int] = {}

        def one_round(rng: Random) -> Outcome:
            load.rng = rng
            load.submit(12, longest_s=0.1)
            echo = client.submit("echo", payload)
            outcome = load.settle(SETTLED_S, gentle=True)
            if echo.result(timeout=SETTLED_S) != payload:
                outcome.violations.append("a large value came back changed")
            return outcome

        def trial(rng: Random) -> Outcome:
            if not uncut:
                before = {wire: wire.passed for wire in wires}
                one_round(rng)
                uncut.update({wire: wire.passed - before[wire] for wire in wires})
            armed = [wire for wire in wires if rng.random() < 0.7] or [rng.choice(wires)]
            connections = sum(wire.connections for wire in wires)
            for wire in armed:
                small = rng.random() < 0.5  # half of the cuts among the small frames that begin the round
                wire.cut_after(rng.randrange(6000 if small else uncut[wire]))
            outcome = one_round(rng)
            cut = sum(not wire.is_armed for wire in armed)
            outcome.note("calls", outcome.trials)
            outcome.note("new connections", sum(wire.connections for wire in wires) - connections)
            outcome.trials = cut
            return outcome

        yield trial
        for wire in wires:
            wire.close()


@promise(
    "R11",
    "right bytes or an error",
    "A bit that turns on the way is noticed: the value arrives as it was sent, or the call ends with an error.",
    trials="bits turned in the client's or a node's connections",
    figure="longest time until an end, in s",
    share=2,
)
def turned_bits(for_s: float) -> Iterator[Trial]:
    with stage() as on:
        on.gateway()
        wires = [Wire(on.address, "127.0.0.2") for _ in range(2)]  # not taken for this machine itself
        on.node("node", wires[0].address, slots=50)
        client = on.client(wires[1].address)
        client.call("echo", 1)

        def trial(rng: Random) -> Outcome:
            values = [rng.randbytes(rng.choice((10, 1000, 50_000, 400_000))) for _ in range(8)]
            flipped = sum(wire.flipped for wire in wires)
            for wire in wires:
                wire.flip_after(rng.randrange(500_000), rng.randrange(8))
            outcome = Outcome()
            began = time.monotonic()
            calls = [client.submit("echo", value) for value in values]
            for call, value in zip(calls, values, strict=True):
                _judge_echo(call, value, outcome)
            outcome.worst = time.monotonic() - began
            outcome.trials = sum(wire.flipped for wire in wires) - flipped
            wait_until(lambda: client.is_connected, 30)
            return outcome

        yield trial
        for wire in wires:
            wire.close()


def _judge_echo(call: Any, value: bytes, outcome: Outcome) -> None:
    try:
        given = call.result(timeout=SETTLED_S)
    except TimeoutError:
        call.cancel()
        outcome.violations.append(f"a call with {len(value)} bytes hasn't ended")
    except (EasyRemoteError, PayloadError) as error:
        outcome.note(f"ended with {type(error).__name__}")
    except Exception as error:
        outcome.note(f"could not be loaded: {type(error).__name__}")
    else:
        outcome.note("succeeded")
        if given != value:
            digests = [hashlib.sha256(repr(part).encode()).hexdigest()[:8] for part in (given, value)]
            outcome.violations.append(f"{len(value)} bytes came back changed, and nobody noticed: {digests}")
