"""What people say of resources: what a call needs, what a node offers. Checked here, before anything is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias, TypedDict, TypeGuard

from easyremote.core.records import MAX_SLOTS
from easyremote.core.resources import MAX_GPUS, MAX_LABEL, MAX_LABELS
from easyremote.errors import UsageError
from easyremote.requirements import environment_of
from easyremote.sizes import format_size, parse_size
from easyremote.wire.v1 import gateway_pb2 as pb

Size: TypeAlias = int | str
"""Bytes, or a text such as "12GiB"."""

MAX_CPUS = 2**20
NAMES = ("slots", "cpus", "memory", "gpus", "gpu_memory", "labels")

_OF_FUNCTIONS = (*NAMES, "max_concurrency", "requirements", "python")


class Needs(TypedDict, total=False):
    """What a call of a function needs while it runs. See docs/resources.md.

    `slots`: of its node, 1 to 4096. `cpus`: processors, 0.001 at least. `memory`: bytes, or "4GiB". `gpus`: whole GPUs for itself
    alone. `gpu_memory`: of each of them; without `gpus` a part of one GPU that others share. `labels`: that the node must have.
    """

    slots: int | None
    cpus: float | None
    memory: Size | None
    gpus: int | None
    gpu_memory: Size | None
    labels: Mapping[str, str] | None


class FunctionNeeds(Needs, total=False):
    """The same for each call of a function, and `max_concurrency`: how many of them a node may have at work at once.

    `requirements`: packages that it runs with, such as "numpy<2", in an environment of their own. `python`: which patch
    version, "3.12.4"; its minor version has to be that of the Python that the function comes from. See docs/environments.md.
    """

    max_concurrency: int | None
    requirements: Sequence[str] | None
    python: str | None


def to_wire(said: Mapping[str, Any]) -> pb.Needs | None:
    """What `Needs` says; None where nothing is said. Raises UsageError for what can't be."""
    wanted = {name: said[name] for name in NAMES if said.get(name) is not None}
    if not wanted:
        return None
    needs = pb.Needs()
    if "slots" in wanted:
        needs.slots = whole("slots", wanted["slots"], 1, MAX_SLOTS)
    if "cpus" in wanted:
        needs.millicpus = millicpus("cpus", wanted["cpus"])
    if "memory" in wanted:
        needs.memory_bytes = parse_size(wanted["memory"], "memory")
    if "gpus" in wanted:
        needs.gpus = whole("gpus", wanted["gpus"], 0, MAX_GPUS)
    if "gpu_memory" in wanted:
        needs.gpu_memory_bytes = parse_size(wanted["gpu_memory"], "gpu_memory")
    if "labels" in wanted:
        needs.labels.update(labels(wanted["labels"]))
    return needs


def of_function(said: Mapping[str, Any]) -> dict[str, Any]:
    """Fields of a FunctionSpec for what `FunctionNeeds` says. Raises UsageError for what can't be, and for other names."""
    unknown = [name for name in said if name not in _OF_FUNCTIONS]
    if unknown:
        known = ", ".join(_OF_FUNCTIONS)
        raise UsageError(f"register knows no '{unknown[0]}'; what a function may need is said by {known}")
    most = said.get("max_concurrency")
    limit = whole("max_concurrency", most, 1, MAX_SLOTS) if most is not None else 0
    environment = environment_of(said.get("requirements"), said.get("python"))
    return {"needs": to_wire(said), "max_concurrency": limit, "environment": environment}


def check_batched(name: str, said: pb.Needs | None) -> None:
    """Raises UsageError where a call needs something of its own, and its function's calls run together."""
    for field, _ in said.ListFields() if said is not None else ():
        if field.name != "labels":
            raise UsageError(
                f"calls of '{name}' run together, with what the function needs; one can't say more than labels"
            )


def whole(name: str, value: object, least: int, most: int) -> int:
    """A whole number in this range. Raises UsageError, which calls it `name`, for anything else."""
    if not isinstance(value, int) or isinstance(value, bool) or not least <= value <= most:
        raise UsageError(f"{name} is a whole number from {least} to {most}, not {value!r}")
    return value


def millicpus(name: str, value: object) -> int:
    """Processors in thousandths."""
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 <= value <= MAX_CPUS:
        raise UsageError(f"{name} is a number of processors from 0 to {MAX_CPUS}, not {value!r}")
    return max(round(value * 1000), 1) if value else 0


def labels(value: object) -> dict[str, str]:
    """Labels that a call asks for."""
    if not isinstance(value, Mapping):
        raise UsageError(f'labels is a mapping such as {{"zone": "lab"}}, not {value!r}')
    found = {name: text for name, text in value.items() if _is_text(name) and _is_text(text)}  # pyright: ignore[reportUnknownVariableType]
    is_short = all(0 < len(name) <= MAX_LABEL and len(text) <= MAX_LABEL for name, text in found.items())
    if len(found) != len(value) or len(found) > MAX_LABELS or not is_short:  # pyright: ignore[reportUnknownArgumentType]
        raise UsageError(
            f"labels is a mapping of at most {MAX_LABELS} texts to texts of up to {MAX_LABEL} printable characters, not {value!r}"
        )
    return found


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and value.isprintable()


def described(needs: pb.Needs) -> dict[str, Any]:
    """The same as people write it."""
    found: dict[str, Any] = {}
    if needs.HasField("slots"):
        found["slots"] = needs.slots
    if needs.HasField("millicpus"):
        found["cpus"] = needs.millicpus / 1000
    if needs.HasField("memory_bytes"):
        found["memory"] = format_size(needs.memory_bytes)
    if needs.HasField("gpus"):
        found["gpus"] = needs.gpus
    if needs.HasField("gpu_memory_bytes"):
        found["gpu_memory"] = format_size(needs.gpu_memory_bytes)
    if needs.labels:
        found["labels"] = dict(needs.labels)
    return found


# ---- nodes -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Offered:
    """What a node's owner says that it offers. None: what is found. Sizes in bytes; `gpus`: how many, or which."""

    millicpus: int | None = None
    memory: int | None = None
    gpus: int | tuple[int, ...] | None = None
    gpu_memory: int | None = None


def offered(
    cpus: float | None, memory: Size | None, gpus: int | Sequence[int] | None, gpu_memory: Size | None
) -> Offered:
    """Raises UsageError for what can't be."""
    which: int | tuple[int, ...] | None
    if gpus is None or isinstance(gpus, int):
        which = None if gpus is None else whole("gpus", gpus, 0, MAX_GPUS)
    elif isinstance(gpus, (list, tuple, range)):
        which = tuple(whole("a GPU's index", index, 0, 1023) for index in gpus)
        if len(set(which)) != len(which) or len(which) > MAX_GPUS:
            raise UsageError(f"gpus lists different GPUs, at most {MAX_GPUS}, not {gpus!r}")
    else:
        raise UsageError(f"gpus is a number of GPUs, or a list of their indexes, not {gpus!r}")
    return Offered(
        None if cpus is None else millicpus("cpus", cpus),
        None if memory is None else parse_size(memory, "memory"),
        which,
        None if gpu_memory is None else parse_size(gpu_memory, "gpu_memory"),
    )
