"""An owned gateway (T7, T5): it reads, changes, swaps, replays, drops, and makes things up. All is noticed, and nothing is loaded."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from easyremote import Client, ComputeNode, SealError, Server
from easyremote.core.broker import Broker
from easyremote.errors import ConsentError, EasyRemoteError
from easyremote.transport.listener import Listener
from easyremote.wire.chunks import WireChunk
from easyremote.wire.v1 import gateway_pb2 as pb

pytestmark = pytest.mark.attack

CANARY = "canary-7fb2"
DEADLINE_S = 20.0

Alter = Callable[[pb.Event], Iterable[pb.Event]]


class Owned:
    """What its owner sees, and does with events that nodes send, and with calls that go to them."""

    def __init__(self) -> None:
        self.seen: list[bytes] = []
        self.alter: Alter = lambda event: [event]
        self.alter_submit: Callable[[pb.Submit], None] = lambda submit: None

    def frames(self, frames: Iterable[pb.Frame]) -> Iterator[pb.Frame]:
        for frame in frames:
            self.seen.append(frame.SerializeToString())
            if frame.HasField("event"):
                yield from (pb.Frame(event=event) for event in self.alter(frame.event))
            else:
                if frame.HasField("submit"):
                    self.alter_submit(frame.submit)
                yield frame


@pytest.fixture
def owned(monkeypatch: pytest.MonkeyPatch) -> Owned:
    """The gateway's process is its; nothing is handed over beside it."""
    monkeypatch.setenv("EASYREMOTE_SEAL", "1")
    monkeypatch.setenv("EASYREMOTE_SHARED_MEMORY", "0")
    shell = Owned()
    received, chunk = Broker.received, Listener._queue_chunk

    def hostile(broker: Broker, conn: int, frames: Iterable[pb.Frame], now: float) -> Any:
        return received(broker, conn, list(shell.frames(frames)), now)

    def spying(listener: Listener, session_id: bytes, data: WireChunk) -> None:
        shell.seen.append(bytes(data.data))
        chunk(listener, session_id, data)

    monkeypatch.setattr(Broker, "received", hostile)
    monkeypatch.setattr(Listener, "_queue_chunk", spying)
    return shell


@pytest.fixture
def client(owned: Owned) -> Iterator[Client]:
    with Server(port=0) as server:
        node = ComputeNode(server.address, "n", slots=2)

        @node.register
        def echo(value: Any) -> Any:
            print(f"printed {CANARY}" if value == CANARY else "printed")
            return value

        @node.register
        def fails(text: str) -> None:
            raise ValueError(text)

        @node.register
        def numbers(count: int) -> Iterator[str]:
            for number in range(count):
                yield f"item {number} " + "." * 2000

        with node.serve(), Client(server.address) as made:
            yield made


class _Bomb:
    """Whoever loads it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.path),)


# ---- it reads --------------------------------------------------------------------------------------------------------


def test_it_reads_nothing_of_what_passes(owned: Owned, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    large = CANARY * 50_000
    secret = f"{CANARY} in a closure"

    def shipped(text: str) -> str:
        """A docstring with canary-7fb2 in it."""
        return secret + text

    assert client.call("echo", CANARY) == CANARY
    assert client.call("echo", large) == large
    assert client.call(shipped, "!") == f"{secret}!"
    with pytest.raises(ValueError, match=CANARY):
        client.call("fails", CANARY)
    assert list(client.map("echo", [CANARY] * 300)) == [CANARY] * 300
    ref = client.put(large)
    assert client.call("echo", ref) == large
    kept = client.with_options(keep=True).call("echo", large)
    assert kept.get() == large
    assert f"printed {CANARY}" in capsys.readouterr().out
    everything = b"".join(owned.seen)
    assert len(everything) > 3 * len(large), "what is large has passed as well"
    assert CANARY.encode() not in everything


# ---- it changes what comes back --------------------------------------------------------------------------------------


def _only(body: str, change: Callable[[pb.Event], Iterable[pb.Event]]) -> Alter:
    return lambda event: change(event) if event.WhichOneof("body") == body else [event]


def _flipped(event: pb.Event) -> list[pb.Event]:
    data = bytearray(event.sealed)
    data[-20] ^= 1
    event.sealed = bytes(data)
    return [event]


def test_a_byte_that_is_changed_is_noticed(owned: Owned, client: Client) -> None:
    owned.alter = _only("result", _flipped)
    with pytest.raises(SealError, match="changed on its way") as caught:
        client.call("echo", 1)
    assert caught.value.details["gateway"] == client.address


@pytest.mark.parametrize("at", [0, 5, 140, 150, 161])
def test_a_byte_of_what_an_event_says_of_its_key_is_noticed(owned: Owned, client: Client, at: int) -> None:
    def change(event: pb.Event) -> list[pb.Event]:
        data = bytearray(event.sealed)
        data[at] ^= 1
        event.sealed = bytes(data)
        return [event]

    owned.alter = _only("result", change)
    with pytest.raises(EasyRemoteError) as caught:
        client.call("echo", 1)
    assert caught.value.code in ("seal", "auth")


def test_two_results_that_are_swapped_are_noticed(owned: Owned, client: Client) -> None:
    held: list[pb.Event] = []

    def swap(event: pb.Event) -> list[pb.Event]:
        held.append(event)
        if len(held) < 2:
            return []
        first, second = held
        first.sealed, second.sealed = second.sealed, first.sealed
        return [first, second]

    owned.alter = _only("result", swap)
    calls = [client.submit("echo", f"value {number}" + "." * 2000) for number in range(2)]
    for call in calls:
        with pytest.raises(SealError):
            call.result(DEADLINE_S)


def test_an_old_result_is_noticed(owned: Owned, client: Client) -> None:
    old: list[pb.Event] = []

    def replay(event: pb.Event) -> list[pb.Event]:
        if not old:
            old.append(event)
            return [event]
        event.sealed = old[0].sealed
        return [event]

    owned.alter = _only("result", replay)
    assert client.call("echo", "first") == "first"
    with pytest.raises(SealError):
        client.call("echo", "second")


def test_an_item_that_is_left_out_is_noticed(owned: Owned, client: Client) -> None:
    gone = 0

    def close_the_gap(event: pb.Event) -> list[pb.Event]:
        nonlocal gone
        if event.seq == 2 and not gone:
            gone = 1
            return []
        event.seq -= gone
        return [event]

    owned.alter = close_the_gap
    items: list[str] = []
    with pytest.raises(SealError):
        items.extend(client.stream("numbers", 200))
    assert [item.split(" ")[1] for item in items] == [str(number) for number in range(len(items))]


def test_its_own_result_is_neither_believed_nor_loaded(owned: Owned, client: Client, tmp_path: Path) -> None:
    bomb = pickle.dumps(_Bomb(tmp_path / "loaded"))

    def own(event: pb.Event) -> list[pb.Event]:
        made = pb.Event(call_id=event.call_id, attempt=event.attempt, seq=event.seq)
        made.started.CopyFrom(event.started)
        made.result.data = bomb
        return [made]

    owned.alter = _only("result", own)
    with pytest.raises(SealError, match="the result of a sealed call came in clear"):
        client.call("echo", 1)
    owned.alter = _only("result", lambda event: [_with_clear(event, bomb)])
    assert client.call("echo", 2) == 2
    assert not (tmp_path / "loaded").exists()


def _with_clear(event: pb.Event, bomb: bytes) -> pb.Event:
    """Beside what is sealed, where an old client would look."""
    event.result.data = bomb
    return event


def test_its_own_error_is_text_at_most(owned: Owned, client: Client, tmp_path: Path) -> None:
    bomb = pickle.dumps(_Bomb(tmp_path / "loaded"))

    def error(code: str, traceback: str) -> Alter:
        def change(event: pb.Event) -> list[pb.Event]:
            made = pb.Event(call_id=event.call_id, attempt=event.attempt, seq=event.seq)
            made.error.CopyFrom(pb.ErrorInfo(code=code, message="made up", traceback=traceback))
            made.error.exception.data = bomb
            made.error.earlier.add(code="remote", message="made up", traceback="x").exception.data = bomb
            return [made]

        return _only("result", change)

    owned.alter = error("remote", "Traceback")
    with pytest.raises(SealError):
        client.call("echo", 1)
    owned.alter = error("lost", "")
    with pytest.raises(EasyRemoteError) as caught:
        client.call("echo", 1)
    assert caught.value.code == "lost"
    assert not (tmp_path / "loaded").exists()


def test_a_chunk_of_a_large_result_that_is_changed_is_noticed(
    owned: Owned, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    passed = Listener._queue_chunk

    def change(listener: Listener, session_id: bytes, chunk: WireChunk) -> None:
        if chunk.data.nbytes:
            data = bytearray(chunk.data)
            data[100] ^= 1
            chunk = WireChunk(pb.Chunk(transfer_id=chunk.head.transfer_id, offset=chunk.head.offset), memoryview(data))
        passed(listener, session_id, chunk)

    monkeypatch.setattr(Listener, "_queue_chunk", change)
    with pytest.raises(EasyRemoteError) as caught:
        client.call("echo", b"x" * 1_000_000)
    assert caught.value.code == "seal"


# ---- it changes what goes there --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        lambda submit: setattr(submit, "function", "fails"),
        lambda submit: submit.options.__setattr__("keep", True),
        lambda submit: submit.seal.__setattr__("box", submit.seal.box[:-1] + bytes([submit.seal.box[-1] ^ 1])),
        lambda submit: submit.seal.__setattr__("mac", b""),
        lambda submit: submit.seal.__setattr__("statement", submit.seal.statement + b"\x48\x01"),
    ],
    ids=["another function", "keep", "a byte", "no mac", "another statement"],
)
def test_a_call_that_was_changed_does_not_run(
    owned: Owned, client: Client, change: Callable[[pb.Submit], None]
) -> None:
    client.call("echo", 1)
    owned.alter_submit = change
    with pytest.raises((ConsentError, SealError)):
        client.call("echo", 1)


def test_arguments_of_its_own_do_not_reach_the_function(owned: Owned, client: Client, tmp_path: Path) -> None:
    bomb = pickle.dumps(_Bomb(tmp_path / "loaded"))
    client.call("echo", 1)

    def put_in(submit: pb.Submit) -> None:
        submit.arguments.data = bomb

    owned.alter_submit = put_in
    assert client.call("echo", 2) == 2
    assert not (tmp_path / "loaded").exists()
