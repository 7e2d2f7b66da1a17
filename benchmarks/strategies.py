"""`make sim-strategies`: the strategies in virtual time, beside what nobody could do better.

Each scenario gives the real broker 1,000 calls and four machines, once for each strategy and seed. The bound that makespans are
compared with is one for whoever knows every size, arrival and fault in advance, may move a call from machine to machine at any
moment, and loses nothing by it; what can really be reached lies above it. A makespan is the time from the first call until
all have ended, a latency that from a call until it has succeeded, however often it failed before.

All strategies get the same calls and machines with the same seed, so the p99 latencies are compared seed by seed. A goal counts
as missed where another strategy is better by more than chance: where 95 % of the means of such differences, over seeds drawn anew
from those that were run, lie on one side.

Figures go into `.build/bench/strategies.json` and `.md`, and with `--docs` into `docs/strategies.md`, beside a picture.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, NamedTuple

from easyremote.testing.fleet import Fleet, Machine, Span, Work

STRATEGIES = ("round_robin", "resource_aware", "latency_based", "cost_aware", "smart_adaptive")
OURS = "smart_adaptive"
CALLS = 1000
SEEDS = 20
UNLIKE = (1.0, 2.0, 4.0, 8.0)
MAKESPAN_GOAL = 1.10
RESAMPLED = 4000

_ROOT = Path(__file__).parent.parent
_OUT = _ROOT / ".build" / "bench"
_DOCS = _ROOT / "docs" / "strategies.md"
_MARKS = ("<!-- figures: begin, from `make sim-strategies ARGS=--docs` -->", "<!-- figures: end -->")

Sizes = Callable[[Random], float]


# ---- scenarios -------------------------------------------------------------------------------------------------------


def similar(rng: Random) -> float:
    return rng.uniform(0.5, 1.5)


def varied(rng: Random) -> float:
    return rng.expovariate(1.0)


def heavy(rng: Random) -> float:
    """Pareto, of mean 1 but for its cut at 40: one in a hundred is 7 times as long as the mean, one in a thousand 33 times."""
    return min(rng.paretovariate(1.5) / 3, 40.0)


def at_once(rng: Random, size: Sizes) -> list[Work]:
    return [Work(0.0, size(rng)) for _ in range(CALLS)]


def flow(rng: Random, size: Sizes, load: float, speed: float = sum(UNLIKE)) -> list[Work]:
    """They come one by one, and keep the machines busy for this part of the time."""
    works, at = list[Work](), 0.0
    for _ in range(CALLS):
        at += rng.expovariate(load * speed)
        works.append(Work(at, size(rng)))
    return works


def bursts(rng: Random, size: Sizes, load: float, count: int = 40) -> list[Work]:
    """They come by the dozen."""
    works, at = list[Work](), 0.0
    while len(works) < CALLS:
        works += [Work(at, size(rng)) for _ in range(count)]
        at += rng.expovariate(load * sum(UNLIKE) / count)
    return works


def steady(*speeds: float) -> list[Machine]:
    return [Machine(((0.0, speed),)) for speed in speeds]


def drifting(rng: Random) -> list[Machine]:
    """Every 30 s the speeds change hands."""
    speeds = list(UNLIKE)
    spans: list[list[Span]] = [[] for _ in speeds]
    for change in range(20):
        for machine, speed in zip(spans, speeds, strict=True):
            machine.append((30.0 * change, speed))
        rng.shuffle(speeds)
    return [Machine(tuple(found)) for found in spans]


def failing(rng: Random) -> list[Machine]:
    """The second fastest fails every call for a while, quickly."""
    begin = rng.uniform(20.0, 40.0)
    machines = steady(*UNLIKE)
    machines[2] = Machine(((0.0, UNLIKE[2]),), fails=((begin, begin + 60.0),))
    return machines


def leaving(rng: Random) -> list[Machine]:
    """The second fastest is gone now and then, with what it ran."""
    machines = steady(*UNLIKE)
    spans = tuple((at, at + 8.0) for at in (20.0 * n + rng.uniform(5.0, 10.0) for n in range(30)))
    machines[2] = Machine(((0.0, UNLIKE[2]),), is_gone=spans)
    return machines


@dataclass(frozen=True, slots=True)
class Scenario:
    title: str
    works: Callable[[Random], list[Work]]
    machines: Callable[[Random], list[Machine]] = lambda rng: steady(*UNLIKE)
    is_batch: bool = False


SCENARIOS: dict[str, Scenario] = {
    "at once": Scenario("all at once, similar sizes", lambda rng: at_once(rng, similar), is_batch=True),
    "at once, varied": Scenario("all at once, exponential sizes", lambda rng: at_once(rng, varied), is_batch=True),
    "at once, heavy": Scenario("all at once, heavy tails", lambda rng: at_once(rng, heavy), is_batch=True),
    "light": Scenario("a few now and then (5 % load)", lambda rng: flow(rng, varied, 0.05)),
    "flow": Scenario("a flow (60 % load), exponential sizes", lambda rng: flow(rng, varied, 0.6)),
    "heavy": Scenario("a flow (50 % load), heavy tails", lambda rng: flow(rng, heavy, 0.5)),
    "bursts": Scenario("bursts of 40 (50 % load)", lambda rng: bursts(rng, similar, 0.5)),
    "drifting": Scenario("speeds change hands (50 % load)", lambda rng: flow(rng, similar, 0.5), drifting),
    "failing": Scenario("one machine fails for a minute (40 % load)", lambda rng: flow(rng, similar, 0.4), failing),
    "leaving": Scenario("one machine comes and goes (40 % load)", lambda rng: flow(rng, similar, 0.4), leaving),
    "equal": Scenario(
        "four equal machines (60 % load)", lambda rng: flow(rng, varied, 0.6, 4.0), lambda rng: steady(1, 1, 1, 1)
    ),
}


# ---- the bound -------------------------------------------------------------------------------------------------------


def bound_s(machines: Sequence[Machine], works: Sequence[Work]) -> float:
    """No schedule ends before this time, whatever it knows and however often it moves a call.

    What comes from some moment on needs the capacity from then on; no call is faster than on the fastest machine; and the k
    largest calls are at any moment on no more than k machines, so they need the k fastest.
    """
    steps = list(_capacity(machines))
    best = max((work.at + work.size / _peak(machines, 1) for work in works), default=0.0)
    left = 0.0
    for work in sorted(works, key=lambda work: -work.at):
        left += work.size
        best = max(best, _filled_at(steps, work.at, left))
    first = min(work.at for work in works)
    sizes = sorted((work.size for work in works), reverse=True)
    return max(best, *(first + sum(sizes[:k]) / _peak(machines, k) for k in range(1, len(machines) + 1)))


def _peak(machines: Sequence[Machine], count: int) -> float:
    speeds = sorted((max(speed for _, speed in machine.speeds) for machine in machines), reverse=True)
    return sum(speeds[:count])


def _capacity(machines: Sequence[Machine]) -> Iterator[Span]:
    """The speed of all together, from when on. One that fails counts: what it had begun before, it may yet end."""
    times = {0.0}
    for machine in machines:
        times |= {since for since, _ in machine.speeds}
        times |= {edge for span in machine.is_gone for edge in span}
    for at in sorted(times):
        yield at, sum(machine.speed(at) * machine.slots for machine in machines)


def _filled_at(steps: Sequence[Span], since: float, size: float) -> float:
    """When so much work is done at the earliest, if it begins then."""
    ends = [at for at, _ in steps[1:]] + [float("inf")]
    for (begin, speed), end in zip(steps, ends, strict=True):
        if end <= since or speed == 0:
            continue
        at = max(begin, since)
        if at + size / speed <= end:
            return at + size / speed
        size -= (end - at) * speed
    raise AssertionError("there is capacity in the end")


# ---- running ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Found:
    """One strategy in one scenario, all seeds together; the makespan is the median of them."""

    makespan_by_bound: float
    worst_makespan_by_bound: float
    mean_s: float
    p50_s: float
    p99_s: float
    failures: int
    p99s_s: tuple[float, ...] = ()  # by seed


def judge(name: str, strategy: str, seeds: int) -> Found:
    scenario = SCENARIOS[name]
    latencies, ratios, p99s, failures = list[float](), list[float](), list[float](), 0
    for seed in range(seeds):
        rng = Random(f"{name} {seed}")
        works, machines = scenario.works(rng), scenario.machines(rng)
        outcomes = Fleet(strategy, machines, works).run()
        first = min(work.at for work in works)
        makespan_s = max(outcome.ended_at for outcome in outcomes) - first
        ratios.append(makespan_s / (bound_s(machines, works) - first))
        own = sorted(outcome.latency_s for outcome in outcomes)
        p99s.append(_p99(own))
        latencies += own
        failures += sum(outcome.failures for outcome in outcomes)
    latencies.sort()
    return Found(
        statistics.median(ratios),
        max(ratios),
        statistics.fmean(latencies),
        latencies[len(latencies) // 2],
        _p99(latencies),
        failures,
        tuple(p99s),
    )


def _p99(ordered: Sequence[float]) -> float:
    return ordered[int(0.99 * len(ordered))]


def judge_all(seeds: int) -> dict[str, dict[str, Found]]:
    pairs = [(name, strategy) for name in SCENARIOS for strategy in STRATEGIES]
    with ProcessPoolExecutor(2) as pool:
        found = pool.map(judge, *zip(*pairs, strict=True), [seeds] * len(pairs))
        by_pair = dict(zip(pairs, found, strict=True))
    return {name: {strategy: by_pair[name, strategy] for strategy in STRATEGIES} for name in SCENARIOS}


# ---- telling ---------------------------------------------------------------------------------------------------------


def lines(found: dict[str, dict[str, Found]]) -> list[list[str]]:
    """A head and a line a scenario: makespans where all comes at once, else p99 latencies, and whether the goals are met."""
    table = [["scenario", *STRATEGIES, "goal"]]
    for name, by_strategy in found.items():
        if SCENARIOS[name].is_batch:
            cells = [f"{figures.makespan_by_bound:.3f}" for figures in by_strategy.values()]
        else:
            cells = [f"{figures.p99_s:.2f} s" for figures in by_strategy.values()]
        table.append([SCENARIOS[name].title, *cells, verdict(by_strategy, SCENARIOS[name].is_batch)])
    return table


class Behind(NamedTuple):
    """How much longer a p99 of ours is than another's, in per cent: the mean over the seeds, and where it lies by chance."""

    mean: float
    low: float
    high: float


def behind(ours: Found, other: Found) -> Behind:
    differences = [100 * (own / its - 1) for own, its in zip(ours.p99s_s, other.p99s_s, strict=True)]
    rng = Random(0)
    means = sorted(statistics.fmean(rng.choices(differences, k=len(differences))) for _ in range(RESAMPLED))
    return Behind(statistics.fmean(differences), means[RESAMPLED // 40], means[-1 - RESAMPLED // 40])


def verdict(by_strategy: dict[str, Found], is_batch: bool) -> str:
    """Whether the goals are met, and where not, by how much they are missed."""
    ours = by_strategy[OURS]
    found = [behind(ours, figures) for strategy, figures in by_strategy.items() if strategy != OURS]
    closest = max(found, key=lambda difference: difference.mean)
    p99 = f"p99 {closest.mean:+.2f} % ({closest.low:+.2f} to {closest.high:+.2f})"
    missed = []
    if is_batch and ours.makespan_by_bound > MAKESPAN_GOAL:
        missed.append(f"makespan {ours.makespan_by_bound:.3f}")
    if any(difference.low > 0 for difference in found):
        missed.append(p99)
    return f"missed: {', '.join(missed)}" if missed else f"met: {p99}"


def aligned(table: Sequence[Sequence[str]]) -> str:
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if not column else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in table
    )


def markdown(table: Sequence[Sequence[str]]) -> str:
    head, *rest = ["| " + " | ".join(row) + " |" for row in table]
    return "\n".join([head, "| --- |" + " ---: |" * (len(table[0]) - 1), *rest])


def draw(found: dict[str, dict[str, Found]], path: Path) -> None:
    """A panel for each scenario, a bar for each strategy."""
    from matplotlib.figure import Figure

    columns = 4
    rows = -(-len(found) // columns)
    figure = Figure(figsize=(15, 2.1 * rows), layout="constrained", facecolor="white")
    grid = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axes in grid.flat[len(found) :]:
        axes.set_axis_off()
    for axes, (name, by_strategy) in zip(grid.flat, found.items(), strict=False):
        _panel(axes, SCENARIOS[name], by_strategy)
    figure.suptitle(
        f"Five strategies, machines of speeds 1 : 2 : 4 : 8 where not said otherwise, {CALLS:,} calls: shorter is better",
        fontsize=12,
        color=_INK,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100, metadata={"Software": None})


_OURS, _OTHERS, _INK = "#0b6e4f", "#5b7db1", "#222222"


def _panel(axes: Any, scenario: Scenario, by_strategy: dict[str, Found]) -> None:
    is_batch = scenario.is_batch
    values = [figures.makespan_by_bound if is_batch else figures.p99_s for figures in by_strategy.values()]
    colours = [_OURS if strategy == OURS else _OTHERS for strategy in by_strategy]
    axes.barh(range(len(values)), values, height=0.72, color=colours)
    axes.set_title(
        f"{scenario.title}\n{'makespan by bound' if is_batch else 'p99 latency, s'}", fontsize=9, color=_INK, loc="left"
    )
    axes.set_yticks(range(len(values)), list(by_strategy), fontsize=8.5, color=_INK)
    axes.set_ylim(len(values) - 0.4, -0.6)
    axes.set_xlim(0, max(values) * 1.2)
    axes.set_xticks([])
    axes.tick_params(length=0)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    if is_batch:
        axes.axvline(1.0, color=_INK, linewidth=0.8, linestyle=":")
    for row, value in enumerate(values):
        axes.text(
            value + max(values) * 0.02,
            row,
            f"{value:.3f}" if is_batch else f"{value:.2f}",
            va="center",
            fontsize=8.5,
            color=_INK,
        )


def put_into_docs(table: Sequence[Sequence[str]], seeds: int) -> None:
    before, _, rest = _DOCS.read_text().partition(_MARKS[0])
    _, _, after = rest.partition(_MARKS[1])
    text = f"{_MARKS[0]}\n\n```text\n{aligned(table)}\n```\n\n{seeds} seeds. {_MARKS[1]}"
    _DOCS.write_text(before + text + after)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=SEEDS)
    parser.add_argument("--docs", action="store_true", help="put table and picture into docs/")
    options = parser.parse_args()
    found = judge_all(options.seeds)
    table = lines(found)
    print(aligned(table))
    _OUT.mkdir(parents=True, exist_ok=True)
    plain = {
        name: {key: asdict(figures) for key, figures in by_strategy.items()} for name, by_strategy in found.items()
    }
    (_OUT / "strategies.json").write_text(json.dumps({"seeds": options.seeds, "found": plain}, indent=1) + "\n")
    (_OUT / "strategies.md").write_text(markdown(table) + "\n")
    draw(found, _OUT / "strategies.png")
    if options.docs:
        draw(found, _ROOT / "docs" / "images" / "strategies.png")
        put_into_docs(table, options.seeds)


if __name__ == "__main__":
    main()
