"""Where modules come from: Python itself, what is installed, or files beside the notebook. Nothing is imported to tell."""

from __future__ import annotations

import ast
import functools
import importlib.metadata
import importlib.util
import site
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

PYTHON = "standard library"
INSTALLED = "installed"
BESIDE = "beside the notebook"
MISSING = "not found here"

_OURS = "easyremote"  # nodes have it


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a top-level module is from. `files`: the file, or the folders of a package, where it is beside the notebook."""

    name: str
    where: str
    files: tuple[Path, ...] = ()
    is_package: bool = False


def origin_of(module: str) -> Origin:
    """Of the top-level module that this one belongs to."""
    name = module.partition(".")[0]
    if name in sys.stdlib_module_names or name in sys.builtin_module_names:
        return Origin(name, PYTHON)
    if name == _OURS:
        return Origin(name, INSTALLED)
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):  # made by hand, and has none
        spec = None
    if spec is None:
        return Origin(name, MISSING)
    places = list(spec.submodule_search_locations or ())
    paths = tuple(Path(place).absolute() for place in (places or [spec.origin or ""]))
    if spec.origin in ("built-in", "frozen") or (not places and not spec.has_location):
        return Origin(name, INSTALLED)
    if any(_is_installed(path) for path in paths):
        return Origin(name, INSTALLED)
    return Origin(name, BESIDE, paths, bool(places))


def imported_by(tree: ast.AST) -> list[str]:
    """Modules that this code imports anywhere, by their full names; relative imports aside."""
    found: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found.append(node.module)
    return found


def _is_installed(path: Path) -> bool:
    return any(path.is_relative_to(folder) for folder in _installed_folders()) or bool(
        {"site-packages", "dist-packages"} & set(path.parts)
    )


@functools.cache
def _installed_folders() -> tuple[Path, ...]:
    names = ("stdlib", "platstdlib", "purelib", "platlib")
    found = [sysconfig.get_path(name) for name in names]
    found += [*site.getsitepackages(), site.getusersitepackages()]
    return tuple(Path(folder) for folder in dict.fromkeys(found) if folder)


def installed_version(module: str) -> str:
    """Of the distribution that a top-level module belongs to; empty: not known."""
    for name in (module, *_distributions().get(module, ())):
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return ""


@functools.cache
def _distributions() -> dict[str, list[str]]:
    return dict(importlib.metadata.packages_distributions())
