"""Small items that leave together: as many as were produced while the writer was busy."""

from __future__ import annotations

import threading


class Packer:
    """Gathers items until they are taken. Safe from any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._pack: list[bytes] | None = None

    def add(self, data: bytes) -> list[bytes] | None:
        """The pack, when this is its first item, so that somebody must be told of it; None otherwise."""
        with self._lock:
            if self._pack is not None:
                self._pack.append(data)
                return None
            self._pack = [data]
            return self._pack

    def seal(self) -> None:
        """What is added from now on goes into another pack: something else comes between."""
        self._pack = None

    def take(self, pack: list[bytes]) -> list[bytes]:
        """The pack, which grows no more."""
        with self._lock:
            if self._pack is pack:
                self._pack = None
        return pack
