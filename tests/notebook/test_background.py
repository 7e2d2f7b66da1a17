"""Cells in the background, and jobs that are found again: `%%remote --bg`, `%easyremote jobs | attach | cancel | result`."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from easyremote import Client, ComputeNode, Server
from tests.conftest import is_alive, wait_until
from tests.notebook.conftest import Cell, Kernel

pytestmark = pytest.mark.notebook

seven = pytest.mark.parametrize("shared_kernel", [7], indirect=True)
either = pytest.mark.parametrize("shared_kernel", [7, 6], indirect=True)

WORK = """
from IPython.display import HTML, display
from easyremote import track
import time
for step in track(range(3), 'steps'):
    print('{name}', step)
    while not exists('{name}'): time.sleep(0.05)
display(HTML('<b>{name}</b>'))
'{name} is done'
"""
GATE = "import os\nexists = lambda name: os.path.exists({folder!r} + name)\n"


def state_of(cell: Cell) -> str:
    """What the line of its job says."""
    lines = [data["text/plain"] for data in cell.displays if data["text/plain"].startswith("job ")]
    return lines[-1] if lines else ""


def body(name: str, folder: Path) -> str:
    return GATE.format(folder=f"{folder}/") + WORK.format(name=name)


@either
def test_two_background_cells_show_what_is_theirs_while_others_run(shared_kernel: Kernel, tmp_path: Path) -> None:
    """C32, C38."""
    first = shared_kernel.begin(f"%%remote --bg --apart\n{body('first', tmp_path)}")
    second = shared_kernel.begin(f"%%remote --bg --apart -n node-2\n{body('second', tmp_path)}")
    for cell in (first, second):
        shared_kernel.finish(cell)  # at once: nothing of it has ended
    gates = f"for name in ('first', 'second'): open('{tmp_path}/' + name, 'w').close()"
    busy = shared_kernel.begin(
        f"import time\nprint('here')\ntime.sleep(0.5)\n{gates}\nfor i in range(15):\n    print('still here')\n    time.sleep(0.1)"
    )
    shared_kernel.until(lambda: "is done" in str(first.displays) and "is done" in str(second.displays))
    shared_kernel.finish(busy)
    assert busy.text == "here\n" + "still here\n" * 15 and busy.displays == []
    for name, cell in (("first", first), ("second", second)):
        assert cell.text == "".join(f"{name} {step}\n" for step in range(3))
        kinds = [m["msg_type"] for m in cell.messages if not m["msg_type"].startswith("comm")]
        assert kinds.count("display_data") == 4  # its line, a bar, the display and the result
        assert f"<b>{name}</b>" in [data.get("text/html") for data in cell.displays]
        assert cell.displays[-1]["text/plain"] == f"'{name} is done'"
        assert "succeeded on node-" in state_of(cell)


@seven
def test_the_handle_is_a_job_and_an_error_is_shown_in_the_cell(shared_kernel: Kernel) -> None:
    cell = shared_kernel.begin(
        "%%remote --bg -o brought\nimport os\nbrought = [os.getpid()]\n1 / 0 if False else 6 * 7"
    )
    shared_kernel.finish(cell)
    assert cell.result == ""  # its line is enough
    assert shared_kernel.ok("job = _\ntype(job).__name__, job.result()").result == "('Job', 42)"
    shared_kernel.until(lambda: "succeeded" in state_of(cell) and cell.displays[-1]["text/plain"] == "42")
    assert shared_kernel.ok("isinstance(brought[0], int)").result == "True"
    assert "<Job " in shared_kernel.ok("job").result
    failing = shared_kernel.begin("%%remote --bg\ndef inner():\n    return 1 / 0\ninner()")
    shared_kernel.finish(failing)
    shared_kernel.until(lambda: any(m["msg_type"] == "error" for m in failing.messages))
    error = next(m["content"] for m in failing.messages if m["msg_type"] == "error")
    text = re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(error["traceback"]))
    assert error["ename"] == "ZeroDivisionError" and "line 3, in inner" in text
    assert "failed" in state_of(failing)


@seven
def test_other_cells_of_the_session_wait_for_it_and_say_so(shared_kernel: Kernel, tmp_path: Path) -> None:
    cell = shared_kernel.begin(f"%%remote --bg --name training\nmodel = 1\n{body('it', tmp_path)}model = 2")
    shared_kernel.until(lambda: "it 0" in cell.text)
    waiting = shared_kernel.begin("%%remote\nmodel")
    shared_kernel.until(lambda: "waits for training of this session" in waiting.text)
    (tmp_path / "it").touch()
    shared_kernel.finish(waiting)
    assert waiting.result == "2"  # one namespace


@seven
def test_jobs_are_listed_cancelled_and_their_results_had(shared_kernel: Kernel) -> None:
    cell = shared_kernel.begin("%%remote --bg --apart --name endless\nimport time\nwhile True: time.sleep(0.05)")
    shared_kernel.finish(cell)
    job_id = shared_kernel.ok("_.id").result.strip("'")
    wait_until(lambda: re.search(f"{job_id[:8]}  endless *  running", table_of(shared_kernel)))
    table = table_of(shared_kernel)
    assert job_id[:8] in table and "endless" in table
    assert "was cancelled" in shared_kernel.ok(f"%easyremote cancel {job_id[:8]}").text
    shared_kernel.until(lambda: "cancelled" in state_of(cell))
    assert "had ended already" in shared_kernel.ok(f"%easyremote cancel {job_id[:8]}").text
    assert shared_kernel.run(f"%easyremote result {job_id[:8]}").error == "CallCancelled"
    shared_kernel.ok("plain = client.submit_job(lambda: {'loss': 0.5})")
    shared_kernel.ok("value = %easyremote result {plain.id}".replace("{plain.id}", plain_id(shared_kernel)))
    assert shared_kernel.ok("value").result == "{'loss': 0.5}"
    assert shared_kernel.run("%easyremote attach nothing").error == "UsageError"
    assert shared_kernel.run("%easyremote cancel 0123456789").error == "JobNotFound"


def table_of(kernel: Kernel) -> str:
    return kernel.ok("%easyremote jobs").displays[0]["text/plain"]


def plain_id(kernel: Kernel) -> str:
    return kernel.ok("plain.id").result.strip("'")


@pytest.fixture
def keeping_gateway(tmp_path: Path) -> Iterator[tuple[Server, Client]]:
    """A gateway that keeps jobs, and a node, which outlive kernels."""
    with (
        Server(port=0, journal=tmp_path / "jobs.sqlite") as server,
        ComputeNode(server.address, "far"),
        Client(server.address) as client,
    ):
        yield server, client


def test_after_a_restart_of_the_kernel_a_job_is_shown_again_and_goes_on(
    kernel: Kernel, keeping_gateway: tuple[Server, Client], tmp_path: Path
) -> None:
    """C24, C38."""
    server, client = keeping_gateway
    connect = f"%load_ext easyremote\n%easyremote connect {server.address}"
    kernel.ok(connect)
    started = kernel.begin(f"%%remote --bg -o total\ntotal = 7\n{body('train', tmp_path)}")
    kernel.until(lambda: "train 0" in started.text)
    pid = int(client.with_options(node="far").call(lambda: __import__("os").getppid()))
    kernel.restart()
    kernel.ok(connect)
    again = kernel.begin("%easyremote attach")
    kernel.finish(again)
    kernel.until(lambda: "train 0" in again.text)
    assert client.jobs()[0].state == "running" and is_alive(pid)
    (tmp_path / "train").touch()
    kernel.until(lambda: "is done" in str(again.displays))
    assert again.text == "train 0\ntrain 1\ntrain 2\n"
    assert "succeeded on far" in state_of(again)
    assert "<b>train</b>" in [data.get("text/html") for data in again.displays]
    assert "3 of 3" in str([data.get("text/html") for data in again.displays])
    assert kernel.ok("total").result == "7"
    # The old kernel's namespace ended with its job, and nothing of it is left at the node.
    wait_until(lambda: client.call(workers_of_sessions) == 0)


def workers_of_sessions() -> int:
    """Worker processes beside the one that runs this."""
    import os

    import psutil

    children = psutil.Process(os.getppid()).children()
    return len([child for child in children if child.pid != os.getpid() and "worker" in " ".join(child.cmdline())])
