"""What `client.put` is worth: many calls that share one array, with it in each call and with a ref of it.

    python -m benchmarks.refs                    # 1,000 calls, 64 MiB, 2 nodes
    python -m benchmarks.refs --calls 200 --mib 256

Each call reads one number of every page of the array. A call by itself takes as long as the last line says.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable, Iterable
from typing import Any

import numpy as np

from easyremote.cluster import LocalCluster

WAYS = {
    "one machine": {},
    "as between machines (gRPC)": {"EASYREMOTE_LOCAL_SOCKET": "0", "EASYREMOTE_SHARED_MEMORY": "0"},
}


def look(array: Any, index: int) -> float:
    return float(array[index % 512 :: 512].sum())


def nothing(index: int) -> int:
    return index


def timed(work: Callable[[], Iterable[Any]]) -> tuple[float, int]:
    """Seconds for all of it, and for how many calls."""
    began = time.perf_counter()
    count = sum(1 for _ in work())
    return time.perf_counter() - began, count


def measure(way: dict[str, str], calls: int, plain_calls: int, mib: int) -> None:
    os.environ.update(way)
    try:
        with LocalCluster(2, slots=2) as cluster, cluster.client() as client:
            client.node(*cluster.node_ids).register(look)
            client.node(*cluster.node_ids).register(nothing)
            array = np.arange(mib * 2**17, dtype=np.float64)
            warm = np.zeros(2**17)
            list(client.map("look", [warm] * 50, range(50)))
            list(client.map("nothing", range(50)))
            plain_s, plain_count = timed(lambda: client.map("look", [array] * plain_calls, range(plain_calls)))
            began = time.perf_counter()
            ref = client.put(array)
            put_s = time.perf_counter() - began
            ref_s, ref_count = timed(lambda: client.map("look", [ref] * calls, range(calls)))
            own_s, own_count = timed(lambda: (client.call("nothing", index) for index in range(500)))
            print(f"  the array in each call    {1000 * plain_s / plain_count:9.2f} ms a call   {plain_count:5} calls")
            print(
                f"  a ref of it               {1000 * (ref_s + put_s) / ref_count:9.2f} ms a call   {ref_count:5} calls, "
                f"{1000 * put_s:.0f} ms for put included"
            )
            print(f"  a call of nothing, alone  {1000 * own_s / own_count:9.2f} ms a call")
    finally:
        for name in way:
            del os.environ[name]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=1000, help="that name a ref")
    parser.add_argument("--plain-calls", type=int, default=100, help="that have the array in them")
    parser.add_argument("--mib", type=int, default=64)
    arguments = parser.parse_args()
    for name, way in WAYS.items():
        print(f"{name}: {arguments.mib} MiB, 2 nodes with 2 slots, functions in worker processes")
        measure(way, arguments.calls, arguments.plain_calls, arguments.mib)


if __name__ == "__main__":
    main()
