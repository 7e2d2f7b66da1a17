"""Calls that run together: one run of a function takes the arguments of many calls, and its results are taken apart.

Rules:
- The function gets a list for each of its parameters, with the value of each call, in the order of the calls. A call that left
  the parameter out has the function's default there.
- It returns as many results in the same order: a list, an array along its first axis, anything with a length and numbers. A
  result that is an exception is that call's failure.
- Where a run for several calls raises, each of them is run once more, alone, so that only those fail that can't succeed. Not
  with `is_whole`, and not a call that mustn't be run twice.
"""

from __future__ import annotations

import asyncio
import inspect
import re
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, NamedTuple, Protocol

from easyremote.errors import BadArguments, UsageError
from easyremote.execution.context import CallInterrupted
from easyremote.execution.functions import kind_of
from easyremote.execution.runner import call_checked
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_BATCH = 1024
"""Calls in one batch."""

BATCH_WAIT_S = 0.005
"""How long the first call of a batch waits for others where nothing else is said."""

MAX_WAIT_S = 60.0

RunCoroutine = Callable[[Coroutine[Any, Any, Any]], Any]
Decode = Callable[[pb.Submit, Any], tuple[tuple[Any, ...], dict[str, Any]]]


class Member(Protocol):
    """A call of a batch, where its function runs."""

    @property
    def is_wanted(self) -> bool: ...
    @property
    def may_run_again(self) -> bool: ...
    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Decoded. Raises where they can't be."""
        ...

    def result(self, value: Any) -> None: ...
    def failed(self, error: BaseException) -> None: ...


class _Ready(NamedTuple):
    member: Member
    args: tuple[Any, ...]
    kwargs: dict[str, Any]


def declare(
    spec: pb.FunctionSpec, function: Any, batch: int | None, batch_wait: float | str, batch_split: bool
) -> None:
    """Note in the function's record that its calls run together. Raises UsageError for what can't be."""
    if batch is None:
        return
    if isinstance(batch, bool) or not isinstance(batch, int) or not 1 <= batch <= MAX_BATCH:
        raise UsageError(f"batch is a whole number of calls from 1 to {MAX_BATCH}, not {batch!r}")
    if kind_of(function) in (pb.FUNCTION_KIND_GENERATOR, pb.FUNCTION_KIND_ASYNC_GENERATOR):
        raise UsageError(f"'{spec.name}' yields its results; with batch it has to return a list of them")
    spec.batch = batch
    spec.batch_wait_s = _seconds(batch_wait)
    spec.batch_whole = not batch_split
    for parameter in spec.parameters:
        parameter.annotation_text = _of_one(parameter.annotation_text)


def _seconds(wait: float | str) -> float:
    number: float | None = None
    if isinstance(wait, str):
        match = re.fullmatch(r"\s*(\d+(?:\.\d*)?|\.\d+)\s*(us|ms|s)\s*", wait)
        number = float(match[1]) * {"us": 1e-6, "ms": 1e-3, "s": 1.0}[match[2]] if match else None
    elif not isinstance(wait, bool) and isinstance(wait, (int, float)):
        number = float(wait)
    if number is None or not 0 <= number <= MAX_WAIT_S:
        raise UsageError(
            f"batch_wait is a time up to {MAX_WAIT_S:g} s, as seconds or as a text like '5ms', not {wait!r}"
        )
    return number


def _of_one(annotation: str) -> str:
    """What one call gives where the function takes a list of it; empty where that can't be told."""
    match = re.fullmatch(r"(?:typing\.|collections\.abc\.)?(?:[Ll]ist|Sequence|Iterable)\[(.*)\]", annotation)
    return match[1] if match else ""


def run_batch(
    function: Callable[..., Any],
    members: Iterable[Member],
    is_whole: bool,
    run_coroutine: RunCoroutine = asyncio.run,
) -> None:
    """Each member gets its result or its failure, in any order. Raises only what interrupts the whole run."""
    for group in _groups(function, members):
        _run(function, group, is_whole, run_coroutine)


def _groups(function: Callable[..., Any], members: Iterable[Member]) -> Iterable[list[_Ready]]:
    """Members whose arguments have the same shape. It is one group, but for functions of which nothing can be known."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        signature = None
    count = _plain_count(signature)
    groups: dict[tuple[int, tuple[str, ...]], list[_Ready]] = {}
    for member in members:
        if not member.is_wanted:
            continue
        try:
            args, kwargs = member.arguments()
            if signature is not None and (kwargs or len(args) != count):
                args, kwargs = _bound(function, signature, args, kwargs)
        except Exception as error:
            member.failed(error)
            continue
        groups.setdefault((len(args), tuple(sorted(kwargs))), []).append(_Ready(member, args, kwargs))
    return groups.values()


def _plain_count(signature: inspect.Signature | None) -> int:
    """How many positional arguments alone leave no parameter out; -1: no number does."""
    kinds = [parameter.kind for parameter in signature.parameters.values()] if signature is not None else []
    return len(kinds) if all(kind <= inspect.Parameter.POSITIONAL_OR_KEYWORD for kind in kinds) else -1


def _bound(
    function: Callable[..., Any], signature: inspect.Signature, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    try:
        bound = signature.bind(*args, **kwargs)
    except TypeError as error:
        raise BadArguments(f"{_title(function)}{signature}: {error}") from None
    bound.apply_defaults()
    return bound.args, bound.kwargs


def _run(function: Callable[..., Any], group: Sequence[_Ready], is_whole: bool, run_coroutine: RunCoroutine) -> None:
    args = [list(values) for values in zip(*(ready.args for ready in group), strict=True)]
    kwargs = {name: [ready.kwargs[name] for ready in group] for name in group[0].kwargs}
    try:
        value = call_checked(function, tuple(args), kwargs)
        if inspect.isawaitable(value):
            value = run_coroutine(_awaited(value))
    except (CallInterrupted, KeyboardInterrupt):
        raise
    except BaseException as error:
        _failed(function, group, is_whole or not isinstance(error, Exception), run_coroutine, error)
        return
    try:
        results = _taken_apart(function, value, len(group))
    except UsageError as error:
        for ready in group:
            ready.member.failed(error)
        return
    for ready, result in zip(group, results, strict=True):
        _end(ready.member, result)


def _failed(
    function: Callable[..., Any],
    group: Sequence[_Ready],
    is_whole: bool,
    run_coroutine: RunCoroutine,
    error: BaseException,
) -> None:
    """A run for several calls tells nothing of each: ask again, one by one."""
    for ready in group:
        if is_whole or len(group) == 1 or not ready.member.may_run_again:
            ready.member.failed(error)
        elif ready.member.is_wanted:
            _run(function, [ready], is_whole, run_coroutine)


def _end(member: Member, result: Any) -> None:
    if isinstance(result, BaseException):
        member.failed(result)
        return
    try:
        member.result(result)
    except Exception as error:  # it can't be sent
        member.failed(error)


def _taken_apart(function: Callable[..., Any], value: Any, count: int) -> list[Any]:
    wants = f"'{_title(function)}' is registered with batch, so it has to return a list with a result for each call"
    if isinstance(value, (str, bytes, bytearray, dict, set, frozenset)) or not hasattr(value, "__getitem__"):
        raise UsageError(f"{wants}; it returned a {type(value).__name__}")
    try:
        length = len(value)
        if length == count:
            return [value[number] for number in range(count)]
    except Exception as error:
        raise UsageError(f"{wants}; it returned a {type(value).__name__}: {error}") from None
    raise UsageError(f"{wants}: it was called for {count} and returned {length}")


def _title(function: Any) -> str:
    return str(getattr(function, "__name__", type(function).__name__))


async def _awaited(value: Any) -> Any:
    return await value


# ---- in a worker process ---------------------------------------------------------------------------------------------


class _Task:
    """A member in a worker process. Its outcome is kept until all have theirs: they are sent in order."""

    is_wanted = True  # the node knows better, and drops what isn't

    def __init__(self, submit: pb.Submit, decode: Decode, function: Any) -> None:
        self.submit = submit
        self._function = function
        self.outcome: Any = None
        self._decode = decode

    @property
    def may_run_again(self) -> bool:
        return may_run_again(self.submit.options)

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return self._decode(self.submit, self._function)

    def result(self, value: Any) -> None:
        self.outcome = value, None

    def failed(self, error: BaseException) -> None:
        self.outcome = None, error


class Outlet(Protocol):
    """Where the outcomes of a worker's batch go."""

    accept: str
    retry_on: Sequence[str]

    def item(self, value: Any) -> None: ...
    def failure(self, error: BaseException) -> None: ...


def run_tasks_together(
    function: Callable[..., Any],
    tasks: Sequence[bytes],
    is_whole: bool,
    outlet: Outlet,
    decode: Decode,
    run_coroutine: RunCoroutine,
) -> None:
    """Run them as one and send what became of each, in their order. `decode` gives the arguments of one, for the function."""
    members = [_Task(pb.Submit.FromString(task), decode, function) for task in tasks]
    run_batch(function, members, is_whole, run_coroutine)
    for member in members:
        value, error = member.outcome
        member.outcome = None
        outlet.accept, outlet.retry_on = member.submit.options.accept, member.submit.options.retry_on
        try:
            if error is not None:
                outlet.failure(error)
            else:
                outlet.item(value)
        except Exception as broken:  # it can't be sent
            outlet.failure(broken)


def may_run_again(options: pb.Options) -> bool:
    """Whether a call may be run a second time where the first run failed with others."""
    return not options.retries_set or options.retries > 0
