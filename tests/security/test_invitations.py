"""An invitation leads to one gateway, once, and leaves a credential behind. Item 54: used twice it is refused."""

from __future__ import annotations

import json
import logging
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from easyremote import Client, ComputeNode, Server, joining
from easyremote.cli import hiding
from easyremote.connection import Connection
from easyremote.core.access import Role
from easyremote.errors import AuthError, EasyRemoteError, GatewayUnreachable, UntrustedGateway, UsageError
from easyremote.security import credentials
from easyremote.security.authorized_keys import AuthorizedKeys
from easyremote.security.identity import PublicIdentity
from easyremote.security.joining import MAX_CHARACTERS, Invitation, is_invitation
from tests.cli.conftest import COMMAND, Program, run, start  # noqa: F401 - fixtures
from tests.cli.conftest import folder as folder_of_commands
from tests.security.conftest import Reached

folder = folder_of_commands

HOST = st.from_regex(r"[a-z0-9.-]{1,40}:[1-9][0-9]{0,3}", fullmatch=True)
INVITATIONS = st.builds(
    Invitation,
    st.lists(HOST, min_size=1, max_size=16).map(tuple),
    st.sampled_from(["", "ab" * 32, "0123456789abcdef" * 4]),
    st.text("abcdefXYZ_-0123456789", min_size=1, max_size=80),
    st.lists(st.sampled_from(list(Role)), min_size=1, max_size=4, unique=True).map(tuple),
    st.text(max_size=40),
    st.sampled_from([b"", bytes(range(128))]),
)
ONE = Invitation(("gpu.example.org:8080",), "ab" * 32, "er_01234567_" + "s" * 43, (Role.SERVE,), "gpu")


# ---- the text ---------------------------------------------------------------------------------------------------------


@given(INVITATIONS)
def test_what_is_written_is_read(invitation: Invitation) -> None:
    text = invitation.format()
    assert Invitation.parse(text) == invitation
    assert Invitation.parse(f"  {text[:20]}\n  {text[20:]} \n") == invitation  # a line that was broken
    assert is_invitation(text) and text.isascii() and len(text.split()) == 1


def test_its_token_is_in_no_representation() -> None:
    assert ONE.token not in repr(ONE)


@given(st.text() | st.text(max_size=200).map(lambda text: "er1:" + text))
def test_whatever_else_is_read_says_what_is_wrong(text: str) -> None:
    with pytest.raises(UsageError):
        Invitation.parse(text)


@given(st.integers(4, len(ONE.format()) - 1), st.sampled_from("Ab9_-"))
def test_a_slip_is_noticed(place: int, put: str) -> None:
    text = ONE.format()
    with pytest.raises(UsageError, match="er1:"):
        Invitation.parse(text[:place])
    if text[place] != put:
        try:
            parsed = Invitation.parse(text[:place] + put + text[place + 1 :])
        except UsageError:
            return
        assert parsed == ONE and place == len(text) - 1  # bits of the last character that mean nothing


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "begins with er1:"),
        ("gpu.example.org:8080", "begins with er1:"),
        ("er2:AAAA", "newer EasyRemote"),
        ("er1:", "cut or changed"),
        ("er1:A", "characters that none has, or was cut"),
        ("er1:ä", "characters that none has"),
        (ONE.format()[:-9], "cut"),
        ("er1:" + "A" * MAX_CHARACTERS, "at most"),
    ],
)
def test_what_is_wrong_is_said_and_nothing_shown(text: str, what: str) -> None:
    with pytest.raises(UsageError, match=what) as caught:
        Invitation.parse(text)
    assert len(text) < 8 or text not in str(caught.value)


def test_an_address_is_no_invitation() -> None:
    assert not any(map(is_invitation, ["er1:8080", "gpu:8080", "localhost", None, "", "er1", "er1x:9"]))


# ---- joining ----------------------------------------------------------------------------------------------------------


def test_joining_makes_nodes_and_clients_that_come_back_without_the_invitation(other_user: Reached) -> None:
    server = other_user.server
    with ComputeNode(server.invite("node"), "far") as node, Client(server.invite("ship")) as client:
        node.register(len, name="length")
        assert client.call("length", "abc") == 3
        assert client.call(lambda: 5) == 5
    with ComputeNode(node_id="far") as node, Client() as client:  # after a reboot
        node.register(len, name="length")
        assert client.call("length", "abcd") == 4
        assert not client._connection._link.endpoint.is_own
    kept = credentials.load_all()
    assert {one.roles for one in kept} == {(Role.SERVE,), (Role.SHIP,)}
    for one in kept:
        assert stat.S_IMODE(one.path.stat().st_mode) == 0o600
        assert one.fingerprint == server.fingerprint
        assert one.token not in repr(one)


def test_the_same_text_is_good_for_ever_where_it_was_used_and_nowhere_else(
    other_user: Reached, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    text = other_user.server.invite("call")
    for _ in range(2):
        with Client(text) as client:
            client.list_nodes()
    monkeypatch.setenv("EASYREMOTE_ADDRESS", text)
    with Client() as client:
        client.list_nodes()
    monkeypatch.setenv("EASYREMOTE_CONFIG_DIR", str(tmp_path / "another"))
    with pytest.raises(AuthError, match="it was used, has expired, or was revoked"):
        Client()


@pytest.mark.attack
def test_of_many_who_use_it_at_once_one_gets_in(
    other_user: Reached, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """T4, item 54: a line that somebody else has copied."""
    invitation = Invitation.parse(other_user.server.invite("node", uses=3))
    outcomes: list[Any] = []

    def use() -> None:
        try:
            outcomes.append(joining._exchange(invitation))
        except AuthError as error:
            outcomes.append(error)

    threads = [threading.Thread(target=use) for _ in range(10)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(isinstance(outcome, credentials.Credential) for outcome in outcomes) == 3
    assert len(outcomes) == 10
    store = other_user.server._tokens
    assert store is not None
    assert [record.kind for record in store.list()] == ["token"] * 3


@pytest.mark.attack
def test_an_invitation_opens_nothing_but_join(other_user: Reached) -> None:
    invitation = Invitation.parse(other_user.server.invite("admin"))
    with pytest.raises(AuthError, match="refused the token"):
        Connection(other_user.endpoint(token=invitation.token))


@pytest.mark.attack
def test_an_expired_or_revoked_invitation_is_refused_alike(other_user: Reached) -> None:
    server = other_user.server
    assert server._tokens is not None
    short, gone = Invitation.parse(server.invite(expires=0.05)), Invitation.parse(server.invite())
    server._tokens.revoke(gone.invitation_id)
    until = time.monotonic() + 5
    while server._tokens.invitation_of(short.token, time.monotonic()) is not None:
        assert time.monotonic() < until
    said = set()
    for invitation in (short, gone):
        with pytest.raises(AuthError) as caught:
            joining.join(invitation)
        said.add(caught.value.message)
    assert len(said) == 1


@pytest.mark.attack
def test_another_gateway_at_the_address_gets_no_token(other_user: Reached) -> None:
    """T3: the invitation names the key, and what answers has another."""
    invitation = Invitation.parse(other_user.server.invite())
    with pytest.raises(UntrustedGateway):
        joining.join(Invitation(invitation.addresses, "ab" * 32, invitation.token, invitation.roles))
    assert joining.join(invitation).roles == (Role.SERVE,)  # and the invitation stands


def test_a_node_trusts_the_key_of_who_invited_it(other_user: Reached) -> None:
    invitation = Invitation.parse(other_user.server.invite("node"))
    inviter = PublicIdentity.parse(invitation.inviter)
    assert AuthorizedKeys().find(inviter.sign_key) is None
    joining.join(Invitation.parse(other_user.server.invite("ship")))  # a client trusts nobody for having been invited
    assert AuthorizedKeys().find(inviter.sign_key) is None
    joining.join(invitation)
    known = AuthorizedKeys().find(inviter.sign_key)
    assert known is not None and known.may_ship


def test_an_invitation_for_something_else_is_refused_before_it_is_used(other_user: Reached) -> None:
    node, client = other_user.server.invite("node"), other_user.server.invite("call")
    with pytest.raises(UsageError, match=r"for nodes, not for a client.*--role ship"):
        Client(node)
    with pytest.raises(UsageError, match=r"for clients, not for a node.*--role node"):
        ComputeNode(client).serve()
    with Client(client), ComputeNode(node):
        pass


def test_who_may_not_administer_invites_nobody(other_user: Reached) -> None:
    with Client(other_user.server.invite("ship")) as client, pytest.raises(AuthError, match="role admin"):
        client.invite()
    with (
        Client(other_user.server.invite("admin")) as client,
        Client(client.invite("call", functions=["pre*"])) as called,
    ):
        assert called.list_nodes() == []


def test_a_full_disk_uses_no_invitation_up(other_user: Reached, monkeypatch: pytest.MonkeyPatch) -> None:
    server = other_user.server
    invitation = Invitation.parse(server.invite())
    assert server._tokens is not None
    with monkeypatch.context() as patch:
        patch.setattr("easyremote.security.tokens.write_private", _full)
        with pytest.raises(EasyRemoteError):
            joining.join(invitation)
    assert joining.join(invitation).token


def _full(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_credential_that_cannot_be_kept_works_as_long_as_the_process(
    other_user: Reached, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(credentials, "write_private", _full)
    with caplog.at_level(logging.WARNING, "easyremote"), Client(other_user.server.invite("call")) as client:
        assert client.list_nodes() == []
    assert "can't be kept" in caplog.text


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o666])
def test_a_credential_that_others_can_read_is_refused(other_user: Reached, mode: int) -> None:
    credential = joining.join(Invitation.parse(other_user.server.invite("call")))
    credential.path.chmod(mode)
    with pytest.raises(AuthError, match="open to other users"):
        Client()
    credential.path.chmod(0o600)
    credential.path.parent.chmod(0o777)
    with pytest.raises(AuthError, match="other users can put files"):
        Client()


def test_a_damaged_credential_is_refused_and_shows_nothing(other_user: Reached) -> None:
    credential = joining.join(Invitation.parse(other_user.server.invite("call")))
    credential.path.write_text(json.dumps({"version": 1, "token": credential.token}))
    with pytest.raises(AuthError, match="delete it, and join again") as caught:
        Client()
    assert credential.token not in str(caught.value)


def test_the_error_when_nothing_is_found_says_all_that_was_looked_at(
    runtime_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EasyRemoteError) as caught:
        Client()
    for place in ("address was given", "EASYREMOTE_ADDRESS", str(runtime_folder), "config.toml", "joined"):
        assert place in str(caught.value)


@pytest.mark.parametrize(
    ("facts", "what"),
    [
        ({"role": "king"}, "no role 'king'"),
        ({"expires": "soon"}, "expires is a span"),
        ({"expires": 0}, "365 days"),
        ({"expires": "400d"}, "365 days"),
        ({"uses": 0}, "uses is how often"),
        ({"role": "ship", "functions": ["a"]}, "kept to some functions"),
    ],
)
def test_what_no_invitation_can_be_is_refused(elsewhere: Reached, facts: dict[str, Any], what: str) -> None:
    with pytest.raises(UsageError, match=what):
        elsewhere.server.invite(**facts)


def test_a_gateway_on_loopback_invites_nobody() -> None:
    with Server(port=0) as server, pytest.raises(UsageError, match="loopback only"):
        server.invite()
    with pytest.raises(UsageError, match="isn't running"):
        server.invite()


# ---- the commands -----------------------------------------------------------------------------------------------------


def as_elsewhere(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """What is started from now on is as on another machine."""
    for kind in ("RUNTIME", "STATE", "CONFIG"):
        path = tmp_path / name / kind
        path.mkdir(mode=0o700, parents=True, exist_ok=True)
        monkeypatch.setenv(f"EASYREMOTE_{kind}_DIR", str(path))


def assert_hidden(pid: int, invitation: str) -> None:
    """Everyone on a machine can read the arguments of its processes."""
    arguments = [argument for process in proc_of(pid) for argument in process.cmdline()]
    assert "er1:..." in arguments and "--name" in arguments
    assert not any(invitation[4:30] in argument for argument in arguments)


def proc_of(pid: int) -> list[psutil.Process]:
    """The process and what it started."""
    process = psutil.Process(pid)
    return [process, *process.children(recursive=True)]


@pytest.mark.parametrize("before", ["", "--gateway=", "-g"])
def test_an_invitation_is_hidden_wherever_an_argument_has_it(before: str) -> None:
    invitation = Invitation(("gpu:8080",), "ab" * 32, "secret-secret-secret", (Role.SERVE,), "").format()
    assert hiding.shown(before + invitation) == before + "er1:..."
    assert hiding.shown("er1:...") == "er1:..."


@pytest.mark.slow
def test_nothing_large_is_loaded_before_an_invitation_is_hidden() -> None:
    """Others see it until then, and most of a command's start goes into this."""
    code = (
        "import os, sys; from easyremote.cli import start\n"
        "sys.orig_argv = sys.argv = ['easyremote', 'join', 'er1:' + 30 * 'x']\n"
        "large = {'typer', 'click', 'asyncio', 'grpc'}\n"
        "os.execv = lambda program, arguments: sys.exit(' '.join(large & set(sys.modules)) or arguments[-1])\n"
        "start.main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stderr.strip() == "er1:..."


@pytest.mark.slow
def test_three_machines_become_one_by_pasting_two_lines(
    start: Callable[..., Program],  # noqa: F811
    run: Callable[..., subprocess.CompletedProcess[str]],  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    own_host: str,
) -> None:
    gateway = start("gateway", "--bind", "0.0.0.0", "--port", "0", "--name", "hub")
    gateway.wait_for("Ctrl-C stops the gateway.")
    lines = [line.split() for line in gateway.stdout.splitlines() if line.startswith("  easyremote join er1:")]
    assert own_host in gateway.stdout
    more = json.loads(run("invite", "--role", "call", "--json").stdout)["invitation"]

    as_elsewhere(monkeypatch, tmp_path, "gpu-box")
    node = start(*lines[0][1:], "--name", "box")
    node.wait_for("Ctrl-C stops the node.")
    assert_hidden(node.process.pid, lines[0][2])

    as_elsewhere(monkeypatch, tmp_path, "laptop")
    pasted = " ".join(lines[1])
    joined = subprocess.run([*COMMAND, "join", "-"], input=pasted, capture_output=True, text=True, timeout=60)
    assert joined.returncode == 0, joined.stderr
    assert "Joined the gateway hub" in joined.stdout
    assert "box" in run("status").stdout
    again = run("join", lines[0][2])
    assert again.returncode == 4 and "it was used" in again.stderr

    as_elsewhere(monkeypatch, tmp_path, "gpu-box")
    assert node.stop(2) == 0
    rebooted = start("join", "--name", "box")
    rebooted.wait_for("Ctrl-C stops the node.")

    as_elsewhere(monkeypatch, tmp_path, "phone")
    nothing = run("join")
    assert nothing.returncode == 2 and "easyremote join er1:" in nothing.stderr
    assert run("join", more).returncode == 0
    refused = run("invite")
    assert refused.returncode == 4 and "role admin" in refused.stderr
    for program in (gateway, node, rebooted):
        assert "Traceback" not in program.stderr


def test_nothing_on_standard_input_is_said(run: Callable[..., subprocess.CompletedProcess[str]]) -> None:  # noqa: F811
    done = run("join", "-")
    assert done.returncode == 2 and "standard input" in done.stderr


def test_an_unreachable_gateway_is_said_to_be(other_user: Reached) -> None:
    invitation = Invitation.parse(other_user.server.invite())
    other_user.server.stop()
    with pytest.raises(GatewayUnreachable, match="connection refused"):
        joining.join(Invitation(("127.0.0.1:1",), invitation.fingerprint, invitation.token))
