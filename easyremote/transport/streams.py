"""What a session's link asks of a connection, whatever it goes over."""

from __future__ import annotations

import logging
from typing import Protocol

from google.protobuf.message import DecodeError

from easyremote.config import BATCH_BYTES
from easyremote.wire.checksum import is_intact, sealed
from easyremote.wire.chunks import WireChunk
from easyremote.wire.v1 import gateway_pb2 as pb

_log = logging.getLogger("easyremote")

WELCOME_TIMEOUT_S = 5.0

MAX_MESSAGE_BYTES = 4 * 1024 * 1024


class Talker(Protocol):
    """The link, as its connection sees it."""

    def hello(self) -> pb.Frame:
        """The frame that a connection begins with."""
        ...

    def next_batch(self) -> list[pb.Frame]:
        """What is to be sent now; empty when there is nothing."""
        ...

    def received(self, batch: pb.Batch) -> None:
        """A batch came. May raise what keeps the connection from going on."""
        ...


class Stream(Protocol):
    """One connection. `talk` says hello and goes on until the connection ends; it may be cancelled."""

    async def talk(self) -> None: ...

    def wake(self) -> None:
        """There is something to send."""
        ...

    def cut(self) -> None:
        """End it at once."""
        ...


def serialize_batch(frames: list[pb.Frame]) -> bytes:
    return pb.Batch(frames=frames).SerializeToString()


def seal_batch(numbered: tuple[int, list[pb.Frame]]) -> bytes:
    """The same for a way on which bits may turn."""
    number, frames = numbered
    return sealed(pb.Batch(frames=frames, number=number).SerializeToString())


class Counter:
    """Numbers the batches of one connection, and notices one that is missing.

    A bit that turns in the head of an HTTP/2 frame can have it taken for one of another stream, which nobody knows; then it is
    dropped, and what follows it arrives intact.
    """

    def __init__(self) -> None:
        self._sent = 0
        self._came = 0

    def numbered(self, frames: list[pb.Frame]) -> tuple[int, list[pb.Frame]]:
        self._sent += 1
        return self._sent, frames

    def follows(self, batch: pb.Batch) -> bool:
        """Whether none is missing before this one."""
        self._came += 1
        if batch.number in (0, self._came):
            return True
        _log.warning(
            "a message was lost on its way, and its connection is made anew: number %d came where %d was due",
            batch.number,
            self._came,
        )
        return False


def open_batch(message: bytes) -> pb.Batch | None:
    """None for one that was damaged; said here, since gRPC would keep an error to itself."""
    try:
        if is_intact(message):
            return pb.Batch.FromString(message)
        reason = "its checksum is wrong"
    except DecodeError as error:
        reason = str(error)
    _log.warning("a message was damaged on its way, and its connection is made anew: %s", reason)
    return None


def open_chunk(message: bytes) -> WireChunk | None:
    """The same for a chunk."""
    try:
        return WireChunk.from_bytes(message)
    except DecodeError as error:
        _log.warning("a chunk was damaged on its way, and its connection is made anew: %s", error)
        return None


def take_batch(outbox: list[pb.Frame]) -> list[pb.Frame]:
    """The first frames of the outbox, as many as a batch may hold."""
    if len(outbox) < 8:  # even the largest frames fit
        batch = outbox[:]
        outbox.clear()
        return batch
    size = 0
    for index, frame in enumerate(outbox):
        size += frame.ByteSize()
        if size > BATCH_BYTES and index:
            batch = outbox[:index]
            del outbox[:index]
            return batch
    batch = outbox[:]
    outbox.clear()
    return batch
