"""What an event carries."""

from __future__ import annotations

from easyremote.wire.v1 import gateway_pb2 as pb


def payload_of(event: pb.Event) -> pb.Payload | None:
    """The payload that has to be here before the event is of use."""
    body = event.WhichOneof("body")
    if body == "display":
        return event.display.bundle if event.display.HasField("bundle") else None
    return getattr(event, body) if body in ("item", "result") else None
