"""Which outputs of a saved notebook no longer belong to its code: what `%easyremote audit` shows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from easyremote import foreign
from easyremote.errors import UsageError
from easyremote.model import Record
from easyremote.notebook.footer import METADATA, code_hash
from easyremote.tables import Table


@dataclass(frozen=True, eq=False)
class AuditedOutput(Record):
    """An output of a remote cell. `cell`: the number of its cell in the notebook, from 1. `status`: "current"; "changed" where
    the cell's code is another one now, and nowhere else in the notebook; "moved" where another cell has the code that made it.
    `node` and `ended`: where and when it ran."""

    cell: int
    status: str
    node: str
    ended: str
    first_line: str


def audit_notebook(path: str | Path) -> list[AuditedOutput]:
    """The outputs of remote cells in a notebook file that carry what their cell's footer told. Raises UsageError for a file that
    can't be read, or isn't a notebook."""
    try:
        cells: list[Any] = json.loads(Path(path).read_text(encoding="utf-8"))["cells"]
        codes = [_source(cell) for cell in cells]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} can't be read as a notebook: {type(error).__name__}: {error}") from None
    hashes = [code_hash(code) for code in codes]
    found: list[AuditedOutput] = []
    for number, cell in enumerate(cells):
        for facts in _facts(cell):
            made_by = facts.get("code")
            status = "current" if made_by == hashes[number] else "moved" if made_by in hashes else "changed"
            first = codes[number].strip().split("\n")[0]
            found.append(AuditedOutput(number + 1, status, str(facts.get("node")), str(facts.get("ended")), first))
    return found


def audit_table(outputs: list[AuditedOutput], name: str) -> Table:
    """What is to be looked at, for people."""
    stale = [output for output in outputs if output.status != "current"]
    caption = (
        f"{name}: {len(outputs)} outputs of remote cells, {len(stale)} of them no longer made by their cell's code"
    )
    rows = [
        [
            output.cell,
            "the code was changed" if output.status == "changed" else "the code is in another cell now",
            foreign.name(output.node),
            foreign.name(output.ended),
            foreign.name(output.first_line, 60),
        ]
        for output in stale
    ]
    return Table(caption, ["cell", "since it ran", "node", "ran", "now begins with"], rows, "all are current")


def _source(cell: Any) -> str:
    source = cell["source"]
    return source if isinstance(source, str) else "".join(source)


def _facts(cell: Any) -> list[dict[str, Any]]:
    """One for each run that left outputs."""
    found = [output.get("metadata", {}).get(METADATA) for output in cell.get("outputs", [])]
    return [cast("dict[str, Any]", facts) for facts in found if isinstance(facts, dict)]
