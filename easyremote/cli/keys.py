"""`easyremote trust` and `easyremote keys`: whose calls this user's nodes take, and which nodes this user's clients know."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Sequence
from typing import Any

from easyremote import discovery
from easyremote.cli.exits import tell
from easyremote.cli.values import to_json
from easyremote.errors import UsageError
from easyremote.security.authorized_keys import AuthorizedKey, AuthorizedKeys, iso_time, make_key
from easyremote.security.files import config_folder
from easyremote.security.identity import NODE_IDENTITY_FILE, Identity, PublicIdentity, own_identity
from easyremote.security.known_nodes import KnownNodes
from easyremote.tables import Table

_SPAN = re.compile(r"(\d{1,6})([mhdw])")
_UNIT_S = {"m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


def trust(
    key: str,
    call_only: bool,
    functions: Sequence[str],
    expires: str | None,
    memory: str | None,
    gpus: int | None,
    comment: str,
) -> None:
    """Let the owner of this key use the nodes of this user."""
    entry = make_key(
        key,
        call_only=call_only,
        functions=functions,
        expires=_expiry(expires),
        memory=memory,
        gpus=gpus,
        comment=comment,
    )
    keys = AuthorizedKeys()
    is_new = keys.add(entry)
    print(f"{'Trusted' if is_new else 'Trusted already'}: {entry.key.fingerprint}{_named(entry)}")
    print(f"  It {entry.describe()}, on nodes of this user, from the next call on.")
    tell(f"Written to {keys.path}. To take it back: easyremote keys --remove {entry.key.fingerprint}")


def _expiry(text: str | None) -> str | float | None:
    """A date as it is, or so long from now."""
    found = _SPAN.fullmatch(text) if text is not None else None
    return time.time() // 1 + int(found[1]) * _UNIT_S[found[2]] if found is not None else text


def show(as_json: bool) -> None:
    """All keys that there are here. The user's own is made where there is none yet."""
    own = own_identity().public
    node = Identity.load(config_folder() / NODE_IDENTITY_FILE)
    node_key = node.public if node is not None else None
    authorized, known = list(AuthorizedKeys()), list(KnownNodes())
    now = time.time()
    if as_json:
        print(
            to_json(
                {
                    "own": _facts(own),
                    "node": _facts(node_key) if node_key is not None else None,
                    "authorized": [
                        {
                            **_facts(entry.key),
                            "comment": entry.comment,
                            "options": entry.options,
                            "may_ship": entry.may_ship,
                            "expired": entry.is_expired(now),
                        }
                        for entry in authorized
                    ],
                    "known_nodes": [
                        {"gateway": item.gateway, "node": item.node_id, "fingerprint": item.fingerprint}
                        for item in known
                    ],
                }
            )
        )
        return
    print(f"Your key, which a node is told to trust:\n\n  easyremote trust {own.text}\n\n  {own.fingerprint}\n")
    if node_key is not None:
        print(f"The key of nodes that you run on this machine:\n\n  {node_key.fingerprint}\n")
    rows = [[entry.key.fingerprint, entry.comment, _state(entry, now)] for entry in authorized]
    columns = ["Fingerprint", "Whose", "What it may do"]
    print(Table("Keys that your nodes trust", columns, rows, "None. 'easyremote trust' adds one."))
    print()
    nodes = [[item.node_id, item.gateway, item.fingerprint] for item in known]
    print(Table("Nodes that your clients know", ["Node", "Gateway", "Fingerprint"], nodes, "None yet."))


def _facts(key: PublicIdentity) -> dict[str, Any]:
    return {"key": key.text, "fingerprint": key.fingerprint}


def _state(entry: AuthorizedKey, now: float) -> str:
    if entry.is_expired(now) and entry.expires is not None:
        return f"nothing any more: expired {iso_time(entry.expires)}"
    return entry.describe()


def _named(entry: AuthorizedKey) -> str:
    return f" ({entry.comment})" if entry.comment else ""


def remove(named: str) -> None:
    """Trust a key no more, named by itself, its fingerprint, or its comment."""
    keys = AuthorizedKeys()
    found = [entry for entry in keys if named in (entry.key.text, entry.key.fingerprint, entry.comment)]
    if len(found) != 1:
        how = f"{len(found)} keys have that comment; name one by its fingerprint" if found else "none is called that"
        raise UsageError(
            f"'{named[:60]}' names no single key that is trusted here: {how}. 'easyremote keys' lists them"
        )
    keys.remove(found[0].key.sign_key)
    print(f"{found[0].key.fingerprint}{_named(found[0])} isn't trusted any more, from the next call on.")


def forget(node: str) -> None:
    """Know a node no more."""
    if not KnownNodes().forget(node):
        raise UsageError(f"no node '{node}' is known here; 'easyremote keys' lists them")
    print(f"Node '{node}' isn't known any more: the key that it comes with next is trusted.")


def accept(node: str, fingerprint: str, gateway: str | None) -> None:
    """Know a node by this key."""
    if not re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", fingerprint):
        raise UsageError(f"'{fingerprint[:60]}' is no fingerprint; 'easyremote keys' shows it on the node: SHA256:…")
    endpoint = discovery.find(gateway)
    KnownNodes().accept(endpoint.fingerprint or endpoint.address, node, fingerprint)
    print(f"Node '{node}' at {endpoint.address} is known by {fingerprint}.")


def run(
    as_json: bool,
    remove_key: str | None,
    forget_node: str | None,
    accepted: tuple[str, str] | None,
    gateway: str | None,
) -> None:
    """What `easyremote keys` was asked for."""
    wanted = [
        name for name, said in (("--remove", remove_key), ("--forget", forget_node), ("--accept", accepted)) if said
    ]
    if len(wanted) > 1:
        raise UsageError(f"one of {' and '.join(wanted)} at a time")
    if remove_key:
        remove(remove_key)
    elif forget_node:
        forget(forget_node)
    elif accepted:
        accept(*accepted, gateway)
    else:
        show(as_json)
    sys.stdout.flush()
