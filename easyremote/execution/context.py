"""The call that runs here now, as the function sees it."""

from __future__ import annotations

from contextvars import ContextVar
from time import monotonic
from typing import Any, Protocol

from easyremote.execution.bars import Bars
from easyremote.model import CurrentCall
from easyremote.wire.v1 import gateway_pb2 as pb


class Emitter(Protocol):
    """Where a running call puts its events. Methods may block while the consumer is behind."""

    call_id: bytes
    node_id: str
    deadline: float | None  # when its time is over, by time.monotonic here

    def facts(self) -> CurrentCall:
        """What the function may know of its call."""
        ...

    def output(self, is_stderr: bool, text: str) -> None: ...
    def display(self, message: dict[str, Any]) -> None:
        """`message` has the fields of `pb.Display`; its bundle is the dict {"data": ..., "metadata": ...}."""
        ...

    @property
    def bars(self) -> Bars:
        """Those that it shows."""
        ...

    def item(self, value: Any) -> None: ...
    async def item_async(self, value: Any) -> None: ...
    def result(self, value: Any, is_exhausted: bool = False) -> None: ...
    def failed(self, error: BaseException) -> None: ...


current: ContextVar[Emitter | None] = ContextVar("easyremote_current_call", default=None)

_of_process: Emitter | None = None


def running() -> Emitter | None:
    """The call that runs here. In a worker, which runs one at a time, threads that its function started belong to it too."""
    return current.get() or _of_process


def run_in_process(emitter: Emitter | None) -> None:
    """From now on this whole process works for that call."""
    global _of_process
    _of_process = emitter


def deadline_of(submit: pb.Submit) -> float | None:
    """When the time of a call that begins now is over, on the monotonic clock."""
    options = submit.options
    spans = [span for span in (options.timeout_s, options.run_timeout_s) if span > 0]
    return monotonic() + min(spans) if spans else None


def facts_of(submit: pb.Submit, node_id: str, deadline: float | None) -> CurrentCall:
    """What a function may know of its call."""
    return CurrentCall(
        call_id=submit.call_id.hex(),
        node_id=node_id,
        attempt=submit.attempt or 1,
        gpus=tuple(submit.grant.gpus),
        deadline=deadline,
    )


def left_s(deadline: float) -> float:
    """Seconds until then; never 0, which would mean that there is none."""
    return max(deadline - monotonic(), 0.001)


class CallInterrupted(BaseException):
    """Raised inside a function whose call was cancelled. Not an Exception, so that `except Exception` lets it pass."""
