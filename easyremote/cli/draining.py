"""`easyremote node drain NAME` and `easyremote node resume NAME`."""

from __future__ import annotations

from collections.abc import Sequence

from easyremote.client import Client
from easyremote.errors import UsageError


def run(words: Sequence[str], gateway: str | None, reason: str) -> None:
    """`words`: "drain" or "resume", and the node's name. Raises UsageError for anything else."""
    verb, *names = words
    if len(names) != 1:
        raise UsageError(f"'easyremote node {verb}' takes the name of one node; 'easyremote status' lists them")
    with Client(gateway) as client:
        if verb == "drain":
            node = client.drain_node(names[0], reason)
            there = f"{node.running} running there" if node.running else "none running there"
            print(f"Node '{node.node_id}' takes no new calls; {there}. Undo: easyremote node resume {node.node_id}")
            return
        node = client.resume_node(names[0])
    still = f" takes no new calls still: {node.draining}." if node.draining else " takes new calls again."
    print(f"Node '{node.node_id}'{still}")
