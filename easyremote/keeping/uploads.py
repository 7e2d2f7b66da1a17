"""Payloads of jobs that are about to come: they are put at the gateway piece by piece, before the job that names them."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from time import monotonic

from easyremote.core.access import OWNER_ID
from easyremote.errors import OverloadedError, UsageError
from easyremote.store.files import PayloadFiles, write_at
from easyremote.store.jobs import File
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_UPLOADS = 256
"""Payloads that are on their way, or wait for their job."""

MAX_UPLOADS_OF_ONE = 64
"""The same of one token that isn't the gateway's own."""

FORGOTTEN_AFTER_S = 600.0
"""One that nothing more is heard of is removed."""

MAX_PIECE_BYTES = 64 * 1024


@dataclass(slots=True, eq=False)
class _Upload:
    size: int
    whose: str  # id of the token that put it here
    descriptor: int
    touched: float
    done: int = 0
    is_whole: bool = False
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)  # pieces are written one after the other


class Uploads:
    """Runs on the loop; writes in threads. A client that asks twice gets the same answer."""

    def __init__(self, files: PayloadFiles, max_bytes: int) -> None:
        self._files = files
        self._max_bytes = max_bytes
        self._uploads: dict[str, _Upload] = {}

    async def put(self, put: pb.JobRequest.Put, whose: str = OWNER_ID) -> int:
        """Take a piece. Returns how many bytes of the payload are here; a piece that begins elsewhere changes nothing.

        Raises UsageError, OverloadedError, OSError.
        """
        if len(put.blob_id) != 16 or len(put.data) > MAX_PIECE_BYTES or put.offset + len(put.data) > put.size:
            raise UsageError("a piece of a payload has an id of 16 bytes, and at most 64 KiB within the payload's size")
        upload = self._uploads.get(put.blob_id.hex()) or self._begin(put, whose)
        if upload.whose != whose:
            raise UsageError("there is another payload with this id")
        async with upload.lock:
            upload.touched = monotonic()
            if put.offset == upload.done and not upload.is_whole:
                await _in_thread(write_at, upload.descriptor, put.data, put.offset)
                upload.done += len(put.data)
                if upload.done == upload.size:
                    upload.is_whole = True
                    await _in_thread(self._files.finish, upload.descriptor)
            return upload.done

    def _begin(self, put: pb.JobRequest.Put, whose: str) -> _Upload:
        if put.size > self._max_bytes:
            raise UsageError(f"it has {put.size:,} bytes, and a gateway keeps at most {self._max_bytes:,} of one job")
        if len(self._uploads) >= MAX_UPLOADS:
            text = f"{MAX_UPLOADS} payloads of jobs are on their way to this gateway, the bound"
            raise OverloadedError(text, retry_after_s=5.0)
        if whose != OWNER_ID and sum(upload.whose == whose for upload in self._uploads.values()) >= MAX_UPLOADS_OF_ONE:
            text = f"{MAX_UPLOADS_OF_ONE} payloads of jobs of this token are on their way to this gateway, the bound"
            raise OverloadedError(text, retry_after_s=5.0)
        name = put.blob_id.hex()
        _, descriptor = self._files.create(put.size, name)
        upload = self._uploads[name] = _Upload(put.size, whose, descriptor, monotonic())
        return upload

    def whole(self, name: str, size: int, whose: str = OWNER_ID) -> File | None:
        """The payload's file, when all of it is here, put by the token that names it."""
        upload = self._uploads.get(name)
        is_whole = upload is not None and upload.is_whole and (upload.size, upload.whose) == (size, whose)
        return File(name, size) if is_whole else None

    def taken(self, name: str) -> None:
        """A job on disk names it now."""
        self._uploads.pop(name, None)

    def unwanted(self, name: str) -> None:
        """The job that was to name it was refused."""
        upload = self._uploads.get(name)
        if upload is not None:
            self._remove(name, upload)

    def expire(self) -> None:
        for name, upload in list(self._uploads.items()):
            if monotonic() - upload.touched > FORGOTTEN_AFTER_S and not upload.lock.locked():
                self._remove(name, upload)

    def close(self) -> None:
        for name, upload in list(self._uploads.items()):
            self._remove(name, upload)

    def _remove(self, name: str, upload: _Upload) -> None:
        del self._uploads[name]
        if not upload.is_whole:
            os.close(upload.descriptor)
        self._files.remove([name])


async def _in_thread(function, *arguments):  # type: ignore[no-untyped-def]
    return await asyncio.get_running_loop().run_in_executor(None, function, *arguments)
