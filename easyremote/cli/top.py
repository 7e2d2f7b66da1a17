"""`easyremote top`: the monitor in a terminal."""

from __future__ import annotations

import contextlib
import os
import select
import sys
from collections.abc import Callable, Iterator, Sequence

from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from easyremote.cli.status import WIDTH_OF_PIPES
from easyremote.client import Client
from easyremote.errors import UsageError
from easyremote.monitoring import view
from easyremote.monitoring.view import SORTS, Gauge, Snapshot
from easyremote.monitoring.watching import MANY_NODES, PERIOD_S, SLOW_PERIOD_S, Watcher
from easyremote.monitoring.words import Words, language_of

_BLOCKS = " ▁▂▃▄▅▆▇█"
_SPARK = 12
_FEW_CALLS, _FEW_FAILURES = 8, 4
_FRAME_LINES = 16
"""Of headings and the like, beside rows."""


def run(gateway: str | None, language: str | None, sort: str) -> None:
    """Show it until q or Ctrl-C; one picture where the output is a pipe."""
    words = Words(language_of(language))
    if sort not in SORTS:
        raise UsageError(f"nodes are sorted by {', '.join(SORTS)}, not by '{sort[:40]}'")
    with Client(gateway) as client:
        watcher = Watcher(client)
        console = Console(highlight=False, emoji=False, markup=False)
        if not console.is_terminal:
            console.width = max(console.width, WIDTH_OF_PIPES)
            console.print(picture(watcher.snapshot(), words, sort, None))
            return
        with contextlib.suppress(KeyboardInterrupt):
            _live(console, watcher, words, sort)


def _live(console: Console, watcher: Watcher, words: Words, sort: str) -> None:
    with _keys() as pressed, Live(console=console, screen=True, auto_refresh=False) as live:
        while True:
            snapshot = watcher.snapshot()
            live.update(picture(snapshot, words, sort, console.size.height), refresh=True)
            key = pressed(SLOW_PERIOD_S if len(snapshot.overview.nodes) > MANY_NODES else PERIOD_S)
            if key in ("q", "Q", "\x03", "\x04"):
                return
            if key in ("s", "S"):
                sort = SORTS[(SORTS.index(sort) + 1) % len(SORTS)]


@contextlib.contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Waits for a key for so many seconds, and gives it; empty: none was pressed. A terminal that resizes counts as none."""
    fd = sys.stdin.fileno() if sys.stdin is not None and sys.stdin.isatty() else -1

    def pressed(wait_s: float) -> str:
        ready = select.select([fd] if fd >= 0 else [], [], [], wait_s)[0]
        return os.read(fd, 1).decode(errors="replace") if ready else ""

    if fd < 0:
        yield pressed
        return
    import termios
    import tty

    before = termios.tcgetattr(fd)
    try:
        tty.setcbreak(fd)
        yield pressed
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


def picture(snapshot: Snapshot, words: Words, sort: str = "name", height: int | None = None) -> RenderableType:
    """What a person sees. `height`: lines that there are; None: as many as it takes."""
    nodes = view.node_rows(snapshot, words, sort=sort, descending=sort != "name")
    calls = view.call_rows(snapshot, words)
    failures = view.failure_rows(snapshot, words)
    if height is not None:
        failures = failures[:_FEW_FAILURES]
        calls = calls[: max(_FEW_CALLS, height - _FRAME_LINES - len(nodes) - len(failures))]
        nodes = nodes[: max(height - _FRAME_LINES - len(calls) - len(failures), 3)]
    parts: list[RenderableType] = [_head(snapshot, words)]
    if snapshot.problem:
        parts.append(Text(f"▲ {words('offline', why=snapshot.problem)}", "yellow"))
    parts.append(_nodes(nodes, words) if nodes else Text(f"\n{words('no nodes')} {snapshot.overview.gateway.address}"))
    left = len(snapshot.overview.nodes) - len(nodes)
    if left:
        parts.append(Text(words("more calls", n=left), "dim"))
    parts.append(_calls(calls, words) if calls else Text(f"\n{words('no calls')}", "dim"))
    left = snapshot.overview.running + snapshot.overview.queued - len(calls)
    if left > 0:
        parts.append(Text(words("more calls", n=left), "dim"))
    if failures:
        parts.append(_failures(failures, words))
    if height is not None:
        parts.append(Text(f"\n{words('quit')} ({words(f'by {sort}')})", "dim"))
    return Group(*parts)


def _head(snapshot: Snapshot, words: Words) -> Text:
    head = Text("EasyRemote ", "bold").append(snapshot.overview.gateway.address, "cyan")
    return head.append("  " + "  ".join(view.head(snapshot, words)), "not bold")


def _table(title: str, *columns: str) -> Table:
    table = Table(
        title=f"\n{title}", title_justify="left", title_style="bold", box=box.SIMPLE_HEAD, pad_edge=False,
        padding=(0, 1, 0, 0),
    )  # fmt: skip
    for column in columns:
        table.add_column(column, overflow="ellipsis", no_wrap=True)
    return table


def _nodes(rows: Sequence[view.NodeRow], words: Words) -> Table:
    names = ("node", "status", "slots", "cpu", "memory", "gpu", "finished", "failed")
    table = _table(words("nodes"), *(words(name) for name in names))
    for row in rows:
        status = Text(f"{row.mark} {row.status_text}", "green" if row.status == "connected" else "yellow")
        if row.note:
            status.append(f" ({row.note})", "dim")
        gpus = Text("\n").join(_gpu(gpu) for gpu in row.gpus)
        failed = Text(f"▲ {row.failed}", "yellow") if row.failed else Text("0")
        cells = [Text(row.name, "cyan"), status, row.slots.text, _gauge(row.cpu), _gauge(row.memory), gpus]
        table.add_row(*cells, str(row.finished), failed)
    return table


def _gpu(gpu: view.GpuRow) -> Text:
    if gpu.lost:
        return Text(f"▲ {gpu.name}: {gpu.lost}", "yellow")
    more = " ".join(gauge.text for gauge in (gpu.memory, gpu.temperature, gpu.power) if gauge.text)
    return _gauge(gpu.use).append(f" {more}")


def _gauge(gauge: Gauge) -> Text:
    drawn = "".join(
        _BLOCKS[round(min(max(value, 0.0), 1.0) * 8)] if value == value else " " for value in gauge.series[-_SPARK:]
    )
    mark = "▲" if gauge.is_high else ""
    return Text(f"{drawn} " if drawn else "", "yellow" if gauge.is_high else "blue").append(
        f"{mark}{gauge.text}", "default"
    )


def _calls(rows: Sequence[view.CallRow], words: Words) -> Table:
    table = _table(words("calls"), *(words(name) for name in ("call", "status", "node", "progress", "time")), "")
    for row in rows:
        done = round((row.progress or 0.0) * 10)
        bar = f"{'█' * done}{'░' * (10 - done)} " if row.progress is not None else ""
        state = Text(f"{'▶' if row.is_running else '…'} {row.state}", "green" if row.is_running else "default")
        table.add_row(Text(row.name, "cyan"), state, row.node, f"{bar}{row.progress_text}", row.time, row.note)
    return table


def _failures(rows: Sequence[view.FailureRow], words: Words) -> Table:
    table = _table(words("recent errors"), *(words(name) for name in ("time", "function", "node", "what happened")))
    for row in rows:
        table.add_row(
            row.ago,
            Text(row.function, "cyan"),
            row.node,
            Text(f"▲ {row.kind} ", "yellow").append(row.message, "default"),
        )
    return table
