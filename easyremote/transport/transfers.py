"""Large payloads: their owner keeps the bytes, the receiver asks for them in windows, the gateway passes chunks on.

Either side that loses its connection starts again from what the receiver has: a new transfer id, the same blob. Two processes
that see the same shared memory hand over a file instead.
"""

from __future__ import annotations

import asyncio
import mmap
import secrets
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from easyremote.config import CHUNK_BYTES, TRANSFER_WINDOW_BYTES
from easyremote.discovery import Endpoint, is_loopback
from easyremote.errors import PayloadError
from easyremote.wire.chunks import WireChunk
from easyremote.wire.codec import Encoded
from easyremote.wire.shared_files import SharedFiles, file_bytes, split
from easyremote.wire.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from easyremote.transport.chunk_stream import ChunkStream


_MAPPED_BYTES = 1024 * 1024

MAX_DAMAGES = 100
"""A payload of which so many chunks came damaged isn't asked for any more."""


class BlobLost(Exception):
    """The owner of the bytes is gone, or has dropped them."""


@dataclass(slots=True)
class _Owned:
    """A blob that this process owns."""

    parts: list[memoryview]
    shared_file: str = ""  # it lies in such a file already
    handed_over: list[str] = field(default_factory=list[str])  # files that receivers were to take

    @property
    def size(self) -> int:
        return sum(part.nbytes for part in self.parts)


@dataclass(slots=True)
class _Outgoing:
    blob: _Owned
    offset: int
    limit: int
    moved: asyncio.Event = field(default_factory=asyncio.Event)
    task: asyncio.Task[None] | None = None


@dataclass(slots=True)
class _Incoming:
    chunks: asyncio.Queue[WireChunk]


class Target:
    """Where a payload's chunks go."""

    def __init__(self) -> None:
        self._damages = 0

    async def place(self, offset: int, data: memoryview) -> None:
        """Take bytes that begin there, as if the parts lay one after the other."""
        raise NotImplementedError

    def note_damage(self, offset: int) -> None:
        """Data came changed, and is asked for again. Raises PayloadError when that happens too often."""
        self._damages += 1
        if self._damages > MAX_DAMAGES:
            raise PayloadError(
                f"the bytes from {offset:,} on came damaged {self._damages} times; is a machine's memory faulty?"
            )


class _Room(Target):
    """Room for a payload, taken when its first chunk is here: a file that is handed over needs none."""

    def __init__(self, make: Callable[[], list[memoryview]]) -> None:
        super().__init__()
        self._make = make
        self._parts: list[memoryview] | None = None

    @property
    def parts(self) -> list[memoryview]:
        if self._parts is None:
            self._parts = self._make()
        return self._parts

    async def place(self, offset: int, data: memoryview) -> None:
        place(self.parts, offset, data)


class Transfers:
    """Both directions for one session. Runs on the shared loop.

    `send_fetch` and `send_chunk` put a Fetch, or a chunk without data, on the session's own stream. `is_local` tells whether that
    one goes over a Unix socket.
    """

    def __init__(
        self,
        endpoint: Endpoint,
        session_id: bytes,
        shared: SharedFiles,
        send_fetch: Callable[[pb.Fetch], None],
        send_chunk: Callable[[pb.Chunk], None],
        is_local: Callable[[], bool],
    ) -> None:
        self._endpoint = endpoint
        self._session_id = session_id
        self._shared = shared
        self._send_fetch = send_fetch
        self._send_chunk = send_chunk
        self._is_local = is_local
        self._owned: dict[bytes, _Owned] = {}
        self._blobs_of: dict[Hashable, list[bytes]] = {}
        self._outgoing: dict[bytes, _Outgoing] = {}
        self._incoming: dict[bytes, _Incoming] = {}
        self._stream: ChunkStream | None = None
        # Within one machine there is no wire, and a checksum of everything would cost a tenth of the throughput.
        self._chunk = WireChunk if is_loopback(endpoint.address) else WireChunk.checked

    # ---- owning --------------------------------------------------------------------------------------------------

    def own(self, holder: Hashable, encoded: Encoded) -> pb.Payload:
        """A payload for this value: inside the frame when it is small, else by reference, kept until `release(holder)`."""
        if not encoded.is_large:
            return encoded.inline()
        return self._keep(holder, encoded, "")

    def own_again(self, holder: Hashable, encoded: Encoded, blob_id: bytes) -> pb.Payload:
        """By reference, under the name that it had in an earlier process: whoever was receiving it goes on."""
        return self._keep(holder, encoded, "", blob_id)

    def own_file(self, holder: Hashable, content_type: str, part_bytes: Sequence[int], name: str) -> pb.Payload:
        """The same for a shared file that another process of this host (a worker) has filled."""
        view = self._shared.map(name, file_bytes(part_bytes))
        return self._keep(holder, Encoded(content_type, split(view, part_bytes)), name)

    def hold(self, ref_id: bytes, encoded: Encoded) -> None:
        """Have the value of a ref for whoever asks for it, until `let_go`. Again: where it lies elsewhere now."""
        owned = self._owned.get(ref_id)
        if owned is None:
            self._keep(ref_id, encoded, "", ref_id)
        else:  # the same bytes, in another place
            owned.parts = _views(encoded)

    def let_go(self, ref_id: bytes) -> None:
        """Have it no longer. Who is receiving it is told."""
        owned = self._owned.get(ref_id)
        for transfer_id, outgoing in self._outgoing.items():
            if outgoing.blob is owned:
                self._send_chunk(pb.Chunk(transfer_id=transfer_id, error="its owner has dropped it"))
        self.release(ref_id)

    def release(self, holder: Hashable) -> None:
        """Nobody will ask for these any more."""
        for blob_id in self._blobs_of.pop(holder, ()):
            owned = self._owned.pop(blob_id)
            for transfer_id in [key for key, outgoing in self._outgoing.items() if outgoing.blob is owned]:
                self._stop_outgoing(transfer_id)
            for name in filter(None, (owned.shared_file, *owned.handed_over)):
                self._shared.remove(name)

    def _keep(self, holder: Hashable, encoded: Encoded, shared_file: str, blob_id: bytes = b"") -> pb.Payload:
        blob_id = blob_id or secrets.token_bytes(16)
        self._owned[blob_id] = _Owned(_views(encoded), shared_file)
        self._blobs_of.setdefault(holder, []).append(blob_id)
        return encoded.by_reference(blob_id)

    # ---- sending -------------------------------------------------------------------------------------------------

    def requested(self, fetch: pb.Fetch) -> None:
        """A receiver asks for more, or says that it is done."""
        outgoing = self._outgoing.get(fetch.transfer_id)
        if fetch.done:
            if outgoing is not None:
                self._stop_outgoing(fetch.transfer_id)
        elif outgoing is not None:
            outgoing.limit = max(outgoing.limit, fetch.limit)
            outgoing.moved.set()
        else:
            self._begin_outgoing(fetch)

    def _begin_outgoing(self, fetch: pb.Fetch) -> None:
        blob = self._owned.get(fetch.blob_id)
        outgoing = _Outgoing(blob or _Owned([]), fetch.offset, fetch.limit)
        if blob is not None or not fetch.of_ref:
            self._outgoing[fetch.transfer_id] = outgoing
        if blob is None:
            self._send_chunk(pb.Chunk(transfer_id=fetch.transfer_id, error="its owner has dropped the payload"))
            return
        if fetch.shared_memory and fetch.shared_memory == self._shared.identity and fetch.offset == 0:
            work = self._send_file(fetch, outgoing)
        else:
            work = self._send_chunks(fetch, outgoing)
        outgoing.task = asyncio.get_running_loop().create_task(work)

    async def _send_file(self, fetch: pb.Fetch, outgoing: _Outgoing) -> None:
        blob = outgoing.blob
        try:
            name = blob.shared_file or await self._write_file(blob)
        except (OSError, RuntimeError):  # no room in shared memory, or the interpreter is ending
            await self._send_chunks(fetch, outgoing)
            return
        blob.shared_file = ""  # the receiver removes the name
        if fetch.of_ref:  # of which there may be many receivers, and none says that it is done
            self._outgoing.pop(fetch.transfer_id, None)
            blob.handed_over = [earlier for earlier in blob.handed_over if self._shared.has(earlier)]
        blob.handed_over.append(name)
        self._send_chunk(pb.Chunk(transfer_id=fetch.transfer_id, shared_file=name))

    async def _write_file(self, blob: _Owned) -> str:
        """In a thread, which goes on when this is cancelled; the file is removed then."""
        writing = asyncio.get_running_loop().run_in_executor(None, self._shared.write, blob.parts)
        try:
            return await asyncio.shield(writing)
        except asyncio.CancelledError:
            writing.add_done_callback(lambda done: done.exception() is None and self._shared.remove(done.result()))
            raise

    async def _send_chunks(self, fetch: pb.Fetch, outgoing: _Outgoing) -> None:
        if fetch.detached:
            self._send_chunk(pb.Chunk(transfer_id=fetch.transfer_id, again=True))  # it is to open its stream first
            return
        stream = await self._attached()
        size = outgoing.blob.size
        while outgoing.offset < size:
            if outgoing.offset >= outgoing.limit:
                outgoing.moved.clear()
                await outgoing.moved.wait()
                continue
            room = min(CHUNK_BYTES, outgoing.limit - outgoing.offset)
            data = _slice(outgoing.blob.parts, outgoing.offset, room)
            head = pb.Chunk(transfer_id=fetch.transfer_id, offset=outgoing.offset)
            await stream.write(self._chunk(head, data))
            outgoing.offset += data.nbytes

    def _stop_outgoing(self, transfer_id: bytes) -> None:
        outgoing = self._outgoing.pop(transfer_id)
        if outgoing.task is not None:
            outgoing.task.cancel()

    # ---- receiving -----------------------------------------------------------------------------------------------

    async def fetch(self, call_id: bytes, payload: pb.Payload) -> Encoded:
        """All parts of a payload, wherever its bytes are. Raises BlobLost when they can't be had any more."""
        if not payload.HasField("blob"):
            return Encoded.of(payload)
        sizes = list(payload.blob.part_bytes)
        room = _Room(lambda: memory_for(sizes))
        handed_over = await self._receive(_of_call(call_id, payload), sizes, room)
        return Encoded(payload.content_type, room.parts if handed_over is None else handed_over)

    async def fetch_into(self, call_id: bytes, payload: pb.Payload, target: Target) -> None:
        """The same for one that may be too large for memory: its parts go to `target`, one after the other."""
        handed_over = await self._receive(_of_call(call_id, payload), list(payload.blob.part_bytes), target)
        offset = 0
        for part in handed_over or ():
            await target.place(offset, part)
            offset += part.nbytes

    async def fetch_ref(self, ref: pb.Ref) -> list[memoryview]:
        """All parts of a ref's value, from whoever has it. Raises BlobLost when nobody has, saying why."""
        sizes = list(ref.part_bytes)
        room = _Room(lambda: memory_for(sizes))
        handed_over = await self._receive(_of_ref(ref), sizes, room)
        return room.parts if handed_over is None else handed_over

    async def fetch_ref_to_file(self, ref: pb.Ref) -> str:
        """The same, into a shared file of this process's: its name."""
        return await self._receive_file(_of_ref(ref), list(ref.part_bytes))

    async def fetch_to_file(self, call_id: bytes, payload: pb.Payload) -> tuple[str, list[int]]:
        """The same, into a shared file for another process of this host: its name, and the sizes of the parts."""
        sizes = list(payload.blob.part_bytes)
        return await self._receive_file(_of_call(call_id, payload), sizes), sizes

    async def _receive_file(self, wanted: pb.Fetch, sizes: list[int]) -> str:
        made: list[str] = []

        def create() -> list[memoryview]:
            name, area = self._shared.create(file_bytes(sizes))
            made.append(name)
            return split(memoryview(area), sizes)

        try:
            handed_over = await self._receive(wanted, sizes, _Room(create), keep_file=True)
        except BaseException:
            for name in made:
                self._shared.remove(name)
            raise
        return handed_over if isinstance(handed_over, str) else made[0]

    async def _receive(self, wanted: pb.Fetch, sizes: list[int], target: Target, keep_file: bool = False) -> Any:
        """The parts in a file that was handed over, or with `keep_file` its name; None when all went to `target`.

        `wanted` says what, and whose it is.
        """
        offset, size = 0, sum(sizes)
        shared_memory = self._shared.identity
        is_detached = bool(shared_memory) and self._is_local()
        while offset < size:
            transfer_id = secrets.token_bytes(16)
            incoming = _Incoming(asyncio.Queue())
            self._incoming[transfer_id] = incoming
            try:
                if not is_detached:
                    await self._attached()
                fetch = pb.Fetch(
                    transfer_id=transfer_id,
                    blob_id=wanted.blob_id,
                    call_id=wanted.call_id,
                    of_ref=wanted.of_ref,
                    offset=offset,
                    limit=offset + TRANSFER_WINDOW_BYTES,
                    shared_memory=shared_memory,
                    detached=is_detached,
                )
                self._send_fetch(fetch)
                offset, name = await self._collect(incoming, fetch, target, offset, size)
                is_detached = False  # where it goes on, the file couldn't be had
                if name:
                    if keep_file:
                        return name
                    try:
                        return split(self._shared.take(name, file_bytes(sizes)), sizes)
                    except OSError:
                        shared_memory = ""  # it isn't the same folder after all
            finally:
                del self._incoming[transfer_id]
                done = pb.Fetch(blob_id=wanted.blob_id, call_id=wanted.call_id, of_ref=wanted.of_ref, done=True)
                done.transfer_id = transfer_id
                self._send_fetch(done)
        return None

    async def _collect(
        self, incoming: _Incoming, fetch: pb.Fetch, target: Target, offset: int, size: int
    ) -> tuple[int, str]:
        """Take chunks until all are here, or the transfer has to start again. Returns how far it came."""
        while offset < size:
            came = await incoming.chunks.get()
            chunk, data, _ = came
            if chunk.shared_file:
                return offset, chunk.shared_file
            if chunk.again:
                return offset, ""
            if chunk.error:
                raise BlobLost(chunk.error)
            if chunk.offset != offset or offset + data.nbytes > size or not data.nbytes:
                raise PayloadError(
                    f"a chunk for offset {chunk.offset} came where {offset} of {size} bytes are here; the transfer is damaged"
                )
            if not came.is_intact:
                target.note_damage(chunk.offset)
                return offset, ""
            await target.place(offset, data)
            offset += data.nbytes
            if offset < size and fetch.limit - offset <= TRANSFER_WINDOW_BYTES // 2:
                fetch.offset, fetch.limit = offset, offset + TRANSFER_WINDOW_BYTES
                self._send_fetch(fetch)
        return offset, ""

    # ---- the stream ----------------------------------------------------------------------------------------------

    def session_down(self) -> None:
        """The session lost its connection. Receivers will ask again, from what they have."""
        for transfer_id in list(self._outgoing):
            self._stop_outgoing(transfer_id)

    def session_up(self) -> None:
        """The session is connected again: what was asked for may have been lost."""
        self._ask_again()

    def _ask_again(self) -> None:
        for incoming in self._incoming.values():
            incoming.chunks.put_nowait(WireChunk(pb.Chunk(again=True)))

    async def close(self) -> None:
        for transfer_id in list(self._outgoing):
            self._stop_outgoing(transfer_id)
        for holder in list(self._blobs_of):
            self.release(holder)
        if self._stream is not None:
            await self._stream.close()

    async def _attached(self) -> ChunkStream:
        stream = self._open_stream()
        await stream.attached()
        return stream

    def _open_stream(self) -> ChunkStream:
        """The stream for chunks, made when the first one needs it: between processes of one host none may ever do."""
        if self._stream is None:
            from easyremote.transport.chunk_stream import ChunkStream

            self._stream = ChunkStream(self._endpoint, self._session_id, self.chunk_came, self._replaced)
        return self._stream

    def chunk_came(self, chunk: WireChunk) -> None:
        incoming = self._incoming.get(chunk.head.transfer_id)
        if incoming is not None:
            incoming.chunks.put_nowait(chunk)

    def _replaced(self) -> None:
        """The stream broke: receivers here ask again, and receivers elsewhere are told to."""
        self._ask_again()
        for transfer_id in list(self._outgoing):
            self._stop_outgoing(transfer_id)
            self._outgoing[transfer_id] = _Outgoing(
                _Owned([]), 0, 0
            )  # until its receiver is done: it may ask for more yet
            self._send_chunk(pb.Chunk(transfer_id=transfer_id, again=True))


def _views(encoded: Encoded) -> list[memoryview]:
    return [memoryview(part).cast("B") for part in encoded.parts]


def _of_call(call_id: bytes, payload: pb.Payload) -> pb.Fetch:
    return pb.Fetch(blob_id=payload.blob.blob_id, call_id=call_id)


def _of_ref(ref: pb.Ref) -> pb.Fetch:
    return pb.Fetch(blob_id=ref.ref_id, of_ref=True)


def _room_for(size: int) -> memoryview:
    """Memory of the system's, whose pages come zeroed as they are touched, instead of all at once and twice."""
    return memoryview(mmap.mmap(-1, size)) if size >= _MAPPED_BYTES else memoryview(bytearray(size))


def _slice(parts: list[memoryview], offset: int, room: int) -> memoryview:
    """Bytes from `offset` of the parts one after the other; at most `room`, and not beyond the end of a part."""
    for part in parts:
        if offset < part.nbytes:
            return part[offset : offset + room]
        offset -= part.nbytes
    return memoryview(b"")


def memory_for(sizes: list[int]) -> list[memoryview]:
    """Room for the parts of a payload. Raises PayloadError."""
    try:
        return [_room_for(size) for size in sizes]
    except (MemoryError, OverflowError, OSError) as error:
        raise PayloadError(f"a payload of {sum(sizes):,} bytes doesn't fit into memory here") from error


def place(parts: list[memoryview], offset: int, data: memoryview) -> None:
    """Write into the parts, as if they lay one after the other."""
    done = 0
    for part in parts:
        if offset < part.nbytes:
            room = min(part.nbytes - offset, len(data) - done)
            part[offset : offset + room] = data[done : done + room]
            done += room
            offset = 0
            if done == len(data):
                return
        else:
            offset -= part.nbytes
