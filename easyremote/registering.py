"""What this client registered, so that it can tell when that isn't what the notebook has any more.

A registration remembers the function itself. Its version is that of everything that the function reaches, so it changes when a
helper's cell is run again with other code, a constant gets another value, or a shipped module is edited.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from easyremote.errors import EasyRemoteError
from easyremote.execution import functions as introspect
from easyremote.execution.functions import Ships
from easyremote.model import FunctionInfo
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_REGISTRATIONS = 1000
"""Of further ones the oldest are forgotten, and not told to be stale."""


@dataclass(frozen=True, slots=True)
class Registration:
    """`again()` registers it anew, as it was."""

    function: Callable[..., Any]
    spec: pb.FunctionSpec
    again: Callable[[], object]


class Registrations:
    """One client's. `ships`: which modules go along with code."""

    def __init__(self, ships: Ships) -> None:
        self._ships = ships
        self._known: dict[str, Registration] = {}

    def add(self, registration: Registration) -> None:
        self._known.pop(registration.spec.name, None)
        self._known[registration.spec.name] = registration
        while len(self._known) > MAX_REGISTRATIONS:
            del self._known[next(iter(self._known))]

    def remove(self, name: str) -> None:
        self._known.pop(name, None)

    def judged(self, info: FunctionInfo) -> FunctionInfo:
        """The same, with whether it is what this client has."""
        registration = self._known.get(info.name)
        if registration is None:
            return info
        version = self._version(registration)
        stale = tuple(node for node, held in info.versions.items() if held != version)
        return replace(info, is_stale=version != registration.spec.version, stale_nodes=stale)

    def stale(self) -> list[Registration]:
        """Those of which no node has what is here now."""
        return [known for known in list(self._known.values()) if self._version(known) != known.spec.version]

    def _version(self, registration: Registration) -> str:
        with contextlib.suppress(EasyRemoteError, OSError):  # a module's file may be half written, or gone
            return introspect.version_of(registration.function, registration.spec, self._ships)
        return ""
