"""A node's side, on its own: frames in, effects and frames out."""

from typing import Any

import pytest

from easyremote.config import WindowSettings
from easyremote.core.node_session import (
    STARTED_AFTER_S,
    Attempt,
    GatewayLeaves,
    Joined,
    NodeSession,
    Rejected,
    Release,
    SendBlob,
    Start,
    Stop,
    WindowOpened,
)
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import event_frames, new_id, spec

NOW = 500.0


class Desk:
    """One session whose gateway is the test."""

    def __init__(self, slots: int = 1, **window: int) -> None:
        state = pb.NodeState(node_id="n", slots=slots)
        self.core = NodeSession(new_id(), pb.Runtime(), state, WindowSettings(**window))
        self.core.offer([spec("f")])
        self.now = NOW
        self.effects: list[Any] = []
        self.welcome()

    def welcome(self) -> pb.Hello:
        hello = self.core.hello().hello
        self.get(pb.Frame(welcome=pb.Welcome(gateway_id=new_id())))
        return hello

    def get(self, *frames: pb.Frame) -> None:
        self.did(self.core.received([pb.Frame.FromString(f.SerializeToString()) for f in frames], self.now))

    def submit(self, number: int = 1, call_id: bytes | None = None, **options: Any) -> bytes:
        call_id = call_id or new_id()
        if "retries" in options:
            options["retries_set"] = True
        submit = pb.Submit(call_id=call_id, function="f", attempt=number, options=pb.Options(**options))
        self.get(pb.Frame(submit=submit))
        return call_id

    def ack(self, attempt: Attempt, seq: int) -> None:
        item = pb.Acknowledged(call_id=attempt.call_id, attempt=attempt.number, seq=seq)
        self.get(pb.Frame(ack=pb.Ack(calls=[item])))

    def cancel(self, attempt: Attempt) -> None:
        self.get(pb.Frame(cancel=pb.Cancel(call_id=attempt.call_id, attempt=attempt.number, reason="enough")))

    def forget(self, attempt: Attempt) -> None:
        self.get(pb.Frame(forget=pb.Forget(call_id=attempt.call_id, attempt=attempt.number)))

    def emit(self, attempt: Attempt, event: pb.Event, size: int = 0) -> None:
        self.did(self.core.emit(attempt, event, size, self.now))

    def item(self, attempt: Attempt, size: int = 0) -> None:
        self.emit(attempt, pb.Event(item=pb.Payload()), size)

    def end(self, attempt: Attempt) -> None:
        self.emit(attempt, pb.Event(result=pb.Payload()))

    def tick(self, after_s: float) -> None:
        self.now += after_s
        self.did(self.core.tick(self.now))

    def did(self, effects: list[Any]) -> None:
        self.core.check()
        self.effects += effects

    def took(self, kind: type) -> list[Any]:
        found = [effect for effect in self.effects if isinstance(effect, kind)]
        self.effects = [effect for effect in self.effects if not isinstance(effect, kind)]
        return found

    def started(self) -> list[Attempt]:
        return [effect.attempt for effect in self.took(Start)]

    def start_one(self, **options: Any) -> Attempt:
        self.submit(**options)
        (attempt,) = self.started()
        return attempt

    def sent(self) -> list[pb.Frame]:
        frames = list(self.core.outbox)
        self.core.outbox.clear()
        return frames

    def events(self) -> list[pb.Event]:
        return event_frames(self.sent())


def test_no_more_run_than_there_are_slots_and_the_next_starts_when_one_ends() -> None:
    desk = Desk(slots=2)
    calls = [desk.submit() for _ in range(4)]
    first, second = desk.started()
    assert [first.call_id, second.call_id] == calls[:2]
    desk.end(second)
    assert [attempt.call_id for attempt in desk.started()] == calls[2:3]
    assert not desk.core.is_idle


def test_an_attempt_that_is_known_is_not_started_twice_but_its_next_number_is_another_one() -> None:
    desk = Desk(slots=3)
    call_id = desk.submit()
    desk.submit(call_id=call_id)
    desk.submit(call_id=call_id, number=2)
    assert [attempt.number for attempt in desk.started()] == [1, 2]


def test_events_are_numbered_and_the_first_says_where_it_runs() -> None:
    desk = Desk()
    attempt = desk.start_one()
    attempt.started.version = "7"
    desk.item(attempt)
    desk.now += 2.5
    desk.end(attempt)
    first, last = desk.events()
    assert (first.seq, first.started.node_id, first.started.version) == (1, "n", "7")
    assert (last.seq, last.run_s, last.HasField("started")) == (2, 2.5, False)
    assert {event.call_id for event in (first, last)} == {attempt.call_id}


def test_a_run_that_says_nothing_for_a_moment_says_that_it_started_once() -> None:
    desk = Desk()
    desk.start_one()
    desk.tick(STARTED_AFTER_S / 2)
    assert desk.events() == []
    desk.tick(STARTED_AFTER_S)
    desk.tick(STARTED_AFTER_S)
    (event,) = desk.events()
    assert event.started.node_id == "n"
    assert event.WhichOneof("body") is None


def test_a_producer_waits_while_its_window_is_full_of_events() -> None:
    desk = Desk(max_events=3)
    attempt = desk.start_one()
    for _ in range(3):
        assert desk.core.window_is_open(attempt)
        desk.item(attempt)
    assert not desk.core.window_is_open(attempt)
    desk.ack(attempt, 1)
    assert [effect.attempt for effect in desk.took(WindowOpened)] == [attempt]
    desk.ack(attempt, 2)
    assert desk.took(WindowOpened) == [], "it was open already"


def test_a_producer_waits_while_its_window_is_full_of_bytes() -> None:
    desk = Desk(max_bytes=100)
    attempt = desk.start_one()
    desk.item(attempt, size=60)
    desk.item(attempt, size=60)
    assert not desk.core.window_is_open(attempt)
    desk.ack(attempt, 2)
    assert desk.core.window_is_open(attempt)


def test_a_window_that_is_still_full_is_not_opened_by_an_acknowledgement() -> None:
    desk = Desk(max_bytes=100)
    attempt = desk.start_one()
    for size in (1, 150, 1):
        desk.item(attempt, size=size)
    desk.ack(attempt, 1)
    assert desk.took(WindowOpened) == []
    desk.ack(attempt, 2)
    assert len(desk.took(WindowOpened)) == 1


def test_one_event_larger_than_the_window_is_let_through() -> None:
    desk = Desk(max_bytes=100)
    attempt = desk.start_one()
    assert desk.core.window_is_open(attempt)
    desk.item(attempt, size=10_000)
    desk.ack(attempt, 1)
    assert desk.core.window_is_open(attempt)


def test_what_is_not_acknowledged_is_sent_again_to_whoever_welcomes_it() -> None:
    desk = Desk()
    attempt = desk.start_one()
    for _ in range(3):
        desk.item(attempt)
    desk.ack(attempt, 1)
    desk.core.disconnected(desk.now)
    desk.item(attempt)
    assert desk.sent() == []
    hello = desk.welcome()
    (state,) = hello.node.attempts
    assert (state.call_id, state.attempt) == (attempt.call_id, 1)
    assert [event.seq for event in desk.events()] == [2, 3, 4]


def test_resume_sends_what_the_client_lacks_and_takes_what_it_took() -> None:
    desk = Desk()
    attempt = desk.start_one()
    for _ in range(4):
        desk.item(attempt)
    desk.sent()
    desk.get(pb.Frame(resume=pb.Resume(call_id=attempt.call_id, attempt=1, after_seq=2, taken_seq=1)))
    assert [event.seq for event in desk.events()] == [3, 4]
    assert [kept.seq for kept in attempt.kept] == [2, 3, 4]


def test_an_attempt_is_released_when_its_last_event_is_acknowledged() -> None:
    desk = Desk()
    attempt = desk.start_one()
    desk.item(attempt)
    desk.end(attempt)
    desk.ack(attempt, 1)
    assert desk.core.held_count == 1
    desk.ack(attempt, 2)
    assert desk.core.held_count == 0
    assert [effect.attempt for effect in desk.took(Release)] == [attempt]
    assert desk.core.is_idle


def test_acknowledgements_of_what_is_unknown_or_not_yet_sent_are_harmless() -> None:
    desk = Desk()
    attempt = desk.start_one()
    desk.item(attempt)
    desk.get(pb.Frame(ack=pb.Ack(calls=[pb.Acknowledged(call_id=new_id(), attempt=1, seq=5)])))
    desk.ack(attempt, 99)
    desk.item(attempt)
    assert [kept.seq for kept in attempt.kept] == [2]


def test_after_its_end_nothing_is_emitted() -> None:
    desk = Desk()
    attempt = desk.start_one()
    desk.end(attempt)
    desk.item(attempt)
    desk.end(attempt)
    assert [event.seq for event in desk.events()] == [1]


def test_cancel_stops_a_run_once() -> None:
    desk = Desk()
    attempt = desk.start_one()
    desk.cancel(attempt)
    desk.cancel(attempt)
    assert desk.took(Stop) == [Stop(attempt, "cancelled", "enough")]
    assert not desk.core.is_idle, "it runs until it has stopped"


def test_cancel_of_a_waiting_attempt_ends_it_before_it_starts() -> None:
    desk = Desk()
    running = desk.start_one()
    desk.submit()
    waiting = next(attempt for attempt in desk.core._attempts.values() if attempt is not running)
    desk.cancel(waiting)
    (event,) = desk.events()
    assert event.error.code == "cancelled"
    assert "before it started" in event.error.message
    desk.end(running)
    assert desk.started() == []


def test_a_forgotten_run_is_stopped_and_keeps_its_slot_until_it_has() -> None:
    desk = Desk()
    attempt = desk.start_one()
    desk.submit()
    desk.forget(attempt)
    assert desk.core.held_count == 1
    assert [effect.attempt for effect in desk.took(Stop)] == [attempt]
    assert desk.started() == []
    desk.item(attempt)
    desk.end(attempt)
    assert len(desk.started()) == 1
    assert [event.call_id for event in desk.events() if event.call_id == attempt.call_id] == []


def test_payloads_made_after_an_attempt_was_forgotten_are_released_too() -> None:
    """Regression: the result of a run that ended after it was forgotten stayed for ever."""
    desk = Desk()
    attempt = desk.start_one()
    desk.forget(attempt)
    assert len(desk.took(Release)) == 1
    desk.end(attempt)
    assert [effect.attempt for effect in desk.took(Release)] == [attempt]


def test_an_attempt_past_its_deadline_is_never_started() -> None:
    desk = Desk()
    running = desk.start_one()
    desk.submit(timeout_s=1.0)
    desk.now += 1.5
    desk.end(running)
    assert desk.started() == []
    assert desk.events()[-1].error.code == "deadline"


def test_an_attempt_that_waits_past_its_deadline_says_so_without_waiting_for_a_slot() -> None:
    """Regression: it said so only when the run before it had ended."""
    desk = Desk()
    desk.start_one()
    desk.submit(timeout_s=1.0)
    desk.tick(1.1)
    (event,) = [event for event in desk.events() if event.HasField("error")]
    assert event.error.code == "deadline"


@pytest.mark.parametrize(
    ("options", "words"),
    [({"timeout_s": 1.0}, "timeout ran out"), ({"run_timeout_s": 1.0}, "longer than run_timeout=1 s")],
)
def test_a_run_past_its_time_is_stopped(options: dict[str, float], words: str) -> None:
    desk = Desk()
    attempt = desk.start_one(**options)
    desk.tick(0.9)
    assert desk.took(Stop) == []
    desk.tick(0.2)
    (stop,) = desk.took(Stop)
    assert (stop.attempt, stop.code) == (attempt, "deadline")
    assert words in stop.message


def test_a_call_without_retries_starts_when_its_announcement_is_acknowledged() -> None:
    desk = Desk()
    desk.submit(retries=0)
    assert desk.started() == []
    assert not desk.core.is_idle
    (event,) = desk.events()
    assert (event.seq, event.started.waits, event.started.version) == (1, True, "1")
    (attempt,) = desk.core._attempts.values()
    desk.ack(attempt, 1)
    assert desk.started() == [attempt]
    desk.tick(1.0)
    assert desk.events() == [], "that it started was said already"


def test_an_announced_attempt_holds_no_slot_and_can_be_cancelled_forgotten_or_too_late() -> None:
    for end in ("cancel", "forget", "deadline"):
        desk = Desk()
        desk.submit(retries=0, timeout_s=5)
        (announced,) = desk.core._attempts.values()
        desk.start_one()
        if end == "cancel":
            desk.cancel(announced)
        elif end == "forget":
            desk.forget(announced)
        else:
            desk.tick(6)
        desk.ack(announced, 1)
        assert announced.has_ended
        assert desk.started() == []


def test_an_announcement_is_acknowledged_by_a_resume_too() -> None:
    desk = Desk()
    call_id = desk.submit(retries=0)
    desk.get(pb.Frame(resume=pb.Resume(call_id=call_id, attempt=1, after_seq=0, taken_seq=0)))
    assert desk.started() == []
    desk.get(pb.Frame(resume=pb.Resume(call_id=call_id, attempt=1, after_seq=1, taken_seq=1)))
    assert len(desk.started()) == 1


def test_what_the_gateway_says_is_passed_on() -> None:
    desk = Desk()
    assert len(desk.took(Joined)) == 1
    desk.get(
        pb.Frame(refused=pb.Refused(code="duplicate_node")),
        pb.Frame(fetch=pb.Fetch(transfer_id=b"t")),
        pb.Frame(goodbye=pb.Goodbye(reason="bye")),
        pb.Frame(heartbeat=pb.Heartbeat()),
        pb.Frame(),
    )
    assert [type(effect) for effect in desk.took(object)[-3:]] == [Rejected, SendBlob, GatewayLeaves]


def test_while_it_is_not_connected_nothing_is_sent() -> None:
    desk = Desk()
    desk.core.disconnected(desk.now)
    desk.core.report(pb.Load())
    desk.core.heartbeat()
    desk.core.fetch(pb.Fetch())
    desk.core.goodbye("bye")
    desk.core.offer([spec("g")])
    assert desk.sent() == []
    desk.welcome()
    desk.core.report(pb.Load())
    desk.core.heartbeat()
    desk.core.fetch(pb.Fetch())
    desk.core.goodbye("bye")
    assert [frame.WhichOneof("body") for frame in desk.sent()] == ["load", "heartbeat", "fetch", "goodbye"]
