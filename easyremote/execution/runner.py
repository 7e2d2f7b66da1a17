"""Runs one call of any kind of function and turns what happens into events."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from easyremote.errors import BadArguments
from easyremote.execution.context import Emitter, current


def run(
    function: Callable[..., Any],
    args: tuple[Any, ...],
    kwargs: dict[str, Any],
    emitter: Emitter,
    run_coroutine: Callable[[Coroutine[Any, Any, Any]], Any] = asyncio.run,
) -> None:
    """Call it in this thread. Exactly one `result` or `failed` comes out, whatever the function does."""
    token = current.set(emitter)
    try:
        value = call_checked(function, args, kwargs)
        is_stream = inspect.isgenerator(value) or inspect.isasyncgen(value)
        if inspect.isgenerator(value):
            value = _drive(value, emitter)
        elif is_stream or inspect.isawaitable(value):
            value = run_coroutine(_finish(value, emitter))
        emitter.result(value, is_stream)
    except BaseException as error:
        emitter.failed(error)
    finally:
        current.reset(token)


async def run_async(
    function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], emitter: Emitter
) -> None:
    """The same for `async def` functions, on the running loop."""
    current.set(emitter)
    try:
        value = call_checked(function, args, kwargs)
        is_stream = inspect.isasyncgen(value)
        emitter.result(await _finish(value, emitter), is_stream)
    except BaseException as error:
        emitter.failed(error)


def call_checked(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Call it. Raises BadArguments where its TypeError comes from the arguments."""
    try:
        return function(*args, **kwargs)
    except TypeError as error:
        tb = error.__traceback__
        if tb is not None and tb.tb_next is None and not isinstance(error, BadArguments):  # raised by the call itself
            _check(function, args, kwargs, error)
        raise


def _check(function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any], error: TypeError) -> None:
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return
    try:
        signature.bind(*args, **kwargs)
    except TypeError as mismatch:
        name = getattr(function, "__name__", "the function")
        raise BadArguments(f"{name}{signature}: {mismatch}") from error


def _drive(generator: Any, emitter: Emitter) -> Any:
    """Send each item as soon as it is produced. The generator is closed on every path, so its `finally` blocks run."""
    try:
        while True:
            try:
                item = next(generator)
            except StopIteration as end:
                return end.value
            emitter.item(item)
    finally:
        generator.close()


async def _finish(value: Any, emitter: Emitter) -> Any:
    if inspect.isasyncgen(value):
        try:
            async for item in value:
                await emitter.item_async(item)
        finally:
            await value.aclose()
        return None
    return await value if inspect.isawaitable(value) else value
