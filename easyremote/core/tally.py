"""What a gateway remembers of calls that have ended: what failed lately, and what each token's calls have cost."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass

from easyremote.core.records import LONGEST_S, MAX_NAME, Call, Node
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_FAILURES = 200
"""Ends that failed are remembered of all tokens together, the newest."""

MAX_MESSAGE = 200
"""Characters of an error's message, of its first line."""

MAX_SPENDERS = 2000
"""Tokens of which it is known what they have spent; more than a gateway has at a time."""

NOT_A_FAILURE = "cancelled"


@dataclass(frozen=True, slots=True)
class Failure:
    """A call that ended with an error. Texts are as peers wrote them, and cut. `whose`: id of the token that made it."""

    at: float
    call_id: bytes
    title: str
    whose: str
    node_id: str
    code: str
    type: str
    message: str


class Tally:
    """Bounded, and lost with the gateway's process."""

    def __init__(self) -> None:
        self.failures: deque[Failure] = deque(maxlen=MAX_FAILURES)
        self.spent: dict[str, float] = {}

    def attempt_ended(self, call: Call, node: Node, event: pb.Event, now: float) -> None:
        """At its node, as that reported."""
        if node.price > 0 and event.run_s > 0:
            if call.whose not in self.spent and len(self.spent) >= MAX_SPENDERS:
                del self.spent[next(iter(self.spent))]
            self.spent[call.whose] = self.spent.get(call.whose, 0.0) + min(event.run_s, LONGEST_S) * node.price
        if event.HasField("error"):
            self.failed(call, event.error, node.node_id, now)

    def failed(self, call: Call, error: pb.ErrorInfo, node_id: str, now: float) -> None:
        """It ended with this error. What its caller stopped is no failure."""
        if error.code == NOT_A_FAILURE or call.is_abandoned:
            return
        message = error.message.split("\n", 1)[0][:MAX_MESSAGE]
        self.failures.appendleft(
            Failure(now, call.call_id, call.title, call.whose, node_id, error.code, error.type[:MAX_NAME], message)
        )
