"""What a node's machine is doing: psutil for the machine, NVML for its GPUs."""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from typing import Any

import psutil

from easyremote.wire.v1 import gateway_pb2 as pb

_lock = threading.Lock()
_has_measured = False
_nvml: Any = None  # the module once initialised, False where there is no NVML


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
        gpus=_gpus(),
    )


def _library() -> Any:
    global _nvml
    with _lock:
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


def _gpus() -> list[pb.Load.Gpu]:
    nvml = _library()
    if not nvml:
        return []
    try:
        return [_gpu(nvml, index) for index in range(nvml.nvmlDeviceGetCount())]
    except nvml.NVMLError:  # a GPU vanished; the next measurement looks again
        return []


def _gpu(nvml: Any, index: int) -> pb.Load.Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = nvml.nvmlDeviceGetMemoryInfo(handle)
    return pb.Load.Gpu(
        index=index,
        name=_text(nvml.nvmlDeviceGetName(handle)),
        uuid=_text(nvml.nvmlDeviceGetUUID(handle)),
        memory_used_bytes=memory.used,
        memory_total_bytes=memory.total,
        utilization_percent=_or_zero(nvml, lambda: nvml.nvmlDeviceGetUtilizationRates(handle).gpu),
        temperature_c=_or_zero(nvml, lambda: nvml.nvmlDeviceGetTemperature(handle, nvml.NVML_TEMPERATURE_GPU)),
        power_w=_or_zero(nvml, lambda: nvml.nvmlDeviceGetPowerUsage(handle) / 1000),
    )


def _or_zero(nvml: Any, read: Any) -> float:
    """Not every GPU measures everything."""
    try:
        return float(read())
    except nvml.NVMLError:
        return 0.0


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
