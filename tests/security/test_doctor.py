"""`easyremote doctor` names the step that fails; each over real sockets."""

from __future__ import annotations

import asyncio
import json
import socket
from concurrent import futures
from dataclasses import replace
from typing import Any

import grpc
import pytest

from easyremote import Server, discovery, joining
from easyremote.cli import doctor
from easyremote.security.joining import Invitation
from easyremote.transport import checking
from tests.security.conftest import Make, Reached

pytestmark = pytest.mark.slow


@pytest.fixture
def examine(capsys: pytest.CaptureFixture[str]) -> Any:
    """`examine(address, role)`: its exit code, and the text of each step by name."""

    def run(address: str | None = None, role: str | None = None) -> tuple[int, dict[str, str]]:
        code = 0
        try:
            doctor.run(address, role, as_json=True)
        except SystemExit as end:
            code = int(end.code or 0)
        said = json.loads(capsys.readouterr().out)
        assert said["ok"] == (code == 0)
        assert [step["ok"] for step in said["steps"][:-1]] == [True] * (len(said["steps"]) - 1)
        return code, {step["step"]: step["text"] for step in said["steps"]}

    return run


def last(steps: dict[str, str]) -> tuple[str, str]:
    return list(steps.items())[-1]


def test_all_is_well_with_ones_own_gateway(examine: Any) -> None:
    with Server(port=0):
        code, steps = examine()
    assert code == 0
    assert list(steps) == ["address", "DNS", "TCP", "TLS", "token", "version", "role"]
    assert steps["role"] == "admin, call, serve, ship"


def test_all_is_well_with_a_gateway_that_was_joined(other_user: Reached, examine: Any) -> None:
    joining.join(Invitation.parse(other_user.server.invite("call")))
    code, steps = examine()
    assert code == 0
    assert list(steps) == ["address", "DNS", "TCP", "TLS", "fingerprint", "token", "version", "role"]
    assert steps["role"] == "call"


def test_an_invitation_is_looked_at_without_using_it_up(other_user: Reached, examine: Any) -> None:
    text = other_user.server.invite("node")
    code, steps = examine(text)
    assert (code, last(steps)[0]) == (0, "fingerprint")
    joining.join(Invitation.parse(text))
    assert last(examine(text)[1]) == ("role", "serve")


def test_a_name_that_there_is_not(examine: Any) -> None:
    code, steps = examine("no.such.host.invalid:8080")
    assert (code, last(steps)[0]) == (3, "DNS")
    assert "can't be resolved" in steps["DNS"]


def test_a_port_where_nobody_listens(examine: Any, own_host: str) -> None:
    with socket.socket() as nobody:
        nobody.bind((own_host, 0))
        code, steps = examine(f"{own_host}:{nobody.getsockname()[1]}")
    assert (code, last(steps)[0]) == (3, "TCP")
    assert "connection refused" in steps["TCP"]


def test_a_port_that_says_nothing(examine: Any, own_host: str) -> None:
    with socket.create_server((own_host, 0)) as silent:
        code, steps = examine(f"{own_host}:{silent.getsockname()[1]}")
    assert (code, last(steps)[0]) == (3, "TLS")
    assert "said nothing for 4 s" in steps["TLS"]


def test_a_tunnel_to_a_gateway_that_speaks_tls(other_user: Reached, examine: Any) -> None:
    code, steps = examine(f"localhost:{other_user.server.port}")
    assert (code, last(steps)[0]) == (3, "TLS")
    assert "invitation" in steps["TLS"]


def test_another_key(other_user: Reached, examine: Any) -> None:
    known = Invitation.parse(other_user.server.invite())
    code, steps = examine(Invitation(known.addresses, "ab" * 32, known.token, known.roles).format())
    assert (code, last(steps)[0]) == (4, "fingerprint")
    assert "not the gateway that was joined" in steps["fingerprint"]


def test_a_certificate_that_nobody_vouches_for(other_user: Reached, examine: Any) -> None:
    code, steps = examine(other_user.address)
    assert (code, last(steps)[0]) == (4, "certificate")


def test_a_certificate_for_another_host(
    make: Make, examine: Any, own_host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = make(["authority"], is_authority=True)
    files = make(["other.test"], by=authority)
    monkeypatch.setenv("SSL_CERT_FILE", str(authority[0]))
    with Server(port=0, host="0.0.0.0", certificate=files[0], key=files[1]) as server:
        code, steps = examine(f"{own_host}:{server.port}")
    assert (code, last(steps)[0]) == (4, "certificate")
    assert "mismatch" in steps["certificate"]


def test_a_token_that_was_revoked(other_user: Reached, examine: Any) -> None:
    credential = joining.join(Invitation.parse(other_user.server.invite("call")))
    assert other_user.server._tokens is not None
    other_user.server._tokens.revoke(credential.token[3:11])
    code, steps = examine()
    assert (code, last(steps)[0]) == (4, "token")
    assert "revoked" in steps["token"]


def test_a_refusal_is_never_taken_for_another_program() -> None:
    """It may come while the hello is still being written."""

    async def failed_steps() -> list[str]:
        return [step.name for _ in range(100) async for step in checking.examine(wrong) if step.error is not None]

    with Server(port=0):
        wrong = replace(discovery.find(), token=f"er_12345678_{'x' * 43}")
        assert asyncio.run(failed_steps()) == ["token"] * 100


def test_a_token_without_the_role(other_user: Reached, examine: Any) -> None:
    joining.join(Invitation.parse(other_user.server.invite("ship")))
    assert examine(None, "call")[0] == 0
    code, steps = examine(discovery.find().address, "admin")
    assert (code, last(steps)[0]) == (4, "role")
    assert "not admin" in steps["role"]


def test_a_gateway_of_another_protocol(examine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easyremote.transport.checking.PROTOCOL_VERSION", 7)
    with Server(port=0):
        code, steps = examine()
    assert (code, last(steps)[0]) == (1, "version")
    assert "upgrade the older one" in steps["version"]


def test_another_grpc_server(examine: Any) -> None:
    server = grpc.server(futures.ThreadPoolExecutor(1))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        code, steps = examine(f"127.0.0.1:{port}")
        assert (code, last(steps)[0]) == (0, "TLS")  # nobody knows a token for it, so no more is tried
        code, steps = _with_token(examine, port)
    finally:
        server.stop(None)
    assert (code, last(steps)[0]) == (1, "version")
    assert "is not an EasyRemote gateway" in steps["version"]


def _with_token(examine: Any, port: int) -> tuple[int, dict[str, str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("EASYREMOTE_TOKEN", "a token for this one")
        return examine(f"127.0.0.1:{port}")


def test_the_second_address_leads_there(other_user: Reached, examine: Any) -> None:
    known = Invitation.parse(other_user.server.invite())
    text = Invitation(("127.0.0.1:1", *known.addresses), known.fingerprint, known.token, known.roles).format()
    code, steps = examine(text)
    assert (code, last(steps)[0]) == (0, "fingerprint")
