"""How much one peer may have done before the others get their turn.

A batch of a peer that floods the gateway holds some thousand calls, which take it tens of milliseconds; nobody else would be
heard meanwhile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from easyremote.wire.v1 import gateway_pb2 as pb

TURN_FRAMES = 64
"""Frames of one peer that are handled in one go: about half a millisecond's work."""


def turns(frames: Sequence[pb.Frame]) -> Iterator[Sequence[pb.Frame]]:
    """The frames of a batch, in the pieces that are handled in one go. The loop runs in between."""
    if len(frames) <= TURN_FRAMES:
        yield frames
        return
    for start in range(0, len(frames), TURN_FRAMES):
        yield frames[start : start + TURN_FRAMES]
