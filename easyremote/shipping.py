"""Which modules beside the notebook go along with code: what a client was told, and what that means for one function."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from easyremote.captures import ShippedModule
from easyremote.errors import UsageError
from easyremote.execution import module_files
from easyremote.execution.module_files import ModuleFiles
from easyremote.execution.shipped_modules import Bundle

SHIP_VARIABLE = "EASYREMOTE_SHIP"
"""Set to "auto": modules beside the notebook that code uses go along with it, without being named."""


@dataclass(frozen=True, slots=True)
class Shipment:
    """What goes along with one function. `versions`: of the modules, by name."""

    versions: dict[str, str]
    bundle: Bundle | None = None


class Shipments:
    """One client's. Nothing is sent until code is that needs it; files are read anew each time."""

    def __init__(self) -> None:
        setting = os.environ.get(SHIP_VARIABLE, "")
        if setting not in ("", "auto", "off"):
            raise UsageError(f'{SHIP_VARIABLE} is "auto" or "off", not {setting[:40]!r}')
        self.is_auto = setting == "auto"
        self._names: dict[str, None] = {}

    @property
    def is_used(self) -> bool:
        """Whether anything may have to go along."""
        return self.is_auto or bool(self._names)

    def add(self, names: Iterable[str]) -> None:
        """Ship these from now on. Raises UsageError where one can't be."""
        wanted = [_top_level(name) for name in names]
        module_files.read_with_needed(wanted)
        self._names.update(dict.fromkeys(wanted))

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            if self._names.pop(_top_level(name), self) is self:
                raise UsageError(f"'{name}' isn't shipped; shipped are: {', '.join(self._names) or 'none'}")

    def infos(self) -> list[ShippedModule]:
        """What is shipped, as it is now."""
        modules = module_files.read_with_needed(self._names)
        versions = module_files.versions_of(modules)
        return [_info(module, versions[name], modules, self._names) for name, module in sorted(modules.items())]

    def for_code(self, modules: Iterable[str]) -> Shipment:
        """What goes along with code that needs these modules: those that were named, and where it is automatic what it needs
        besides. Raises UsageError where the files can't be shipped."""
        wanted = dict(self._names)
        if self.is_auto:
            tops = {name.partition(".")[0] for name in modules}
            wanted.update((name, None) for name in sorted(tops) if module_files.is_beside(name))
        if not wanted:
            return NOTHING
        found = module_files.read_with_needed(wanted)
        versions = module_files.versions_of(found)
        return Shipment(versions, Bundle({name: (versions[name], found[name].files) for name in sorted(found)}))


NOTHING = Shipment({})


def _top_level(name: str) -> str:
    if not all(part.isidentifier() for part in name.split(".")):
        raise UsageError(f"'{name[:60]}' is no module's name; write it as it is imported, without .py")
    return name.partition(".")[0]


def _info(module: ModuleFiles, version: str, all_of: dict[str, ModuleFiles], named: dict[str, None]) -> ShippedModule:
    users = tuple(other.name for other in all_of.values() if module.name in other.imports)
    return ShippedModule(
        name=module.name,
        path=str(module.path),
        files=len(module.files),
        size_bytes=module.size,
        version=version,
        needed_by=() if module.name in named else users,
    )
