"""What second copies do for the slowest calls: `python -m benchmarks.hedging`.

Three nodes on this machine run a function that takes 20 ms, and now and then, by chance, half a second (a page that isn't in
memory, a garbage collection, a noisy neighbour). Calls come one every 25 ms from each of four threads, first without hedging and
then with `hedge=True`. The same numbers decide in both which calls are slow at first; a second copy has a chance of its own.
"""

from __future__ import annotations

import argparse
import threading
import time
from typing import Any

from easyremote import Client
from easyremote.cluster import LocalCluster

SLOW_PART, USUAL_S, SLOW_S = 0.03, 0.02, 0.5


def work(number: int, usual_s: float, slow_s: float, slow_part: float, place: str) -> str:
    import os
    import random
    import time

    path = os.path.join(place, str(number))
    try:
        os.close(os.open(path, os.O_CREAT | os.O_EXCL))
        chance = random.Random(number).random()
    except FileExistsError:
        chance = random.random()  # a second copy
    time.sleep(slow_s if chance < slow_part else usual_s)
    return path


def measure(client: Client, calls: int, threads: int, place: str) -> list[float]:
    """How long each call took, in seconds, sorted."""
    took: list[float] = []

    def some(first: int) -> None:
        for number in range(first, calls, threads):
            began = time.perf_counter()
            client.call("work", number, USUAL_S, SLOW_S, SLOW_PART, place)
            took.append(time.perf_counter() - began)
            time.sleep(0.005)

    running = [threading.Thread(target=some, args=(first,)) for first in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sorted(took)


def row(name: str, took: list[float], copies: int) -> str:
    """A line of the table."""

    def at(part: float) -> str:
        return f"{1000 * took[min(int(part * len(took)), len(took) - 1)]:.0f}"

    return f"| {name} | {at(0.5)} | {at(0.95)} | {at(0.99)} | {1000 * took[-1]:.0f} | {copies} |"


def main(arguments: Any = None) -> None:
    import tempfile

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=4)
    options = parser.parse_args(arguments)
    with LocalCluster(3, slots=4) as cluster, cluster.client() as client:
        client.node().register(work, idempotent=True)
        with tempfile.TemporaryDirectory() as place:  # starts the workers
            measure(client, 60, 12, place)
        print(f"{options.calls} calls, {100 * SLOW_PART:g} % of them slow; milliseconds")
        print("| | median | 95 % | 99 % | slowest | second copies |")
        print("| --- | --- | --- | --- | --- | --- |")
        for name, caller in (("without", client), ("`hedge=True`", client.with_options(hedge=True))):
            before = sum(node.finished for node in client.list_nodes())
            with tempfile.TemporaryDirectory() as place:
                took = measure(caller, options.calls, options.threads, place)
            runs = sum(node.finished for node in client.list_nodes()) - before
            print(row(name, took, runs - options.calls), flush=True)


if __name__ == "__main__":
    main()
