"""The Unix socket that sessions of one host use: when they do, and what strangers can do there, which is nothing."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest

from easyremote import AuthError, Client, ComputeNode, Server, discovery
from easyremote.runtime import this_runtime
from easyremote.transport.streams import MAX_MESSAGE_BYTES, serialize_batch
from easyremote.wire.framing import Unpacker, pack
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.conftest import wait_until
from tests.e2e.conftest import is_local


def path_of(server: Server) -> Path:
    path = discovery.socket_path(server.address)
    assert path is not None
    return path


def local_peers(server: Server) -> int:
    """Connections that the gateway has over its socket, unknown ones included."""
    assert server._listener is not None
    return len(server._listener._local._peers)


def hello(session_id: bytes = b"s" * 16, protocol: int = 1) -> pb.Frame:
    return pb.Frame(
        hello=pb.Hello(
            protocol_min=protocol,
            protocol_max=protocol,
            role=pb.ROLE_CLIENT,
            session_id=session_id,
            runtime=this_runtime(),
        )
    )


@contextlib.contextmanager
def stranger(server: Server, first: bytes = b"") -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as stream:
        stream.connect(str(path_of(server)))
        stream.settimeout(30)
        if first:
            stream.sendall(first)
        yield stream


def rest_of(stream: socket.socket) -> bytes:
    """All that comes until the gateway closes the connection."""
    data = b""
    with contextlib.suppress(ConnectionResetError):
        while piece := stream.recv(65536):
            data += piece
    return data


# ---- who uses it -----------------------------------------------------------------------------------------------------


def test_client_and_node_of_one_host_use_it(server: Server, node: ComputeNode, client: Client) -> None:
    assert is_local(client)
    assert is_local(node)
    assert local_peers(server) == 2
    node.register(lambda x: x * 2, name="double")
    assert client.call("double", 21) == 42
    assert np.array_equal(client.call("double", np.arange(100_000)), np.arange(100_000) * 2)


def test_a_node_with_many_functions_uses_it_too(server: Server, client: Client) -> None:
    """Its hello is longer than a stranger's first message may be."""
    node = ComputeNode(server.address, "offers-much")
    for number in range(300):
        node.register(lambda x, number=number: (number, x), name=f"function_{number}")
    with node:
        assert is_local(node)
        assert client.call("function_299", 1) == (299, 1)


def test_it_can_be_switched_off(monkeypatch: pytest.MonkeyPatch, runtime_folder: Path) -> None:
    monkeypatch.setenv(discovery.LOCAL_SOCKET_VARIABLE, "0")
    with Server(port=0) as server, ComputeNode(server.address) as node, Client(server.address) as client:
        assert not list(runtime_folder.glob("*.sock"))
        assert not is_local(client)
        assert not is_local(node)
        node.register(lambda x: x + 1, name="inc")
        assert client.call("inc", 1) == 2


def test_one_peer_with_it_and_one_without_meet(
    server: Server, node: ComputeNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.register(lambda x: x + 1, name="inc")
    monkeypatch.setenv(discovery.LOCAL_SOCKET_VARIABLE, "0")
    with Client(server.address) as client:
        assert (is_local(node), is_local(client), local_peers(server)) == (True, False, 1)
        assert client.call("inc", 1) == 2


def test_a_runtime_folder_with_a_long_path_means_grpc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / ("long" * 40)
    folder.mkdir(mode=0o700)
    monkeypatch.setenv(discovery.RUNTIME_VARIABLE, str(folder))
    with Server(port=0) as server, ComputeNode(server.address) as node, Client(server.address) as client:
        assert not is_local(client)
        assert not is_local(node)
        node.register(lambda x: x + 1, name="inc")
        assert client.call("inc", 1) == 2
        assert not list(folder.glob("*.sock"))


def test_what_a_dead_gateway_left_at_its_path_means_grpc(server: Server, node: ComputeNode) -> None:
    node.register(lambda x: x + 1, name="inc")
    path = path_of(server)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with Client(server.address) as client:
        assert not is_local(client)
        assert client.call("inc", 1) == 2
    path.unlink()
    path.write_text("no socket")
    with Client(server.address) as client:
        assert not is_local(client)
        assert client.call("inc", 1) == 2
    path.unlink()
    with Client(server.address) as client:
        assert not is_local(client)
        assert client.call("inc", 1) == 2
    assert is_local(node)  # whoever was connected stays so


def test_what_something_else_answers_there_means_grpc(server: Server, node: ComputeNode) -> None:
    """It closes each connection at once, as a gateway does that has another token."""
    node.register(lambda x: x + 1, name="inc")
    path = path_of(server)
    path.unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()
        thread = threading.Thread(target=lambda: listener.accept()[0].close())
        thread.start()
        with Client(server.address) as client:
            assert not is_local(client)
            assert client.call("inc", 1) == 2
        thread.join()


def test_a_wrong_token_is_refused_in_the_same_words(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for switch in ("1", "0"):
        monkeypatch.setenv(discovery.LOCAL_SOCKET_VARIABLE, switch)
        for face in (Client, ComputeNode):
            with pytest.raises(AuthError) as refused, face(server.address, token="not the right one"):
                pass
            said.append(str(refused.value))
    assert len(set(said)) == 1
    assert "EASYREMOTE_TOKEN" in said[0]
    assert "not the right one" not in said[0]
    wait_until(lambda: local_peers(server) == 0)


# ---- the file --------------------------------------------------------------------------------------------------------


def test_it_is_its_users_alone_and_goes_with_the_gateway(runtime_folder: Path) -> None:
    with Server(port=0) as server:
        path = path_of(server)
        assert path.parent == runtime_folder
        mode = path.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
    assert not list(runtime_folder.iterdir())


def test_one_that_another_gateway_has_put_there_stays(runtime_folder: Path) -> None:
    with Server(port=0) as server, Client(server.address):
        path = path_of(server)
        path.unlink()
        other = socket.socket(socket.AF_UNIX)
        other.bind(str(path))
    with other:
        assert path.exists()


def test_what_an_earlier_gateway_left_does_not_stop_a_new_one(runtime_folder: Path) -> None:
    with Server(port=0) as server:
        port, path = server.port, path_of(server)
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    with Server(port=port) as server, Client(server.address) as client:
        assert is_local(client)
    path.mkdir()  # can't be removed like a file
    with Server(port=port) as server, Client(server.address) as client:
        assert not is_local(client)
        assert client.list_nodes() == []


# ---- strangers -------------------------------------------------------------------------------------------------------

STRANGE: dict[str, tuple[bool, list[bytes]]] = {
    "a wrong token": (False, [pack(b"wrong")]),
    "an empty token": (False, [pack(b"")]),
    "random bytes": (False, [bytes(range(255, 0, -1)) * 20]),
    "a web browser": (False, [b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"]),
    "a first message that is too long": (False, [struct.pack("<I", 4097)]),
    "a first message of four gigabytes": (False, [b"\xff" * 4]),
    "several guesses in one piece": (False, [pack(b"wrong") + pack(b"also wrong")]),
    "a batch that is none": (True, [pack(b"\xff" * 100)]),
    "an empty batch": (True, [pack(b"")]),
    "a batch that doesn't begin with a hello": (True, [pack(serialize_batch([pb.Frame(heartbeat=pb.Heartbeat())]))]),
    "a hello that is too long": (True, [struct.pack("<I", MAX_MESSAGE_BYTES + 1)]),
    "a protocol that nobody speaks": (True, [pack(serialize_batch([hello(protocol=10**6)]))]),
    "a session id that is none": (True, [pack(serialize_batch([hello(session_id=b"short")]))]),
    "garbage behind a hello": (True, [pack(serialize_batch([hello()])), pack(b"\xff" * 100)]),
    "a message that is too long behind a hello": (True, [pack(serialize_batch([hello()])), b"\xff" * 4]),
}


@pytest.mark.parametrize("pieces", ["at once", "one by one"])
@pytest.mark.parametrize("case", STRANGE)
def test_who_does_not_keep_to_the_protocol_is_closed_and_others_go_on(
    server: Server, node: ComputeNode, client: Client, case: str, pieces: str
) -> None:
    node.register(lambda x: x + 1, name="inc")
    knows_token, messages = STRANGE[case]
    token = [pack(server.token.encode())] if knows_token else []
    with stranger(server) as stream:
        for piece in [b"".join(token + messages)] if pieces == "at once" else token + messages:
            with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                stream.sendall(piece)
        rest_of(stream)
        assert client.call("inc", 1) == 2
        assert is_local(client)
    wait_until(lambda: local_peers(server) == 2)


def test_a_refusal_says_why(server: Server) -> None:
    with stranger(server, pack(server.token.encode()) + pack(serialize_batch([hello(protocol=10**6)]))) as stream:
        (message,) = Unpacker().feed(rest_of(stream))
    (frame,) = pb.Batch.FromString(message).frames
    assert frame.HasField("refused")


def test_strangers_leave_nothing_behind(server: Server, client: Client) -> None:
    this = psutil.Process()
    before = this.num_fds()
    for _ in range(20):
        for knows_token, messages in STRANGE.values():
            first = pack(server.token.encode()) if knows_token else b""
            with stranger(server, first + b"".join(messages)):
                pass  # and gone, without a look at what came back
    wait_until(lambda: local_peers(server) == 1)
    wait_until(lambda: this.num_fds() <= before)
    assert client.list_nodes() == []


@pytest.mark.parametrize("said", ["nothing", "half a token", "a token", "half a hello"])
def test_who_says_no_hello_is_closed_after_a_while(
    server: Server, client: Client, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("easyremote.transport.local_listener.HELLO_TIMEOUT_S", 0.05)
    token = pack(server.token.encode())
    first = {"nothing": b"", "half a token": token[:9], "a token": token}.get(
        said, token + pack(serialize_batch([hello()]))[:9]
    )
    with stranger(server, first) as stream:
        assert rest_of(stream) == b""
    wait_until(lambda: local_peers(server) == 1)
    assert is_local(client)


def test_a_stranger_who_says_nothing_does_not_keep_the_gateway_from_stopping(
    monkeypatch: pytest.MonkeyPatch, runtime_folder: Path
) -> None:
    monkeypatch.setattr("easyremote.transport.local_listener.HELLO_TIMEOUT_S", 1e6)
    server = Server(port=0).start_background()
    with stranger(server) as silent, stranger(server, pack(server.token.encode())) as half_known:
        wait_until(lambda: local_peers(server) == 2)
        server.stop()
        assert rest_of(silent) == rest_of(half_known) == b""
    assert not list(runtime_folder.iterdir())


def test_who_asks_and_never_reads_is_closed_and_others_go_on(
    server: Server, node: ComputeNode, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("easyremote.transport.connections.MAX_FRAMES_WAITING", 2000)
    node.register(lambda x: x, name="echo")
    queries = [pb.Frame(query=pb.Query(query_id=number, list_nodes=pb.Query.ListNodes())) for number in range(1, 501)]
    batch = pack(serialize_batch(queries))
    sent = 0
    with stranger(server, pack(server.token.encode()) + pack(serialize_batch([hello()]))) as stream:
        wait_until(lambda: client.gateway_info().clients == 2)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            while True:
                stream.sendall(batch)
                sent += 1
                assert sent < 10_000
        wait_until(lambda: local_peers(server) == 2)
        assert client.call("echo", 1) == 1
    assert sent > 4
    assert os.path.exists(path_of(server))


def test_a_client_that_vanishes_is_forgotten_as_over_grpc(server: Server, client: Client) -> None:
    with stranger(server, pack(server.token.encode()) + pack(serialize_batch([hello()]))):
        wait_until(lambda: client.gateway_info().clients == 2)
    wait_until(lambda: client.gateway_info().clients == 1)
