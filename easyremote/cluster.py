"""`LocalCluster`: a gateway and nodes as processes of their own on this machine, for notebooks and for trying things out."""

from __future__ import annotations

import contextlib
import json
import os
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

from easyremote import displaying, lifetime
from easyremote.client import Client
from easyremote.errors import EasyRemoteError, UsageError, from_code

__all__ = ["LocalCluster"]

TEMPORARY = "temporary"
"""A journal of jobs that its gateway makes for itself, and that ends with it."""

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 6.0
_LAST_WORDS_BYTES = 2000


class LocalCluster:
    """A gateway and `nodes` node processes, which end with this process, however it ends.

    `slots`: calls that each node runs at once. `port`: the gateway's; any free one by default. `bind`: where it listens, as
    `Server` has it as `host`: on another address than loopback machines elsewhere can join, in TLS, with an invitation
    (`client().invite()`), and `advertise` is what that tells them as its address. Node processes are named node-1, node-2, ….

    Raises UsageError for a number of nodes that can't be, EasyRemoteError with the process's own reason when one doesn't start.
    """

    def __init__(
        self,
        nodes: int = 1,
        *,
        slots: int | None = None,
        port: int = 0,
        bind: str = "127.0.0.1",
        advertise: Sequence[str] = (),
    ) -> None:
        if not 0 <= nodes <= 64:
            raise UsageError(f"a local cluster has 0 to 64 nodes, not {nodes}")
        self._children: list[_Child] = []
        self._names: list[str] = []
        self._client: Client | None = None  # of its monitors
        self.address = ""
        self._token = ""
        lifetime.opened(self, self.stop)
        try:
            gateway = self._spawn("gateway", "gateway")
            waiting = [self._spawn("node", f"node-{index + 1}") for index in range(nodes)]  # they start up side by side
            ready = gateway.talk(
                {"port": port, "token": None, "journal": TEMPORARY, "bind": bind, "advertise": list(advertise)}
            )
            self.address, self._token = ready["address"], ready["token"]
            for child in waiting:
                child.tell({"address": self.address, "token": self._token, "node_id": child.name, "slots": slots})
            for child in waiting:
                self._names.append(child.listen()["node_id"])
        except BaseException:
            self.stop()
            raise

    @property
    def node_ids(self) -> tuple[str, ...]:
        """Names of the node processes."""
        return tuple(self._names)

    @property
    def pids(self) -> tuple[int, ...]:
        """Process ids, the gateway's first."""
        return tuple(child.process.pid for child in self._children)

    @property
    def is_running(self) -> bool:
        """Whether the gateway's process lives."""
        return bool(self._children) and self._children[0].process.poll() is None

    def client(self) -> Client:
        """A new client of this cluster."""
        return Client(self.address, token=self._token)

    def monitor(self, language: str | None = None) -> Any:
        """A live picture of this cluster for a notebook, as `Client.monitor`. It can show the end of each node's log, and end
        nodes."""
        return displaying.monitor(self._own_client(), self, language)

    def log_tail(self, node_id: str, characters: int = 4000) -> str:
        """The end of what a node's process has written to its standard error. Raises UsageError for no node of this cluster."""
        return self._node(node_id).log_tail(characters)

    def remove_node(self, node_id: str) -> None:
        """End a node's process; its calls go to other nodes. Raises UsageError for no node of this cluster."""
        child = self._node(node_id)
        self._children.remove(child)
        self._names.remove(node_id)
        child.close()
        child.wait(time.monotonic() + _STOP_TIMEOUT_S)

    def _node(self, node_id: str) -> _Child:
        for child in self._children[1:]:
            if child.name == node_id and node_id in self._names:
                return child
        there = ", ".join(self._names) or "none"
        raise UsageError(f"this cluster has no node '{node_id[:60]}'; its nodes are: {there}")

    def _own_client(self) -> Client:
        if self._client is None or self._client.is_closed:
            self._client = self.client()
        return self._client

    def _ipython_display_(self) -> None:
        displaying.show(self, self._own_client() if self.is_running else None, self)

    def stop(self) -> None:
        """End all processes, nodes first, and wait for their end. Stopping again does nothing."""
        lifetime.closed(self)
        client, self._client = self._client, None
        if client is not None:
            client.close()
        children, self._children = self._children, []
        for child in reversed(children):
            child.close()
        until = time.monotonic() + _STOP_TIMEOUT_S
        for child in children:
            child.wait(until)

    def __enter__(self) -> LocalCluster:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self.stop()

    def __repr__(self) -> str:
        state = f"{self.address} with {', '.join(self._names) or 'no nodes'}" if self.is_running else "stopped"
        return f"<LocalCluster {state}>"

    def _spawn(self, role: str, name: str) -> _Child:
        child = _Child(role, name)
        self._children.append(child)
        return child


class _Child:
    """A process that is told what to do on its standard input, and ends when that closes."""

    def __init__(self, role: str, name: str) -> None:
        self.name = name
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # nameless: it goes with the processes, however they end
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "easyremote.cli.child", role],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._log,
                start_new_session=True,  # a kernel interrupt goes to the kernel's whole process group
            )
        except BaseException:
            self._log.close()
            raise

    def talk(self, message: dict[str, Any]) -> dict[str, Any]:
        self.tell(message)
        return self.listen()

    def tell(self, message: dict[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it has died; `listen` says why
            self.process.stdin.write(json.dumps(message).encode() + b"\n")
            self.process.stdin.flush()

    def listen(self) -> dict[str, Any]:
        """Its answer. Raises what it says went wrong."""
        assert self.process.stdout is not None
        line = b""
        until = time.monotonic() + _START_TIMEOUT_S
        while not line.endswith(b"\n"):
            if not select.select([self.process.stdout], [], [], max(until - time.monotonic(), 0))[0]:
                raise EasyRemoteError(
                    f"the {self.name} process didn't start within {_START_TIMEOUT_S:g} s{self._last_words()}"
                )
            piece = os.read(self.process.stdout.fileno(), 65536)
            if not piece:
                raise EasyRemoteError(f"the {self.name} process ended at once{self._last_words()}")
            line += piece
        answer = json.loads(line)
        if "error" in answer:
            raise from_code(answer.get("code", "error"), answer["error"])
        return answer

    def close(self) -> None:
        """Tell it to end."""
        for stream in (self.process.stdin, self.process.stdout, self._log):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def wait(self, until: float) -> None:
        try:
            self.process.wait(max(until - time.monotonic(), 0.1))
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def log_tail(self, most_bytes: int) -> str:
        log = self._log.fileno()
        start = max(os.fstat(log).st_size - most_bytes, 0)
        return os.pread(log, most_bytes, start).decode(errors="replace").strip()  # its position is the child's

    def _last_words(self) -> str:
        text = self.log_tail(_LAST_WORDS_BYTES)
        return f":\n{text}" if text else ""
