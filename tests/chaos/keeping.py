"""Jobs through the death of their gateway, and processes that are told to end: R5, R15."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Iterator
from random import Random
from time import monotonic
from typing import Any

from easyremote import CallLost, Client, EasyRemoteError, Job
from tests.chaos.load import Load, Outcome
from tests.chaos.promises import Trial, promise
from tests.chaos.stage import Actor, Stage, nodes_here, stage
from tests.conftest import wait_until

SETTLED_S = 90.0


@promise(
    "R5",
    "jobs survive a gateway restart",
    "A job that was accepted is on disk: it ends, with its value, whatever becomes of its client and the gateway.",
    trials="jobs that were accepted before or after the gateway got SIGKILL at a random moment",
    figure="longest time from the restart until a new client had all results, in s",
    share=2,
)
def jobs_survive(for_s: float) -> Iterator[Trial]:
    with stage() as on:
        gateway = on.actor("gateway", host=on.host, port=on.port, journal=str(on.folder / "jobs.sqlite"))
        for i in range(2):
            on.node(f"node-{i}", slots=8)
        made = 0

        def trial(rng: Random) -> Outcome:
            nonlocal made
            client = on.client()
            accepted: dict[str, tuple[Job[Any], bool]] = {}
            has_ended, own = threading.Event(), Random(rng.random())

            def submit() -> None:
                nonlocal made
                while not has_ended.is_set():
                    made += 1
                    key, once_only = f"job-{made}", own.random() < 0.5
                    chosen = client.with_options(retries=0) if once_only else client
                    try:
                        job = chosen.submit_job("work", str(on.marks), key, own.uniform(0, 0.2))
                    except EasyRemoteError:
                        continue  # nothing was promised
                    accepted[key] = job, once_only

            thread = threading.Thread(target=submit)
            thread.start()
            for _ in range(rng.randint(1, 3)):
                time.sleep(rng.uniform(0.05, 0.5))
                gateway.kill()
                gateway.start()
            began = monotonic()
            time.sleep(0.2)
            has_ended.set()
            thread.join(SETTLED_S)
            client.close()
            outcome = Outcome(trials=len(accepted))
            with Client(on.address, token=gateway.told["token"]) as other:
                for key, (job, once_only) in accepted.items():
                    _judge_job(on, other, key, job.id, once_only, outcome)
                    job = other.job(job.id)
                    job.forget()
            outcome.worst = monotonic() - began
            return outcome

        yield trial


def _judge_job(on: Stage, client: Client, key: str, job_id: str, once_only: bool, outcome: Outcome) -> None:
    path = on.marks / key
    try:
        value = client.job(job_id).result(SETTLED_S)
        if value != key:
            outcome.violations.append(f"{key} gave {value!r:.100}")
    except CallLost as error:
        outcome.note("lost, and said so")
        if not once_only or not error.may_have_run:
            outcome.violations.append(f"{key} ended with {error}")
    except Exception as error:
        outcome.violations.append(f"{key}, which was accepted, ended with {type(error).__name__}: {error}")
    runs = path.read_bytes().count(b"\n") if path.exists() else 0
    if once_only and runs > 1:
        outcome.violations.append(f"{key}, with retries=0, was begun {runs} times")


@promise(
    "R15",
    "drain",
    "A node or a gateway that gets SIGTERM costs no call anything and ends with exit code 0.",
    trials="calls, while a node or the gateway gets SIGTERM at a random moment",
    figure="longest time until the process had ended, in s",
    share=2,
)
def drain(for_s: float) -> Iterator[Trial]:
    with stage() as on:
        gateway = on.gateway()
        nodes = [on.node(f"node-{i}", slots=6) for i in range(3)]
        client = on.client()
        load = Load(client, on.marks, Random(0))

        def trial(rng: Random) -> Outcome:
            wait_until(lambda: client.is_connected and len(nodes_here(client)) == 3)
            load.rng = rng
            load.submit(30, longest_s=1.0)
            time.sleep(rng.uniform(0, 0.5))
            victim = gateway if rng.random() < 0.3 else rng.choice(nodes)
            problem, took_s = _terminated(victim)
            load.submit(5, longest_s=0.3)
            victim.start(wait=False)
            outcome = load.settle(SETTLED_S, gentle=True)
            outcome.worst = took_s
            if problem:
                outcome.violations.append(f"the {'gateway' if victim is gateway else 'node'} {problem}")
            return outcome

        yield trial


def _terminated(victim: Actor) -> tuple[str, float]:
    """What went wrong, and how long it took."""
    began = monotonic()
    victim.process.send_signal(signal.SIGTERM)
    try:
        code = victim.process.wait(SETTLED_S)
    except subprocess.TimeoutExpired:
        victim.kill()
        return f"hadn't ended {SETTLED_S:g} s after SIGTERM", SETTLED_S
    took_s = monotonic() - began
    victim.kill()  # closes its pipes
    return ("" if code == 0 else f"ended with exit code {code}"), took_s
