"""What the nodes offer. Each run leaves a mark in a file first, so that it can be counted afterwards how often it was begun."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from easyremote import ComputeNode


def mark(folder: str, key: str) -> None:
    """One line more in this call's file. A line is written at once, whatever happens to the process afterwards."""
    descriptor = os.open(os.path.join(folder, key), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"%d\n" % os.getpid())
    os.close(descriptor)


def work(folder: str, key: str, takes_s: float) -> str:
    mark(folder, key)
    time.sleep(takes_s)
    return key


def count(folder: str, key: str, items: int, step_s: float) -> Iterator[int]:
    mark(folder, key)
    for i in range(items):
        time.sleep(step_s)
        yield i


def echo(value: Any) -> Any:
    return value


def nap(takes_s: float) -> None:
    time.sleep(takes_s)


def hold(takes_s: float, padding: bytes) -> None:
    time.sleep(takes_s)


def in_process(folder: str, key: str, takes_s: float) -> str:
    """Holds the interpreter lock of its worker process all the time."""
    import ctypes
    import os

    descriptor = os.open(os.path.join(folder, key), os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(descriptor, b"%d\n" % os.getpid())
    os.close(descriptor)
    ctypes.PyDLL(None).usleep(ctypes.c_uint(int(takes_s * 1e6)))  # PyDLL keeps the lock
    return key


def register_all(node: ComputeNode) -> None:
    for function in (work, count, echo, nap, hold):
        node.register(function)
    node.register(in_process, isolation="process")
