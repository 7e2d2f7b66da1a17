"""The commands of `%easyremote`: one module each, with `add_to(commands)`, which adds its parser, and what that runs.

A command is a thin face: it parses, calls the public function that a script has too, and shows what came back. What its parser
has as `run` is called with a `Session` and the parsed options.
"""

from __future__ import annotations

import shlex
from typing import Any

from easyremote.notebook.commands import (
    connecting,
    debugging,
    inviting,
    keys,
    looking,
    monitoring,
    refreshing,
    shipping,
    telling,
    working,
)
from easyremote.notebook.commands.base import HelpShown, Parser, Session

_GROUPS = (connecting, inviting, keys, looking, monitoring, refreshing, shipping, telling, working, debugging)

_MORE = """\

%%remote [-n NODE] [-o c] [--gpus N] ...     run the cell on a node; %%remote -h tells more
x = %remote EXPRESSION                      the value of an expression there

`start` and `connect` bind `client` and `node` where these names are free:
    @node.register                          ship the function below; run the cell again to replace it
    client.call("f", 1, 2)                  call it; client.submit for a future, client.stream for items
"""


def parser() -> Parser:
    """The parser of a whole `%easyremote` line."""
    made = Parser(prog="%easyremote", description="Connect this notebook to nodes.")
    commands = made.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for group in _GROUPS:
        group.add_to(commands)
    commands.add_parser("help", help="this text").set_defaults(run=None)
    return made


def command_options() -> dict[str, list[str]]:
    """Each command with its options."""
    choices = next(action.choices for action in parser()._actions if isinstance(action.choices, dict))
    return {name: list(command._option_string_actions) for name, command in choices.items()}


def run(session: Session, line: str) -> Any:
    """Run one line; what the command has for whoever assigns it. Raises UsageError for a line that isn't right, and what its
    command raises."""
    try:
        options = parser().parse_args(shlex.split(line))
    except HelpShown:
        return None
    command = getattr(options, "run", None)
    if command is None:
        print(help_text(), end="")
        return None
    return command(session, options)


def help_text() -> str:
    """What `%easyremote help` prints: every command in a line."""
    lines = (f"%easyremote {usage:<31} {text}\n" for group in _GROUPS for usage, text in group.HELP)
    return "".join(lines) + _MORE
