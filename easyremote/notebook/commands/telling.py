"""`%easyremote footer | audit`."""

from __future__ import annotations

import argparse
from typing import Any

from IPython.display import display

from easyremote.notebook.auditing import audit_notebook, audit_table
from easyremote.notebook.commands.base import Session
from easyremote.notebook.footer import SETTINGS

HELP = (
    ("footer [on | off | always]", "the line below remote cells that tells of their runs"),
    ("audit NOTEBOOK.ipynb", "saved outputs whose cell has other code now"),
)


def add_to(commands: Any) -> None:
    footer = commands.add_parser(
        "footer", help="the line below remote cells: on (after a second, or when names were sent)"
    )
    footer.add_argument("setting", nargs="?", choices=SETTINGS, default=None, help="none: tells what it is")
    footer.set_defaults(run=run_footer)
    audit = commands.add_parser("audit", help="saved outputs whose cell has other code now")
    audit.add_argument("notebook", help="path of a saved notebook")
    audit.set_defaults(run=run_audit)


def run_footer(session: Session, options: argparse.Namespace) -> None:
    if options.setting is not None:
        session.workspace.footer = options.setting
    print(f"footers are {session.workspace.footer}")


def run_audit(session: Session, options: argparse.Namespace) -> None:
    display(audit_table(audit_notebook(options.notebook), options.notebook))
