"""Strategies on real processes: a gateway, nodes whose work sleeps, and this process as the client.

    PYTHONPATH=$PWD .venv/bin/python -m benchmarks.nodes [--rounds 5] [--docs]

Medians of several rounds, in each of which everything is measured once. `--docs` writes them into docs/strategies.md.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date
from pathlib import Path

from easyremote import Client
from easyremote.cluster import LocalCluster

DOCS = Path(__file__).parent.parent / "docs" / "strategies.md"
MARKS = re.compile(r"(<!-- processes: begin[^\n]*-->\n\n).*?(\n<!-- processes: end -->)", re.DOTALL)

EQUAL_S, EQUAL_CALLS = 0.1, 60
SLOWEST_S = 0.4
SPEEDS = (1, 2, 4, 8)


def sleeper(seconds: float) -> Callable[[], None]:
    """A function that sleeps so long, and goes by value."""

    def work() -> None:
        import time

        time.sleep(seconds)

    work.__module__ = "__main__"
    return work


@contextmanager
def cluster_of(durations: tuple[float, ...]) -> Iterator[Client]:
    """One node of one slot for each of these durations of `work`, which it has run three times."""
    with LocalCluster(len(durations), slots=1) as cluster, cluster.client() as client:
        for name, seconds in zip(cluster.node_ids, durations, strict=True):
            client.node(name).register(sleeper(seconds), name="work")
        for name in cluster.node_ids * 3:
            client.call_node(name, "work")
        yield client


def at_once(client: Client, calls: int) -> float:
    """How long so many calls take that are there from the start, in seconds."""
    began = time.perf_counter()
    for call in [client.submit("work") for _ in range(calls)]:
        call.result()
    return time.perf_counter() - began


def in_turn(client: Client, calls: int) -> float:
    """The same with node after node named beforehand: round robin without late binding."""
    names = [node.node_id for node in client.list_nodes()]
    began = time.perf_counter()
    chosen = [client.with_options(node=name) for name in names]
    for call in [chosen[number % len(names)].submit("work") for number in range(calls)]:
        call.result()
    return time.perf_counter() - began


def few_at_a_time(client: Client, calls: int, open_calls: int) -> float:
    """The same with so many calls open at any time."""
    began = time.perf_counter()
    waiting = [client.submit("work") for _ in range(open_calls)]
    for _ in range(calls - open_calls):
        waiting.pop(0).result()
        waiting.append(client.submit("work"))
    for call in waiting:
        call.result()
    return time.perf_counter() - began


def measure(rounds: int) -> tuple[dict[str, list[float]], dict[str, dict[str, list[float]]]]:
    """Seconds by what was measured: on equal nodes, and on unlike ones by strategy."""
    equal: dict[str, list[float]] = {}
    unlike: dict[str, dict[str, list[float]]] = {}
    with (
        cluster_of((EQUAL_S,)) as one,
        cluster_of((EQUAL_S,) * 3) as three,
        cluster_of(tuple(SLOWEST_S / speed for speed in SPEEDS)) as mixed,
    ):
        for number in range(rounds):
            equal.setdefault("one", []).append(at_once(one, EQUAL_CALLS))
            equal.setdefault("three", []).append(at_once(three, EQUAL_CALLS))
            for name in ("round_robin", "smart_adaptive"):
                client = mixed.with_options(strategy=name)
                for title, seconds in (
                    ("75 calls at once", lambda client=client: at_once(client, 75)),
                    ("40 calls, one at a time", lambda client=client: few_at_a_time(client, 40, 1)),
                    ("60 calls, two at a time", lambda client=client: few_at_a_time(client, 60, 2)),
                    ("60 calls, three at a time", lambda client=client: few_at_a_time(client, 60, 3)),
                ):
                    unlike.setdefault(title, {}).setdefault(name, []).append(seconds())
            unlike["75 calls at once"].setdefault("in turn", []).append(in_turn(mixed, 75))
            print(f"round {number + 1} of {rounds}", flush=True)
    return equal, unlike


def report(equal: dict[str, list[float]], unlike: dict[str, dict[str, list[float]]], rounds: int) -> str:
    one, three = (statistics.median(equal[name]) for name in ("one", "three"))
    lines = [
        "```text",
        f"three equal nodes, {EQUAL_CALLS} calls of {EQUAL_S * 1000:.0f} ms: {three:.2f} s, one node {one:.2f} s: "
        f"{one / three:.2f} times as fast",
        "",
        f"{'speeds 1 : 2 : 4 : 8':28}{'in turn':>10}{'round_robin':>14}{'smart_adaptive':>16}{'gain':>8}",
    ]
    for title, found in unlike.items():
        medians = {name: statistics.median(seconds) for name, seconds in found.items()}
        turn = f"{medians['in turn']:.2f} s" if "in turn" in medians else ""
        robin, smart = medians["round_robin"], medians["smart_adaptive"]
        lines.append(f"{title:28}{turn:>10}{f'{robin:.2f} s':>14}{f'{smart:.2f} s':>16}{f'{robin / smart:.2f}':>8}")
    lines += ["```", "", f"Medians of {rounds} rounds, {os.cpu_count()} cores, {date.today().isoformat()}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--docs", action="store_true", help="write the figures into docs/strategies.md")
    options = parser.parse_args()
    text = report(*measure(options.rounds), options.rounds)
    print(text)
    if options.docs:
        DOCS.write_text(MARKS.sub(lambda found: found[1] + text + found[2], DOCS.read_text()))


if __name__ == "__main__":
    main()
