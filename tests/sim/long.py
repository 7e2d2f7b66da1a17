"""`make sim-long`: many more worlds than a test can wait for, on all processors, politely, in slices.

    make sim-long                                       200,000 worlds, or what is left of them
    make sim-long SIM_SEEDS=20000 ARGS="--minutes 10"   goes on next time where it stops now

What was done is kept in `.build/sim-long`, for this very code: when the core, the simulation or the plans change, it begins anew.
`summary.json` there says how far it came.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from easyremote.testing import Violation, simulate
from tests.sim.plans import PLANS

_ROOT = Path(__file__).parents[2]
OUT = _ROOT / ".build" / "sim-long"
UNIT = 50
"""Worlds that a process simulates before it says so."""

_SHOWN = 6000
"""Characters of a violation that are kept."""


class Unit(NamedTuple):
    plan: str
    first: int


class Done(NamedTuple):
    unit: Unit
    violations: dict[int, str]  # by seed
    took_s: float


@dataclass
class State:
    """What was done so far, a line of JSON for each unit."""

    path: Path
    units: set[Unit] = field(default_factory=set[Unit])
    violations: dict[str, dict[int, str]] = field(default_factory=dict[str, dict[int, str]])
    took_s: float = 0.0

    @classmethod
    def read(cls, folder: Path, code: str) -> State:
        """What was done with this code; what was done with another is left where it is."""
        folder.mkdir(parents=True, exist_ok=True)
        state = cls(folder / f"done-{code}.jsonl")
        for line in state.path.read_text().splitlines() if state.path.exists() else ():
            plan, first, violations, took_s = json.loads(line)
            state._count(Done(Unit(plan, first), {int(seed): text for seed, text in violations.items()}, took_s))
        return state

    def note(self, done: Done) -> None:
        self._count(done)
        with self.path.open("a") as file:
            file.write(json.dumps([*done.unit, done.violations, round(done.took_s, 3)]) + "\n")

    def _count(self, done: Done) -> None:
        self.units.add(done.unit)
        self.took_s += done.took_s
        if done.violations:
            self.violations.setdefault(done.unit.plan, {}).update(done.violations)

    def summary(self, wanted: int) -> dict[str, Any]:
        worlds = len(self.units) * UNIT
        return {
            "worlds": worlds,
            "wanted": wanted,
            "violations": {plan: sorted(seeds) for plan, seeds in self.violations.items()},
            "worlds_per_second_and_process": round(worlds / self.took_s, 1) if self.took_s else 0.0,
            "hours_of_processor": round(self.took_s / 3600, 2),
        }


def code_digest() -> str:
    """Of everything that a world is made of."""
    digest = hashlib.sha256()
    folders = ("easyremote/core", "easyremote/testing", "easyremote/wire/v1")
    files = [path for folder in folders for path in (_ROOT / folder).rglob("*.py")]
    for path in sorted([*files, _ROOT / "easyremote/config.py", _ROOT / "tests/sim/plans.py"]):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]


def units(seeds: int, first_seed: int) -> Iterator[Unit]:
    """So many worlds in all, every plan in turn."""
    rounds = -(-seeds // (UNIT * len(PLANS)))
    for number in range(rounds):
        for plan in PLANS:
            yield Unit(plan, first_seed + number * UNIT)


def run_unit(unit: Unit) -> Done:
    violations: dict[int, str] = {}
    began = time.process_time()
    for seed in range(unit.first, unit.first + UNIT):
        try:
            simulate(seed, PLANS[unit.plan])
        except Violation as violation:
            violations[seed] = str(violation)[:_SHOWN]
        if seed % 10 == 0:
            gc.collect()
    return Done(unit, violations, time.process_time() - began)


def _prepare_process(nice: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends it
    os.nice(nice)
    gc.freeze()
    gc.disable()  # a world is garbage as a whole; it is collected between them


def main() -> int:
    options = _options()
    state = State.read(options.output, code_digest())
    waiting = [unit for unit in units(options.seeds, options.first) if unit not in state.units]
    wanted = len(list(units(options.seeds, options.first))) * UNIT
    until = time.monotonic() + options.minutes * 60 if options.minutes else float("inf")
    _say(state, wanted)
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.jobs, context, _prepare_process, (options.nice,)) as pool:
        try:
            for done in _run_all(pool, waiting, until, 2 * options.jobs):
                state.note(done)
                for seed, text in done.violations.items():
                    print(f"VIOLATION {done.unit.plan}, seed {seed}: {text[:300]}", flush=True)
                if len(state.units) % 20 == 0:
                    _say(state, wanted)
        except KeyboardInterrupt:
            print("interrupted; it goes on from here the next time", file=sys.stderr)
            pool.shutdown(wait=True, cancel_futures=True)
    _say(state, wanted)
    (options.output / "summary.json").write_text(json.dumps(state.summary(wanted), indent=1))
    for plan, violations in state.violations.items():
        for seed, text in violations.items():
            print(f"\n== {plan}, seed {seed}; SIM_FIRST_SEED={seed} SIM_SEEDS=1 repeats it\n{text}")
    return 1 if state.violations else 0


def _run_all(pool: ProcessPoolExecutor, waiting: list[Unit], until: float, at_once: int) -> Iterator[Done]:
    """As they end. None is begun after `until`."""
    left = iter(waiting)
    running: set[Future[Done]] = set()
    while True:
        while len(running) < at_once and time.monotonic() < until and (unit := next(left, None)) is not None:
            running.add(pool.submit(run_unit, unit))
        if not running:
            return
        ended, running = wait(running, return_when=FIRST_COMPLETED)
        for future in ended:
            yield future.result()


def _say(state: State, wanted: int) -> None:
    said = state.summary(wanted)
    broken = sum(len(seeds) for seeds in said["violations"].values())
    speed = said["worlds_per_second_and_process"]
    print(f"{said['worlds']:,} of {wanted:,} worlds, {broken} violations, {speed} a second and process", flush=True)


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.sim.long", description="Simulate many worlds.")
    parser.add_argument("--seeds", type=int, default=int(os.environ.get("SIM_SEEDS", "200000")), help="worlds in all")
    parser.add_argument("--first", type=int, default=int(os.environ.get("SIM_FIRST_SEED", "0")), help="first seed")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="processes")
    parser.add_argument("--minutes", type=float, default=0.0, help="stop after so long; 0: when all are done")
    parser.add_argument("--nice", type=int, default=10, help="how far behind other programs the processes stand")
    parser.add_argument("--output", type=Path, default=OUT, help="folder of what was done")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
