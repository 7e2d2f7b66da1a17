"""What a cell uses of its node while it runs: memory of its process, and of GPUs."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

from easyremote.execution.deaths import peak_bytes
from easyremote.execution.measure import measure_gpus

SAMPLE_S = 0.5


class Meter:
    """`used` tells it when the cell has run."""

    def __init__(self) -> None:
        self._gpus: dict[str, dict[str, Any]] = {}
        self._over = threading.Event()

    @contextlib.contextmanager
    def running(self) -> Iterator[None]:
        """Around the cell. The process's peak begins anew with it, where the system allows that."""
        with contextlib.suppress(OSError), open("/proc/self/clear_refs", "w") as file:
            file.write("5")
        watcher = None
        if measure_gpus():
            watcher = threading.Thread(target=self._watch, name="easyremote-meter", daemon=True)
            watcher.start()
        try:
            yield
        finally:
            self._over.set()
            if watcher is not None:
                watcher.join()
                self._sample()

    def used(self) -> dict[str, Any]:
        """`peak_memory_bytes` of the process, 0 where that isn't known; `gpus`: name, index and most memory of those that it, and
        what it has started, used."""
        return {"peak_memory_bytes": peak_bytes(os.getpid()), "gpus": list(self._gpus.values())}

    def _watch(self) -> None:
        while not self._over.wait(SAMPLE_S):
            self._sample()

    def _sample(self) -> None:
        for gpu in measure_gpus():
            if gpu.own_memory_bytes:
                known = self._gpus.setdefault(
                    gpu.uuid or str(gpu.index), {"name": gpu.name, "index": gpu.index, "peak_memory_bytes": 0}
                )
                known["peak_memory_bytes"] = max(known["peak_memory_bytes"], gpu.own_memory_bytes)
