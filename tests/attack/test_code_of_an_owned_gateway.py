"""An owned gateway (T7) that wants code to run: its own, somebody's again, or where it wasn't meant to. None of it runs.

All over TLS, as between machines: the nodes are processes of their own with keys of their own, told whom to trust; the gateway
relays what it likes.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from easyremote import Client, ComputeNode, sealing
from easyremote.errors import AuthError, ConsentError, EasyRemoteError
from easyremote.execution.functions import ship
from easyremote.security.authorized_keys import AuthorizedKeys, make_key
from easyremote.security.identity import Identity, own_identity
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.attack.elsewhere import Owned, own_a_gateway, trust_me
from tests.conftest import wait_until

pytestmark = [pytest.mark.attack, pytest.mark.slow]


@pytest.fixture(scope="module")
def gateway(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Owned]:
    yield from own_a_gateway(tmp_path_factory.mktemp("owned"))


@pytest.fixture
def owned(gateway: Owned) -> Owned:
    gateway.reset()
    return gateway


@pytest.fixture
def client(owned: Owned) -> Iterator[Client]:
    """Whose key the node trusts."""
    trust_me(owned)
    with owned.client() as client:
        assert client.call(_touch_and, None) is None
        yield client


def _touch_and(path: str | None) -> None:
    if path is not None:
        with open(path, "a") as file:
            file.write("ran\n")


def runs(path: Path) -> int:
    return path.read_text().count("ran") if path.exists() else 0


def test_a_trusted_key_runs_code_and_a_stranger_is_told_what_to_do(
    client: Client, owned: Owned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    client.call(_touch_and, str(tmp_path / "mine"))
    assert runs(tmp_path / "mine") == 1
    monkeypatch.setenv("EASYREMOTE_CONFIG_DIR", str(tmp_path / "stranger"))
    with owned.client() as stranger, pytest.raises(ConsentError) as caught:
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


def test_a_node_that_was_restarted_still_knows_what_it_has_begun(client: Client, owned: Owned, tmp_path: Path) -> None:
    client.with_options(retries=0, node="gpu").call(_touch_and, str(tmp_path / "ran"))
    recorded = owned.calls[-1]
    client.close()
    owned.start_node("again", like="gpu")  # of the same key: another process of the node's user
    with owned.client() as other:
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
    ["statement", "signature", "box", "mac", "session", "kind", "spec", "packages", "digest", "python", "no seal"],
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
        elif name == "packages":
            submit.code.spec.environment.requirements.append("other")
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
    client: Client, owned: Owned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A client that may only call, and a gateway that helps it: it puts its own admission to the code of one that may ship."""
    client.call(_touch_and, None)
    recorded = owned.calls[-1]
    caller = Identity.load_or_create(tmp_path / "caller" / "identity.key")
    owned.trusts("gpu", make_key(caller.public, call_only=True))
    monkeypatch.setenv("EASYREMOTE_CONFIG_DIR", str(tmp_path / "caller"))
    with owned.client() as other:
        with pytest.raises(ConsentError, match="may not bring code"):
            other.call(_touch_and, str(tmp_path / "ran"))

        def borrow(submit: pb.Submit) -> None:
            submit.seal.signature = recorded.seal.signature

        owned.alter = borrow
        with pytest.raises(ConsentError):
            other.call(_touch_and, str(tmp_path / "ran"))
    assert runs(tmp_path / "ran") == 0


def test_a_call_for_one_node_does_not_run_at_another(client: Client, owned: Owned, tmp_path: Path) -> None:
    """Both are trusted, and trust; the call names one of them."""
    owned.start_node("two")
    trust_me(owned, "two")
    wait_until(lambda: {node.node_id for node in client.list_nodes()} >= {"gpu", "two"})
    assert client.with_options(node="two").call(_touch_and, None) is None

    def redirect(submit: pb.Submit) -> None:
        submit.options.node_id = "two"

    owned.alter = redirect
    with pytest.raises(EasyRemoteError):
        client.with_options(node="gpu", queue_timeout=3).call(_touch_and, str(tmp_path / "ran"))
    assert runs(tmp_path / "ran") == 0


def test_a_call_that_comes_too_late_does_not_run(
    client: Client, owned: Owned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sealing, "CALL_VALID_S", -400.0)  # more than clocks may differ
    with pytest.raises(ConsentError, match=r"clock|expired|over"):
        client.call(_touch_and, str(tmp_path / "ran"))
    assert runs(tmp_path / "ran") == 0


def test_a_key_that_has_expired_runs_nothing_more(client: Client, owned: Owned, tmp_path: Path) -> None:
    owned.trusts("gpu", make_key(own_identity().public, expires=1.0))
    with pytest.raises(ConsentError, match="until a time that is over"):
        client.call(_touch_and, str(tmp_path / "ran"))
    assert runs(tmp_path / "ran") == 0


# ---- those who only call ---------------------------------------------------------------------------------------------


@pytest.fixture
def caller(owned: Owned, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Client, ComputeNode]]:
    """Somebody with a token and a key that may only call, and a node of this process that has functions."""
    own = AuthorizedKeys()
    with ComputeNode(owned.server.invite("node"), "offers", code="signed") as node:
        node.register(lambda value: [value, value], name="twice")
        node.register(_count, name="count")
        node.register(_touch_and, name="secret")
        node.serve()
        caller = Identity.load_or_create(tmp_path / "caller" / "identity.key")
        own.add(make_key(caller.public, call_only=True, functions=["twice", "count"]))
        monkeypatch.setenv("EASYREMOTE_CONFIG_DIR", str(tmp_path / "caller"))
        with owned.client("call") as client:
            wait_until(lambda: any(node.node_id == "offers" for node in client.list_nodes()))
            yield client, node


def _count(limit: int) -> Iterator[int]:
    yield from range(limit)


def test_a_key_that_may_only_call_calls_in_sealed_calls(
    caller: tuple[Client, ComputeNode], owned: Owned, tmp_path: Path
) -> None:
    client, _ = caller
    assert client.call("twice", "a canary in a call") == ["a canary in a call"] * 2
    assert list(client.stream("count", 3)) == [0, 1, 2]
    assert list(client.map("twice", [1, 2])) == [[1, 1], [2, 2]]
    assert client.call("twice", b"x" * 300_000) == [b"x" * 300_000] * 2
    assert owned.calls and all(call.seal.box for call in owned.calls)
    assert not any(b"a canary" in call.SerializeToString() for call in owned.calls)
    with pytest.raises(ConsentError, match="secret"):
        client.call("secret", str(tmp_path / "ran"))
    with pytest.raises(EasyRemoteError):
        client.call(_touch_and, str(tmp_path / "ran"))
    assert runs(tmp_path / "ran") == 0


def test_what_it_sends_is_plain_data(caller: tuple[Client, ComputeNode], canary: object) -> None:
    client, _ = caller
    with pytest.raises(EasyRemoteError):
        client.call("twice", canary)
