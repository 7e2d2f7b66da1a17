"""The tasks of a bundle: many short calls of one function that came as one."""

from __future__ import annotations

import asyncio
import inspect
import mmap
import struct
import threading
from collections.abc import Callable, Coroutine, Iterable, Sequence
from typing import Any, Protocol

from easyremote.errors import CallCancelled
from easyremote.execution.context import CallInterrupted, Emitter, current
from easyremote.execution.runner import call_checked
from easyremote.wire import codec

_NUMBER = struct.Struct("<Q")
BEGUN_BYTES = _NUMBER.size


def begun_task(begun: mmap.mmap) -> int:
    """The number that `Tasks` wrote there last."""
    return _NUMBER.unpack_from(begun)[0]


class TaskEmitter(Emitter, Protocol):
    """Where the results of tasks go. `may_unpickle`: arguments may be pickles."""

    may_unpickle: bool

    def failure(self, error: BaseException) -> None:
        """One task failed; the others go on."""
        ...


class Tasks:
    """Taken one by one by the thread that runs them; others may take the rest away. Safe from any thread."""

    def __init__(
        self,
        arguments: Sequence[bytes],
        skipped: Iterable[int] = (),
        begun: mmap.mmap | None = None,
        content_type: str = codec.PICKLE,
    ) -> None:
        """`begun`: memory into which the number of each task is written that is taken. `content_type`: of their arguments."""
        self.content_type = content_type
        self._begun = begun
        self._arguments = arguments
        self._skipped = set(skipped)
        self._next = 0
        self._end = len(arguments)
        self._lock = threading.Lock()

    @property
    def count(self) -> int:
        return len(self._arguments)

    def take(self) -> bytes | None:
        """The next one's arguments, None at the end. Raises CallCancelled for one that isn't wanted any more."""
        with self._lock:
            number = self._next
            if number >= self._end:
                return None
            self._next += 1
        if self._begun is not None:
            _NUMBER.pack_into(self._begun, 0, number)
        if number in self._skipped:
            raise CallCancelled("cancelled before it began")
        return self._arguments[number]

    def give_back(self) -> int | None:
        """Begin no more of them: the number of the first that isn't begun, None when there is none."""
        with self._lock:
            if self._next >= self._end:
                return None
            self._end = self._next
            return self._end

    def skip(self, numbers: Iterable[int]) -> bool:
        """Don't begin these. True when one of them is running."""
        with self._lock:
            self._skipped.update(numbers)
            return self._next - 1 in numbers


def run_tasks(
    function: Callable[..., Any],
    tasks: Tasks,
    emitter: TaskEmitter,
    run_coroutine: Callable[[Coroutine[Any, Any, Any]], Any] = asyncio.run,
) -> None:
    """Run one after the other in this thread, each with a result or a failure of its own. An interrupt ends them all."""
    token = current.set(emitter)
    try:
        while True:
            try:
                arguments = tasks.take()
                if arguments is None:
                    break
                args, kwargs = _decoded(function, tasks, emitter, arguments)
                emitter.item(_whole(call_checked(function, args, kwargs), run_coroutine))
            except (CallInterrupted, KeyboardInterrupt):
                raise
            except BaseException as error:
                emitter.failure(error)
        emitter.result(None, is_exhausted=True)
    except BaseException as error:
        emitter.failed(error)
    finally:
        current.reset(token)


def _decoded(function: Any, tasks: Tasks, emitter: TaskEmitter, arguments: bytes) -> Any:
    encoded = codec.Encoded(tasks.content_type, [arguments], len(arguments))
    return codec.decode_arguments(encoded, emitter.may_unpickle, function)


def _whole(value: Any, run_coroutine: Callable[[Coroutine[Any, Any, Any]], Any]) -> Any:
    """The value that a caller gets: of a generator the list of its items, as `Client.call` gives it."""
    if inspect.isgenerator(value):
        return list(value)
    if inspect.isasyncgen(value):
        return run_coroutine(_listed(value))
    if inspect.isawaitable(value):
        return run_coroutine(_awaited(value))
    return value


async def _listed(items: Any) -> list[Any]:
    return [item async for item in items]


async def _awaited(value: Any) -> Any:
    return await value
