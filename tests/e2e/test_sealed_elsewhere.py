"""At a gateway that isn't this user's own: who trusts whom, and what happens when a key changes or the gateway hides its nodes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from easyremote import Client, ComputeNode, ConsentError, NoNodeAvailable, Server
from easyremote.core.broker import Broker
from easyremote.core.node_keys import NodeKeys
from easyremote.sealing import Sealing
from easyremote.security.authorized_keys import AuthorizedKeys, make_key
from easyremote.security.identity import own_identity
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.conftest import wait_until
from tests.e2e.conftest import Wire


@dataclass
class Point:
    x: int


@pytest.fixture
def elsewhere(server: Server) -> Iterator[tuple[str, str]]:
    """An address at which nobody of this user listens, as far as can be told, and what opens the gateway behind it."""
    with closing(Wire(server.address)) as wire:
        yield wire.address, server.token


def node_at(elsewhere: tuple[str, str], name: str = "far") -> ComputeNode:
    node = ComputeNode(elsewhere[0], name, token=elsewhere[1], code="signed")

    @node.register
    def double(value: int) -> Point:
        return Point(2 * value)

    return node.serve()


def trust_me() -> None:
    AuthorizedKeys().add(make_key(own_identity().public))


def test_a_node_takes_calls_of_its_own_users_key_and_its_results_are_loaded(elsewhere: tuple[str, str]) -> None:
    with node_at(elsewhere), Client(elsewhere[0], token=elsewhere[1]) as client:
        assert client.call("double", 4) == Point(8)  # a class that plain data hasn't got
        assert client.call(lambda: Point(1)) == Point(1)
        assert list(client.map("double", range(50))) == [Point(2 * number) for number in range(50)]


def test_a_job_is_read_by_another_process_of_the_same_user(elsewhere: tuple[str, str], tmp_path: Path) -> None:
    trust_me()
    with Server(port=0, journal=tmp_path / "jobs.db") as gateway, closing(Wire(gateway.address)) as wire:
        there = wire.address, gateway.token
        with node_at(there):
            with Client(wire.address, token=gateway.token) as client:
                job = client.submit_job("double", 4)
                assert job.result() == Point(8)
            with Client(wire.address, token=gateway.token) as other:
                assert other.job(job.id).result() == Point(8)


def test_a_node_that_comes_with_another_key_gets_nothing(
    elsewhere: tuple[str, str], runtime_folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trust_me()
    with node_at(elsewhere), Client(elsewhere[0], token=elsewhere[1]) as client:
        assert client.call("double", 4) == Point(8)
    assert "is trusted from now on by its key SHA256:" in caplog.text
    with Client(elsewhere[0], token=elsewhere[1]) as client:
        wait_until(lambda: not client.list_nodes())  # else the name is taken still
    (runtime_folder / "config" / "node-identity.key").unlink()
    with node_at(elsewhere), Client(elsewhere[0], token=elsewhere[1]) as client:
        with pytest.raises(ConsentError, match="easyremote keys --forget 'far'"):
            client.with_options(node="far").call("double", 4)
        with pytest.raises(NoNodeAvailable, match="its client doesn't trust the key of 'far'"):
            client.call("double", 4)
    assert "the key of node 'far'" in caplog.text


def test_a_gateway_that_hides_its_nodes_gets_nothing_in_clear(
    elsewhere: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    trust_me()
    with node_at(elsewhere):
        with Client(elsewhere[0], token=elsewhere[1]) as client:
            assert client.call("double", 4) == Point(8)
        monkeypatch.setattr(NodeKeys, "client_came", lambda self, session: None)
        monkeypatch.setattr(NodeKeys, "tell", lambda self, at_once=False: None)
        seen: list[bytes] = []
        received = Broker.received

        def spying(broker: Broker, conn: int, frames: list, now: float) -> list:
            seen.extend(frame.SerializeToString() for frame in frames)
            return received(broker, conn, frames, now)

        monkeypatch.setattr(Broker, "received", spying)
        with Client(elsewhere[0], token=elsewhere[1]) as client, pytest.raises(NoNodeAvailable):
            client.call("double", "canary-in-clear")
        assert seen
        assert b"canary-in-clear" not in b"".join(seen)


def test_a_node_that_joins_later_gets_the_calls_that_wait(elsewhere: tuple[str, str]) -> None:
    trust_me()
    with node_at(elsewhere, "first"), Client(elsewhere[0], token=elsewhere[1]) as client:
        assert client.call("double", 1) == Point(2)
        call = client.with_options(node="second", queue_timeout=60.0).submit("double", 2)
        wait_until(lambda: client.gateway_info().queued == 1)
        with node_at(elsewhere, "second"):
            assert call.result(60) == Point(4)


def test_an_explanation_counts_a_call_as_one_that_would_be_sealed(elsewhere: tuple[str, str]) -> None:
    trust_me()
    with node_at(elsewhere), Client(elsewhere[0], token=elsewhere[1]) as client:
        client.call("double", 1)
        assert "would run now" in client.explain("double").headline


def test_where_no_node_demands_it_nothing_is_sealed_and_a_client_loads_no_cryptography(server: Server) -> None:
    """On one machine nothing of this is noticed."""
    look = (
        "import sys; from easyremote import Client\n"
        f"with Client({server.address!r}) as client:\n"
        "    print(client.call('one'), 'cryptography' in sys.modules)"
    )
    with ComputeNode(server.address, "own") as node:
        node.register(lambda: 1, name="one")
        told = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, timeout=60, check=True)
    assert told.stdout == "1 False\n"


def test_questions_and_answers_are_sealed_and_an_answer_in_clear_is_not_taken(
    elsewhere: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    import getpass

    def ask() -> tuple[str, str]:
        return input("which word? "), getpass.getpass("password: ")

    passed: list[bytes] = []
    send = Broker.received

    def watched(broker: Broker, conn: int, frames: list[pb.Frame], *rest: Any) -> Any:
        taken = list(frames)
        passed.extend(frame.SerializeToString() for frame in taken)
        return send(broker, conn, taken, *rest)

    trust_me()
    monkeypatch.setattr("builtins.input", lambda prompt="": f"word for {prompt}")
    monkeypatch.setattr("getpass.getpass", lambda prompt="": f"pass for {prompt}")
    with node_at(elsewhere), Client(elsewhere[0], token=elsewhere[1]) as client:
        monkeypatch.setattr(Broker, "received", watched)
        assert client.call(ask) == ("word for which word? ", "pass for password: ")
        everything = b"".join(passed)
        assert b"reply" not in everything and b"which word" not in everything and b"pass for" not in everything
        assert any(pb.Frame.FromString(frame).HasField("reply") for frame in passed)

        def open_reply(sealing: Sealing, reply: pb.Reply) -> None:
            reply.sealed = b""  # as a gateway could have it

        monkeypatch.setattr(Sealing, "seal_reply", open_reply)
        with pytest.raises(EOFError, match="was changed on its way"):
            client.call(ask)
