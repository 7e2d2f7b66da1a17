"""A message that is lost on its way, while what comes behind it arrives: the connection is made anew, and nothing is missing."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from easyremote import Client, ComputeNode, Server
from easyremote.transport.streams import Counter
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.chaos.wire import Wire, _Pair

_PREFACE = 24  # bytes that an HTTP/2 client begins with
_HEAD = 9
_DATA = 0


class Losing(Wire):
    """Has the next DATA frame towards the gateway belong to a stream that nobody knows, as one bit that turns can have it."""

    def __init__(self, target: str) -> None:
        self.is_to_lose = False
        self.lost = 0
        self._heads: dict[int, bytes] = {}  # by connection: the part of a frame's head that has come
        self._left: dict[int, int] = {}  # bytes until the next head
        super().__init__(target)

    def _pass_on(self, pair: _Pair, source: socket.socket, target: socket.socket) -> bool:
        if source is pair.far:
            return super()._pass_on(pair, source, target)
        data = bytearray(source.recv(65536))
        if not data:
            self._break(pair, reset=False)
            return False
        target.sendall(self._changed(id(pair), data))
        return True

    def _changed(self, pair: int, data: bytearray) -> bytes:
        out, at = bytearray(), 0
        left, head = self._left.get(pair, _PREFACE), self._heads.get(pair, b"")
        while at < len(data):
            if left:
                piece = data[at : at + left]
                out, at, left = out + piece, at + len(piece), left - len(piece)
                continue
            piece = data[at : at + _HEAD - len(head)]
            head, at = head + bytes(piece), at + len(piece)
            if len(head) == _HEAD:
                left = int.from_bytes(head[:3], "big")
                out += self._head(bytearray(head))
                head = b""
        self._left[pair], self._heads[pair] = left, head
        return bytes(out)

    def _head(self, head: bytearray) -> bytearray:
        if self.is_to_lose and head[3] == _DATA:
            self.is_to_lose = False
            self.lost += 1
            head[6] ^= 0x80
        return head


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(port=0) as running:
        yield running


def test_calls_whose_message_was_lost_are_sent_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYREMOTE_LOCAL_SOCKET", "0")
    wire = Losing(server.address)
    try:
        with ComputeNode(server.address, "node", token=server.token) as node:
            node.register(abs)
            with Client(wire.address, token=server.token) as client:
                assert client.call("abs", -1) == 1
                for _ in range(3):
                    wire.is_to_lose = True
                    calls = [client.submit("abs", -i) for i in range(20)]
                    assert [call.result(30) for call in calls] == list(range(20))
        assert wire.lost == 3
    finally:
        wire.close()


def test_a_result_that_was_lost_is_sent_again(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYREMOTE_LOCAL_SOCKET", "0")
    wire = Losing(server.address)
    try:
        with (
            ComputeNode(wire.address, "node", token=server.token, code="any") as node,
            Client(server.address) as client,
        ):
            node.register(abs)
            assert client.call("abs", -1) == 1
            for _ in range(3):
                wire.is_to_lose = True
                assert [call.result(30) for call in [client.submit("abs", -i) for i in range(20)]] == list(range(20))
        assert wire.lost == 3
    finally:
        wire.close()


def test_a_missing_number_is_noticed_and_an_older_peers_batches_have_none() -> None:
    counter, older = Counter(), Counter()
    assert [counter.follows(pb.Batch(number=number)) for number in (1, 2, 4)] == [True, True, False]
    assert all(older.follows(pb.Batch()) for _ in range(3))
