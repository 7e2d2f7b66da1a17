"""Cells and calls that print more than a page can show (C11)."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.conftest import wait_until
from tests.notebook.conftest import Cell, Kernel

pytestmark = pytest.mark.notebook

LINES = 60_000


def shown_size(cell: Cell) -> int:
    """What the notebook holds of it once it is saved: a display that was updated is there once."""
    return len(cell.text) + max(len(shown["text/plain"]) for shown in cell.displays)


def whole_file(text: str, node: str) -> Path:
    found = re.search(r"left out; all of it: (\S+) on (\S+?)\x1b", text)
    assert found is not None and found[2] == node, text[:300]
    return Path(found[1])


def text_of(path: Path, length: int) -> str:
    """Of a file of so many characters. What is last is written a moment after it was said where it is."""
    wait_until(lambda: path.stat().st_size >= length)
    return path.read_text()


def test_of_endless_prints_a_cell_shows_the_first_and_the_last_and_the_node_keeps_all(shared_kernel: Kernel) -> None:
    cell = shared_kernel.ok(f"%%remote -n node-1\nfor i in range({LINES}): print(f'line {{i:06}} ' + 'x' * 40)")
    whole = "".join(f"line {i:06} {'x' * 40}\n" for i in range(LINES))
    assert whole.startswith(cell.text) and 500_000 < len(cell.text) <= 512 * 1024
    tail = cell.displays[-1]["text/plain"]
    assert tail.endswith(f"line {LINES - 1:06} {'x' * 40}\n") and 40 < tail.count("\n") < 70
    kinds = [m["msg_type"] for m in cell.messages if m["msg_type"] != "stream"]
    assert kinds[0] == "display_data" and set(kinds[1:]) <= {"update_display_data"}
    assert shown_size(cell) < 600_000 and len(cell.messages) < 200
    path = whole_file(tail, "node-1")
    assert text_of(path, len(whole)) == whole
    again = shared_kernel.ok(f"%%remote -n node-1\n!tail -n 1 {path}")
    assert again.text.strip() == f"line {LINES - 1:06} {'x' * 40}"


def test_so_does_a_call_with_one_endless_line_from_c_code_and_both_streams(shared_kernel: Kernel) -> None:
    cell = shared_kernel.ok(
        "def chatty():\n    import os, sys\n    print('y' * 3_000_000)\n    os.system('head -c 100000 /dev/zero | tr \"\\\\0\" z')\n"
        "    print('\\nthe end', file=sys.stderr)\n    return 5\nclient.call(chatty)"
    )
    assert cell.result == "5"
    assert cell.text == "y" * (512 * 1024)
    tail = cell.displays[-2]["text/plain"]
    assert tail.endswith("z\nthe end\n") and len(tail) < 20_000
    path = whole_file(tail, re.search(r" on (\S+?)\x1b", tail)[1])  # type: ignore[index]
    whole = "y" * 3_000_000 + "\n" + "z" * 100_000 + "\nthe end\n"
    assert text_of(path, len(whole)) == whole


def test_a_script_and_an_owners_function_print_as_much_as_they_like(kernel: Kernel) -> None:
    """In a script nothing is left out; in a notebook what a function in the node's own process prints is bounded likewise."""
    kernel.ok(
        "%load_ext easyremote\nfrom easyremote import Client, ComputeNode, Server\n"
        "from easyremote.notebook.display import NotebookPresenter\n"
        "server = Server(port=0).start_background(); node = ComputeNode(server.address, 'own').serve()\n"
        "@node.register\ndef chatty(): print(*range(200_000), sep='\\n')\n"
        "plain = Client(server.address)"
    )
    assert len(kernel.ok("plain.call('chatty')").text.split()) == 200_000
    cell = kernel.ok("plain.with_presenter(NotebookPresenter).call('chatty')")
    assert len(cell.text) <= 512 * 1024
    path = whole_file(cell.displays[-1]["text/plain"], "own")
    whole = "".join(f"{i}\n" for i in range(200_000))
    assert text_of(path, len(whole)) == whole
    kernel.ok("plain.close(); node.stop(); server.stop()")
    assert not path.exists()
