"""A real kernel, driven as a notebook front end drives it."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from jupyter_client.manager import KernelManager


@dataclass
class Cell:
    """What a cell showed, in order."""

    messages: list[dict[str, Any]] = field(default_factory=list)
    times: list[float] = field(default_factory=list)
    reply: dict[str, Any] = field(default_factory=dict)

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
    """One kernel process."""

    def __init__(self) -> None:
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(env=dict(os.environ))
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    @property
    def pid(self) -> int:
        return self.manager.provisioner.process.pid

    def run(
        self, code: str, on_message: Callable[[dict[str, Any], Cell], None] | None = None, timeout_s: float = 60
    ) -> Cell:
        """Execute a cell and wait for its end. `on_message` sees each message as it comes."""
        message_id = self.client.execute(code)
        cell = Cell()
        until = time.monotonic() + timeout_s
        idle = False
        while not idle:
            try:
                message = self.client.get_iopub_msg(timeout=max(until - time.monotonic(), 0.01))
            except queue.Empty:
                raise AssertionError(f"the cell did not end in {timeout_s} s; it showed:\n{cell.text}") from None
            if message["parent_header"].get("msg_id") != message_id:
                continue
            if message["msg_type"] == "status" and message["content"]["execution_state"] == "idle":
                idle = True
            elif message["msg_type"] not in ("status", "execute_input"):
                cell.messages.append(message)
                cell.times.append(time.monotonic())
                if on_message is not None:
                    on_message(message, cell)
        while True:
            reply = self.client.get_shell_msg(timeout=10)
            if reply["parent_header"].get("msg_id") == message_id:
                cell.reply = reply["content"]
                return cell

    def ok(self, code: str, **options: Any) -> Cell:
        """The same for a cell that must not fail."""
        cell = self.run(code, **options)
        assert cell.reply["status"] == "ok", cell.traceback
        return cell

    def interrupt(self) -> None:
        self.manager.interrupt_kernel()

    def close(self) -> None:
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=True)


@pytest.fixture
def kernel() -> Iterator[Kernel]:
    started = Kernel()
    yield started
    started.close()


@pytest.fixture(scope="module")
def shared_kernel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kernel]:
    """A kernel with a running cluster of two nodes, for tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("kernel-run")
    folder.chmod(0o700)
    os.environ["EASYREMOTE_RUNTIME_DIR"] = str(folder)
    started = Kernel()
    started.ok("%load_ext easyremote\n%easyremote start --nodes 2")
    yield started
    started.close()
