"""`%easyremote trust | keys`: whose calls nodes of this user take, and which nodes clients of this user know."""

from __future__ import annotations

import argparse
from typing import Any

from IPython.display import display

from easyremote import keyring
from easyremote.errors import UsageError
from easyremote.notebook.commands.base import Session

HELP = (
    ("trust KEY [--comment TEXT] ...", "let the owner of a key use nodes of yours on this machine"),
    ("keys [--remove KEY] ...", "your key, the keys that your nodes trust, the nodes you know"),
)


def add_to(commands: Any) -> None:
    trust = commands.add_parser("trust", help="let the owner of a key use nodes of yours on this machine")
    trust.add_argument("key", metavar="KEY", help="er-key:…, as `%%easyremote keys` shows it to its owner")
    trust.add_argument("--call-only", action="store_true", help="it calls functions, and brings no code")
    trust.add_argument(
        "--function", action="append", default=[], metavar="PATTERN", help="it calls only these; may be repeated"
    )
    trust.add_argument("--expires", metavar="WHEN", help="2027-01-01, or so long from now: 12h, 30d")
    trust.add_argument("--memory", metavar="SIZE", help="of each of its calls, e.g. 8GiB")
    trust.add_argument("--gpus", type=int, metavar="N", help="for each of its calls at most")
    trust.add_argument("--comment", default="", metavar="TEXT", help="whose it is, for people")
    trust.set_defaults(run=run_trust)
    keys = commands.add_parser("keys", help="your key, the keys that your nodes trust, the nodes you know")
    keys.add_argument("--remove", metavar="KEY", help="trust it no more: its fingerprint or comment")
    keys.add_argument("--forget", metavar="NODE", help="trust the key that this node comes with next")
    keys.add_argument("--accept", nargs=2, metavar=("NODE", "FINGERPRINT"), help="know this node by that key")
    keys.set_defaults(run=run_keys)


def run_trust(session: Session, options: argparse.Namespace) -> None:
    said = keyring.trust(
        options.key,
        call_only=options.call_only,
        functions=options.function,
        expires=options.expires,
        memory=options.memory,
        gpus=options.gpus,
        comment=options.comment,
    )
    print(said)


def run_keys(session: Session, options: argparse.Namespace) -> None:
    wanted = [f"--{name}" for name in ("remove", "forget", "accept") if getattr(options, name)]
    if len(wanted) > 1:
        raise UsageError(f"one of {' and '.join(wanted)} at a time")
    if options.remove:
        print(keyring.remove(options.remove))
    elif options.forget:
        print(keyring.forget(options.forget))
    elif options.accept:
        node, fingerprint = options.accept
        print(keyring.accept(node, fingerprint, _gateway_of(session)))
    else:
        print(keyring.own_keys())
        display(keyring.trusted_table())
        display(keyring.known_table())


def _gateway_of(session: Session) -> str | None:
    """The gateway that this notebook is connected to, if any."""
    client = session.workspace.client
    return client.address if client is not None else None
