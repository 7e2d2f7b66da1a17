from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import easyremote
from tests.cli.conftest import Program
from tests.conftest import free_port, wait_until

pytestmark = pytest.mark.slow

Start = Callable[..., Program]
Run = Callable[..., Any]


# ---- gateway -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_gateway_tells_how_to_join_and_ends_cleanly(
    start: Start, runtime_folder: Path, number: signal.Signals
) -> None:
    gateway = start("gateway", "--port", "0")
    gateway.wait_for("Ctrl-C stops the gateway.")
    record = json.loads(next(runtime_folder.glob("gateway-*.json")).read_text())
    assert f"easyremote join {record['address']}\n" in gateway.stdout
    assert f'Client("{record["address"]}")' in gateway.stdout
    assert gateway.stop(number) == 0
    assert gateway.stderr == "The gateway has stopped.\n"
    assert record["token"] not in gateway.stdout
    assert not [path for path in runtime_folder.rglob("*") if path.is_file()]


def test_a_gateway_shows_its_token_when_asked(start: Start) -> None:
    gateway = start("gateway", "--port", "0", "--show-token")
    gateway.wait_for("Ctrl-C")
    token = gateway.stdout.partition("Token")[2].split()[0]
    address = gateway.stdout.split()[4]
    with easyremote.Client(address, token=token) as client:
        assert client.list_nodes() == []


def test_a_gateway_takes_its_token_from_the_environment(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYREMOTE_TOKEN", "a token of ours, long enough")
    gateway = start("gateway", "--port", "0", "--json", "--show-token")
    gateway.wait_for("\n")
    assert json.loads(gateway.stdout)["token"] == "a token of ours, long enough"


def test_json_of_a_gateway_is_one_line_without_its_token(start: Start) -> None:
    gateway = start("gateway", "--port", "0", "--json")
    gateway.wait_for("\n")
    facts = json.loads(gateway.stdout)
    assert facts == {
        "address": f"127.0.0.1:{facts['port']}",
        "port": facts["port"],
        "pid": gateway.process.pid,
        "version": easyremote.__version__,
    }
    assert gateway.stop(signal.SIGTERM) == 0
    assert gateway.stderr == ""


def test_a_gateway_listens_where_it_is_told(start: Start) -> None:
    port = free_port()
    gateway = start("gateway", "--port", str(port), "--host", "localhost", "--json")
    gateway.wait_for("\n")
    assert json.loads(gateway.stdout)["address"] == f"localhost:{port}"


def test_a_second_gateway_on_the_same_port_is_refused(run: Run, gateway: dict[str, Any]) -> None:
    second = run("gateway", "--port", str(gateway["port"]))
    assert second.returncode == 2
    assert second.stdout == ""
    assert second.stderr.startswith(f"error: port {gateway['port']} on 127.0.0.1 is taken")
    assert second.stderr.count("\n") == 1  # gRPC says nothing of its own


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--bind", "0.0.0.0", "--key", "key.pem"), "belong together"),
        (("--port", "70000"), "--port"),
        (("--port", "http"), "--port"),
    ],
)
def test_a_gateway_that_can_not_be_is_wrong_usage(run: Run, arguments: tuple[str, ...], says: str) -> None:
    outcome = run("gateway", *arguments)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert says in outcome.stderr


# ---- join --------------------------------------------------------------------------------------------------------------


def test_a_joined_node_takes_shipped_functions(start: Start, gateway: dict[str, Any]) -> None:
    node = start(
        "join", gateway["address"], "--name", "box", "--slots", "3", "--label", "zone=lab", "--label", "gpu=none",
        "--price", "0.5",
    )  # fmt: skip
    node.wait_for("Ctrl-C stops the node.")
    assert node.stdout.startswith(f"Node 'box' joined the gateway at {gateway['address']}\n")
    for words in ("3 calls at once", "zone=lab, gpu=none", "0.5 for each second", "clients ship to it"):
        assert words in node.stdout
    with easyremote.Client() as client:
        info = client.get_node_status("box")
        assert (info.slots, info.labels, info.price) == (3, {"zone": "lab", "gpu": "none"}, 0.5)
        assert info.pid == node.process.pid
        assert client.call(os.getpid) not in (os.getpid(), node.process.pid)
    assert node.stop(signal.SIGTERM) == 0
    assert node.stderr.endswith("Node 'box' has stopped.\n")  # it may have waited for the end of the call first


def test_ctrl_c_ends_a_node_cleanly(node: Program) -> None:
    assert node.stop(signal.SIGINT) == 0


def test_a_node_tells_when_its_gateway_goes_and_comes_back(start: Start, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYREMOTE_TOKEN", "a token of ours, long enough")
    port = str(free_port())
    gateway = start("gateway", "--port", port)
    gateway.wait_for("Ctrl-C")
    node = start("join", f"127.0.0.1:{port}")
    node.wait_for("Ctrl-C")
    gateway.stop(signal.SIGTERM)
    node.wait_for("is lost; trying again ...")
    start("gateway", "--port", port)
    node.wait_for(f"Connected to the gateway at 127.0.0.1:{port} again.")
    assert node.stop(signal.SIGTERM) == 0


def test_joining_nobody_fails_after_two_seconds(run: Run, stopwatch: Callable[[], float]) -> None:
    outcome = run("join", f"127.0.0.1:{free_port()}")
    assert outcome.returncode == 3
    assert outcome.stdout == ""
    assert "no gateway answers at" in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert 1.5 < stopwatch() < 15


def test_joining_waits_for_a_gateway_when_told_so(start: Start) -> None:
    port = str(free_port())
    node = start("join", f"127.0.0.1:{port}", "--wait", "60")
    node.wait_for("Waiting for a gateway for 60 s ...")
    start("gateway", "--port", port)
    node.wait_for("joined the gateway")
    assert node.stop(signal.SIGTERM) == 0


def test_waiting_ends_in_time(run: Run, stopwatch: Callable[[], float]) -> None:
    outcome = run("join", f"127.0.0.1:{free_port()}", "--wait", "3")
    assert outcome.returncode == 3
    assert "error: no gateway answers at" in outcome.stderr
    assert 2.5 < stopwatch() < 15


def test_ctrl_c_ends_the_wait(start: Start) -> None:
    node = start("join", f"127.0.0.1:{free_port()}", "--wait", "60")
    node.wait_for("Waiting for a gateway")
    assert node.stop(signal.SIGINT) == 130


def test_a_node_without_address_waits_until_a_gateway_is_known(start: Start, folder: Path) -> None:
    node = start("node", "recipes:add", "--wait", "60")
    node.wait_for("Waiting for a gateway")
    start("gateway", "--port", "0")
    node.wait_for("joined the gateway")


def test_a_name_that_is_taken_is_wrong_usage(run: Run, node: Program, gateway: dict[str, Any]) -> None:
    outcome = run("join", gateway["address"], "--name", "box")
    assert outcome.returncode == 2
    assert "error: a node named 'box' is connected already" in outcome.stderr


def test_a_wrong_token_is_refused(run: Run, gateway: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYREMOTE_TOKEN", "the token of somebody else")
    for arguments in (("join", gateway["address"]), ("status", "--gateway", gateway["address"])):
        outcome = run(*arguments)
        assert outcome.returncode == 4
        assert "refused the token" in outcome.stderr
        assert "somebody" not in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("join",), "has joined no gateway"),
        (("join", "not an address"), "is no gateway address"),
        (("join", "127.0.0.1:1", "--slots", "0"), "slots is a whole number from 1 to 4096"),
        (("join", "127.0.0.1:1", "--slots", "many"), "--slots"),
        (("join", "127.0.0.1:1", "--label", "zone"), "a label is written key=value"),
        (("join", "127.0.0.1:1", "--price", "-1"), "--price"),
    ],
)
def test_a_node_that_can_not_be_is_wrong_usage(run: Run, arguments: tuple[str, ...], says: str) -> None:
    outcome = run(*arguments)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert says in outcome.stderr


# ---- node --------------------------------------------------------------------------------------------------------------


def test_functions_of_modules_are_offered_by_their_names(start: Start, gateway: dict[str, Any]) -> None:
    node = start("node", "recipes:add", "recipes:add=plus", "recipes:Shop.sell", "json:dumps=encode", "--name", "box")
    node.wait_for("Ctrl-C stops the node.")
    assert "Function    add(a: int, b: int = 2) -> int\n" in node.stdout
    assert "Function    sell()\n" in node.stdout
    with easyremote.Client() as client:
        assert [function.name for function in client.list_functions()] == ["add", "encode", "plus", "sell"]
        assert client.call("plus", 1, 2) == 3
        assert client.call("sell") == "sold"
        assert client.call("encode", [1]) == "[1]"
    assert "adding" not in node.stdout  # it went to the caller


@pytest.mark.parametrize(
    ("target", "says"),
    [
        ("recipes", "'recipes' names no function; write module:function"),
        ("recipes:", "names no function"),
        (":add", "names no function"),
        ("recipes:add=", "names no function"),
        ("recepies:add", "there is no module 'recepies'"),
        ("recipes.deep:add", "there is no module 'recipes.deep'"),
        ("recipes:ad", "the module 'recipes' has no 'ad'; did you mean add?"),
        ("recipes:answer", "'answer' in the module 'recipes' is a int, not a function"),
    ],
)
def test_a_function_that_is_not_there_is_wrong_usage(run: Run, target: str, says: str) -> None:
    outcome = run("node", target)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("error: ")
    assert says in outcome.stderr


def test_two_functions_by_one_name_are_refused(run: Run) -> None:
    outcome = run("node", "recipes:add", "recipes:greet=add")
    assert outcome.returncode == 2
    assert "two functions would be called 'add'" in outcome.stderr


@pytest.mark.parametrize(
    ("source", "shown"),
    [
        ("import no_such_package\n", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("x = 1 / 0\n", "ZeroDivisionError: division by zero"),
        ("def broken(:\n", "SyntaxError: "),
    ],
)
def test_a_module_that_raises_shows_where(run: Run, folder: Path, source: str, shown: str) -> None:
    (folder / "broken.py").write_text(source)
    outcome = run("node", "broken:f")
    assert outcome.returncode == 2
    assert shown in outcome.stderr
    assert 'broken.py", line 1' in outcome.stderr
    assert "serving.py" not in outcome.stderr
    assert "importlib" not in outcome.stderr
    assert outcome.stderr.splitlines()[-1].startswith("error: the module 'broken' can't be imported: ")


def test_a_node_leaves_no_process_behind(node: Program) -> None:
    from tests.conftest import descendants_of, is_alive

    wait_until(lambda: descendants_of(node.process.pid))  # the warm worker
    workers = descendants_of(node.process.pid)
    assert node.stop(signal.SIGTERM) == 0
    wait_until(lambda: not any(is_alive(pid) for pid in workers))


# ---- draining ----------------------------------------------------------------------------------------------------------


def test_a_node_is_drained_and_resumed_by_its_name(node: Program, gateway: dict[str, Any], run: Run) -> None:
    done = run("node", "drain", "box", "--reason", "new driver")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "Node 'box' takes no new calls; none running there. Undo: easyremote node resume box\n"
    status = run("status").stdout
    assert "draining" in status
    assert "box takes no new calls: new driver\n" in status
    refused = run("call", "add", "1", "2")
    assert refused.returncode == 3
    assert "'box' (new driver)" in refused.stderr
    assert run("node", "resume", "box").stdout == "Node 'box' takes new calls again.\n"
    assert run("call", "add", "1", "2").stdout.endswith("3\n")


@pytest.mark.parametrize("words", [["drain"], ["drain", "a", "b"], ["resume"]])
def test_draining_takes_one_name(gateway: dict[str, Any], run: Run, words: list[str]) -> None:
    done = run("node", *words)
    assert done.returncode == 2
    assert "takes the name of one node" in done.stderr


def test_draining_a_node_that_is_not_there_names_those_that_are(node: Program, run: Run) -> None:
    done = run("node", "drain", "bax")
    assert done.returncode == 3
    assert "connected are: box" in done.stderr


def test_sigterm_lets_a_call_end_and_says_what_it_waits_for(
    start: Start, gateway: dict[str, Any], folder: Path, run: Run
) -> None:
    node = start("node", "recipes:endless", "--name", "box", "--drain-grace", "0.5")
    node.wait_for("Ctrl-C stops the node.")
    call = start("call", "endless", str(folder))
    call.wait_for("started")
    assert node.stop(signal.SIGTERM) == 0
    assert "Node 'box' takes no new calls, and waits up to 0.5 s for 1 that it has." in node.stderr
    assert call.exit_code() == 3
    assert "it drained" in call.stderr or "vanished" in call.stderr
