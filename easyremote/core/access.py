"""What a token allows whoever shows it: at a gateway, which is all that a token is for."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from fnmatch import fnmatchcase


class Role(StrEnum):
    CALL = "call"  # functions that nodes offer
    SHIP = "ship"  # code of one's own; implies CALL
    SERVE = "serve"  # be a node
    ADMIN = "admin"  # implies all


def may_call(roles: Iterable[str]) -> bool:
    return not {Role.CALL, Role.SHIP, Role.ADMIN}.isdisjoint(roles)


def may_ship(roles: Iterable[str]) -> bool:
    return not {Role.SHIP, Role.ADMIN}.isdisjoint(roles)


def may_serve(roles: Iterable[str]) -> bool:
    return not {Role.SERVE, Role.ADMIN}.isdisjoint(roles)


@dataclass(frozen=True, slots=True)
class Access:
    """A token as the gateway sees it, without its secret.

    `functions` and `nodes`: shell patterns of the names that it may call, and where, and under which it may serve; empty: all.
    `max_calls`, `max_bytes`, `calls_per_s`: what all its sessions may have at the gateway together, 0: no bound of its own.
    `expires_at`: on the gateway's monotonic clock, which nobody sets back; None: never.
    """

    token_id: str
    name: str
    roles: frozenset[Role]
    functions: tuple[str, ...] = ()
    nodes: tuple[str, ...] = ()
    max_calls: int = 0
    max_bytes: int = 0
    calls_per_s: float = 0.0
    expires_at: float | None = None

    @property
    def is_owner(self) -> bool:
        """Whether it is the gateway's own token, which is its user's."""
        return self.token_id == OWNER_ID

    @property
    def may_call(self) -> bool:
        return may_call(self.roles)

    @property
    def may_ship(self) -> bool:
        return may_ship(self.roles)

    @property
    def may_serve(self) -> bool:
        return may_serve(self.roles)

    @property
    def may_administer(self) -> bool:
        return Role.ADMIN in self.roles

    def allows_function(self, name: str) -> bool:
        """Whether functions of this name may be called."""
        return not self.functions or matches(name, self.functions)

    def allows_node(self, node_id: str) -> bool:
        """Whether calls may go to the node of this name, and a node of this name may be served."""
        return not self.nodes or matches(node_id, self.nodes)

    def has_expired(self, now: float) -> bool:
        return now >= (math.inf if self.expires_at is None else self.expires_at)


def matches(name: str, patterns: tuple[str, ...]) -> bool:
    """Whether one of these shell patterns is true of the name. Case counts."""
    return any(fnmatchcase(name, pattern) for pattern in patterns)


OWNER_ID = "owner"
"""Of the gateway's own token. Others are 8 hex digits."""

OWNER = Access(OWNER_ID, "the gateway's own", frozenset(Role))
"""Who has it is the user whose gateway it is."""
