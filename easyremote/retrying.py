"""`retries`, `retry_on`, `backoff` and `idempotent` as people give them, and how an error tells of the attempts before it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from typing import Any

from easyremote import foreign
from easyremote.core.retrying import MAX_BACKOFF_S
from easyremote.errors import EasyRemoteError, FailedAttempt, UsageError
from easyremote.execution.retriable import name_of
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_RETRIES = 1000

MAX_RETRY_ON = 32
"""Types that one call may name."""

RetryOn = type[Exception] | str | Iterable[type[Exception] | str]
"""An exception class or its name, or several."""


def check_retries(retries: Any) -> None:
    """Raises UsageError for what isn't a number of retries."""
    is_whole = isinstance(retries, int) and not isinstance(retries, bool)
    if not is_whole or not 0 <= retries <= MAX_RETRIES:
        raise UsageError(f"retries is a whole number from 0 to {MAX_RETRIES}, not {retries!r}")


def check_backoff(backoff: Any) -> None:
    """Raises UsageError for what isn't a wait."""
    is_number = isinstance(backoff, (int, float)) and not isinstance(backoff, bool)
    if not is_number or not 0 <= backoff <= MAX_BACKOFF_S:
        raise UsageError(f"backoff is a number of seconds from 0 to {MAX_BACKOFF_S:g}, not {backoff!r}")


def names_of(retry_on: Any) -> tuple[str, ...]:
    """The names of these exception types for the wire. Raises UsageError for what isn't one."""
    given: Any = (retry_on,) if isinstance(retry_on, (str, type)) or not isinstance(retry_on, Iterable) else retry_on
    names = tuple(dict.fromkeys(_name(one) for one in given))
    if len(names) > MAX_RETRY_ON:
        raise UsageError(f"retry_on names at most {MAX_RETRY_ON} types, not {len(names)}")
    return names


def _name(one: Any) -> str:
    if isinstance(one, type) and issubclass(one, Exception):
        return name_of(one)
    if isinstance(one, str) and len(one) <= 200 and all(part.isidentifier() for part in one.split(".")):
        return one
    raise UsageError(f"retry_on takes exception classes, or their names as 'module.Class', not {str(one)[:60]!r}")


def rule(retries: int | None, retry_on: RetryOn | None, backoff: float | None) -> pb.RetryRule | None:
    """What the owner of a function wants for calls that don't say, or None. Raises UsageError."""
    if retries is None and retry_on is None and backoff is None:
        return None
    made = pb.RetryRule()
    if retries is not None:
        check_retries(retries)
        made.retries, made.retries_set = retries, True
    if retry_on is not None:
        made.retry_on.extend(names_of(retry_on))
    if backoff is not None:
        check_backoff(backoff)
        made.backoff_s = backoff
    return made


def tell_of_attempts(error: BaseException, info: pb.ErrorInfo, attempt: int) -> None:
    """Add to a call's error what became of the attempts before it, as `attempts` and as a note below its traceback."""
    why_not = info.details.get("not_again", "")
    if not info.earlier and not why_not:
        return
    attempts = tuple(_attempt(earlier) for earlier in info.earlier)
    ours = error if isinstance(error, EasyRemoteError) else error.__cause__
    if isinstance(ours, EasyRemoteError):
        ours.attempts = attempts
    where = f" on node '{foreign.name(info.node_id)}'" if info.node_id else ""
    lines = [
        f"easyremote: this was attempt {max(attempt, len(attempts) + 1)}{where}{'' if attempts else ', the only one'}"
    ]
    if why_not:
        lines[0] += f"; {foreign.name(why_not)}, so it isn't run again"
    lines += [f"  {earlier}" for earlier in attempts]
    with contextlib.suppress(Exception):  # an exception class may forbid attributes
        error.add_note("\n".join(lines))


def _attempt(info: pb.ErrorInfo) -> FailedAttempt:
    return FailedAttempt(
        number=int(info.details["attempt"] or 0) if "attempt" in info.details else 0,
        node=info.node_id,
        type=info.type or ("CallLost" if info.code == "lost" else info.code),
        message=info.message,
        traceback=info.traceback,
    )
