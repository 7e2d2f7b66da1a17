"""What the gateway keeps of one connection of a peer: the frames that wait to be written to it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from easyremote.wire.v1 import gateway_pb2 as pb

HELLO_TIMEOUT_S = 5.0
CLOSE_TIMEOUT_S = 1.0

MAX_FRAMES_WAITING = 50_000
"""Frames that wait for a peer that doesn't read; at this many its connection is closed."""


class Connection:
    """`wake` says that there is something to write, or that the end is near; `cut` ends it at once. `lives` tells whether the
    peer's process is known to live, when it says nothing."""

    def __init__(
        self, wake: Callable[[], object], cut: Callable[[], object], lives: Callable[[], bool] = lambda: False
    ) -> None:
        self.outbox: list[pb.Frame] = []
        self.is_closed = False
        self.lives = lives
        self._wake = wake
        self._cut = cut
        self._killer: asyncio.TimerHandle | None = None

    def put(self, frame: pb.Frame) -> None:
        if self.is_closed:
            return
        if len(self.outbox) >= MAX_FRAMES_WAITING:
            self.outbox.clear()  # it doesn't read; when it connects anew it resumes from what it has
            self.close()
        else:
            self.outbox.append(frame)
            self._wake()

    def close(self) -> None:
        """End it when what waits is written, or soon: a peer that doesn't read would hold it up for ever."""
        if not self.is_closed:
            self._killer = asyncio.get_running_loop().call_later(CLOSE_TIMEOUT_S, self._cut)
        self.is_closed = True
        self._wake()

    def ended(self) -> None:
        self.is_closed = True
        if self._killer is not None:
            self._killer.cancel()
