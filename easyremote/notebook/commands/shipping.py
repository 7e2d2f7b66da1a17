"""`%easyremote ship | unship`: modules beside the notebook that go along with code."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import Any

from IPython.display import display

from easyremote.captures import ShippedModule
from easyremote.notebook.commands.base import Session
from easyremote.sizes import format_size
from easyremote.tables import Table

HELP = (
    ("ship [NAME ...] [--auto on|off]", "modules beside the notebook that go along with code"),
    ("unship NAME ...", "take that back"),
)


def add_to(commands: Any) -> None:
    ship = commands.add_parser("ship", help="modules beside the notebook that go along with code")
    ship.add_argument("names", nargs="*", metavar="NAME", help="modules or packages, as they are imported")
    ship.add_argument("--auto", choices=("on", "off"), default=None, help="whatever is used goes along, unnamed")
    ship.set_defaults(run=run_ship)
    unship = commands.add_parser("unship", help="modules that don't go along any more")
    unship.add_argument("names", nargs="+", metavar="NAME")
    unship.set_defaults(run=run_unship)


def run_ship(session: Session, options: argparse.Namespace) -> None:
    auto = None if options.auto is None else options.auto == "on"
    client = session.workspace.require_client()
    display(shipped_table(client.ship(*options.names, auto=auto), client.ships_all))


def run_unship(session: Session, options: argparse.Namespace) -> None:
    client = session.workspace.require_client()
    display(shipped_table(client.unship(*options.names), client.ships_all))


def shipped_table(modules: Sequence[ShippedModule], ships_all: bool) -> Table:
    """What goes along, and what it consists of."""
    rows = [
        [
            module.name,
            module.files,
            format_size(module.size_bytes),
            module.version[:12],
            ", ".join(module.needed_by),
            module.path,
        ]
        for module in modules
    ]
    always = "whatever code uses of the modules beside the notebook goes along with it" if ships_all else ""
    caption = always or ("these go along with code from now on, as their files are then" if rows else "")
    columns = ["module", "files", "size", "version", "needed by", "where it is"]
    return Table(caption, columns, rows, "" if ships_all else "no module is shipped: `%easyremote ship NAME`")
