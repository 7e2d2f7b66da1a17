"""A client of the gateway that each file has, and modules beside a notebook."""

from __future__ import annotations

import importlib.machinery
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from easyremote import Client, Server

_FILES = {
    "er_helpers.py": "import er_units\nclass Thing:\n    def __init__(self, n): self.n = n\n"
    "def double(x): return er_units.twice(x)\ndef make(n): return Thing(n)\n",
    "er_units.py": "FACTOR = 2\ndef twice(x):\n    import er_helpers\n    assert er_helpers.Thing\n    return FACTOR * x\n",
    "er_pack/__init__.py": "from pathlib import Path\nfrom . import sub\nfrom .sub.deep import answer\n",
    "er_pack/sub/__init__.py": "",
    "er_pack/sub/deep.py": "from pathlib import Path\ndef answer():\n"
    "    return (Path(__file__).parents[1] / 'data' / 'table.txt').read_text()\n",
    "er_pack/data/table.txt": "42 of the data file",
    "er_pack/__pycache__/left.pyc": "no",
    "er_unused.py": "X = 1\n",
}


@pytest.fixture
def client(gateway: Server) -> Iterator[Client]:
    with Client(gateway.address) as made:
        yield made


@pytest.fixture
def beside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with modules, as that of a notebook. Nodes of this process start their workers without it."""
    for name, text in _FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    finder = _HereOnly(tmp_path)
    sys.meta_path.insert(0, finder)
    yield tmp_path
    sys.meta_path.remove(finder)
    for name in [name for name in sys.modules if name.startswith("er_")]:
        del sys.modules[name]


class _HereOnly:
    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def find_spec(self, name: str, path: Any, target: Any = None) -> Any:
        return importlib.machinery.PathFinder.find_spec(name, [str(self.folder)]) if path is None else None


def edit(path: Path, before: str, after: str) -> None:
    path.write_text(path.read_text().replace(before, after) + f"# {after}\n")
