"""`%easyremote invite`."""

from __future__ import annotations

import argparse
import contextlib
import threading
import time
from typing import Any

from IPython.display import display

from easyremote.client import Client
from easyremote.errors import EasyRemoteError, GatewayUnreachable
from easyremote.notebook.commands.base import Session
from easyremote.notebook.invitation import InvitationView
from easyremote.security.joining import Invitation

LOOK_EVERY_S = 1.0
"""Whether an invitation that is shown is still good."""

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
    invitation = Invitation.parse(text)
    view = InvitationView(text, options.role, options.expires, options.uses, invitation.addresses)
    handle = display(view, display_id=True)
    watch = threading.Thread(
        target=_end_with_it,
        args=(client, invitation.invitation_id, view, handle),
        name="easyremote-invitation",
        daemon=True,
    )
    watch.start()


def _end_with_it(client: Client, invitation_id: str, view: InvitationView, handle: Any) -> None:
    """Take the line out of the notebook when it is good no more, or the notebook disconnects and couldn't know."""
    why = ""
    while not why:
        time.sleep(LOOK_EVERY_S)
        with contextlib.suppress(GatewayUnreachable):  # it may come back
            why = _why_over(client, invitation_id)
    view.end(why)
    handle.update(view)


def _why_over(client: Client, invitation_id: str) -> str:
    try:
        known = {token.id: token for token in client.tokens()}.get(invitation_id)
    except GatewayUnreachable:
        raise
    except EasyRemoteError:
        return "This notebook has disconnected from the gateway of the invitation."
    if known is None:
        return "The invitation was used, or revoked."
    return "The invitation has expired." if known.expires is not None and time.time() > known.expires else ""
