"""The call that runs here now, as the function sees it."""

from __future__ import annotations

from contextvars import ContextVar
from typing import Any, Protocol


class Emitter(Protocol):
    """Where a running call puts its events. Methods may block while the consumer is behind."""

    call_id: bytes
    node_id: str

    def output(self, is_stderr: bool, text: str) -> None: ...
    def display(self, message: dict[str, Any]) -> None:
        """`message` has the fields of `pb.Display`; its bundle is the dict {"data": ..., "metadata": ...}."""
        ...

    def progress(self, done: float, total: float, text: str) -> None: ...
    def item(self, value: Any) -> None: ...
    async def item_async(self, value: Any) -> None: ...
    def result(self, value: Any, is_exhausted: bool = False) -> None: ...
    def failed(self, error: BaseException) -> None: ...


current: ContextVar[Emitter | None] = ContextVar("easyremote_current_call", default=None)


class CallInterrupted(BaseException):
    """Raised inside a function whose call was cancelled. Not an Exception, so that `except Exception` lets it pass."""
