"""`Call`: one run of a function, as a future, an awaitable and an iterator."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import functools
import os
import threading
import time
from collections import deque
from collections.abc import AsyncIterator, Callable, Generator, Iterator
from typing import Any, ClassVar, Generic, Protocol, TypeVar

from easyremote import answering, foreign, interrupts
from easyremote.core.transitions import UNREPEATABLE
from easyremote.errors import CallCancelled, DeadlineExceeded, PayloadError, UsageError
from easyremote.execution.failure import rebuild
from easyremote.execution.missing_modules import advised, with_advice
from easyremote.presenting import DefaultPresenter, Presenter, present, tell_waiting
from easyremote.retrying import tell_of_attempts
from easyremote.transport.loop import shared_loop
from easyremote.waiting import NOTE_AFTER_S, WaitingNote
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb

R = TypeVar("R")

_KEPT = {"output": 1024 * 1024, "display": 16 * 1024 * 1024}
"""Characters of output and bytes of displays that a call keeps while nobody looks; the oldest go first, and it says so."""

_TAIL = 4000
"""Characters at the end of a call's output that it remembers, shown or not."""

_KEPT_FOR_EACH = 100
"""What an event counts beyond what it carries."""

BESIDE_EVERY_S = 0.2
"""Bars of other calls of a map move so often while one is waited for."""

_TAKE_ITEMS = 32
_TAKE_BYTES = 256 * 1024

_STREAMS = (pb.FUNCTION_KIND_GENERATOR, pb.FUNCTION_KIND_ASYNC_GENERATOR)


class Asked(Protocol):
    """What a call was sent through."""

    def reply(self, call: Call[Any], event: pb.Event, text: str, refusal: str) -> None:
        """Answer what it has asked with this event, or say why nobody does."""
        ...

    def examine(self, call: Call[Any], error: BaseException) -> None:
        """Let the error of a call that has failed be looked at where it was raised."""
        ...


class _Arrived:
    """An event with its payload's bytes here."""

    __slots__ = ("encoded", "event", "note", "size")

    def __init__(self, event: pb.Event, encoded: codec.Encoded | None, note: WaitingNote | None = None) -> None:
        self.event = event
        self.encoded = encoded
        self.note = note  # of this side's own
        if encoded is not None:
            self.size = encoded.size
        elif event.HasField("items"):
            self.size = sum(map(len, event.items.data))
        else:
            self.size = len(event.output.text)

    @property
    def is_item(self) -> bool:
        """Whether it is for whoever takes the call's values, not for the presenter."""
        return self.event.WhichOneof("body") in UNREPEATABLE


_Opened = tuple[_Arrived, Iterator[Any]]
"""An event, and those of its values that nobody has taken yet."""

_TAKES_PLAIN = (
    "This client takes plain data alone from nodes that it doesn't trust; Client(results='pickle') loads whatever the nodes of "
    "this gateway send, so whoever runs one of them can run code here"
)

_plain = DefaultPresenter()


class Call(concurrent.futures.Future[R], Generic[R]):
    """One run of a function.

    A future: `result(timeout)`, `exception()`, `done()`, `cancel()`, and it works with `concurrent.futures.wait` and
    `as_completed`. An awaitable: `await call`. An iterator, plain and async: each item as it is produced; leaving the loop early
    stops the function. What the function prints is shown by whoever waits for it.

    The result of a generator function is the list of its items. A stream's producer waits while nobody takes its items.

    Attributes: `call_id` (32 hex digits), `function` (its name), `node` (where it runs, once known), `function_version` (of the
    code that runs there, once known), `attempt`, `state` ("queued", "running", "succeeded", "failed" or "cancelled"),
    `started_at` (when this client heard that it had begun, on the clock of `time.monotonic()`; 0: not yet), `run_s` (how long it
    ran, once it ended), `last_output` (the end of what it printed, at most 4,000 characters).
    """

    # A burst makes thousands of calls, and the garbage collector walks through all that they hold. So a call begins with nothing
    # but these defaults, and gets what else it needs when it needs it. That goes for what `concurrent.futures.Future` keeps too,
    # whose own constructor makes a lock, a condition and two lists; its `wait` and `as_completed` find them when they look.
    _lock: ClassVar[threading.RLock] = threading.RLock()
    """Of all calls: each holds it for a moment only. Entered as it is: an interrupt inside Condition.__enter__ would leave it
    locked."""

    _forks: ClassVar[int] = 0
    """How often this process was forked from one that has calls."""

    _condition: Any = functools.cached_property(lambda self: threading.Condition(self._lock))
    _waiters: Any = functools.cached_property(lambda self: [])
    _done_callbacks = functools.cached_property[list[Any]](lambda self: [])
    _state = "RUNNING"
    _result = None
    _exception = None

    node = ""
    function_version = ""
    attempt = 0
    run_s = 0.0
    started_at = 0.0
    _kind: int = pb.FUNCTION_KIND_UNSPECIFIED
    _items_queued = 0
    _queued_progress: _Arrived | None = None
    _queued_tail: _Arrived | None = None
    last_output = ""
    _kept: dict[str, int] | None = None
    _dropped: dict[str, int] | None = None
    _outcome: _Arrived | bytes | pb.ErrorInfo | BaseException | None = None
    _on_returned: Callable[[int], None] | None = None  # tasks from this number on came back
    _is_stream = False
    _kept_result: Any = None  # a ref of it, where it stays on its node
    _may_unpickle = True  # what nodes send for it; see `connection.Results`
    _queue: deque[_Arrived] | None = None
    _wakers: tuple[Callable[[], Any], ...] = ()
    _collected: list[Any] | None = None
    _open: _Opened | None = None  # the event whose values are being taken
    _resolved: tuple[Any, BaseException | None] | None = None
    _untold = (0, 0, 0)  # attempt, seq, bytes taken and not reported yet
    _untold_items = 0
    _final: tuple[int, int] | None = None  # attempt and number of the last event
    _final_taken = False
    _bundle: Any = None  # the bundle that it travels in, and its number there
    _time: Any = None  # learns from its end how long calls of its function take
    _tasks = 0  # it runs the function so many times and streams the results; 0: it is a call like others
    _losses = 0  # bundles that were lost with it
    _race: Any = None  # its copies, where it is hedged
    _sent_by: Asked | None = None  # takes replies; None: it is asked nothing
    may_ask = True  # whoever waits for it
    _question: pb.Event | None = None  # what it has asked, and nobody was asked yet
    _is_awaited = False  # somebody waits for it, or takes its items
    _explain: Callable[[Call[Any]], None] | None = None  # finds out why no node has it; None: nobody is to be told
    _parent_id = b""  # the call that runs here and made this one
    _beside: Callable[[], list[Call[Any]]] | None = None  # others that whoever waits for this one waits for as well
    _beside_at: float | None = None
    _note_at: float | None = None  # when whoever waits is to be told

    def __init__(
        self,
        call_id: bytes,
        function: str,
        cancel: Callable[..., None],
        taken: Callable[[Call[Any], int, int, int, int], None],
        presenter: Callable[[], Presenter] | None = None,
        deadline: float | None = None,
        explain: Callable[[Call[Any]], None] | None = None,
        parent_id: bytes = b"",
        may_unpickle: bool = True,
    ) -> None:
        self._id = call_id
        self.function = function
        self._cancel_remote = cancel
        self._report_taken = taken
        self._presenter = presenter() if presenter is not None else _plain
        self._deadline = deadline
        self._made_after = Call._forks
        if explain is not None:
            self._explain = explain
        if parent_id:
            self._parent_id = parent_id
        if not may_unpickle:
            self._may_unpickle = False

    @classmethod
    def forked(cls) -> None:
        """This process is the child of a fork: its calls are its parent's, and another thread may have held the lock."""
        cls._forks += 1
        cls._lock = threading.RLock()

    # ---- what a person sees --------------------------------------------------------------------------------------

    @property
    def call_id(self) -> str:
        return self._id.hex()

    @property
    def state(self) -> str:
        if self.cancelled():
            return "cancelled"
        if self._outcome is not None:
            return "succeeded" if isinstance(self._outcome, (_Arrived, bytes)) else "failed"
        return "running" if self.node else "queued"

    def running(self) -> bool:
        """Whether a node is known to be at it."""
        return self.state == "running"

    @property
    def is_stream(self) -> bool:
        """Whether it yields items one by one, which is known once it runs."""
        return self._is_stream or self._kind in _STREAMS

    def __repr__(self) -> str:
        where = f" on {foreign.name(self.node)}" if self.node else ""
        return f"<Call {foreign.name(self.function)}: {self.state}{where}>"

    # ---- as a future ---------------------------------------------------------------------------------------------

    def result(self, timeout: float | None = None) -> R:
        """Wait for the value and return it. Raises what the function raised; TimeoutError after `timeout` seconds, while the
        call goes on; DeadlineExceeded when the call's own timeout ran out; CallCancelled when it was cancelled.

        A KeyboardInterrupt while waiting cancels the call.
        """
        if self._outcome is None or self._queue or self._open or self._final is not None:
            self._wait_for_end(timeout)
        value, error = self._resolve()
        if error is not None:
            raise error
        return value

    def exception(self, timeout: float | None = None) -> BaseException | None:
        """Wait for the end and return what the function raised, or None."""
        self._wait_for_end(timeout)
        return self._resolve()[1]

    def cancel(self, reason: str = "the client cancelled it") -> bool:
        """Stop the call, wherever it is. False when it had ended already."""
        return self._settle(CallCancelled(f"'{self.function}' was cancelled: {reason}"), reason)

    def _settle(self, error: BaseException, reason: str) -> bool:
        """End it from this side."""
        with self._lock:
            ended = self._outcome is not None
            if ended:
                self._queue = None
                self._items_queued = 0
            else:
                self._outcome = error
        if ended:
            self._tell_taken()
            return False
        self._cancel_remote(self, reason)
        self._finish()
        return True

    def done(self) -> bool:
        """Whether it has ended, in whatever way."""
        return self._state == "FINISHED"

    def cancelled(self) -> bool:
        outcome = self._outcome
        return isinstance(outcome, CallCancelled) or (
            isinstance(outcome, pb.ErrorInfo) and outcome.code == CallCancelled.code
        )

    # ---- as an awaitable -----------------------------------------------------------------------------------------

    def __await__(self) -> Generator[Any, None, R]:
        return self._await_end().__await__()

    async def _await_end(self) -> R:
        try:
            async for _ in self._events_async(collect=True):
                pass
        except asyncio.CancelledError as cancelled:
            self._left("the task that awaited it was cancelled")
            self._explain_cancelled(cancelled)
            raise
        value, error = self._resolve()
        if error is not None:
            raise error
        return value

    # ---- as an iterator ------------------------------------------------------------------------------------------

    def __iter__(self) -> Iterator[Any]:
        """Each item as it arrives; of a plain function its one result."""
        return interrupts.loops.began(self._items())

    def _items(self) -> Generator[Any, None, None]:
        self._is_awaited = True
        try:
            while (opened := self._opened(None)) is not None:
                yield from opened[1]
                self._used_up(opened)
            yield from self._last()
        except GeneratorExit:
            self._left("its consumer left the loop")
            raise
        except KeyboardInterrupt as interrupt:
            self._interrupted(interrupt)
            raise

    async def __aiter__(self) -> AsyncIterator[Any]:
        try:
            async for opened in self._events_async(collect=False):
                for value in opened[1]:
                    yield value
                self._used_up(opened)
            for value in self._last():
                yield value
        except (GeneratorExit, asyncio.CancelledError) as error:
            self._left("its consumer left the loop")
            self._explain_cancelled(error)
            raise

    def _last(self) -> list[Any]:
        """What comes after the items: an error, nothing, or the one value of a plain function."""
        if self._is_stream:
            error = self._resolve()[1]
            values = []
        else:
            value, error = self._resolve()
            values = [value]
        if error is not None:
            raise error
        return values

    # ---- waiting -------------------------------------------------------------------------------------------------

    def _wait_for_end(self, timeout: float | None) -> None:
        self._check_process()
        self._is_awaited = True
        until = None if timeout is None else time.monotonic() + timeout
        try:
            while (opened := self._opened(until)) is not None:
                self._collect(opened)
        except KeyboardInterrupt as interrupt:
            self._interrupted(interrupt)
            raise

    def _opened(self, until: float | None) -> _Opened | None:
        """The event whose values are taken now, or else the next one; None at the end.

        An iterator that stopped within one has left the others to whoever comes next.
        """
        if self._open is None:
            arrived = self._next(until)
            if arrived is None:
                return None
            self._open = arrived, self._values(arrived)
        return self._open

    def _used_up(self, opened: _Opened) -> None:
        if self._open is opened:
            self._open = None
            self._consumed(opened[0])

    def _collect(self, opened: _Opened) -> None:
        if self._collected is None:
            self._collected = []
        self._collected.extend(opened[1])
        self._used_up(opened)

    def _left(self, reason: str) -> None:
        """Whoever waited doesn't any more."""
        self.cancel(reason)

    def _interrupted(self, interrupt: KeyboardInterrupt) -> None:
        """Stop the call; a notebook shows that it did, instead of where this process was waiting."""
        where = f" on node {self.node}" if self.node else ""
        interrupts.again()
        if self.cancel("interrupted"):
            interrupts.stopped(lambda: self._cancel_remote(self, "interrupted twice", True))
        interrupt._render_traceback_ = lambda: [f"KeyboardInterrupt: '{self.function}'{where} was stopped"]  # type: ignore[attr-defined]

    def _explain_cancelled(self, error: BaseException) -> None:
        """A notebook whose stop button ended an `await` shows what became of the call, and not where it was awaited."""
        became = "was stopped" if self._outcome is not None else "goes on"
        text = f"{type(error).__name__}: '{self.function}' {became}"
        error._render_traceback_ = lambda: [text]  # type: ignore[attr-defined]

    def _next(self, until: float | None) -> _Arrived | None:
        """The next event with values, which its taker says to be `_consumed`; None at the end. Others are presented."""
        while True:
            with self._lock:
                while not self._queue and self._outcome is None:
                    self._wait(until)
                arrived = self._pop()
            if arrived is None:
                self._tell_taken()
                return None
            if arrived.is_item:
                return arrived
            self._consumed(arrived)
            self._present(arrived)

    def _wait(self, until: float | None) -> None:
        if shared_loop.is_here:
            raise UsageError(
                f"waiting for '{self.function}' here would wait for itself: done-callbacks run on EasyRemote's own loop. Wait in "
                "another thread, or await the call in your own loop"
            )
        note_at = self._when_to_note()
        beside_at = self._when_to_look_beside()
        limit = min((t for t in (until, self._deadline, note_at, beside_at) if t is not None), default=None)
        if limit is None:
            self._condition.wait()
            return
        left = limit - time.monotonic()
        if left > 0:
            self._condition.wait(min(left, threading.TIMEOUT_MAX))
        elif limit == beside_at:
            self._condition.release()
            try:
                self._look_beside()
            finally:
                self._condition.acquire()
        elif limit == note_at:
            self._ask_why()
        elif limit == until:
            raise TimeoutError(f"'{self.function}' hasn't ended yet; it goes on (cancel() stops it)")
        else:
            self._condition.release()
            try:
                self._out_of_time()
            finally:
                self._condition.acquire()

    def _when_to_note(self) -> float | None:
        """When whoever waits has waited long enough to be told why."""
        if self._explain is None or self.node:
            return None
        if self._note_at is None:
            self._note_at = time.monotonic() + NOTE_AFTER_S
        return self._note_at

    def _when_to_look_beside(self) -> float | None:
        if self._beside is None:
            return None
        if self._beside_at is None:
            self._beside_at = time.monotonic() + BESIDE_EVERY_S
        return self._beside_at

    def _look_beside(self) -> None:
        """Show how far others are that are waited for after this one."""
        self._beside_at = None
        for call in self._beside() if self._beside is not None else ():
            call.show_progress()

    def show_progress(self) -> None:
        """Show the newest progress that has come and nobody has seen, ahead of what came before it. Takes no time."""
        with self._lock:
            arrived, self._queued_progress = self._queued_progress, None
            if arrived is None or self._queue is None:
                return
            self._queue.remove(arrived)
        self._consumed(arrived)
        self._present(arrived)

    def _ask_why(self) -> None:
        explain, self._explain = self._explain, None
        if explain is not None:
            explain(self)

    def _out_of_time(self) -> None:
        where = f" on node '{self.node}'" if self.node else "; it was still waiting for a node"
        late = DeadlineExceeded(f"'{self.function}' took longer than its timeout{where}", which="total")
        self._settle(late, "its timeout ran out")

    async def _events_async(self, collect: bool) -> AsyncIterator[_Opened]:
        self._check_process()
        self._is_awaited = True
        loop = asyncio.get_running_loop()
        while True:
            woken: asyncio.Future[None] = loop.create_future()
            with self._lock:
                arrived = self._pop() if self._open is None else self._open[0]
                if arrived is None and self._outcome is None:
                    self._wakers += ((lambda woken=woken: loop.call_soon_threadsafe(_wake, woken)),)
            if arrived is not None:
                if not arrived.is_item:
                    self._consumed(arrived)
                    self._present(arrived)
                    continue
                self._open = self._open or (arrived, self._values(arrived))
                if collect:
                    self._collect(self._open)
                else:
                    yield self._open
            elif self._outcome is not None:
                self._tell_taken()
                return
            else:
                note_at = self._when_to_note()
                limit = min((t for t in (self._deadline, note_at) if t is not None), default=None)
                try:
                    await asyncio.wait_for(woken, None if limit is None else limit - time.monotonic())
                except TimeoutError:
                    if limit == note_at:
                        self._ask_why()
                    else:
                        self._out_of_time()

    # ---- events come in (on the background loop) -----------------------------------------------------------------

    def _arrive(self, event: pb.Event, encoded: codec.Encoded | None) -> bool:
        """Take an event. True when it counts as taken at once, because nothing before it waits to be consumed."""
        arrived = _Arrived(event, encoded)
        body = event.WhichOneof("body")
        with self._lock:
            if self._outcome is not None:
                return True
            self._note_start(event)
            is_item = body in UNREPEATABLE
            at_once = not self._items_queued and not is_item
            is_tail = False
            if body == "output":
                is_tail = at_once and event.output.HasField("tail")
                self.last_output = (self.last_output + event.output.text)[-_TAIL:]
            if body in ("result", "error"):
                self._final, self._final_taken = (event.attempt, event.seq), at_once or bool(self._tasks)
            if body == "result":
                self.run_s = event.run_s
                self._is_stream = event.is_exhausted
                self._outcome = arrived
            elif body == "error":
                self.run_s = event.run_s
                self._is_stream = self._kind in _STREAMS
                self._outcome = event.error
            elif body == "progress" and at_once and self._queued_progress is not None:
                self._queued_progress.event.progress.CopyFrom(event.progress)  # a bar shows the newest
            elif is_tail and self._queued_tail is not None:
                self._queued_tail.event.output.CopyFrom(event.output)  # so do the last lines of what is left out
            elif body is not None:
                self._enqueue(arrived)
                self._items_queued += is_item
                if body == "progress" and at_once:
                    self._queued_progress = arrived
                if is_tail:
                    self._queued_tail = arrived
                if body in _KEPT:
                    self._bound(body, arrived)
                elif body == "asked":
                    self._question = event
            if self._tasks:
                event.seq = (
                    0  # it counts as taken: unread it would hold its node's slot, and its map bounds what may wait here
                )
        if body == "returned" and self._on_returned is not None:
            self._on_returned(event.returned.first)
        if self._outcome is not None:
            self._finish()
        else:
            self._notify()
        return at_once or bool(self._tasks)

    def _note_start(self, event: pb.Event) -> None:
        if event.HasField("started"):
            after = event.started.after
            if after or (self.attempt and event.attempt > self.attempt):
                text = f"'{self.function}' runs again on '{event.started.node_id}'\n"
                if after:
                    where = f" on node '{self.node}'" if self.attempt == event.attempt - 1 else ""
                    text = f"easyremote: attempt {event.attempt - 1}{where} failed ({after}); {text}"
                else:
                    text = f"easyremote: node '{self.node}' was lost; {text}"
                again = pb.Event(output=pb.Output(is_stderr=True, text=text))
                told = _Arrived(again, None)
                self._enqueue(told)
                self._bound("output", told)
            self.node = event.started.node_id
            self.function_version = event.started.version
            self.started_at = time.monotonic()
            self._kind = event.started.kind
        self.attempt = max(self.attempt, event.attempt)

    def _noted(self, note: WaitingNote) -> None:
        """Why it waits, unless it has begun meanwhile. Whoever waits for it shows it."""
        with self._lock:
            if self._outcome is not None or self.node:
                return
            self._enqueue(_Arrived(pb.Event(), None, note))
        self._notify()

    def _enqueue(self, arrived: _Arrived) -> None:
        if self._queue is None:
            self._queue = deque()
        self._queue.append(arrived)

    def _bound(self, body: str, newest: _Arrived) -> None:
        """What nobody looks at is cut at the front."""
        if self._kept is None or self._dropped is None:
            self._kept, self._dropped = dict.fromkeys(_KEPT, 0), dict.fromkeys(_KEPT, 0)
        self._kept[body] += newest.size + _KEPT_FOR_EACH
        if self._kept[body] <= _KEPT[body]:
            return
        queue: deque[_Arrived] = deque()
        for old in self._queue or ():
            is_old = old is not self._queued_tail and old.event.WhichOneof("body") == body
            if is_old and self._kept[body] > _KEPT[body] // 2:
                self._kept[body] -= old.size + _KEPT_FOR_EACH
                self._dropped[body] += old.size if body == "output" else 1
            else:
                queue.append(old)
        self._queue = queue

    def _complete(self, outcome: bytes | codec.Encoded | pb.ErrorInfo, node: str, attempt: int) -> None:
        """Its bundle has its result, as a small pickle or a payload, or its error."""
        with self._lock:
            if self._outcome is not None:
                return
            self.node, self.attempt = node, attempt
            self._outcome = _Arrived(pb.Event(), outcome) if isinstance(outcome, codec.Encoded) else outcome
        self._finish()

    def _judged(self, error: pb.ErrorInfo | BaseException) -> None:
        """It ended without the node's word."""
        with self._lock:
            if self._outcome is not None:
                return
            self._outcome = error
        self._finish()

    def _finish(self) -> None:
        """Be a future that is done; what it has become is told by `result`."""
        with self._lock:
            was_done, self._state = self._state == "FINISHED", "FINISHED"
            for waiter in self.__dict__.get("_waiters", ()):
                waiter.add_result(self)
        if not was_done and "_done_callbacks" in self.__dict__:
            self._invoke_callbacks()  # pyright: ignore[reportUnknownMemberType, reportAttributeAccessIssue] - its stubs lack it
        self._notify()

    def _notify(self) -> None:
        with self._lock:
            if "_condition" in self.__dict__:
                self._condition.notify_all()
            wakers, self._wakers = self._wakers, ()
        for wake in wakers:
            with contextlib.suppress(RuntimeError):  # its loop was closed with the awaiting task in it
                wake()

    def _pop(self) -> _Arrived | None:
        """The next event, taken out of the queue; the caller holds the lock."""
        arrived = self._queue.popleft() if self._queue else None
        if arrived is self._queued_progress:
            self._queued_progress = None
        elif arrived is self._queued_tail:
            self._queued_tail = None
        return arrived

    # ---- consuming -----------------------------------------------------------------------------------------------

    def _consumed(self, arrived: _Arrived) -> None:
        event = arrived.event
        body = event.WhichOneof("body")
        if body in UNREPEATABLE:
            with self._lock:
                self._items_queued -= 1
        elif body in _KEPT and self._kept is not None:
            with self._lock:
                self._kept[str(body)] -= arrived.size + _KEPT_FOR_EACH
        if not event.seq:
            return
        attempt, _, size = self._untold
        self._untold = (event.attempt, event.seq, (size if attempt == event.attempt else 0) + arrived.size)
        self._untold_items += len(event.items.data) or 1
        if self._untold_items >= _TAKE_ITEMS or self._untold[2] >= _TAKE_BYTES:
            self._tell_taken()

    def _tell_taken(self) -> None:
        attempt, seq, size = self._untold
        items = self._untold_items
        self._untold, self._untold_items = (0, 0, 0), 0
        if self._final is not None and not self._queue:
            attempt, seq = self._final
        if seq and not self._final_taken:
            self._report_taken(self, attempt, seq, size, items)

    def _present(self, arrived: _Arrived) -> None:
        event = arrived.event
        presenter = self._presenter
        if self._dropped is not None and any(self._dropped.values()):
            dropped, self._dropped = self._dropped, dict.fromkeys(_KEPT, 0)
            texts = [f"{dropped['output']:,} characters of output"] if dropped["output"] else []
            texts += [f"{dropped['display']:,} displays"] if dropped["display"] else []
            presenter.output(True, f"easyremote: {' and '.join(texts)} from before were left out\n")
        if presenter is _plain and event.progress.bars:
            presenter = self._presenter = DefaultPresenter()  # whose bars these are
        if arrived.note is not None:
            tell_waiting(presenter, arrived.note)
        if event.HasField("asked"):
            self._answer(event)
            return
        data = bytes(arrived.encoded.parts[0]) if arrived.encoded is not None else b""
        present(presenter, event, data, self._may_unpickle, self.node)

    def _answer(self, event: pb.Event) -> None:
        """Ask whoever waits here."""
        with self._lock:
            question, self._question = self._question, None
        if question is not event or self._sent_by is None or self._outcome is not None:
            return  # it was answered for want of somebody who waits, or the attempt that asked is over
        try:
            self._sent_by.reply(
                self, event, answering.answer(self._presenter, event.asked, self._may_unpickle, self.node), ""
            )
        except answering.Unanswered as unanswered:
            self._sent_by.reply(self, event, "", str(unanswered))

    def _unattended(self) -> None:
        """A while has passed since it has asked. Where nobody waits for it, nobody will answer."""
        with self._lock:
            if self._question is None or self._is_awaited:
                return
            question, self._question = self._question, None
        if self._sent_by is not None:
            self._sent_by.reply(self, question, "", answering.UNATTENDED)

    def _values(self, arrived: _Arrived) -> Iterator[Any]:
        """The values of an event that has some."""
        if arrived.event.HasField("items"):
            content_type = arrived.event.items.content_type
            for data in arrived.event.items.data:
                try:
                    value = codec.decode(codec.Encoded(content_type, [data], len(data)), self._may_unpickle)
                except Exception as error:
                    raise self._unloadable(error) from error
                yield value
        elif arrived.event.HasField("failure"):
            raise self._rebuilt(arrived.event.failure)
        elif arrived.encoded is not None:
            yield self._decode(arrived)

    def _rebuilt(self, info: pb.ErrorInfo) -> BaseException:
        told = with_advice(info)
        error = rebuild(told, self.attempt, self._may_unpickle)
        return error if told is info else advised(error, told)

    def _decode(self, arrived: _Arrived) -> Any:
        assert arrived.encoded is not None
        try:
            return codec.decode(arrived.encoded, self._may_unpickle)
        except Exception as error:
            raise self._unloadable(error) from error

    def _unloadable(self, error: Exception) -> PayloadError:
        what = f"what '{self.function}' returned on node '{foreign.name(self.node)}' can't be loaded here"
        if not self._may_unpickle and isinstance(error, PayloadError):
            return PayloadError(f"{what}: {foreign.text(str(error))}. {_TAKES_PLAIN}")
        return PayloadError(f"{what}: {type(error).__name__}: {error}")

    def _resolve(self) -> tuple[Any, BaseException | None]:
        """The outcome as a value or an exception, decoded once, in the thread that wants it."""
        if self._resolved is None:
            outcome = self._outcome
            if isinstance(outcome, BaseException):
                self._resolved = None, outcome
            elif isinstance(outcome, bytes):
                try:
                    pickled = codec.Encoded(codec.PICKLE, [outcome], len(outcome))
                    self._resolved = codec.decode(pickled, self._may_unpickle), None
                except Exception as error:
                    self._resolved = None, self._unloadable(error)
            elif isinstance(outcome, pb.ErrorInfo):
                error = self._rebuilt(outcome)
                tell_of_attempts(error, outcome, self.attempt)
                if self._sent_by is not None and outcome.traceback:
                    self._sent_by.examine(self, error)
                self._resolved = None, error
            elif self._kept_result is not None:
                self._resolved = self._kept_result, None
            elif self._is_stream:
                self._resolved = self._collected or [], None
            else:
                assert outcome is not None
                try:
                    self._resolved = self._decode(outcome), None
                except PayloadError as error:
                    self._resolved = None, error
        return self._resolved

    def _check_process(self) -> None:
        if self._made_after != Call._forks:
            raise UsageError(
                "this call was made before the process was forked; wait for it in the process that made it"
            )


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=Call.forked)


def _wake(woken: asyncio.Future[None]) -> None:
    if not woken.done():
        woken.set_result(None)
