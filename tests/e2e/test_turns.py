"""A peer that sends thousands of frames at once doesn't keep the others waiting until all are handled."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Sequence
from typing import Any

import pytest

from easyremote.security.tokens import TokenStore
from easyremote.transport.connections import Connection
from easyremote.transport.listener import Listener
from easyremote.transport.local_listener import LocalListener
from easyremote.transport.options import END_OF_STREAM
from easyremote.transport.streams import Counter, serialize_batch
from easyremote.transport.turns import TURN_FRAMES, turns
from easyremote.wire.framing import pack
from easyremote.wire.v1 import gateway_pb2 as pb

TURNS = 10
TOKEN = "the token"


class Noting:
    """Stands for the broker: notes whose frames were handled, and how many at once."""

    def __init__(self) -> None:
        self.handled: list[tuple[int, int]] = []
        self.ended: list[int] = []

    def connected(self, conn: int, hello: pb.Hello, now: float, access: Any) -> list[Any]:
        return []

    def received(self, conn: int, frames: Sequence[pb.Frame], now: float) -> list[Any]:
        self.handled.append((conn, len(frames)))
        return []

    def disconnected(self, conn: int, now: float) -> list[Any]:
        self.ended.append(conn)
        return []

    def of(self, conn: int) -> int:
        return sum(count for whose, count in self.handled if whose == conn)

    def position(self, conn: int) -> int:
        return [whose for whose, _ in self.handled].index(conn)


def frames(count: int) -> list[pb.Frame]:
    return [pb.Frame(heartbeat=pb.Heartbeat()) for _ in range(count)]


class Context:
    """What gRPC gives: one batch, then the end."""

    def __init__(self, batch: pb.Batch) -> None:
        self._batches = [batch]

    async def read(self) -> Any:
        return self._batches.pop() if self._batches else END_OF_STREAM


@pytest.fixture
def noting() -> Noting:
    return Noting()


def test_a_small_batch_is_one_turn_and_a_large_one_many() -> None:
    assert [len(turn) for turn in turns(frames(TURN_FRAMES))] == [TURN_FRAMES]
    assert [len(turn) for turn in turns(frames(2 * TURN_FRAMES + 1))] == [TURN_FRAMES, TURN_FRAMES, 1]


def test_over_grpc_another_peer_is_heard_between_the_turns_of_one_that_floods(noting: Noting) -> None:
    async def scene() -> None:
        listener = Listener(noting, TokenStore(None, TOKEN))  # type: ignore[arg-type]
        connection = Connection(lambda: None, lambda: None)
        await asyncio.gather(
            listener._read(1, connection, Context(pb.Batch(frames=frames(TURNS * TURN_FRAMES))), Counter()),
            listener._read(2, connection, Context(pb.Batch(frames=frames(1))), Counter()),
        )
        connection.ended()

    asyncio.run(scene())
    assert noting.position(2) == 1
    assert noting.of(1) == TURNS * TURN_FRAMES
    assert all(count <= TURN_FRAMES for _, count in noting.handled)


class Host:
    """What a local listener stands on."""

    def __init__(self, broker: Noting) -> None:
        self.broker = broker
        self.tokens = TokenStore(None, TOKEN)
        self._made = 0

    def add_connection(self, connection: Any) -> int:
        self._made += 1
        return self._made

    def remove_connection(self, conn: int) -> None: ...
    def perform(self, actions: list[Any]) -> None: ...


async def connected(listener: LocalListener) -> socket.socket:
    """A peer at a socket, which has said its token and its hello."""
    near, far = socket.socketpair()
    near.setblocking(False)
    await asyncio.get_running_loop().connect_accepted_socket(listener._protocol, far)
    hello = pb.Frame(hello=pb.Hello(role=pb.ROLE_CLIENT))
    near.sendall(pack(TOKEN.encode()) + pack(serialize_batch([hello])))
    return near


async def passes(condition: Any) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0.001)


def test_over_a_socket_another_peer_is_heard_between_the_turns_of_one_that_floods(noting: Noting) -> None:
    async def scene() -> None:
        listener = LocalListener(Host(noting))  # type: ignore[arg-type]
        flooding, other = [await connected(listener) for _ in range(2)]
        await passes(lambda: all(peer._conn for peer in listener._peers) and len(listener._peers) == 2)
        flooding.sendall(pack(serialize_batch(frames(TURNS * TURN_FRAMES))))
        other.sendall(pack(serialize_batch(frames(1))))
        await passes(lambda: noting.of(1) == TURNS * TURN_FRAMES and noting.of(2) == 1)
        flooding.close()
        other.close()
        await passes(lambda: len(noting.ended) == 2)

    asyncio.run(scene())
    assert noting.position(2) <= 2
    assert all(count <= TURN_FRAMES for _, count in noting.handled)


def test_what_a_peer_sent_before_it_went_is_handled_all_the_same(noting: Noting) -> None:
    async def scene() -> None:
        listener = LocalListener(Host(noting))  # type: ignore[arg-type]
        peer = await connected(listener)
        peer.sendall(2 * pack(serialize_batch(frames(TURNS * TURN_FRAMES))))
        peer.close()
        await passes(lambda: noting.ended == [1])

    asyncio.run(scene())
    assert noting.of(1) == 2 * TURNS * TURN_FRAMES
