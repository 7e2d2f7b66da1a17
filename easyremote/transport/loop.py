"""One background event loop thread a process, shared by everything in it.

Nothing of the user's is patched: calls from a notebook cell, a thread, or another loop all hand their work to this loop.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import os
import sys
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Generic, TypeVar

from easyremote.errors import LocalProtocolError, UsageError

T = TypeVar("T")
M = TypeVar("M")

_LAST_WORDS_S = 0.02
"""So long a loop lives on at its end, in which gRPC tells it how calls ended that were cancelled just now. Where it has closed by
then, gRPC writes a traceback to standard error."""

_process = os.getpid()
"""Kept: asking the system takes longer than all else that handing over a call does."""


def _forked() -> None:
    global _process
    _process = os.getpid()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)


class LoopThread:
    """The thread. It lives while anyone holds it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._holders = 0
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._pid = _process

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The running loop. Raises UsageError in the child of a fork."""
        if self._pid != _process:
            raise UsageError(
                "this process was forked from one that uses EasyRemote, and its connections stayed there; make a new Client "
                "in the child, or start the child with the 'spawn' method"
            )
        if self._loop is None:
            raise LocalProtocolError("the background loop isn't running")
        return self._loop

    @property
    def is_here(self) -> bool:
        """Whether the calling thread is the loop's."""
        return threading.current_thread() is self._thread

    @property
    def is_parents(self) -> bool:
        """Whether this process was forked from the one that the loop runs in. What is open there isn't this one's to close."""
        return self._pid != _process

    def hold(self) -> None:
        """Keep the thread alive until `release`."""
        with self._lock:
            if self._pid != _process:
                self._loop, self._thread, self._holders, self._pid = None, None, 0, _process
            self._holders += 1
            if self._thread is None:
                started = threading.Event()
                self._thread = threading.Thread(target=self._main, args=(started,), name="easyremote-loop", daemon=True)
                self._thread.start()
                started.wait()

    def release(self) -> None:
        """The last one to release stops the thread and waits for its end."""
        with self._lock:
            self._holders -= 1
            if self._holders > 0 or self._thread is None:
                return
            thread, loop = self._thread, self._loop
            self._thread = self._loop = None
        assert loop is not None
        loop.call_soon_threadsafe(loop.stop)
        if thread is not threading.current_thread():
            thread.join()

    def start(self, work: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
        """Run a coroutine on the loop; the future may be waited for in any thread but the loop's own."""
        try:
            loop = self.loop
        except BaseException:
            work.close()
            raise
        return asyncio.run_coroutine_threadsafe(work, loop)

    def run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = None) -> T:
        """Run a coroutine on the loop and wait for its result."""
        if self.is_here:
            work.close()
            raise LocalProtocolError("a blocking call was made from EasyRemote's own loop, which would wait for itself")
        future = self.start(work)
        try:
            return future.result(timeout_s)
        except BaseException:
            future.cancel()
            raise

    def _main(self, started: threading.Event) -> None:
        loop = self._loop = new_event_loop()
        loop.call_soon(started.set)
        run_until_stopped(loop)


class Mailbox(Generic[M]):
    """Hands things from any thread to a function on the shared loop, in order; many in a row make one wake-up."""

    def __init__(self, take: Callable[[list[M]], None]) -> None:
        self._take = take
        self._items: list[M] = []
        self._lock = threading.Lock()
        self._is_scheduled = False

    def post(self, item: M) -> None:
        """Raises UsageError in a forked child, RuntimeError when the loop has ended."""
        loop = shared_loop.loop
        with self._lock:
            self._items.append(item)
            if not self._is_scheduled:
                loop.call_soon_threadsafe(
                    self._empty
                )  # before the flag: an interrupt in between costs a wake-up, not all
                self._is_scheduled = True

    def _empty(self) -> None:
        with self._lock:
            items, self._items = self._items, []
            self._is_scheduled = False
        self._take(items)


def new_event_loop() -> asyncio.AbstractEventLoop:
    """A uvloop where it is installed; it halves the latency of a gRPC message."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop()
    return uvloop.new_event_loop()


def run_until_stopped(loop: asyncio.AbstractEventLoop) -> None:
    """Run the loop in this thread until `loop.stop()`, then end its tasks and close it."""
    asyncio.set_event_loop(loop)
    try:
        loop.run_forever()
    finally:
        _finish(loop)


def _finish(loop: asyncio.AbstractEventLoop) -> None:
    tasks = asyncio.all_tasks(loop)
    for task in tasks:
        task.cancel()
    with contextlib.suppress(Exception):
        loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
        if "grpc.aio" in sys.modules:
            loop.run_until_complete(asyncio.sleep(_LAST_WORDS_S))
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.run_until_complete(loop.shutdown_default_executor())
    asyncio.set_event_loop(None)
    loop.close()


shared_loop = LoopThread()
