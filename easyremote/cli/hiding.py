"""Invitations are secrets, and everyone on a machine can read the arguments of its processes. So a command that was given one
starts itself anew at once, with `er1:...` in its place; the arguments come through a pipe, and nobody else has that."""

from __future__ import annotations

import os
import re
import sys

_PIPE = "EASYREMOTE_ARGUMENTS_FD"
_SECRET = re.compile(r"er\d:[\w=+/-]{20,}")  # also within --gateway=er1:…; what reads them in full loads protobuf
_SHOWN = "er1:..."
_MAX_BYTES = 4096
"""What a pipe always takes without a reader (POSIX's PIPE_BUF on Linux; an invitation has some hundred)."""


def hide_invitations() -> None:
    """Returns when this process shows no invitation among its arguments, and `sys.argv` has them all.

    Not on Windows, where `exec` makes another process and others' arguments can't be read without their rights.
    """
    if (pipe := os.environ.pop(_PIPE, None)) is not None:
        with os.fdopen(int(pipe), "rb") as received:
            sys.argv[1:] = [os.fsdecode(argument) for argument in received.read().split(b"\0")]
    elif os.name == "posix" and any(map(_SECRET.search, sys.argv[1:])):
        _start_anew()


def shown(argument: str) -> str:
    """What others may see of it."""
    return _SECRET.sub(_SHOWN, argument)


def _start_anew() -> None:
    given = b"\0".join(map(os.fsencode, sys.argv[1:]))
    is_command = sys.orig_argv[-len(sys.argv) + 1 :] == sys.argv[1:]  # and not a program that calls `main` with its own
    if not is_command or len(given) > _MAX_BYTES:  # more would wait for a reader
        return
    ours, theirs = os.pipe()
    os.write(theirs, given)
    os.close(theirs)
    os.set_inheritable(ours, True)
    os.environ[_PIPE] = str(ours)
    os.execv(sys.executable, [shown(argument) for argument in sys.orig_argv])  # nosec B606 - this very command
