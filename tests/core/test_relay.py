"""Large payloads: asked for by one end, sent by the other, passed on by the gateway."""

from typing import Any

import pytest

from easyremote.core import client_session, node_session
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, ClientPeer, NodePeer, new_id

BLOB = new_id()


def transfer(call_id: bytes, **fields: Any) -> pb.Fetch:
    return pb.Fetch(**({"transfer_id": new_id(), "blob_id": BLOB, "call_id": call_id, "limit": 100} | fields))


def running() -> tuple[Bench, NodePeer, ClientPeer, node_session.Attempt]:
    bench = Bench(grace_s=5.0)
    node, client = bench.node("n"), bench.client()
    client.submit()
    return bench, node, client, node.only_started()


def ask(peer: NodePeer | ClientPeer, fetch: pb.Fetch) -> None:
    peer.core.fetch(fetch)
    peer.bench.settle()


def chunk(fetch: pb.Fetch, offset: int = 0, **fields: Any) -> pb.Chunk:
    return pb.Chunk(**({"transfer_id": fetch.transfer_id, "offset": offset, "data": b"x" * 10} | fields))


def refusals(bench: Bench, to: bytes) -> list[str]:
    return [part.error for session_id, part in bench.chunks if session_id == to and part.error]


def open_transfers(bench: Bench) -> int:
    return len(bench.broker._relay)


def test_a_node_asks_the_client_for_arguments_and_the_client_the_node_for_values() -> None:
    bench, node, client, attempt = running()
    ask(node, fetch := transfer(attempt.call_id))
    assert [effect.fetch for effect in client.took(client_session.SendBlob)] == [fetch]
    assert bench.broker.chunk(client.core.session_id, chunk(fetch)) == node.core.session_id
    ask(client, fetch := transfer(attempt.call_id))
    assert [effect.fetch for effect in node.took(node_session.SendBlob)] == [fetch]
    assert bench.broker.chunk(node.core.session_id, chunk(fetch)) == client.core.session_id


def test_a_transfer_is_over_when_its_receiver_says_so() -> None:
    bench, node, client, attempt = running()
    ask(node, fetch := transfer(attempt.call_id))
    ask(node, transfer(attempt.call_id, transfer_id=fetch.transfer_id, done=True))
    assert client.took(client_session.SendBlob)[-1].fetch.done
    assert bench.broker.chunk(client.core.session_id, chunk(fetch)) is None
    ask(node, transfer(attempt.call_id, done=True))  # one that nobody knows
    assert open_transfers(bench) == 0


@pytest.mark.parametrize("last", [{"error": "gone", "data": b""}, {"shared_file": "1-a", "data": b""}])
def test_a_transfer_is_over_when_its_owner_says_so(last: dict[str, Any]) -> None:
    bench, node, client, attempt = running()
    ask(node, fetch := transfer(attempt.call_id))
    assert bench.broker.chunk(client.core.session_id, chunk(fetch, **last)) == node.core.session_id
    assert open_transfers(bench) == 0


def test_chunks_of_others_are_dropped() -> None:
    bench, node, client, attempt = running()
    stranger = bench.client()
    ask(node, fetch := transfer(attempt.call_id))
    assert bench.broker.chunk(stranger.core.session_id, chunk(fetch)) is None
    assert bench.broker.chunk(node.core.session_id, chunk(fetch)) is None
    assert bench.broker.chunk(client.core.session_id, chunk(transfer(attempt.call_id))) is None


def test_nobody_may_ask_for_payloads_of_a_call_that_isnt_his() -> None:
    """Regression: whoever knew its id could."""
    bench, _, client, attempt = running()
    for stranger in (bench.client(), bench.node("other", "g")):
        ask(stranger, transfer(attempt.call_id))
        assert len(refusals(bench, stranger.core.session_id)) == 1
    ask(client, fetch := transfer(attempt.call_id))
    other = bench.client()
    ask(other, transfer(attempt.call_id, transfer_id=fetch.transfer_id, done=True))
    assert open_transfers(bench) == 1


def test_whoever_asks_for_a_payload_of_a_call_that_has_ended_is_told() -> None:
    bench, node, client, attempt = running()
    node.result(attempt)
    client.taken(client.events()[0])
    ask(client, transfer(attempt.call_id))
    assert "has ended" in refusals(bench, client.core.session_id)[0]


def test_whoever_asks_for_a_payload_after_its_node_is_gone_is_told() -> None:
    """Regression: it waited for ever."""
    bench, node, client, attempt = running()
    node.result(attempt)
    node.core.goodbye("done")
    bench.settle()
    ask(client, transfer(attempt.call_id))
    assert len(refusals(bench, client.core.session_id)) == 1


def test_whoever_waits_for_a_payload_when_its_node_goes_is_told_though_the_call_runs_on_elsewhere() -> None:
    """Regression: the transfer was taken to be the next node's, which had never heard of it."""
    bench, node, client, attempt = running()
    bench.node("other")
    ask(client, transfer(attempt.call_id))
    node.core.goodbye("done")
    bench.settle()
    assert len(refusals(bench, client.core.session_id)) == 1
    assert open_transfers(bench) == 0


def test_whoever_waits_for_a_payload_that_no_node_brings_back_is_told() -> None:
    """Regression: after a restart a client that had the end, but not its payload, waited for ever."""
    bench, node, client, attempt = running()
    node.result(attempt)
    bench.restart()
    client.connect()
    ask(client, transfer(attempt.call_id))
    assert refusals(bench, client.core.session_id) == []
    bench.pass_time(6)
    assert len(refusals(bench, client.core.session_id)) == 1
    client.core.again(attempt.call_id, bench.now, 1, 1)
    bench.settle()
    assert client.verdicts()[attempt.call_id].code == "lost"


def test_an_owner_that_comes_back_is_asked_for_the_rest() -> None:
    bench, node, client, attempt = running()
    ask(node, fetch := transfer(attempt.call_id))
    client.took(client_session.SendBlob)
    bench.broker.chunk(client.core.session_id, chunk(fetch, 0))
    bench.broker.chunk(client.core.session_id, chunk(fetch, 10))
    ask(node, transfer(attempt.call_id, transfer_id=fetch.transfer_id, offset=10, limit=500))
    client.took(client_session.SendBlob)
    client.cut()
    client.connect()
    (effect,) = client.took(client_session.SendBlob)
    assert (effect.fetch.transfer_id, effect.fetch.offset, effect.fetch.limit) == (fetch.transfer_id, 20, 500)


def test_a_chunk_that_comes_a_second_time_is_dropped() -> None:
    """Regression: it was on its way when its owner was asked for the rest; the receiver took the transfer for damaged."""
    bench, node, client, attempt = running()
    ask(node, fetch := transfer(attempt.call_id))
    owner = client.core.session_id
    sent = [bench.broker.chunk(owner, chunk(fetch, offset)) for offset in (0, 10, 10, 0, 30, 20)]
    assert [target is not None for target in sent] == [True, True, False, False, False, True]


def test_an_owner_that_is_known_only_later_is_asked_then() -> None:
    for client_first in (True, False):
        bench, node, client, attempt = running()
        bench.restart()
        if client_first:
            client.connect()
            node.connect()
            ask(node, transfer(attempt.call_id))
        else:
            node.connect()
            ask(node, transfer(attempt.call_id))
            assert client.took(client_session.SendBlob) == []
            client.connect()
        assert len(client.took(client_session.SendBlob)) == 1


def test_a_receiver_that_is_gone_waits_for_nothing() -> None:
    bench, node, client, attempt = running()
    ask(node, transfer(attempt.call_id))
    ask(client, transfer(attempt.call_id))
    client.core.goodbye()
    bench.settle()
    node.core.goodbye("done")
    bench.settle()
    assert open_transfers(bench) == 0


def test_a_receiver_that_is_gone_waits_for_nothing_though_its_call_is_still_being_stopped() -> None:
    bench, node, client, attempt = running()
    ask(client, transfer(attempt.call_id))
    client.core.goodbye()
    bench.settle()
    assert node.core.held_count == 1
    assert open_transfers(bench) == 0


def test_transfers_of_a_call_that_is_over_are_forgotten() -> None:
    bench, node, client, attempt = running()
    ask(node, fetch := transfer(attempt.call_id))
    node.result(attempt)
    client.taken(client.events()[0])
    assert open_transfers(bench) == 0
    assert bench.broker.chunk(client.core.session_id, chunk(fetch)) is None


def test_a_transfer_stream_may_be_attached_to_a_session_that_is_known() -> None:
    bench, _, client, _ = running()
    assert bench.broker.knows(client.core.session_id)
    assert not bench.broker.knows(new_id())
