"""Asks a gateway what is going on, as long as somebody looks: one thread for all monitors of a client."""

from __future__ import annotations

import contextlib
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable, Collection
from dataclasses import replace
from typing import Protocol

from easyremote import foreign
from easyremote.client import Client
from easyremote.errors import EasyRemoteError
from easyremote.model import Explanation, GatewayInfo, Overview
from easyremote.monitoring.view import Snapshot
from easyremote.views import overview
from easyremote.wire.v1 import gateway_pb2 as pb

PERIOD_S, SLOW_PERIOD_S = 1.0, 2.0
MANY_NODES = 30
"""From so many on the slower period."""

DETAILS_EVERY = 10
"""Looks; sooner where something has changed."""

KEPT = 60
"""Measurements of each kind that are kept of a node."""


class Viewer(Protocol):
    """Who shows what a watcher sees. Called in its thread."""

    @property
    def is_seen(self) -> bool:
        """Whether anybody looks now."""
        ...

    @property
    def open_call(self) -> str:
        """Id of a call of which more is wanted: its output, and why it waits. Empty: none."""
        ...

    def show(self, snapshot: Snapshot, is_last: bool) -> None: ...


class Watcher:
    """`of(client)` finds the one of a client's connection. Its thread lives while a viewer is seen, and no longer."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._viewers: list[Viewer] = []
        self._work: list[Callable[[], None]] = []
        self._thread: threading.Thread | None = None
        self._memory = Memory()
        self._history = History()

    @classmethod
    def of(cls, client: Client) -> Watcher:
        with _lock:
            watcher = _watchers.get(client.connection_id)
            if watcher is None:
                watcher = _watchers[client.connection_id] = cls(client)
            return watcher

    def add(self, viewer: Viewer) -> None:
        with self._lock:
            self._viewers.append(viewer)
        self.look()

    def remove(self, viewer: Viewer) -> None:
        with self._lock:
            if viewer in self._viewers:
                self._viewers.remove(viewer)

    def look(self) -> None:
        """Somebody may have begun to look: ask now."""
        with self._lock:
            self._wake.set()
            if self._thread is None and (self._work or any(viewer.is_seen for viewer in self._viewers)):
                self._thread = threading.Thread(target=self._run, name="easyremote-monitor", daemon=True)
                self._thread.start()

    def do(self, work: Callable[[], None]) -> None:
        """Have this done in its thread, then look again."""
        with self._lock:
            self._work.append(work)
        self.look()

    def snapshot(self) -> Snapshot:
        """One look, in the caller's thread."""
        return self._taken("")

    # ---- in its thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        while True:
            self._wake.clear()
            with self._lock:
                work, self._work = self._work, []
                viewers = [viewer for viewer in self._viewers if viewer.is_seen]
                if not work and not viewers:
                    self._thread = None
                    return
            for step in work:
                step()
            is_last = self._client.is_closed
            snapshot = self._taken(next((viewer.open_call for viewer in viewers if viewer.open_call), ""))
            for viewer in viewers:
                viewer.show(snapshot, is_last)
            if is_last:
                with self._lock:
                    self._viewers.clear()
                continue
            self._wake.wait(SLOW_PERIOD_S if len(snapshot.overview.nodes) > MANY_NODES else PERIOD_S)

    def _taken(self, open_call: str) -> Snapshot:
        problem = ""
        try:
            if not self._client.is_connected:
                raise EasyRemoteError("disconnected" if self._client.is_closed else "it is away")
            seen = self._memory.look(self._client)
            self._history.add(seen)
        except EasyRemoteError as error:
            problem, seen = foreign.name(str(error)), self._memory.last
        own = {call.call_id: call for call in self._client.open_calls()} if not problem else {}
        seen = with_own({call_id for call_id, call in own.items() if call.state == "queued"}, seen)
        outputs, waits = dict[str, str](), dict[str, Explanation]()
        if open_call and not problem:
            outputs = {open_call: own[open_call].last_output} if open_call in own else {}
            if any(
                call.call_id == open_call and call.state == "queued" and not call.node and call.is_own
                for call in seen.calls
            ):
                with contextlib.suppress(EasyRemoteError):  # it has begun meanwhile
                    waits[open_call] = self._client.explain_call(open_call)
        return Snapshot(
            seen, self._history.series(), outputs, waits, taken_at=time.strftime("%H:%M:%S"), problem=problem
        )


def with_own(waiting: Collection[str], seen: Overview) -> Overview:
    """What a gateway sees, and of this client's own calls which haven't begun (`waiting`: their ids).

    A gateway counts a call as running once a node has it, also where it was sent ahead and waits there for a slot.
    """
    calls = [replace(call, state="queued") if call.call_id in waiting else call for call in seen.calls]
    more = sum(now.state != before.state for now, before in zip(calls, seen.calls, strict=True))
    if not more:
        return seen
    calls.sort(key=lambda call: call.state == "queued")
    return replace(seen, calls=tuple(calls), running=seen.running - more, queued=seen.queued + more)


class Memory:
    """Puts together what hardly changes, and is asked for now and then, with what changes all the time."""

    def __init__(self) -> None:
        self.last = _NOTHING
        self._nodes: dict[str, pb.NodeRecord] = {}
        self._offers: list[pb.Picture.OfferRecord] = []
        self._looks = 0

    def look(self, client: Client) -> Overview:
        is_full = self._looks % DETAILS_EVERY == 0
        answer = client.look(pb.Query.Look(details=is_full))
        if not is_full and not self._fits(answer):
            is_full, self._looks = True, 0
            answer = client.look(pb.Query.Look(details=True))
        if is_full:
            self._nodes = {record.node_id: record for record in answer.nodes}
            self._offers = list(answer.picture.offers)
        else:
            self._complete(answer)
        self._looks += 1
        self.last = overview(answer, client.address)
        return self.last

    def _fits(self, answer: pb.Answer) -> bool:
        """Whether what is known goes with this answer."""
        known = self._nodes
        return len(known) == len(answer.nodes) and all(
            record.node_id in known
            and len(known[record.node_id].functions) == record.offers
            and record.connected_s >= known[record.node_id].connected_s
            for record in answer.nodes
        )

    def _complete(self, answer: pb.Answer) -> None:
        for record in answer.nodes:
            known = self._nodes[record.node_id]
            record.runtime.CopyFrom(known.runtime)
            record.capacity.CopyFrom(known.capacity)
            record.functions.extend(known.functions)
            record.labels.update(known.labels)
            names = {gpu.index: gpu for gpu in known.load.gpus}
            for gpu in record.load.gpus:
                if gpu.index in names:
                    gpu.name, gpu.uuid = names[gpu.index].name, names[gpu.index].uuid
        answer.picture.offers.extend(self._offers)


class History:
    """The last measurements of each node that is there."""

    def __init__(self) -> None:
        self._nodes: dict[str, dict[str, deque[float]]] = {}

    def add(self, seen: Overview) -> None:
        nodes = dict[str, dict[str, deque[float]]]()
        for node in seen.nodes:
            kept = nodes[node.node_id] = self._nodes.get(node.node_id, {})
            measured = dict[str, float]()
            if node.resources:
                measured["cpu"] = node.resources["cpu_percent"] / 100
                total = node.resources["memory_total_bytes"]
                measured["memory"] = node.resources["memory_used_bytes"] / total if total else 0.0
            for gpu in node.gpus:
                key = f"gpu{gpu.index}"
                measured[key] = gpu.utilization_percent / 100
                measured[f"{key} memory"] = gpu.memory_used_bytes / (gpu.memory_total_bytes or 1)
                measured[f"{key} heat"] = gpu.temperature_c / 100
                measured[f"{key} power"] = gpu.power_w
            for name, value in measured.items():
                kept.setdefault(name, deque(maxlen=KEPT)).append(value)
        self._nodes = nodes

    def series(self) -> dict[str, dict[str, tuple[float, ...]]]:
        return {node: {name: tuple(values) for name, values in kept.items()} for node, kept in self._nodes.items()}


_NOTHING = Overview(GatewayInfo("", "", 0.0, 0, 0, 0), ())
_lock = threading.Lock()
_watchers: weakref.WeakValueDictionary[int, Watcher] = weakref.WeakValueDictionary()
"""Kept by their viewers."""
