"""T9 and the fuzzer, where an input costs a connection or a file: bytes at the gateway's port, before and after TLS and the token;
and what a disk, or whoever gets at it, may have made of the journal.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import ssl
import struct
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from easyremote import Client, ComputeNode, Server
from easyremote.errors import JobsUnavailable
from easyremote.security.certificates import dialer_context
from easyremote.store.jobs import JobStore
from tests.attack.fuzzing import Fuzzer
from tests.attack.test_fuzz import INPUTS, SEED, Memory
from tests.conftest import wait_until
from tests.store.conftest import append, do, ended, item, keep, submission

pytestmark = pytest.mark.attack

MANY = pytest.mark.timeout(max(120, INPUTS // 1000))


class Tap:
    """Passes a connection on, and keeps what the dialer says."""

    def __init__(self, port: int) -> None:
        self.said = bytearray()
        self._port = port
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port = self._listening.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        with self._listening, contextlib.suppress(OSError):
            near, _ = self._listening.accept()
            far = socket.create_connection(("127.0.0.1", self._port))
            threading.Thread(target=self._pass, args=(far, near, None), daemon=True).start()
            self._pass(near, far, self.said)

    @staticmethod
    def _pass(source: socket.socket, target: socket.socket, into: bytearray | None) -> None:
        with source, target, contextlib.suppress(OSError):
            while data := source.recv(65536):
                if into is not None:
                    into += data
                target.sendall(data)


def recorded(server: Server, token: str) -> bytes:
    """What a client says in HTTP/2 until it is welcome: its preface, settings, the head of a request, Hello."""
    tap = Tap(server.port)
    with contextlib.suppress(Exception), Client(f"127.0.0.1:{tap.port}", token=token) as client:
        client.list_nodes()
    assert tap.said.startswith(b"PRI * HTTP/2.0")
    return bytes(tap.said)


def hello_of_tls() -> bytes:
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    with contextlib.suppress(ssl.SSLWantReadError):
        dialer_context(verified=False).wrap_bio(incoming, outgoing, server_hostname="gateway").do_handshake()
    return outgoing.read()


def inputs(fuzzer: Fuzzer, whole: bytes) -> Iterator[bytes]:
    """The beginning as it should be, and what follows spoiled; or all of it; or nothing that makes sense."""
    rng = fuzzer.random
    while True:
        what = rng.random()
        if what < 0.6:
            cut = rng.randrange(len(whole))
            yield whole[:cut] + fuzzer.spoiled(whole[cut:])
        elif what < 0.9:
            yield fuzzer.spoiled(whole)
        else:
            yield rng.randbytes(rng.choice((1, 9, 100, 5000)))


def say(port: int, data: bytes, tls: ssl.SSLContext | None) -> None:
    """Send it, and go as a process does that dies; the other side may have gone first."""
    with (
        contextlib.suppress(OSError),
        socket.create_connection(("127.0.0.1", port), 10) as sock,
        tls.wrap_socket(sock) if tls is not None else sock as stream,
    ):
        stream.sendall(data)
        stream.settimeout(0.01)
        with contextlib.suppress(OSError):
            stream.recv(65536)
        stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


@MANY
@pytest.mark.slow
@pytest.mark.parametrize("where", ["without TLS, without a token", "without TLS, with a token", "before TLS", "in TLS"])
def test_no_bytes_at_the_port_shake_the_gateway(where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    count = max(INPUTS // 200, 50)
    fuzzer, memory = Fuzzer(SEED + len(where)), Memory(count)
    with Server(port=0) as plain, Server(port=0, host="0.0.0.0") as secure:
        server = secure if "TLS" in where and "without TLS" not in where else plain
        with ComputeNode(server.address, "n") as node, Client(server.address) as client:
            node.register(len, name="length")
            monkeypatch.setenv("EASYREMOTE_LOCAL_SOCKET", "0")
            http2 = recorded(plain, plain.token if "with a token" in where else "er_01234567_nothing")
            stream = inputs(fuzzer, hello_of_tls() if where == "before TLS" else http2)
            tls = dialer_context(verified=False) if where == "in TLS" else None
            if tls is not None:
                tls.set_alpn_protocols(["h2"])
            descriptors = len(os.listdir("/proc/self/fd"))
            for number in range(count):
                say(server.port, next(stream), tls)
                if number % 50 == 0:
                    assert client.call("length", "ab") == 2
                memory.after(number + 1)
            assert client.call("length", "abc") == 3
            wait_until(lambda: len(os.listdir("/proc/self/fd")) < descriptors + 20)
    memory.check()


@MANY
@pytest.mark.slow
def test_no_bytes_of_a_journal_shake_what_opens_it(tmp_path: Path) -> None:
    """It is opened, with what can be read of it; or left as it is, with a word on what to do."""
    count = max(INPUTS // 2000, 10)
    fuzzer, memory = Fuzzer(SEED), Memory(count)
    good = tmp_path / "good" / "jobs.sqlite"

    def fill(store: JobStore) -> None:
        for number in range(5):
            job = keep(store, submission(data=b"%d" % number * 100))
            append(store, job, *(item(seq, b"%d" % seq * 50) for seq in range(1, 9)), ended(9, b"end"))

    def read(store: JobStore) -> int:
        records = store.records("", 0, 0)
        return len(records)

    do(good, fill)
    whole = good.read_bytes()
    opened = 0
    for number in range(count):
        path = tmp_path / str(number) / "jobs.sqlite"
        path.parent.mkdir()
        path.write_bytes(fuzzer.spoiled(whole))
        with contextlib.suppress(JobsUnavailable):
            assert do(path, read) <= 5
            opened += 1
        shutil.rmtree(path.parent)
        memory.after(number + 1)
    assert opened
    memory.check()
