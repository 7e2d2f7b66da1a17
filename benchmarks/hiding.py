"""How long others on a machine see an invitation that was typed as an argument. `/proc/PID/cmdline` of `easyremote join er1:...`
is read over and over, from its start until the invitation isn't in it any more.

    python -m benchmarks.hiding
    python -m benchmarks.hiding --starts 100

Printed are the median and the range. Needs Linux.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SECRET = "a1B2c3D4" * 40
PAUSE_S = 0.0005


def seen_s(folder: str) -> float:
    """Seconds from the start until the invitation is last seen. It is none, so the command ends by itself."""
    own = {f"EASYREMOTE_{name}_DIR": folder for name in ("RUNTIME", "STATE", "CONFIG")}
    command = [sys.executable, "-m", "easyremote", "join", f"er1:{SECRET}"]
    quiet = subprocess.DEVNULL
    began = last = time.perf_counter()
    with subprocess.Popen(command, stdin=quiet, stdout=quiet, stderr=quiet, env=os.environ | own) as process:
        arguments = Path(f"/proc/{process.pid}/cmdline")
        while process.poll() is None:
            text = arguments.read_bytes()
            if SECRET.encode() in text:
                last = time.perf_counter()
            elif text:
                break
            time.sleep(PAUSE_S)
        process.kill()
    return last - began


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=20)
    starts = parser.parse_args().starts
    with tempfile.TemporaryDirectory() as folder:
        seen_s(folder)  # bytecode is made, and files are in memory
        spans = [seen_s(folder) for _ in range(starts)]
    ms = [round(1000 * span) for span in (statistics.median(spans), min(spans), max(spans))]
    print(f"seen for {ms[0]} ms (median of {starts} starts; {ms[1]} to {ms[2]} ms)")


if __name__ == "__main__":
    main()
