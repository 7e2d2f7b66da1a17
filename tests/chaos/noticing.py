"""How soon a lost node is noticed, and that a busy one is not taken for lost: R6."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from random import Random
from time import monotonic

from easyremote import Client
from tests.chaos.load import Outcome
from tests.chaos.promises import Trial, promise
from tests.chaos.stage import Actor, nodes_here, stage
from tests.chaos.wire import DOWN, UP, Wire
from tests.conftest import wait_until

DEATH_BOUND_S, SILENCE_BOUND_S = 1.0, 10.0


def _noticed(client: Client, victims: dict[str, float], bound_s: float) -> Outcome:
    """Wait until each of these nodes counts as away or gone. `victims`: when each was struck."""
    outcome = Outcome()
    left = dict(victims)
    while left:
        here = nodes_here(client)
        now = monotonic()
        for name in [name for name in left if name not in here]:
            outcome.trials += 1
            outcome.worst = max(outcome.worst, now - left[name])
            if now - left.pop(name) > bound_s:
                outcome.late.append(f"{name} was noticed after {now - victims[name]:.2f} s")
        if any(now - struck > 3 * bound_s for struck in left.values()):
            outcome.trials += len(left)
            outcome.violations += [f"{name} hasn't been noticed after {3 * bound_s:g} s" for name in left]
            break
        time.sleep(0.01)
    return outcome


def _all_here(client: Client, count: int) -> None:
    wait_until(lambda: len(nodes_here(client)) == count, 30)


@promise(
    "R6",
    "death noticed",
    "The death of a node's process is noticed within 1 s.",
    trials="nodes that got SIGKILL",
    figure="longest time until it was noticed, in s",
    bound=DEATH_BOUND_S,
)
def death(for_s: float) -> Iterator[Trial]:
    with stage(local_socket=True) as sockets, stage() as grpc:
        both: list[tuple[Client, list[Actor]]] = []
        for on in (sockets, grpc):
            on.gateway()
            both.append((on.client(), [on.node(f"node-{i}") for i in range(3)]))

        def trial(rng: Random) -> Outcome:
            client, nodes = rng.choice(both)
            _all_here(client, len(nodes))
            time.sleep(rng.uniform(0, 0.5))
            victim = rng.choice(nodes)
            struck = monotonic()
            victim.kill()
            outcome = _noticed(client, {victim.told["name"]: struck}, DEATH_BOUND_S)
            victim.start()
            return outcome

        yield trial


@promise(
    "R6",
    "silence noticed",
    "A node that stands still, or whose connection passes nothing on in one direction or both, is noticed within 10 s.",
    trials="nodes that were stopped (SIGSTOP), or whose connection went silent",
    figure="longest time until it was noticed, in s",
    bound=SILENCE_BOUND_S,
    share=2,
)
def silence(for_s: float) -> Iterator[Trial]:
    with stage() as on:
        on.gateway()
        client = on.client()
        wires = [Wire(on.address) for _ in range(3)]
        wired = {f"wired-{i}": wire for i, wire in enumerate(wires)}
        for name, wire in wired.items():
            on.node(name, wire.address)
        nodes = {name: on.node(name) for name in ("stopped-0", "stopped-1")}

        def trial(rng: Random) -> Outcome:
            _all_here(client, 5)
            victims: dict[str, float] = {}
            undo: list[Callable[[], None]] = []
            for name, node in nodes.items():
                time.sleep(rng.uniform(0, 0.5))
                victims[name] = monotonic()
                node.freeze()
                undo.append(node.go_on)
            for (name, wire), directions in zip(wired.items(), ((), (UP,), (DOWN,)), strict=True):
                time.sleep(rng.uniform(0, 0.5))
                victims[name] = monotonic()
                wire.swallow(*directions)
                undo.append(wire.up)
            outcome = _noticed(client, victims, SILENCE_BOUND_S)
            for work in undo:
                work()
            return outcome

        yield trial
        for wire in wires:
            wire.close()


@promise(
    "R6",
    "nobody lost by mistake",
    "A node whose workers hold their interpreter lock, on a machine whose processors are all busy, is never taken for lost.",
    trials="seconds that nodes spent under such a load",
    figure="longest time that a heartbeat or a call of another client took meanwhile, in s",
)
def no_false_loss(for_s: float) -> Iterator[Trial]:
    with stage() as on:
        on.gateway()
        client = on.client()
        for i in range(2):
            on.node(f"node-{i}")
        hold_s = min(60.0, max(for_s - 3, 3.0))

        def trial(rng: Random) -> Outcome:
            hogs = [
                subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2 * (os.cpu_count() or 1))
            ]
            try:
                before = {node.node_id: node.connected_s for node in client.list_nodes()}
                calls = [client.submit("in_process", str(on.marks), f"gil-{rng.random()}", hold_s) for _ in range(4)]
                outcome = Outcome(trials=int(hold_s))
                until = monotonic() + hold_s
                while monotonic() < until:
                    asked = monotonic()
                    client.call("echo", 1)
                    outcome.worst = max(outcome.worst, monotonic() - asked)
                    for node in client.list_nodes():
                        if node.status in ("away", "silent") or node.connected_s < before[node.node_id]:
                            outcome.violations.append(f"{node.node_id} was taken for lost")
                    time.sleep(0.2)
                for call in calls:
                    call.result(timeout=60)
            finally:
                for hog in hogs:
                    hog.kill()
                    hog.wait()
            return outcome

        yield trial
