"""What a call prints, within what its caller asked for: the first part as it is, then the newest lines again and again.

All of it goes to the node besides, which keeps it in a file. So a function that prints without end is slowed neither by the
network nor by a notebook's page, and takes no memory anywhere.
"""

from __future__ import annotations

import time

from easyremote.wire.v1 import gateway_pb2 as pb

TAIL_CHARACTERS = 16 * 1024
TAIL_LINES = 60
"""So many of the newest lines are shown of what is beyond the limit, and at most `TAIL_CHARACTERS` of them."""

TAIL_EVERY_S = 0.2
PIECE_BYTES = 256 * 1024
"""What is only kept goes to the node in pieces of this size."""


class OutputBound:
    """Turns text into the messages that are sent of it. For one thread at a time. `limit`: in characters, 0: none."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._head: list[str] = []
        self._shown = 0
        self._pieces: list[bytes] = []
        self._pieces_bytes = 0
        self._tail = ""
        self._tail_at = 0.0
        self._left_out = 0  # bytes beyond the limit
        self._is_dirty = False

    @property
    def is_over(self) -> bool:
        """Whether more came than is sent as it is."""
        return not self._limit < 1 and self._shown >= self._limit

    def take(self, is_stderr: bool, text: str) -> list[pb.Output]:
        """What is to be sent now that this was printed."""
        if self._limit < 1:
            return [pb.Output(is_stderr=is_stderr, text=text)]
        found: list[pb.Output] = []
        if self._shown < self._limit:
            head, text = self._split(text)
            self._head.append(head)
            self._shown += len(head)
            found.append(pb.Output(is_stderr=is_stderr, text=head))
        if text:
            found += self._beyond(text)
        return found

    def _split(self, text: str) -> tuple[str, str]:
        """Where the limit falls, behind a whole line if there is one."""
        room = self._limit - self._shown
        if len(text) <= room:
            return text, ""
        cut = text.rfind("\n", 0, room) + 1 or room
        self._shown = self._limit - cut  # nothing more is sent as it is, even where the last line would have had room
        return text[:cut], text[cut:]

    def _beyond(self, text: str) -> list[pb.Output]:
        if self._head:
            self._keep("".join(self._head).encode())
            self._head = []
        data = text.encode()
        self._keep(data)
        self._left_out += len(data)
        self._tail = (self._tail + text)[-TAIL_CHARACTERS:]
        self._is_dirty = True
        found = self._whole_pieces() if self._pieces_bytes >= PIECE_BYTES else []
        return found + self.due()

    def _keep(self, data: bytes) -> None:
        self._pieces.append(data)
        self._pieces_bytes += len(data)

    def _whole_pieces(self) -> list[pb.Output]:
        data, self._pieces, self._pieces_bytes = b"".join(self._pieces), [], 0
        starts = range(0, len(data), PIECE_BYTES)
        return [pb.Output(to_file=True, kept=data[start : start + PIECE_BYTES]) for start in starts]

    def due(self) -> list[pb.Output]:
        """The newest lines, if it is time to show them again."""
        if not self._is_dirty or time.monotonic() - self._tail_at < TAIL_EVERY_S:
            return []
        return self.rest()

    def rest(self) -> list[pb.Output]:
        """What is there still, at the end."""
        if not self._is_dirty:
            return []
        self._is_dirty = False
        self._tail_at = time.monotonic()
        text = newest_lines(self._tail)
        left_out = self._left_out - len(text.encode())
        tail = pb.Output(text=text, tail=pb.OutputTail(left_out_bytes=max(left_out, 0)))
        return [*self._whole_pieces(), tail]


def newest_lines(text: str) -> str:
    """The last `TAIL_LINES` of it, each as a terminal would show it: what a carriage return took back is left out."""
    lines = text.split("\n")
    start = max(len(lines) - TAIL_LINES - (not lines[-1]), 0)
    return "\n".join(line.removesuffix("\r").rpartition("\r")[2] for line in lines[start:])
