"""What a monitor shows of a snapshot: rows of plain texts and numbers. No widget, terminal, clock or network.

Whatever nodes and clients named goes through `foreign` here; who makes HTML of it escapes it as well.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from easyremote import foreign
from easyremote.model import CallInfo, Explanation, FailureInfo, GpuInfo, NodeInfo, OfferInfo, Overview
from easyremote.monitoring.words import STATUS_MARKS, Words

GIB = 2**30
_COLOURS = re.compile(r"\x1b\[[0-9;:]{0,32}[mK]")
HIGH = 0.85
"""From this part on a bar is marked as high."""

Series = Sequence[float]
"""Of the last measurements, the newest last."""

SORTS = ("name", "cpu", "memory", "gpu", "running", "failed")


@dataclass(frozen=True)
class Snapshot:
    """What a watcher knows at one moment. `history`: by node and measure ("cpu", "memory", "gpu0", "gpu0 memory", "gpu0 heat",
    "gpu0 power"). `outputs`: the end of what this client's own calls printed, `waits`: why they wait, both by call; `logs`: the
    end of logs by node. `problem`: why this is older than it should be."""

    overview: Overview
    history: Mapping[str, Mapping[str, Series]] = field(default_factory=dict[str, dict[str, Series]])
    outputs: Mapping[str, str] = field(default_factory=dict[str, str])
    waits: Mapping[str, Explanation] = field(default_factory=dict[str, Explanation])
    logs: Mapping[str, str] = field(default_factory=dict[str, str])
    taken_at: str = ""
    problem: str = ""


@dataclass(frozen=True)
class Gauge:
    """A measure: `part` 0 to 1, None where it has no bound; `text` says it. `may_be_full`: then nothing is wrong."""

    label: str
    text: str
    part: float | None = None
    series: Series = ()
    may_be_full: bool = False

    @property
    def is_high(self) -> bool:
        return not self.may_be_full and self.part is not None and self.part >= HIGH


@dataclass(frozen=True)
class GpuRow:
    name: str
    use: Gauge
    memory: Gauge
    temperature: Gauge
    power: Gauge
    lost: str = ""


@dataclass(frozen=True)
class NodeRow:
    """`note`: what is out of the ordinary, in words."""

    node_id: str
    name: str
    status: str
    status_text: str
    mark: str
    slots: Gauge
    cpu: Gauge
    memory: Gauge
    gpus: tuple[GpuRow, ...] = ()
    functions: int = 0
    finished: int = 0
    failed: int = 0
    note: str = ""

    @property
    def spoken(self) -> str:
        """For who doesn't see it."""
        gauges = [self.slots, self.cpu, self.memory, *(gpu.use for gpu in self.gpus)]
        parts = [f"{gauge.label} {gauge.text}" for gauge in gauges if gauge.text]
        return ", ".join([f"{self.name}: {self.status_text}", *parts, *([self.note] if self.note else [])])


@dataclass(frozen=True)
class CallRow:
    call_id: str
    name: str
    is_running: bool
    state: str
    node: str
    progress: float | None
    progress_text: str
    time: str
    note: str = ""

    @property
    def spoken(self) -> str:
        parts = [self.state, self.node, self.progress_text, self.time, self.note]
        return f"{self.name}: " + ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class FailureRow:
    function: str
    node: str
    kind: str
    message: str
    ago: str


@dataclass(frozen=True)
class FunctionRow:
    name: str
    kind: str
    nodes: str
    version: str
    stale: str


def node_rows(
    snapshot: Snapshot, words: Words, wanted: str = "", sort: str = "name", descending: bool = False
) -> list[NodeRow]:
    """Those that match, in order. `wanted`: words that all must be found in a node's name, host, status, labels or functions."""
    offered: dict[str, list[str]] = {}
    for offer in snapshot.overview.functions:
        for name in offer.nodes:
            offered.setdefault(name, []).append(offer.name)
    asked = wanted.lower().split()
    nodes = [
        node
        for node in snapshot.overview.nodes
        if not asked or all(word in _found_by(node, offered.get(node.node_id, ()), words) for word in asked)
    ]
    nodes.sort(key=lambda node: node.node_id)
    nodes.sort(key=lambda node: _rank(node, sort), reverse=descending)
    return [node_row(node, snapshot.history.get(node.node_id, {}), words) for node in nodes]


def _found_by(node: NodeInfo, functions: Sequence[str], words: Words) -> str:
    labels = [f"{key}={value}" for key, value in node.labels.items()]
    names = [gpu.name for gpu in node.gpus]
    return " ".join(
        [node.node_id, node.host, node.status, words.status(node.status), *labels, *names, *functions]
    ).lower()


def _rank(node: NodeInfo, sort: str) -> float | tuple[object, ...]:
    measured = node.resources
    if sort == "cpu":
        return measured.get("cpu_percent", -1.0)
    if sort == "memory":
        return _part(measured.get("memory_used_bytes", 0), measured.get("memory_total_bytes", 0)) or 0.0
    if sort == "gpu":
        return max((gpu.utilization_percent for gpu in node.gpus), default=-1.0)
    if sort == "running":
        return node.running
    if sort == "failed":
        return node.failed
    return natural(node.node_id)


def natural(name: str) -> tuple[object, ...]:
    """node-2 before node-10."""
    parts: list[object] = []
    digits = ""
    for letter in f"{name}\0":
        if "0" <= letter <= "9":
            digits += letter
            continue
        if digits:
            parts.append((0, int(digits[:18]), ""))
            digits = ""
        parts.append((1, 0, letter))
    return tuple(parts)


def node_row(node: NodeInfo, history: Mapping[str, Series], words: Words) -> NodeRow:
    measured = node.resources
    used, total = measured.get("memory_used_bytes", 0), measured.get("memory_total_bytes", 0)
    cpu = measured.get("cpu_percent")
    return NodeRow(
        node_id=node.node_id,
        name=foreign.name(node.node_id, 60),
        status=node.status,
        status_text=foreign.name(words.status(node.status), 30),
        mark=STATUS_MARKS.get(node.status, "?"),
        slots=Gauge(words("slots"), _slots(node), _part(node.running, node.slots), (), True),
        cpu=Gauge(words("cpu"), "" if cpu is None else f"{cpu:.0f} %", _part(cpu or 0.0, 100), history.get("cpu", ())),
        memory=Gauge(words("memory"), gib(used, total), _part(used, total), history.get("memory", ())),
        gpus=tuple(_gpu_row(gpu, history, words) for gpu in node.gpus),
        functions=len(node.functions),
        finished=node.finished,
        failed=node.failed,
        note=foreign.name(_note(node), 200),
    )


def _slots(node: NodeInfo) -> str:
    """`1/2`; `2/2 +1` where it has more: sent ahead, or made by calls that wait for them."""
    beyond = node.running - node.slots
    return f"{min(node.running, node.slots)}/{node.slots}" + (f" +{beyond}" if beyond > 0 else "")


def _note(node: NodeInfo) -> str:
    if node.draining:
        return node.draining
    for rest in node.resting:
        return f"{rest.function}: {rest.reason}" if rest.function else rest.reason
    return ""


def _gpu_row(gpu: GpuInfo, history: Mapping[str, Series], words: Words) -> GpuRow:
    key = f"gpu{gpu.index}"
    return GpuRow(
        name=foreign.name(f"{gpu.index}: {gpu.name}" if gpu.name else str(gpu.index), 40),
        use=Gauge(
            f"{words('gpu')} {gpu.index}", f"{gpu.utilization_percent:.0f} %", _part(gpu.utilization_percent, 100),
            history.get(key, ()),
        ),
        memory=Gauge(
            words("gpu memory"), gib(gpu.memory_used_bytes, gpu.memory_total_bytes),
            _part(gpu.memory_used_bytes, gpu.memory_total_bytes), history.get(f"{key} memory", ()),
        ),
        temperature=Gauge(
            words("temperature"), f"{gpu.temperature_c:.0f} °C" if gpu.temperature_c else "", None,
            history.get(f"{key} heat", ()),
        ),
        power=Gauge(words("power"), f"{gpu.power_w:.0f} W" if gpu.power_w else "", None, history.get(f"{key} power", ())),
        lost=foreign.name(gpu.lost, 100),
    )  # fmt: skip


def call_rows(snapshot: Snapshot, words: Words, node_id: str = "", most: int | None = None) -> list[CallRow]:
    """Those that run and those that wait; with `node_id` those of that node."""
    calls = [call for call in snapshot.overview.calls if not node_id or call.node == node_id]
    return [call_row(call, words) for call in calls[:most]]


def call_row(call: CallInfo, words: Words) -> CallRow:
    is_running = call.state == "running"
    part, text = call.progress, foreign.name(call.progress_text, 60)
    if part is not None:
        text = f"{100 * part:.0f} % {text}".rstrip()
    notes = [words("tasks", n=call.tasks)] if call.tasks else []
    notes += [words("job")] if call.is_job else []
    notes += [f"{words('attempt')} {call.attempt}"] if call.attempt > 1 else []
    notes += [f"{words('owner')} {foreign.name(call.owner, 20)}"] if call.owner else []
    return CallRow(
        call_id=call.call_id,
        name=foreign.name(call.function, 60),
        is_running=is_running,
        state=words("running" if is_running else "queued"),
        node=foreign.name(call.node, 60),
        progress=part,
        progress_text=text,
        time=words.span(call.running_s if is_running else call.age_s),
        note=", ".join(notes),
    )


def failure_rows(snapshot: Snapshot, words: Words, node_id: str = "", most: int | None = None) -> list[FailureRow]:
    found = [item for item in snapshot.overview.failures if not node_id or item.node == node_id]
    return [_failure_row(item, words) for item in found[:most]]


def _failure_row(item: FailureInfo, words: Words) -> FailureRow:
    return FailureRow(
        function=foreign.name(item.function, 60),
        node=foreign.name(item.node, 60),
        kind=foreign.name((item.type or item.code).rsplit(".", 1)[-1], 60),
        message=foreign.name(item.message or ("" if item.type else words("sealed")), 200),
        ago=words("ago", span=words.span(item.ago_s)),
    )


def function_rows(snapshot: Snapshot, words: Words, node_id: str = "") -> list[FunctionRow]:
    found = [offer for offer in snapshot.overview.functions if not node_id or node_id in offer.nodes]
    return [_function_row(offer, words) for offer in found]


def _function_row(offer: OfferInfo, words: Words) -> FunctionRow:
    stale = ", ".join(offer.stale_nodes)
    return FunctionRow(
        name=foreign.name(offer.name, 80),
        kind=foreign.name(offer.kind.replace("_", " "), 40),
        nodes=foreign.name(", ".join(offer.nodes), 300),
        version=foreign.name(offer.versions[0][0][:8] if offer.versions else "", 20),
        stale=words("stale", nodes=foreign.name(stale, 200)) if stale else "",
    )


def head(snapshot: Snapshot, words: Words) -> list[str]:
    """What stands above: the gateway, counts, cost."""
    seen = snapshot.overview
    count = len(seen.nodes)
    parts = [
        words("one node") if count == 1 else words("n nodes", n=count),
        words("n running", n=seen.running),
        words("n queued", n=seen.queued),
        words("up", span=words.span(seen.gateway.uptime_s)),
    ]
    if seen.spent or any(node.price for node in seen.nodes):
        parts.append(words("spent", cost=f"{cost_so_far(seen):.4g}"))
    if not seen.sees_all:
        parts.append(words("own only"))
    return parts


def cost_so_far(seen: Overview) -> float:
    """Of ended attempts, and of those that run."""
    prices = {node.node_id: node.price for node in seen.nodes}
    return seen.spent + sum(call.running_s * prices.get(call.node, 0.0) for call in seen.calls)


def node_facts(node: NodeInfo, words: Words) -> list[tuple[str, str]]:
    """What the page of a node says of it, beside what is measured."""
    facts = [
        (words("host"), f"{node.host} · pid {node.pid} · {node.platform}" if node.host else ""),
        (words("versions"), f"Python {node.python} · easyremote {node.version}" if node.python else ""),
        (words("since"), words.span(node.connected_s)),
        (words("finished"), str(node.finished)),
        (words("failed"), str(node.failed)),
        (words("price"), f"{node.price:g}" if node.price else ""),
        (words("labels"), ", ".join(f"{key}={value}" for key, value in sorted(node.labels.items()))),
        (words("draining"), node.draining),
        *((words("resting"), f"{rest.function or words('all')}: {rest.reason}") for rest in node.resting),
    ]
    return [(label, foreign.name(text, 300)) for label, text in facts if text]


def call_facts(call: CallInfo, words: Words) -> list[tuple[str, str]]:
    """What the page of a call says of it, beside its state and its bar."""
    row = call_row(call, words)
    facts = [
        (words("node"), row.node),
        (words("progress"), row.progress_text if row.progress is None else ""),
        (words("time"), row.time),
        (words("attempt"), str(call.attempt) if call.attempt else ""),
        (words("version"), foreign.name(call.version, 60)),
        (words("owner"), foreign.name(call.owner, 20)),
        (words("id"), call.call_id),
    ]
    return [(label, text) for label, text in facts if text]


def printed(text: str) -> str:
    """What was printed, as plain text: without colours, and of a line that was written over what it became."""
    lines = _COLOURS.sub("", text).replace("\r\n", "\n").split("\n")
    return foreign.text("\n".join(line.rstrip("\r").rsplit("\r", 1)[-1] for line in lines))


def gib(used_bytes: float, total_bytes: float) -> str:
    """`12.3/80 GiB`, with decimals where they matter; empty where nothing is known."""
    if not total_bytes:
        return ""
    used, total = used_bytes / GIB, total_bytes / GIB
    return f"{used:.{1 if used < 100 else 0}f}/{total:.{1 if total < 20 else 0}f} GiB"


def _part(value: float, whole: float) -> float | None:
    """None where there is no whole, or a node reports what is no number."""
    part = value / whole if whole > 0 else -1.0
    return min(part, 1.0) if part >= 0 else None
