"""`easyremote trust` and `easyremote keys`, and a node that asks at its terminal."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from easyremote import Client
from easyremote.errors import ConsentError
from easyremote.security.identity import Identity
from tests.cli.conftest import COMMAND
from tests.conftest import wait_until

Run = Callable[..., subprocess.CompletedProcess[str]]
OTHER = Identity.generate().public


def test_a_key_is_trusted_shown_and_removed(run: Run) -> None:
    done = run("trust", OTHER.text, "--function", "predict*", "--expires", "2030-01-01", "--comment", "Ana")
    assert done.returncode == 0
    assert f"Trusted: {OTHER.fingerprint} (Ana)" in done.stdout
    assert "calls predict*, ships no code, until 2030-01-01" in done.stdout
    shown = json.loads(run("keys", "--json").stdout)
    (entry,) = shown["authorized"]
    assert (entry["fingerprint"], entry["comment"], entry["may_ship"]) == (OTHER.fingerprint, "Ana", False)
    assert shown["own"]["key"].startswith("er-key:")
    assert OTHER.fingerprint in run("keys").stdout
    assert run("keys", "--remove", "Ana").returncode == 0
    assert json.loads(run("keys", "--json").stdout)["authorized"] == []
    assert run("keys", "--remove", "Ana").returncode == 2


def test_a_span_of_time_is_taken_from_now(run: Run) -> None:
    assert "until 20" in run("trust", OTHER.text, "--expires", "30d").stdout


@pytest.mark.parametrize(
    "bad", [["er-key:nonsense"], ["ssh-ed25519"], [OTHER.text, "--expires", "soon"], [OTHER.text, "--gpus", "99"]]
)
def test_what_is_wrong_is_told(run: Run, bad: list[str]) -> None:
    done = run("trust", *bad)
    assert done.returncode == 2
    assert "Traceback" not in done.stderr


def test_a_node_is_known_and_forgotten(run: Run) -> None:
    where = ("--gateway", "gpu.example.org:8080")
    assert run("keys", "--accept", "gpu", OTHER.fingerprint, *where).returncode == 0
    (known,) = json.loads(run("keys", "--json").stdout)["known_nodes"]
    assert known == {"gateway": "gpu.example.org:8080", "node": "gpu", "fingerprint": OTHER.fingerprint}
    assert run("keys", "--forget", "gpu").returncode == 0
    assert run("keys", "--forget", "gpu").returncode == 2
    assert run("keys", "--accept", "gpu", "SHA256:short", *where).returncode == 2


def test_a_node_without_a_terminal_can_ask_nobody(run: Run, gateway: dict[str, Any]) -> None:
    done = run("join", gateway["address"], "--approve", "ask")
    assert done.returncode == 2
    assert "this node has none" in done.stderr


class Asking:
    """A node in a terminal of its own."""

    def __init__(self, address: str, folder: Path) -> None:
        self._ours, theirs = pty.openpty()
        command = [*COMMAND, "join", address, "--name", "asking", "--approve", "ask"]
        self._process = subprocess.Popen(
            command, stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, start_new_session=True
        )
        os.close(theirs)
        self.shown = ""
        self._reader = threading.Thread(target=self._read)
        self._reader.start()
        wait_until(lambda: "joined the gateway" in self.shown)

    def _read(self) -> None:
        while True:
            try:
                self.shown += os.read(self._ours, 65536).decode(errors="replace")
            except OSError:
                return

    def answer(self, text: str, question: int) -> None:
        """Type this when it asks for the n-th time."""
        wait_until(lambda: self.shown.count("Run it?") >= question)
        os.write(self._ours, text.encode())

    def close(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._reader.join(30)
        os.close(self._ours)


@pytest.fixture(params=["0", "1"], ids=["own gateway", "sealed"])
def asking(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, gateway: dict[str, Any], folder: Path
) -> Iterator[Asking]:
    monkeypatch.setenv("EASYREMOTE_SEAL", request.param)
    node = Asking(gateway["address"], folder)
    yield node
    node.close()


def typed(asking: Asking, *answers: str) -> threading.Thread:
    """Somebody who answers the next questions."""
    asked = asking.shown.count("Run it?")

    def work() -> None:
        for number, answer in enumerate(answers, asked + 1):
            asking.answer(answer, number)

    person = threading.Thread(target=work)
    person.start()
    return person


def test_code_runs_after_a_yes_and_not_after_a_no(asking: Asking, gateway: dict[str, Any]) -> None:
    with Client(gateway["address"]) as client:
        person = typed(asking, "n\n")
        with pytest.raises(ConsentError, match="said no"):
            client.call(lambda: "first")
        person.join()
        person = typed(asking, "what?\n", "y\n")
        assert client.call(lambda: "second") == "second"
        person.join()
        assert "asks node 'asking' to run" in asking.shown


def test_code_that_was_approved_for_always_is_not_asked_about_again(asking: Asking, gateway: dict[str, Any]) -> None:
    def double(x: int) -> int:
        return 2 * x

    with Client(gateway["address"]) as client:
        person = typed(asking, "a\n")
        assert client.call(double, 4) == 8
        person.join()
        asked = asking.shown.count("Run it?")
        assert client.call(double, 5) == 10
        assert asking.shown.count("Run it?") == asked
        person = typed(asking, "y\n")
        assert client.call(len, "abc") == 3
        person.join()


def test_large_code_is_fetched_and_opened_before_it_is_shown(asking: Asking, gateway: dict[str, Any]) -> None:
    large = os.urandom(300_000)
    with Client(gateway["address"]) as client:
        person = typed(asking, "y\n")
        assert client.call(lambda: len(large)) == 300_000
        person.join()
    assert "LOAD_DEREF" in asking.shown or "len(large)" in asking.shown


def test_a_call_that_is_cancelled_is_asked_about_no_more(asking: Asking, gateway: dict[str, Any]) -> None:
    with Client(gateway["address"]) as client:
        call = client.submit(lambda: 1)
        wait_until(lambda: "Run it?" in asking.shown)
        call.cancel()
        person = typed(asking, "y\n")
        assert client.call(lambda: 2) == 2
        person.join()
