"""A gateway, nodes and clients, in this process and in others, and a wire that can be cut."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from easyremote import Call, Client, ComputeNode, Sandbox, Server, UsageError
from easyremote.bundling import CallTime
from easyremote.cluster import LocalCluster
from easyremote.core.client_session import ClientSession
from easyremote.execution import sandbox as sandboxes
from easyremote.transport.local_stream import LocalStream
from easyremote.transport.loop import shared_loop
from tests.conftest import free_port, wait_until

# Needs a second Python, which .ci/run names where the machine has one.
collect_ignore = [] if os.environ.get("EASYREMOTE_OTHER_PYTHON") else ["test_other_python.py"]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(port=0) as running:
        yield running


@pytest.fixture
def node(server: Server) -> Iterator[ComputeNode]:
    with ComputeNode(server.address, "node-a") as running:
        yield running


@pytest.fixture
def client(server: Server) -> Iterator[Client]:
    with Client(server.address) as running:
        yield running


@pytest.fixture
def bwrap() -> None:
    """Where no sandbox can be made, tests of one are left out; in CI that is a failure."""
    try:
        sandboxes.check(Sandbox())
    except UsageError as reason:
        if os.environ.get("CI") == "true":
            pytest.fail(str(reason))
        pytest.skip(str(reason))


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    """A gateway and two nodes as processes."""
    with LocalCluster(2) as running:
        yield running


@pytest.fixture
def remote(cluster: LocalCluster) -> Iterator[Client]:
    with cluster.client() as running:
        yield running


class Wire:
    """A TCP proxy on loopback that can be cut, and refuse to be mended for a while."""

    def __init__(self, target: str) -> None:
        host, _, port = target.rpartition(":")
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listener.getsockname()[1]}"
        self._pairs: list[tuple[socket.socket, socket.socket]] = []
        self._lock = threading.Lock()
        self._is_open = threading.Event()
        self._is_open.set()
        self._flows = threading.Event()
        self._flows.set()
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self) -> None:
        """Reset every connection that there is. New ones work."""
        with self._lock:
            pairs, self._pairs = self._pairs, []
        for pair in pairs:
            for end in pair:
                with contextlib.suppress(OSError):
                    end.shutdown(socket.SHUT_RDWR)

    def down(self) -> None:
        """Cut, and refuse new connections until `up`."""
        self._is_open.clear()
        self.cut()

    def up(self) -> None:
        self._is_open.set()
        self._flows.set()

    def swallow(self) -> None:
        """Keep the connections and pass nothing on until `up`."""
        self._flows.clear()

    def close(self) -> None:
        self._listener.close()
        self.cut()

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            if not self._is_open.is_set():
                near.close()
                continue
            with contextlib.suppress(OSError):
                far = socket.create_connection(self._target)
                with self._lock:
                    self._pairs.append((near, far))
                threading.Thread(target=self._pump, args=(near, far), daemon=True).start()

    def _pump(self, near: socket.socket, far: socket.socket) -> None:
        other = {near: far, far: near}
        with contextlib.suppress(OSError, ValueError):
            while True:
                self._flows.wait()
                for ready in select.select([near, far], [], [], 0.5)[0]:
                    data = ready.recv(65536)
                    if not data:
                        return self._end(near, far)
                    self._flows.wait()
                    other[ready].sendall(data)
        self._end(near, far)

    def _end(self, near: socket.socket, far: socket.socket) -> None:
        for end in (near, far):
            end.close()


@pytest.fixture
def wires(server: Server) -> Iterator[list[Wire]]:
    """Two wires to the gateway, one for a node and one for a client."""
    made = [Wire(server.address), Wire(server.address)]
    yield made
    for wire in made:
        wire.close()


@pytest.fixture
def gateway_process() -> Iterator[Any]:
    """Starts a gateway as a process; `start()` again after a kill gives the same address and token."""
    port, token = free_port(), "a-token-that-stays-the-same"
    running: list[subprocess.Popen[str]] = []

    def start() -> tuple[str, str]:
        code = (
            "import sys\nfrom easyremote import Server\n"
            f"server = Server(port={port}, token='{token}').start_background()\nprint('up', flush=True)\nserver.wait()\n"
        )
        process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        running.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        return f"127.0.0.1:{port}", token

    def kill() -> None:
        process = running.pop()
        process.kill()
        process.communicate()

    start.kill = kill  # type: ignore[attr-defined]
    yield start
    while running:
        kill()


@contextlib.contextmanager
def held_loop() -> Iterator[None]:
    """The background loop of this process stands still, so that what is asked of it gathers."""
    stands, go_on = threading.Event(), threading.Event()

    def hold() -> None:
        stands.set()
        go_on.wait(60)

    shared_loop.loop.call_soon_threadsafe(hold)
    assert stands.wait(60)
    try:
        yield
    finally:
        go_on.set()


def seems_short(client: Client, function: str, *arguments: Any) -> None:
    """Let the client believe that calls of this function take no time. `arguments` are some that it takes."""
    client._check_arguments(function, arguments, {})
    client._times.setdefault(function, CallTime()).mean_s = 1e-6


def submit_together(client: Client, function: str, arguments: Iterable[Any]) -> list[Call[Any]]:
    """Calls with one argument each, which leave at the same moment: as a bundle where they may."""
    arguments = list(arguments)
    seems_short(client, function, arguments[0])
    with held_loop():
        return [client.submit(function, argument) for argument in arguments]


@pytest.fixture
def submitted(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Of each submission that leaves this process how many tasks it has; 0 is a call by itself."""
    counts: list[int] = []
    submit = ClientSession.submit

    def counting(self: ClientSession, message: Any, now: float) -> None:
        counts.append(len(message.tasks))
        submit(self, message, now)

    monkeypatch.setattr(ClientSession, "submit", counting)
    return counts


def is_local(face: Client | ComputeNode) -> bool:
    """Whether its session goes over the gateway's Unix socket, once it is connected."""
    wait_until(lambda: face.is_connected)
    link = face._connection._link if isinstance(face, Client) else face._engine._link  # type: ignore[union-attr]
    return isinstance(link._stream, LocalStream)
