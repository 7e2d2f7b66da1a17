"""Records that EasyRemote hands out. Each is frozen, and reads as an object and as a mapping alike."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast

__all__ = ["FunctionInfo", "GatewayInfo", "GpuInfo", "NodeInfo", "Record"]


class Record(Mapping[str, Any]):
    """`record.name` and `record["name"]` are the same."""

    __slots__ = ()

    def _names(self) -> tuple[str, ...]:
        return tuple(item.name for item in fields(self))  # type: ignore[arg-type]

    def __getitem__(self, key: str) -> Any:
        if key not in self._names():
            raise KeyError(key)
        return getattr(self, key)

    def __iter__(self) -> Iterator[str]:
        return iter(self._names())

    def __len__(self) -> int:
        return len(self._names())

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts, lists and scalars, e.g. for JSON."""
        return {key: _plain(value) for key, value in self.items()}


def _plain(value: Any) -> Any:
    if isinstance(value, Record):
        return value.to_dict()
    if isinstance(value, tuple):
        return [_plain(item) for item in cast("tuple[Any, ...]", value)]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in cast("dict[str, Any]", value).items()}
    return value


@dataclass(frozen=True, eq=False)
class GpuInfo(Record):
    """One GPU as NVML measured it a moment ago. Sizes in bytes, temperature in °C, power in W."""

    index: int
    name: str
    uuid: str
    memory_used_bytes: int
    memory_total_bytes: int
    utilization_percent: float
    temperature_c: float
    power_w: float


@dataclass(frozen=True, eq=False)
class NodeInfo(Record):
    """A node as the gateway sees it.

    `status`: "connected", "draining" for one that takes no new calls, or "away" for one whose connection broke a moment ago.
    `draining`: why it takes none; empty where it does. `load`: running calls as a part of the slots, 0
    to 1 (above it when more are on their way). `resources`: what was measured on its machine (`cpus`, `cpu_percent`,
    `memory_used_bytes`, `memory_total_bytes`, `gpus`); empty until the first measurement.
    """

    node_id: str
    status: str
    functions: tuple[str, ...]
    slots: int
    running: int
    load: float
    resources: dict[str, Any] = field(default_factory=dict[str, Any])
    gpus: tuple[GpuInfo, ...] = ()
    finished: int = 0
    failed: int = 0
    python: str = ""
    version: str = ""
    host: str = ""
    pid: int = 0
    platform: str = ""
    labels: dict[str, str] = field(default_factory=dict[str, str])
    connected_s: float = 0.0
    price: float = 0.0
    draining: str = ""


@dataclass(frozen=True, eq=False)
class FunctionInfo(Record):
    """A function and the nodes that offer it. `kind`: function, generator, coroutine or async_generator."""

    name: str
    signature: str
    kind: str
    nodes: tuple[str, ...]
    version: str
    doc: str
    shipped: bool


@dataclass(frozen=True, eq=False)
class GatewayInfo(Record):
    """The gateway itself."""

    address: str
    version: str
    uptime_s: float
    clients: int
    queued: int
    running: int
