"""An owned gateway (T7) that wants code to run: its own, somebody's again, or where it wasn't meant to. None of it runs.

The node is a process of its own, told by `easyremote trust` whom to trust; the gateway relays what it likes.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from easyremote import Client, Server
from easyremote.core.broker import Broker
from easyremote.errors import AuthError, ConsentError, EasyRemoteError
from easyremote.execution.functions import ship
from easyremote.security.authorized_keys import AuthorizedKeys, make_key
from easyremote.security.identity import Identity, own_identity
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.conftest import wait_until

pytestmark = pytest.mark.attack

COMMAND = [sys.executable, "-m", "easyremote"]
Alter = Callable[[pb.Submit], None]


class Owned:
    """What its owner does with calls that come from clients."""

    def __init__(self) -> None:
        self.calls: list[pb.Submit] = []  # as they came
        self.alter: Alter = lambda submit: None

    def frames(self, frames: Iterable[pb.Frame]) -> Iterator[pb.Frame]:
        for frame in frames:
            if frame.HasField("submit"):
                kept = pb.Submit()
                kept.CopyFrom(frame.submit)
                self.calls.append(kept)
                self.alter(frame.submit)
            yield frame


@pytest.fixture
def owned(monkeypatch: pytest.MonkeyPatch) -> Owned:
    shell = Owned()
    received = Broker.received

    def hostile(broker: Broker, conn: int, frames: Iterable[pb.Frame], now: float) -> Any:
        return received(broker, conn, list(shell.frames(frames)), now)

    monkeypatch.setattr(Broker, "received", hostile)
    monkeypatch.setenv("EASYREMOTE_SEAL", "1")
    return shell


@pytest.fixture
def server(owned: Owned) -> Iterator[Server]:
    with Server(port=0) as server:
        yield server


Nodes = Callable[[str], None]


@pytest.fixture
def nodes(server: Server, tmp_path: Path) -> Iterator[Nodes]:
    """Start a node, which has its own keys and trusts whom the user of this test trusts."""
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str) -> None:
        log = (tmp_path / f"{name}.log").open("wb")
        command = [*COMMAND, "join", server.address, "--name", name, "--code", "signed", "--wait", "30"]
        started.append(subprocess.Popen(command, stdout=log, stderr=log))
        log.close()
        wait_until(lambda: b"joined the gateway" in (tmp_path / f"{name}.log").read_bytes())

    yield start
    for process in started:
        process.terminate()
    for process in started:
        process.wait(30)


@pytest.fixture
def client(server: Server, nodes: Nodes) -> Iterator[Client]:
    AuthorizedKeys().add(make_key(own_identity().public))
    nodes("gpu")
    with Client(server.address) as client:
        wait_until(lambda: client.list_nodes())
        assert client.call(_touch_and, None) is None
        yield client


def _touch_and(path: str | None) -> None:
    if path is not None:
        with open(path, "a") as file:
            file.write("ran\n")


def runs(path: Path) -> int:
    return path.read_text().count("ran") if path.exists() else 0


def test_a_trusted_key_runs_code_and_a_stranger_is_told_what_to_do(
    client: Client, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.call(_touch_and, str(tmp_path / "mine"))
    assert runs(tmp_path / "mine") == 1
    monkeypatch.setenv("EASYREMOTE_CONFIG_DIR", str(tmp_path / "stranger"))
    with Client(server.address) as stranger, pytest.raises(ConsentError) as caught:
        stranger.call(_touch_and, str(tmp_path / "theirs"))
    assert f"easyremote trust {own_identity().public.text}" in caught.value.message
    assert runs(tmp_path / "theirs") == 0


def test_a_call_that_is_sent_again_does_not_run_again(client: Client, owned: Owned, tmp_path: Path) -> None:
    client.with_options(retries=0).call(_touch_and, str(tmp_path / "ran"))
    assert runs(tmp_path / "ran") == 1
    recorded = owned.calls[-1]

    def replay(submit: pb.Submit) -> None:
        call_id = submit.call_id
        submit.CopyFrom(recorded)
        submit.call_id = call_id  # the gateway's own bookkeeping needs a new one

    owned.alter = replay
    with pytest.raises(AuthError, match="changed on its way"):
        client.call(_touch_and, str(tmp_path / "other"))
    assert runs(tmp_path / "ran") == 1


def test_a_node_that_was_restarted_still_knows_what_it_has_begun(
    client: Client, owned: Owned, server: Server, nodes: Nodes, tmp_path: Path
) -> None:
    client.with_options(retries=0, node="gpu").call(_touch_and, str(tmp_path / "ran"))
    recorded = owned.calls[-1]
    client.close()
    nodes("again")  # of the same key: another process of this user
    with Client(server.address) as other:
        wait_until(lambda: any(node.node_id == "again" for node in other.list_nodes()))

        def replay(submit: pb.Submit) -> None:
            submit.CopyFrom(recorded)
            submit.options.node_id = "again"

        owned.alter = replay
        call = other.submit(_touch_and, str(tmp_path / "other"))
        with pytest.raises((EasyRemoteError, TimeoutError)):
            call.result(3)
    assert runs(tmp_path / "ran") == 1


@pytest.mark.parametrize(
    "name",
    ["statement", "signature", "box", "mac", "session", "kind", "spec", "digest", "python", "no seal"],
)
def test_what_is_changed_of_a_call_with_code_keeps_it_from_running(
    client: Client, owned: Owned, name: str, tmp_path: Path
) -> None:
    def alter(submit: pb.Submit) -> None:
        if name in ("statement", "signature", "box", "mac"):
            content = bytearray(getattr(submit.seal, name))
            content[len(content) // 2] ^= 1
            setattr(submit.seal, name, bytes(content))
        elif name == "session":
            submit.options.session_id = "another"
        elif name == "kind":
            submit.code.kind = pb.Code.KIND_REGISTER
        elif name == "spec":
            submit.code.spec.name = "other"
        elif name == "digest":
            submit.code.digest = "0" * 64
        elif name == "python":
            submit.code.python = ""
        else:
            submit.ClearField("seal")

    owned.alter = alter
    with pytest.raises(EasyRemoteError):
        client.with_options(queue_timeout=3).call(_touch_and, str(tmp_path / "ran"))
    assert runs(tmp_path / "ran") == 0


@pytest.mark.parametrize("how", ["in clear", "in another's seal", "signed by itself"])
def test_code_of_the_gateways_own_does_not_run(client: Client, owned: Owned, how: str, tmp_path: Path) -> None:
    canary = tmp_path / "ran"

    def evil() -> None:
        _touch_and(str(canary))

    code, encoded = ship(evil, pb.Code.KIND_CALLABLE, pb.FunctionSpec(name="evil"))
    itself = Identity.generate()

    def inject(submit: pb.Submit) -> None:
        submit.code.CopyFrom(code)
        submit.code.payload.CopyFrom(encoded.inline())
        if how == "in clear":
            submit.ClearField("seal")
        elif how == "signed by itself":
            submit.seal.signature = itself.sign(b"call 1", submit.seal.statement)

    owned.alter = inject
    with pytest.raises(EasyRemoteError):
        client.with_options(queue_timeout=3).call(_touch_and, None)
    assert not canary.exists()


def test_code_does_not_run_under_another_clients_key(
    client: Client, owned: Owned, server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that may only call, and a gateway that helps it: it puts its own admission to the code of one that may ship."""
    client.call(_touch_and, None)
    recorded = owned.calls[-1]
    caller = Identity.load_or_create(tmp_path / "caller" / "identity.key")
    AuthorizedKeys().add(make_key(caller.public, call_only=True))
    monkeypatch.setenv("EASYREMOTE_CONFIG_DIR", str(tmp_path / "caller"))
    with Client(server.address) as other:
        with pytest.raises(ConsentError, match="may not bring code"):
            other.call(_touch_and, str(tmp_path / "ran"))

        def borrow(submit: pb.Submit) -> None:
            submit.seal.signature = recorded.seal.signature

        owned.alter = borrow
        with pytest.raises(ConsentError):
            other.call(_touch_and, str(tmp_path / "ran"))
    assert runs(tmp_path / "ran") == 0
