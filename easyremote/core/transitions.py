"""The life of a call as the gateway sees it, as data.

A pair that the table lacks is a bug or a broken peer, never a silent pass.
"""

from __future__ import annotations

import enum

from easyremote.errors import LocalProtocolError

UNREPEATABLE = frozenset({"item", "items", "failure", "returned"})
"""Events after which an attempt isn't replaced by another one, which would emit them again."""


class CallState(enum.Enum):
    """Where a call is."""

    __hash__ = object.__hash__  # enum's own is Python, and every step of a call looks into the table

    HELD = "held"  # its client says that a node may have it; the node isn't back yet
    QUEUED = "queued"
    ASSIGNED = "assigned"  # sent to a node
    RUNNING = "running"  # the node reported its first event
    BACKING_OFF = "backing off"  # it failed, and waits to be run again
    ENDED = "ended"  # its last event passed here; the client hasn't acknowledged it yet


class CallEvent(enum.Enum):
    """What can happen to it."""

    __hash__ = object.__hash__

    DISPATCHED = "dispatched"
    STARTED = "started"
    ENDED = "ended"
    NODE_LOST = "node lost"  # and it may run again
    CLAIMED = "claimed"  # a node came back with it
    HOLD_EXPIRED = "hold expired"
    RERUN = "rerun"  # its result was lost with its node before the client had it, or it has waited after an error
    RETRIED = "retried"  # it ended with an error after which it is to be run again


TABLE: dict[tuple[CallState, CallEvent], CallState] = {
    (CallState.HELD, CallEvent.CLAIMED): CallState.RUNNING,
    (CallState.HELD, CallEvent.HOLD_EXPIRED): CallState.QUEUED,
    (CallState.HELD, CallEvent.ENDED): CallState.ENDED,
    (CallState.QUEUED, CallEvent.DISPATCHED): CallState.ASSIGNED,
    (CallState.QUEUED, CallEvent.CLAIMED): CallState.RUNNING,  # by a newer attempt than one that was claimed just now
    (CallState.QUEUED, CallEvent.ENDED): CallState.ENDED,
    (CallState.ASSIGNED, CallEvent.STARTED): CallState.RUNNING,
    (CallState.ASSIGNED, CallEvent.ENDED): CallState.ENDED,
    (CallState.ASSIGNED, CallEvent.NODE_LOST): CallState.QUEUED,
    (CallState.RUNNING, CallEvent.STARTED): CallState.RUNNING,
    (CallState.RUNNING, CallEvent.ENDED): CallState.ENDED,
    (CallState.RUNNING, CallEvent.NODE_LOST): CallState.QUEUED,
    (CallState.BACKING_OFF, CallEvent.RERUN): CallState.QUEUED,
    (CallState.BACKING_OFF, CallEvent.ENDED): CallState.ENDED,  # its time ran out
    (CallState.ENDED, CallEvent.RETRIED): CallState.BACKING_OFF,
    (CallState.ENDED, CallEvent.NODE_LOST): CallState.ENDED,
    (CallState.ENDED, CallEvent.RERUN): CallState.QUEUED,
    (CallState.ENDED, CallEvent.STARTED): CallState.ENDED,  # sent again after a reconnect
    (CallState.ENDED, CallEvent.ENDED): CallState.ENDED,  # likewise
}


def next_state(state: CallState, event: CallEvent) -> CallState:
    """The state after `event`. Raises LocalProtocolError for a pair that the table lacks."""
    try:
        return TABLE[state, event]
    except KeyError:
        raise LocalProtocolError(f"a call that is {state.value} can't have the event '{event.value}'") from None
