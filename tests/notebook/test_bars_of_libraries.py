"""Bars of tqdm and rich in remote code, unchanged (C12)."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.notebook.conftest import Cell, Kernel

pytestmark = pytest.mark.notebook


def bars(cell: Cell) -> list[str]:
    """The lines of the last state of the bars."""
    shown = [m for m in cell.messages if m["msg_type"] in ("display_data", "update_display_data")]
    return shown[-1]["content"]["data"]["text/plain"].split("\n")


def places(cell: Cell) -> int:
    return len([m for m in cell.messages if m["msg_type"] == "display_data"])


def test_tqdm_auto_is_one_clean_bar_and_inner_bars_that_are_not_to_stay_go(shared_kernel: Kernel) -> None:
    cell = shared_kernel.ok(
        "%%remote\nfrom tqdm.auto import tqdm\nimport time\nfor i in tqdm(range(4), desc='epochs'):\n"
        "    for j in tqdm(range(3), desc='steps', leave=False): time.sleep(0.05)"
    )
    assert cell.text == "" and places(cell) == 1
    (line,) = bars(cell)
    assert line.startswith("epochs: 100% [########################] 4/4 [00:0") and "it/s]" in line
    assert any("steps" in shown.get("text/plain", "") for shown in cell.displays)
    assert "<progress" in cell.displays[-1]["text/html"]


def test_every_use_of_tqdm_is_a_bar(shared_kernel: Kernel) -> None:
    cell = shared_kernel.ok(
        "%%remote\nfrom tqdm.auto import tqdm, trange\nfrom tqdm import tqdm as plain\nfrom tqdm.notebook import tqdm as nb\n"
        "with plain(total=None, unit='B', unit_scale=True, desc='loaded') as bar:\n    bar.update(5000)\n    bar.set_postfix(loss=0.5)\n"
        "for i in nb(range(2), 'notebook'): tqdm.write(f'said {i}')\n"
        "import threading\n"
        "threads = [threading.Thread(target=lambda n=n: list(tqdm(range(3), f'thread {n}'))) for n in range(3)]\n"
        "for thread in threads: thread.start()\nfor thread in threads: thread.join()\n"
        "import io\nfile = io.StringIO()\nlist(tqdm(range(3), file=file))\n'3/3' in file.getvalue()"
    )
    assert cell.result == "True" and cell.text == "said 0\nsaid 1\n" and places(cell) == 1
    found = bars(cell)
    assert found[0].startswith("loaded 5.00k") and "loss=0.5" in found[0]
    assert found[1].startswith("notebook: 100%") and "2/2" in found[1]
    assert sorted(line.split(":")[0] for line in found[2:]) == ["thread 0", "thread 1", "thread 2"]


def test_a_bar_whose_loop_failed_says_so(shared_kernel: Kernel) -> None:
    cell = shared_kernel.run("%%remote\nfrom tqdm import tqdm\nfor i in tqdm(range(8)):\n    if i == 4: 1 / 0")
    assert cell.error == "ZeroDivisionError"
    assert bars(cell)[0].endswith("(stopped)") and "stopped" in cell.displays[-1]["text/html"]


def test_bars_of_many_tasks_move_side_by_side_in_one_place(shared_kernel: Kernel, tmp_path: Path) -> None:
    """Though the results come in the order of the tasks, the later ones' bars are seen from the beginning."""
    shared_kernel.ok(
        f"folder = {str(tmp_path)!r}\n"
        "def work(n):\n    from tqdm.auto import tqdm\n    import os, time\n"
        "    for i in tqdm(range(10), desc=f'task {n}'):\n"
        "        open(f'{folder}/{n}', 'w').close()\n"
        "        while len(os.listdir(folder)) < 4: time.sleep(0.01)\n"  # until all have begun
        "        time.sleep(0.05 if n else 0.3)\n    return n"
    )
    cell = shared_kernel.ok("list(client.map(work, range(4)))")
    assert cell.result == "[0, 1, 2, 3]" and cell.text == "" and places(cell) == 1
    assert sorted(line[:12] for line in bars(cell)) == [f"task {n}: 100%" for n in range(4)]
    before = [shown["text/plain"] for shown in cell.displays if "task 0: 100%" not in shown["text/plain"]]
    assert any("task 1" in text for text in before)
    again = shared_kernel.ok("client.call(work, 5); client.call(work, 6)")
    assert places(again) == 2  # one after the other: each where it belongs


def test_rich_is_a_bar_too(shared_kernel: Kernel) -> None:
    cell = shared_kernel.ok(
        "%%remote\nimport rich.progress, time\n"
        "for i in rich.progress.track(range(5), description='[red]rich'): time.sleep(0.03)"
    )
    assert bars(cell) == ["rich [########################] 5/5"] and cell.text == ""


def test_many_bars_are_shown_as_some_and_a_count(shared_kernel: Kernel) -> None:
    cell = shared_kernel.ok(
        "%%remote\nfrom tqdm import tqdm\nfor n in range(150): list(tqdm(range(2), desc=f'bar {n}'))"
    )
    assert len(bars(cell)) == 21 and bars(cell)[-1] == "and 80 that have ended" and "bar 149" in bars(cell)[-2]
    assert len(cell.messages) < 60


def test_a_function_in_the_nodes_own_process_has_bars_too(kernel: Kernel) -> None:
    kernel.ok(
        "%load_ext easyremote\nfrom easyremote import Client, ComputeNode, Server\n"
        "from easyremote.notebook.display import NotebookPresenter\nfrom tqdm import tqdm\n"
        "server = Server(port=0).start_background(); node = ComputeNode(server.address, 'own').serve()\n"
        "@node.register\ndef work():\n    for i in tqdm(range(3), 'own'): pass\n"
        "client = Client(server.address).with_presenter(NotebookPresenter)"
    )
    cell = kernel.ok("client.call('work')")
    assert bars(cell)[0].startswith("own: 100%") and cell.text == ""
    assert "3/3" in kernel.ok("for i in tqdm(range(3), 'here'): pass").text  # outside of calls tqdm is as ever
    kernel.ok("client.close(); node.stop(); server.stop()")
