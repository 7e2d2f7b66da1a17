"""What remote code asks a person: `input()`, `getpass.getpass()` and `breakpoint()` in a worker, answered where its call is
waited for.

Where nobody can answer, they raise EOFError at once, as Python's own do at the end of standard input, and say why.
"""

from __future__ import annotations

import builtins
import io
import os
import queue
import sys
import threading
import types
from collections.abc import Callable
from typing import Any, Protocol

from easyremote.execution.output import wire_text
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_PROMPT = 32 * 1024
"""Longest prompt, in characters; of a longer one the end is shown."""

NOBODY = (
    "nobody is there to answer: input(), getpass() and breakpoint() work in calls that somebody waits for, which are cells of "
    "%%remote and client.call; not in the background, in a job, a map, a batch or a hedged call"
)
_CHILD = "a process that the function has forked can't ask anything; ask before, and hand the answer on"

_DEBUGGERS = frozenset({"bdb", "code"})
"""Modules whose classes run what is typed."""


class Asking:
    """Questions of one call, one at a time. `send(event)` puts an event on its way."""

    def __init__(self, send: Callable[[pb.Event], None], may_ask: bool, may_run_code: bool) -> None:
        """`may_run_code`: whoever answers may have code run here, as a debugger does with what is typed."""
        self._send = send
        self._may_ask = may_ask
        self._may_run_code = may_run_code
        self._lock = threading.Lock()
        self._count = 0
        self._replies: queue.SimpleQueue[pb.Reply] = queue.SimpleQueue()
        self._pid = os.getpid()
        self.refusal = ""  # why the last one had no answer

    def check(self, is_debugger: bool = False) -> None:
        """Raises EOFError where nobody can answer, or may."""
        if os.getpid() != self._pid:
            raise EOFError(_CHILD)
        if not self._may_ask:
            raise EOFError(NOBODY)
        if is_debugger and not self._may_run_code:
            raise EOFError("a debugger runs what is typed, and whoever made this call may not run code on this node")

    def ask(self, prompt: str, is_secret: bool = False) -> str:
        """Wait for the answer. Raises EOFError where there is none."""
        self.check(not self._may_run_code and _is_in_debugger())
        with self._lock:
            self._count += 1
            asked = pb.Asked(ask_id=self._count, prompt=wire_text(prompt[-MAX_PROMPT:]), is_secret=is_secret)
            self._send(pb.Event(asked=asked))
            while (reply := self._replies.get()).ask_id != self._count:
                pass  # an interrupt came between a question and its answer
        self.refusal = reply.refusal
        if reply.refusal:
            raise EOFError(reply.refusal)
        return reply.text

    def replied(self, reply: pb.Reply) -> None:
        """From any thread."""
        self._replies.put(reply)


def _is_in_debugger() -> bool:
    frame: types.FrameType | None = sys._getframe(1)
    while frame is not None:
        if frame.f_globals.get("__name__") in _DEBUGGERS:
            return True
        frame = frame.f_back
    return False


class Asker(Protocol):
    """What runs calls here."""

    def asking(self) -> Asking | None:
        """Of the call that runs now."""
        ...


class _Input(io.TextIOBase):
    """sys.stdin of a worker: each line is asked for."""

    encoding = "utf-8"  # type: ignore[assignment]
    errors = "replace"  # type: ignore[assignment]
    name = "<stdin>"

    def __init__(self, ask: Callable[[str, bool], str]) -> None:
        self._ask = ask

    def readable(self) -> bool:
        return True

    def readline(self, size: int | None = -1, /) -> str:  # type: ignore[override]
        return self._ask("", False) + "\n"

    def read(self, size: int | None = -1, /) -> str:
        raise EOFError("the standard input of remote code is read line by line: input(), or sys.stdin.readline()")

    def fileno(self) -> int:
        return 0

    def isatty(self) -> bool:
        return False


def install(asker: Asker) -> None:
    """Make this process ask whoever waits for the call."""

    def asking() -> Asking:
        found = asker.asking()
        if found is None:
            raise EOFError("no call runs here, so nobody is there to answer")
        return found

    def ask(prompt: str, is_secret: bool) -> str:
        return asking().ask(prompt, is_secret)

    def remote_input(prompt: object = "", /) -> str:
        """Ask whoever waits for this call, and return the line that they type."""
        return ask(str(prompt), False)

    def remote_getpass(prompt: str = "Password: ", stream: Any = None, **_: Any) -> str:
        """The same, and what is typed isn't shown."""
        return ask(str(prompt), True)

    def hook(*args: Any, **kwargs: Any) -> Any:
        """What `breakpoint()` does."""
        if os.environ.get("PYTHONBREAKPOINT", ""):
            return sys.__breakpointhook__(*args, **kwargs)
        questions = asking()
        questions.check(is_debugger=True)
        from easyremote.execution.debugging import Debugger

        return Debugger(lambda: questions.refusal).stop_at(sys._getframe(1))

    import getpass

    builtins.input = remote_input
    getpass.getpass = remote_getpass
    sys.stdin = sys.__stdin__ = _Input(ask)
    sys.breakpointhook = hook
