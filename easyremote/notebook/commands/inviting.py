"""`%easyremote invite`."""

from __future__ import annotations

import argparse
from typing import Any

from IPython.display import display

from easyremote.notebook.commands.base import Session
from easyremote.notebook.invitation import InvitationView
from easyremote.security.joining import Invitation

HELP = (("invite [--role ROLE]", "the line that joins another machine to the gateway"),)


def add_to(commands: Any) -> None:
    invite = commands.add_parser("invite", help="the line that joins another machine to the gateway")
    invite.add_argument("--role", default="node", help="node (default), call, ship or admin")
    invite.add_argument("--expires", default="1h", help="how long it is good (default 1h)")
    invite.add_argument("--uses", type=int, default=1, help="how often (default 1)")
    invite.set_defaults(run=run_invite)


def run_invite(session: Session, options: argparse.Namespace) -> None:
    client = session.workspace.require_client()
    text = client.invite(options.role, expires=options.expires, uses=options.uses)
    display(InvitationView(text, options.role, options.expires, options.uses, Invitation.parse(text).addresses))
