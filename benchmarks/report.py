"""What a run found, as JSON, as tables in Markdown and as a picture.

`python -m benchmarks.report` draws `.build/bench/bench.json` anew; with `--docs` it also puts tables and picture into
`docs/performance.md`.
"""

from __future__ import annotations

import argparse
import json
import re
import statistics
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks import goals, picture
from benchmarks.peers import CONTENDERS

_ROOT = Path(__file__).parent.parent
_MARKS = ("<!-- figures: begin, from `python -m benchmarks.report --docs` -->", "<!-- figures: end -->")


@dataclass(frozen=True, slots=True)
class Figure:
    """One column. `workload`: what gives it; `start` and `first` are no workloads but come with every round."""

    title: str
    workload: str
    digits: int = 0
    is_of_peers: bool = True
    """Whether it is measured for the peers too."""


FIGURES: dict[str, Figure] = {
    "latency_p50_ms": Figure("no-op p50, ms", "latency", 2),
    "latency_p99_ms": Figure("no-op p99, ms", "latency", 2),
    "in_flight_per_s": Figure("2,000 in flight, calls/s", "in_flight"),
    "map_per_s": Figure("map of 10,000, tasks/s", "map"),
    "stream_per_s": Figure("stream of 20,000, items/s", "stream"),
    "echo_64_mib_first_mb_per_s": Figure("first echo of 64 MiB, MB/s", "echo"),
    "echo_64_mib_mb_per_s": Figure("second echo of 64 MiB, MB/s", "echo"),
    "echo_1_gib_mb_per_s": Figure("echo of 1 GiB, MB/s", "big_echo"),
    "first_result_s": Figure("first result, s", "start", 2),
    "memory_mb": Figure("memory at rest, MB", "start"),
    "memory_without_client_mb": Figure("without the client, MB", "start"),
    "gateway_extra_mb": Figure("gateway's extra memory at 1 GiB, MB", "big_echo", 1, is_of_peers=False),
    "rest_p99_ms": Figure("no-op p99 at rest, ms", "busy", 2),
    "busy_p50_ms": Figure("no-op p50 beside 1 GiB, ms", "busy", 2),
    "busy_p99_ms": Figure("no-op p99 beside 1 GiB, ms", "busy", 2),
}

_TABLES = {
    "Calls": ("latency_p50_ms", "latency_p99_ms", "in_flight_per_s", "map_per_s", "stream_per_s"),
    "Bytes, start and memory": (
        "echo_64_mib_first_mb_per_s",
        "echo_64_mib_mb_per_s",
        "echo_1_gib_mb_per_s",
        "gateway_extra_mb",
        "first_result_s",
        "memory_mb",
        "memory_without_client_mb",
    ),
    "Calls beside another client's transfer": ("rest_p99_ms", "busy_p50_ms", "busy_p99_ms"),
}


@dataclass(slots=True)
class Found:
    """Every figure of every round, and why others are missing."""

    machine: dict[str, Any]
    rounds_done: int = 0
    versions: dict[str, str] = field(default_factory=dict)
    figures: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    reasons: dict[str, dict[str, str]] = field(default_factory=dict)
    """By system and workload, `start` for all of a system's."""

    def note(self, name: str, figures: dict[str, float]) -> None:
        for key, value in figures.items():
            self.figures.setdefault(name, {}).setdefault(key, []).append(value)

    def give_up(self, name: str, workload: str, reason: str) -> None:
        """The workload isn't tried again in this run."""
        self.reasons.setdefault(name, {})[workload] = reason

    def median(self, name: str, figure: str) -> float | None:
        values = self.figures.get(name, {}).get(figure)
        return statistics.median(values) if values else None

    def names(self) -> list[str]:
        """The systems that were tried, in the order of the table."""
        return [name for name in CONTENDERS if name in self.figures or name in self.reasons]


def write(found: Found, folder: Path) -> None:
    """bench.json, bench.md and bench.png in the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    medians = {
        name: {key: statistics.median(values) for key, values in figures.items()}
        for name, figures in found.figures.items()
    }
    everything = {**asdict(found), "medians": medians, "goals": [asdict(goal) for goal in goals.judged(found.median)]}
    (folder / "bench.json").write_text(json.dumps(everything, indent=1) + "\n")
    (folder / "bench.md").write_text(markdown(found))
    picture.draw(found, folder / "bench.png")


def read(folder: Path) -> Found:
    """What `write` wrote."""
    kept = json.loads((folder / "bench.json").read_text())
    return Found(**{name: kept[name] for name in Found.__dataclass_fields__})


def markdown(found: Found) -> str:
    parts = [_about(found)]
    for title, figures in _TABLES.items():
        rows = [[CONTENDERS[name].title, *(_cell(found, name, figure) for figure in figures)] for name in found.names()]
        rows = [row for row in rows if any(cell != _NOTHING for cell in row[1:])]
        if rows:
            heads = ["", *(FIGURES[figure].title for figure in figures)]
            parts.append(f"**{title}**\n\n{_table(heads, rows)}")
    judged = goals.judged(found.median)
    if judged:
        parts.append("**Goals**\n\n" + _table(goals.HEADS, [goal.row() for goal in judged]))
    parts.append("Versions: " + ", ".join(_versions(found)) + ".")
    return "\n\n".join(parts) + "\n"


def _versions(found: Found) -> list[str]:
    """Each system's once, however many rows it has: a title's first words are the system's name."""
    every = (
        f"{re.split('[,(]', CONTENDERS[name].title)[0].strip()} {version}" for name, version in found.versions.items()
    )
    return list(dict.fromkeys(every))


_NOTHING = "–"


def _cell(found: Found, name: str, figure: str) -> str:
    value = found.median(name, figure)
    if value is not None:
        return f"{value:,.{FIGURES[figure].digits}f}"
    return short(why_not(found, name, figure)) or _NOTHING


def why_not(found: Found, name: str, figure: str) -> str:
    """The reason why the system hasn't that figure; empty where nobody asked for it."""
    workload = FIGURES[figure].workload
    contender = CONTENDERS[name]
    is_asked = workload == "start" or workload in contender.workloads
    if not is_asked or (contender.is_peer and not FIGURES[figure].is_of_peers):
        return ""
    reasons = found.reasons.get(name, {})
    return reasons.get(workload) or reasons.get("start", "")


def short(reason: str) -> str:
    text = reason.replace("|", "/").replace("\x1b", "")
    return text if len(text) <= 40 else text[:39] + "…"


def _table(heads: Iterable[str], rows: Iterable[list[str]]) -> str:
    heads = list(heads)
    lines = [heads, ["---", *("---:" for _ in heads[1:])], *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _about(found: Found) -> str:
    machine = found.machine
    return (
        f"{machine['date']}, {machine['cpus']} × {machine['cpu']}, {machine['memory_gib']} GiB, {machine['system']}, "
        f"Python {machine['python']}; {rounds(found)}."
    )


def rounds(found: Found) -> str:
    """How the figures came about, in words."""
    return f"medians of {found.rounds_done} rounds" if found.rounds_done > 1 else "a single round"


def _into_docs(found: Found) -> None:
    page = _ROOT / "docs" / "performance.md"
    before, _, rest = page.read_text().partition(_MARKS[0])
    _, _, after = rest.partition(_MARKS[1])
    drawn = page.parent / "images" / "performance.png"
    picture.draw(found, drawn)
    shown = f"![Bars for each workload and each system](images/{drawn.name})\n\n{markdown(found)}"
    page.write_text(f"{before}{_MARKS[0]}\n\n{shown}\n{_MARKS[1]}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw the tables and the picture of a run anew.")
    parser.add_argument("folder", nargs="?", type=Path, default=_ROOT / ".build" / "bench")
    parser.add_argument("--docs", action="store_true", help="put them into docs/performance.md too")
    options = parser.parse_args()
    found = read(options.folder)
    write(found, options.folder)
    if options.docs:
        _into_docs(found)
    print(markdown(found))


if __name__ == "__main__":
    main()
