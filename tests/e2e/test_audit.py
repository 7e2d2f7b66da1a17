"""Who ran what, where, when, with which end: in the files of the gateway and of the node."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from easyremote import CallCancelled, Client, ComputeNode, DeadlineExceeded, Server
from easyremote.security.identity import own_identity
from tests.conftest import wait_until

SECRET = "the-secret-argument-of-this-call"
LINES = list[dict[str, Any]]


def lines(path: Path) -> LINES:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


@pytest.fixture
def log(tmp_path: Path) -> Path:
    return tmp_path / "gateway.jsonl"


@pytest.fixture
def server(log: Path) -> Iterator[Server]:
    with Server(port=0, audit=log) as running:
        yield running


@pytest.fixture
def node(server: Server, tmp_path: Path) -> Iterator[ComputeNode]:
    with ComputeNode(server.address, "node-a", audit=tmp_path / "node.jsonl") as running:
        yield running


def until(path: Path, count: int) -> LINES:
    """The log when it has so many lines."""
    wait_until(lambda: len(lines(path)) >= count)
    found = lines(path)
    assert len(found) == count, found
    return found


def test_a_call_leaves_a_line_at_the_gateway_and_one_at_the_node(
    node: ComputeNode, client: Client, log: Path, tmp_path: Path
) -> None:
    node.register(lambda text: SECRET + text, name="double")
    assert client.call("double", SECRET) == SECRET * 2
    at_gateway, at_node = until(log, 1)[0], until(tmp_path / "node.jsonl", 1)[0]
    assert (at_gateway["outcome"], at_gateway["function"], at_gateway["node"]) == ("succeeded", "double", "node-a")
    assert at_gateway["token"] == "owner" and at_gateway["client"].endswith(f":{__import__('os').getpid()}")
    assert at_gateway["call"] == at_node["call"] and at_gateway["attempt"] == at_node["attempt"] == 1
    assert (at_node["outcome"], at_node["gateway"]) == ("succeeded", client.address)
    assert 0 <= at_gateway["took_s"] < 60 and "code" not in at_gateway


def test_shipped_code_is_noted_with_its_digest(node: ComputeNode, client: Client, log: Path) -> None:
    def shipped() -> int:
        return 1

    assert [client.call(shipped), client.call(shipped), client.call(lambda: 2)] == [1, 1, 2]
    first, second, other = until(log, 3)
    assert first["code"] == second["code"] != other["code"]
    assert len(first["code"]) >= 16 and first["function"] == "shipped"


def test_failures_refusals_and_losses_are_noted_without_what_they_say(
    server: Server, client: Client, log: Path, tmp_path: Path
) -> None:
    def fail(text: str) -> None:
        raise ValueError(text)

    def spin() -> None:
        import time

        while True:
            time.sleep(0.01)

    with ComputeNode(server.address, "node-a", audit=tmp_path / "node.jsonl"):
        with pytest.raises(ValueError, match=SECRET):
            client.call(fail, SECRET)
        call = client.submit(spin)
        wait_until(lambda: call.state == "running")
        call.cancel()
        with pytest.raises(CallCancelled):
            call.result()
        failed, cancelled = until(log, 2)
        assert (failed["outcome"], failed["error"]) == ("failed", "remote")
        assert (cancelled["outcome"], cancelled["error"]) == ("failed", "cancelled")
        assert cancelled["token"] == "owner", "also of a call that its client has given up"
        assert [line["error"] for line in until(tmp_path / "node.jsonl", 2)] == ["remote", "cancelled"]
        with pytest.raises(DeadlineExceeded):
            client.with_options(node="nowhere", queue_timeout=0.2).call(fail, SECRET)
    refused = until(log, 3)[2]
    assert refused["outcome"] == "refused" and refused["error"] and "node" not in refused


def test_tokens_that_are_made_and_revoked_are_noted_with_who_did_it(server: Server, log: Path) -> None:
    _, boss = server.tokens.create("boss", ["admin"])
    with Client(server.address, token=boss) as administrator:
        made, text = administrator.create_token("lab", ["call"], functions=["f*"])
        administrator.revoke_token(made.id)
    first, second, third = until(log, 3)
    assert (first["outcome"], first["token_name"], first["subject_name"]) == (
        "token created",
        "the gateway's own",
        "boss",
    )
    assert (second["outcome"], second["token_name"], second["subject"]) == ("token created", "boss", made.id)
    assert (second["roles"], second["functions"]) == ("call", "f*")
    assert (third["outcome"], third["token_name"], third["subject"]) == ("token revoked", "boss", made.id)
    assert boss not in log.read_text() and text not in log.read_text()


def test_a_node_notes_by_which_key_a_call_was_sealed(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EASYREMOTE_SEAL", "1")
    with (
        ComputeNode(server.address, "sealed", code="signed", audit=tmp_path / "sealed.jsonl"),
        Client(server.address) as client,
    ):
        assert client.call(lambda: 1) == 1
        line = until(tmp_path / "sealed.jsonl", 1)[0]
    assert line["key"] == own_identity().public.fingerprint and line["code"]


def test_no_secret_and_no_value_is_in_any_log(
    server: Server, node: ComputeNode, client: Client, log: Path, tmp_path: Path
) -> None:
    def shout(text: str, key: str = "") -> str:
        print(text)
        raise RuntimeError(text + key)

    for _ in range(3):
        with pytest.raises(RuntimeError):
            client.call(shout, SECRET, key=SECRET)
    until(log, 3)
    until(tmp_path / "node.jsonl", 3)
    for path in (log, tmp_path / "node.jsonl"):
        text = path.read_text()
        assert SECRET not in text and server.token not in text


def test_short_calls_that_travel_together_are_one_line_that_counts_them(
    node: ComputeNode, client: Client, log: Path
) -> None:
    node.register(lambda x: x, name="echo")
    count = 2000
    assert sum(1 for _ in client.map("echo", range(count))) == count
    wait_until(lambda: sum(line["tasks"] for line in lines(log)) >= count)
    noted = lines(log)
    assert sum(line["tasks"] for line in noted) == count and max(line["tasks"] for line in noted) > 1
    assert {line["outcome"] for line in noted} == {"succeeded"}


def test_without_being_asked_nothing_is_noted(tmp_path: Path, runtime_folder: Path) -> None:
    with Server(port=0) as server, ComputeNode(server.address, "n") as node, Client(server.address) as client:
        node.register(lambda: 1, name="one")
        assert client.call("one") == 1
        assert not server._listener.broker.audits  # type: ignore[union-attr]
    assert not list((runtime_folder / "state").glob("audit-*"))


def test_the_command_shows_what_gateways_and_nodes_have_noted(runtime_folder: Path, tmp_path: Path) -> None:
    def shown(*options: str) -> str:
        command = [sys.executable, "-m", "easyremote", "audit", *options]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
        return done.stdout + done.stderr

    assert "Nothing was noted" in shown()
    with (
        Server(port=0, audit=True) as server,
        ComputeNode(server.address, "box", audit=True) as node,
        Client(server.address) as client,
    ):
        node.register(lambda: 1, name="train_it")
        node.register(lambda: 1, name="other")
        client.call("train_it")
        for _ in range(3):
            client.call("other")
        port = server.port
    with open(next((runtime_folder / "state").glob("audit-gateway-*")), "a") as file:
        file.write(json.dumps({"at": "2020-01-01", "function": "old\x1b[31mred", "outcome": "fine\x07"}) + "\n")
    text = shown()
    assert "\x1b" not in text and f"gateway-{port}" in text and "node-box" in text and text.count("succeeded") == 8
    assert shown("--last", "2").count("succeeded") == 2
    found = [json.loads(line) for line in shown("--function", "train*", "--json").splitlines()]
    assert {line["log"] for line in found} == {f"gateway-{port}", "node-box"} and len(found) == 2
    times = [json.loads(line)["at"] for line in shown("--json").splitlines()]
    assert times == sorted(times)


def test_the_commands_keep_a_log_unless_told_not_to(runtime_folder: Path) -> None:
    state = runtime_folder / "state"
    for options, expected in (((), 1), (("--no-audit",), 0)):
        command = [sys.executable, "-m", "easyremote", "gateway", "--port", "0", "--json", *options]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        try:
            assert process.stdout is not None
            facts = json.loads(process.stdout.readline())
            assert len(list(state.glob(f"audit-gateway-{facts['port']}.jsonl"))) == expected
        finally:
            process.terminate()
            process.communicate(timeout=60)


@pytest.mark.parametrize(("options", "expected"), [((), 1), (("--no-audit",), 0)])
def test_the_command_of_a_node_keeps_a_log_unless_told_not_to(
    runtime_folder: Path, options: tuple[str, ...], expected: int
) -> None:
    with Server(port=0) as gateway, Client(gateway.address) as client:
        command = [sys.executable, "-m", "easyremote", "node", "builtins:abs", "--name", "box"]
        process = subprocess.Popen([*command, "--gateway", gateway.address, *options], stdout=subprocess.DEVNULL)
        try:
            wait_until(lambda: any(node.node_id == "box" for node in client.list_nodes()), 60)
            assert client.call("abs", -3) == 3
        finally:
            process.terminate()
            process.wait(60)
    assert len(list((runtime_folder / "state").glob("audit-node-box.jsonl"))) == expected
