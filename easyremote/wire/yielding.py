"""Long copies that let everything else go first."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Callable
from typing import Generic, TypeVar

T = TypeVar("T")

NICENESS = 10
"""How much lower the copying thread's priority is. Small calls of other threads and processes then don't wait for it."""


class YieldingThread(Generic[T]):
    """Runs `work` once in a thread of low priority. `undo(result)` takes it back where whoever waited was interrupted."""

    def __init__(self, work: Callable[[], T], undo: Callable[[T], object]) -> None:
        self._work = work
        self._undo = undo
        self._lock = threading.Lock()
        self._is_unwanted = False
        self._result: list[T] = []
        self._error: BaseException | None = None

    def run(self) -> T:
        """Wait for the result. Raises what the work raised."""
        thread = threading.Thread(target=self._main, name="easyremote-copy", daemon=True)
        try:
            thread.start()
        except RuntimeError:  # the interpreter is ending, and starts no threads any more
            return self._work()
        try:
            thread.join()
        except BaseException:
            with self._lock:
                self._is_unwanted = True
            for result in self._result:
                self._undo(result)
            raise
        if self._error is not None:
            raise self._error
        return self._result[0]

    def _main(self) -> None:
        with contextlib.suppress(OSError, AttributeError):  # Linux knows priorities of single threads
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), os.getpriority(os.PRIO_PROCESS, 0) + NICENESS)
        try:
            result = self._work()
        except BaseException as error:
            self._error = error
            return
        with self._lock:
            if not self._is_unwanted:
                self._result.append(result)
                return
        self._undo(result)
