"""What a node can offer besides slots: what its owner says, and what is found here for the rest."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import psutil

from easyremote.execution.measure import measure_gpus
from easyremote.wire.v1 import gateway_pb2 as pb

_CPU_QUOTA = Path("/sys/fs/cgroup/cpu.max")
_MEMORY_LIMITS = (Path("/sys/fs/cgroup/memory.max"), Path("/sys/fs/cgroup/memory/memory.limit_in_bytes"))


def find(
    millicpus: int | None, memory: int | None, gpus: int | tuple[int, ...] | None, gpu_memory: int | None
) -> pb.Capacity:
    """The capacity to tell a gateway. None: what is found on this machine, or what its container may use of it.

    Of GPUs those are found that NVML knows and CUDA_VISIBLE_DEVICES, where it is set, lets through. GPUs that the owner lists and
    NVML doesn't know are offered as they are. `gpu_memory`: bytes of each GPU that are offered at most.
    """
    capacity = pb.Capacity(
        millicpus=millicpus if millicpus is not None else _found_millicpus(),
        memory_bytes=memory if memory is not None else _found_memory(),
        shares_cpus=millicpus is None,
        shares_memory=memory is None,
    )
    if gpus == 0:
        return capacity
    known = {gpu.index: gpu for gpu in measure_gpus() if not gpu.lost}
    for index in _chosen(gpus, _visible(list(known.values()))):
        gpu = known.get(index, pb.Load.Gpu(index=index))
        total = gpu.memory_total_bytes
        offered = total if gpu_memory is None else min(gpu_memory, total or gpu_memory)
        capacity.gpus.add(index=index, uuid=gpu.uuid, name=gpu.name, memory_bytes=offered)
    return capacity


def _chosen(wanted: int | tuple[int, ...] | None, found: list[int]) -> Sequence[int]:
    if wanted is None:
        return found
    if isinstance(wanted, tuple):
        return wanted
    others = (index for index in range(len(found) + wanted) if index not in found)
    return [*found[:wanted], *(next(others) for _ in range(wanted - len(found)))]


def _visible(gpus: list[pb.Load.Gpu]) -> list[int]:
    """Indexes of those that CUDA would show to a program that is started here, in its order."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if shown is None:
        return [gpu.index for gpu in gpus]
    found: list[int] = []
    for part in shown.split(","):
        text = part.strip()
        fitting = [
            g.index for g in gpus if str(g.index) == text or (text.startswith("GPU-") and g.uuid.startswith(text))
        ]
        if len(fitting) != 1 or fitting[0] in found:
            break  # CUDA stops at the first that it doesn't know
        found += fitting
    return found


def _found_millicpus() -> int:
    try:
        count = len(os.sched_getaffinity(0))
    except AttributeError:
        count = os.cpu_count() or 1
    quota, _, period = _read(_CPU_QUOTA).partition(" ")
    if quota.isdigit() and period.isdigit() and int(period):
        return max(min(count * 1000, int(quota) * 1000 // int(period)), 1)
    return count * 1000


def _found_memory() -> int:
    total = psutil.virtual_memory().total
    limits = [int(text) for text in map(_read, _MEMORY_LIMITS) if text.isdigit()]
    return min([total, *limits])


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
