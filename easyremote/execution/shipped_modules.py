"""Modules that a client shipped with its code, in the worker that runs it.

Rules:
- Each version of a module lies in a folder of its own, named by its content, so that modules, packages, data files beside them
  and `__file__` are what they were on the client.
- A function sees the versions that it was shipped with, whatever ran in this worker before: they are exchanged in `sys.modules`
  before it runs. While a version doesn't change, its module objects stay the same, and so do its classes.
- A module of the same name that is installed on the node gives way, and is back for functions that were shipped without.
"""

from __future__ import annotations

import contextlib
import importlib.abc
import importlib.machinery
import os
import shutil
import stat
import sys
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from types import ModuleType
from typing import Any

from easyremote.errors import PayloadError, UsageError

_MAX_STASHED = 32
"""Versions whose module objects are kept for functions that may run again."""


class Bundle:
    """What travels: stands in front of what needs the modules, since a pickle is loaded in order."""

    def __init__(self, modules: Mapping[str, tuple[str, dict[str, bytes]]]) -> None:
        """`modules`: by top-level name, their version and their files by path."""
        self.modules = dict(modules)

    def __reduce__(self) -> Any:
        return install, (self.modules,)


def install(modules: dict[str, tuple[str, dict[str, bytes]]]) -> dict[str, str]:
    """What unpickling calls: have these modules importable here from now on. Their versions by name.

    Raises UsageError outside of a worker, PayloadError for paths that lead elsewhere.
    """
    if _here is None:
        raise UsageError("shipped modules are of use only in a worker of a node")
    for name, (version, files) in modules.items():
        _here.add(name, version, files)
    versions = {name: version for name, (version, _) in modules.items()}
    _here.activate(versions)
    return versions


def activate(versions: Mapping[str, str]) -> None:
    """Have exactly these versions of shipped modules importable, and none of others."""
    if _here is not None and (versions or _here.active):
        _here.activate(versions, alone=True)


def serve(folder: str | None) -> None:
    """This process is a worker. `folder`: where modules are to lie; None: in a temporary folder, which ends with its sandbox."""
    global _here
    _here = ShippedModules(folder)
    sys.meta_path.insert(0, _here)


class ShippedModules(importlib.abc.MetaPathFinder):
    """The finder, and what is where."""

    def __init__(self, parent: str | None) -> None:
        self._parent = parent
        self._folder: Path | None = None
        self.active: dict[str, str] = {}
        self._stash: OrderedDict[tuple[str, str], dict[str, ModuleType]] = OrderedDict()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        version = self.active.get(fullname)
        if path is not None or version is None:
            return None  # what is in a package is found by its path
        return importlib.machinery.PathFinder.find_spec(fullname, [str(self._place(fullname, version))])

    def add(self, name: str, version: str, files: Mapping[str, bytes]) -> None:
        place = self._place(name, version)
        if place.exists():
            return
        half = Path(tempfile.mkdtemp(dir=place.parent))
        for path, data in files.items():
            if PurePosixPath(path).is_absolute() or ".." in PurePosixPath(path).parts:
                raise PayloadError(f"a shipped module has a file at '{path[:100]}', which leads elsewhere")
            target = half / path
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(data)
        os.rename(half, place)

    def activate(self, versions: Mapping[str, str], alone: bool = False) -> None:
        wanted = {**({} if alone else self.active), **versions}
        for name in {*self.active, *wanted}:
            before, after = self.active.get(name, ""), wanted.get(name, "")
            if before != after:
                self._exchange(name, before, after)

    def _exchange(self, name: str, before: str, after: str) -> None:
        loaded = [module for module in sys.modules if module == name or module.startswith(f"{name}.")]
        self._stash[name, before] = {module: sys.modules.pop(module) for module in loaded}
        sys.modules.update(self._stash.pop((name, after), {}))
        if after:
            self.active[name] = after
        else:
            del self.active[name]
        while len(self._stash) > _MAX_STASHED:
            self._stash.popitem(last=False)

    def _place(self, name: str, version: str) -> Path:
        if not name.isidentifier() or not version.isalnum():
            raise PayloadError(f"'{name[:100]}' is no module that can be shipped")
        if self._folder is None:
            if self._parent is not None:
                _make_private(Path(self._parent).parent)
                _make_private(Path(self._parent))
            self._folder = Path(tempfile.mkdtemp(prefix=f"easyremote-{os.getpid()}-", dir=self._parent))
        return self._folder / f"{name}-{version}"


_here: ShippedModules | None = None


class ModuleFolder:
    """A node's: where its workers put shipped modules. Made by the first worker that needs it, removed when the node ends, or,
    where it was killed, by the next node of this user."""

    def __init__(self) -> None:
        self._parent = Path(tempfile.gettempdir(), f"easyremote-modules-{os.getuid()}")
        self.path = str(self._parent / str(os.getpid()))

    def close(self) -> None:
        """Remove it, and those of processes that are gone."""
        if not _is_private(self._parent):  # another user's, or there is none
            return
        shutil.rmtree(self.path, ignore_errors=True)
        for left in self._parent.glob("*"):
            if left.name.isdecimal() and not _is_alive(int(left.name)):
                shutil.rmtree(left, ignore_errors=True)
        with contextlib.suppress(OSError):  # another node's are in it, or it never was
            self._parent.rmdir()


def _make_private(folder: Path) -> None:
    """Raises PayloadError where others could put code of theirs in the place of what is written there. The name can be guessed,
    and everyone may make folders beside it."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir(mode=0o700, parents=True)
    if not _is_private(folder):
        raise PayloadError(
            f"modules can't be taken on this node: other users can write to {folder}; remove it, or give the node a "
            "temporary folder of its own (TMPDIR)"
        )


def _is_private(folder: Path) -> bool:
    """Whether it is a folder, and no link, into which this user alone can put something."""
    try:
        status = folder.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.getuid() and not status.st_mode & 0o022


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True
