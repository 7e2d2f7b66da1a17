"""`%easyremote monitor`."""

from __future__ import annotations

import argparse
from typing import Any

from IPython.display import display

from easyremote.notebook.commands.base import Session
from easyremote.notebook.monitor import Monitor

HELP = (("monitor [--lang en|zh]", "a live picture: nodes, calls, functions, errors, cost"),)


def add_to(commands: Any) -> None:
    monitor = commands.add_parser("monitor", help="a live picture of the gateway and its nodes")
    monitor.add_argument("--lang", default=None, help="en or zh (default: the locale's)")
    monitor.set_defaults(run=run_monitor)


def run_monitor(session: Session, options: argparse.Namespace) -> None:
    workspace = session.workspace
    display(Monitor(workspace.require_client(), workspace.cluster, options.lang))
