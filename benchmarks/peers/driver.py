"""Measures one system in one round, in a process of its own and in the interpreter that the system is installed in.

python -m benchmarks.peers.driver CONTENDER BEGAN WORKLOAD...

BEGAN is the monotonic clock of the moment before this process was started. It prints JSON, a line each: {"first_result_s": …,
"version": …} after the first call, whereupon it waits for a line, so that its parent can look at the processes at rest; then for
each workload {"workload": …, "figures": {…}} or {"workload": …, "reason": …}; at the end {"stopped": true}. Before the first
result only the standard library is imported, and what the system itself imports.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import time
from typing import Any, TextIO

from benchmarks.peers import CONTENDERS
from benchmarks.workloads import WORKLOADS, System, Unable


def main(arguments: list[str]) -> None:
    name, began, *workloads = arguments
    report = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what systems print isn't the report
    contender = CONTENDERS[name]
    module, _, kind = contender.entry.partition(":")
    system: System = getattr(importlib.import_module(module), kind)(**contender.options)
    try:
        system.start()
        system.noop()
        _say(report, {"first_result_s": time.monotonic() - float(began), "version": system.version()})
        sys.stdin.readline()
        for workload in workloads:
            _say(report, {"workload": workload, **_figures(system, workload)})
    finally:
        system.stop()
    _say(report, {"stopped": True})


def _figures(system: System, workload: str) -> dict[str, Any]:
    """What it gave. An error is the reason in the table's cell; the next workload has its own chance."""
    try:
        return {"figures": WORKLOADS[workload](system)}
    except Unable as error:
        return {"reason": str(error)}
    except Exception as error:
        import traceback

        traceback.print_exc()
        text = " ".join(str(error).split())
        return {"reason": f"{type(error).__name__}: {text}"[:200]}


def _say(report: TextIO, message: dict[str, Any]) -> None:
    report.write(json.dumps(message) + "\n")
    report.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
