"""Whatever bytes a peer sends: it is told, or its own connection ends, and nobody else notices."""

from __future__ import annotations

import pickle
import secrets
import subprocess
import sys
from random import Random
from typing import Any

import grpc
import pytest

import easyremote
from easyremote import Client, ComputeNode, PayloadError, Server
from easyremote.transport import transfers
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.conftest import wait_until
from tests.faults.stranger import SESSION, TRANSFER, Stranger

BODIES = [field.name for field in pb.Frame.DESCRIPTOR.fields]


def all_is_well(client: Client) -> None:
    assert client.call("echo", 7) == 7
    assert client.is_connected


def submit_of(function: str = "echo", *args: Any, **options: Any) -> pb.Submit:
    submit = pb.Submit(call_id=secrets.token_bytes(16), function=function, options=pb.Options(**options))
    submit.arguments.data = pickle.dumps((args, {}))
    return submit


@pytest.mark.slow
@pytest.mark.parametrize("message", [b"", b"\n\x00", b"\xff" * 50, b"\x0a\x05abc", b"}\x00\x00\x00\x00junk"])
def test_a_session_that_begins_with_anything_but_a_hello_is_refused(
    stranger: Any, client: Client, message: bytes
) -> None:
    peer = stranger()
    peer.say(message)
    error = peer.ends()
    assert isinstance(error, grpc.RpcError)
    assert error.code() in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.INTERNAL)
    all_is_well(client)


@pytest.mark.slow
def test_random_bytes_in_a_session_end_that_session_alone(stranger: Any, client: Client) -> None:
    rng = Random(1)
    for _ in range(20):
        peer = stranger()
        peer.hello()
        peer.say(b"\xff" + rng.randbytes(rng.randint(1, 300)))
        peer.ends()
    all_is_well(client)


@pytest.mark.slow
@pytest.mark.parametrize("role", ["client", "node"])
def test_every_frame_with_nothing_in_it_is_ignored_or_answered(stranger: Any, client: Client, role: str) -> None:
    for body in BODIES:
        peer = stranger()
        peer.hello("nothing" if role == "node" else "")
        frame = pb.Frame()
        getattr(frame, body).SetInParent()
        peer.say(pb.Batch(frames=[frame, pb.Frame()]))
        peer.frame(goodbye=pb.Goodbye())
        wait_until(lambda: "nothing" not in [node.node_id for node in client.list_nodes()])
    all_is_well(client)


@pytest.mark.slow
def test_fields_and_values_of_a_newer_peer_are_ignored_or_refused_by_name(stranger: Any, client: Client) -> None:
    peer = stranger()
    peer.hello()
    new_field = b"\xfa\x7f\x03new"  # field 2047
    batch = pb.Batch(frames=[pb.Frame(submit=submit_of("echo", 5))]).SerializeToString()
    peer.say(new_field + batch + new_field)
    assert pickle.loads(peer.hears("event").result.data) == 5
    peer.say(pb.Batch(frames=[pb.Frame.FromString(b"\xfa\x7f\x03new")]))  # a frame of a kind that nobody knows
    strange = submit_of()
    strange.options.strategy = "of-the-year-2031"
    peer.frame(submit=strange)
    assert "of-the-year-2031" in peer.hears("verdict").error.message
    all_is_well(client)


@pytest.mark.slow
def test_a_text_that_is_not_utf_8_ends_the_session_that_sent_it(stranger: Any, client: Client) -> None:
    peer = stranger()
    peer.hello()
    good = pb.Batch(frames=[pb.Frame(submit=submit_of("name-of-function"))]).SerializeToString()
    peer.say(good.replace(b"name-of-function", b"\xff\xfe-of-function"))
    peer.ends()
    all_is_well(client)


@pytest.mark.slow
def test_a_name_of_three_million_characters_is_refused_and_one_of_ten_million_ends_its_session(
    stranger: Any, client: Client
) -> None:
    peer = stranger()
    peer.hello()
    peer.frame(submit=submit_of("f" * 3_000_000))
    verdict = peer.hears("verdict")
    assert verdict.error.code == "usage" and len(verdict.error.message) < 1000
    peer.frame(submit=submit_of("f" * 10_000_000))
    error = peer.ends()
    assert isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    all_is_well(client)


NAMES = ["a\x00b", "a/b", "..", "../../etc/passwd", "\U0001f600", "\u202eabc", "", " ", "é" * 200, "a\nb", "x" * 201]


@pytest.mark.parametrize("name", NAMES, ids=ascii)
def test_a_strange_name_is_found_or_refused_everywhere_alike(
    server: Server, node: ComputeNode, client: Client, name: str
) -> None:
    if not name:
        with pytest.raises(easyremote.UsageError):
            client.call(name)
        return  # to register or to make something without a name gives it one
    try:
        node.register(lambda: "found", name=name)
    except easyremote.UsageError:
        with pytest.raises(easyremote.UsageError):
            client.call(name)
    else:
        assert client.call(name) == "found"
        assert name in [function.name for function in client.list_functions()]
    try:
        other = ComputeNode(server.address, name)
    except easyremote.UsageError:
        with pytest.raises(easyremote.UsageError):
            client.with_options(node=name)
    else:
        with other:
            assert name in [info.node_id for info in client.list_nodes()]


@pytest.mark.parametrize("span", [-1.0, 0.0, float("nan"), -float("inf"), "1", True], ids=str)
def test_a_timeout_that_is_none_is_refused_before_anything_is_sent(client: Client, span: Any) -> None:
    for option in ("timeout", "queue_timeout", "run_timeout"):
        with pytest.raises(easyremote.UsageError):
            client.with_options(**{option: span}).submit("echo", 1)


@pytest.mark.slow
@pytest.mark.parametrize("span", [-1.0, float("nan"), float("inf"), -float("inf"), 2.0**63, 1e308], ids=str)
def test_a_timeout_that_a_stranger_made_up_ends_its_call_alone(stranger: Any, client: Client, span: float) -> None:
    peer = stranger()
    peer.hello()
    peer.frame(submit=submit_of("echo", 5, timeout_s=span, queue_timeout_s=span, run_timeout_s=span))
    peer.hears("verdict", "event")
    all_is_well(client)


@pytest.mark.slow
def test_a_message_above_the_limit_ends_its_stream_and_the_peer_comes_back(
    stranger: Any, server: Server, client: Client
) -> None:
    peer = stranger()
    session_id = peer.hello()
    peer.say(bytes(4 * 1024 * 1024 + 1))
    error = peer.ends()
    assert isinstance(error, grpc.RpcError) and error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    again = stranger()
    hello = pb.Hello(protocol_min=1, protocol_max=1, role=pb.ROLE_CLIENT, session_id=session_id)
    again.frame(hello=hello)
    assert again.hears("welcome").resumed
    all_is_well(client)


@pytest.mark.slow
def test_more_metadata_than_a_connection_takes_is_refused(server: Server, client: Client) -> None:
    with Stranger(server, SESSION, **{f"x-{i}": "y" * 1000 for i in range(40)}) as peer:
        error = peer.ends()
        assert isinstance(error, grpc.RpcError)
        assert error.code() in (grpc.StatusCode.RESOURCE_EXHAUSTED, grpc.StatusCode.INTERNAL)
    all_is_well(client)


def end_of(peer: Stranger) -> pb.Event:
    """The last event of the call that it has made."""
    while True:
        event = peer.hears("event")
        if event.WhichOneof("body") in ("result", "error"):
            return event


# ---- large payloads --------------------------------------------------------------------------------------------------


class Sender:
    """A client that owns a large argument and sends what it likes of it."""

    def __init__(self, stranger: Any, sizes: list[int]) -> None:
        self.peer = stranger()
        session_id = self.peer.hello()
        self.stream = stranger(TRANSFER, **{"easyremote-session": session_id.hex()})
        self.stream.message()  # attached
        submit = submit_of("echo")
        submit.arguments.CopyFrom(pb.Payload(blob=pb.Blob(blob_id=secrets.token_bytes(16), part_bytes=sizes)))
        self.peer.frame(submit=submit)

    def fetch(self) -> pb.Fetch:
        """The next request for bytes that isn't the end of one."""
        while True:
            fetch = self.peer.hears("fetch")
            if not fetch.done:
                return fetch

    def chunk(self, transfer_id: bytes, offset: int, data: bytes, **more: Any) -> None:
        self.stream.say(pb.Chunk(transfer_id=transfer_id, offset=offset, data=data, **more))

    def error(self) -> pb.ErrorInfo:
        return end_of(self.peer).error

    def result_bytes(self) -> int:
        """How large the result is, which is what was sent."""
        return sum(end_of(self.peer).result.blob.part_bytes)


VALUE = pickle.dumps(((b"x" * 300_000,), {}))


@pytest.mark.slow
@pytest.mark.parametrize("offset", [0, 50, 200, 2**63], ids=["again", "doubled", "too early", "far"])
def test_chunks_that_do_not_follow_the_last_one_are_dropped(stranger: Any, client: Client, offset: int) -> None:
    sender = Sender(stranger, [len(VALUE)])
    fetch = sender.fetch()
    sender.chunk(fetch.transfer_id, 0, VALUE[:100])
    sender.chunk(fetch.transfer_id, offset, b"y" * 100)
    sender.chunk(fetch.transfer_id, 100, VALUE[100:])
    assert sender.result_bytes() > len(VALUE) - 100
    all_is_well(client)


@pytest.mark.slow
@pytest.mark.parametrize("data", [VALUE + b"more", b""], ids=["longer", "empty"])
def test_a_payload_of_another_size_than_declared_is_an_error_of_its_call(
    stranger: Any, client: Client, data: bytes
) -> None:
    sender = Sender(stranger, [len(VALUE)])
    sender.chunk(sender.fetch().transfer_id, 0, data)
    assert sender.error().code == PayloadError.code
    all_is_well(client)


@pytest.mark.slow
def test_chunks_of_two_payloads_that_are_mixed_up_are_told_apart(stranger: Any, client: Client) -> None:
    """Each names its transfer; one that names another's, or nobody's, changes nothing."""
    one, two = Sender(stranger, [len(VALUE)]), Sender(stranger, [len(VALUE)])
    fetches = [one.fetch(), two.fetch()]
    middle = len(VALUE) // 2
    for start, end in ((0, middle), (middle, len(VALUE))):
        for sender, fetch in zip((one, two), fetches, strict=True):
            sender.chunk(secrets.token_bytes(16), start, b"nobody asked for this")
            sender.chunk(fetch.transfer_id, start, VALUE[start:end])
    assert one.result_bytes() > len(VALUE) - 100 and two.result_bytes() > len(VALUE) - 100
    all_is_well(client)


@pytest.mark.slow
def test_a_chunk_with_a_wrong_checksum_is_asked_for_again_and_many_are_an_error(
    stranger: Any, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers, "MAX_DAMAGES", 3)
    sender = Sender(stranger, [len(VALUE)])
    for _ in range(4):
        fetch = sender.fetch()
        sender.chunk(fetch.transfer_id, fetch.offset, VALUE[:1000], data_crc32=1)
    assert sender.error().code == PayloadError.code
    all_is_well(client)


@pytest.mark.slow
def test_a_payload_that_claims_a_hundred_gigabytes_takes_no_memory_until_they_come(
    stranger: Any, client: Client
) -> None:
    sender = Sender(stranger, [100 * 2**30, 2**62])
    sender.chunk(sender.fetch().transfer_id, 0, b"the first of them")
    error = sender.error()
    assert error.code == PayloadError.code and "memory" in error.message
    all_is_well(client)


@pytest.mark.slow
def test_a_payload_whose_owner_stops_in_the_middle_waits_for_no_longer_than_its_call(
    stranger: Any, client: Client
) -> None:
    sender = Sender(stranger, [len(VALUE)])
    sender.chunk(sender.fetch().transfer_id, 0, VALUE[:100])
    sender.peer.frame(goodbye=pb.Goodbye())
    wait_until(lambda: client.gateway_info().running == 0)
    all_is_well(client)


# ---- pickles ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("cut", [1, 5, -1, -3])
def test_a_pickle_that_was_cut_short_is_an_error_of_its_call(stranger: Any, client: Client, cut: int) -> None:
    peer = stranger()
    peer.hello()
    submit = submit_of("echo", "some text")
    submit.arguments.data = submit.arguments.data[:cut]
    peer.frame(submit=submit)
    assert end_of(peer).HasField("error")
    all_is_well(client)


@pytest.mark.slow
def test_a_pickle_that_is_a_hundred_thousand_deep_ends_its_call_alone(stranger: Any, client: Client) -> None:
    depth = 100_000
    peer = stranger()
    peer.hello()
    submit = submit_of()
    deep = b"]" * depth + b"a" * (depth - 1)  # a list in a list in a list …
    submit.arguments.data = b"\x80\x05" + deep + b"\x85}\x86."  # ((it,), {})
    peer.frame(submit=submit)
    end_of(peer)
    all_is_well(client)


def test_a_value_that_is_too_deep_to_be_pickled_is_refused_before_it_is_sent(client: Client) -> None:
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    with pytest.raises(easyremote.UnpicklableError):
        client.call("echo", deep)
    while deep:  # taken apart, so that it isn't collected in one deep recursion
        deep = deep[0]


GATEWAY_THAT_WOULD_TELL = """
import pickle, sys
real = pickle.loads
def telling(*args, **kwargs):
    print("unpickled", file=sys.stderr, flush=True)
    return real(*args, **kwargs)
import _pickle
pickle.loads = _pickle.loads = telling
import cloudpickle
cloudpickle.loads = telling
from easyremote import Server
server = Server(port=0, token="a-token-of-this-test").start_background()
print(server.address, flush=True)
server.wait()
"""


@pytest.mark.slow
def test_the_gateway_unpickles_nothing() -> None:
    gateway = subprocess.Popen(
        [sys.executable, "-c", GATEWAY_THAT_WOULD_TELL],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert gateway.stdout is not None
        address, token = gateway.stdout.readline().strip(), "a-token-of-this-test"
        with ComputeNode(address, "n", token=token) as node, Client(address, token=token) as client:
            node.register(lambda x: x, name="echo")
            for value in (1, ["text", 2.5], b"x" * 300_000):
                assert client.call("echo", value) == value
            assert list(client.map("echo", range(50))) == list(range(50))
            assert client.submit(lambda: 5).result() == 5
    finally:
        gateway.terminate()
        _, told = gateway.communicate()
    assert "unpickled" not in told


def test_content_of_an_unknown_type_is_refused_by_name() -> None:
    with pytest.raises(PayloadError, match="unknown content type 'x/y'"):
        codec.decode(codec.Encoded("x/y", [b""]))
