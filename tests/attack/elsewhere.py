"""A gateway, nodes and clients as on different machines: nothing between them but TLS, and no folder of one in sight of another."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from easyremote import Client, Server
from easyremote.core.broker import Broker
from easyremote.security.authorized_keys import AuthorizedKeys, make_key
from easyremote.security.identity import own_identity
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.conftest import wait_until
from tests.e2e.conftest import Wire

COMMAND = [sys.executable, "-m", "easyremote"]


class Owned:
    """A gateway whose owner does as they like with calls that come from clients; its nodes are processes with keys of their own.

    Clients and nodes reach it through a port at which nobody of this user is known to listen, so it isn't their own.
    """

    def __init__(self, server: Server, folder: Path, open_ones: ExitStack) -> None:
        self.server = server
        self.folder = folder
        self.calls: list[pb.Submit] = []  # as they came
        self._open_ones = open_ones
        self.reset()

    def reset(self) -> None:
        self.calls.clear()
        self.alter: Any = lambda submit: None

    def frames(self, frames: Iterable[pb.Frame]) -> Iterator[pb.Frame]:
        for frame in frames:
            if frame.HasField("submit"):
                kept = pb.Submit()
                kept.CopyFrom(frame.submit)
                self.calls.append(kept)
                self.alter(frame.submit)
            yield frame

    def environment(self, name: str) -> dict[str, str]:
        """Folders of its own for a process."""
        folder = self.folder / name
        folder.mkdir(mode=0o700, exist_ok=True)
        kinds = {"RUNTIME": "", "STATE": "state", "CONFIG": "config"}
        return {f"EASYREMOTE_{kind}_DIR": str(folder / part) for kind, part in kinds.items()}

    def start_node(self, name: str, like: str = "") -> None:
        """`like`: with the keys and folders of another, which it trusts and has begun the same calls."""
        log = self.folder / f"{name}.log"
        command = [*COMMAND, "join", self.server.invite("node"), "--name", name, "--code", "signed", "--wait", "30"]
        env = os.environ | self.environment(like or name)
        with log.open("wb") as file:
            process = subprocess.Popen(command, stdout=file, stderr=file, env=env)
        self._open_ones.callback(_end, process)
        wait_until(lambda: b"joined the gateway" in log.read_bytes())

    def trusts(self, node: str, *keys: Any) -> None:
        """Tell a node whom to trust, as `easyremote trust` does there."""
        told = AuthorizedKeys(Path(self.environment(node)["EASYREMOTE_CONFIG_DIR"]) / "authorized_keys")
        for key in keys:
            told.add(key)

    @contextmanager
    def client(self, role: str = "ship") -> Iterator[Client]:
        """Of the configuration that this process has now."""
        with Client(self.server.invite(role)) as client:
            wait_until(client.list_nodes)
            assert client._connection.endpoint.tls and not client._connection.endpoint.is_own
            yield client


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.wait(30)


def own_a_gateway(folder: Path) -> Iterator[Owned]:
    """With one node, "gpu"; as a fixture of a module."""
    folder.chmod(0o700)
    received = Broker.received
    with ExitStack() as open_ones:
        patch = open_ones.enter_context(pytest.MonkeyPatch.context())
        server = open_ones.enter_context(Server(port=0, host="0.0.0.0"))
        wire = Wire(server.address)
        open_ones.callback(wire.close)
        server._network._advertised = (wire.address,)
        owned = Owned(server, folder, open_ones)

        def hostile(broker: Broker, conn: int, frames: Iterable[pb.Frame], now: float) -> Any:
            return received(broker, conn, list(owned.frames(frames)), now)

        patch.setattr(Broker, "received", hostile)
        owned.start_node("gpu")
        yield owned


def trust_me(owned: Owned, *nodes: str) -> None:
    for node in nodes or ("gpu",):
        owned.trusts(node, make_key(own_identity().public))
