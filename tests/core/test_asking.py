"""What a call asks, and the reply to it, under cuts, restarts and duplicates."""

from __future__ import annotations

import pytest

from easyremote.core.node_session import Attempt, Replied
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, NodePeer


def question(ask_id: int = 1) -> pb.Event:
    return pb.Event(asked=pb.Asked(ask_id=ask_id, prompt="? "))


class Conversation:
    """A call that has asked, and whose client has taken the question."""

    def __init__(self) -> None:
        self.bench = Bench()
        self.node: NodePeer = self.bench.node("n")
        self.client: ClientPeer = self.bench.client()
        self.call_id = self.client.submit()
        self.attempt: Attempt = self.node.only_started()
        self.ask()

    def ask(self, ask_id: int = 1) -> None:
        self.node.emit(self.attempt, question(ask_id))
        for event in self.client.events():
            self.client.taken(event)

    def reply(self, ask_id: int = 1, text: str = "yes", settle: bool = True) -> None:
        reply = pb.Reply(call_id=self.call_id, attempt=self.attempt.number, ask_id=ask_id, text=text)
        self.client.core.reply(reply)
        if settle:
            self.bench.settle()

    def replies(self) -> list[str]:
        return [effect.reply.text for effect in self.node.took(Replied)]


def test_a_question_goes_to_the_client_and_the_reply_to_the_node() -> None:
    talk = Conversation()
    talk.reply()
    assert talk.replies() == ["yes"]
    talk.ask(2)
    talk.reply(2, "no")
    assert talk.replies() == ["no"]
    talk.node.result(talk.attempt)
    assert talk.client.bodies() == ["result"]


@pytest.mark.parametrize("who", ["client", "node", "both", "gateway"])
def test_a_reply_that_was_lost_on_its_way_is_given_again_and_only_once(who: str) -> None:
    talk = Conversation()
    talk.reply(settle=False)
    talk.client.core.outbox.clear()  # it is written, and gets nowhere
    if who == "gateway":
        talk.bench.restart()
        talk.node.connect()
        talk.client.connect()
    if who in ("client", "both"):
        talk.client.cut()
    if who in ("node", "both"):
        talk.node.cut()
    for peer in (talk.client, talk.node):
        if not peer.conn:
            peer.connect()
    talk.bench.settle()
    assert talk.replies() == ["yes"]
    talk.client.cut()
    talk.client.connect()
    talk.node.cut()
    talk.node.connect()
    assert talk.replies() == []


def test_a_question_that_was_taken_comes_again_after_a_cut_and_is_not_delivered_twice() -> None:
    talk = Conversation()
    talk.client.cut()
    talk.client.connect()
    talk.node.cut()
    talk.node.connect()
    assert talk.client.events() == []
    talk.reply()
    assert talk.replies() == ["yes"]


def test_a_second_reply_one_to_an_older_question_and_one_of_another_client_are_dropped() -> None:
    talk = Conversation()
    stranger = talk.bench.client()
    stranger.send(pb.Frame(reply=pb.Reply(call_id=talk.call_id, attempt=1, ask_id=1, text="mine")))
    talk.bench.settle()
    assert talk.replies() == []
    talk.reply()
    talk.client.send(pb.Frame(reply=pb.Reply(call_id=talk.call_id, attempt=1, ask_id=1, text="again")))
    talk.bench.settle()
    assert talk.replies() == ["yes"]
    talk.ask(2)
    talk.reply(1, "late")
    talk.client.send(pb.Frame(reply=pb.Reply(call_id=talk.call_id, attempt=7, ask_id=2, text="of no attempt")))
    talk.node.send(pb.Frame(reply=pb.Reply(call_id=talk.call_id, attempt=1, ask_id=2, text="a node's")))
    talk.bench.settle()
    assert talk.replies() == []
    talk.reply(2, "now")
    assert talk.replies() == ["now"]


def test_a_question_ends_with_its_attempt() -> None:
    talk = Conversation()
    talk.node.result(talk.attempt)
    assert talk.attempt.asking is None
    talk.reply()
    talk.node.cut()
    talk.node.connect()
    assert talk.replies() == []


def test_another_attempt_asks_anew_and_the_reply_to_the_first_is_not_taken_for_it() -> None:
    talk = Conversation()
    talk.reply(settle=False)
    talk.client.core.outbox.clear()
    other = talk.bench.node("other")
    talk.node.cut()
    talk.bench.pass_time(talk.bench.settings.grace_s + 1)
    second = other.only_started()
    other.emit(second, question())
    assert talk.client.bodies() == ["asked"]
    assert other.took(Replied) == []
    talk.client.core.reply(pb.Reply(call_id=talk.call_id, attempt=second.number, ask_id=1, text="second"))
    talk.bench.settle()
    assert [effect.reply.text for effect in other.took(Replied)] == ["second"]


def test_a_client_knows_whether_its_gateway_brings_replies() -> None:
    client = Bench().client()
    assert client.core.may_answer
    client.core.received([pb.Frame(welcome=pb.Welcome(gateway_id=b"old"))], 0.0)
    assert not client.core.may_answer
