"""What comes of a pretend client's call, in order."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING

from easyremote.testing.sim_transfers import Incoming
from easyremote.wire.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from easyremote.testing.sim_client import SimClient


class Pipeline:
    """A call's events in their order: one whose payload must be fetched holds up those behind it, as in the real connection.

    `arrive(event, data)` gets each, with what was fetched for it: a payload in its `field`.
    """

    def __init__(
        self, client: SimClient, call_id: bytes, field: str, arrive: Callable[[pb.Event, bytes | None], None]
    ) -> None:
        self._client = client
        self._id = call_id
        self._field = field
        self._arrive = arrive
        self._events: deque[pb.Event] = deque()
        self._fetching: Incoming | None = None

    def deliver(self, event: pb.Event) -> None:
        self._events.append(event)
        if self._fetching is None:
            self._go_on()

    def stop(self) -> None:
        """Nothing is waited for any more."""
        self._events.clear()
        if self._fetching is not None:
            self._client.transfers.give_up(self._fetching)
            self._fetching = None

    def _go_on(self) -> None:
        while self._events and self._fetching is None:
            event = self._events[0]
            payload = getattr(event, self._field)
            if payload.HasField("blob"):
                self._fetching = self._client.transfers.fetch(self._id, payload, self._fetched)
            else:
                self._arrive(self._events.popleft(), None)

    def _fetched(self, data: bytes | None) -> None:
        self._fetching = None
        if data is None:
            lost = self._events[0]
            self._events.clear()
            self._client.core.again(self._id, self._client.now, lost.attempt, lost.seq)
            self._client.flush()
            return
        self._arrive(self._events.popleft(), data)
        self._go_on()
