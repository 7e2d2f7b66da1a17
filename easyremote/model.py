"""Records that EasyRemote hands out. Each is frozen, and reads as an object and as a mapping alike."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, cast

from easyremote import foreign
from easyremote.tables import Table

__all__ = [
    "CallInfo",
    "CurrentCall",
    "Explanation",
    "FailureInfo",
    "FunctionInfo",
    "GatewayInfo",
    "GpuInfo",
    "JobInfo",
    "NodeInfo",
    "NodeOutlook",
    "OfferInfo",
    "Overview",
    "Record",
    "RestInfo",
    "TokenInfo",
]


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
class CurrentCall(Record):
    """The call that runs here, as its function sees it.

    `call_id`: 32 hex digits; short calls that travel together have one. `attempt`: 1 for the first. `gpus`: indexes of the GPUs
    that are set aside for it, as NVML counts them. `deadline`: when it will be stopped, on the clock of `time.monotonic()`; None
    where it has no timeout.
    """

    call_id: str
    node_id: str
    attempt: int = 1
    gpus: tuple[int, ...] = ()
    deadline: float | None = None


@dataclass(frozen=True, eq=False)
class GpuInfo(Record):
    """One GPU as NVML measured it a moment ago, and what calls hold of it. Sizes in bytes, temperature in °C, power in W.

    `own_memory_bytes`: of the memory in use, that of the node's own processes. `offered_bytes`: what calls may use;
    `held_bytes`: what running calls hold; `calls`: how many they are; `is_exclusive`: one call has it for itself. `lost`: why it
    can't be used any more; empty: it can.
    """

    index: int
    name: str
    uuid: str
    memory_used_bytes: int
    memory_total_bytes: int
    utilization_percent: float
    temperature_c: float
    power_w: float
    own_memory_bytes: int = 0
    offered_bytes: int = 0
    held_bytes: int = 0
    calls: int = 0
    is_exclusive: bool = False
    lost: str = ""


@dataclass(frozen=True, eq=False)
class RestInfo(Record):
    """Calls of `function` kept failing on a node, so they go elsewhere for `rests_s` seconds more. Then one of them tries the
    node, which `is_probed` tells; success ends it. An empty `function`: all calls. `reason` is for people."""

    function: str
    rests_s: float
    reason: str
    is_probed: bool


@dataclass(frozen=True, eq=False)
class NodeInfo(Record):
    """A node as the gateway sees it.

    `status`: "connected", "draining" for one that takes no new calls, "resting" for one where calls kept failing, whatever the
    function, "silent" for one that says nothing though its process lives (a function may hold the interpreter lock), or "away"
    for one whose connection broke a moment ago. `draining`: why it takes none; empty where it does.
    `resting`: functions whose calls kept failing there. `load`: running calls as a part of the slots, 0 to 1 (above it when more
    are on their way). `resources`: what was measured on its machine (`cpus`, `cpu_percent`, `memory_used_bytes`,
    `memory_total_bytes`, `gpus`); empty until the first measurement. `capacity`: what it offers to calls that say
    what they need (`slots`, `cpus`, `memory_bytes`, `gpus`); `in_use`: what running calls hold of that, also those of other nodes
    that share it.
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
    resting: tuple[RestInfo, ...] = ()
    capacity: dict[str, Any] = field(default_factory=dict[str, Any])
    in_use: dict[str, Any] = field(default_factory=dict[str, Any])


@dataclass(frozen=True, eq=False)
class FunctionInfo(Record):
    """A function and the nodes that offer it. `kind`: function, generator, coroutine or async_generator.

    `needs`: what each of its calls needs, as it was declared (`gpus`, `gpu_memory`, …). `max_concurrency`: how many of them a
    node has at work at once; 0: as many as it has slots. `requirements`, `python`: what it runs with, where that was said.
    `versions`: what each node has. `is_stale`: what it uses here has changed since this client registered it, so no node has it
    as it is here. `stale_nodes`: those whose version isn't the one that it has here, or, where this client didn't register it,
    the one in `version`.
    """

    name: str
    signature: str
    kind: str
    nodes: tuple[str, ...]
    version: str
    doc: str
    shipped: bool
    needs: dict[str, Any] = field(default_factory=dict[str, Any])
    max_concurrency: int = 0
    requirements: tuple[str, ...] = ()
    python: str = ""
    versions: dict[str, str] = field(default_factory=dict[str, str])
    is_stale: bool = False
    stale_nodes: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class GatewayInfo(Record):
    """The gateway itself."""

    address: str
    version: str
    uptime_s: float
    clients: int
    queued: int
    running: int


@dataclass(frozen=True, eq=False)
class NodeOutlook(Record):
    """What would become of a call at one node.

    `verdict`: "runs now", "must wait" or "can't". `reason`: what is in the way, `remedy`: what would change it; or empty.
    `expected_s`: in how many seconds the node is expected to have room; None: nobody knows.
    """

    node_id: str
    verdict: str
    reason: str = ""
    remedy: str = ""
    expected_s: float | None = None


_WIDTH = 44
"""Characters of a reason or a remedy in one line of text."""


@dataclass(frozen=True, eq=False, repr=False)
class Explanation(Record):
    """Where a call could run, and what is in the way: made by `Client.explain`. Shown as a table, in a notebook and as text.

    `verdict`: "runs now", "must wait" or "can't"; `headline` says it in a sentence, `nodes` for each node, the best in front.
    `before`: waiting calls that are expected to go first. `waited_s`: how long it has waited, where it is a call that waits.
    `expected_s`: in how many seconds it is expected to begin; None: nobody knows.
    """

    function: str
    verdict: str
    headline: str
    nodes: tuple[NodeOutlook, ...] = ()
    before: int = 0
    waited_s: float = 0.0
    expected_s: float | None = None

    def table(self, wrap: Callable[[str], str] = str) -> Table:
        """As rows. `wrap` breaks long texts into lines."""
        columns = {
            "node": [foreign.name(node.node_id) for node in self.nodes],
            "verdict": [node.verdict for node in self.nodes],
            "why": [wrap(foreign.name(node.reason, 1000)) for node in self.nodes],
            "what would change it": [wrap(foreign.name(node.remedy, 1000)) for node in self.nodes],
        }
        known = {name: values for name, values in columns.items() if any(values)}
        return Table(self.headline, list(known), zip(*known.values(), strict=True))

    def __repr__(self) -> str:
        return repr(self.table(lambda text: textwrap.fill(text, _WIDTH)))

    def _repr_html_(self) -> str:
        return self.table().html()


@dataclass(frozen=True, eq=False)
class TokenInfo(Record):
    """A token of a gateway, without its secret. Times are seconds since 1970 by the gateway's clock; `expires` None: never.

    `roles`: "call", "ship", "serve", "admin". `functions`, `nodes`: shell patterns of names that it is kept to; empty: all.
    `max_calls`, `max_bytes`, `calls_per_s`: bounds of all its sessions together; 0: none of its own. `is_invitation`: it can only
    be exchanged for a token with these roles.
    """

    id: str
    name: str
    roles: tuple[str, ...]
    functions: tuple[str, ...]
    nodes: tuple[str, ...]
    max_calls: int
    max_bytes: int
    calls_per_s: float
    created: float
    expires: float | None
    is_invitation: bool = False


@dataclass(frozen=True, eq=False)
class JobInfo(Record):
    """A job as the gateway keeps it. Times are seconds since 1970 by the gateway's clock, None: not yet.

    `state`: queued, running, succeeded, failed or cancelled. `node`: where it runs, or ran last. `attempts`: nodes that began it.
    `progress`: what it said last of how far it is, 0 to 1, None where it says nothing, with `progress_text`. `kept_bytes`: all
    that is kept of it. `dropped_events`: output and displays that had to make room for newer ones. `expires`: when it is deleted.
    `collected`: when its result was taken first. `error`: what a failed one failed with, one line. `kind`: "function" or "cell".
    """

    id: str
    title: str
    state: str
    node: str
    created: float
    started: float | None
    ended: float | None
    expires: float | None
    collected: float | None
    attempts: int
    progress: float | None
    progress_text: str
    kept_bytes: int
    dropped_events: int
    error: str
    kind: str = "function"


@dataclass(frozen=True, eq=False)
class CallInfo(Record):
    """A call that runs or waits, as the gateway sees it: never what it was given.

    `call_id`: 32 hex digits. `function`: what people call it. `state`: "running" or "queued". `age_s`: since it was made,
    `running_s`: since its node got it. `progress`: how far it is, 0 to 1, None where it doesn't say; `progress_text` says it in
    words. `tasks`: short calls that travel as this one; 0: it is a single one. `owner`: id of the token that made it, empty: the
    gateway's own. `is_own`: this client made it. `version`: of the function that runs.
    """

    call_id: str
    function: str
    state: str
    node: str = ""
    attempt: int = 0
    age_s: float = 0.0
    running_s: float = 0.0
    progress: float | None = None
    progress_text: str = ""
    tasks: int = 0
    owner: str = ""
    is_own: bool = False
    is_job: bool = False
    version: str = ""


@dataclass(frozen=True, eq=False)
class FailureInfo(Record):
    """A call that failed a while ago. `code`: as in `easyremote.errors`; `type` and `message`: what was raised, the message's
    first line; empty where it was sealed for its caller. `node`: empty where none had it."""

    call_id: str
    function: str
    node: str
    code: str
    type: str
    message: str
    ago_s: float
    owner: str = ""


@dataclass(frozen=True, eq=False)
class OfferInfo(Record):
    """A function and where it lives: `versions`, each with its nodes, the one registered last in front."""

    name: str
    kind: str
    shipped: bool
    versions: tuple[tuple[str, tuple[str, ...]], ...]

    @property
    def nodes(self) -> tuple[str, ...]:
        """All that offer it."""
        return tuple(sorted({node for _, nodes in self.versions for node in nodes}))

    @property
    def stale_nodes(self) -> tuple[str, ...]:
        """Those that still hold another version than the newest."""
        return tuple(sorted({node for _, nodes in self.versions[1:] for node in nodes}))


@dataclass(frozen=True, eq=False)
class Overview(Record):
    """What is going on at a gateway, as far as this client may see it: made by `Client.overview`.

    `calls`: those that run, the longest in front, then those that wait; `running` and `queued` count them all. `sees_all`: they
    are everybody's, as this client's token is an administrator's; else they are those of its token. `spent`: what their ended
    attempts have cost since the gateway began, seconds times the node's price.
    """

    gateway: GatewayInfo
    nodes: tuple[NodeInfo, ...]
    calls: tuple[CallInfo, ...] = ()
    failures: tuple[FailureInfo, ...] = ()
    functions: tuple[OfferInfo, ...] = ()
    running: int = 0
    queued: int = 0
    spent: float = 0.0
    sees_all: bool = False
