"""The files of modules beside the notebook: found, read, bounded, and hashed, so that an edit is a new version."""

from __future__ import annotations

import ast
import hashlib
import importlib.machinery
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from easyremote.errors import UsageError
from easyremote.execution import local_modules
from easyremote.sizes import format_size

MAX_BYTES = 16 << 20
"""Files of one module, together."""

MAX_FILES = 2000
"""And how many they may be."""

_VERSION_DIGITS = 16
_SKIPPED = frozenset({"__pycache__", "node_modules"})
_COMPILED = tuple({*importlib.machinery.EXTENSION_SUFFIXES, ".so", ".pyd", ".dll"})


@dataclass(frozen=True, slots=True)
class ModuleFiles:
    """One top-level module or package. `files`: by path below the folder that it is imported from. `imports`: top-level modules
    that its code names."""

    name: str
    path: Path
    files: dict[str, bytes]
    digest: str
    imports: frozenset[str]

    @property
    def size(self) -> int:
        return sum(map(len, self.files.values()))


def read_module(name: str) -> ModuleFiles:
    """Its files as they are now. Raises UsageError for a module that isn't beside the notebook, or can't be shipped."""
    origin = local_modules.origin_of(name)
    if origin.where != local_modules.BESIDE:
        where = "isn't found here" if origin.where == local_modules.MISSING else f"is of the {origin.where}"
        where = "is installed" if origin.where == local_modules.INSTALLED else where
        raise UsageError(f"'{name}' {where}, and only modules beside the notebook are shipped; install it on the node")
    files: dict[str, bytes] = {}
    imports: set[str] = set()
    size = 0
    for path, inside in _paths(origin):
        if inside.endswith(_COMPILED):
            raise UsageError(
                f"'{name}' has compiled code ({inside}), which may not run elsewhere: install it on the node instead"
            )
        data = path.read_bytes()
        files[inside] = data
        size += len(data)
        if len(files) > MAX_FILES or size > MAX_BYTES:
            raise UsageError(_too_much(name, files))
        if inside.endswith(".py"):
            imports |= _imported(data)
    digest = hashlib.sha256()
    for inside, data in sorted(files.items()):
        digest.update(f"{inside}\0{len(data)}\0".encode() + data)
    return ModuleFiles(name, origin.files[0], files, digest.hexdigest(), frozenset(imports - {name}))


def read_with_needed(names: Iterable[str]) -> dict[str, ModuleFiles]:
    """These modules and those beside the notebook that they import, transitively."""
    found: dict[str, ModuleFiles] = {}
    pending = list(names)
    while pending:
        name = pending.pop()
        if name not in found:
            found[name] = module = read_module(name)
            pending += [other for other in sorted(module.imports) if is_beside(other)]
    return found


def is_beside(name: str) -> bool:
    return local_modules.origin_of(name).where == local_modules.BESIDE


def versions_of(modules: dict[str, ModuleFiles]) -> dict[str, str]:
    """Of each module, from its files and those of the modules that it imports: a change there is a change of it."""
    return {name: _version(name, modules) for name in modules}


def _version(name: str, modules: dict[str, ModuleFiles]) -> str:
    reached: set[str] = set()
    pending = [name]
    while pending:
        other = pending.pop()
        if other in modules and other not in reached:
            reached.add(other)
            pending += modules[other].imports
    text = ";".join(f"{other}={modules[other].digest}" for other in sorted(reached))
    return hashlib.sha256(text.encode()).hexdigest()[:_VERSION_DIGITS]


def _paths(origin: local_modules.Origin) -> Iterator[tuple[Path, str]]:
    """Each file, and where it lies below the folder that the module is imported from."""
    if not origin.is_package:
        yield origin.files[0], origin.files[0].name
        return
    for root in origin.files:
        for folder, folders, names in os.walk(root):
            folders[:] = sorted(name for name in folders if name not in _SKIPPED and not name.startswith("."))
            for name in sorted(names):
                path = Path(folder, name)
                if not name.startswith(".") and not name.endswith(".pyc") and path.is_file():
                    yield path, (Path(origin.name) / path.relative_to(root)).as_posix()


def _imported(source: bytes) -> set[str]:
    try:
        tree = ast.parse(source)
    except (SyntaxError, ValueError):  # it says so itself when it is imported
        return set()
    return {module.partition(".")[0] for module in local_modules.imported_by(tree)}


def _too_much(name: str, files: dict[str, bytes]) -> str:
    largest = max(files, key=lambda path: len(files[path]))
    return (
        f"'{name}' has more than {MAX_FILES:,} files or {format_size(MAX_BYTES)}, the bounds of what is shipped; its largest "
        f"file is {largest}, {format_size(len(files[largest]))}. Keep data elsewhere, or install the package on the node"
    )
