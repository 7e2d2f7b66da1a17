"""The cell that runs now, as a place where something can be shown later: from another thread, while other cells run."""

from __future__ import annotations

import contextlib
import contextvars
import sys
from collections.abc import Iterator
from typing import Any

from easyremote.presenting import running_ipython


class OwnCell:
    """Made while a cell runs. `with cell.here():` in another thread shows in that cell what the thread prints and displays.

    A front end puts what it is told into the cell whose request the message names as its parent. Which that is, kernels keep for
    all threads together, so what a thread shows lands in whichever cell runs (ipykernel#1370). Newer ones can be told for one
    thread; in older ones, ipykernel 6 among them, the streams have a variable for that, and displays a hook. Without a kernel, as
    in a terminal, everything is shown where it comes.
    """

    def __init__(self) -> None:
        self._shell = running_ipython()
        get = getattr(self._shell, "get_parent", None)
        self._parent: dict[str, Any] = (get() or {}) if get is not None else {}
        self.streams = sys.stdout, sys.stderr  # a later cell may have others for a time, e.g. by %%capture

    @property
    def request_id(self) -> str:
        """Of the request that runs this cell; empty without a kernel."""
        return self._parent.get("header", {}).get("msg_id", "")

    def is_this(self) -> bool:
        """Whether the cell that runs now is still this one."""
        return OwnCell().request_id == self.request_id

    @contextlib.contextmanager
    def here(self) -> Iterator[None]:
        """For the calling thread, which mustn't be the one that runs cells."""
        if not self._parent:
            yield
        elif hasattr(self._shell, "set_thread_parent"):
            tokens = self._shell.set_thread_parent(self._parent)
            try:
                yield
            finally:
                self._shell.reset_thread_parent(tokens)
        else:
            with contextlib.ExitStack() as until_then:
                self._redirect(until_then)
                yield

    def _redirect(self, until_then: contextlib.ExitStack) -> None:
        header = self._parent["header"]
        for stream in self.streams:
            of_thread = getattr(stream, "_parent_header", None)
            if isinstance(of_thread, contextvars.ContextVar):
                until_then.callback(of_thread.reset, of_thread.set(header))
        publisher = self._shell.display_pub
        publisher.register_hook(self._readdressed)  # of this thread alone
        until_then.callback(publisher.unregister_hook, self._readdressed)

    def _readdressed(self, message: dict[str, Any]) -> dict[str, Any]:
        return {**message, "parent_header": self._parent["header"]}

    def error(self, error: BaseException, lines: list[str]) -> None:
        """Show an error as the kernel shows that of a cell. `lines`: the traceback as it is shown."""
        kernel = getattr(self._shell, "kernel", None)
        if kernel is None:
            print("\n".join(lines), file=sys.stderr)
            return
        content = {"ename": type(error).__name__, "evalue": str(error), "traceback": lines}
        topic = getattr(self._shell.displayhook, "topic", None)
        kernel.session.send(kernel.iopub_socket, "error", content, parent=self._parent, ident=topic)
