"""What a node's machine is doing: psutil for the machine, NVML for its GPUs."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

import psutil

from easyremote.wire.v1 import gateway_pb2 as pb

T = TypeVar("T")

_lock = threading.Lock()
_has_measured = False
_nvml: Any = None  # the module once initialised, False where there is no NVML
_known: dict[int, pb.Load.Gpu] = {}  # by index: GPUs that could be measured once


def measure() -> pb.Load:
    """One measurement. CPU use is since the last one in this process; the first takes 0.1 s to have something to compare."""
    global _has_measured
    cpu_percent = psutil.cpu_percent(None if _has_measured else 0.1)
    _has_measured = True
    memory = psutil.virtual_memory()
    return pb.Load(
        cpu_percent=cpu_percent,
        memory_used_bytes=memory.total - memory.available,
        memory_total_bytes=memory.total,
        cpus=os.cpu_count() or 1,
        gpus=measure_gpus(),
    )


def measure_gpus() -> list[pb.Load.Gpu]:
    """The GPUs that NVML knows. One that was there before and can't be measured now is told as lost, with NVML's reason."""
    with _lock:
        nvml = _library()
        if not nvml:
            return []
        try:
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            _start_anew(nvml)
            return [_lost(gpu, error) for gpu in _known.values()]
        own = _own_processes() if count else set[int]()
        gpus: list[pb.Load.Gpu] = []
        for index in sorted({*range(count), *_known}):
            try:
                gpu = _known[index] = _gpu(nvml, index, own)
                gpus.append(gpu)
            except nvml.NVMLError as error:
                if index in _known:
                    gpus.append(_lost(_known[index], error))
        return gpus


def _library() -> Any:
    global _nvml
    if _nvml is None:
        try:
            if sys.platform == "linux":
                ctypes.CDLL(
                    "libnvidia-ml.so.1"
                )  # first: pynvml takes 3 MB, which a machine without GPUs can do without
            import pynvml

            pynvml.nvmlInit()
            _nvml = pynvml
        except Exception:  # no driver, no library, or no permission: a machine without GPUs for us
            _nvml = False
    return _nvml


def _start_anew(nvml: Any) -> None:
    """The driver may have been reset, which needs this; the next measurement tells whether it helped."""
    for step in (nvml.nvmlShutdown, nvml.nvmlInit):
        with suppress(nvml.NVMLError):
            step()


def _gpu(nvml: Any, index: int, own: set[int]) -> pb.Load.Gpu:
    known = _known.get(index)
    if known is not None and known.uuid:  # whatever its number is now: with another GPU gone it may have changed
        handle = nvml.nvmlDeviceGetHandleByUUID(known.uuid)
    else:
        handle = nvml.nvmlDeviceGetHandleByIndex(index)
    used, total = _memory(nvml, handle)
    uuid = _or(nvml, "", lambda: _text(nvml.nvmlDeviceGetUUID(handle)))
    if known is None and any(gpu.uuid == uuid for gpu in _known.values() if uuid):
        raise nvml.NVMLError(nvml.NVML_ERROR_NOT_FOUND)  # one that is known by another number
    return pb.Load.Gpu(
        index=index,
        name=_or(nvml, "GPU", lambda: _text(nvml.nvmlDeviceGetName(handle))),
        uuid=uuid,
        memory_used_bytes=used,
        memory_total_bytes=total,
        utilization_percent=_or(nvml, 0.0, lambda: float(nvml.nvmlDeviceGetUtilizationRates(handle).gpu)),
        temperature_c=_or(nvml, 0.0, lambda: float(nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU))),
        power_w=_or(nvml, 0.0, lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
        own_memory_bytes=min(_or(nvml, 0, lambda: _used_by(nvml, handle, own)), used),
    )


def _memory(nvml: Any, handle: Any) -> tuple[int, int]:
    """Bytes in use, and all; (0, 0) of a GPU that has none of its own. What can't say for another reason is lost."""
    try:
        memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    except nvml.NVMLError as error:
        if error.value != nvml.NVML_ERROR_NOT_SUPPORTED:
            raise
        return 0, 0
    return memory.used, memory.total


def _used_by(nvml: Any, handle: Any, pids: set[int]) -> int:
    """Bytes on this GPU that these processes use. 0 also where they are in a container, and NVML counts pids outside of it."""
    running = nvml.nvmlDeviceGetComputeRunningProcesses(handle)
    return sum(process.usedGpuMemory or 0 for process in running if process.pid in pids)


def _own_processes() -> set[int]:
    this = psutil.Process()
    try:
        return {this.pid, *(child.pid for child in this.children(recursive=True))}
    except psutil.Error:
        return {this.pid}


def _lost(known: pb.Load.Gpu, error: Exception) -> pb.Load.Gpu:
    return pb.Load.Gpu(
        index=known.index,
        name=known.name,
        uuid=known.uuid,
        memory_total_bytes=known.memory_total_bytes,
        lost=str(error)[:200] or type(error).__name__,
    )


def _or(nvml: Any, default: T, read: Callable[[], T]) -> T:
    """Not every GPU measures everything."""
    try:
        return read()
    except nvml.NVMLError:
        return default


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
