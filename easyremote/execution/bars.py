"""The progress bars of one call: each message of them holds all that are to be seen, so the newest one is enough to know."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from easyremote.execution.output import MAX_PROGRESS_TEXT, wire_text
from easyremote.wire.v1 import gateway_pb2 as pb

EVERY_S = 0.1
"""Bars are told so often at most; where the last of their states came sooner, `due` tells it."""

MAX_BARS = 100
"""Of one call. Of more, those that ended first aren't shown any more."""

Send = Callable[[pb.Progress], None]


class Bars:
    """Safe from any thread. `send` may block; who calls `due` must not hold a lock that it waits for."""

    def __init__(self, send: Send) -> None:
        self._send = send
        self._own: pb.Progress | None = None
        self._bars: dict[str, pb.Progress.Bar] = {}
        self._lock = threading.RLock()
        self._sent_at = 0.0
        self._is_dirty = False

    def own(self, done: float, total: float, text: str) -> None:
        """The call's own bar, which is told at once."""
        with self._lock:
            self._own = pb.Progress(done=done, total=total, text=wire_text(text, MAX_PROGRESS_TEXT))
            self._tell()

    def show(self, bar: pb.Progress.Bar) -> None:
        """A bar as it is now; the first time it is shown below the others."""
        bar.text, bar.note = wire_text(bar.text, MAX_PROGRESS_TEXT), wire_text(bar.note, MAX_PROGRESS_TEXT)
        with self._lock:
            self._bars[bar.id] = bar
            self._changed()

    def remove(self, bar_id: str) -> None:
        with self._lock:
            if self._bars.pop(bar_id, None) is not None:
                self._changed()

    def close(self) -> None:
        """The call has ended, and so have its bars."""
        with self._lock:
            for bar in self._bars.values():
                self._is_dirty = self._is_dirty or not bar.has_ended
                bar.has_ended = True
            if self._is_dirty:
                self._tell()

    def due(self, send: Send | None = None) -> None:
        """Tell what hasn't been told, if it is time. Never waits for another thread."""
        if self._is_dirty and self._lock.acquire(blocking=False):
            try:
                if self._is_dirty and time.monotonic() - self._sent_at >= EVERY_S:
                    self._tell(send)
            finally:
                self._lock.release()

    def _changed(self) -> None:
        self._is_dirty = True
        if time.monotonic() - self._sent_at >= EVERY_S:
            self._tell()

    def _tell(self, send: Send | None = None) -> None:
        self._is_dirty = False
        self._sent_at = time.monotonic()
        (send or self._send)(self._message())

    def _message(self) -> pb.Progress:
        self._forget_ended()
        message = pb.Progress()
        if self._own is not None:
            message.CopyFrom(self._own)
        if self._bars:
            bars = list(self._bars.values())[:MAX_BARS]
            if self._own is None:  # for whoever shows one bar
                first = bars[0]
                message.MergeFrom(pb.Progress(done=first.done, total=first.total, text=first.text))
            else:
                bars.insert(0, pb.Progress.Bar(id="own", done=message.done, total=message.total, text=message.text))
            message.bars.extend(bars)
        return message

    def _forget_ended(self) -> None:
        too_many = len(self._bars) - MAX_BARS
        ended = [bar.id for bar in self._bars.values() if bar.has_ended] if too_many > 0 else []
        for bar_id in ended[: max(too_many, 0)]:
            del self._bars[bar_id]
