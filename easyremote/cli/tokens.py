"""`easyremote tokens`."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

from easyremote import foreign
from easyremote.cli.exits import tell
from easyremote.cli.json_text import json_text
from easyremote.client import Client
from easyremote.errors import UsageError
from easyremote.model import TokenInfo
from easyremote.sizes import format_size, format_span, parse_size
from easyremote.tables import Table


def run(
    action: str,
    token_id: str | None,
    gateway: str | None,
    as_json: bool,
    name: str,
    roles: Sequence[str] | None,
    options: Mapping[str, Any],
) -> None:
    """Raises UsageError for anything but "list", "create", or "revoke" with an id, and what the gateway answers."""
    if action not in ("list", "create", "revoke") or (action == "revoke") != (token_id is not None):
        raise UsageError(
            "it is 'easyremote tokens', 'easyremote tokens create --name NAME' or 'easyremote tokens revoke ID'"
        )
    if action != "create" and (name or roles or any(options.values())):
        raise UsageError(f"only 'easyremote tokens create' takes options; '{action}' has none")
    with Client(gateway) as client:
        if action == "list":
            _list(client.tokens(), as_json)
        elif action == "create":
            if not name:
                raise UsageError(
                    "say whose it is: 'easyremote tokens create --name NAME'; lists and refusals call it so"
                )
            size = parse_size(options["max_bytes"], "max_bytes") if options["max_bytes"] else 0
            _created(*client.create_token(name, roles or ("call",), **{**options, "max_bytes": size}), as_json)
        elif token_id is not None:
            gone = client.revoke_token(token_id)
            print(json_text(gone.to_dict()) if as_json else f"Token {gone.id} ('{gone.name}') opens nothing any more.")


def _created(info: TokenInfo, text: str, as_json: bool) -> None:
    if as_json:
        print(json_text({**info.to_dict(), "token": text}))
        return
    print(text)
    tell(
        f"Token {info.id} ('{info.name}') allows {_allows(info)}. It is shown only now; who has it sets EASYREMOTE_TOKEN to it. "
        f"Undo: easyremote tokens revoke {info.id}"
    )


def _list(found: Sequence[TokenInfo], as_json: bool) -> None:
    if as_json:
        for info in found:
            print(json_text(info.to_dict()))
        return
    if not found:
        print("No tokens but the gateway's own. Make one with: easyremote tokens create --name NAME")
        return
    rows = [(info.id, foreign.name(info.name), _allows(info), _bounds(info), _until(info)) for info in found]
    print(Table("Tokens", ["id", "name", "allows", "bounds", "expires"], rows))


def _allows(info: TokenInfo) -> str:
    parts = ["an invitation to " * info.is_invitation + ", ".join(info.roles)]
    parts += [
        f"{what} {', '.join(names)}" for what, names in (("functions", info.functions), ("nodes", info.nodes)) if names
    ]
    return "; ".join(parts)


def _bounds(info: TokenInfo) -> str:
    parts = [f"{info.max_calls} calls"] if info.max_calls else []
    parts += [format_size(info.max_bytes)] if info.max_bytes else []
    parts += [f"{info.calls_per_s:g} calls/s"] if info.calls_per_s else []
    return ", ".join(parts)


def _until(info: TokenInfo) -> str:
    if info.expires is None:
        return "never"
    left_s = info.expires - time.time()
    return f"in {format_span(left_s)}" if left_s > 0 else "has expired"
