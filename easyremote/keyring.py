"""Whose calls this user's nodes take, and which nodes this user's clients know: what `easyremote trust` and `easyremote keys`
do, on the command line and in a notebook. Each function raises UsageError for what isn't right, with what to do."""

from __future__ import annotations

import re
import time
from collections.abc import Sequence

from easyremote import discovery
from easyremote.errors import UsageError
from easyremote.security.authorized_keys import AuthorizedKey, AuthorizedKeys, iso_time, make_key
from easyremote.security.files import config_folder
from easyremote.security.identity import NODE_IDENTITY_FILE, Identity, own_identity
from easyremote.security.known_nodes import KnownNodes
from easyremote.tables import Table

_SPAN = re.compile(r"(\d{1,6})([mhdw])")
_UNIT_S = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def trust(
    key: str,
    *,
    call_only: bool = False,
    functions: Sequence[str] = (),
    expires: str | None = None,
    memory: str | None = None,
    gpus: int | None = None,
    comment: str = "",
) -> str:
    """Let the owner of `key` (er-key:…) use the nodes of this user, from the next call on. What was done, for people.

    `functions`: patterns of what it calls; with any, or with `call_only`, it brings no code. `expires`: a date, or so long from
    now ("30d"). `memory` ("8GiB") and `gpus` bound each of its calls.
    """
    entry = make_key(
        key,
        call_only=call_only,
        functions=functions,
        expires=_expiry(expires),
        memory=memory,
        gpus=gpus,
        comment=comment,
    )
    is_new = AuthorizedKeys().add(entry)
    return (
        f"{'Trusted' if is_new else 'Trusted already'}: {entry.key.fingerprint}{_named(entry)}\n"
        f"  It {entry.describe()}, on nodes of this user, from the next call on."
    )


def _expiry(text: str | None) -> str | float | None:
    """A date as it is, or so long from now."""
    found = _SPAN.fullmatch(text) if text is not None else None
    return time.time() // 1 + int(found[1]) * _UNIT_S[found[2]] if found is not None else text


def remove(named: str) -> str:
    """Trust a key no more, named by itself, its fingerprint, or its comment. What was done, for people."""
    keys = AuthorizedKeys()
    found = [entry for entry in keys if named in (entry.key.text, entry.key.fingerprint, entry.comment)]
    if len(found) != 1:
        how = f"{len(found)} keys have that comment; name one by its fingerprint" if found else "none is called that"
        raise UsageError(
            f"'{named[:60]}' names no single key that is trusted here: {how}. 'easyremote keys' lists them"
        )
    keys.remove(found[0].key.sign_key)
    return f"{found[0].key.fingerprint}{_named(found[0])} isn't trusted any more, from the next call on."


def forget(node: str) -> str:
    """Know a node no more. What was done, for people."""
    if not KnownNodes().forget(node):
        raise UsageError(f"no node '{node}' is known here; 'easyremote keys' lists them")
    return f"Node '{node}' isn't known any more: the key that it comes with next is trusted."


def accept(node: str, fingerprint: str, gateway: str | None = None) -> str:
    """Know a node of this gateway (None: the one that would be found) by this key. What was done, for people."""
    if not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", fingerprint):
        raise UsageError(f"'{fingerprint[:60]}' is no fingerprint; 'easyremote keys' shows it on the node: SHA256:…")
    endpoint = discovery.find(gateway)
    KnownNodes().accept(endpoint.fingerprint or endpoint.address, node, fingerprint)
    return f"Node '{node}' at {endpoint.address} is known by {fingerprint}."


def own_keys() -> str:
    """The user's own key, which is made where there is none yet, and that of the nodes here, as people read them."""
    own = own_identity().public
    said = f"Your key, which a node is told to trust:\n\n  easyremote trust {own.text}\n\n  {own.fingerprint}\n"
    node = Identity.load(config_folder() / NODE_IDENTITY_FILE)
    if node is not None:
        said += f"\nThe key of nodes that you run on this machine:\n\n  {node.public.fingerprint}\n"
    return said


def trusted_table() -> Table:
    """The keys that nodes of this user trust."""
    now = time.time()
    rows = [[entry.key.fingerprint, entry.comment, _state(entry, now)] for entry in AuthorizedKeys()]
    columns = ["Fingerprint", "Whose", "What it may do"]
    return Table("Keys that your nodes trust", columns, rows, "None. 'easyremote trust' adds one.")


def known_table() -> Table:
    """The nodes that clients of this user know."""
    rows = [[item.node_id, item.gateway, item.fingerprint] for item in KnownNodes()]
    return Table("Nodes that your clients know", ["Node", "Gateway", "Fingerprint"], rows, "None yet.")


def _state(entry: AuthorizedKey, now: float) -> str:
    if entry.is_expired(now) and entry.expires is not None:
        return f"nothing any more: expired {iso_time(entry.expires)}"
    return entry.describe()


def _named(entry: AuthorizedKey) -> str:
    return f" ({entry.comment})" if entry.comment else ""
