"""Bad networks between real TCP stacks: R1 and R6 where the cable is slow, loses packets, or is pulled out."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from random import Random
from time import monotonic
from typing import Any

from tests.chaos.load import Outcome
from tests.chaos.network import FAR, NEAR, Cable, network
from tests.chaos.promises import Trial, promise
from tests.chaos.stage import Actor, stage

SETTLED_S = 120.0
NOTICED_BOUND_S = 10.0


def _slow_and_lossy(cable: Cable, rng: Random) -> None:
    """A round trip of 200 ms, and 5 % of the packets lost."""
    cable.is_like(delay_s=0.1, jitter_s=0.01, loss=0.05)


def _thin(cable: Cable, rng: Random) -> None:
    """64 kbit/s."""
    cable.is_like(bits_per_s=64_000, delay_s=0.02)


def _out_of_order(cable: Cable, rng: Random) -> None:
    """Packets overtake each other, and some come twice."""
    cable.is_like(delay_s=0.005, jitter_s=0.03, doubles=0.1)


def _pulled_out(cable: Cable, rng: Random) -> None:
    """Nothing passes for up to 3 s."""
    time.sleep(rng.uniform(0, 0.4))
    cable.is_like(is_cut=True)
    time.sleep(rng.uniform(0.3, 3.0))
    cable.is_like()


def _one_way(cable: Cable, rng: Random) -> None:
    """Nothing passes in one direction for up to 3 s."""
    time.sleep(rng.uniform(0, 0.4))
    cable.one_way(rng.choice((NEAR, FAR)), is_cut=True)
    time.sleep(rng.uniform(0.3, 3.0))
    cable.is_like()


CONDITIONS = (_slow_and_lossy, _thin, _out_of_order, _pulled_out, _one_way)


def _ask(client: Actor, **what: Any) -> Any:
    client.tell(json.dumps(what))
    return json.loads(client.listen())


@promise(
    "R1",
    "bad networks",
    "A network that is slow, thin, loses packets, or is gone for 3 s costs no call anything but time.",
    trials="calls from one host to another: 200 ms and 5 % loss, 64 kbit/s, packets out of order and twice, cable out, one way dead",
    figure="longest time until an end, in s",
    share=3,
)
def bad_networks(for_s: float) -> Iterator[Trial]:
    with network(1) as net, stage(host=NEAR) as on:
        on.actor("gateway", host=NEAR, port=on.port, prefix=net.prefixes[NEAR])
        on.actor("node", name="near", slots=20, prefix=net.prefixes[NEAR])
        on.actor("node", name="far", slots=20, prefix=net.prefixes[FAR])
        clients = [on.actor("client", marks=str(on.marks), prefix=net.prefixes[end]) for end in (NEAR, FAR)]
        turns = 0

        def trial(rng: Random) -> Outcome:
            nonlocal turns
            condition = CONDITIONS[turns % len(CONDITIONS)]
            turns += 1
            for client in clients:
                _ask(client, submit=4 if condition is _thin else 12, seed=rng.randrange(10**9))
            condition(net.cable, rng)
            outcome = Outcome()
            for client in clients:
                outcome.add(Outcome(**_ask(client, settle=SETTLED_S, gentle=True)))
            outcome.note(condition.__doc__.rstrip(".") if condition.__doc__ else "", outcome.trials)
            outcome.violations = [f"{condition.__name__}: {text}" for text in outcome.violations]
            net.cable.is_like()
            return outcome

        yield trial


@promise(
    "R6",
    "cable out noticed",
    "A node whose cable was pulled out is noticed within 10 s, and its calls go elsewhere.",
    trials="nodes whose cable was pulled out, in both directions or one",
    figure="longest time until it was noticed, in s",
    bound=NOTICED_BOUND_S,
    share=1.5,
)
def cable_out(for_s: float) -> Iterator[Trial]:
    with network(2) as net, stage(host=NEAR) as on:
        on.actor("gateway", host=NEAR, port=on.port, prefix=net.prefixes[NEAR])
        on.actor("node", name="far", slots=20, prefix=net.prefixes[FAR])
        client = on.actor("client", marks=str(on.marks), prefix=net.prefixes[NEAR])

        def wait(there: bool, until_s: float) -> float:
            began = monotonic()
            while ("far" in _ask(client, nodes=True)) is not there and monotonic() - began < until_s:
                time.sleep(0.02)
            return monotonic() - began

        def trial(rng: Random) -> Outcome:
            wait(True, 60)
            time.sleep(rng.uniform(0, 1))
            towards = rng.choice(((NEAR,), (NEAR, FAR)))
            for end in towards:
                net.cable.one_way(end, is_cut=True)
            took_s = wait(False, 3 * NOTICED_BOUND_S)
            net.cable.is_like()
            outcome = Outcome(1, worst=took_s)
            if took_s > NOTICED_BOUND_S:
                outcome.late.append(f"it was noticed after {took_s:.1f} s")
            return outcome

        yield trial
