"""The picture of a run: a panel for each workload, a bar for each system, on a logarithmic scale."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.peers import CONTENDERS

if TYPE_CHECKING:
    from benchmarks.report import Found

_PANELS = {
    "latency_p50_ms": "no-op call, p50 in ms (shorter is better)",
    "in_flight_per_s": "2,000 calls in flight, calls/s",
    "map_per_s": "map of 10,000 tiny tasks, tasks/s",
    "stream_per_s": "one generator, 20,000 items, items/s",
    "echo_64_mib_mb_per_s": "64 MiB there and back, second time, MB/s",
    "echo_1_gib_mb_per_s": "1 GiB there and back, MB/s",
    "first_result_s": "first result from nothing, s (shorter is better)",
    "memory_mb": "memory at rest, MB (shorter is better)",
}
_COLUMNS = 4
_OURS, _OURS_OVER_TCP, _LIMIT, _PEER = "#0b6e4f", "#6bbf9c", "#b8b8b8", "#5b7db1"
_INK, _FAINT = "#222222", "#8a8a8a"


def draw(found: Found, path: Path) -> None:
    """Write it as PNG."""
    from matplotlib.figure import Figure

    from benchmarks.report import rounds

    names = [name for name in found.names() if name in found.figures]
    rows = -(-len(_PANELS) // _COLUMNS)
    figure = Figure(figsize=(17, rows * (1.3 + 0.27 * len(names))), layout="constrained", facecolor="white")
    grid = figure.subplots(rows, _COLUMNS, sharey=True, squeeze=False)
    for axes, (key, title) in zip(grid.flat, _PANELS.items(), strict=True):
        _panel(axes, found, names, key, title)
    machine = found.machine
    figure.suptitle(
        f"EasyRemote, its limits and its peers on one machine: {machine['cpus']} cores, Python {machine['python']}, "
        f"{machine['date']}, {rounds(found)}; logarithmic scales",
        fontsize=12,
        color=_INK,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110, metadata={"Software": None})


def _panel(axes: Any, found: Found, names: list[str], key: str, title: str) -> None:
    values = [found.median(name, key) for name in names]
    shown = [value for value in values if value]
    axes.set_title(title, fontsize=10, color=_INK, loc="left")
    axes.set_yticks(range(len(names)), [_label(name) for name in names], fontsize=9, color=_INK)
    axes.set_ylim(len(names) - 0.4, -0.6)
    axes.spines[["top", "right", "left", "bottom"]].set_visible(False)
    axes.tick_params(length=0)
    axes.set_xticks([])
    if not shown:
        return
    from benchmarks.report import short, why_not

    left = min(shown) / 3
    axes.set_xscale("log")
    axes.set_xlim(left, max(shown) * (max(shown) / left) ** 0.3)  # room for the figures beside the bars
    axes.set_xticks([])
    axes.minorticks_off()
    for row, (name, value) in enumerate(zip(names, values, strict=True)):
        if value:
            axes.barh(row, value - left, left=left, height=0.72, color=_colour(name))
        axes.text(
            value * 1.06 if value else left * 1.06,
            row,
            _text(value) if value else short(why_not(found, name, key)),
            va="center",
            fontsize=8.5,
            color=_INK if value else _FAINT,
        )


def _label(name: str) -> str:
    return CONTENDERS[name].title.replace("as between machines (gRPC over TCP)", "over TCP")


def _colour(name: str) -> str:
    if CONTENDERS[name].is_peer:
        return _PEER
    if not name.startswith("easyremote"):
        return _LIMIT
    return _OURS_OVER_TCP if name.endswith("-tcp") else _OURS


def _text(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
