"""Packages for tests of environments: tiny wheels, made here, and one that has to be built."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


def make_wheel(folder: Path, name: str, version: str, source: str, requires: tuple[str, ...] = ()) -> Path:
    """A wheel of a package with one module of that name."""
    info = f"{name}-{version}.dist-info"
    metadata = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {r}" for r in requires)]
    files = {
        f"{name}.py": source,
        f"{info}/METADATA": "\n".join(metadata) + "\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    path = folder / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as wheel:
        for file, text in files.items():
            wheel.writestr(file, text)
        wheel.writestr(f"{info}/RECORD", "".join(f"{file},,\n" for file in (*files, f"{info}/RECORD")))
    return path


_BACKEND = """
import os, shutil

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    with open({began!r}, "a") as log:
        log.write(f"{{os.getpid()}}\\n")
    with open({gate!r}):
        pass
    shutil.copy({wheel!r}, wheel_directory)
    return os.path.basename({wheel!r})
"""


@dataclass(frozen=True, slots=True)
class SlowPackage:
    """A package that comes as source, whose builds wait until they are let go on. It needs nothing to be built with."""

    name: str
    began: Path
    gate: Path

    @classmethod
    def make(cls, packages: Path, elsewhere: Path, name: str) -> SlowPackage:
        """`packages`: where its source is found. `elsewhere`: for what it is made with."""
        wheel = make_wheel(elsewhere, name, "1.0", "VERSION = '1.0'\n")
        package = cls(name, elsewhere / f"{name}.began", elsewhere / f"{name}.gate")
        os.mkfifo(package.gate)
        backend = _BACKEND.format(began=str(package.began), gate=str(package.gate), wheel=str(wheel))
        files = {
            "PKG-INFO": f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n",
            "pyproject.toml": '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
            "backend.py": backend,
        }
        with tarfile.open(packages / f"{name}-1.0.tar.gz", "w:gz") as archive:
            for file, text in files.items():
                info = tarfile.TarInfo(f"{name}-1.0/{file}")
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
        return package

    @property
    def builds(self) -> list[int]:
        """The processes that have begun to build it."""
        return [int(line) for line in self.began.read_text().splitlines()] if self.began.exists() else []

    def let_go_on(self) -> None:
        """Those builds that wait."""
        with open(self.gate, "w"):
            pass

    def wait_no_more(self) -> None:
        """Later builds don't wait; those that do aren't let go on."""
        self.gate.unlink()
        self.gate.touch()
