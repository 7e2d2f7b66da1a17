"""What clients ask and tell the keeper of jobs. Every request may come twice, and means the same then."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from easyremote.config import JobSettings
from easyremote.core.access import Access
from easyremote.core.admission import refuse_submit
from easyremote.errors import EasyRemoteError, JobNotFound, UsageError, from_code
from easyremote.keeping.runs import Runs, payloads_of
from easyremote.keeping.uploads import Uploads
from easyremote.store.jobs import File, Job, JobStore
from easyremote.store.journal import Journal
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_WAIT_S = 30.0
"""How long a reader may wait for news in one request."""

MAX_PIECE_BYTES = 64 * 1024

MAX_TOGETHER = 1000
"""Jobs in one request."""

EXPIRY_S = 30.0
"""How often jobs that have expired are looked for."""

_KINDS = (pb.Code.KIND_CALLABLE, pb.Code.KIND_CELL)

_PREFIX = re.compile(r"[0-9a-f]{0,32}")


class _Wanted(NamedTuple):
    """A job that is to be kept, with the files of its payloads; without them when not all are here."""

    submit: pb.Submit
    files: list[File] | None


class Requests:
    """Answers requests about the jobs of one open journal."""

    def __init__(self, journal: Journal, settings: JobSettings, boot: int) -> None:
        self._journal = journal
        self._settings = settings
        self._boot = boot
        self._uploads = Uploads(journal.files, settings.max_job_bytes)
        self._readers: dict[int, set[asyncio.Future[None]]] = {}  # those that wait for something new of a job
        self._janitor = asyncio.get_running_loop().create_task(self._expire())
        self.runs: Runs | None = None

    async def close(self) -> None:
        self._janitor.cancel()
        await asyncio.gather(self._janitor, return_exceptions=True)
        self._uploads.close()

    def changed(self, numbers: Iterable[int]) -> None:
        """There is something new of these jobs on disk."""
        for number in numbers:
            for reader in self._readers.pop(number, ()):
                if not reader.done():
                    reader.set_result(None)

    async def answer(self, request: pb.JobRequest, access: Access) -> pb.JobAnswer:
        """Of jobs of the token that asks; an administrator's sees all. Raises EasyRemoteError, OSError."""
        what = request.WhichOneof("what")
        whose = None if access.may_administer else access.token_id
        if what == "keep":
            return await self._keep(request.keep, access)
        if what == "put":
            return pb.JobAnswer(size=await self._uploads.put(request.put, access.token_id))
        if what == "list":
            return await self._list(request.list, whose)
        if what == "read":
            return await self._read(request.read, whose)
        if what == "piece":
            return await self._piece(request.piece, whose)
        if what == "end":
            return await self._end(request.end, whose)
        if what == "forget":
            return await self._forget(request.forget, whose)
        if what == "collected":
            return await self._collected(request.collected, whose)
        raise from_code("remote_protocol", "this gateway doesn't know that request")

    # ---- jobs come -----------------------------------------------------------------------------------------------

    async def _keep(self, keep: pb.JobRequest.Keep, access: Access) -> pb.JobAnswer:
        if len(keep.submits) > MAX_TOGETHER:
            raise UsageError(f"at most {MAX_TOGETHER} jobs are submitted together, not {len(keep.submits)}")
        wanted: list[_Wanted | EasyRemoteError] = [self._look_at(submit, access) for submit in keep.submits]
        now, boot = time.time(), self._boot

        def work(store: JobStore) -> list[Job | EasyRemoteError | None]:
            self._journal.check_there()
            return [
                item if isinstance(item, EasyRemoteError) else store.keep(item.submit, item.files, boot, now, access)
                for item in wanted
            ]

        results = await self._journal.do(work)
        for item, result in zip(wanted, results, strict=True):
            files = item.files or () if isinstance(item, _Wanted) else ()
            for file in files:
                if isinstance(result, EasyRemoteError):
                    self._uploads.unwanted(file.name)
                else:
                    self._uploads.taken(file.name)
        assert self.runs is not None
        self.runs.accepted(job for job in results if isinstance(job, Job))
        kept = [
            pb.JobAnswer.Kept(
                job_id=submit.call_id, error=info_of(result) if isinstance(result, EasyRemoteError) else None
            )
            for submit, result in zip(keep.submits, results, strict=True)
        ]
        return pb.JobAnswer(kept=kept)

    def _look_at(self, submit: pb.Submit, access: Access) -> _Wanted | EasyRemoteError:
        """A submission as it is kept, or why it can't be."""
        problem = refuse_submit(submit)
        if problem is not None:
            return from_code(problem.code, problem.message)
        if submit.tasks or (submit.HasField("code") and submit.code.kind not in _KINDS):
            return UsageError("only calls of functions and cells can be jobs")
        plain = pb.Submit(call_id=submit.call_id, function=submit.function, options=submit.options)
        plain.owner, plain.plain_only = submit.owner, submit.plain_only  # what the broker has noted of its token
        plain.allowed_nodes.extend(submit.allowed_nodes)
        if submit.HasField("code"):
            plain.code.CopyFrom(submit.code)
        if submit.HasField("arguments"):
            plain.arguments.CopyFrom(submit.arguments)
        if submit.HasField("seal"):
            plain.seal.CopyFrom(submit.seal)
        blobs = [payload.blob for payload in payloads_of(plain) if payload.HasField("blob")]
        files = [self._uploads.whole(blob.blob_id.hex(), sum(blob.part_bytes), access.token_id) for blob in blobs]
        whole = [file for file in files if file is not None]
        return _Wanted(plain, whole if len(whole) == len(files) else None)

    # ---- jobs are looked at --------------------------------------------------------------------------------------

    async def _list(self, request: pb.JobRequest.List, whose: str | None) -> pb.JobAnswer:
        if not _PREFIX.fullmatch(request.id_prefix):
            raise UsageError(
                f"a job's id is made of the digits 0-9 and a-f, at most 32; '{request.id_prefix[:40]}' isn't one"
            )
        wanted = request.id_prefix, request.before, request.limit, whose
        records = await self._journal.do(lambda store: store.records(*wanted))
        return pb.JobAnswer(jobs=records)

    async def _read(self, request: pb.JobRequest.Read, whose: str | None) -> pb.JobAnswer:
        """What there is now, or soon."""
        loop = asyncio.get_running_loop()
        until = loop.time() + min(max(request.wait_s, 0.0), MAX_WAIT_S)

        def work(store: JobStore) -> tuple[int, list[pb.JobEvent], bool, pb.JobRecord]:
            number = store.number_of(request.job_id, whose)
            return number, *store.read(number, request.after, request.max_bytes), store.record(number)

        number = await self._journal.do(lambda store: store.number_of(request.job_id, whose))
        while True:
            with self._reader(number) as news:
                number, events, is_all, record = await self._journal.do(work)
                left_s = until - loop.time()
                if events or is_all or left_s <= 0:
                    return pb.JobAnswer(events=events, is_all=is_all, jobs=[record])
                await asyncio.wait([news], timeout=left_s)

    @contextlib.contextmanager
    def _reader(self, number: int) -> Iterator[asyncio.Future[None]]:
        """From before the look at what there is, so that nothing new comes unseen."""
        news: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._readers.setdefault(number, set()).add(news)
        try:
            yield news
        finally:
            others = self._readers.get(number)
            if others is not None:
                others.discard(news)
                if not others:
                    del self._readers[number]

    async def _piece(self, request: pb.JobRequest.Piece, whose: str | None) -> pb.JobAnswer:
        name = request.blob_id.hex()
        size = await self._journal.do(lambda store: store.file_size(store.number_of(request.job_id, whose), name))
        if size is None:
            raise JobNotFound("the job has no such payload any more")
        want = min(request.max_bytes or MAX_PIECE_BYTES, MAX_PIECE_BYTES)
        loop = asyncio.get_running_loop()
        data = await loop.run_in_executor(None, self._journal.files.read, name, request.offset, want)
        return pb.JobAnswer(data=data, size=size)

    # ---- jobs end and go -----------------------------------------------------------------------------------------

    async def _end(self, request: pb.JobRequest.End, whose: str | None) -> pb.JobAnswer:
        error = pb.ErrorInfo(
            code="cancelled", message=f"the job was cancelled: {request.reason[:1000] or 'by a client'}"
        )

        def work(store: JobStore) -> tuple[int, pb.JobRecord]:
            number = store.number_of(request.job_id, whose)
            store.end(number, error, time.time())
            return number, store.record(number)

        number, record = await self._journal.do(work)
        self._stopped(request.job_id, number, "the job was cancelled")
        return pb.JobAnswer(jobs=[record])

    async def stop_all(self, token_id: str) -> None:
        """The token was revoked. Raises JobsUnavailable."""
        error = pb.ErrorInfo(code="cancelled", message="the token that made the job was revoked")

        def work(store: JobStore) -> list[tuple[int, bytes]]:
            found = store.open_jobs_of(token_id)
            for number, _ in found:
                store.end(number, error, time.time())
            return found

        for number, job_id in await self._journal.do(work):
            self._stopped(job_id, number, error.message)

    async def _forget(self, job_id: bytes, whose: str | None) -> pb.JobAnswer:
        def work(store: JobStore) -> int:
            number = store.number_of(job_id, whose)
            store.forget(number)
            return number

        number = await self._journal.do(work)
        self._stopped(job_id, number, "the job was forgotten")
        return pb.JobAnswer()

    def _stopped(self, job_id: bytes, number: int, reason: str) -> None:
        assert self.runs is not None
        self.runs.stop(job_id, reason)
        self.changed([number])

    async def _collected(self, job_id: bytes, whose: str | None) -> pb.JobAnswer:
        await self._journal.do(lambda store: store.collected(store.number_of(job_id, whose), time.time()))
        return pb.JobAnswer()

    async def _expire(self) -> None:
        while True:
            try:
                while await self._journal.do(lambda store: store.expire(time.time())):
                    pass
            except EasyRemoteError:
                pass  # the disk takes nothing now
            self._uploads.expire()
            await asyncio.sleep(EXPIRY_S)


def info_of(error: EasyRemoteError) -> pb.ErrorInfo:
    """An error for the wire."""
    return pb.ErrorInfo(
        code=error.code,
        message=error.message,
        retry_after_s=getattr(error, "retry_after_s", 0.0),
        details=error.details,
    )
