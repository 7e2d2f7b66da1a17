"""What joining leaves behind: the address, the key and the token of a gateway, for whoever looks for one on this machine."""

from __future__ import annotations

import base64
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path

from easyremote.core.access import Role, may_call, may_serve
from easyremote.errors import AuthError
from easyremote.security.files import config_folder, read_private, write_private

_WHAT = "the token of a gateway"

_VERSION = 1

MAX_KEPT = 1000
"""Files that are looked at."""


@dataclass(frozen=True, slots=True)
class Credential:
    """`addresses`: the one that answered first. `fingerprint`: of the gateway's public key. `invitation_id`: what it was
    exchanged for. `joined`: seconds since 1970. `inviter`: identity whose code a node trusts for having been invited by it."""

    addresses: tuple[str, ...]
    fingerprint: str
    token: str = field(repr=False)
    roles: tuple[Role, ...]
    gateway_name: str = ""
    invitation_id: str = ""
    joined: float = 0.0
    inviter: bytes = b""

    @property
    def is_for_node(self) -> bool:
        return may_serve(self.roles)

    @property
    def is_for_client(self) -> bool:
        return may_call(self.roles)

    @property
    def path(self) -> Path:
        """A machine may be a node and a client of one gateway."""
        address = re.sub(r"[^A-Za-z0-9.-]", "_", self.addresses[0])[:100]
        return folder() / f"{address}-{'node' if Role.SERVE in self.roles else 'client'}.json"

    def save(self) -> Path:
        """Raises OSError."""
        facts = asdict(self) | {"version": _VERSION, "inviter": base64.b64encode(self.inviter).decode()}
        write_private(self.path, json.dumps(facts, indent=1).encode())
        return self.path


def folder() -> Path:
    return config_folder() / "gateways"


def load_all() -> list[Credential]:
    """The newest first. Raises AuthError for one that others can read or replace, or that says something else."""
    found = [_load(path) for path in sorted(folder().glob("*.json"))[:MAX_KEPT]]
    return sorted((one for one in found if one is not None), key=lambda one: -one.joined)


def _load(path: Path) -> Credential | None:
    try:
        facts = json.loads(read_private(path, _WHAT))
        if facts.pop("version") > _VERSION:
            return None
        return Credential(
            tuple(map(str, facts["addresses"])),
            str(facts["fingerprint"]),
            str(facts["token"]),
            tuple(map(Role, facts["roles"])),
            str(facts["gateway_name"]),
            str(facts["invitation_id"]),
            float(facts["joined"]),
            base64.b64decode(facts["inviter"]),
        )
    except FileNotFoundError:
        return None
    except (ValueError, TypeError, KeyError, AttributeError):  # its text has the token
        raise AuthError(f"{path} isn't {_WHAT}, as joining writes it; delete it, and join again") from None
