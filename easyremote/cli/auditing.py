"""`easyremote audit`."""

from __future__ import annotations

import heapq
import json
from fnmatch import fnmatchcase
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from easyremote import discovery
from easyremote.cli.exits import tell
from easyremote.cli.status import WIDTH_OF_PIPES
from easyremote.security import audit

_STYLES = {"succeeded": "green", "failed": "red", "lost": "red", "refused": "yellow"}


def run(last: int, function: str, as_json: bool) -> None:
    """Print the newest lines, oldest first. `function`: a pattern of names; empty: all."""
    folder = discovery.state_folder()
    fitting = (
        facts for facts in audit.read(folder) if not function or fnmatchcase(facts.get("function", ""), function)
    )
    chosen = sorted(heapq.nlargest(last, fitting, key=_when), key=_when)
    if as_json:
        for facts in chosen:
            print(json.dumps(facts))
    elif chosen:
        console = Console(highlight=False, emoji=False, markup=False)
        if not console.is_terminal:
            console.width = max(console.width, WIDTH_OF_PIPES)
        console.print(view(chosen))
    else:
        tell(f"Nothing was noted in {folder}" + (f" of functions named {function}." if function else "."))


def _when(facts: dict[str, Any]) -> str:
    return facts["at"]


def view(chosen: list[dict[str, Any]]) -> Table:
    """What a person sees."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    for name in ("When (UTC)", "Log", "Who", "Function", "Code", "Node", "Took", "Outcome"):
        table.add_column(name, overflow="fold", no_wrap=name == "When (UTC)")
    for facts in chosen:
        outcome = str(facts.get("outcome", ""))
        how = outcome + (f": {facts['error']}" if facts.get("error") else "")
        who = " ".join(str(facts[key]) for key in ("token_name", "key", "client") if facts.get(key))
        table.add_row(
            facts["at"].rstrip("Z").replace("T", " "),
            facts["log"],
            _safe(who),
            _safe(_what(facts)),
            _safe(facts.get("code", "")[:12]),
            _safe(facts.get("node", "")),
            f"{facts['took_s']:.3g} s" if "took_s" in facts else "",
            Text(_safe(how), _STYLES.get(outcome, "")),
        )
    return table


def _what(facts: dict[str, Any]) -> str:
    """The function; or the token that was made or revoked, and what it allows."""
    if "subject" in facts:
        return f"{facts['subject']} {facts.get('subject_name', '')} ({facts.get('roles', '')})"
    return f"{facts.get('function', '')}{_times(facts)}"


def _times(facts: dict[str, Any]) -> str:
    count = facts.get("tasks", 1)
    return f" × {count}" if count != 1 else ""


def _safe(text: Any) -> str:
    """Names come from elsewhere: nothing in them steers the terminal."""
    return "".join(letter if letter.isprintable() else "\N{REPLACEMENT CHARACTER}" for letter in str(text))
