"""`%easyremote debug`."""

from __future__ import annotations

import argparse
from typing import Any

from easyremote.notebook.commands.base import Session
from easyremote.notebook.debugging import debug_last

HELP = (("debug", "a debugger where the last remote error was raised; so does %debug"),)


def add_to(commands: Any) -> None:
    commands.add_parser("debug", help=HELP[0][1]).set_defaults(run=run_debug)


def run_debug(session: Session, options: argparse.Namespace) -> None:
    debug_last()
