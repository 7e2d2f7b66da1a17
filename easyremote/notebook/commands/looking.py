"""`%easyremote status | nodes | functions`."""

from __future__ import annotations

import argparse
from typing import Any

from IPython.display import display

from easyremote.notebook.commands.base import Session
from easyremote.notebook.display import functions_table, nodes_table

HELP = (
    ("status", "the gateway and its nodes"),
    ("nodes", "the nodes"),
    ("functions", "the functions that can be called, and whether they are stale"),
)


def add_to(commands: Any) -> None:
    for (name, text), run in zip(HELP, (run_status, run_nodes, run_functions), strict=True):
        commands.add_parser(name, help=text).set_defaults(run=run)


def run_status(session: Session, options: argparse.Namespace) -> None:
    client = session.workspace.require_client()
    info = client.gateway_info()
    caption = (
        f"gateway {info.address}, easyremote {info.version}, up {info.uptime_s:.0f} s: {info.clients} clients, "
        f"{info.running} calls running, {info.queued} waiting"
    )
    display(nodes_table(client.list_nodes(), caption))


def run_nodes(session: Session, options: argparse.Namespace) -> None:
    display(nodes_table(session.workspace.require_client().list_nodes()))


def run_functions(session: Session, options: argparse.Namespace) -> None:
    display(functions_table(session.workspace.require_client().list_functions()))
