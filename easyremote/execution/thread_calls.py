"""Calls of the owner's functions in threads, or on the user loop, of the node's own process."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from easyremote.execution.bars import Bars
from easyremote.execution.bounding import OutputBound
from easyremote.execution.context import deadline_of, facts_of
from easyremote.execution.credits import Credits, cost_of_item
from easyremote.execution.failure import describe
from easyremote.execution.output import OutputBuffer
from easyremote.execution.packing import Packer
from easyremote.execution.runner import run, run_async
from easyremote.execution.tasks import Tasks, run_tasks
from easyremote.execution.threads import interrupt
from easyremote.execution.worker import ITEMS_AHEAD
from easyremote.model import CurrentCall
from easyremote.wire import codec
from easyremote.wire.references import resolving, type_text
from easyremote.wire.shared_files import SharedFiles
from easyremote.wire.v1 import gateway_pb2 as pb

Post = Callable[["pb.Event | list[bytes]", str, "codec.Encoded | InFile | None"], None]
"""Takes an event, the field that its payload goes into, and the payload; or a pack of items that may still be growing. Called in
the function's thread."""


class InFile(NamedTuple):
    """A payload that lies in a shared file."""

    name: str
    content_type: str
    part_bytes: list[int]
    size: int


class ThreadEmitter:
    """Events of a call that runs in a thread, or on the user loop, of this process."""

    def __init__(self, node_id: str, submit: pb.Submit, post: Post, shared: SharedFiles | None = None) -> None:
        """`shared`: where large values are put at once, for a receiver on this host."""
        self.call_id = submit.call_id
        self.node_id = node_id
        self._submit = submit
        self.deadline = deadline_of(submit)
        self.future: Any = None  # of a coroutine on the user loop
        self.credits = Credits(ITEMS_AHEAD)
        self.is_async = False
        self.packer = Packer()
        self.tasks: Tasks | None = None  # of a bundle
        self.values: Mapping[bytes, codec.Encoded] = {}  # what its arguments mention
        self.may_unpickle = not submit.plain_only
        self._keep = submit.options.keep
        self._post_whole = post
        self._shared = shared
        self._accept = submit.options.accept
        self._retry_on = submit.options.retry_on
        self._wants_output = submit.options.output
        self._buffer = OutputBuffer(self._send_output)
        self.bars = Bars(lambda progress: self._post(pb.Event(progress=progress)))
        self._bound = OutputBound(submit.options.output_limit)
        self._bound_lock = threading.RLock()
        self._lock = threading.Lock()
        self._thread_id: int | None = None
        self._is_interrupted = False
        self._began = 0.0

    # ---- as the function's context -------------------------------------------------------------------------------

    def facts(self) -> CurrentCall:
        return facts_of(self._submit, self.node_id, self.deadline)

    def output(self, is_stderr: bool, text: str) -> None:
        if self._wants_output:
            self._buffer.write(is_stderr, text)

    def flush_due(self) -> None:
        """Called by the loop, which must not wait for credits: only what needs no waiting is sent."""
        if self.credits.has_some:
            self._buffer.flush_due(self._send_unpaid)
            with self._bound_lock:
                self._post_outputs(self._bound.due(), self.credits.overdraw)
            self.bars.due(self._post_bars_unpaid)

    def flush(self) -> None:
        """Send what was printed so far."""
        if not self._buffer.is_empty:
            self._buffer.flush()

    def display(self, message: dict[str, Any]) -> None:
        bundle = message.pop("bundle")
        encoded = codec.Encoded(codec.JSON, [json.dumps(bundle, default=str).encode()])
        self._post(pb.Event(display=pb.Display(**message)), "display", encoded)

    def item(self, value: Any) -> None:
        item = codec.encode_item(value, self._accept)
        if not self._buffer.is_empty:
            self._buffer.flush()
        self.credits.take(cost_of_item(item))
        self._item(item)

    async def item_async(self, value: Any) -> None:
        item = codec.encode_item(value, self._accept)
        self._buffer.flush()
        await self.credits.take_async(cost_of_item(item))
        self._item(item)

    def _item(self, item: bytes | codec.Encoded) -> None:
        if isinstance(item, bytes):
            self._pack(item)
        else:  # written only now: nobody would remove the file of an item that is never sent
            self._post_event(pb.Event(), "item", self._detached(item))

    def failure(self, error: BaseException) -> None:
        self._post(pb.Event(failure=describe(error, self.node_id, accept=self._accept)))

    def result(self, value: Any, is_exhausted: bool = False) -> None:
        busy_s = time.perf_counter() - self._began if self._began else 0.0
        event = pb.Event(is_exhausted=is_exhausted, busy_s=busy_s)
        encoded = codec.encode_as(value, codec.kept_as(self._accept) if self._keep else self._accept)
        if self._keep:
            event.result.kept.type = type_text(value)
            encoded = encoded.detached()
        else:
            encoded = self._detached(encoded)
        self._flush_all()
        self._post_event(event, "result", encoded)

    def failed(self, error: BaseException) -> None:
        with contextlib.suppress(BaseException):  # the flush may be refused: the call is being cancelled
            self._flush_all()
        self._post_event(pb.Event(error=describe(error, self.node_id, self._retry_on, self._accept)), "error", None)

    def _send_output(self, is_stderr: bool, text: str) -> None:
        with self._bound_lock:
            outputs = self._bound.take(is_stderr, text)
        self._post_outputs(outputs, self.credits.take)

    def _send_unpaid(self, is_stderr: bool, text: str) -> None:
        """For the loop, which must not wait: at most one buffer's worth on credit."""
        with self._bound_lock:
            outputs = self._bound.take(is_stderr, text)
        self._post_outputs(outputs, self.credits.overdraw)

    def _post_bars_unpaid(self, progress: pb.Progress) -> None:
        if not self.is_async:
            self.credits.overdraw()
        self._post_event(pb.Event(progress=progress), "progress", None)

    def _post_outputs(self, outputs: list[pb.Output], pay: Callable[[], None]) -> None:
        for output in outputs:
            if not self.is_async:
                pay()
            self._post_event(pb.Event(output=output), "output", None)

    def _flush_all(self) -> None:
        self.bars.close()
        self._buffer.flush()
        with self._bound_lock:
            outputs = self._bound.rest()
        self._post_outputs(outputs, self.credits.take)

    def _detached(self, encoded: codec.Encoded) -> codec.Encoded | InFile:
        """A value as it is now: the function may change its arrays afterwards."""
        if self._shared is not None and encoded.is_large:
            with contextlib.suppress(OSError):  # there is no room
                name = self._shared.write(encoded.parts)
                return InFile(name, encoded.content_type, encoded.part_bytes, encoded.size)
        return encoded.detached()

    def _pack(self, data: bytes) -> None:
        pack = self.packer.add(data)
        if pack is not None:
            self._post_whole(pack, "items", None)

    def _post_event(self, event: pb.Event, field: str, encoded: codec.Encoded | InFile | None) -> None:
        self.packer.seal()
        self._post_whole(event, field, encoded)

    def _post(self, event: pb.Event, field: str = "", encoded: codec.Encoded | InFile | None = None) -> None:
        self._buffer.flush()
        if not self.is_async:
            self.credits.take()
        self._post_event(event, field, encoded)

    # ---- being interrupted ---------------------------------------------------------------------------------------

    def entered(self) -> bool:
        """The function's thread is about to run it. False when it needn't."""
        with self._lock:
            self._thread_id = threading.get_ident()
            self._began = time.perf_counter()
            return not self._is_interrupted

    def left(self) -> None:
        with self._lock:
            self._thread_id = None

    @property
    def is_interrupted(self) -> bool:
        return self._is_interrupted

    def interrupt(self) -> None:
        with self._lock:
            self._is_interrupted = True
            if self._thread_id is not None:
                interrupt(self._thread_id)
        self.credits.cancel()
        if self.future is not None:
            self.future.cancel()


def decode_and_run(function: Callable[..., Any], arguments: codec.Encoded, emitter: ThreadEmitter) -> None:
    """Run the call, or the tasks that the emitter has, in this thread."""
    try:
        if not emitter.entered():
            raise InterruptedError("cancelled before it began")
        args, kwargs = _decoded(function, arguments, emitter) if emitter.tasks is None else ((), {})
    except BaseException as error:
        emitter.left()
        emitter.failed(error)
        return
    try:
        if emitter.tasks is not None:
            run_tasks(function, emitter.tasks, emitter)
        else:
            run(function, args, kwargs, emitter)
    finally:
        emitter.left()


async def decode_and_run_async(function: Callable[..., Any], arguments: codec.Encoded, emitter: ThreadEmitter) -> None:
    try:
        args, kwargs = _decoded(function, arguments, emitter)
    except BaseException as error:
        emitter.failed(error)
        return
    await run_async(function, args, kwargs, emitter)


def _decoded(
    function: Callable[..., Any], arguments: codec.Encoded, emitter: ThreadEmitter
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    if not emitter.values:
        return codec.decode_arguments(arguments, emitter.may_unpickle, function)
    with resolving(emitter.values, lambda value: codec.decode(value, emitter.may_unpickle, function)):
        return codec.decode_arguments(arguments, emitter.may_unpickle, function)
