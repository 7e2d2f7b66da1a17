"""A node's worker processes: a pool of those that may use any GPU, and one for each set of GPUs that calls were given.

CUDA reads CUDA_VISIBLE_DEVICES once, when a process first uses it. So a worker keeps the GPUs that it was started with, and
serves calls that were given the same ones.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

from easyremote.errors import UsageError
from easyremote.execution.confinement import Confinement
from easyremote.execution.environments.interpreter import Interpreter
from easyremote.execution.pool import WorkerPool, WorkerProcess
from easyremote.wire.v1 import gateway_pb2 as pb

Gpus = tuple[int, ...]


class Limits(NamedTuple):
    """What calls of one key may use at most. `memory_bytes` 0: whatever there is; of each process that a call starts."""

    memory_bytes: int = 0
    only_granted_gpus: bool = False  # and else none


NO_LIMITS = Limits()

_Kind = tuple[Gpus, Limits, Interpreter | None]


class WorkerPools:
    """All workers of a node. Runs on the shared loop."""

    def __init__(self, node_id: str, confined: Confinement | None = None) -> None:
        self._node_id = node_id
        self._confined = confined
        self._any = WorkerPool(node_id, confined=confined)
        self._pinned: dict[_Kind, WorkerPool] = {}
        self._free: dict[int, int] = {}  # bytes of each GPU's memory that nobody used when it was measured last

    def prepare(self) -> None:
        """Have one worker warm for calls without GPUs."""
        self._any.prepare()

    async def take(
        self, digest: str, grant: pb.Grant, limits: Limits = NO_LIMITS, interpreter: Interpreter | None = None
    ) -> WorkerProcess:
        """A worker for one call, that sees the GPUs which the call was granted; any where that are none. `interpreter`: instead
        of the node's own."""
        pool = self._of((tuple(grant.gpus), limits, interpreter))
        worker = await pool.take(digest)
        if grant.gpus:
            self._make_room(grant)
        return worker

    def take_for_session(
        self, session_id: str, grant: pb.Grant, limits: Limits = NO_LIMITS, interpreter: Interpreter | None = None
    ) -> WorkerProcess:
        """The session's own worker, as it was started; a new one has this interpreter.

        Raises UsageError where it sees other GPUs than the call has, or has other limits.
        """
        gpus: Gpus = tuple(grant.gpus)
        kind, pool = next(
            (item for item in self._all().items() if item[1].has_session(session_id)), (((), limits, interpreter), None)
        )
        if pool is None:
            pool = self._of((gpus, limits, interpreter))
            if gpus:
                self._make_room(grant)
        elif kind[1] != limits:
            raise UsageError(
                f"this session's process on node '{self._node_id}' was started with other limits than the key of this call has; "
                "restart the kernel"
            )
        elif gpus and kind[0] != gpus:
            seen = ",".join(map(str, kind[0])) or "all"
            raise UsageError(
                f"this session's process on node '{self._node_id}' was started with GPUs: {seen}; it can't have "
                f"{','.join(map(str, gpus))} instead. `--fresh` starts it anew, without its names"
            )
        return pool.take_for_session(session_id)

    def has_session(self, session_id: str) -> bool:
        return any(pool.has_session(session_id) for pool in self._all().values())

    @property
    def interpreters(self) -> set[str]:
        """Keys of those that workers have."""
        return {kind[2].key for kind in self._pinned if kind[2] is not None}

    def close_session(self, session_id: str) -> None:
        for pool in self._all().values():
            pool.close_session(session_id)

    def measured(self, gpus: Sequence[pb.Load.Gpu]) -> None:
        """How full the GPUs are."""
        self._free = {gpu.index: gpu.memory_total_bytes - gpu.memory_used_bytes for gpu in gpus if not gpu.lost}

    def trim(self) -> None:
        """End workers that were idle for long; one without GPUs stays."""
        self._any.trim()
        for kind, pool in list(self._pinned.items()):
            pool.trim(keep=0)
            if pool.is_empty:
                del self._pinned[kind]

    async def close(self) -> None:
        await asyncio.gather(*(pool.close() for pool in self._all().values()))

    def _all(self) -> dict[_Kind, WorkerPool]:
        return {((), NO_LIMITS, None): self._any, **self._pinned}

    def _of(self, kind: _Kind) -> WorkerPool:
        gpus, limits, interpreter = kind
        if not gpus and limits == NO_LIMITS and interpreter is None:
            return self._any
        pool = self._pinned.get(kind)
        if pool is None:
            environment: dict[str, str] = {}
            if gpus or limits.only_granted_gpus:
                shown = ",".join(map(str, gpus)) or "-1"  # -1: CUDA finds none
                environment |= {"CUDA_VISIBLE_DEVICES": shown, "CUDA_DEVICE_ORDER": "PCI_BUS_ID"}  # as NVML counts them
            confined = self._confined
            if limits.memory_bytes:
                confined = confined or Confinement()
                most = min(limits.memory_bytes, confined.memory_bytes or limits.memory_bytes)
                confined = replace(confined, memory_bytes=most)
            if interpreter is not None:
                confined = _with(confined or Confinement(), interpreter)
            pool = self._pinned[kind] = WorkerPool(self._node_id, environment, confined)
        return pool

    def _make_room(self, grant: pb.Grant) -> None:
        """End idle workers that still hold memory of these GPUs: all where the call has them alone, else where it is short."""
        needed = set(grant.gpus)
        if not grant.is_exclusive:
            needed = {gpu for gpu in needed if self._free.get(gpu, 0) < grant.gpu_memory_bytes}
        for (gpus, *_), pool in self._pinned.items():
            if needed.intersection(gpus):
                pool.end_idle()


def _with(confined: Confinement, interpreter: Interpreter) -> Confinement:
    box = confined.sandbox
    if box is not None:
        box = replace(box, read=(*box.read, *interpreter.folders))
    return replace(confined, sandbox=box, interpreter=interpreter)
