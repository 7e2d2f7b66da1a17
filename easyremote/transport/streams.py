"""What a session's link asks of a connection, whatever it goes over."""

from __future__ import annotations

from typing import Protocol

from easyremote.config import BATCH_BYTES
from easyremote.wire.v1 import gateway_pb2 as pb

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
