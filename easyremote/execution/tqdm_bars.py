"""Bars of tqdm, and of rich, that remote code makes: progress of its call instead of text with carriage returns.

`from tqdm.auto import tqdm` needs no change: tqdm's own class is taught to tell its state where it would draw itself. A bar that
goes to a file, or that is made outside of any call, draws itself as ever.
"""

from __future__ import annotations

import contextlib
import io
import itertools
from collections.abc import Callable
from typing import Any

from easyremote.execution.bars import Bars
from easyremote.execution.context import running
from easyremote.execution.import_hooks import when_imported
from easyremote.wire.v1 import gateway_pb2 as pb

_MARK = "<bar/>"
_numbers = itertools.count(1)
_is_installed = False


def install(is_ours: Callable[[Any], bool], has_widgets: bool) -> None:
    """Prepare this process, once. `is_ours` tells whether a stream is one whose text goes to the running call. `has_widgets`:
    bars made of widgets work here, so tqdm.notebook is left as it is."""
    global _is_installed
    if _is_installed:
        return
    _is_installed = True
    when_imported("tqdm.std", lambda module: _teach(module.tqdm, is_ours))
    if not has_widgets:
        when_imported("tqdm.notebook", _without_widgets)
    when_imported("rich.progress", lambda module: _teach_rich(module.Progress, is_ours))


# ---- tqdm ------------------------------------------------------------------------------------------------------------


def _teach(tqdm: Any, is_ours: Callable[[Any], bool]) -> None:
    display, clear, close = tqdm.display, tqdm.clear, tqdm.close

    def display_here(self: Any, msg: str | None = None, pos: int | None = None) -> Any:
        bars = _bars_for(self, is_ours)
        if bars is None:
            return display(self, msg, pos)
        if msg == "":
            bars.remove(_id_of(self))
        else:
            bars.show(_bar_of(self))
        return True

    def clear_here(self: Any, nolock: bool = False) -> Any:
        return clear(self, nolock) if _bars_for(self, is_ours) is None else None

    def close_here(self: Any) -> Any:
        bars = None if self.disable else _bars_for(self, is_ours)
        if bars is None:
            return close(self)
        stream, self.fp = self.fp, io.StringIO()  # a line's end is of no use
        self._easyremote_is_closing = True
        try:
            return close(self)
        finally:
            self.fp = stream

    tqdm.display, tqdm.clear, tqdm.close = display_here, clear_here, close_here


def _without_widgets(module: Any) -> None:
    """`tqdm.notebook` draws with widgets, which can't be had from here: its names mean tqdm's plain bars, and so ours."""
    import tqdm.std

    module.tqdm = module.tqdm_notebook = tqdm.std.tqdm
    module.trange = module.tnrange = tqdm.std.trange


def _bars_for(bar: Any, is_ours: Callable[[Any], bool]) -> Bars | None:
    if getattr(bar, "_easyremote_is_closing", False):
        return getattr(running(), "bars", None)
    stream = getattr(bar, "fp", None)
    return getattr(running(), "bars", None) if is_ours(getattr(stream, "_wrapped", stream)) else None


def _id_of(bar: Any) -> str:
    if not hasattr(bar, "_easyremote_id"):
        bar._easyremote_id = str(next(_numbers))
    return bar._easyremote_id


def _bar_of(bar: Any) -> pb.Progress.Bar:
    facts = dict(bar.format_dict)
    facts["ncols"] = None
    facts["bar_format"] = (facts.get("bar_format") or "{l_bar}{bar}{r_bar}").replace("{bar}", _MARK)
    before, is_there, after = bar.format_meter(**facts).partition(_MARK)
    if not is_there:  # without a total tqdm shows a count alone
        before, after = bar.desc or "", before.removeprefix(bar.desc or "")
    return pb.Progress.Bar(
        id=_id_of(bar),
        done=float(bar.n),
        total=float(bar.total or 0),
        text=before.strip("| ").removesuffix(":"),
        note=after.strip("| "),
        has_ended=getattr(bar, "_easyremote_is_closing", False),
    )


# ---- rich ------------------------------------------------------------------------------------------------------------


def _teach_rich(progress: Any, is_ours: Callable[[Any], bool]) -> None:
    originals = {name: getattr(progress, name) for name in ("start", "stop", "refresh")}

    def bars_for(self: Any) -> Bars | None:
        return getattr(running(), "bars", None) if is_ours(self.console.file) else None

    def start(self: Any) -> None:
        if bars_for(self) is None:
            originals["start"](self)
        else:
            self.live._started = True  # its own threads go on as long as it is
            refresh(self)

    def stop(self: Any) -> None:
        bars = bars_for(self)
        if bars is None:
            originals["stop"](self)
        else:
            self.live._started = False
            _show_rich(self, bars, has_ended=True)

    def refresh(self: Any) -> None:
        bars = bars_for(self)
        if bars is None:
            originals["refresh"](self)
        else:
            _show_rich(self, bars)

    progress.start, progress.stop, progress.refresh = start, stop, refresh
    for name in ("update", "advance", "add_task"):
        setattr(progress, name, _showing(getattr(progress, name), bars_for))


def _showing(change: Callable[..., Any], bars_for: Callable[[Any], Bars | None]) -> Callable[..., Any]:
    def change_and_show(self: Any, *args: Any, **options: Any) -> Any:
        found = change(self, *args, **options)
        bars = bars_for(self)
        if bars is not None:
            _show_rich(self, bars)
        return found

    return change_and_show


def _show_rich(progress: Any, bars: Bars, has_ended: bool = False) -> None:
    from rich.text import Text

    for task in progress.tasks:
        bar_id = f"rich-{id(progress)}-{task.id}"
        if not task.visible or (has_ended and progress.live.transient):
            bars.remove(bar_id)
            continue
        text = task.description
        with contextlib.suppress(Exception):  # it isn't markup
            text = Text.from_markup(text).plain
        parts = [f"{task.completed:g}" + (f"/{task.total:g}" if task.total else "")]
        parts += [f"{task.time_remaining:.0f} s left"] if task.time_remaining else []
        bar = pb.Progress.Bar(id=bar_id, done=float(task.completed), total=float(task.total or 0))
        bar.text, bar.note, bar.has_ended = text, ", ".join(parts), has_ended
        bars.show(bar)
