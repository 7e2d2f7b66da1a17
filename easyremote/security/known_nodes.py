"""Which keys a client has seen nodes by: trusted with the first use, and a changed one is refused, as ssh does.

The file `known_nodes` has a line for each node of each gateway: where (the gateway, as its fingerprint or address), the node's
name, and its key's fingerprint. A node that comes under a new name with a key that is known there needs no line of its own.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from urllib.parse import quote, unquote

from easyremote.errors import ConsentError, UsageError
from easyremote.security.files import config_folder, read_private, write_private
from easyremote.security.identity import PublicIdentity

KNOWN_NODES_FILE = "known_nodes"

NEW_NODES_VARIABLE = "EASYREMOTE_NEW_NODES"
"""Set to "refuse": a node whose key isn't known yet is trusted only after `easyremote keys --accept`."""

MAX_KNOWN = 10_000
"""Lines of the file; the oldest go first."""


class Standing(Enum):
    """How a node's key relates to what is known."""

    KNOWN = "known"
    NEW = "new"
    CHANGED = "changed"


@dataclass(frozen=True, slots=True)
class KnownNode:
    gateway: str
    node_id: str
    fingerprint: str

    @property
    def line(self) -> str:
        return f"{quote(self.gateway, safe=':[]/+=')} {quote(self.node_id)} {self.fingerprint}"


def known_nodes_path() -> Path:
    return config_folder() / KNOWN_NODES_FILE


class KnownNodes:
    """The file. Thread-safe; several processes may use it at once: each reads it anew before it writes."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or known_nodes_path()
        self._lock = threading.Lock()
        self._read_as: tuple[int, int, int] | None = None
        self._known: dict[tuple[str, str], KnownNode] = {}
        self._keys: set[tuple[str, str]] = set()

    def __iter__(self) -> Iterator[KnownNode]:
        with self._lock:
            self._refresh()
            return iter(list(self._known.values()))

    def standing(self, gateway: str, node_id: str, key: PublicIdentity) -> Standing:
        """Whether the node is known there by this key. Raises AuthError where the file can't be trusted."""
        with self._lock:
            self._refresh()
            known = self._known.get((gateway, node_id))
            if known is not None:
                return Standing.KNOWN if known.fingerprint == key.fingerprint else Standing.CHANGED
            return Standing.KNOWN if (gateway, key.fingerprint) in self._keys else Standing.NEW

    def trust(self, gateway: str, node_id: str, key: PublicIdentity) -> Standing:
        """Whether the node may be believed: known, or trusted from now on. What was so before is told.

        Raises ConsentError for a changed key, and for a new one where new ones are refused; both with the remedy.
        """
        standing = self.standing(gateway, node_id, key)
        if standing is Standing.CHANGED:
            raise ConsentError(changed(gateway, node_id, key, self.path), fingerprint=key.fingerprint)
        if standing is Standing.NEW:
            if os.environ.get(NEW_NODES_VARIABLE) == "refuse":
                raise ConsentError(
                    f"the key of node '{node_id}' isn't known here yet. Compare it with what 'easyremote keys' shows on the "
                    f"node ({key.fingerprint}), then: easyremote keys --accept '{node_id}' {key.fingerprint}",
                    fingerprint=key.fingerprint,
                )
            self.accept(gateway, node_id, key.fingerprint)
        return standing

    def accept(self, gateway: str, node_id: str, fingerprint: str) -> None:
        """Know the node by this key from now on, whatever was known before. Raises OSError where that can't be written."""
        with self._lock:
            self._read_as = None
            self._refresh()
            self._known.pop((gateway, node_id), None)
            self._known[gateway, node_id] = KnownNode(gateway, node_id, fingerprint)
            while len(self._known) > MAX_KNOWN:
                del self._known[next(iter(self._known))]
            self._write()

    def forget(self, node_id: str, gateway: str | None = None) -> int:
        """Know it no more, at this gateway or at all: the next key that it comes with is trusted. Tells how many there were."""
        with self._lock:
            self._read_as = None
            self._refresh()
            gone = [key for key in self._known if key[1] == node_id and gateway in (None, key[0])]
            for key in gone:
                del self._known[key]
            if gone:
                self._write()
            return len(gone)

    def _write(self) -> None:
        write_private(self.path, "".join(f"{known.line}\n" for known in self._known.values()).encode())
        self._keys = {(known.gateway, known.fingerprint) for known in self._known.values()}
        self._read_as = None

    def _refresh(self) -> None:
        status = None
        with contextlib.suppress(FileNotFoundError):
            status = self.path.stat()
        as_it_is = (status.st_mtime_ns, status.st_size, status.st_ino) if status is not None else (0, 0, 0)
        if as_it_is == self._read_as:
            return
        known: dict[tuple[str, str], KnownNode] = {}
        if status is not None:
            for number, line in enumerate(read_private(self.path, "the list of known nodes").decode().splitlines(), 1):
                if not line.strip() or line.startswith("#"):
                    continue
                parts = line.split()
                if len(parts) != 3 or not parts[2].startswith("SHA256:"):
                    raise UsageError(
                        f"{self.path}, line {number}: it isn't 'gateway node SHA256:…'; mend or delete the line"
                    )
                entry = KnownNode(unquote(parts[0]), unquote(parts[1]), parts[2])
                known[entry.gateway, entry.node_id] = entry
        self._known = known
        self._keys = {(entry.gateway, entry.fingerprint) for entry in known.values()}
        self._read_as = as_it_is


def changed(gateway: str, node_id: str, key: PublicIdentity, path: Path) -> str:
    """What is told of a node that comes with another key than it had."""
    return (
        f"the key of node '{node_id}' at {gateway} has changed: it is {key.fingerprint} now. Either the node was set up anew, or "
        "somebody, perhaps the gateway, stands in for it. Nothing was sent there. If you know why it changed, and 'easyremote "
        f"keys' on the node shows that fingerprint: easyremote keys --forget '{node_id}'  (it is kept in {path})"
    )
