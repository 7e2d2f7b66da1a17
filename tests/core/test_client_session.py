"""A client's side, on its own: frames in, effects and frames out."""

from typing import Any

import pytest

from easyremote.core.client_session import (
    ACK_BYTES,
    ACK_ITEMS,
    MAX_OPEN,
    ClientSession,
    Connected,
    Deliver,
    GatewayLeaves,
    Judged,
    Rejected,
    SendBlob,
)
from easyremote.errors import LocalProtocolError
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import new_id

NOW = 500.0


class Desk:
    """One session whose gateway is the test."""

    def __init__(self, core: ClientSession | None = None) -> None:
        self.core = core or ClientSession(new_id(), pb.Runtime())
        self.now = NOW
        self.gateway_id = new_id()
        self.incarnation = 1
        self.effects: list[Any] = []
        if core is None:
            self.welcome()
            self.sent()

    def welcome(self) -> None:
        self.core.hello()
        self.get(
            pb.Frame(
                welcome=pb.Welcome(
                    gateway_id=self.gateway_id, incarnation=self.incarnation, grace_s=5.0, heartbeat_s=2.0
                )
            )
        )

    def reconnect(self) -> None:
        self.core.disconnected(self.now)
        self.welcome()

    def get(self, *frames: pb.Frame) -> None:
        self.effects += self.core.received([pb.Frame.FromString(f.SerializeToString()) for f in frames], self.now)
        self.core.check()

    def event(self, call_id: bytes, seq: int, attempt: int = 1, body: str = "item", **started: Any) -> None:
        event = pb.Event(call_id=call_id, attempt=attempt, seq=seq)
        if body:
            getattr(event, body).SetInParent()
        if started:
            event.started.CopyFrom(pb.Started(**started))
        self.get(pb.Frame(event=event))

    def submit(self, **options: Any) -> bytes:
        submit = pb.Submit(call_id=new_id(), function="f", options=pb.Options(**options))
        self.core.submit(submit, self.now)
        self.core.check()
        return submit.call_id

    def take(self, call_id: bytes, seq: int, size: int = 0, attempt: int = 1) -> None:
        self.core.taken(call_id, attempt, seq, size)
        self.core.check()

    def sent(self) -> list[pb.Frame]:
        frames = list(self.core.outbox)
        self.core.outbox.clear()
        return frames

    def submits(self) -> list[pb.Submit]:
        return [frame.submit for frame in self.sent() if frame.HasField("submit")]

    def acks(self) -> list[tuple[int, int, bool]]:
        self.core.flush_acks()
        acks = [item for frame in self.sent() if frame.HasField("ack") for item in frame.ack.calls]
        return [(item.attempt, item.seq, item.ended) for item in acks]

    def delivered(self) -> list[int]:
        found = [effect.event.seq for effect in self.effects if isinstance(effect, Deliver)]
        self.effects.clear()
        return found


def test_two_open_calls_never_have_the_same_id() -> None:
    desk = Desk()
    submit = pb.Submit(call_id=new_id(), function="f")
    desk.core.submit(submit, desk.now)
    with pytest.raises(LocalProtocolError):
        desk.core.submit(submit, desk.now)


def test_events_are_delivered_once_and_in_order() -> None:
    desk = Desk()
    call_id = desk.submit()
    for seq in (1, 2, 2, 1, 4, 3, 3, 4):
        desk.event(call_id, seq)
    assert desk.delivered() == [1, 2, 3, 4]


def test_a_newer_attempt_begins_anew_and_an_older_one_is_ignored() -> None:
    desk = Desk()
    call_id = desk.submit()
    desk.event(call_id, 1, body="output")
    desk.event(call_id, 1, attempt=3, body="output")
    desk.event(call_id, 2, attempt=1, body="output")
    assert desk.delivered() == [1, 1]
    desk.event(call_id, 2, attempt=3, body="output")
    assert desk.delivered() == [2]


def test_taken_events_are_acknowledged_in_bundles() -> None:
    desk = Desk()
    call_id = desk.submit()
    for seq in range(1, ACK_ITEMS + 3):
        desk.event(call_id, seq)
    desk.take(call_id, ACK_ITEMS - 1)
    assert not desk.core.has_acks
    desk.take(call_id, ACK_ITEMS)
    assert desk.core.has_acks
    assert desk.acks() == [(1, ACK_ITEMS, False)]
    assert desk.acks() == []
    desk.take(call_id, ACK_ITEMS + 1)
    assert not desk.core.has_acks


def test_taken_bytes_are_acknowledged_before_the_producers_window_is_full() -> None:
    desk = Desk()
    call_id = desk.submit()
    desk.event(call_id, 1), desk.event(call_id, 2)
    desk.take(call_id, 1, ACK_BYTES // 2)
    assert desk.acks() == []
    desk.take(call_id, 2, ACK_BYTES // 2)
    assert desk.acks() == [(1, 2, False)]
    desk.event(call_id, 3)
    desk.take(call_id, 3, ACK_BYTES // 2)
    assert desk.acks() == []


def test_the_end_is_acknowledged_when_everything_is_taken_and_the_call_is_closed() -> None:
    desk = Desk()
    call_id = desk.submit()
    desk.event(call_id, 1), desk.event(call_id, 2, body="result")
    desk.take(call_id, 1)
    assert (desk.acks(), desk.core.open_count) == ([], 1)
    desk.take(call_id, 2)
    assert (desk.acks(), desk.core.open_count) == ([(1, 2, True)], 0)
    desk.take(call_id, 2)
    desk.event(call_id, 3)
    assert desk.acks() == []


def test_what_was_taken_of_another_attempt_counts_for_nothing() -> None:
    desk = Desk()
    call_id = desk.submit()
    desk.event(call_id, 1, attempt=2, body="result")
    desk.take(call_id, 1, attempt=1)
    assert desk.core.open_count == 1


def test_an_event_that_comes_again_after_it_was_taken_is_acknowledged_again_at_once() -> None:
    """Regression: the acknowledgement was lost, and the producer waited for it for ever."""
    desk = Desk()
    call_id = desk.submit()
    desk.event(call_id, 1), desk.event(call_id, 2)
    desk.take(call_id, 1)
    desk.sent()
    desk.event(call_id, 2)
    assert [frame for frame in desk.sent() if frame.HasField("ack")] == [], "it isn't taken yet"
    desk.event(call_id, 1)
    (ack,) = [frame.ack for frame in desk.sent() if frame.HasField("ack")]
    assert ack.calls[0].seq == 1
    desk.take(call_id, 2)
    desk.event(call_id, 3)
    assert desk.sent() == [], "what isn't repeated waits for more"


def test_after_a_reconnect_every_sent_call_is_repeated_with_what_is_known_of_it() -> None:
    desk = Desk()
    quiet, stream = desk.submit(), desk.submit()
    for seq in (1, 2, 3):
        desk.event(stream, seq)
    desk.take(stream, 2)
    desk.sent()
    desk.reconnect()
    frames = desk.sent()
    first, second = [frame.submit for frame in frames if frame.HasField("submit")]
    assert frames[-1].HasField("synced")
    assert (first.call_id, first.again, first.seen_attempt) == (quiet, False, 0)
    assert (second.seen_attempt, second.seen_seq, second.taken_seq, second.seen_item) == (1, 3, 2, True)
    assert not second.seen_end


def test_a_call_that_another_gateway_had_says_so_for_good() -> None:
    desk = Desk()
    old = desk.submit()
    desk.gateway_id = new_id()
    desk.reconnect()
    new = desk.submit()
    desk.reconnect()
    by_id = {submit.call_id: submit for submit in desk.submits()}
    assert (by_id[old].again, by_id[old].attempt_floor > 0) == (True, True)
    assert (by_id[new].again, by_id[new].attempt_floor) == (False, 0)
    desk.now += 60
    desk.incarnation += 1  # the same gateway, which has forgotten this client meanwhile
    desk.reconnect()
    assert all(submit.again for submit in desk.submits())


def test_calls_say_for_a_while_that_the_gateway_is_new() -> None:
    desk = Desk()
    desk.submit()
    desk.reconnect()
    desk.submit()
    assert not any(submit.nodes_may_return for submit in desk.submits())
    desk.core.cancel(next(iter(desk.core._open)), "one is enough")
    desk.gateway_id = new_id()
    desk.reconnect()
    desk.submit()
    assert [submit.nodes_may_return for submit in desk.submits()] == [True, True]
    desk.now += 6
    desk.submit()
    assert [submit.nodes_may_return for submit in desk.submits()] == [False]


def test_that_an_item_came_is_told_whatever_came_after_it() -> None:
    desk = Desk()
    call_id = desk.submit()
    desk.event(call_id, 1, body="item"), desk.event(call_id, 2, body="output")
    desk.sent()
    desk.reconnect()
    assert desk.submits()[0].seen_item


def test_an_end_that_isnt_taken_is_told_when_the_call_is_repeated() -> None:
    desk = Desk()
    call_id = desk.submit()
    desk.event(call_id, 1), desk.event(call_id, 2, body="result")
    desk.sent()
    desk.reconnect()
    assert desk.submits()[0].seen_end


def test_what_the_user_submitted_is_not_changed_by_repeating_it() -> None:
    desk = Desk()
    submit = pb.Submit(call_id=new_id(), function="f", options=pb.Options(timeout_s=10))
    desk.core.submit(submit, desk.now)
    before = submit.SerializeToString()
    desk.now += 3
    desk.reconnect()
    assert submit.SerializeToString() == before


def test_the_time_left_is_told_anew_each_time_and_never_looks_like_no_deadline() -> None:
    desk = Desk()
    desk.submit(timeout_s=10)
    assert desk.submits()[0].options.timeout_s == 10
    for after_s, left_s in ((4, 6), (6, -1e-9), (5, -5)):
        desk.now += after_s
        desk.reconnect()
        assert desk.submits()[0].options.timeout_s == pytest.approx(left_s)


def test_a_call_whose_time_ran_out_before_it_was_sent_ends_here() -> None:
    """Regression: it was sent with a thousandth of a second left, and began."""
    desk = Desk()
    desk.core.disconnected(desk.now)
    late = desk.submit(timeout_s=2)
    desk.now += 3
    desk.welcome()
    assert desk.submits() == []
    (judged,) = [effect for effect in desk.effects if isinstance(effect, Judged)]
    assert (judged.call_id, judged.error.code, judged.error.may_have_run) == (late, "deadline", False)
    assert desk.core.open_count == 0


def test_at_most_so_many_calls_are_with_the_gateway_and_the_rest_follow_in_order() -> None:
    desk = Desk()
    calls = [desk.submit() for _ in range(MAX_OPEN + 3)]
    assert [submit.call_id for submit in desk.submits()] == calls[:MAX_OPEN]
    desk.core.cancel(calls[MAX_OPEN], "changed my mind")
    assert desk.sent() == []
    desk.event(calls[0], 1, body="result")
    desk.take(calls[0], 1)
    assert [submit.call_id for submit in desk.submits()] == [calls[MAX_OPEN + 1]]


def test_cancelling_tells_the_gateway_what_it_knows_and_nothing_else() -> None:
    desk = Desk()
    sent = desk.submit()
    desk.sent()
    desk.core.cancel(sent, "enough")
    (frame,) = desk.sent()
    assert (frame.cancel.call_id, frame.cancel.reason) == (sent, "enough")
    desk.core.cancel(sent, "again")
    cut_off = desk.submit()
    desk.sent()
    desk.core.disconnected(desk.now)
    desk.core.cancel(cut_off, "the gateway learns it from what isn't repeated")
    unsent = desk.submit()
    desk.core.cancel(unsent, "never sent")
    desk.welcome()
    assert [frame.WhichOneof("body") for frame in desk.sent()] == ["synced"]
    desk.event(sent, 1)
    assert desk.delivered() == []


def test_a_verdict_ends_a_call_and_is_acknowledged() -> None:
    desk = Desk()
    call_id = desk.submit()
    verdict = pb.Frame(verdict=pb.Verdict(call_id=call_id, error=pb.ErrorInfo(code="no_node")))
    desk.get(verdict, verdict)
    (judged,) = [effect for effect in desk.effects if isinstance(effect, Judged)]
    assert judged.error.code == "no_node"
    assert [ended for _, _, ended in desk.acks()] == [True]


def test_a_verdict_ends_a_call_whose_payload_is_still_on_its_way() -> None:
    """What was delivered may be waiting for bytes that will never come."""
    desk = Desk()
    call_id = desk.submit()
    desk.event(call_id, 1, body="result")
    desk.get(pb.Frame(verdict=pb.Verdict(call_id=call_id, error=pb.ErrorInfo(code="lost"))))
    assert isinstance(desk.effects[-1], Judged)


def test_after_its_end_was_delivered_no_other_attempt_is_wanted() -> None:
    desk = Desk()
    call_id = desk.submit()
    desk.event(call_id, 1, body="item"), desk.event(call_id, 2, body="result")
    desk.event(call_id, 1, attempt=2)
    assert desk.delivered() == [1, 2]
    desk.take(call_id, 2)
    assert desk.acks() == [(1, 2, True)]


def test_asking_again_for_a_lost_payload_repeats_from_there() -> None:
    """Regression: it repeated everything that wasn't taken, so that waiting items came twice."""
    desk = Desk()
    call_id = desk.submit()
    for seq in (1, 2, 3):
        desk.event(call_id, seq)
    desk.event(call_id, 4, body="result")
    desk.take(call_id, 1)
    desk.sent()
    desk.core.again(call_id, desk.now, attempt=1, seq=3)
    (submit,) = desk.submits()
    assert (submit.seen_seq, submit.taken_seq, submit.seen_end) == (2, 1, False)
    desk.delivered()
    for seq in (2, 3, 4):
        desk.event(call_id, seq, body="result" if seq == 4 else "item")
    assert desk.delivered() == [3, 4]
    desk.core.again(call_id, desk.now, attempt=9, seq=3)
    desk.core.again(new_id(), desk.now)
    assert desk.submits() == []
    desk.core.again(call_id, desk.now)
    assert desk.submits()[0].seen_seq == 1, "everything that isn't taken"
    desk.core.disconnected(desk.now)
    desk.core.again(call_id, desk.now)
    assert desk.submits() == []


def test_asking_again_tells_the_time_that_is_left_then() -> None:
    desk = Desk()
    call_id = desk.submit(timeout_s=10)
    desk.event(call_id, 1, body="result")
    desk.sent()
    desk.now += 4
    desk.core.again(call_id, desk.now, attempt=1, seq=1)
    assert desk.submits()[0].options.timeout_s == 6


def test_the_announcement_of_an_only_run_is_acknowledged_at_once() -> None:
    desk = Desk()
    call_id = desk.submit(retries_set=True)
    desk.sent()
    desk.event(call_id, 1, body="", waits=True)
    (frame,) = desk.sent()
    assert [(item.attempt, item.seq) for item in frame.ack.calls] == [(1, 1)]
    assert desk.delivered() == [1]
    desk.event(call_id, 1, body="", waits=True)  # the acknowledgement was lost
    assert len(desk.sent()) == 1


def test_acknowledgements_are_not_kept_for_another_connection() -> None:
    desk = Desk()
    call_id = desk.submit()
    desk.event(call_id, 1, body="result")
    desk.take(call_id, 1)
    other = desk.submit()
    desk.event(other, 1, body="result")
    desk.core.disconnected(desk.now)
    desk.take(other, 1)
    assert desk.acks() == []
    desk.core.disconnected(desk.now)
    desk.welcome()
    assert desk.acks() == []
    assert desk.core.open_count == 0


def test_goodbye_takes_acknowledgements_along() -> None:
    desk = Desk()
    call_id = desk.submit()
    desk.event(call_id, 1, body="result")
    desk.take(call_id, 1)
    desk.sent()
    desk.core.goodbye()
    assert [frame.WhichOneof("body") for frame in desk.sent()] == ["ack", "goodbye"]


def test_what_the_gateway_says_is_passed_on() -> None:
    desk = Desk()
    assert isinstance(desk.effects[0], Connected)
    desk.get(
        pb.Frame(refused=pb.Refused(code="overloaded")),
        pb.Frame(fetch=pb.Fetch(transfer_id=b"t")),
        pb.Frame(goodbye=pb.Goodbye(reason="bye")),
        pb.Frame(heartbeat=pb.Heartbeat()),
        pb.Frame(answer=pb.Answer(query_id=9)),
        pb.Frame(),
    )
    assert [type(effect) for effect in desk.effects[-3:]] == [Rejected, SendBlob, GatewayLeaves]


def test_while_it_is_not_connected_nothing_is_sent() -> None:
    desk = Desk()
    desk.core.disconnected(desk.now)
    desk.submit()
    desk.core.heartbeat()
    desk.core.fetch(pb.Fetch())
    desk.core.query(pb.Query(query_id=3))
    desk.core.goodbye()
    desk.core.flush_acks()
    assert desk.sent() == []
    desk.welcome()
    assert [frame.WhichOneof("body") for frame in desk.sent()] == ["synced", "query", "submit"]
    desk.core.heartbeat()
    desk.core.fetch(pb.Fetch())
    desk.core.query(pb.Query(query_id=4))
    assert [frame.WhichOneof("body") for frame in desk.sent()] == ["heartbeat", "fetch", "query"]


def keeper(meetings: int) -> Desk:
    """A client that outlives its process, before it is connected again."""
    return Desk(ClientSession(new_id(), pb.Runtime(), meetings, allows_itself=True))


def test_calls_of_an_earlier_process_are_taken_up_where_they_were() -> None:
    desk = keeper(meetings=3)
    first, second = pb.Submit(call_id=new_id(), function="f"), pb.Submit(call_id=new_id(), function="f")
    desk.core.restore(first, 1, NOW, attempt=2001, seq=5, has_item=True)
    desk.core.restore(second, 3, NOW)
    desk.welcome()
    one, two = desk.submits()
    assert (one.again, one.nodes_may_return) == (True, True)
    assert (one.seen_attempt, one.seen_seq, one.taken_seq, one.seen_item) == (2001, 5, 5, True)
    assert (one.attempt_floor, two.attempt_floor) == (6000, 2000)
    assert (two.again, two.seen_attempt) == (True, 0)
    desk.event(first.call_id, 5, attempt=2001)
    desk.event(first.call_id, 6, attempt=2001)
    assert desk.delivered() == [6]


def test_what_is_submitted_beside_them_is_new() -> None:
    desk = keeper(meetings=2)
    desk.core.submit(pb.Submit(call_id=new_id(), function="f"), NOW)
    desk.welcome()
    (submit,) = desk.submits()
    assert (submit.again, submit.attempt_floor) == (False, 0)
    assert submit.nodes_may_return, "the gateway is new, and its nodes may not all be back"


def test_a_client_that_has_to_remember_says_itself_when_a_call_may_begin() -> None:
    desk = keeper(meetings=0)
    desk.welcome()
    call_id = desk.submit(retries_set=True)
    desk.sent()
    desk.event(call_id, 1, body="", waits=True)
    assert desk.delivered() == [1]
    assert desk.acks() == [], "it hasn't noted it yet"
    desk.core.allow(call_id, 2)
    assert desk.acks() == []
    desk.core.allow(call_id, 1)
    assert desk.acks() == [(1, 1, False)]
    desk.event(call_id, 1, attempt=2, body="", waits=True)
    (judged,) = [effect for effect in desk.effects if isinstance(effect, Judged)]
    assert judged.error.code == "lost" and judged.error.may_have_run


def test_a_call_that_was_allowed_to_begin_once_is_not_allowed_again_by_the_next_process() -> None:
    desk = keeper(meetings=1)
    submit = pb.Submit(call_id=new_id(), function="f")
    desk.core.restore(submit, 1, NOW, attempt=1, seq=1, was_allowed=True)
    desk.welcome()
    (sent,) = desk.submits()
    assert sent.options.retries_set and sent.options.retries == 0
    desk.event(submit.call_id, 1, attempt=2001, body="", waits=True)
    assert isinstance(desk.effects[-1], Judged)
