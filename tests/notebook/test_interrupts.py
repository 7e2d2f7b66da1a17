"""The stop button: the prompt is back at once, what runs elsewhere is stopped, and the client serves the next call."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from easyremote import Client, ComputeNode, Server
from tests.conftest import is_alive, wait_until
from tests.notebook.conftest import Cell, Kernel

pytestmark = pytest.mark.notebook

either = pytest.mark.parametrize("shared_kernel", [7, 6], indirect=True)
seven = pytest.mark.parametrize("shared_kernel", [7], indirect=True)

PROMPT_WITHIN_S = 2.0
"""0.2 s is what is promised; a busy machine gets more."""

STUBBORN = """
import os, time
while True:
    try:
        print('pid', os.getpid(), flush=True)
        while True: time.sleep(0.05)
    except KeyboardInterrupt:
        pass
"""
PATIENT = "import os, time\nprint('pid', os.getpid(), flush=True)\nwhile True: time.sleep(0.05)"


def pid_in(text: str) -> int:
    return int(text.split("pid ")[1].split()[0]) if "pid " in text else 0


def interrupted(kernel: Kernel, code: str, when: str | Callable[[Cell], Any] = "pid ") -> Cell:
    """Run a cell, and press the button when it shows `when`; the prompt has to be back soon."""
    cell = kernel.begin(code)
    kernel.until(lambda: when in cell.text if isinstance(when, str) else when(cell))
    pressed = time.monotonic()
    kernel.interrupt()
    kernel.finish(cell)
    assert time.monotonic() - pressed < PROMPT_WITHIN_S
    return cell


def is_idle(kernel: Kernel) -> bool:
    return kernel.ok("sum(n.running for n in client.list_nodes()), client.gateway_info().queued").result == "(0, 0)"


@either
def test_the_button_stops_a_cell_and_the_client_serves_the_next_call(shared_kernel: Kernel) -> None:
    """C1, C2, C3, C31: whatever is waited for."""
    cell = interrupted(shared_kernel, f"%%remote\n{PATIENT}")
    assert cell.error == "KeyboardInterrupt" and "was stopped" in cell.traceback
    assert int(shared_kernel.ok("%%remote\nos.getpid()").result) == pid_in(cell.text)  # the session is as it was
    loop = "\n    ".join(PATIENT.split("\n"))
    shared_kernel.ok(f"def wait():\n    {loop}")
    shared_kernel.ok(f"def produce():\n    {loop.replace('time.sleep(0.05)', 'yield time.sleep(0.05)')}")
    ways = {
        "call": "client.call(wait)",
        "result": "client.submit(wait).result()",
        "await": "await client.submit(wait)",
        "gather": "import asyncio\nawait asyncio.gather(client.submit(wait), client.submit(wait))",
        "stream": "for item in client.stream(produce): pass",
        "body of a stream": "import time\nfor item in client.stream(produce): time.sleep(60)",
        "async for": "async for item in client.stream(produce): pass",
        "map": "def slow(x):\n    wait()\nlist(client.map(slow, [1, 2]))",
    }
    for way, code in ways.items():
        cell = interrupted(shared_kernel, code)
        assert cell.error in ("KeyboardInterrupt", "CancelledError"), (way, cell.traceback)
        wait_until(lambda: is_idle(shared_kernel))
        assert shared_kernel.ok("client.call(lambda: 'next')").result == "'next'", way


@seven
def test_what_ignores_the_interrupt_is_killed_within_two_seconds(shared_kernel: Kernel) -> None:
    """C1: a program that catches it, and C code that doesn't return."""
    cell = interrupted(shared_kernel, f"%%remote -n node-2\n{STUBBORN}")
    wait_until(lambda: not is_alive(pid_in(cell.text)))
    busy = (
        "import os, hashlib\nprint('pid', os.getpid(), flush=True)\nhashlib.pbkdf2_hmac('sha256', b'', b'', 2**31 - 1)"
    )
    cell = interrupted(shared_kernel, f"%%remote -n node-2\n{busy}")
    wait_until(lambda: not is_alive(pid_in(cell.text)))
    assert shared_kernel.ok("%%remote -n node-2\n'a new one'").result == "'a new one'"


@pytest.mark.parametrize("kernel", [7, 6], indirect=True)
def test_a_second_press_kills_at_once(kernel: Kernel, monkeypatch: pytest.MonkeyPatch) -> None:
    # The node would wait for what it has interrupted for ever, so whatever ends it was the second press.
    monkeypatch.setattr("easyremote.execution.pool.KILL_AFTER_S", 1e6)
    with Server(port=0) as server, ComputeNode(server.address, "far"):
        body = "\n    ".join(STUBBORN.strip().split("\n"))
        kernel.ok(f"%load_ext easyremote\n%easyremote connect {server.address}\ndef stubborn():\n    {body}")
        first = interrupted(kernel, "client.call(stubborn)")
        assert is_alive(pid_in(first.text))
        kernel.interrupt()  # while nothing runs in the notebook
        wait_until(lambda: not is_alive(pid_in(first.text)))
        again = interrupted(kernel, "client.call(stubborn)")
        assert is_alive(pid_in(again.text))
        other = interrupted(kernel, "client.call(stubborn)")  # and while the next cell runs
        wait_until(lambda: not is_alive(pid_in(again.text)))
        kernel.interrupt()
        wait_until(lambda: not is_alive(pid_in(other.text)))
        assert kernel.ok("client.call(lambda: 'next')").result == "'next'"


@seven
def test_the_button_ends_an_upload_a_download_and_a_wait_in_the_queue(shared_kernel: Kernel) -> None:
    shared_kernel.ok("import numpy as np\nbig = np.ones(40_000_000)  # 320 MB")
    shared_kernel.ok("print('warm', client.call(len, [1]))")
    for code in (
        "print('pid 0', flush=True)\nclient.call(lambda data: None, big)",
        "print('pid 0', flush=True)\nget_ipython().run_cell_magic('remote', '-i big', 'None')",
        "def make():\n    import numpy\n    print('pid 0')\n    return numpy.ones(40_000_000)\nlen(client.call(make))",
        "print('pid 0', flush=True)\nclient.with_options(slots=2, node='node-1', queue_timeout=60).call(lambda: 1)",
    ):
        cell = shared_kernel.begin(code)
        shared_kernel.until(lambda cell=cell: "pid" in cell.text)
        shared_kernel.interrupt()
        shared_kernel.finish(cell)
        wait_until(lambda: is_idle(shared_kernel))
        assert shared_kernel.ok("client.call(lambda: 'next')").result == "'next'"
    shared_kernel.ok("del big")


def test_detached_work_goes_on_as_a_job_that_attach_shows(kernel: Kernel, tmp_path: Path) -> None:
    """C24."""
    with (
        Server(port=0, journal=tmp_path / "jobs.sqlite") as server,
        ComputeNode(server.address, "far"),
        Client(server.address) as client,
    ):
        kernel.ok(f"%load_ext easyremote\n%easyremote connect {server.address}\nimport os, time")
        gate = tmp_path / "gate"
        body = f"print('pid', os.getpid(), flush=True)\nwhile not os.path.exists('{gate}'): time.sleep(0.05)\n'whole'"
        cell = interrupted(kernel, f"%%remote --on-interrupt detach\nimport os, time\n{body}")
        assert "goes on as job" in cell.traceback and "%easyremote attach" in cell.traceback
        assert is_alive(pid_in(cell.text)) and client.jobs()[0].state == "running"
        shown = kernel.begin("%easyremote attach")
        kernel.until(lambda: "pid" in shown.text)
        gate.touch()
        kernel.until(lambda: "'whole'" in str(shown.displays))
        kernel.ok("def forever():\n    print('pid', os.getpid(), flush=True)\n    time.sleep(600)\nimport os, time")
        cell = interrupted(kernel, "client.with_options(on_interrupt='detach').call(forever)")
        assert is_alive(pid_in(cell.text)) and client.jobs()[0].state == "running"
        kernel.ok("%easyremote cancel " + client.jobs()[0].id)
        wait_until(lambda: client.jobs()[0].state == "cancelled")
        for wrong in ("on_interrupt='stay'", "on_interrupt='detach', durable=False"):
            assert kernel.run(f"client.with_options({wrong})").error == "UsageError"
        cell = interrupted(kernel, "client.with_options(durable=True, on_interrupt='cancel').call(forever)")
        wait_until(lambda: client.jobs()[0].state == "cancelled")
