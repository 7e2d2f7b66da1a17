"""`%debug` after an error of remote code opens a debugger over there. The plain function is `RemoteError.debug`."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

from easyremote.errors import RemoteError, UsageError


def last_remote_error() -> RemoteError | None:
    """The notebook's last error, where it was raised by remote code."""
    error = getattr(sys, "last_value", None)
    remote = error if isinstance(error, RemoteError) else getattr(error, "__cause__", None)
    return remote if isinstance(remote, RemoteError) and remote.examination is not None else None


def debug_last() -> None:
    """Open a debugger where the notebook's last error was raised. Raises UsageError where remote code didn't raise it."""
    error = last_remote_error()
    if error is None:
        raise UsageError("the last error wasn't raised by remote code; %debug is for those of this notebook itself")
    error.debug()


def take_debug(ipython: Any) -> None:
    """Have plain `%debug` do that after a remote error. `give_debug_back` undoes it."""
    give_debug_back(ipython)
    lines = ipython.magics_manager.magics["line"]
    original: Callable[..., Any] | None = lines.get("debug")
    if original is None:
        return

    @functools.wraps(original)
    def debug(line: str = "", cell: str | None = None, **scope: Any) -> Any:
        if not line.strip() and cell is None and last_remote_error() is not None:
            return debug_last()
        return original(line, **scope) if cell is None else original(line, cell, **scope)

    debug.easyremote_original = original  # type: ignore[attr-defined]
    lines["debug"] = debug


def give_debug_back(ipython: Any) -> None:
    """As it was."""
    lines = ipython.magics_manager.magics["line"]
    original = getattr(lines.get("debug"), "easyremote_original", None)
    if original is not None:
        lines["debug"] = original
