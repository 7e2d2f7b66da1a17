"""Bars of calls in a notebook. Those of calls that run at the same time stand below each other in one place of the cell."""

from __future__ import annotations

import html
import time
from typing import Any

from easyremote import foreign
from easyremote.bar_lines import bar_line, bars_of, has_stopped, part_of
from easyremote.notebook.cell_here import cell_here
from easyremote.notebook.in_place import show_in_place
from easyremote.presenting import count_text, progress_line
from easyremote.tables import INDENT, MUTED
from easyremote.wire.v1 import gateway_pb2 as pb

EVERY_S = 0.1
"""A place with bars is drawn so often at most, but for the first and the last time."""

MAX_ROWS = 20
"""Of more bars those that have ended are counted only."""

_PLAIN = "width:18em;height:0.8em;margin-right:0.5em;vertical-align:middle;accent-color:#1976d2"
_GRID = (
    "display:grid;grid-template-columns:fit-content(24em) minmax(5em,18em) max-content;column-gap:0.7em;row-gap:0.15em;"
    "align-items:center;font-variant-numeric:tabular-nums"
)
_COLOURS = {"running": "#1976d2", "ended": "#2e9e5b", "stopped": "#c9622f"}
_TEXT = "overflow:hidden;text-overflow:ellipsis;white-space:nowrap"


class _OneView:
    """A call's own bar."""

    def __init__(self, progress: pb.Progress) -> None:
        self._progress = progress

    def _repr_html_(self) -> str:
        done, total = count_text(self._progress.done), count_text(self._progress.total)
        known = self._progress.total > 0
        bar = f'<progress style="{_PLAIN}"' + (
            f' value="{done}" max="{total}"></progress>' if known else "></progress>"
        )
        count = f"<span>{done} of {total}</span>" if known else f"<span>{done}</span>"
        text = f'<span style="{MUTED}">{html.escape(foreign.name(self._progress.text))}</span>'
        return f'<div style="{INDENT}">{bar} {count} {text}</div>'

    def __repr__(self) -> str:
        return progress_line(self._progress)


class BarsView:
    """Several bars; `more`: how many others there were that have ended."""

    def __init__(self, bars: list[pb.Progress.Bar], more: int = 0) -> None:
        self._bars = bars
        self._more = more

    def _repr_html_(self) -> str:
        rows = "".join(map(_row, self._bars))
        more = f'<div style="{MUTED}">and {self._more} that have ended</div>' if self._more else ""
        return f'<div style="{INDENT}"><div style="{_GRID}">{rows}</div>{more}</div>'

    def __repr__(self) -> str:
        more = [f"and {self._more} that have ended"] if self._more else []
        return "\n".join([*map(bar_line, self._bars), *more])


def _row(bar: pb.Progress.Bar) -> str:
    text, note = html.escape(foreign.name(bar.text)), html.escape(foreign.name(bar.note))
    state = "stopped" if has_stopped(bar) else "ended" if bar.has_ended else "running"
    part = part_of(bar)
    if part is None and bar.has_ended:
        part = 1.0
    value = "" if part is None else f' value="{part:.4f}"'
    said = f' <span style="color:{_COLOURS["stopped"]}">stopped</span>' if state == "stopped" else ""
    style = f"width:100%;height:0.8em;accent-color:{_COLOURS[state]}"
    return (
        f'<span style="{_TEXT}" title="{text}">{text}</span>'
        f'<progress aria-label="{text}" style="{style}"{value}></progress><span style="{MUTED}">{note}{said}</span>'
    )


class BarPlace:
    """Where bars are in a cell: those of one call, and of others that have begun before these ended."""

    def __init__(self) -> None:
        self._bars: dict[object, list[pb.Progress.Bar]] = {}
        self._display_id = ""
        self._drawn_at = 0.0

    @property
    def is_live(self) -> bool:
        """Whether one of its bars is moving."""
        return any(not bar.has_ended for bars in self._bars.values() for bar in bars)

    def show(self, owner: object, progress: pb.Progress) -> None:
        before = self._bars.get(owner, [])
        bars = self._bars[owner] = bars_of(progress)
        has_ended = bars != before and all(bar.has_ended for bar in bars)  # it may be the last that is heard of them
        is_plain = len(self._bars) == 1 and not progress.bars
        if is_plain or has_ended or not self._display_id or time.monotonic() - self._drawn_at >= EVERY_S:
            self._draw(_OneView(progress) if is_plain and bars else self._view())

    def _draw(self, view: Any) -> None:
        self._drawn_at = time.monotonic()
        self._display_id = show_in_place(view, self._display_id)

    def _view(self) -> BarsView:
        bars = [bar for found in self._bars.values() for bar in found]
        too_many = max(len(bars) - MAX_ROWS, 0)
        ended = [id(bar) for bar in bars if bar.has_ended][:too_many]
        return BarsView([bar for bar in bars if id(bar) not in ended], len(ended))


class _Places:
    """The newest place of each cell."""

    def __init__(self) -> None:
        self._places: dict[str, BarPlace] = {}

    def place(self) -> BarPlace:
        """The one for a call that shows its first bar now."""
        cell = cell_here()
        place = self._places.pop(cell, None)
        if place is None or not place.is_live:
            place = BarPlace()
        self._places[cell] = place
        if len(self._places) > 100:
            self._places.pop(next(iter(self._places)))
        return place


places = _Places()
