"""Values as the command line writes them: arguments in, results out."""

from __future__ import annotations

import base64
import dataclasses
import json
import math
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from easyremote.cli.json_text import printable
from easyremote.errors import UsageError

_KEYWORD = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


def read_arguments(texts: Iterable[str]) -> tuple[list[Any], dict[str, Any]]:
    """Positional and keyword arguments: `key=value` is the latter; JSON is what it says, anything else is a string.

    Raises UsageError for a keyword that comes twice.
    """
    args: list[Any] = []
    kwargs: dict[str, Any] = {}
    for text in texts:
        match = _KEYWORD.fullmatch(text)
        if match is None:
            args.append(read_value(text))
        elif match[1] in kwargs:
            raise UsageError(f"the argument '{match[1]}' is given twice")
        else:
            kwargs[match[1]] = read_value(match[2])
    return args, kwargs


def read_value(text: str) -> Any:
    """`12`, `true`, `[1, 2]` and `"12"` as JSON; `twelve`, `NaN` and `{oops` as the strings that they are."""
    try:
        return json.loads(text, parse_constant=_not_json)
    except (ValueError, RecursionError):
        return text


def _not_json(word: str) -> Any:
    raise ValueError(word)


def read_labels(texts: Iterable[str]) -> dict[str, str]:
    """`key=value` each. Raises UsageError for anything else."""
    labels: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not key or not equals:
            raise UsageError(f"a label is written key=value, e.g. zone=lab, not '{text}'")
        labels[key] = value
    return labels


def read_offered(
    cpus: float | None, memory: str | None, gpus: str | None, gpu_memory: str | None, value_memory: str | None
) -> dict[str, Any]:
    """Arguments of `ComputeNode` for what is given. `gpus`: "2" is a number of them, "0,2" and "1," are indexes.

    Raises UsageError for GPUs that are neither.
    """
    said: dict[str, Any] = {"cpus": cpus, "memory": memory, "gpu_memory": gpu_memory, "value_memory": value_memory}
    if gpus is not None:
        parts = [part.strip() for part in gpus.removesuffix(",").split(",")]
        if not all(part.isascii() and part.isdigit() for part in parts):
            raise UsageError(f"--gpus is a number of GPUs, or their indexes with commas between them, not '{gpus}'")
        said["gpus"] = [int(part) for part in parts] if "," in gpus else int(gpus)
    return {name: value for name, value in said.items() if value is not None}


def read_workers(
    memory: str | None,
    sandbox: bool,
    network: bool,
    read: Sequence[str] | None,
    write: Sequence[str] | None,
    env: Sequence[str] | None,
    no_audit: bool,
    code: str,
    approve: str,
    environments: bool | None,
) -> dict[str, Any]:
    """Arguments of `ComputeNode` for what it runs, and how. Raises UsageError for what needs a sandbox where there is none."""
    if not sandbox and (network or read or write or env):
        raise UsageError(
            "--sandbox-network, --sandbox-read, --sandbox-write and --sandbox-env say what a sandbox allows: add --sandbox"
        )
    said: dict[str, Any] = {"audit": not no_audit, "code": code, "approve": approve, "environments": environments}
    if memory is not None:
        said["worker_memory"] = memory
    if sandbox:
        from easyremote.execution.sandbox import Sandbox

        shown, changed = (tuple(map(os.path.abspath, paths or ())) for paths in (read, write))
        said["sandbox"] = Sandbox(network, shown, changed, tuple(env or ()))
    return said


def to_json(value: Any) -> str:
    """One line of JSON. What JSON has no word for becomes the nearest that it has: an array or a set a list, bytes base64, a
    dataclass an object, NaN and the infinities null, anything else its text."""
    return printable(json.dumps(_plain(value, ()), allow_nan=False, ensure_ascii=False))


def _plain(value: Any, above: tuple[int, ...]) -> Any:
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if isinstance(value, (bytes, bytearray, memoryview)):
        return base64.b64encode(value).decode()
    if id(value) in above or len(above) > 200:
        return str(value)  # it contains itself
    above = (*above, id(value))
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name), above) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {_key(key): _plain(item, above) for key, item in value.items()}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [_plain(item, above) for item in value]
    if callable(to_list := getattr(value, "tolist", None)):  # arrays and scalars of numpy, tensors, series
        return _plain(to_list(), above)
    return str(value)


def _key(key: Any) -> str:
    if isinstance(key, str):
        return key
    return json.dumps(key) if key is None or isinstance(key, (bool, int)) else str(key)
