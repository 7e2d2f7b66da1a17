"""How far a producer may run ahead of what was taken from it."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

from easyremote.execution.context import CallInterrupted
from easyremote.wire.codec import Encoded

CREDIT_BYTES = 8 * 1024
"""One more credit is due for each so many bytes of an item."""


def cost_of(size: int) -> int:
    """Credits for an item of `size` bytes."""
    return 1 + size // CREDIT_BYTES


def cost_of_item(item: bytes | Encoded) -> int:
    """The same for an item as `codec.encode_item` gives it."""
    return cost_of(len(item) if isinstance(item, bytes) else item.size)


class Credits:
    """A counting gate between a producer in any thread or loop and the consumer that gives credits back."""

    def __init__(self, initial: int) -> None:
        self._left = initial
        self._lock = (
            threading.RLock()
        )  # entered as it is: an interrupt inside Condition.__enter__ would leave it locked
        self._condition = threading.Condition(self._lock)
        self._waiters: list[Callable[[], Any]] = []
        self._is_cancelled = False

    @property
    def has_some(self) -> bool:
        """Whether `take` would return at once."""
        return self._left > 0 or self._is_cancelled

    def take(self, count: int = 1) -> None:
        """Take some, waiting until there is one: an item that costs more than all there are passes alone. Raises CallInterrupted
        after `cancel`."""
        with self._lock:
            while self._left <= 0 and not self._is_cancelled:
                self._condition.wait()
            self._use(count)

    def overdraw(self) -> None:
        with self._lock:
            self._left -= 1

    async def take_async(self, count: int = 1) -> None:
        """The same without blocking the running loop."""
        while True:
            loop = asyncio.get_running_loop()
            opened = loop.create_future()
            with self._lock:
                if self._left > 0 or self._is_cancelled:
                    self._use(count)
                    return
                self._waiters.append(lambda loop=loop, opened=opened: loop.call_soon_threadsafe(_settle, opened))
            await opened

    def give(self, count: int = 1) -> None:
        with self._lock:
            self._left += count
            self._notify()

    def cancel(self) -> None:
        with self._lock:
            self._is_cancelled = True
            self._notify()

    def _use(self, count: int) -> None:
        if self._is_cancelled:
            raise CallInterrupted("the call was cancelled")
        self._left -= count

    def _notify(self) -> None:
        self._condition.notify_all()
        waiters, self._waiters = self._waiters, []
        for wake in waiters:
            wake()


def _settle(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
