"""Several progress bars as lines of text: below what is printed on a terminal, or one line each, once it has ended, elsewhere."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterable
from typing import Any

from easyremote import foreign
from easyremote.wire.v1 import gateway_pb2 as pb

WIDTH = 24
MAX_BARS = 100
"""Of one call; further ones aren't shown."""


def bars_of(progress: pb.Progress) -> list[pb.Progress.Bar]:
    """All that it tells of."""
    if progress.bars:
        return list(progress.bars[:MAX_BARS])
    ended = 0 < progress.total <= progress.done
    return [pb.Progress.Bar(done=progress.done, total=progress.total, text=progress.text, has_ended=ended)]


def part_of(bar: pb.Progress.Bar) -> float | None:
    """How much is done, from 0 to 1; None where the total isn't known."""
    part = bar.done / bar.total if bar.total > 0 else float("nan")
    return min(max(part, 0.0), 1.0) if part == part else None


def hashes(part: float) -> str:
    """A bar of text with so much of it done, 0 to 1."""
    filled = round(part * WIDTH)
    return f"[{'#' * filled}{'.' * (WIDTH - filled)}]"


def has_stopped(bar: pb.Progress.Bar) -> bool:
    """Whether it ended before all was done."""
    return bar.has_ended and bar.total > 0 and bar.done < bar.total


def bar_line(bar: pb.Progress.Bar) -> str:
    """E.g. `epoch 3:  50% [############............] 12/24 [00:03<00:03, 4.00it/s]`."""
    part = part_of(bar)
    words = [foreign.name(bar.text)] if bar.text else []
    if part is not None:
        words.append(hashes(part))
    words += [foreign.name(bar.note)] if bar.note else []
    return " ".join([*words, *["(stopped)"] * has_stopped(bar)])


class BarLines:
    """The bars of all calls on one stream. Text that is printed meanwhile goes above them. Safe from any thread."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream
        self._lines: dict[object, list[str]] = {}
        self._drawn = 0
        self._told: dict[object, set[str]] = {}
        self._lock = threading.RLock()

    def show(self, owner: object, bars: Iterable[pb.Progress.Bar]) -> None:
        """The bars of one call as they are now. When all have ended they stay where they are."""
        bars = list(bars)
        with self._lock:
            if self.stream.isatty():
                self._draw(owner, bars)
            else:
                self._write_ended(owner, bars)

    def write(self, stream: Any, text: str) -> None:
        """Print something, which may be to another stream of the same terminal."""
        with self._lock:
            self._erase()
            stream.write(text)
            stream.flush()
            if self._lines and text.endswith("\n"):
                self._redraw()

    def _draw(self, owner: object, bars: list[pb.Progress.Bar]) -> None:
        width = shutil.get_terminal_size().columns - 1
        lines = [bar_line(bar)[:width] for bar in bars]
        self._erase()
        if all(bar.has_ended for bar in bars):
            self._lines.pop(owner, None)
            self.stream.write("".join(f"{line}\n" for line in lines))
        else:
            self._lines[owner] = lines
        self._redraw()

    def _erase(self) -> None:
        if self._drawn:
            self.stream.write(f"\x1b[{self._drawn}A\r\x1b[J")
            self.stream.flush()
        self._drawn = 0

    def _redraw(self) -> None:
        lines = [line for found in self._lines.values() for line in found]
        self.stream.write("".join(f"{line}\n" for line in lines))
        self.stream.flush()
        self._drawn = len(lines)

    def _write_ended(self, owner: object, bars: list[pb.Progress.Bar]) -> None:
        told = self._told.setdefault(owner, set())
        for bar in bars:
            if bar.has_ended and bar.id not in told:
                told.add(bar.id)
                self.stream.write(f"{bar_line(bar)}\n")
        self.stream.flush()
        if all(bar.has_ended for bar in bars):
            self._told.pop(owner)
