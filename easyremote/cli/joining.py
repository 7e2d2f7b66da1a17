"""`easyremote invite`, and what `easyremote join` does before there is a node."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from getpass import getpass

from easyremote import joining
from easyremote.client import Client
from easyremote.errors import UsageError
from easyremote.security.credentials import Credential
from easyremote.security.joining import MAX_CHARACTERS, Invitation, is_invitation


def gateway_for_node(address: str | None) -> str | None:
    """What a node is to dial: an address, for which a credential is kept where it came from an invitation. None for an invitation
    that made this machine a client, which was said. "-" is read from standard input. Raises what joining raises."""
    if address == "-":
        address = _from_standard_input()
    if address is not None and not is_invitation(address):
        return address
    credential = joining.stored(as_node=True) if address is None else joining.join(Invitation.parse(address))
    if not credential.is_for_node:
        print(_client_summary(credential), flush=True)
        return None
    return credential.addresses[0]


def _from_standard_input() -> str:
    """The first line, unseen at a terminal; the last word of it, since it may be the whole command that was shown."""
    at_terminal = sys.stdin.isatty()
    words = (getpass("Invitation (er1:…): ") if at_terminal else sys.stdin.readline(MAX_CHARACTERS + 100)).split()
    if not words:
        raise UsageError("nothing came on standard input; pipe the invitation: easyremote join - < FILE")
    return words[-1]


def _client_summary(credential: Credential) -> str:
    address = credential.addresses[0]
    may = "call functions" + (" and ship code of yours" if set(credential.roles) & {"ship", "admin"} else "")
    return f"""\
Joined the gateway {credential.gateway_name} at {address}; programs of this user on this machine may {may}.

  In a notebook  %easyremote connect {address}
  In Python      easyremote.Client("{address}")
  In the shell   easyremote status --gateway {address}

The credential is in {credential.path}"""


def print_invitation(
    gateway: str | None,
    as_json: bool,
    role: str,
    expires: str,
    uses: int,
    name: str,
    functions: Sequence[str],
    nodes: Sequence[str],
) -> None:
    """Ask the gateway for one, and show the line that uses it."""
    with Client(gateway) as client:
        text = client.invite(role, expires=expires, uses=uses, name=name, functions=functions, nodes=nodes)
    invitation = Invitation.parse(text)
    if as_json:
        print(json.dumps({"invitation": text, "id": invitation.invitation_id, "addresses": invitation.addresses}))
        return
    times = "once" if uses == 1 else f"{uses} times"
    print(
        f"easyremote join {text}\n\nRun this there; in a notebook: %easyremote connect er1:… It is a secret, good {times}, for "
        f"{expires}. It dials {', '.join(invitation.addresses)}. 'easyremote join -' asks for it on "
        "standard input, which keeps it out of the shell's history."
    )
