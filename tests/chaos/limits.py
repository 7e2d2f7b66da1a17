"""Too much at once, large beside small, and for long: R9, R10, R13."""

from __future__ import annotations

import json
import select
import statistics
import time
from collections.abc import Callable, Iterator
from random import Random
from time import monotonic
from typing import Any

import psutil

from easyremote import Client, GatewaySettings
from tests.chaos.load import Load, Outcome
from tests.chaos.promises import Trial, promise
from tests.chaos.stage import Actor, stage

MIB = 1024 * 1024


def _latencies(work: Callable[[], object], for_s: float, pause_s: float = 0.002) -> list[float]:
    took: list[float] = []
    until = monotonic() + for_s
    while monotonic() < until:
        asked = monotonic()
        work()
        took.append(monotonic() - asked)
        time.sleep(pause_s)
    return took


def _p99(took: list[float]) -> float:
    return statistics.quantiles(took, n=100)[98] if len(took) > 1 else max(took)


@promise(
    "R9",
    "bounded",
    "A client that submits ten times what it may is refused what is too much at once; the gateway's memory stays bounded.",
    trials="calls submitted too many",
    figure="the gateway's memory beyond what it had at rest, as a part of 1.5 × 256 MiB",
    bound=1.0,
)
def bounded(for_s: float) -> Iterator[Trial]:
    def trial(rng: Random) -> Outcome:
        calls, size = rng.choice(((41_000, 100), (9_000, 60_000)))
        with stage() as on:
            gateway = on.gateway()
            on.node("flooded", slots=4)
            process = psutil.Process(gateway.pid)
            at_rest = process.memory_info().rss
            flood = on.actor("flood", calls=calls, bytes=size, takes_s=0.05, bound=GatewaySettings().max_queued_calls)
            flood.tell()
            outcome = Outcome()
            while not select.select([flood.process.stdout], [], [], 0.05)[0]:
                grown = process.memory_info().rss - at_rest
                outcome.worst = max(outcome.worst, grown / (1.5 * 256 * MIB))
            said = json.loads(flood.listen())
            outcome.trials = said["refused"]
            if said["refused"] < 0.5 * (calls - 4096):
                outcome.violations.append(f"only {said['refused']} of {calls} calls were refused: {said}")
            if outcome.worst > 1:
                outcome.violations.append(f"the gateway grew by {outcome.worst * 1.5 * 256:.0f} MiB")
        return outcome

    yield trial


@promise(
    "R9",
    "others beside a flood",
    "Another client's small calls take at most twice as long while the gateway refuses a flood, in the 99th percentile.",
    trials="small calls of another client, while one submits ten times what it may",
    figure="median over the trials of their 99th percentile beside the flood, as a multiple of what it is before and after",
    bound=2.0,
    typical=True,
)
def others_beside_a_flood(for_s: float) -> Iterator[Trial]:
    with stage() as on:
        on.gateway()
        on.node("flooded", slots=4)
        on.node("quiet")
        client = on.client().with_options(node="quiet")

        def trial(rng: Random) -> Outcome:
            calls, size = rng.choice(((41_000, 100), (9_000, 60_000)))
            bound = GatewaySettings().max_queued_calls
            flood = on.actor("flood", calls=calls, bytes=size, takes_s=0.05, bound=bound)
            quiet = _latencies(lambda: client.call("echo", 1), 1.5)
            flood.tell()
            beside: list[float] = []
            while not select.select([flood.process.stdout], [], [], 0)[0]:
                beside += _latencies(lambda: client.call("echo", 1), 0.1)
            on.leave(flood)
            quiet += _latencies(lambda: client.call("echo", 1), 1.5)
            outcome = Outcome(trials=len(beside), worst=_p99(beside) / _p99(quiet))
            outcome.note("median beside / quiet", round(statistics.median(beside) / statistics.median(quiet), 2))
            outcome.note("p99 quiet, ms", round(1000 * _p99(quiet), 1))
            return outcome

        yield trial


@promise(
    "R10",
    "control beside data",
    "A small call and a cancel aren't held up by a transfer of 1 GiB through the same gateway.",
    trials="small calls, while another client echoes 1 GiB through the gateway",
    figure="99th percentile of a small call's round trip within 4 s, in s; every core of this machine is busy with the transfer",
    bound=0.1,
)
def beside_data(for_s: float) -> Iterator[Trial]:
    with stage() as on:
        on.gateway()
        on.node("node", slots=16)
        client = on.client()
        client.call("echo", 1)
        on.actor("bulk", mib=1024)

        def trial(rng: Random) -> Outcome:
            took = _latencies(lambda: client.call("echo", 1), 4.0)
            outcome = Outcome(trials=len(took), worst=_p99(took))
            for _ in range(3):
                call = client.submit("nap", 30)
                while call.state == "queued":
                    time.sleep(0.002)
                asked = monotonic()
                call.cancel()
                call.exception(timeout=10)
                if monotonic() - asked > 0.2:
                    outcome.late.append(f"a cancel took {monotonic() - asked:.2f} s")
            if outcome.worst > 0.1:
                outcome.late.append(f"the 99th percentile is {outcome.worst:.3f} s")
            return outcome

        yield trial


@promise(
    "R13",
    "no leak",
    "Calls leave nothing behind: memory, descriptors, threads and processes of gateway and node stay as they are.",
    trials="calls at a steady pace",
    figure="steepest growth of memory in the second half, in MiB/h",
    share=4,
)
def no_leak(for_s: float) -> Iterator[Trial]:
    with stage(local_socket=True, shared_memory=True) as on:
        actors = {"gateway": on.gateway(), "node": on.node("node")}
        client = on.client()

        def trial(rng: Random) -> Outcome:
            load = Load(client, on.marks, rng)
            outcome = Outcome()
            settles_s = min(20.0, for_s / 3)
            _steadily(load, client, settles_s, outcome)
            before = {name: _used(actor) for name, actor in actors.items()}
            samples: dict[str, list[tuple[float, float]]] = {name: [] for name in actors}
            until = monotonic() + max(for_s - settles_s, 5.0)
            while monotonic() < until:
                _steadily(load, client, 1.0, outcome)
                for name, actor in actors.items():
                    samples[name].append((monotonic(), psutil.Process(actor.pid).memory_info().rss / MIB))
            for name, actor in actors.items():
                slope = _slope(samples[name][len(samples[name]) // 2 :])
                outcome.worst = max(outcome.worst, slope)
                after = _used(actor)
                for what, number in after.items():
                    if number > before[name][what] + 2:
                        outcome.violations.append(f"the {name} has {number} {what}, and had {before[name][what]}")
            return outcome

        yield trial


def _steadily(load: Load, client: Client, for_s: float, outcome: Outcome) -> None:
    """About a hundred calls a second, of all kinds."""
    value = b"x" * 300_000
    until = monotonic() + for_s
    while monotonic() < until:
        began = monotonic()
        load.submit(20, longest_s=0.02)
        calls: list[Any] = [client.submit("echo", i) for i in range(25)] + [client.submit("echo", value)]
        calls.append(client.submit(abs, -1))
        cancelled = client.submit("nap", 5)
        for call in calls:
            call.result(timeout=60)
        cancelled.cancel()
        settled = load.settle(60, gentle=True)
        outcome.trials += settled.trials + len(calls) + 1
        outcome.violations += settled.violations
        for path in load._marks.iterdir():
            path.unlink()
        time.sleep(max(0.5 - (monotonic() - began), 0))


def _used(actor: Actor) -> dict[str, int]:
    process = psutil.Process(actor.pid)
    return {
        "descriptors": process.num_fds(),
        "threads": process.num_threads(),
        "processes": len(process.children(recursive=True)),
    }


def _slope(samples: list[tuple[float, float]]) -> float:
    """MiB per hour of the line through these."""
    if len(samples) < 3:
        return 0.0
    fit = statistics.linear_regression([at for at, _ in samples], [size for _, size in samples])
    return fit.slope * 3600
