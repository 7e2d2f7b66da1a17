"""Processes that die or stand still while calls are under way: R1, R2, R5, R7."""

from __future__ import annotations

import time
from collections.abc import Iterator
from random import Random
from typing import Any

from tests.chaos.load import Load, Outcome
from tests.chaos.promises import Trial, promise
from tests.chaos.stage import Actor, Stage, nodes_here, stage
from tests.chaos.wire import DOWN, UP, Wire
from tests.conftest import wait_until

QUICK = {"heartbeat_s": 0.4, "silence_s": 1.2, "grace_s": 0.8}
"""The same rules in less time, so that there can be more trials."""

SETTLED_S = 60.0


@promise(
    "R1",
    "one ending",
    "Every call ends exactly once: with its own value, or with an error that tells the truth.",
    trials="calls, while nodes are killed and frozen, the gateway is killed, and wires are cut and go silent",
    figure="longest time until an end, in s",
    share=3,
)
def one_ending(for_s: float) -> Iterator[Trial]:
    with stage() as on:
        gateway = on.gateway(**QUICK)
        wires = [Wire(on.address) for _ in range(2)]
        nodes = [on.node("direct"), on.node("wired", wires[0].address), on.node("third")]
        client = on.client(wires[1].address)
        load = Load(client, on.marks, Random(0))

        def trial(rng: Random) -> Outcome:
            load.rng = rng
            load.submit(20)
            for _ in range(rng.randint(1, 4)):
                _trouble(rng, gateway, nodes, wires)
                load.submit(rng.randint(0, 8))
                time.sleep(rng.uniform(0, 0.3))
            for wire in wires:
                wire.up()
            outcome = load.settle(SETTLED_S)
            wait_until(lambda: _are_connected(client, 3), 30)
            return outcome

        yield trial
        for wire in wires:
            wire.close()


def _trouble(rng: Random, gateway: Actor, nodes: list[Actor], wires: list[Wire]) -> None:
    what = rng.choice(("kill node", "kill node", "freeze node", "cut", "cut", "swallow", "down", "kill gateway"))
    wire = rng.choice(wires)
    if what == "kill node":
        victim = rng.choice(nodes)
        victim.kill()
        time.sleep(rng.uniform(0, 0.5))
        victim.start(wait=False)
    elif what == "freeze node":
        victim = rng.choice(nodes)
        victim.freeze()
        time.sleep(rng.choice((0.3, 3.0)))
        victim.go_on()
    elif what == "cut":
        wire.cut(reset=rng.random() < 0.5)
    elif what == "swallow":
        wire.swallow(*rng.choice(((), (UP,), (DOWN,))))
        time.sleep(rng.choice((0.1, 0.5, 2.5)))
        wire.up()
    elif what == "down":
        wire.down()
        time.sleep(rng.choice((0.1, 0.5, 2.0)))
        wire.up()
    else:
        gateway.kill()
        time.sleep(rng.uniform(0, 0.5))
        gateway.start()


def _are_connected(client: Any, count: int) -> bool:
    return client.is_connected and len(nodes_here(client)) == count


@promise(
    "R2",
    "runs",
    "A call with retries=0 is begun at most once; any other runs again when its node dies. `may_have_run` is true whenever it ran.",
    trials="calls, while a node gets SIGKILL at a random moment",
    figure="longest time until an end, in s",
    share=3,
)
def runs(for_s: float) -> Iterator[Trial]:
    with stage(local_socket=True) as sockets, stage() as grpc:
        settings = [_Killing(sockets), _Killing(grpc)]

        def trial(rng: Random) -> Outcome:
            return rng.choice(settings).trial(rng)

        yield trial


class _Killing:
    def __init__(self, on: Stage) -> None:
        on.gateway(**QUICK)
        self.nodes = [on.node(f"node-{i}") for i in range(3)]
        self.client = on.client()
        self.load = Load(self.client, on.marks, Random(0))

    def trial(self, rng: Random) -> Outcome:
        wait_until(lambda: _are_connected(self.client, 3))
        self.load.rng = rng
        self.load.submit(30)
        time.sleep(rng.uniform(0, 0.3))
        victim = rng.choice(self.nodes)
        victim.kill()
        self.load.submit(5)
        victim.start(wait=False)
        return self.load.settle(SETTLED_S, retried=True)


@promise(
    "R5",
    "gateway restart, in memory",
    "A gateway that is killed and started again loses no call whose client and node live, and begins none twice.",
    trials="calls, while the gateway gets SIGKILL at a random moment and is back within 1 s",
    figure="longest time from the restart until all calls had ended, in s",
    share=2,
)
def gateway_restart(for_s: float) -> Iterator[Trial]:
    with stage() as on:
        gateway = on.gateway()
        for i in range(2):
            on.node(f"node-{i}", slots=30)
        client = on.client()
        load = Load(client, on.marks, Random(0))

        def trial(rng: Random) -> Outcome:
            wait_until(lambda: _are_connected(client, 2))
            load.rng = rng
            load.submit(25, longest_s=2.0)
            time.sleep(rng.uniform(0, 0.5))
            gateway.kill()
            load.submit(5, longest_s=2.0)
            time.sleep(rng.uniform(0, 0.4))
            gateway.start()
            began = time.monotonic()
            outcome = load.settle(SETTLED_S)
            outcome.worst = time.monotonic() - began
            return outcome

        yield trial


@promise(
    "R7",
    "fencing",
    "What a node says about a call that went to another node meanwhile changes nothing.",
    trials="calls on a node that stands still until they went elsewhere, and then goes on",
    figure="longest time until an end, in s",
    share=2,
)
def fencing(for_s: float) -> Iterator[Trial]:
    with stage() as on:
        on.gateway(**QUICK)
        nodes = [on.node(f"node-{i}", slots=30) for i in range(2)]
        client = on.client()
        load = Load(client, on.marks, Random(0))

        def trial(rng: Random) -> Outcome:
            wait_until(lambda: _are_connected(client, 2))
            load.rng = rng
            load.submit(40, longest_s=4.0)
            time.sleep(rng.uniform(0, 0.5))
            victim = rng.choice(nodes)
            victim.freeze()
            time.sleep(rng.uniform(2.2, 3.0))  # beyond silence and grace: its calls are with the other one
            victim.go_on()
            return load.settle(SETTLED_S, retried=True)

        yield trial
