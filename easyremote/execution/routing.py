"""Prints of functions that run in threads of this process go to their calls, everyone else's where they always went."""

from __future__ import annotations

import sys
import threading
from typing import Any

from easyremote.execution.context import current


class _Router:
    """Stands in for sys.stdout or sys.stderr while a node serves in this process."""

    def __init__(self, original: Any, is_stderr: bool) -> None:
        self._original = original
        self._is_stderr = is_stderr

    def write(self, text: str) -> int:
        emitter = current.get()
        if emitter is None:
            return self._original.write(text)
        emitter.output(self._is_stderr, text)
        return len(text)

    def writelines(self, lines: Any) -> None:
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        if current.get() is None:
            self._original.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._original, name)


_lock = threading.Lock()
_users = 0


def install() -> None:
    """Begin routing. Call `uninstall` as often."""
    global _users
    with _lock:
        _users += 1
    ensure()


def ensure() -> None:
    """Route again where somebody has replaced the streams since; called before each function runs."""
    if not isinstance(sys.stdout, _Router):
        sys.stdout = _Router(sys.stdout, is_stderr=False)
    if not isinstance(sys.stderr, _Router):
        sys.stderr = _Router(sys.stderr, is_stderr=True)


def uninstall() -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            if isinstance(sys.stdout, _Router):
                sys.stdout = sys.stdout._original
            if isinstance(sys.stderr, _Router):
                sys.stderr = sys.stderr._original
