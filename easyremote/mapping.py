"""`Client.map`: one function over many arguments, in chunks while its calls are short."""

from __future__ import annotations

import concurrent.futures
import itertools
from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any

from easyremote.bundling import MAX_TASK_BYTES, Target
from easyremote.calls import Call
from easyremote.connection import Connection
from easyremote.errors import CallLost, RemoteError, WorkerCrashed
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb

MAP_WINDOW = 1000
"""Calls of one `map` that are open at most; with short calls, this many chunks' worth is eight if that is more."""

_CHUNKS = 8
_PROBE = 32
"""Calls that a map begins before it knows how long they take; then it waits a moment for one of them to end."""

_PROBE_S = 0.01

Arguments = tuple[Any, ...]
NewCall = Callable[[str], Call[Any]]


def encode_task(args: Arguments, encoding: type[codec.Pickles]) -> bytes | codec.Encoded:
    """The arguments of one call: a small stream where that will do."""
    return encoding.small(args, {}) or encoding.arguments(args, {}).detached()


def ordered(
    connection: Connection,
    target_for: Callable[[Arguments], Target],
    new_call: NewCall,
    arguments: Iterator[Arguments],
) -> Generator[Any, None, None]:
    """The results in the order of the arguments, which are read as they are needed."""
    first = next(arguments, None)
    if first is None:
        return
    new_call = _explained_once(new_call)
    target = target_for(first)
    waiting = itertools.chain((first,), arguments)
    open_parts: deque[_Part] = deque()
    open_calls = 0

    def first_values() -> Iterator[Any]:
        nonlocal open_calls
        yield from open_parts[0].values()
        open_calls -= open_parts.popleft().size

    try:
        for part in _parts(connection, target, new_call, waiting, open_parts):
            open_parts.append(part)
            part.call._beside = lambda: [other.call for other in open_parts]
            open_calls += part.size
            window = max(MAP_WINDOW, _CHUNKS * target.time.room)
            if open_calls >= window:
                while open_calls > window // 2:
                    yield from first_values()
            while open_parts and open_parts[0].call.done():
                yield from first_values()
        while open_parts:
            yield from first_values()
    finally:
        for part in open_parts:
            part.cancel()


def _explained_once(new_call: NewCall) -> NewCall:
    """Calls of which one at most tells whoever waits why it waits."""
    told: list[Call[Any]] = []

    def make(title: str) -> Call[Any]:
        call = new_call(title)
        explain = call._explain
        if told or explain is None:
            call._explain = None
        else:
            call._explain = lambda call: None if told else (told.append(call), explain(call))[1]
        return call

    return make


def _parts(
    connection: Connection,
    target: Target,
    new_call: NewCall,
    arguments: Iterator[Arguments],
    open_parts: deque[_Part],
) -> Iterator[_Part]:
    """The work in the pieces in which it is sent, each sent when it is asked for."""
    is_probed = False
    while True:
        room = target.time.room if target.may_bundle else 1
        if not target.time.is_known and target.may_bundle and not is_probed and len(open_parts) >= _PROBE:
            is_probed = True
            concurrent.futures.wait([open_parts[0].call], _PROBE_S)
            continue
        tasks: list[bytes] = []
        size = 0
        whole: codec.Encoded | None = None
        for args in itertools.islice(arguments, room):
            encoded = encode_task(args, connection.encoding)
            if not isinstance(encoded, bytes):
                whole = encoded
                break
            tasks.append(encoded)
            size += len(encoded)
            if size > MAX_TASK_BYTES:
                break
        if not tasks and whole is None:
            return
        if len(tasks) == 1:
            yield _Part(connection, target, new_call, tasks[0])
        elif tasks:
            yield _Chunk(connection, target, new_call, tasks)
        if whole is not None:
            yield _Part(connection, target, new_call, whole)


class _Part:
    """One call of the map."""

    size = 1

    def __init__(
        self, connection: Connection, target: Target, new_call: NewCall, arguments: bytes | codec.Encoded
    ) -> None:
        self.call = new_call(target.title)
        connection.submit(self.call, target, arguments)

    def values(self) -> Iterator[Any]:
        yield self.call.result()

    def cancel(self) -> None:
        self.call.cancel("its map ended early")


class _Chunk(_Part):
    """Many short calls as one that streams their results. What comes back unbegun goes again, call by call."""

    def __init__(self, connection: Connection, target: Target, new_call: NewCall, tasks: list[bytes]) -> None:
        self._connection = connection
        self._target = target
        self._new_call = new_call
        self._tasks = tasks
        self._returned: list[_Part] = []
        self._is_unwanted = False
        self.size = len(tasks)
        self.call = new_call(target.title)
        self.call._on_returned = self._take_back
        connection.submit_tasks(self.call, target, tasks)

    def values(self) -> Iterator[Any]:
        done = 0
        try:
            for value in self.call:
                done += 1
                yield value
        except WorkerCrashed as crash:  # the one that ran did that; results of those before it may be lost with it
            outcome = self.call._outcome
            crashed_at = outcome.task if isinstance(outcome, pb.ErrorInfo) and outcome.code == crash.code else done
            self._returned = [*self._again(self._tasks[done:crashed_at]), *self._returned]
            for part in self._returned[: max(crashed_at - done, 0)]:
                yield from part.values()
            raise
        except CallLost as lost:
            may_not = lost.details.get("retries") == "0"
            if (
                may_not or done == len(self._tasks) or isinstance(lost.__cause__, RemoteError)
            ):  # one that the function raised
                raise
            self._returned = [*self._again(self._tasks[done:]), *self._returned]
        for part in self._returned:
            yield from part.values()

    def cancel(self) -> None:
        self._is_unwanted = True
        super().cancel()
        for part in self._returned:
            part.cancel()

    def _take_back(self, first: int) -> None:
        rest = self._tasks[first:]
        del self._tasks[first:]
        self._target.time.slow()
        self._returned = self._again(rest)
        if self._is_unwanted:  # it was cancelled in another thread meanwhile
            self.cancel()

    def _again(self, tasks: Iterable[bytes]) -> list[_Part]:
        return [_Part(self._connection, self._target, self._new_call, task) for task in tasks]
