"""Whose calls a node takes: the file `authorized_keys`, a line for each key, as SSH has it.

    call-only,functions="predict,resize*" er-key:AbC… laptop of Ana
    expires="2027-01-01",memory="8GiB",gpus="1" er-key:DeF… course
    er-key:GhI… me

Options: `call-only` (it calls functions that are registered here, and brings no code), `functions` (only those, by name or
pattern; implies call-only, since code could call any), `expires` (a date, or a time as ISO 8601; without a zone it is UTC),
`memory` (of each of its calls), `gpus` (for each of its calls at most). A file with a line that can't be read lets nobody in.
"""

from __future__ import annotations

import contextlib
import fnmatch
import os
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from easyremote.errors import AuthError, UsageError
from easyremote.security.files import config_folder, write_private
from easyremote.security.identity import KEY_PREFIX, PublicIdentity
from easyremote.sizes import format_size, parse_size

AUTHORIZED_KEYS_FILE = "authorized_keys"
MAX_FILE_BYTES = 1 << 20
MAX_GPUS = 64

_OPTION = re.compile(r'([a-z-]+)(?:="([^"]*)")?(,|\s+)')


@dataclass(frozen=True, slots=True)
class AuthorizedKey:
    """A key with what it may do. `memory_bytes` 0: no limit; `gpus` None: likewise."""

    key: PublicIdentity
    call_only: bool = False
    functions: tuple[str, ...] = ()
    expires: float | None = None
    memory_bytes: int = 0
    gpus: int | None = None
    comment: str = ""

    @property
    def may_ship(self) -> bool:
        """Whether it may bring code."""
        return not self.call_only and not self.functions

    def may_call(self, function: str) -> bool:
        return not self.functions or any(fnmatch.fnmatchcase(function, pattern) for pattern in self.functions)

    def is_expired(self, now: float) -> bool:
        return self.expires is not None and not now < self.expires

    @property
    def options(self) -> str:
        """As the file has them."""
        found = ["call-only"] if self.call_only else []
        if self.functions:
            found.append(f'functions="{",".join(self.functions)}"')
        if self.expires is not None:
            found.append(f'expires="{iso_time(self.expires)}"')
        if self.memory_bytes:
            found.append(f'memory="{self.memory_bytes}"')
        if self.gpus is not None:
            found.append(f'gpus="{self.gpus}"')
        return ",".join(found)

    @property
    def line(self) -> str:
        return " ".join(part for part in (self.options, self.key.text, self.comment) if part)

    def describe(self) -> str:
        """What it may do, for people."""
        rights = "calls functions and ships code" if self.may_ship else "calls functions, ships no code"
        if self.functions:
            rights = f"calls {', '.join(self.functions)}, ships no code"
        if self.memory_bytes:
            rights += f", {format_size(self.memory_bytes)} a call"
        if self.gpus is not None:
            rights += f", {self.gpus} GPU{'' if self.gpus == 1 else 's'} a call"
        return rights + (f", until {iso_time(self.expires)}" if self.expires is not None else "")


def make_key(
    key: str | PublicIdentity,
    *,
    call_only: bool = False,
    functions: Iterable[str] = (),
    expires: str | float | None = None,
    memory: object = None,
    gpus: int | None = None,
    comment: str = "",
) -> AuthorizedKey:
    """From what a person says. Raises UsageError for what is wrong with it."""
    identity = PublicIdentity.from_text(key) if isinstance(key, str) else key
    patterns = tuple(functions)
    for pattern in patterns:
        if not pattern or not pattern.isprintable() or any(c in pattern for c in '",') or pattern != pattern.strip():
            raise UsageError(f"functions are named by name or pattern (train, predict*), not {pattern[:60]!r}")
    if gpus is not None and not (isinstance(gpus, int) and 0 <= gpus <= MAX_GPUS):
        raise UsageError(f"gpus is a whole number from 0 to {MAX_GPUS}, not {gpus!r}")
    if not comment.isprintable():
        raise UsageError("a key's comment is one line of printable text")
    return AuthorizedKey(
        identity,
        call_only,
        patterns,
        parse_time(expires) if isinstance(expires, str) else expires,
        parse_size(memory, "memory") if memory is not None else 0,
        gpus,
        " ".join(comment.split()),
    )


def parse_line(line: str) -> AuthorizedKey | None:
    """One line of the file; None for an empty one or a comment. Raises UsageError."""
    rest = line.strip()
    if not rest or rest.startswith("#"):
        return None
    options: dict[str, str | None] = {}
    goes_on = not rest.startswith(KEY_PREFIX)
    while goes_on:
        found = _OPTION.match(rest)
        if found is None:
            raise UsageError(f"neither an option nor a key begins with {rest[:24]!r}")
        name, value, end = found.groups()
        if name in options:
            raise UsageError(f"the option '{name}' stands there twice")
        options[name] = value
        rest = rest[found.end() :]
        goes_on = end == ","
    if not rest.startswith(KEY_PREFIX):
        raise UsageError(f"after the options comes the key, {KEY_PREFIX}…, and not {rest[:24]!r}")
    key, _, comment = rest.partition(" ")
    return make_key(key, **_arguments(options), comment=comment)


def _arguments(options: dict[str, str | None]) -> dict[str, Any]:
    arguments: dict[str, Any] = {}
    for name, value in options.items():
        if name not in ("call-only", "functions", "expires", "memory", "gpus"):
            raise UsageError(f"there is no option '{name}'; there are call-only, functions, expires, memory and gpus")
        if name == "call-only":
            if value is not None:
                raise UsageError("call-only takes no value")
            arguments["call_only"] = True
            continue
        if not value:
            raise UsageError(f'{name} takes a value in double quotes: {name}="…"')
        arguments[name] = value
    if "functions" in arguments:
        arguments["functions"] = str(arguments["functions"]).split(",")
    if "gpus" in arguments:
        text = str(arguments["gpus"])
        if not (text.isascii() and text.isdigit() and len(text) < 4):
            raise UsageError(f"gpus is a whole number from 0 to {MAX_GPUS}, not {text[:20]!r}")
        arguments["gpus"] = int(text)
    return arguments


def parse_time(text: str) -> float:
    """Seconds since 1970. Raises UsageError for what is no date and no time of ISO 8601."""
    try:
        found = datetime.fromisoformat(text)
        return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        raise UsageError(
            f"'{text[:40]}' is no date such as 2027-01-01, and no time such as 2027-01-01T12:00+02:00"
        ) from None


def iso_time(seconds: float) -> str:
    """The same as text, in UTC."""
    found = datetime.fromtimestamp(seconds, UTC)
    is_date = not (found.hour or found.minute or found.second or found.microsecond)
    return found.date().isoformat() if is_date else found.isoformat(timespec="seconds")


def authorized_keys_path() -> Path:
    return config_folder() / AUTHORIZED_KEYS_FILE


class AuthorizedKeys:
    """The file, read again when it has changed: what is added or taken away holds for the next call."""

    def __init__(self, path: Path | None = None) -> None:
        self.path = path or authorized_keys_path()
        self._read_as: tuple[int, int, int] | None = None
        self._keys: dict[bytes, AuthorizedKey] = {}

    def __iter__(self) -> Iterator[AuthorizedKey]:
        self._refresh()
        return iter(list(self._keys.values()))

    def find(self, sign_key: bytes) -> AuthorizedKey | None:
        """What this key may do here, expired or not. Raises UsageError with the line that can't be read, and AuthError where
        others can write the file."""
        self._refresh()
        return self._keys.get(sign_key)

    def add(self, key: AuthorizedKey) -> bool:
        """Let it in, in place of what was said of it before. False: it was there just so."""
        known = self.find(key.key.sign_key)
        if known == key:
            return False
        lines = self._lines_without(key.key.sign_key)
        self._write([*lines, key.line])
        return True

    def remove(self, sign_key: bytes) -> bool:
        """Let it in no more. False: it wasn't there."""
        if self.find(sign_key) is None:
            return False
        self._write(self._lines_without(sign_key))
        return True

    def _lines_without(self, sign_key: bytes) -> list[str]:
        kept: list[str] = []
        for line in self._text().splitlines():
            entry = parse_line(line)
            if entry is None or entry.key.sign_key != sign_key:
                kept.append(line)
        return kept

    def _write(self, lines: list[str]) -> None:
        write_private(self.path, "".join(f"{line}\n" for line in lines).encode())
        self._read_as = None

    def _refresh(self) -> None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            self._read_as, self._keys = None, {}
            return
        as_it_is = status.st_mtime_ns, status.st_size, status.st_ino
        if as_it_is != self._read_as:
            self._keys = self._parse(self._text())
            self._read_as = as_it_is

    def _parse(self, text: str) -> dict[bytes, AuthorizedKey]:
        keys: dict[bytes, AuthorizedKey] = {}
        lines: dict[bytes, int] = {}
        for number, line in enumerate(text.splitlines(), 1):
            try:
                entry = parse_line(line)
            except UsageError as error:
                raise UsageError(f"{self.path}, line {number}: {error.message}") from None
            if entry is None:
                continue
            if entry.key.sign_key in keys:
                first = lines[entry.key.sign_key]
                raise UsageError(f"{self.path}, line {number}: the key of line {first} stands there again; keep one")
            keys[entry.key.sign_key], lines[entry.key.sign_key] = entry, number
        return keys

    def _text(self) -> str:
        content = b""
        with contextlib.suppress(FileNotFoundError), self.path.open("rb") as file:
            status = os.fstat(file.fileno())
            if os.name == "posix" and (status.st_mode & 0o022 or status.st_uid not in (os.getuid(), 0)):
                raise AuthError(
                    f"other users can write {self.path} (mode {status.st_mode & 0o777:04o}, owner {status.st_uid}), so it may "
                    f"say anything. Look at what is in it, then: chmod 600 {self.path}"
                )
            content = file.read(MAX_FILE_BYTES + 1)
        if len(content) > MAX_FILE_BYTES:
            raise UsageError(f"{self.path} has more than {MAX_FILE_BYTES} bytes")
        try:
            return content.decode()
        except UnicodeDecodeError:
            raise UsageError(f"{self.path} isn't UTF-8 text") from None
