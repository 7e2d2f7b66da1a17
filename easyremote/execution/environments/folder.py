"""The folder with the environments of this user on this machine, which all nodes of the user share.

Each has a key. A lock file of that name is held shared by whoever uses it, and alone by whoever builds or removes it, so that it
is built once however many ask for it, and none that is in use goes away. It is built beside and renamed: what is there is whole,
unless something else took of it, and then it is built anew. Locks end with their process; what an aborted build left behind is
removed by the next one.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import secrets
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import platformdirs

from easyremote.errors import AuthError
from easyremote.security.files import check_folder

CACHE_VARIABLE = "EASYREMOTE_CACHE_DIR"
"""Set to a folder: environments are there, instead of in the user's own cache folder."""

MAX_ENVIRONMENTS = 50
MAX_BYTES = 50 * 2**30
"""More of them, or more bytes in all, are removed after a build: those first that were used longest ago."""

FACTS = "easyremote.json"
PROGRAM = os.path.join("bin", "python")
"""Of every environment, in its folder."""

_KEY = re.compile(r"[0-9a-f]{20}")
_UNFINISHED = re.compile(rf"\.({_KEY.pattern})\.[0-9a-f]{{8}}")
"""What is being built or removed, or what is left of that."""

_LOOK_EVERY_S = 0.1


class Stopped(Exception):
    """Nobody waits for it any more."""


@dataclass(frozen=True, slots=True)
class Kept:
    """An environment that is there. `facts`: what it was built of; none where it is damaged. `used`: seconds since 1970."""

    key: str
    path: Path
    facts: dict[str, Any]
    used: float


class Hold:
    """A lock on one environment, until it is let go of."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    def release(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


def default_root() -> Path:
    """Where this user's are."""
    return Path(os.environ.get(CACHE_VARIABLE) or platformdirs.user_cache_dir("easyremote")) / "environments"


class EnvironmentFolder:
    """What is in it, and may be put there. A key has 20 hexadecimal digits."""

    def __init__(
        self, root: Path | None = None, max_environments: int = MAX_ENVIRONMENTS, max_bytes: int = MAX_BYTES
    ) -> None:
        self.root = root or default_root()
        self._max_environments = max_environments
        self._max_bytes = max_bytes

    @property
    def cache(self) -> Path:
        """Where packages are kept that were downloaded."""
        return self.root / "packages"

    def path(self, key: str) -> Path:
        return self.root / key

    def get(
        self,
        key: str,
        build: Callable[[Path], dict[str, Any]],
        stop: threading.Event,
        on_wait: Callable[[], None] = lambda: None,
    ) -> Hold:
        """Have the environment there, and keep it from being removed until the hold is released.

        `build(path)` makes it in a new folder and tells facts of it; it is called only where nobody else has made it. `on_wait`:
        another process is at it. Raises what `build` raises, Stopped after `stop` is set, AuthError where others can change the
        folder, OSError.
        """
        self._prepare()
        has_built = False
        while True:
            hold = self._lock(key, fcntl.LOCK_SH, stop, on_wait)
            if self.is_whole(key):
                self.used(key)
                if has_built:
                    self.tidy()
                return hold
            hold.release()
            hold = self._lock(key, fcntl.LOCK_EX, stop, on_wait)
            try:
                if not self.is_whole(key):
                    self._discard(key)
                    self._make(key, build, stop)
                    has_built = True
            finally:
                hold.release()

    def used(self, key: str) -> None:
        """Note that it is used now."""
        with contextlib.suppress(OSError):
            os.utime(self.path(key) / FACTS)

    def facts(self, key: str) -> dict[str, Any]:
        """What the environment that is there was built of. Raises OSError and ValueError where it is damaged."""
        found = json.loads((self.path(key) / FACTS).read_text())
        if not isinstance(found, dict):
            raise ValueError(f"{FACTS} of {key} says nothing")
        return found

    def is_whole(self, key: str) -> bool:
        """Whether it is there and can be used: its Python may have been removed or replaced since it was built."""
        try:
            self.facts(key)
        except (OSError, ValueError):
            return False
        return (self.path(key) / PROGRAM).exists()

    def is_in_use(self, key: str) -> bool:
        """Whether something runs in it, or builds it, now."""
        self._prepare()
        try:
            self._lock(key, fcntl.LOCK_EX).release()
        except BlockingIOError:
            return True
        return False

    def kept(self) -> list[Kept]:
        """What is there, used last first; nothing that somebody else has put into the folder."""
        found: list[Kept] = []
        for path in self.root.glob("*"):
            if not _KEY.fullmatch(path.name) or not path.is_dir():
                continue
            facts: dict[str, Any] = {}
            with contextlib.suppress(OSError, ValueError):
                facts = self.facts(path.name)
            with contextlib.suppress(FileNotFoundError):
                used = (path / FACTS if (path / FACTS).exists() else path).stat().st_mtime
                found.append(Kept(path.name, path, facts, used))
        return sorted(found, key=lambda kept: kept.used, reverse=True)

    def size(self, path: Path | None = None) -> int:
        """Bytes on the disk of all that is there, or of what is under this path; a file that several have counts once."""
        sizes: dict[tuple[int, int], int] = {}
        for folder, _, names in os.walk(path or self.root):
            for name in names:
                with contextlib.suppress(OSError):
                    status = os.lstat(os.path.join(folder, name))
                    sizes[status.st_dev, status.st_ino] = status.st_blocks * 512
        return sum(sizes.values())

    def remove(self, key: str) -> bool:
        """Remove it, unless it is in use. Raises AuthError where others can change the folder, OSError."""
        self._prepare()
        try:
            hold = self._lock(key, fcntl.LOCK_EX)
        except BlockingIOError:
            return False
        try:
            self._discard(key)
            return True
        finally:
            hold.release()

    def remove_unused(self) -> list[Kept]:
        """Remove all that nothing runs in, what was downloaded, and what aborted builds have left. Gives the environments."""
        self._prepare()
        gone = [kept for kept in self.kept() if self.remove(kept.key)]
        self._remove_leftovers()
        self._drop_cache()
        return gone

    def tidy(self) -> None:
        """Remove what aborted builds have left, and what is too much."""
        self._remove_leftovers()
        while True:
            kept, size = self.kept(), self.size()
            if len(kept) <= self._max_environments and size <= self._max_bytes:
                return
            if size > self._max_bytes and self._drop_cache():  # its files may be an environment's too
                continue
            if not any(self.remove(oldest.key) for oldest in reversed(kept)):
                return

    def _discard(self, key: str) -> None:
        """Remove what is there, in one step for whoever looks. Under its lock."""
        doomed = self.root / f".{key}.{secrets.token_hex(4)}"
        with contextlib.suppress(FileNotFoundError):
            self.path(key).rename(doomed)
        shutil.rmtree(doomed, ignore_errors=True)

    def _drop_cache(self) -> bool:
        """Forget what was downloaded, unless something is being built of it. Whether that changed anything."""
        try:
            hold = self._lock(self.cache.name, fcntl.LOCK_EX)
        except BlockingIOError:
            return False
        try:
            is_there = self.cache.is_dir()
            shutil.rmtree(self.cache, ignore_errors=True)
            return is_there and not self.cache.is_dir()
        finally:
            hold.release()

    def _remove_leftovers(self) -> None:
        for path in self.root.glob(".*.*"):
            if found := _UNFINISHED.fullmatch(path.name):
                self._remove_left(path, found[1])

    def _remove_left(self, path: Path, key: str) -> None:
        try:
            hold = self._lock(key, fcntl.LOCK_EX)
        except BlockingIOError:
            return  # it is being built
        try:
            shutil.rmtree(path, ignore_errors=True)
        finally:
            hold.release()

    def _prepare(self) -> None:
        (self.root / "locks").mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            check_folder(self.root, "environments that code runs in")
        except AuthError:
            if self.root.stat().st_uid != os.getuid():
                raise
            self.root.chmod(0o700)  # made by something with another umask

    def _make(self, key: str, build: Callable[[Path], dict[str, Any]], stop: threading.Event) -> None:
        for left in self.root.glob(f".{key}.*"):
            shutil.rmtree(left, ignore_errors=True)
        made = self.root / f".{key}.{secrets.token_hex(4)}"
        cache = self._lock(self.cache.name, fcntl.LOCK_SH, stop)
        try:
            facts = build(made)
            (made / FACTS).write_text(json.dumps(facts | {"built": time.time()}))
            made.rename(self.path(key))
        except BaseException:
            shutil.rmtree(made, ignore_errors=True)
            raise
        finally:
            cache.release()

    def _lock(
        self,
        key: str,
        kind: int,
        stop: threading.Event | None = None,
        on_wait: Callable[[], None] = lambda: None,
    ) -> Hold:
        """Without `stop`: at once, or BlockingIOError."""
        descriptor = os.open(self.root / "locks" / key, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            while True:
                try:
                    fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
                    return Hold(descriptor)
                except BlockingIOError:
                    if stop is None:
                        raise
                    on_wait()
                if stop.wait(_LOOK_EVERY_S):
                    raise Stopped
        except BaseException:
            os.close(descriptor)
            raise
