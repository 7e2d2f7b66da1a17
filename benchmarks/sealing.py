"""What sealing costs: the same calls with it and without, on one host.

    python -m benchmarks.sealing
    python -m benchmarks.sealing --repeats 5 --mib 64

Sealing is forced by EASYREMOTE_SEAL=1; between machines it is the same work. The best of the repeats counts: other programs
only make it slower.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from typing import Any

import numpy as np

from easyremote.cluster import LocalCluster

NO_OPS, TASKS = 1000, 10_000


def same(value: Any) -> Any:
    return value


def measure(is_sealed: bool, mib: int) -> dict[str, float]:
    """Seconds, by row."""
    os.environ["EASYREMOTE_SEAL"] = "1" if is_sealed else "0"
    with LocalCluster(1, slots=4) as cluster, cluster.client() as client:
        client.node(*cluster.node_ids).register(same)
        array = np.random.default_rng(1).random(mib * 2**17)
        client.call("same", array[:1])
        for _ in range(50):
            client.call("same", 0)
        assert (client._connection.sealing is not None) is is_sealed
        found: dict[str, float] = {}
        began = time.perf_counter()
        for number in range(NO_OPS):
            client.call("same", number)
        found["a no-op, one after another"] = (time.perf_counter() - began) / NO_OPS
        began = time.perf_counter()
        for call in [client.submit("same", number) for number in range(2000)]:
            call.result()
        found["2,000 calls in flight"] = time.perf_counter() - began
        began = time.perf_counter()
        assert sum(client.map("same", range(TASKS))) == sum(range(TASKS))
        found["a map of 10,000"] = time.perf_counter() - began
        client.call("same", array)
        began = time.perf_counter()
        assert client.call("same", array).shape == array.shape
        found[f"an echo of {mib} MiB"] = time.perf_counter() - began
        return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--mib", type=int, default=64)
    arguments = parser.parse_args()
    os.environ.setdefault("EASYREMOTE_CONFIG_DIR", tempfile.mkdtemp())  # keys of its own
    rounds = [[measure(sealed, arguments.mib) for sealed in (False, True)] for _ in range(arguments.repeats)]
    print(f"{'':32}{'in clear':>12}{'sealed':>12}")
    for row in rounds[0][0]:
        best = [min(found[side][row] for found in rounds) for side in (0, 1)]
        print(f"{row:32}" + "".join(f"{1000 * seconds:9.2f} ms" for seconds in best))


if __name__ == "__main__":
    main()
