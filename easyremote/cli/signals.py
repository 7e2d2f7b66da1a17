"""How a process that serves is told to stop: Ctrl-C, SIGTERM, a terminal that closes."""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))


class StopSignals:
    """Takes the signals over for a `with` block in the main thread.

    Before `ready()` a signal ends the process at once, with 128 + its number as the exit code. After it, `wait` returns its
    number, and a second signal does what it would do anywhere else. A signal that was ignored stays ignored (`nohup`, a job in
    the background).

    The interpreter itself writes the number of a signal into a socket: a handler in Python that sets a `threading.Event` could
    interrupt that very event's `wait` while it holds the lock, and would then wait for itself.
    """

    def __init__(self, signals: tuple[signal.Signals, ...] = _SIGNALS) -> None:
        self._watched = [number for number in signals if signal.getsignal(number) is not signal.SIG_IGN]
        self._previous: dict[int, Any] = {}
        self._is_ready = False
        self._number = 0

    def __enter__(self) -> StopSignals:
        self._receiver, self._sender = socket.socketpair()
        self._sender.setblocking(False)
        self._previous_fd = signal.set_wakeup_fd(self._sender.fileno(), warn_on_full_buffer=False)
        for number in self._watched:
            self._previous[number] = signal.signal(number, self._told)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._give_back()
        signal.set_wakeup_fd(self._previous_fd)
        self._receiver.close()
        self._sender.close()

    def ready(self) -> None:
        """What was to be started has started: from now on it is `wait` that a signal ends."""
        self._is_ready = True

    def fileno(self) -> int:
        """Readable when a signal may have come: look with `was_told`."""
        return self._receiver.fileno()

    def was_told(self, within_s: float = 0.0) -> bool:
        """Whether a signal to stop has come, or comes within so many seconds."""
        self._receiver.settimeout(within_s)
        with contextlib.suppress(TimeoutError, BlockingIOError):
            for number in self._receiver.recv(256):
                if number in self._watched and not self._number:
                    self._number = number
        return self._number != 0

    def wait(self, meanwhile: Callable[[], None] = lambda: None, every_s: float = 0.5) -> int:
        """Until a signal comes, with a call of `meanwhile` now and then. Returns its number."""
        while not self.was_told(every_s):
            meanwhile()
        self._give_back()
        return self._number

    def _told(self, number: int, _frame: FrameType | None) -> None:
        if not self._is_ready:
            raise SystemExit(128 + number)

    def _give_back(self) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous.clear()
