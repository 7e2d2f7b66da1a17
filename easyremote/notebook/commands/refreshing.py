"""`%easyremote refresh`: functions that went stale are registered again, now or after each cell."""

from __future__ import annotations

import argparse
from typing import Any

from easyremote.errors import EasyRemoteError
from easyremote.notebook.commands.base import Session
from easyremote.notebook.workspace import workspace

HELP = (("refresh [--auto on|off]", "register stale functions again, now or after each cell"),)

_EVENT = "post_run_cell"


def add_to(commands: Any) -> None:
    refresh = commands.add_parser("refresh", help="register stale functions again")
    refresh.add_argument("--auto", choices=("on", "off"), default=None, help="after each cell")
    refresh.set_defaults(run=run_refresh)


def run_refresh(session: Session, options: argparse.Namespace) -> None:
    client = session.workspace.require_client()
    if options.auto is not None:
        _have(session.shell, options.auto == "on")
        print(
            f"stale functions are {'registered again after each cell' if options.auto == 'on' else 'only said to be stale'}"
        )
        return
    names = client.refresh()
    print(_text(names) if names else "no function is stale")


def _have(shell: Any, wanted: bool) -> None:
    """Call `after_cell` after each cell, or no longer."""
    for known in [known for known in shell.events.callbacks[_EVENT] if known.__name__ == after_cell.__name__]:
        shell.events.unregister(_EVENT, known)  # one of a copy of this module before a reload too
    if wanted:
        shell.events.register(_EVENT, after_cell)


def after_cell(result: Any = None) -> None:
    """What IPython calls."""
    client = workspace.client
    if client is None:
        return
    try:
        names = client.refresh()
    except EasyRemoteError as error:
        print(f"easyremote: stale functions couldn't be registered again: {error}")
        return
    if names:
        print(f"easyremote: {_text(names)}")


def _text(names: list[str]) -> str:
    return f"registered again, since what they use has changed: {', '.join(names)}"
