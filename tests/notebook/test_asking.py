"""What remote code asks is asked in the cell: input, getpass, breakpoint."""

from __future__ import annotations

import json
import time

import pytest

from tests.notebook.conftest import Kernel

pytestmark = pytest.mark.notebook


def test_input_asks_in_the_cell_in_a_loop_and_what_was_printed_comes_before(shared_kernel: Kernel) -> None:
    cell = shared_kernel.ok(
        "%%remote\nfound = []\nfor i in range(3):\n    print('round', i, end=' ')\n    found.append(input(f'number {i}? '))\n"
        "import sys\nfound.append(sys.stdin.readline())\nfound",
        answers=["1", "zwei ü", "", "line"],
    )
    assert cell.result == "['1', 'zwei ü', '', 'line\\n']"
    assert cell.questions == [("number 0? ", False), ("number 1? ", False), ("number 2? ", False), ("", False)]
    assert cell.text == "round 0 round 1 round 2 "


def test_a_password_is_asked_for_in_secret_and_is_nowhere_in_what_the_notebook_keeps(shared_kernel: Kernel) -> None:
    cell = shared_kernel.ok(
        "%%remote\nimport getpass\npw = getpass.getpass('token: ')\nlen(pw)", answers=["hunter2-secret"]
    )
    assert cell.questions == [("token: ", True)] and cell.result == "14"
    assert "hunter2" not in json.dumps(cell.messages, default=str) + json.dumps(cell.reply, default=str)


def test_functions_called_from_a_cell_ask_too_awaited_ones_as_well(shared_kernel: Kernel) -> None:
    shared_kernel.ok("def ask(n):\n    return [input(f'{i}: ') for i in range(n)]")
    assert shared_kernel.ok("client.call(ask, 2)", answers=["a", "b"]).result == "['a', 'b']"
    assert shared_kernel.ok("await client.submit(ask, 1)", answers=["c"]).result == "['c']"
    shared_kernel.ok("node.register(ask)")
    assert shared_kernel.ok("client.call('ask', 1)", answers=["d"]).result == "['d']"


def test_breakpoint_in_a_cell_and_in_a_function_is_a_debugger_in_the_cell(shared_kernel: Kernel) -> None:
    cell = shared_kernel.ok(
        "%%remote\nx = 41\nbreakpoint()\nx = x + 1\nx", answers=["n", "p x + 1000", "!x = 50", "l", "c"]
    )
    assert [prompt for prompt, _ in cell.questions] == ["(Pdb) "] * 5
    assert "-> x = x + 1" in cell.text and "1041" in cell.text and "breakpoint()" in cell.text
    assert cell.result == "51"
    shared_kernel.ok("def half(value):\n    part = value / 2\n    breakpoint()\n    return part")
    cell = shared_kernel.ok("client.call(half, 6)", answers=["p part", "w", "part = 7", "n", "c"])
    assert "3.0" in cell.text and "-> return part" in cell.text and cell.result == "7"
    assert "easyremote/" not in cell.text.split("(Pdb)")[0]
    assert shared_kernel.run("client.call(half, 6)", answers=["q"]).error == "BdbQuit"


def test_an_interrupt_at_the_prompt_stops_the_call_and_the_next_cell_works(shared_kernel: Kernel) -> None:
    shared_kernel.ok("%%remote\nstate = 'asked'")
    cell = shared_kernel.run(
        "%%remote\ntry:\n    input('never answered ')\nfinally:\n    state = 'stopped'",
        answers=[shared_kernel.interrupt],
    )
    assert cell.error == "KeyboardInterrupt" and "was stopped" in cell.traceback
    assert shared_kernel.ok("%%remote\nstate").result == "'stopped'"
    assert shared_kernel.ok("%%remote\ninput('again ')", answers=["yes"]).result == "'yes'"


def test_where_nobody_can_be_asked_it_says_so_at_once(shared_kernel: Kernel) -> None:
    shared_kernel.ok(
        "def ask(_=0):\n    return input('? ')\ndef secret():\n    import getpass\n    return getpass.getpass()\ndef stop():\n    breakpoint()"
    )
    began = time.monotonic()
    cell = shared_kernel.run("%%remote\ninput('? ')", answers=None)
    assert cell.error == "EOFError" and "allows no questions" in cell.traceback
    for code in ("list(client.map(ask, range(4)))", "list(client.map(ask, range(4), as_completed=True))"):
        cell = shared_kernel.run(code)
        assert cell.error == "EOFError" and "nobody is there to answer" in cell.traceback
    for name in ("ask", "secret", "stop"):
        cell = shared_kernel.run(
            f"call = client.submit({name})\nimport concurrent.futures as f\nf.wait([call])\ncall.result()"
        )
        assert cell.error == "EOFError" and "nobody waits" in cell.traceback, cell.traceback
    cell = shared_kernel.run(
        "import threading\nfound = []\n"
        "thread = threading.Thread(target=lambda: found.append(client.submit(ask).exception()))\nthread.start(); thread.join()\nfound[0]"
    )
    assert "in a thread of the notebook" in cell.result
    assert time.monotonic() - began < 20
