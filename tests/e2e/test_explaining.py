"""Why a call waits, as its user is told."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Iterator

import pytest

from easyremote import Client, ComputeNode, DeadlineExceeded, NodeGone, Server, UsageError
from easyremote.waiting import WaitingNote
from tests.conftest import wait_until


class Busy:
    """A node whose only slot is taken until it is told otherwise."""

    def __init__(self, node: ComputeNode, client: Client) -> None:
        self._free = threading.Event()
        node.register(self._hold, name="hold")
        node.register(lambda x=None: x, name="f")
        self.call = client.submit("hold")
        wait_until(lambda: self.call.state == "running")

    def _hold(self) -> None:
        self._free.wait(60)

    def free(self) -> None:
        self._free.set()

    def free_in(self, seconds: float) -> None:
        threading.Timer(seconds, self.free).start()


@pytest.fixture
def busy(server: Server, client: Client) -> Iterator[Busy]:
    with ComputeNode(server.address, "node-a", slots=1) as node:
        busy = Busy(node, client)
        yield busy
        busy.free()


@pytest.fixture
def told(client: Client) -> list[WaitingNote]:
    return []


@pytest.fixture
def listening(client: Client, told: list[WaitingNote], busy: Busy, monkeypatch: pytest.MonkeyPatch) -> Client:
    """Its user is told soon, and what they are told is kept; then the node becomes free."""
    monkeypatch.setattr("easyremote.calls.NOTE_AFTER_S", 0.2)

    class Presenter:
        def waiting(self, note: WaitingNote) -> None:
            told.append(note)
            busy.free()

        def output(self, is_stderr: bool, text: str) -> None: ...
        def display(self, *_: object) -> None: ...
        def progress(self, *_: object) -> None: ...

    return client.with_presenter(Presenter)


def test_the_table_of_a_function(busy: Busy, server: Server, client: Client) -> None:
    with ComputeNode(server.address, "node-b") as other:
        other.register(lambda: 1, name="g")
        explanation = client.explain("f")
        assert explanation.verdict == "must wait"
        assert [(node.node_id, node.verdict) for node in explanation.nodes] == [
            ("node-a", "must wait"),
            ("node-b", "can't"),
        ]
        assert "its slot is busy with hold ×1" in explanation.nodes[0].reason
        text = repr(explanation)
        assert text.splitlines()[0] == explanation.headline
        assert "node-b  can't" in text
        assert max(map(len, text.splitlines())) < 130
        assert explanation.to_dict()["nodes"][1]["node_id"] == "node-b"
        assert client.explain("g").verdict == "runs now"
        assert client.explain("g", node="node-a").verdict == "can't"
        assert client.explain(lambda: 1).nodes[0].node_id == "node-b"
        assert "did you mean" in client.explain("gg").headline


def test_the_table_as_html_escapes_what_others_chose(server: Server, client: Client) -> None:
    with ComputeNode(server.address, "<script>alert(1)</script>") as node:
        node.register(lambda: 1, name="<b>f</b>")
        html = client.explain("<b>f</b>", node="<i>")._repr_html_()
    assert "<script>" not in html
    assert "<b>" not in html
    assert "<i>" not in html
    assert "&lt;script&gt;" in html


@pytest.mark.parametrize("options", [{"no_such": 1}, {"priority": "high"}, {"cost_limit": -1}])
def test_options_that_can_t_be(client: Client, options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        client.explain("f", **options)


def test_no_node_at_all(client: Client) -> None:
    explanation = client.explain("f")
    assert (explanation.verdict, explanation.nodes) == ("can't", ())
    assert "no node is connected" in repr(explanation)


def test_who_waits_is_told_why(listening: Client, told: list[WaitingNote]) -> None:
    assert listening.call("f", 3) == 3
    (note,) = told
    assert str(note).startswith("easyremote: 'f' has waited for ")
    assert "node-a: its slot is busy with hold ×1" in str(note)
    assert "<div" in note._repr_html_()


def test_who_awaits_is_told_why(listening: Client, told: list[WaitingNote]) -> None:
    async def main() -> int:
        return await listening.submit("f", 4)

    assert asyncio.run(main()) == 4
    assert len(told) == 1


def test_who_iterates_is_told_why(listening: Client, told: list[WaitingNote]) -> None:
    assert list(listening.stream("f", 5)) == [5]
    assert len(told) == 1


def test_a_map_tells_it_once(listening: Client, told: list[WaitingNote]) -> None:
    assert list(listening.map("f", range(200))) == list(range(200))
    assert len(told) == 1


def test_notes_go_to_standard_error_and_end_there(
    client: Client, busy: Busy, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("easyremote.calls.NOTE_AFTER_S", 0.1)
    call = client.submit("f", 1)
    with pytest.raises(TimeoutError):
        call.result(1.0)
    busy.free()
    assert call.result() == 1
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err.count("has waited for") == 1


@pytest.mark.parametrize("switch", ["option", "environment"])
def test_notes_can_be_switched_off(
    listening: Client, busy: Busy, told: list[WaitingNote], monkeypatch: pytest.MonkeyPatch, switch: str
) -> None:
    if switch == "option":
        listening = listening.with_options(explain_waiting=False)
    else:
        monkeypatch.setenv("EASYREMOTE_EXPLAIN_WAITING", "0")
    call = listening.submit("f", 1)
    with pytest.raises(TimeoutError):
        call.result(0.8)
    busy.free()
    assert call.result() == 1
    assert not told


def test_a_call_that_runs_has_nothing_to_explain(listening: Client, busy: Busy, told: list[WaitingNote]) -> None:
    with pytest.raises(TimeoutError):
        busy.call.result(0.8)
    assert not told


def test_what_no_node_could_ever_take_fails_at_once(busy: Busy, client: Client) -> None:
    began = time.monotonic()
    with pytest.raises(NodeGone) as caught:
        client.with_options(node="elsewhere").call("f")
    assert time.monotonic() - began < 1
    assert "node-a: can't" in caught.value.details["why"]


def test_a_queue_timeout_says_what_was_in_the_way(busy: Busy, client: Client) -> None:
    with pytest.raises(DeadlineExceeded, match="node-a: its slot is busy with hold"):
        client.with_options(queue_timeout=0.3).call("f")
