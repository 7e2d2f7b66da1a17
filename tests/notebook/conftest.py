"""A real kernel, driven as a notebook front end drives it."""

from __future__ import annotations

import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import zmq
from jupyter_client.manager import KernelManager

_ROOT = Path(__file__).parents[2]
IPYKERNEL6 = _ROOT / ".build" / "ipykernel6"
INSTALL_IPYKERNEL6 = _ROOT / "scripts" / "install-ipykernel6"


Answer = str | Callable[[], object]
"""What is typed into a cell's box; or what is done instead."""


@dataclass
class Cell:
    """What a cell showed, in order."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)
    is_idle: bool = False
    on_message: Callable[[dict[str, Any], Cell], None] | None = None
    questions: list[tuple[str, bool]] = field(default_factory=list)  # prompts, and whether what is typed is hidden
    answers: list[Answer] = field(default_factory=list)

    def take(self, message: dict[str, Any]) -> None:
        """A message that has this cell as its parent."""
        if message["msg_type"] == "status":
            self.is_idle = self.is_idle or message["content"]["execution_state"] == "idle"
        elif message["msg_type"] != "execute_input":
            self.messages.append(message)
            self.times.append(time.monotonic())
            if self.on_message is not None:
                self.on_message(message, self)

    @property
    def text(self) -> str:
        """stdout and stderr."""
        return "".join(m["content"]["text"] for m in self.messages if m["msg_type"] == "stream")

    @property
    def displays(self) -> list[dict[str, Any]]:
        """Mime bundles of displays and of the result."""
        kinds = ("display_data", "execute_result", "update_display_data")
        return [m["content"]["data"] for m in self.messages if m["msg_type"] in kinds]

    @property
    def result(self) -> str:
        """text/plain of the cell's Out."""
        for message in self.messages:
            if message["msg_type"] == "execute_result":
                return message["content"]["data"]["text/plain"]
        return ""

    @property
    def error(self) -> str:
        """The name of the exception; empty when there was none."""
        return self.reply.get("ename", "")

    @property
    def traceback(self) -> str:
        import re

        return re.sub(r"\x1b\[[0-9;]*m", "", "\n".join(self.reply.get("traceback", [])))


class Kernel:
    """One kernel process. `more`: what its environment has beside this process's own."""

    def __init__(self, more: Mapping[str, str] | None = None) -> None:
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=dict(os.environ) | {"EASYREMOTE_FOOTER": "off"} | dict(more or {}))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)
        self._cells: dict[str, Cell] = {}

    @property
    def pid(self) -> int:
        return self.manager.provisioner.process.pid

    def begin(self, code: str, answers: Iterable[Answer] | None = ()) -> Cell:
        """Execute a cell without waiting for it. What it shows later, while others run or after its end, is in it too.

        `answers`: to what it asks, one after the other; None: the front end allows no questions.
        """
        cell = Cell(answers=list(answers or ()))
        self._cells[self.client.execute(code, allow_stdin=answers is not None)] = cell
        return cell

    def run(
        self,
        code: str,
        on_message: Callable[[dict[str, Any], Cell], None] | None = None,
        timeout_s: float = 60,
        answers: Iterable[Answer] | None = (),
    ) -> Cell:
        """Execute a cell and wait for its end. `on_message` sees each message of it as it comes."""
        cell = self.begin(code, answers)
        cell.on_message = on_message
        self.finish(cell, timeout_s)
        return cell

    def finish(self, cell: Cell, timeout_s: float = 60) -> None:
        """Until the cell has ended."""
        self.until(lambda: cell.is_idle, f"the cell did not end in {timeout_s} s; it showed:\n{cell.text}", timeout_s)
        while not cell.reply:
            reply = self.client.get_shell_msg(timeout=10)
            replied = self._cells.get(reply["parent_header"].get("msg_id"))
            if replied is not None:
                replied.reply = reply["content"]

    def until(self, condition: Callable[[], object], otherwise: str = "", timeout_s: float = 60) -> None:
        """Take what cells show until the condition holds."""
        until = time.monotonic() + timeout_s
        poller = zmq.Poller()
        for channel in (self.client.iopub_channel, self.client.stdin_channel):
            poller.register(channel.socket, zmq.POLLIN)
        while not condition():
            ready = dict(poller.poll(max(until - time.monotonic(), 0.01) * 1000))
            if self.client.stdin_channel.socket in ready:
                self._answer(self.client.get_stdin_msg(timeout=1))
                continue
            try:
                message = self.client.get_iopub_msg(timeout=max(until - time.monotonic(), 0.01))
            except queue.Empty:
                raise AssertionError(otherwise or "the state that was waited for did not come") from None
            cell = self._cells.get(message["parent_header"].get("msg_id"))
            if cell is not None:
                cell.take(message)

    def _answer(self, question: dict[str, Any]) -> None:
        cell = self._cells[question["parent_header"]["msg_id"]]
        cell.questions.append((question["content"]["prompt"], question["content"]["password"]))
        assert cell.answers, f"the cell asked what it has no answer for: {cell.questions[-1][0]}"
        answer = cell.answers.pop(0)
        if isinstance(answer, str):
            self.client.input(answer)
        else:
            answer()

    def ok(self, code: str, **options: Any) -> Cell:
        """The same as `run` for a cell that must not fail."""
        cell = self.run(code, **options)
        assert cell.reply["status"] == "ok", cell.traceback
        return cell

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    def restart(self) -> None:
        """As the Restart button does."""
        self.manager.restart_kernel(now=False)
        self.client.wait_for_ready(timeout=60)

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


def environment_of(version: int) -> dict[str, str]:
    """What a kernel's environment needs for it to be one of ipykernel 6 or 7. Skips where there is no 6; in CI that fails."""
    if version == 7:
        return {}
    installed = subprocess.run([INSTALL_IPYKERNEL6, sys.executable], stdin=subprocess.DEVNULL, capture_output=True)
    if installed.returncode:
        reason = f"ipykernel 6 can't be installed: {installed.stderr.decode()[-500:]}"
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(reason)
    path = [str(IPYKERNEL6), os.environ.get("PYTHONPATH", "")]
    return {"PYTHONPATH": os.pathsep.join(filter(None, path))}


@pytest.fixture
def kernel(request: pytest.FixtureRequest) -> Iterator[Kernel]:
    """A kernel of its own; `@pytest.mark.parametrize("kernel", [6, 7], indirect=True)` has one of each ipykernel."""
    started = Kernel(environment_of(getattr(request, "param", 7)))
    yield started
    started.close()


@pytest.fixture(scope="module")
def shared_kernel(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with a running cluster of two nodes, for tests that leave it as it was. It can be parametrized like `kernel`."""
    folder = tmp_path_factory.mktemp("kernel-run")
    folder.chmod(0o700)
    folders = {"RUNTIME": folder, "STATE": folder / "state", "CONFIG": folder / "config"}
    own = {f"EASYREMOTE_{name}_DIR": str(path) for name, path in folders.items()}
    started = Kernel(own | environment_of(getattr(request, "param", 7)))
    started.ok("%load_ext easyremote\n%easyremote start --nodes 2")
    yield started
    started.close()
