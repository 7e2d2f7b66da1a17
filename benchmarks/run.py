"""`make bench` and `make bench-peers`: every system does the same work on this machine, in one run, round by round.

Each round of each system is a process of its own that plays the client and starts the rest (`benchmarks.peers.driver`); rounds
are interleaved over the systems, and the medians are shown. Results are bench.json, bench.md and bench.png in `.build/bench`,
written anew after each round; `python -m benchmarks.report --docs` puts them into `docs/performance.md`.

    make bench ARGS="--rounds 1 --workloads latency,in_flight"
    make bench-peers ARGS="--systems easyremote-thread,nats,rpyc"
"""

from __future__ import annotations

import argparse
import os
import platform
import signal
import sys
import time
from datetime import date
from pathlib import Path

import psutil

from benchmarks import report
from benchmarks.peers import CONTENDERS
from benchmarks.peers.processes import Ended, Round, TooSlow, adopt_orphans, end_all, python_of
from benchmarks.workloads import WORKLOADS

_OUT = Path(__file__).parent.parent / ".build" / "bench"

_LARGE = ("big_echo", "busy")
"""Workloads that move 1 GiB: once in a run, unless asked otherwise."""


class Run:
    """What has been found so far, and how to find more."""

    def __init__(self, found: report.Found, bound_s: float) -> None:
        self._found = found
        self._bound_s = bound_s

    def measure(self, name: str, workloads: list[str]) -> None:
        """One round of one system. What fails is noted as the reason, and the rest goes on in a new process."""
        given_up = self._found.reasons.get(name, {})
        waiting = [workload for workload in workloads if workload not in given_up]
        if "start" in given_up:
            return
        is_first_start = True
        while waiting or is_first_start:
            waiting = self._attempt(name, waiting, is_first_start)
            is_first_start = False

    def _attempt(self, name: str, workloads: list[str], notes_start: bool) -> list[str]:
        """Run the workloads. Returns those that are left because the process was given up."""
        with Round(name, workloads) as round_:
            try:
                version, figures = round_.first()
            except (TooSlow, Ended) as error:
                self._found.give_up(name, "start", f"no start: {error}")
                return []
            self._found.versions[name] = version
            if notes_start:
                self._found.note(name, figures)
            for index, workload in enumerate(workloads):
                try:
                    said = round_.next(self._bound_s)
                except (TooSlow, Ended) as error:
                    self._found.give_up(name, workload, str(error))
                    return workloads[index + 1 :]
                if "figures" in said:
                    self._found.note(name, said["figures"])
                else:
                    self._found.give_up(name, workload, said["reason"])
            round_.stopped()
        return []


def main() -> None:
    options = _options()
    for name in options.systems:
        python_of(CONTENDERS[name])  # all are installed, or nothing begins
    adopt_orphans()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # through the `with` blocks
    found = report.Found(_machine(options.rounds))
    run = Run(found, options.bound)
    try:
        for round_ in range(1, options.rounds + 1):
            for name in options.systems:
                workloads = [
                    workload
                    for workload in CONTENDERS[name].workloads
                    if workload in options.workloads and (workload not in _LARGE or round_ <= options.large_rounds)
                ]
                began = time.monotonic()
                run.measure(name, workloads)
                print(f"round {round_}: {name} {time.monotonic() - began:.1f} s", file=sys.stderr)
            found.rounds_done = round_
            report.write(found, options.output)
    except KeyboardInterrupt:
        raise SystemExit(130) from None
    finally:
        end_all()
    print((options.output / "bench.md").read_text())


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure EasyRemote, its limits and its peers on this machine.")
    parser.add_argument("--peers", action="store_true", help="all systems, not only EasyRemote and the bare relays")
    parser.add_argument("--systems", type=_names_of(CONTENDERS), help=f"some of {', '.join(CONTENDERS)}")
    parser.add_argument(
        "--workloads",
        type=_names_of(WORKLOADS),
        default=list(WORKLOADS),
        help=f"some of {', '.join(WORKLOADS)}; first result and memory are always measured",
    )
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--large-rounds", type=int, default=1, help="rounds that also move 1 GiB")
    parser.add_argument("--bound", type=float, default=45.0, help="seconds that a workload may take")
    parser.add_argument("--output", type=Path, default=_OUT, help="folder of the results")
    options = parser.parse_args()
    if options.systems is None:
        options.systems = [name for name, contender in CONTENDERS.items() if options.peers or not contender.is_peer]
    return options


def _names_of(known: object) -> object:
    """What reads a list of names, separated by commas, and refuses one that isn't known."""
    assert isinstance(known, dict)

    def read(text: str) -> list[str]:
        names = text.split(",")
        for name in names:
            if name not in known:
                raise argparse.ArgumentTypeError(f"'{name}' is none of {', '.join(known)}")
        return names

    return read


def _machine(rounds: int) -> dict[str, str | int | float]:
    return {
        "date": date.today().isoformat(),
        "rounds": rounds,
        "cpu": _cpu(),
        "cpus": os.cpu_count() or 0,
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def _cpu() -> str:
    """The processor's name, where the system tells."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.machine()


if __name__ == "__main__":
    main()
