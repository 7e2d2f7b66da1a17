"""Text that a call prints, gathered so that a chatty function doesn't send an event a line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FLUSH_AFTER_S = 0.05
FLUSH_BYTES = 8 * 1024
MAX_TEXT = 32 * 1024
"""Longest text in one event, in characters."""


class OutputBuffer:
    """Holds text for at most `FLUSH_AFTER_S` or `FLUSH_BYTES`; what comes after a pause goes out at once.

    `send(is_stderr, text)` may block. Safe from any thread; someone must call `flush_due` now and then.
    """

    def __init__(self, send: Callable[[bool, str], None]) -> None:
        self._send = send
        self._lock = threading.RLock()
        self._pending: list[tuple[bool, str]] = []
        self._size = 0
        self._flushed_at = 0.0

    def write(self, is_stderr: bool, text: str) -> None:
        with self._lock:
            if self._pending and self._pending[-1][0] == is_stderr:
                self._pending[-1] = (is_stderr, self._pending[-1][1] + text)
            else:
                self._pending.append((is_stderr, text))
            self._size += len(text)
            idle = time.monotonic() - self._flushed_at > FLUSH_AFTER_S
            if self._size >= FLUSH_BYTES or (idle and text.endswith(("\n", "\r"))):
                self.flush()

    def flush_due(self) -> None:
        if self._pending and time.monotonic() - self._flushed_at > FLUSH_AFTER_S:
            self.flush()

    def flush(self) -> None:
        with self._lock:
            pending, self._pending, self._size = self._pending, [], 0
            self._flushed_at = time.monotonic()
            for is_stderr, text in pending:
                for start in range(0, len(text), MAX_TEXT):
                    self._send(is_stderr, text[start : start + MAX_TEXT])
