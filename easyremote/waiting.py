"""Why a call waits, in the client's words, and who is told."""

from __future__ import annotations

import html
import os

from easyremote import foreign
from easyremote.model import Explanation, NodeOutlook
from easyremote.tables import INDENT, MUTED
from easyremote.wire.v1 import gateway_pb2 as pb

NOTE_AFTER_S = 2.0
"""Whoever waits for so long for a call that no node has is told why, once."""

NOTE_WITHIN_S = 5.0
"""The gateway's answer is waited for no longer."""

NOTE_EVERY_S = 60.0
"""Those who wait for calls of one function are told so often at most."""

MAX_NOTED = 256
"""Functions of which it is known when that was."""

_MAX_ROWS = 3
_SWITCH = "EASYREMOTE_EXPLAIN_WAITING"
_VERDICTS = {pb.OUTLOOK_NOW: "runs now", pb.OUTLOOK_LATER: "must wait"}


class WaitingNote:
    """A few lines for whoever waits, as text and as HTML. `explanation`: None while the gateway itself is away."""

    def __init__(self, function: str, waited_s: float, where: str, explanation: Explanation | None) -> None:
        rows = explanation.nodes if explanation is not None else ()
        best = [row for row in rows if row.verdict != "can't"] or list(rows)
        what = explanation.headline if explanation is not None else f"the gateway at {where} is away"
        what = f": {what}".replace(f": '{function}' has to wait", "", 1)
        self.head = foreign.text(f"'{foreign.name(function)}' has waited for {waited_s:.0f} s{what}")
        self.lines = [
            f"{foreign.name(row.node_id)}: {foreign.name(row.reason or row.verdict, 1000)}" for row in best[:_MAX_ROWS]
        ]
        if len(rows) > len(self.lines):
            self.lines.append(f"client.explain({foreign.name(function)!r}) shows all {len(rows)} nodes")

    def __str__(self) -> str:
        return "\n".join([f"easyremote: {self.head}", *(f"  {line}" for line in self.lines)]) + "\n"

    __repr__ = __str__

    def _repr_html_(self) -> str:
        lines = "".join(f"<div>{html.escape(line)}</div>" for line in self.lines)
        return f'<div style="{INDENT};{MUTED};font-size:0.92em">{html.escape(self.head)}{lines}</div>'


def are_notes_wanted() -> bool:
    """Whether the environment leaves them on."""
    return os.environ.get(_SWITCH, "1") != "0"


def explanation_of(record: pb.Explanation) -> Explanation:
    """The gateway's answer as a record for people."""
    return Explanation(
        function=record.function,
        verdict=_verdict(record.outlook),
        headline=record.headline,
        nodes=tuple(_outlook_of(node) for node in record.nodes),
        before=record.before,
        waited_s=record.waited_s,
        expected_s=record.expected_s if record.HasField("expected_s") else None,
    )


def _outlook_of(node: pb.NodeOutlook) -> NodeOutlook:
    expected_s = node.expected_s if node.HasField("expected_s") else None
    return NodeOutlook(node.node_id, _verdict(node.outlook), node.reason, node.remedy, expected_s)


def _verdict(outlook: pb.Outlook) -> str:
    return _VERDICTS.get(outlook, "can't")
