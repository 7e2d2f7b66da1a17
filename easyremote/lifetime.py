"""When a script's process ends.

A script that has its gateway in the same process, or that makes calls, ends after its last line. A script that only serves a node
to a gateway elsewhere lives on until Ctrl-C or SIGTERM. Whatever is still open then is closed.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any

_made_client = False
_serving: dict[int, tuple[Callable[[], bool], Callable[[], None]]] = {}
"""By the id of a node: whether its gateway is elsewhere, and what lets its calls end."""
_closers: dict[int, tuple[int, Callable[[], None]]] = {}
_stop = threading.Event()
_installed = False
_pid = os.getpid()


def client_made() -> None:
    """This process makes calls, so it isn't only a node."""
    global _made_client
    _made_client = True


USERS, CLIENTS, SERVICES = range(3)
"""The order in which things are closed at exit: what makes calls even then, clients, the nodes and gateways that they use."""


def opened(owner: Any, close: Callable[[], None], order: int = SERVICES) -> None:
    """`close` is called at exit, among equals the newest first, unless `closed(owner)` comes before."""
    _install()
    _closers[id(owner)] = order, close


def closed(owner: Any) -> None:
    _closers.pop(id(owner), None)
    _serving.pop(id(owner), None)
    if not _serving:
        _stop.set()


def serving(owner: Any, is_elsewhere: Callable[[], bool], drain: Callable[[], None]) -> None:
    """A node serves. `is_elsewhere()` tells whether its gateway is another process; `drain()` lets its calls end."""
    _install()
    _stop.clear()
    _serving[id(owner)] = is_elsewhere, drain


class Terminated(KeyboardInterrupt):
    """SIGTERM came."""


class Told:
    """What ended a block of `until_told_to_end`."""

    to_terminate = False


def _terminate(_number: int, _frame: FrameType | None) -> None:
    raise Terminated


@contextlib.contextmanager
def until_told_to_end() -> Iterator[Told]:
    """In the main thread: SIGTERM and Ctrl-C end the block, quietly. They raise there, because a handler that set an event could
    wait for the very lock that the block holds. What is yielded says afterwards whether it was SIGTERM."""
    is_main = threading.current_thread() is threading.main_thread()
    previous = signal.signal(signal.SIGTERM, _terminate) if is_main else None
    told = Told()
    try:
        yield told
    except Terminated:
        told.to_terminate = True
    except KeyboardInterrupt:
        pass
    finally:
        if is_main:
            signal.signal(signal.SIGTERM, previous)


def _install() -> None:
    global _installed
    if _installed:
        return
    _installed = True
    # These close themselves when the interpreter begins to exit, in the reverse order of their import; a function that uses them
    # must find them open while the node lives on, so they are imported before our own hook is set.
    import concurrent.futures.process
    import concurrent.futures.thread  # noqa: F401

    register: Callable[[Callable[[], None]], Any] = getattr(threading, "_register_atexit", atexit.register)
    register(_at_last_line)
    atexit.register(_at_exit)


def _at_last_line() -> None:
    """The main thread has run its last line; other threads may still be at work."""
    if os.getpid() == _pid and _lives_on():
        _wait_for_end()


def _at_exit() -> None:
    """All threads that the process waits for have ended, and thread pools have done their work."""
    if os.getpid() != _pid:
        return  # the child of a fork: what is open belongs to its parent
    in_order = sorted(enumerate(_closers.values()), key=lambda numbered: (numbered[1][0], -numbered[0]))
    for _, (_, close) in in_order:
        with contextlib.suppress(Exception):
            close()


def _lives_on() -> bool:
    if _made_client or not _serving or hasattr(sys, "ps1") or sys.flags.interactive or "ipykernel" in sys.modules:
        return False
    failed = getattr(sys, "last_exc", None) or getattr(sys, "last_value", None)
    return failed is None and any(is_elsewhere() for is_elsewhere, _ in _serving.values())


def _wait_for_end() -> None:
    with until_told_to_end() as told:
        while _serving and not _stop.wait(3600):
            pass
    if told.to_terminate:
        for _, drain in list(_serving.values()):
            drain()
