"""T10, T15: no secret in a log, a repr, an error, a list of processes, a worker's environment, or what is written to disk for others."""

from __future__ import annotations

import base64
import json
import logging
import os
import pickle
import re
import traceback
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from easyremote import AuthError, Client, ComputeNode, EasyRemoteError, Server
from easyremote.security.identity import Identity
from tests.conftest import descendants_of

pytestmark = pytest.mark.attack


def found_in(text: str, secrets: dict[str, str]) -> list[str]:
    """The names of those that are in it."""
    return [name for name, secret in secrets.items() if secret in text]


def environment_of(pid: int) -> str:
    return Path(f"/proc/{pid}/environ").read_text(errors="replace")


def command_of(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text(errors="replace")


@pytest.fixture
def secrets(server: Server) -> dict[str, str]:
    """By name, the owner's token, and the secret parts of others."""
    made = {"owner": server.token}
    for role in ("call", "ship", "serve", "admin"):
        made[role] = server.tokens.create(role, [role])[1].split("_", 2)[2]
    assert all(len(secret) > 20 for secret in made.values())
    return made


@pytest.fixture
def said(caplog: pytest.LogCaptureFixture) -> Iterator[pytest.LogCaptureFixture]:
    """Everything that anybody logs, down to the last detail."""
    with caplog.at_level(logging.DEBUG):
        yield caplog


def everything_goes_wrong(server: Server, node: ComputeNode, client: Client) -> list[str]:
    """Texts of errors of many kinds, with their tracebacks as a person may paste them somewhere."""
    texts: list[str] = []

    def fails(x: Any) -> None:
        raise ValueError("as it should")

    wrong = [
        lambda: client.call(fails, 1),
        lambda: client.call("nothing"),
        lambda: client.call("echo"),
        lambda: client.call_node("nowhere", "echo", 1),
        lambda: client.call(lambda: os._exit(3)),
        lambda: Client(server.address, token="er_01234567_wrong"),
        lambda: Client("127.0.0.1:1", token=server.token),
        lambda: ComputeNode(server.address, "x", token=server.token[:-1]).serve(),
        lambda: ComputeNode("127.0.0.1:1", "x", token=server.token).serve(),
    ]
    for work in wrong:
        with pytest.raises((EasyRemoteError, ValueError)) as caught:
            work()
        texts += traceback.format_exception(caught.value)
        texts += [repr(caught.value), str(vars(caught.value))]
    return texts


def test_no_secret_is_shown_or_logged(
    server: Server, node: ComputeNode, client: Client, secrets: dict[str, str], said: pytest.LogCaptureFixture
) -> None:
    texts = everything_goes_wrong(server, node, client)
    for face in (server, server.tokens, node, client, client._connection, client._connection.endpoint, node._engine):
        texts += [repr(face), str(face)]
    texts += [repr(record) for record in server.tokens.list()]
    texts += [repr(client.list_nodes()), repr(client.gateway_info()), repr(client.explain("echo"))]
    with pytest.raises(AuthError) as refused:
        Client(server.address, token=secrets["call"])
    texts += traceback.format_exception(refused.value)
    texts.append(said.text)
    assert found_in("\n".join(texts), secrets) == []


def test_no_secret_is_in_a_workers_environment_or_on_a_command_line(
    server: Server, node: ComputeNode, client: Client, secrets: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EASYREMOTE_TOKEN", server.token)  # as where the node was told so

    def look() -> tuple[int, dict[str, str], list[str]]:
        import os

        paths = [f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")]  # one of them is this list's
        links = [os.readlink(path) for path in paths if os.path.lexists(path)]
        return os.getpid(), dict(os.environ), links

    pid, environment, links = client.call(look)
    assert found_in(json.dumps(environment), secrets) == []
    assert found_in(environment_of(pid), secrets) == []  # what it was started with
    assert not [name for name in environment if name in ("EASYREMOTE_TOKEN", "EASYREMOTE_ADDRESS")]
    assert not [link for link in links if link.endswith((".json", ".sqlite", ".key"))]
    for process in {os.getpid(), pid, *descendants_of(os.getpid())}:
        assert found_in(command_of(process), secrets) == [], process


def test_only_files_of_ones_own_hold_a_secret(server: Server, secrets: dict[str, str], runtime_folder: Path) -> None:
    holding: dict[str, list[str]] = {}
    for path in runtime_folder.rglob("*"):
        if path.is_file():
            names = found_in(path.read_bytes().decode("latin-1"), secrets)
            if names:
                holding[path.name] = names
                assert path.stat().st_mode & 0o777 == 0o600
                assert path.parent.stat().st_mode & 0o777 == 0o700
    assert [(re.sub(r"\d+", "N", name), names) for name, names in holding.items()] == [("gateway-N.json", ["owner"])]


def test_a_private_key_is_not_shown() -> None:
    secrets = b"s" * 32, b"t" * 32
    identity = Identity(*secrets)
    shown = f"{identity!r} {identity} {identity.public!r}"
    for secret in secrets:
        assert secret.decode() not in shown and secret.hex() not in shown
        assert base64.urlsafe_b64encode(secret).decode().rstrip("=") not in shown
    with pytest.raises((TypeError, EasyRemoteError)):
        pickle.dumps(identity)


def test_committed_notebooks_hold_no_token() -> None:
    for path in (Path(__file__).parents[2] / "notebooks").glob("*.ipynb"):
        text = path.read_text()
        assert not re.search(r"er_[0-9a-f]{8}_[A-Za-z0-9_-]{20,}|er1:[A-Za-z0-9_-]{40,}|Bearer \S{20,}", text), path
