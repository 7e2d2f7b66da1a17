"""The Python of an environment, and how a worker is started in it.

EasyRemote's own package is taken from where the node has it, so that both speak the same version; what that imports is installed
in the environment, for its Python. Nothing else of the node's packages is there; its owner's own modules are, behind all others.
"""

from __future__ import annotations

import os
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import easyremote

WORKER_NEEDS = ("cloudpickle>=3.1", "msgpack>=1.1", "platformdirs>=4.2", "protobuf>=7.35.1", "psutil>=6.0")
"""What EasyRemote imports in a worker: the lower bounds of the package itself."""

CELL_NEEDS = ("ipython>=8.12", "matplotlib-inline>=0.1.7")
"""What notebook cells run with besides."""

_BOOT = """\
import sys
from importlib.util import module_from_spec, spec_from_file_location
folder = sys.argv[1]
spec = spec_from_file_location("easyremote", folder + "/__init__.py", submodule_search_locations=[folder])
sys.modules["easyremote"] = module = module_from_spec(spec)
spec.loader.exec_module(module)
from easyremote.execution.worker import main
main()
"""


@dataclass(frozen=True, slots=True)
class Interpreter:
    """An environment's Python. `version`: "3.12.4". `folders`: what it needs to see of the file system."""

    key: str
    program: str
    version: str
    folders: tuple[str, ...]

    @property
    def minor(self) -> str:
        return ".".join(self.version.split(".")[:2])

    def command(self) -> list[str]:
        """What starts a worker."""
        return [self.program, "-c", _BOOT, str(Path(easyremote.__file__).parent)]

    def variables(self, ours: Mapping[str, str]) -> dict[str, str]:
        """The environment variables of its processes, from others."""
        kept = {name: value for name, value in ours.items() if name not in ("PYTHONHOME", "PYTHONPATH")}
        folder = os.path.dirname(self.program)
        kept["VIRTUAL_ENV"] = os.path.dirname(folder)
        kept["PATH"] = os.pathsep.join(filter(None, (folder, ours.get("PATH", os.defpath))))
        return kept


def own_modules(search_path: Iterable[str]) -> list[str]:
    """What of this process's search path isn't Python's own, and no folder of installed packages: the owner's modules."""
    paths = sysconfig.get_paths()
    python = {paths[name] for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    inside = (*python, *(os.path.join(prefix, "lib") for prefix in {sys.prefix, sys.base_prefix}))
    return [path for path in search_path if not path.endswith(".zip") and not _is_in(path, inside)]


def _is_in(path: str, folders: Iterable[str]) -> bool:
    is_packages = os.path.basename(path.rstrip("/")) in ("site-packages", "dist-packages")
    return is_packages or any(path == folder or path.startswith(folder.rstrip("/") + "/") for folder in folders)
