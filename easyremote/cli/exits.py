"""What a command's exit code says, and how an error is told."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import NoReturn

from easyremote.errors import (
    AuthError,
    CallCancelled,
    CallLost,
    DeadlineExceeded,
    EasyRemoteError,
    Unavailable,
    UsageError,
    WorkerCrashed,
)

REMOTE = 1
USAGE = 2
UNAVAILABLE = 3
REFUSED = 4
INTERRUPTED = 130
PIPE_CLOSED = 141  # 128 + SIGPIPE: what a program that doesn't handle it would end with

_CODES: tuple[tuple[type[EasyRemoteError], int], ...] = (  # the first that fits
    (AuthError, REFUSED),
    (UsageError, USAGE),
    (WorkerCrashed, REMOTE),
    (Unavailable, UNAVAILABLE),
    (CallLost, UNAVAILABLE),
    (CallCancelled, UNAVAILABLE),
    (DeadlineExceeded, UNAVAILABLE),
)


def code_of(error: EasyRemoteError) -> int:
    """The exit code for an error; REMOTE for what is nobody's mistake here."""
    return next((code for kind, code in _CODES if isinstance(error, kind)), REMOTE)


def fail(message: str, code: int) -> NoReturn:
    """Say what went wrong on standard error, and end."""
    tell(f"{paint('error:', '1;31')} {message}")
    raise SystemExit(code)


def tell(message: str) -> None:
    """A line on standard error."""
    with contextlib.suppress(BrokenPipeError):
        print(message, file=sys.stderr, flush=True)


def paint(text: str, style: str) -> str:
    """In colour where standard error is a terminal that wants it. `style`: the numbers of the ANSI sequence."""
    plain = not sys.stderr.isatty() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb"
    return text if plain else f"\x1b[{style}m{text}\x1b[0m"


@contextlib.contextmanager
def reported() -> Iterator[None]:
    """Errors of the block end the process with their message and code, without a traceback of this program."""
    try:
        yield
    except EasyRemoteError as error:
        fail(error.message, code_of(error))
    except KeyboardInterrupt:
        raise SystemExit(INTERRUPTED) from None
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)  # the interpreter flushes once more at its end
        raise SystemExit(PIPE_CLOSED) from None
