"""The journal's thread: the only one that touches SQLite. Whatever is asked while it commits goes into the next commit together.

An answer is given when the transaction that it is part of is on disk. One that fails for the disk's sake fails all that is in it;
nothing of it has happened then.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sqlite3
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from easyremote.config import JobSettings
from easyremote.errors import EasyRemoteError, JobsUnavailable
from easyremote.store.files import PayloadFiles
from easyremote.store.jobs import JobStore
from easyremote.store.opening import is_damage, open_journal

T = TypeVar("T")

MAX_TOGETHER = 1000
"""Requests in one transaction."""

_FREED_PAGES = 256
"""Free pages in the file from which on they are given back to the file system."""

_Request = tuple[Callable[[JobStore], Any], "asyncio.Future[Any]"]


class Journal:
    """One journal, open from `open` to `close`. Made and used on the loop."""

    def __init__(self, path: Path, settings: JobSettings) -> None:
        self.path = path
        self.files = PayloadFiles(path.with_name(f"{path.name}.files"))
        self.notes: list[str] = []
        self._settings = settings
        self._loop = asyncio.get_running_loop()
        self._requests: list[_Request] = []
        self._changed = threading.Condition()
        self._is_closing = False
        self._place = 0, 0  # device and number of the file that is open
        self._opened: asyncio.Future[None] = self._loop.create_future()
        self._thread = threading.Thread(target=self._run, name="easyremote-journal", daemon=True)

    async def open(self) -> None:
        """Raises JobsUnavailable, which says what to do."""
        self._thread.start()
        await asyncio.shield(self._opened)

    async def do(self, work: Callable[[JobStore], T]) -> T:
        """The result of `work`, once it is on disk. Raises what `work` raises; JobsUnavailable when it can't be written."""
        answer: asyncio.Future[T] = self._loop.create_future()
        with self._changed:
            if self._is_closing:
                raise JobsUnavailable("the gateway is stopping")
            self._requests.append((work, answer))
            self._changed.notify()
        return await answer

    def check_there(self) -> None:
        """Raises JobsUnavailable when the file is no longer where the next process would look for it. For `work`."""
        try:
            found = self.path.stat()
        except FileNotFoundError:
            found = None
        if found is None or (found.st_dev, found.st_ino) != self._place:
            raise JobsUnavailable(
                f"the gateway's journal {self.path} was removed or replaced while it was in use, so no more jobs are taken; "
                "restart the gateway, which makes a new one. What it has can be read until then"
            )

    async def close(self) -> None:
        """After what was asked before."""
        with self._changed:
            self._is_closing = True
            self._changed.notify()
        if self._thread.ident is not None:
            await self._loop.run_in_executor(None, self._thread.join)

    # ---- in the thread -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        try:
            opened = open_journal(self.path)
        except BaseException as error:
            self._post(_fail, self._opened, error)
            return
        conn = opened.conn
        try:
            self.notes += opened.notes
            place = self.path.stat()
            self._place = place.st_dev, place.st_ino
            store = JobStore(conn, self._settings)
            aside = opened.aside
            self.files.sweep(store.file_names(), aside and aside.with_name(f"{aside.name}.files"))
        except BaseException as error:
            conn.close()
            os.close(opened.lock)
            self._post(_fail, self._opened, _explain(error, self.path))
            return
        self._post(_settle, [(self._opened, None, None)])
        try:
            while (requests := self._wait()) is not None:
                self._work_off(conn, store, requests)
        finally:
            with contextlib.suppress(sqlite3.Error):
                conn.close()
            os.close(opened.lock)

    def _wait(self) -> list[_Request] | None:
        with self._changed:
            while not self._requests and not self._is_closing:
                self._changed.wait()
            if not self._requests:
                return None
            requests, self._requests = self._requests[:MAX_TOGETHER], self._requests[MAX_TOGETHER:]
            return requests

    def _work_off(self, conn: sqlite3.Connection, store: JobStore, requests: list[_Request]) -> None:
        """All in one transaction; where that fails each in its own, so that a single one can't fail the others."""
        try:
            results = self._transact(conn, store, requests)
        except Exception as error:
            if len(requests) == 1:
                results = [(requests[0][1], None, _explain(error, self.path))]
            else:
                for request in requests:
                    self._work_off(conn, store, [request])
                return
        self._post(_settle, results)

    def _transact(
        self, conn: sqlite3.Connection, store: JobStore, requests: list[_Request]
    ) -> list[tuple[asyncio.Future[Any], Any, BaseException | None]]:
        results: list[tuple[asyncio.Future[Any], Any, BaseException | None]] = []
        try:
            conn.execute("BEGIN")
            for work, answer in requests:
                results.append((answer, work(store), None))
            conn.execute("COMMIT")
        except BaseException:
            if conn.in_transaction:
                with contextlib.suppress(sqlite3.Error):
                    conn.execute("ROLLBACK")
            store.rolled_back()
            raise
        if store.unwanted:
            self.files.remove(store.unwanted)
            store.unwanted.clear()
        if store.has_deleted:
            store.has_deleted = False
            _shrink(conn)
        return results

    def _post(self, function: Callable[..., None], *arguments: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *arguments)


def _shrink(conn: sqlite3.Connection) -> None:
    """Give room back to the file system, when it is worth a write."""
    with contextlib.suppress(sqlite3.Error):
        if conn.execute("PRAGMA freelist_count").fetchone()[0] >= _FREED_PAGES:
            conn.executescript(f"PRAGMA incremental_vacuum({2 * _FREED_PAGES})")  # `execute` would free a single page


def _settle(results: list[tuple[asyncio.Future[Any], Any, BaseException | None]]) -> None:
    for answer, value, error in results:
        if answer.done():
            continue
        if error is not None:
            answer.set_exception(error)
        else:
            answer.set_result(value)


def _fail(answer: asyncio.Future[Any], error: BaseException) -> None:
    if not answer.done():
        answer.set_exception(error)


def _explain(error: BaseException, path: Path) -> BaseException:
    """What a client is told of a disk that doesn't take what it is given."""
    if isinstance(error, EasyRemoteError):
        return error
    if is_damage(error):
        return JobsUnavailable(
            f"the gateway's journal {path} is damaged ({error}); restart the gateway, which puts it aside and keeps "
            "what can be read",
            retry_after_s=60.0,
        )
    if isinstance(error, (sqlite3.Error, OSError)):
        return JobsUnavailable(
            f"the gateway can't write its journal {path}: {error}; is the disk full, or read-only?", retry_after_s=5.0
        )
    return error
