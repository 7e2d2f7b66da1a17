"""A fleet whose gateway was away: R12.

Each node waits for a time that it draws, so the figures of one return are a matter of chance: the medians of the trials are
judged, and what no chance explains.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Iterator
from random import Random

from benchmarks.returning import measure, most_at_once, part_back_s
from tests.chaos.load import Outcome
from tests.chaos.promises import Trial, promise
from tests.chaos.stage import stage

NODES = 200
MOST_BACK_S, ALL_BACK_S, AT_ONCE = 3.0, 6.0, 100


@promise(
    "R12",
    "back in time",
    "Of 200 nodes 95 % are back 3 s after their gateway, all after 6 s, and about 100 of them at most come within one second.",
    trials="returns of nodes, 200 at a time, whose gateway was killed and away for 1 to 8 s",
    figure="median over the returns of the time until 95 % were back, in s",
    bound=MOST_BACK_S,
    share=2,
    typical=True,
)
def back_in_time(for_s: float) -> Iterator[Trial]:
    peaks: list[int] = []

    def trial(rng: Random) -> Outcome:
        outage_s = rng.uniform(1.0, 8.0)
        with stage(local_socket=rng.random() < 0.5):
            back = asyncio.run(measure(NODES, outage_s))
        outcome = Outcome(trials=len(back), worst=part_back_s(back, 0.95))
        most = most_at_once(back)
        outcome.note("all back, s", round(back[-1], 2))
        outcome.note("most in a second", most)
        if len(back) < NODES:
            outcome.violations.append(f"{NODES - len(back)} of {NODES} nodes didn't come back")
        if back[-1] > ALL_BACK_S:
            outcome.late.append(f"all were back after {back[-1]:.2f} s, of an outage of {outage_s:.1f} s")
        peaks.append(most)
        if most > 1.25 * AT_ONCE or (len(peaks) > 2 and statistics.median(peaks) > AT_ONCE):
            outcome.late.append(f"{most} came within one second, after an outage of {outage_s:.1f} s")
        return outcome

    yield trial
