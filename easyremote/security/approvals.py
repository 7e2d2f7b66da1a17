"""What a node's owner has approved: code by its hash, and the text that was approved last under each name, to compare with."""

from __future__ import annotations

import json
from pathlib import Path

from easyremote.errors import AuthError
from easyremote.security.files import config_folder, read_private, write_private

APPROVALS_FILE = "approved.json"

MAX_APPROVED = 1000
"""Hashes that are approved for always; the oldest go first, and are asked about again."""

MAX_TEXTS = 100
MAX_TEXT_BYTES = 64 * 1024


class Approvals:
    """The file, which no other user can read or change."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or config_folder() / APPROVALS_FILE
        self._always: dict[str, str] = {}
        self._texts: dict[str, str] = {}
        self._read()

    def is_approved(self, digest: str) -> bool:
        """Whether this code was approved for always."""
        return digest in self._always

    def last(self, name: str) -> str | None:
        """What was approved last under that name, as it was shown."""
        return self._texts.get(name)

    def approve(self, digest: str, name: str, text: str, always: bool) -> None:
        """Keep a decision. Raises OSError where it can't be written."""
        self._texts.pop(name, None)
        if len(text.encode()) <= MAX_TEXT_BYTES:
            self._texts[name] = text
        if always:
            self._always[digest] = name
        for kept, most in ((self._always, MAX_APPROVED), (self._texts, MAX_TEXTS)):
            while len(kept) > most:
                del kept[next(iter(kept))]
        write_private(self.path, json.dumps({"always": self._always, "texts": self._texts}).encode())

    def _read(self) -> None:
        try:
            found = json.loads(read_private(self.path, "the list of approved code", 16 << 20))
            self._always = {str(digest): str(name) for digest, name in found["always"].items()}
            self._texts = {str(name): str(text) for name, text in found["texts"].items()}
        except FileNotFoundError:
            return
        except (ValueError, KeyError, TypeError, AttributeError):
            raise AuthError(f"{self.path} holds no approvals; delete it, and you are asked again") from None
