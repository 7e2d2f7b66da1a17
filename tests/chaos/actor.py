"""A gateway, a node or a client as a process: `python -m tests.chaos.actor ROLE JSON`. It says "ready" and dies with its parent."""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from random import Random
from typing import Any

PR_SET_PDEATHSIG = 1


def main() -> None:
    role, told = sys.argv[1], json.loads(sys.argv[2])
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    {"gateway": gateway, "node": node, "client": client, "bulk": bulk, "flood": flood}[role](told)


def ready() -> None:
    print("ready", flush=True)


def gateway(told: dict[str, Any]) -> None:
    from easyremote import Server
    from easyremote.config import GatewaySettings

    running = Server(
        told["port"],
        told["host"],
        token=told["token"],
        settings=GatewaySettings(**told.get("settings", {})),
        journal=told.get("journal"),
        allow_plaintext_network=told["host"] != "127.0.0.1",  # faults strike what is sent as it is
    ).start_background()
    ready()
    running.wait()


def node(told: dict[str, Any]) -> None:
    from easyremote import ComputeNode
    from tests.chaos.functions import register_all

    running = ComputeNode(told["address"], told["name"], token=told["token"], slots=told["slots"])
    register_all(running)
    running.serve(connect_timeout=30)
    if told.get("doubles"):
        from tests.chaos.links import double_frames

        assert running._engine is not None
        double_frames(running._engine._link, Random(told["doubles"]))
    ready()
    running.wait()


def client(told: dict[str, Any]) -> None:
    """Makes calls whose truth is known and judges their ends, as it is asked to, a line of JSON each."""
    from dataclasses import asdict
    from pathlib import Path

    from easyremote import Client
    from tests.chaos.load import Load
    from tests.chaos.stage import Quiet, nodes_here

    with Client(told["address"], token=told["token"]) as face:
        load = Load(face.with_presenter(Quiet), Path(told["marks"]), Random())
        ready()
        for line in sys.stdin:
            asked = json.loads(line)
            answer: Any = "ok"
            if "submit" in asked:
                load.rng = Random(asked["seed"])
                load.submit(asked["submit"], longest_s=1.0)
            elif "settle" in asked:
                answer = asdict(load.settle(asked["settle"], gentle=asked["gentle"]))
            else:
                answer = sorted(nodes_here(face))
            print(json.dumps(answer), flush=True)


def bulk(told: dict[str, Any]) -> None:
    """Echoes a large value again and again, and says so each time."""
    import numpy as np

    from easyremote import Client

    value = np.arange(told["mib"] * 1024 * 128)
    with Client(told["address"], token=told["token"]) as client:
        client.call("echo", 1)
        ready()
        while True:
            assert (client.call("echo", value)[::4096] == value[::4096]).all()
            print("echoed", flush=True)


def flood(told: dict[str, Any]) -> None:
    """Submits far more calls than it may, without holding any back, and says how many were refused once all but `bound` have ended."""
    from time import monotonic, sleep

    from easyremote import Client, OverloadedError
    from easyremote.core import client_session

    client_session.MAX_OPEN = 1 << 30
    client_session.ClientSession._keeps_back = lambda *_: False  # type: ignore[method-assign]
    refused: list[float] = []
    with Client(told["address"], token=told["token"]) as client:
        client.call("echo", 1)
        ready()
        sys.stdin.readline()
        padding = os.urandom(told["bytes"])
        lock = threading.Lock()

        def ended(call: Any, asked_at: float) -> None:
            error = call.exception()
            if isinstance(error, OverloadedError):
                with lock:
                    refused.append(monotonic() - asked_at)
                assert error.retry_after_s and error.retry_after_s > 0

        patient = client.with_options(retries=1, node="flooded")  # retries: so that they don't travel in bundles
        calls = []
        for _ in range(told["calls"]):
            asked_at = monotonic()
            call = patient.submit("hold", told["takes_s"], padding)
            call.add_done_callback(lambda call, asked_at=asked_at: ended(call, asked_at))
            calls.append(call)
        until = monotonic() + 60
        while len(refused) < told["calls"] - told["bound"] and monotonic() < until:
            sleep(0.05)  # some are taken meanwhile, in place of those that have run
            if sum(call.done() for call in calls) >= told["calls"] - told["bound"]:
                break
        print(json.dumps({"refused": len(refused), "slowest_s": max(refused, default=0.0)}), flush=True)
        os._exit(0)


if __name__ == "__main__":
    main()
