"""Sizes and spans as people write them: `"12GiB"`, `"500MB"`, or a whole number of bytes; `"1h"`, `"30min"`, or seconds."""

from __future__ import annotations

import re
from collections.abc import Sequence

from easyremote.errors import UsageError

_DECIMAL = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_BINARY = {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}
_UNITS = _DECIMAL | _BINARY
_SIZE = re.compile(r"\s*(\d{1,20}(?:\.\d{1,20})?)\s*([A-Za-z]*)\s*", re.ASCII)

LARGEST = 2**50
"""No size is beyond this."""


_SPAN = re.compile(r"\s*(\d{1,9}(?:\.\d{1,9})?)\s*([A-Za-z]*)\s*", re.ASCII)
_SECONDS = {"": 1.0, "s": 1.0, "min": 60.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_span(value: object, name: str = "a span") -> float:
    """So many seconds. Accepts a number of them, or a text with a unit: s, min, h, d.

    Raises UsageError, which calls it `name`, for anything else, and for a negative one.
    """
    if isinstance(value, str) and (found := _SPAN.fullmatch(value)) and found[2].lower() in _SECONDS:
        return float(found[1]) * _SECONDS[found[2].lower()]
    if isinstance(value, (int, float)) and not isinstance(value, bool) and 0 <= value < float("inf"):
        return float(value)
    raise UsageError(f'{name} is a span such as "1h", "30min", "7d" or a number of seconds, not {str(value)[:40]!r}')


UNITS_OF_TIME = ("d", "h", "min", "s")


def format_span(seconds: float, units: Sequence[str] = UNITS_OF_TIME) -> str:
    """The two largest units, e.g. `3 d 4 h`, `12 min 5 s`. `units`: what days, hours, minutes and seconds are called."""
    left, parts = int(seconds), list[str]()
    for name, size in zip(units, (86400, 3600, 60, 1), strict=True):
        count, left = divmod(left, size)
        if count or parts or size == 1:
            parts.append(f"{count} {name}")
    return " ".join(parts[:2])


def parse_size(value: object, name: str = "a size") -> int:
    """So many bytes. Accepts a whole number of bytes, or a text with a unit: B, KB, MB, GB, TB, KiB, MiB, GiB, TiB.

    Raises UsageError, which calls it `name`, for anything else, for a negative one, and for more than 2**50.
    """
    if isinstance(value, str):
        found = _SIZE.fullmatch(value)
        unit = _UNITS.get(found[2].upper()) if found is not None else None
        if found is None or unit is None:
            raise UsageError(f'{name} is a size such as "12GiB", "500MB" or a number of bytes, not {value[:40]!r}')
        size = round(float(found[1]) * unit) if "." in found[1] else int(found[1]) * unit
    elif isinstance(value, int) and not isinstance(value, bool):
        size = value
    else:
        raise UsageError(f'{name} is a size such as "12GiB", "500MB" or a number of bytes, not {value!r}')
    if not 0 <= size <= LARGEST:
        raise UsageError(f"{name} is a size from 0 to {format_size(LARGEST)}, not {value!r}")
    return size


def format_size(size: int) -> str:
    """The same for people, in the unit that suits it: `12 GiB`, `1.5 MiB`, `0 B`."""
    for unit in ("TiB", "GiB", "MiB", "KiB"):
        if size >= _BINARY[unit.upper()]:
            return f"{round(size / _BINARY[unit.upper()], 1):g} {unit}"
    return f"{size} B"
