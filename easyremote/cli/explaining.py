"""`easyremote explain`."""

from __future__ import annotations

from collections.abc import Iterable

from rich import box
from rich.console import Console, Group, RenderableType
from rich.table import Table
from rich.text import Text

from easyremote import foreign
from easyremote.cli.json_text import json_text
from easyremote.cli.status import WIDTH_OF_PIPES
from easyremote.cli.values import read_arguments
from easyremote.client import Client
from easyremote.errors import UsageError
from easyremote.model import Explanation

_STYLES = {"runs now": "green", "must wait": "yellow", "can't": "red"}


def run(name: str, options: Iterable[str], gateway: str | None, as_json: bool) -> None:
    """Print what is in the way of a call."""
    stray, wanted = read_arguments(options)
    if stray:
        raise UsageError(f"an option is key=value, not {stray[0]!r}")
    with Client(gateway) as client:
        explanation = client.explain(name, **wanted)
    if as_json:
        print(json_text(explanation.to_dict()))
        return
    console = Console(highlight=False, emoji=False, markup=False)
    if not console.is_terminal:
        console.width = max(console.width, WIDTH_OF_PIPES)
    console.print(view(explanation))


def view(explanation: Explanation) -> RenderableType:
    """What a person sees."""
    head = Text(foreign.text(explanation.headline), "bold")
    if not explanation.nodes:
        return head
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("Node", overflow="fold", style="cyan", min_width=8)
    table.add_column("Verdict", no_wrap=True)
    table.add_column("Why", overflow="fold")
    table.add_column("What would change it", overflow="fold")
    for node in explanation.nodes:
        verdict = Text(node.verdict, _STYLES[node.verdict])
        reason, remedy = (foreign.name(text, 1000) for text in (node.reason, node.remedy))
        table.add_row(foreign.name(node.node_id), verdict, reason, remedy)
    return Group(head, Text(), table)
