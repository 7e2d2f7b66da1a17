"""Threads for the owner's functions. Not a ThreadPoolExecutor: that one stops working when the interpreter begins to exit,
while a script that serves a node lives on then."""

from __future__ import annotations

import ctypes
import logging
import queue
import sys
import threading
from collections.abc import Callable

from easyremote.execution.context import CallInterrupted

_log = logging.getLogger("easyremote")


class ThreadPool:
    """Starts threads as they are needed, at most `limit`; they are daemons and end with `close`."""

    def __init__(self, limit: int, name: str) -> None:
        self._limit = limit
        self._name = name
        self._jobs: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._count = 0
        self._idle = 0
        if sys.version_info[:3] in ((3, 12, 0), (3, 12, 1)):
            # These two start no thread once a script's last line has run (python/cpython#113964, mended in 3.12.2), while a
            # script that serves a node lives on then.
            for number in range(limit):
                self._start_one(number + 1)
            self._count = self._idle = limit

    def submit(self, job: Callable[[], None]) -> None:
        with self._lock:
            if self._idle > 0:
                self._idle -= 1
            elif self._count < self._limit:
                self._count += 1
                self._start_one(self._count)
        self._jobs.put(job)

    def _start_one(self, number: int) -> None:
        threading.Thread(target=self._work, name=f"{self._name}-{number}", daemon=True).start()

    def expand(self) -> None:
        """One of the threads won't come back soon: allow another."""
        with self._lock:
            self._limit += 1

    def allow(self, limit: int) -> None:
        """Have at least so many."""
        with self._lock:
            self._limit = max(self._limit, limit)

    def close(self) -> None:
        """Threads end when they have nothing to do."""
        for _ in range(self._count):
            self._jobs.put(None)

    def _work(self) -> None:
        while True:
            try:
                job = self._jobs.get()
                if job is None:
                    return
                job()
            except CallInterrupted:
                pass  # came a moment after the call it was meant for
            except BaseException:
                _log.exception("a call's thread failed outside its function")
            with self._lock:
                self._idle += 1


def interrupt(thread_id: int) -> None:
    """Raise CallInterrupted in that thread at its next bytecode. A thread inside C code is interrupted when it comes back."""
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread_id), ctypes.py_object(CallInterrupted))
