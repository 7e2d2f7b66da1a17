"""Processes that a system's users start by hand: a server, a worker."""

from __future__ import annotations

import contextlib
import select
import socket
import subprocess
import sys
import time

_ANSWERS_WITHIN_S = 30.0
_ENDS_WITHIN_S = 5.0


class Child:
    """A process of ours. `answer` waits for the line that it prints when it is ready; `stop` ends it."""

    def __init__(self, *command: str) -> None:
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    @classmethod
    def module(cls, name: str, *arguments: str) -> Child:
        """`python -m name arguments`."""
        return cls(sys.executable, "-m", name, *arguments)

    def tell(self, line: str) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def answer(self) -> str:
        """Its next line, without the line's end. Raises RuntimeError when it ends or says nothing for 30 s."""
        assert self.process.stdout is not None
        if not select.select([self.process.stdout], [], [], _ANSWERS_WITHIN_S)[0]:
            raise RuntimeError(f"{self.process.args} said nothing for {_ANSWERS_WITHIN_S:g} s")
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.process.args} ended")
        return line.strip()

    def stop(self) -> None:
        """Close its standard input and ask it to end; kill it when it doesn't."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()  # pyright: ignore[reportOptionalMemberAccess]
        self.process.terminate()
        try:
            self.process.wait(_ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()  # pyright: ignore[reportOptionalMemberAccess]


def free_port() -> int:
    """A TCP port of the loopback interface that nobody listens on now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def wait_for_port(port: int) -> None:
    """Until somebody listens there. Raises TimeoutError after 30 s."""
    until = time.monotonic() + _ANSWERS_WITHIN_S
    while time.monotonic() < until:
        with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
            return
        time.sleep(0.005)
    raise TimeoutError(f"nobody listens on port {port}")
