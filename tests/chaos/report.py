"""What chaos found: chaos.json and chaos.md, and the table in docs/reliability.md."""

from __future__ import annotations

import argparse
import json
import os
import platform
from dataclasses import asdict
from datetime import date
from pathlib import Path
from typing import Any

from tests.chaos import trials  # noqa: F401 - it enters the promises
from tests.chaos.load import Outcome
from tests.chaos.promises import PROMISES, Promise

_ROOT = Path(__file__).parents[2]
_PAGE = _ROOT / "docs" / "reliability.md"
_MARKS = "<!-- chaos: begin -->", "<!-- chaos: end -->"


class Found:
    """The outcomes so far, by promise."""

    def __init__(self, machine: dict[str, Any]) -> None:
        self.machine = machine
        self.rows: dict[str, dict[str, Any]] = {}

    def note(self, promise: Promise, outcome: Outcome) -> None:
        self.rows[f"{promise.key} {promise.name}"] = asdict(outcome)

    def left_out(self, promise: Promise, reason: str) -> None:
        self.rows[f"{promise.key} {promise.name}"] = {"left_out": reason}

    @property
    def violations(self) -> int:
        return sum(len(row.get("violations", ())) + len(row.get("late", ())) for row in self.rows.values())


def machine(minutes: float, seed: int) -> dict[str, Any]:
    return {
        "date": date.today().isoformat(),
        "minutes": minutes,
        "seed": seed,
        "cpus": os.cpu_count(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def line(outcome: Outcome) -> str:
    """One trial, or several, in a line."""
    notes = ", ".join(f"{name} {number:g}" for name, number in outcome.notes.items())
    count = len(outcome.violations) + len(outcome.late)
    broken = f"{count} VIOLATIONS" if count else "ok"
    return f"{broken}, {outcome.trials} trials, worst {outcome.worst:.3g}{f' ({notes})' if notes else ''}"


def markdown(found: Found) -> str:
    about = found.machine
    head = (
        f"{about['date']}, {about['cpus']} CPUs, {about['system']}, Python {about['python']}; "
        f"{about['minutes']:g} minutes, first seed {about['seed']}; load {about['load_before']:g} when it began."
    )
    rows = ["| promise | trials | violations | worst figure |", "| --- | ---: | ---: | --- |"]
    for name, row in sorted(found.rows.items(), key=lambda entry: int(PROMISES[entry[0]].key[1:])):
        promise = PROMISES[name]
        title = f"**{promise.key}** {promise.name}"
        if "left_out" in row:
            rows.append(f"| {title} | | | left out: {row['left_out']} |")
            continue
        bound = f" (bound {promise.bound:g})" if promise.bound is not None else ""
        worst = f"{row['worst']:.3g}{bound}: {promise.figure}" if promise.figure else ""
        rows.append(
            f"| {title} | {row['trials']:,} {promise.trials} | {len(row['violations']) + len(row['late'])} | {worst} |"
        )
    return "\n".join([head, "", *rows, ""])


def write(found: Found, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "chaos.json").write_text(json.dumps({"machine": found.machine, "rows": found.rows}, indent=1))
    (folder / "chaos.md").write_text(markdown(found))


def read(folder: Path) -> Found:
    kept = json.loads((folder / "chaos.json").read_text())
    found = Found(kept["machine"])
    found.rows = kept["rows"]
    return found


def into_docs(found: Found) -> None:
    before, rest = _PAGE.read_text().split(_MARKS[0])
    after = rest.split(_MARKS[1])[1]
    _PAGE.write_text(f"{before}{_MARKS[0]}\n\n{markdown(found)}\n{_MARKS[1]}{after}")


def main() -> None:
    parser = argparse.ArgumentParser(description="Show the last run, or put it into docs/reliability.md.")
    parser.add_argument("folder", nargs="?", type=Path, default=_ROOT / ".build" / "chaos")
    parser.add_argument("--docs", action="store_true")
    options = parser.parse_args()
    found = read(options.folder)
    if options.docs:
        into_docs(found)
    print(markdown(found))


if __name__ == "__main__":
    main()
