"""Everything that a worker process writes to its file descriptors 1 and 2 becomes output of the running call, in order.

Python's own prints go straight to the call's buffer. What C code and child processes write arrives through pipes; the pipes are
emptied before each print and each event, so that the order of things is kept, and by a thread in between.
"""

from __future__ import annotations

import codecs
import io
import os
import select
import threading
import time
from collections.abc import Callable

from easyremote.execution.output import FLUSH_AFTER_S, OutputBuffer

_READ_BYTES = 64 * 1024


class Capture:
    """Owns the read ends of both pipes."""

    def __init__(self, stdout_fd: int, stderr_fd: int) -> None:
        self._fds: tuple[int, ...] = (stdout_fd, stderr_fd)
        self._decoders = [codecs.getincrementaldecoder("utf-8")("replace") for _ in self._fds]
        self._lock = threading.RLock()
        self.buffer = None
        self.due: Callable[[], None] | None = None  # of the running call, what it has to say now and then
        for fd in self._fds:
            os.set_blocking(fd, False)
        self._poller = select.poll()
        for fd in self._fds:
            self._poller.register(fd, select.POLLIN)
        threading.Thread(target=self._pump, name="easyremote-output", daemon=True).start()

    @property
    def has_waiting(self) -> bool:
        """Whether something lies in the pipes. For the main thread. What the other thread is taking out is in the buffer then."""
        with self._lock:
            return bool(self._poller.poll(0))

    @property
    def buffer(self) -> OutputBuffer | None:
        """Of the running call."""
        return self._buffer

    @buffer.setter
    def buffer(self, buffer: OutputBuffer | None) -> None:
        self._buffer = buffer
        self.is_used = False  # until something comes through the pipes

    def leave(self) -> None:
        """In a process that was forked from the worker: the pipes are its parent's to read, and the lock may be held by a thread
        that isn't here."""
        self._lock = threading.RLock()
        self._fds = ()
        self.buffer = None

    def write(self, is_stderr: bool, text: str) -> None:
        with self._lock:
            self.drain()
            if self.buffer is not None:
                self.buffer.write(is_stderr, text)

    def flush(self) -> None:
        """Send everything that was printed so far."""
        with self._lock:
            self.drain()
            if self.buffer is not None:
                self.buffer.flush()

    def drain(self) -> None:
        """Take what lies in the pipes."""
        with self._lock:
            if not self._poller.poll(0):
                return
            for index, fd in enumerate(self._fds):
                while True:
                    try:
                        data = os.read(fd, _READ_BYTES)
                    except BlockingIOError:
                        break
                    if not data:
                        break
                    self.is_used = True
                    if self.buffer is not None:
                        self.buffer.write(index == 1, self._decoders[index].decode(data))

    def _pump(self) -> None:
        poller = select.poll()
        for fd in self._fds:
            poller.register(fd, select.POLLIN)
        while True:
            poller.poll(FLUSH_AFTER_S * 1000 if self.buffer is not None else 1000)
            with self._lock:
                self.drain()
                if self.buffer is not None:
                    self.buffer.flush_due()
            due = self.due
            if due is not None:
                due()
            time.sleep(0.005)  # let a fast writer fill the pipe instead of waking for every line


class Stream(io.TextIOBase):
    """sys.stdout or sys.stderr of a worker."""

    encoding = "utf-8"  # type: ignore[assignment]
    errors = "replace"  # type: ignore[assignment]

    def __init__(self, fd: int, name: str, write: Callable[[bool, str], None]) -> None:
        self._fd = fd
        self.name = name
        self._write = write
        self.buffer = io.FileIO(fd, "wb", closefd=False)

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        if text:
            self._write(self._fd == 2, text)
        return len(text)

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._fd

    def isatty(self) -> bool:
        return False

    def reconfigure(self, **_: object) -> None:
        """Programs ask for UTF-8 or for line buffering; both are so already."""
