"""What kinds of events a journal tells apart."""

from __future__ import annotations

from enum import IntEnum

from easyremote.wire.v1 import gateway_pb2 as pb


class Kind(IntEnum):
    NOTE = 0  # that it has started, and the like
    OUTPUT = 1
    DISPLAY = 2
    PROGRESS = 3
    VALUES = 4  # items, or one item
    END = 5
    TAIL = 6  # the newest lines of what is printed beyond the call's limit


_KINDS = {
    "output": Kind.OUTPUT,
    "display": Kind.DISPLAY,
    "progress": Kind.PROGRESS,
    "item": Kind.VALUES,
    "items": Kind.VALUES,
    "failure": Kind.VALUES,
    "returned": Kind.VALUES,
    "result": Kind.END,
    "error": Kind.END,
}

DROPPABLE = (Kind.OUTPUT, Kind.DISPLAY, Kind.TAIL)
"""Where there is too much of them, the oldest go."""

REPLACING = (Kind.PROGRESS, Kind.TAIL)
"""Of several that follow each other the newest is kept."""

VALUES = (Kind.VALUES, Kind.END)
"""What no reader may miss."""


def kind_of(event: pb.Event) -> Kind:
    if event.HasField("output") and event.output.HasField("tail"):
        return Kind.TAIL
    return _KINDS.get(event.WhichOneof("body") or "", Kind.NOTE)
