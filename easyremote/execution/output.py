"""Text that a call prints, gathered so that a chatty function doesn't send an event a line."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

FLUSH_AFTER_S = 0.05
FLUSH_BYTES = 8 * 1024
MAX_PROGRESS_TEXT = 2000
"""Longest text beside a progress bar, in characters."""

MAX_TEXT = 32 * 1024
"""Longest text in one event, in characters."""

_WRITE_CHARACTERS = 1024 * 1024
"""A longer text is taken in parts, so that no copy of it is made as a whole."""


def wire_text(text: str, limit: int | None = None) -> str:
    """Text that a frame can carry: without lone surrogates (from undecodable file names, say), and not longer than `limit`."""
    return text[:limit].encode("utf-8", "backslashreplace").decode()


class OutputBuffer:
    """Holds text for at most `FLUSH_AFTER_S` or `FLUSH_BYTES`; what comes after a pause goes out at once.

    `send(is_stderr, text)` may block. Safe from any thread; someone must call `flush_due` now and then.
    """

    def __init__(self, send: Callable[[bool, str], None], due: Callable[[], None] | None = None) -> None:
        """`due` is called where `flush_due` finds nothing to send."""
        self._send = send
        self._due = due
        self._lock = threading.RLock()
        self._pending: list[tuple[bool, list[str]]] = []
        self._size = 0
        self._flushed_at = 0.0
        self._is_sending = False

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing that must leave before what comes next: text that another thread is sending counts."""
        return not self._pending and not self._is_sending

    def write(self, is_stderr: bool, text: str) -> None:
        if len(text) > _WRITE_CHARACTERS:
            for start in range(0, len(text), _WRITE_CHARACTERS):
                self.write(is_stderr, text[start : start + _WRITE_CHARACTERS])
            return
        if not text.isascii():
            text = wire_text(text)
        with self._lock:
            if self._pending and self._pending[-1][0] == is_stderr:
                self._pending[-1][1].append(text)
            else:
                self._pending.append((is_stderr, [text]))
            self._size += len(text)
            if self._size >= FLUSH_BYTES or (text.endswith(("\n", "\r")) and self._is_idle()):
                self.flush()

    def _is_idle(self) -> bool:
        return time.monotonic() - self._flushed_at > FLUSH_AFTER_S

    def flush_due(self, send: Callable[[bool, str], None] | None = None) -> None:
        """`send` instead of the usual one where the caller must not wait. Does nothing while another thread sends."""
        if not self._pending and self._due is not None:
            self._due()
        if (
            not self._pending
            or time.monotonic() - self._flushed_at <= FLUSH_AFTER_S
            or not self._lock.acquire(blocking=False)
        ):
            return
        try:
            self.flush(send)
        finally:
            self._lock.release()

    def flush(self, send: Callable[[bool, str], None] | None = None) -> None:
        with self._lock:
            self._is_sending = True
            try:
                pending, self._pending, self._size = self._pending, [], 0
                self._flushed_at = time.monotonic()
                for is_stderr, texts in pending:
                    text = "".join(texts)
                    for start in range(0, len(text), MAX_TEXT):
                        (send or self._send)(is_stderr, text[start : start + MAX_TEXT])
            finally:
                self._is_sending = False
