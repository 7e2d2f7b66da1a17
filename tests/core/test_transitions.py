"""The life of a call, as a table: every state with every event."""

import pytest

from easyremote.core.transitions import TABLE, CallEvent, CallState, next_state
from easyremote.errors import LocalProtocolError

EVERY_PAIR = [(state, event) for state in CallState for event in CallEvent]


def name(value: CallState | CallEvent) -> str:
    return value.name


@pytest.mark.parametrize(("state", "event"), EVERY_PAIR, ids=name)
def test_a_pair_follows_the_table_or_is_refused_by_name(state: CallState, event: CallEvent) -> None:
    if (state, event) in TABLE:
        assert next_state(state, event) is TABLE[state, event]
    else:
        with pytest.raises(LocalProtocolError, match=f"{state.value}.*{event.value}"):
            next_state(state, event)


def test_every_state_is_reached_from_a_queued_call_or_is_where_a_call_begins() -> None:
    reached = {CallState.QUEUED, CallState.HELD}  # a call begins in one of them
    while more := {after for (before, _), after in TABLE.items() if before in reached} - reached:
        reached |= more
    assert reached == set(CallState)


def test_from_every_state_a_call_can_end() -> None:
    can_end = {CallState.ENDED}
    while more := {before for (before, _), after in TABLE.items() if after in can_end} - can_end:
        can_end |= more
    assert can_end == set(CallState)


def test_every_event_happens_in_some_state() -> None:
    assert {event for _, event in TABLE} == set(CallEvent)
