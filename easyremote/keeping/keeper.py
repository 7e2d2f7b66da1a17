"""The keeper of a gateway's jobs: opens the journal when it is needed, runs what is in it, answers who asks.

A journal that exists is opened before the gateway listens: nodes that come back with a job's attempt must find it waiting. One
that doesn't is made with the first job, so a gateway that keeps none pays nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections import Counter
from functools import partial
from pathlib import Path
from time import monotonic

from easyremote.config import JobSettings
from easyremote.core.access import Access
from easyremote.errors import EasyRemoteError, JobsUnavailable, OverloadedError
from easyremote.keeping.inside import Host
from easyremote.keeping.requests import Requests, info_of
from easyremote.keeping.runs import Runs
from easyremote.store.jobs import JobStore
from easyremote.store.journal import Journal
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_REQUESTS = 10_000
"""Requests under way at once, readers that wait for news included; one more is refused."""

MAX_REQUESTS_OF_ONE = 1000
"""The same of one token that isn't the gateway's own."""

RETRY_S = 5.0
"""A journal that couldn't be opened is tried again after so long, when somebody asks."""

_log = logging.getLogger("easyremote")


class Keeper:
    """Made and used on the loop. `notes` are what the person who started the gateway should know."""

    def __init__(self, path: Path, settings: JobSettings, host: Host) -> None:
        self.path = path
        self.notes: list[str] = []
        self._settings = settings
        self._host = host
        self._loop = asyncio.get_running_loop()
        self._journal: Journal | None = None
        self._requests: Requests | None = None
        self._runs: Runs | None = None
        self._opening: asyncio.Task[Requests] | None = None
        self._failed_at = 0.0
        self._retry: asyncio.Task[None] | None = None
        self._tasks: set[asyncio.Task[None]] = set()
        self._asked: Counter[str] = Counter()  # how many of them each token has

    async def start(self, now: bool = False) -> None:
        """Open the journal if there is one; with `now` in any case. What goes wrong is noted, and told to whoever asks."""
        if now or self.path.exists():
            try:
                await self._opened()
            except JobsUnavailable as error:
                self._note(error.message)
                self._retry = self._loop.create_task(self._try_again())

    async def _try_again(self) -> None:
        """There are jobs in it that wait."""
        while self._requests is None:
            await asyncio.sleep(RETRY_S)
            with contextlib.suppress(JobsUnavailable):
                await self._opened()

    def ask(self, session_id: bytes, query: pb.Query, access: Access) -> None:
        """`access`: what the token of whoever asks allows."""
        whose = access.token_id
        most, who = (MAX_REQUESTS, "at this gateway") if access.is_owner else (MAX_REQUESTS_OF_ONE, "of this token")
        if len(self._tasks) >= MAX_REQUESTS or self._asked[whose] >= most:
            text = f"{most:,} requests about jobs are under way {who}, the bound"
            self._reply(session_id, query, OverloadedError(text, retry_after_s=1.0))
            return
        task = self._loop.create_task(self._answer(session_id, query, access))
        self._tasks.add(task)
        self._asked[whose] += 1
        task.add_done_callback(partial(self._answered, whose))

    def _answered(self, whose: str, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        self._asked[whose] -= 1
        if not self._asked[whose]:
            del self._asked[whose]

    def token_revoked(self, token_id: str) -> None:
        """Stop the jobs that it has made; what they brought is still kept, for administrators."""
        if self._requests is not None:
            task = self._loop.create_task(self._stop_all(self._requests, token_id))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _stop_all(self, requests: Requests, token_id: str) -> None:
        try:
            await requests.stop_all(token_id)
        except EasyRemoteError as error:
            _log.warning("jobs of token %s go on though it was revoked: %s", token_id, error)

    async def close(self) -> None:
        tasks = [*self._tasks, *(task for task in (self._retry, self._opening) if task is not None)]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._runs is not None:
            await self._runs.close()
        if self._requests is not None:
            await self._requests.close()
        if self._journal is not None:
            await self._journal.close()

    async def _answer(self, session_id: bytes, query: pb.Query, access: Access) -> None:
        try:
            if query.job.WhichOneof("what") == "list" and self._journal is None and not self.path.exists():
                reply = pb.JobAnswer()  # looking doesn't make a journal
            else:
                requests = await self._opened()
                reply = await requests.answer(query.job, access)
        except EasyRemoteError as error:
            self._reply(session_id, query, error)
        except OSError as error:
            text = f"the gateway can't write to {self.path.parent}: {error.strerror or error}"
            self._reply(session_id, query, JobsUnavailable(text, retry_after_s=5.0))
        except Exception as error:
            _log.exception("a request about jobs failed")
            self._reply(session_id, query, EasyRemoteError(f"the gateway failed: {type(error).__name__}: {error}"))
        else:
            self._host.answer(session_id, pb.Answer(query_id=query.query_id, job=reply))

    def _reply(self, session_id: bytes, query: pb.Query, error: EasyRemoteError) -> None:
        self._host.answer(session_id, pb.Answer(query_id=query.query_id, error=info_of(error)))

    async def _opened(self) -> Requests:
        """The requests of the open journal. Raises JobsUnavailable."""
        if self._requests is not None:
            return self._requests
        is_over = self._opening is not None and self._opening.done() and monotonic() - self._failed_at > RETRY_S / 2
        if self._opening is None or is_over:
            self._opening = self._loop.create_task(self._open())
        return await asyncio.shield(self._opening)

    async def _open(self) -> Requests:
        journal = Journal(self.path, self._settings)
        requests = None
        try:
            await journal.open()
            boot = await journal.do(JobStore.boot)
            requests = Requests(journal, self._settings, boot)
            runs = requests.runs = Runs(self._host, journal, self._settings, boot, requests.changed)
            await runs.start()
        except BaseException:
            self._failed_at = monotonic()
            if requests is not None:
                await requests.close()
            await journal.close()
            raise
        for note in journal.notes:
            self._note(note)
        self._journal, self._runs, self._requests = journal, runs, requests
        return requests

    def _note(self, text: str) -> None:
        self.notes.append(text)
        _log.warning("%s", text)
