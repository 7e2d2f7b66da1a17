"""Prints of functions that run in threads of this process go to their calls, everyone else's where they always went; a debugger,
which would stop all of them, is refused to them."""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Callable
from typing import Any

from easyremote.errors import UsageError
from easyremote.execution import tqdm_bars
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


class _Hook:
    """Stands in for sys.breakpointhook."""

    def __init__(self, original: Callable[..., Any]) -> None:
        self.original = original

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if current.get() is not None and not os.environ.get("PYTHONBREAKPOINT"):
            raise UsageError(
                "breakpoint() in a function of the node's own process would stop the node for everybody. Register it with "
                "isolation='process', or ship it from a client, and the debugger opens where the caller is; with "
                "PYTHONBREAKPOINT=pdb.set_trace in the node's environment it opens at the node's terminal"
            )
        return self.original(*args, **kwargs)


_lock = threading.Lock()
_users = 0


def install() -> None:
    """Begin routing. Call `uninstall` as often."""
    global _users
    with _lock:
        _users += 1
    tqdm_bars.install(lambda stream: isinstance(stream, _Router), has_widgets=True)
    ensure()


def ensure() -> None:
    """Route again where somebody has replaced the streams since; called before each function runs."""
    if not isinstance(sys.stdout, _Router):
        sys.stdout = _Router(sys.stdout, is_stderr=False)
    if not isinstance(sys.stderr, _Router):
        sys.stderr = _Router(sys.stderr, is_stderr=True)
    if not isinstance(sys.breakpointhook, _Hook):
        sys.breakpointhook = _Hook(sys.breakpointhook)


def uninstall() -> None:
    global _users
    with _lock:
        _users -= 1
        if _users == 0:
            if isinstance(sys.stdout, _Router):
                sys.stdout = sys.stdout._original
            if isinstance(sys.stderr, _Router):
                sys.stderr = sys.stderr._original
            if isinstance(sys.breakpointhook, _Hook):
                sys.breakpointhook = sys.breakpointhook.original
