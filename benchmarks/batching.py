"""What batching gives, and what it costs: functions with a fixed cost for each run, called with and without `batch`.

    PYTHONPATH=$PWD .venv/bin/python -m benchmarks.batching [--rounds 3] [--docs]

A gateway and one node as processes; the functions run in a worker process of the node, this process is the client.
"""

from __future__ import annotations

import argparse
import os
import re
import statistics
import time
from collections.abc import Callable
from datetime import date
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

from easyremote import Client
from easyremote.cluster import LocalCluster

DOCS = Path(__file__).parent.parent / "docs" / "batching.md"
MARKS = re.compile(r"(<!-- figures: begin[^\n]*-->\n\n).*?(\n<!-- figures: end -->)", re.DOTALL)

BATCH = 32
FEATURES = 64


def forest() -> Callable[[list[Any]], list[Any]]:
    """A random forest of 100 trees: about 3 ms a run, whether for one row or for 32."""
    from sklearn.ensemble import RandomForestClassifier  # type: ignore[import-untyped]

    rng = np.random.default_rng(1)
    rows = rng.normal(size=(2000, FEATURES))
    model = RandomForestClassifier(100, random_state=1).fit(rows, rows[:, 0] > 0)

    def predict(rows: list[Any]) -> list[Any]:
        import numpy as np

        return model.predict_proba(np.stack(rows))[:, 1].tolist()

    return predict


def network() -> Callable[[list[Any]], list[Any]]:
    """Three dense layers of 2,048: reading the weights costs as much as using them for a few dozen rows."""
    rng = np.random.default_rng(1)
    sizes = (FEATURES, 2048, 2048, 10)
    layers = [rng.normal(size=pair).astype(np.float32) for pair in pairwise(sizes)]

    def predict(rows: list[Any]) -> list[Any]:
        import numpy as np

        values = np.stack(rows).astype(np.float32)
        for layer in layers:
            values = np.maximum(values @ layer, 0)
        return values.argmax(axis=1).tolist()

    return predict


def device() -> Callable[[list[Any]], list[Any]]:
    """Stands for a model on a device of its own: 10 ms a run, and 0.1 ms for each row."""

    def predict(rows: list[Any]) -> list[Any]:
        import time

        time.sleep(0.010 + 0.0001 * len(rows))
        return [0] * len(rows)

    return predict


MODELS = {"random forest (sklearn)": forest, "dense network (numpy)": network, "10 ms a run (sleeps)": device}


def single(predict: Callable[[list[Any]], list[Any]]) -> Callable[[Any], Any]:
    return lambda row: predict([row])[0]


def throughput(client: Client, name: str, rows: list[Any]) -> float:
    """Calls a second with as many open at once as there are rows."""
    began = time.perf_counter()
    for call in [client.submit(name, row) for row in rows]:
        call.result()
    return len(rows) / (time.perf_counter() - began)


def one_by_one(client: Client, name: str, rows: list[Any]) -> float:
    """The median of how long a call takes that is alone, in milliseconds."""
    taken: list[float] = []
    for row in rows:
        began = time.perf_counter()
        client.call(name, row)
        taken.append(time.perf_counter() - began)
    return 1000 * statistics.median(taken)


def now_and_then(client: Client, name: str, rows: list[Any], per_s: float) -> float:
    """The same for calls that come at random moments, so many a second."""
    rng = Random(1)
    began, ended = dict[Any, float](), dict[Any, float]()
    for row in rows:
        time.sleep(rng.expovariate(per_s))
        call = client.submit(name, row)
        began[call] = time.perf_counter()
        call.add_done_callback(lambda call: ended.__setitem__(call, time.perf_counter()))
    for call in began:
        call.result()
    while len(ended) < len(began):
        time.sleep(0.001)
    return 1000 * statistics.median(ended[call] - at for call, at in began.items())


def measure(rounds: int) -> dict[str, dict[str, list[float]]]:
    """Figures by model and by what was measured, with and without batching."""
    rng = np.random.default_rng(2)
    rows = [row.astype(np.float32) for row in rng.normal(size=(1024, FEATURES))]
    found: dict[str, dict[str, list[float]]] = {}
    with LocalCluster(1, slots=1) as cluster, cluster.client() as client:
        node = client.node(*cluster.node_ids)
        for title, make in MODELS.items():
            predict = make()
            node.register(single(predict), name=f"{title}, single")
            node.register(predict, name=f"{title}, batched", batch=BATCH, batch_wait="5ms")
        for number in range(rounds):
            for title in MODELS:
                figures = found.setdefault(title, {})
                for how in ("single", "batched"):
                    name = f"{title}, {how}"
                    client.call(name, rows[0])
                    many = rows if how == "batched" else rows[:256]
                    figures.setdefault(f"{how} calls/s", []).append(throughput(client, name, many))
                    one_by_one(client, name, rows[:10])
                    figures.setdefault(f"{how} alone", []).append(one_by_one(client, name, rows[:40]))
                    figures.setdefault(f"{how} 20/s", []).append(now_and_then(client, name, rows[:60], 20.0))
            print(f"round {number + 1} of {rounds}", flush=True)
    return found


def report(found: dict[str, dict[str, list[float]]], rounds: int) -> str:
    lines = [
        "| function | calls/s, single | `batch=32` | gain | one by one, single | `batch=32` | 20 a second, single | `batch=32` |",
        "| --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for title, figures in found.items():
        medians = {name: statistics.median(values) for name, values in figures.items()}
        single_s, batched_s = medians["single calls/s"], medians["batched calls/s"]
        times = (medians[f"{how} {load}"] for load in ("alone", "20/s") for how in ("single", "batched"))
        cells = [f"{single_s:,.0f}", f"{batched_s:,.0f}", f"{batched_s / single_s:.1f} ×"]
        lines.append(" | ".join(["| " + title, *cells, *(f"{ms:.1f} ms" for ms in times)]) + " |")
    lines += ["", f"Medians of {rounds} rounds, {os.cpu_count()} cores, {date.today().isoformat()}."]
    return "\n".join(lines) + "\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--docs", action="store_true", help="write the figures into docs/batching.md")
    options = parser.parse_args()
    text = report(measure(options.rounds), options.rounds)
    print(text)
    if options.docs:
        DOCS.write_text(MARKS.sub(lambda found: found[1] + text + found[2], DOCS.read_text()))


if __name__ == "__main__":
    main()
