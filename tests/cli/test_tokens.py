"""`easyremote tokens`, with a gateway that runs."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from easyremote import AuthError, Client, PermissionDenied, Server, UsageError
from easyremote.discovery import state_folder
from tests.conftest import wait_until

pytestmark = pytest.mark.slow

Run = Callable[..., Any]


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(port=0) as running:
        yield running


def test_a_token_is_made_listed_used_and_revoked(server: Server, run: Run) -> None:
    assert "No tokens" in run("tokens").stdout
    made = run(
        *("tokens", "create", "--name", "lab", "--role", "call", "--role", "serve", "--function", "f*"),
        *("--node", "gpu-*", "--expires", "7d", "--max-calls", "9", "--max-bytes", "1MiB", "--rate", "5"),
    )
    text = made.stdout.strip()
    assert made.returncode == 0 and text.startswith("er_") and text not in made.stderr
    token_id = text.split("_")[1]
    for words in (token_id, "'lab'", "call, serve", "functions f*", "nodes gpu-*", f"tokens revoke {token_id}"):
        assert words in made.stderr
    listed = run("tokens").stdout
    for words in (token_id, "lab", "call, serve", "9 calls, 1 MiB, 5 calls/s", "in 6 d"):
        assert words in listed, listed
    (record,) = [json.loads(line) for line in run("tokens", "list", "--json").stdout.splitlines()]
    assert (record["id"], record["max_bytes"], record["calls_per_s"]) == (token_id, 1 << 20, 5.0)
    assert text.split("_", 2)[2] not in listed + json.dumps(record)
    path = state_folder() / f"tokens-{server.port}.json"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    with Client(server.address, token=text) as client:
        assert client.is_connected
        assert "opens nothing" in run("tokens", "revoke", token_id).stdout
        wait_until(lambda: not client.is_connected)
    with pytest.raises(AuthError):
        Client(server.address, token=text)
    again = run("tokens", "revoke", token_id)
    assert again.returncode == 2 and "no token" in again.stderr
    assert json.loads(run("tokens", "create", "--name", "x", "--json").stdout)["token"].startswith("er_")


@pytest.mark.parametrize(
    "words",
    [
        ("tokens", "make"),
        ("tokens", "revoke"),
        ("tokens", "list", "3f9a01bc"),
        ("tokens", "create"),
        ("tokens", "create", "--name", "x", "--role", "root"),
        ("tokens", "create", "--name", "x", "--role", "ship", "--function", "f"),
        ("tokens", "create", "--name", "x", "--expires", "soon"),
        ("tokens", "create", "--name", "x", "--expires", "0"),
        ("tokens", "list", "--name", "x"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_is_said(server: Server, run: Run, words: tuple[str, ...]) -> None:
    outcome = run(*words)
    assert (outcome.returncode, outcome.stdout) == (2, ""), outcome
    assert server.tokens.list() == []


def test_only_administrators_and_the_gateways_user_administer(server: Server) -> None:
    with Client(server.address) as owner:
        _, member = owner.create_token("member", "ship")
        boss, admin = owner.create_token("boss", ["admin"])
    with Client(server.address, token=member) as client:
        for attack in (
            client.tokens,
            lambda: client.create_token("mine", ["admin"]),
            lambda: client.revoke_token(boss.id),
        ):
            with pytest.raises(PermissionDenied, match=r"'member'.*administer|administer.*'member'"):
                attack()
    with Client(server.address, token=admin) as client:
        assert [info.name for info in client.tokens()] == ["member", "boss"]
        with pytest.raises(UsageError):
            client.revoke_token("owner")
        with pytest.raises(UsageError):
            client.create_token("x", max_calls=-1)


def test_a_disk_that_takes_nothing_is_said_and_changes_nothing(server: Server, tmp_path: Path) -> None:
    state_folder().parent.mkdir(exist_ok=True)
    state_folder().write_text("a file where the folder should be")
    with Client(server.address) as owner, pytest.raises(Exception, match="tokens"):
        owner.create_token("lab")
    assert server.tokens.list() == []
