"""`make chaos`: tries to break the promises with real processes, and says how often it could.

make chaos MINUTES=5
make chaos ARGS="--only R2,R4 --seed 7"        trials of these promises; trial n has the seed 7 + n
python -m tests.chaos.report --docs            puts the last full run into docs/reliability.md
"""

from __future__ import annotations

import argparse
import os
import signal
import statistics
import sys
import time
from pathlib import Path
from random import Random

from tests.chaos import report
from tests.chaos.load import Outcome
from tests.chaos.promises import PROMISES, NotHere, Promise

OUT = Path(__file__).parents[2] / ".build" / "chaos"


def run(promise: Promise, for_s: float, seed: int, say: bool = True) -> Outcome:
    """Trials until the time is over, one at least."""
    total = Outcome()
    figures: list[float] = []
    began = time.monotonic()
    with promise.begin(for_s) as trial:
        until = time.monotonic() + for_s
        while total.trials == 0 or time.monotonic() < until:
            trial_began = time.monotonic()
            try:
                outcome = trial(Random(seed))
            except Exception as error:
                outcome = Outcome(1, [f"the trial itself failed: {type(error).__name__}: {error}"])
            total.add(outcome)
            figures.append(outcome.worst)
            if say:
                took = time.monotonic() - trial_began
                print(f"{promise.key} {promise.name}, seed {seed}: {report.line(outcome)} [{took:.1f} s]", flush=True)
            for violation in (*outcome.violations, *outcome.late):
                print(f"    VIOLATION {violation}", flush=True)
            seed += 1
            if len(total.violations) + len(total.late) > 50:
                break
    if promise.typical:
        total.worst = statistics.median(figures)
        if promise.bound is not None and total.worst > promise.bound:
            total.late.append(f"the median of {len(figures)} trials is {total.worst:.3g}, above {promise.bound:g}")
            print(f"    VIOLATION {total.late[-1]}", flush=True)
    total.notes["took_s"] = time.monotonic() - began
    return total


def main() -> int:
    options = _options()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # through the `with` blocks
    chosen = [promise for name, promise in PROMISES.items() if not options.only or _is_meant(promise, options.only)]
    whole = sum(promise.share for promise in chosen)
    found = report.Found(report.machine(options.minutes, options.seed))
    for promise in chosen:
        try:
            outcome = run(promise, options.minutes * 60 * promise.share / whole, options.seed)
        except NotHere as reason:
            print(f"{promise.key} {promise.name}: left out: {reason}", flush=True)
            found.left_out(promise, str(reason))
            continue
        found.note(promise, outcome)
        report.write(found, options.output)
    print((options.output / "chaos.md").read_text())
    return 1 if found.violations else 0


def _is_meant(promise: Promise, only: str) -> bool:
    return any(promise.key == name or promise.name == name for name in only.split(","))


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Try to break the promises.")
    parser.add_argument("--minutes", type=float, default=60.0, help="how long all trials may take together")
    parser.add_argument("--only", default="", help="some promises, e.g. R2,R4")
    parser.add_argument("--seed", type=int, default=int(time.time()), help="of the first trial; the next has one more")
    parser.add_argument("--output", type=Path, default=OUT, help="folder of the results")
    return parser.parse_args()


if __name__ == "__main__":
    code = main()
    sys.stdout.flush()
    os._exit(code)  # threads that wait for calls of a broken promise must not keep the process
