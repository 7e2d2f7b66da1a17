"""input, getpass and breakpoint in remote code are answered where the call is waited for."""

from __future__ import annotations

import builtins
import getpass
import logging
import os
import pty
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from easyremote import Client, ComputeNode, DeadlineExceeded, Server, UsageError
from tests.conftest import wait_until
from tests.e2e.conftest import Wire


def ask(count: int = 1) -> list[str]:
    return [input(f"{i}? ") for i in range(count)]


def ask_secret() -> int:
    import getpass

    return len(getpass.getpass("pw: "))


def stop(_: int = 0) -> int:
    found = 20
    breakpoint()
    return found + 1


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with Server(port=0) as running:
        yield running


@pytest.fixture(scope="module")
def node(server: Server) -> Iterator[ComputeNode]:
    with ComputeNode(server.address, "node-a", token=server.token) as running:
        yield running


@pytest.fixture(scope="module")
def client(server: Server, node: ComputeNode) -> Iterator[Client]:
    with Client(server.address, token=server.token) as running:
        yield running


Answers = Callable[..., list[tuple[str, bool]]]


@pytest.fixture
def answers(monkeypatch: pytest.MonkeyPatch) -> Answers:
    """What is typed here from now on; gives a list of what was asked."""

    def expect(*texts: object) -> list[tuple[str, bool]]:
        asked: list[tuple[str, bool]] = []
        left = iter(texts)

        def typed(prompt: str, is_secret: bool) -> str:
            asked.append((prompt, is_secret))
            text = next(left)
            if isinstance(text, BaseException):
                raise text
            return text() if callable(text) else str(text)

        monkeypatch.setattr(builtins, "input", lambda prompt="": typed(prompt, False))
        monkeypatch.setattr(getpass, "getpass", lambda prompt="": typed(prompt, True))
        return asked

    return expect


def test_answers_come_back_to_the_function(client: Client, answers: Answers) -> None:
    asked = answers("one", "", "z" * 5000)
    assert client.call(ask, 3) == ["one", "", "z" * 5000]
    assert asked == [("0? ", False), ("1? ", False), ("2? ", False)]
    asked = answers("secret")
    assert client.call(ask_secret) == 6 and asked == [("pw: ", True)]


def test_a_generator_asks_between_its_items_and_an_iterator_answers(client: Client, answers: Answers) -> None:
    def rounds():
        for i in range(2):
            yield i
            yield input("go on? ")

    answers("yes", "no")
    assert list(client.stream(rounds)) == [0, "yes", 1, "no"]


def test_a_debugger_stops_in_the_function_and_ends_with_it(
    client: Client, answers: Answers, capsys: pytest.CaptureFixture[str]
) -> None:
    steps = ["n", "s"] if sys.version_info < (3, 13) else ["n", "n", "s"]  # newer ones stop at breakpoint() itself
    asked = answers("p found", "found = 70", *steps)
    assert client.call(stop) == 71
    assert [prompt for prompt, _ in asked] == ["(Pdb) "] * (2 + len(steps))  # the function's end is the end of stepping
    first = "return found + 1" if sys.version_info < (3, 13) else "breakpoint()"
    assert f"-> {first}\n20\n" in capsys.readouterr().out
    answers("c")
    assert client.call(stop) == 21


def test_an_end_of_input_and_what_goes_wrong_here_are_told_to_the_function(client: Client, answers: Answers) -> None:
    answers(EOFError())
    with pytest.raises(EOFError, match="standard input of the client has ended"):
        client.call(ask)
    answers(OSError("reading is forbidden"))
    with pytest.raises(EOFError, match="reading is forbidden"):
        client.call(ask)
    answers("x" * 70_000)
    with pytest.raises(EOFError, match="70,000 characters"):
        client.call(ask)


def test_two_questions_at_once_are_refused_in_a_map_and_a_call_that_nobody_waits_for_gets_none(client: Client) -> None:
    for as_completed in (False, True):
        with pytest.raises(EOFError, match="nobody is there to answer"):
            list(client.map(stop, range(4), as_completed=as_completed))
    call = client.submit(ask)
    wait_until(call.done)
    with pytest.raises(EOFError, match="nobody waits"):
        call.result()


def test_the_timeout_counts_on_while_somebody_is_asked(client: Client, answers: Answers) -> None:
    limited = client.with_options(timeout=1.0)
    call = limited.submit(ask)
    answers(lambda: (wait_until(call.done), "too late")[1])
    with pytest.raises(DeadlineExceeded):
        call.result()
    answers("in time")
    assert client.call(ask) == ["in time"]


def test_an_interrupt_at_the_question_cancels_the_call(client: Client, answers: Answers) -> None:
    call = client.submit(ask)
    answers(KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        call.result()
    assert call.cancelled()
    answers("well")
    assert client.call(ask) == ["well"]


def test_a_cut_while_somebody_thinks_loses_neither_question_nor_answer(server: Server, answers: Answers) -> None:
    wire = Wire(server.address)
    with Client(wire.address, token=server.token) as client:
        asked = answers(lambda: (wire.cut(), "after the cut")[1], "second")
        assert client.call(ask, 2) == ["after the cut", "second"]
        assert len(asked) == 2


def test_answers_are_in_no_log(client: Client, answers: Answers, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    answers("a-very-secret-word")
    client.call(ask_secret)
    assert "a-very-secret-word" not in caplog.text


def test_breakpoint_in_a_function_of_the_nodes_own_process_is_refused(node: ComputeNode, client: Client) -> None:
    node.register(stop, name="owned")
    with pytest.raises(UsageError, match="isolation='process'"):
        client.call("owned")


SCRIPT = """\
import sys
from easyremote import Client
def ask():
    import getpass
    name = input("name? ")
    return name, getpass.getpass("pw: ")
with Client(sys.argv[1], token=sys.argv[2]) as client:
    name, password = client.call(ask)
    print("got", name, len(password))
"""


def test_a_script_reads_what_is_piped_into_it_and_says_when_that_has_ended(
    server: Server, node: ComputeNode, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), server.address, server.token]
    piped = subprocess.run(
        command, input="Eve\nsecret\n", capture_output=True, text=True, timeout=60, start_new_session=True
    )
    assert "got Eve 6" in piped.stdout, piped.stderr
    nothing = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    assert nothing.returncode == 1 and "EOFError: the standard input of the client has ended" in nothing.stderr


def test_a_script_at_a_terminal_does_not_echo_a_password(server: Server, node: ComputeNode, tmp_path: Path) -> None:
    script = tmp_path / "script.py"
    script.write_text(SCRIPT)
    child, terminal = pty.fork()
    if child == 0:
        os.execv(sys.executable, [sys.executable, str(script), server.address, server.token])
    shown = ""

    def seen(text: str) -> None:
        nonlocal shown
        while text not in shown:
            shown += os.read(terminal, 1000).decode()

    seen("name? ")
    os.write(terminal, b"Eve\n")
    seen("pw: ")
    wait_until(lambda: not _echoes(terminal))
    os.write(terminal, b"secret\n")
    seen("got Eve 6")
    assert os.waitpid(child, 0)[1] == 0
    os.close(terminal)
    assert "secret" not in shown


def _echoes(terminal: int) -> bool:
    import termios

    return bool(termios.tcgetattr(terminal)[3] & termios.ECHO)
