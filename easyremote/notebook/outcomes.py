"""A remote cell as it is to run, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from easyremote.notebook.places import Notebook

_PLACING = ("gpus", "gpu_memory", "memory", "cpus", "strategy")


@dataclass(frozen=True)
class Cell:
    """What is to run. `always`: names that are sent in any case. `options`: of its call; `more`: for `submit_cell`."""

    source: str
    notebook: Notebook
    options: Mapping[str, Any]
    always: list[str]
    bring_back: list[str]
    by_itself: bool
    more: Mapping[str, Any]

    @property
    def placing(self) -> dict[str, Any]:
        """What says where a new session begins."""
        return {name: self.options[name] for name in _PLACING if self.options.get(name) is not None}


@dataclass
class CellResult:
    """What became of a cell. `value`: of its last expression; `error`: what it raised, instead. `sent`: bytes of each name that
    went along, 0 for a module. `names`: what is brought back. Spans in seconds, `price` of a second."""

    node: str
    value: Any = None
    error: BaseException | None = None
    sent: dict[str, int] = field(default_factory=dict[str, int])
    names: dict[str, Any] = field(default_factory=dict[str, Any])
    queued_s: float = 0.0
    run_s: float = 0.0
    attempts: int = 1
    price: float = 0.0
    peak_memory_bytes: int = 0
    gpus: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    @property
    def cost(self) -> float:
        return self.price * self.run_s

    def facts(self) -> dict[str, Any]:
        """For the metadata of an output."""
        kept = ("node", "sent", "attempts", "peak_memory_bytes", "gpus")
        spans = {"queued_s": round(self.queued_s, 3), "run_s": round(self.run_s, 3)}
        return {name: getattr(self, name) for name in kept} | spans | ({"cost": self.cost} if self.price else {})
