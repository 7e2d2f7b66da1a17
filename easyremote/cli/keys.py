"""`easyremote trust` and `easyremote keys`: whose calls this user's nodes take, and which nodes this user's clients know."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from easyremote import keyring
from easyremote.cli.exits import tell
from easyremote.cli.values import to_json
from easyremote.errors import UsageError
from easyremote.security.authorized_keys import AuthorizedKeys, authorized_keys_path
from easyremote.security.files import config_folder
from easyremote.security.identity import NODE_IDENTITY_FILE, Identity, PublicIdentity, own_identity
from easyremote.security.known_nodes import KnownNodes


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
    said = keyring.trust(
        key,
        call_only=call_only,
        functions=functions,
        expires=expires,
        memory=memory,
        gpus=gpus,
        comment=comment,
    )
    print(said)
    fingerprint = PublicIdentity.from_text(key).fingerprint
    tell(f"Written to {authorized_keys_path()}. To take it back: easyremote keys --remove {fingerprint}")


def show(as_json: bool) -> None:
    """All keys that there are here. The user's own is made where there is none yet."""
    if as_json:
        print(to_json(_all_facts()))
        return
    print(keyring.own_keys())
    print(keyring.trusted_table())
    print()
    print(keyring.known_table())


def _all_facts() -> dict[str, Any]:
    node = Identity.load(config_folder() / NODE_IDENTITY_FILE)
    now = time.time()
    return {
        "own": _facts(own_identity().public),
        "node": _facts(node.public) if node is not None else None,
        "authorized": [
            {
                **_facts(entry.key),
                "comment": entry.comment,
                "options": entry.options,
                "may_ship": entry.may_ship,
                "expired": entry.is_expired(now),
            }
            for entry in AuthorizedKeys()
        ],
        "known_nodes": [
            {"gateway": item.gateway, "node": item.node_id, "fingerprint": item.fingerprint} for item in KnownNodes()
        ],
    }


def _facts(key: PublicIdentity) -> dict[str, Any]:
    return {"key": key.text, "fingerprint": key.fingerprint}


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
        print(keyring.remove(remove_key))
    elif forget_node:
        print(keyring.forget(forget_node))
    elif accepted:
        print(keyring.accept(*accepted, gateway))
    else:
        show(as_json)
    sys.stdout.flush()
