"""How fast jobs are accepted, run and read back: `python -m benchmarks.jobs`.

A gateway with its journal in a folder of the disk (not in memory: FOLDER to choose one), a node and clients as processes of this
machine. "Accepted" means that it is on disk: the journal is synced before a job is acknowledged.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from easyremote import Client, ComputeNode, Job

TOKEN = "a-token-of-the-benchmark"

GATEWAY = f"""
import sys
from easyremote import Server
server = Server(port=int(sys.argv[1]), token="{TOKEN}", journal=sys.argv[2]).start_background()
print(server.address, flush=True)
server.wait()
"""


def start_gateway(folder: Path, port: int = 0) -> tuple[subprocess.Popen[str], str]:
    command = [sys.executable, "-c", GATEWAY, str(port), str(folder / "jobs.sqlite")]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    return process, process.stdout.readline().strip()


def one_by_one(client: Client, count: int) -> float:
    began = time.perf_counter()
    for number in range(count):
        client.submit_job("f", number)
    return count / (time.perf_counter() - began)


def from_threads(client: Client, count: int, threads: int) -> float:
    def work() -> None:
        for number in range(count // threads):
            client.submit_job("f", number)

    running = [threading.Thread(target=work) for _ in range(threads)]
    began = time.perf_counter()
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return count / (time.perf_counter() - began)


def together(client: Client, count: int) -> float:
    began = time.perf_counter()
    client.submit_jobs("f", range(count))
    return count / (time.perf_counter() - began)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "folder", nargs="?", type=Path, help="where the journal is to be; a temporary folder without it"
    )
    parser.add_argument("--jobs", type=int, default=10_000)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=options.folder) as name:
        measure(Path(name), options.jobs)


def measure(folder: Path, count: int) -> None:
    process, address = start_gateway(folder)
    try:
        with ComputeNode(address, "first", token=TOKEN) as node, Client(address, token=TOKEN) as client:
            node.register(lambda number: number, name="f")
            client.submit_job("f", 1).result()  # the journal is made with the first
            waiting = client.with_options(node="later")
            print(f"accepted one by one        {one_by_one(waiting, 500):10,.0f} jobs/s")
            print(f"accepted from 32 threads   {from_threads(waiting, count // 4, 32):10,.0f} jobs/s")
            print(f"accepted together          {together(waiting, count):10,.0f} jobs/s")
        process.kill()
        process.communicate()
        queued = 500 + count // 4 // 32 * 32 + count
        began = time.perf_counter()
        process, address = start_gateway(folder, int(address.rpartition(":")[2]))
        print(f"ready again                {time.perf_counter() - began:10.2f} s with {queued:,} queued jobs")
        with ComputeNode(address, "later", token=TOKEN, slots=8) as node, Client(address, token=TOKEN) as client:
            node.register(lambda number: number, name="f")
            began = time.perf_counter()
            newest: Job[int] = client.job(client.jobs(limit=1)[0].id)
            newest.result()
            print(f"run to their ends          {queued / (time.perf_counter() - began):10,.0f} jobs/s")
            began = time.perf_counter()
            found = client.jobs()
            print(f"listed                     {len(found) / (time.perf_counter() - began):10,.0f} jobs/s")
            node.register(lambda lines: [print("a line of output", i) for i in range(lines)] and None, name="talk")
            job = client.submit_job("talk", 100_000)
            began = time.perf_counter()
            while job.status().ended is None:
                time.sleep(0.05)
            print(f"output journalled          {100_000 / (time.perf_counter() - began):10,.0f} lines/s")
    finally:
        process.kill()
        process.communicate()


if __name__ == "__main__":
    main()
