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


def seal_batch(frames: list[pb.Frame]) -> bytes:
    """The same for a way on which bits may turn."""
    return sealed(serialize_batch(frames))


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
