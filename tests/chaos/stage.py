"""The processes of a trial. Leaving the stage ends them all, frozen ones too, and removes their folder."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from easyremote import Client
from tests.conftest import free_port

TOKEN = "the-token-of-the-chaos-trials"
ROOT = Path(__file__).parents[2]


def nodes_here(client: Client) -> set[str]:
    """Names of the nodes that aren't given up, those included that get no calls at the moment."""
    return {node.node_id for node in client.list_nodes() if node.status != "away"}


class Quiet:
    """Shows nothing of what calls print, nor that they run again."""

    def output(self, is_stderr: bool, text: str) -> None: ...
    def display(self, display: Any, bundle: Any) -> None: ...
    def progress(self, progress: Any) -> None: ...


class Actor:
    """One process. `start` again after a kill gives the same one anew."""

    def __init__(self, role: str, told: dict[str, Any], environment: dict[str, str], prefix: list[str]) -> None:
        self.told = told
        self._command = [*prefix, sys.executable, "-m", "tests.chaos.actor", role]
        self._environment = environment
        self.process: subprocess.Popen[str]
        self.start()

    def start(self, wait: bool = True) -> Actor:
        self.process = subprocess.Popen(
            [*self._command, json.dumps(self.told)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=self._environment,
            cwd=ROOT,
            process_group=0,  # not a session: the system may weigh those against each other, whatever their niceness
        )
        if wait:
            self.wait_ready()
        return self

    def wait_ready(self) -> None:
        line = self.listen()
        if line != "ready":
            raise RuntimeError(f"a process of the trial didn't start: {self._command} {self.told}: {line!r}")

    def listen(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, line: str = "") -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    @property
    def pid(self) -> int:
        return self.process.pid

    def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                with contextlib.suppress(OSError):
                    stream.close()

    def freeze(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)

    def go_on(self) -> None:
        os.kill(self.pid, signal.SIGCONT)


class Stage:
    """One gateway and what is around it."""

    def __init__(
        self,
        host: str = "127.0.0.1",
        local_socket: bool = False,
        shared_memory: bool = False,
    ) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="easyremote-chaos-"))
        self.marks = self.folder / "marks"
        self.marks.mkdir()
        self.host = host
        self.port = free_port()
        self.actors: list[Actor] = []
        self._faces: list[Client] = []
        self._variables = {
            "EASYREMOTE_RUNTIME_DIR": str(self.folder),
            "EASYREMOTE_ALLOW_PLAINTEXT_NETWORK": "1",  # faults strike what is sent as it is
            "EASYREMOTE_LOCAL_SOCKET": "1" if local_socket else "0",
            "EASYREMOTE_SHARED_MEMORY": os.environ.get("EASYREMOTE_SHARED_MEMORY", "1") if shared_memory else "0",
        }
        self._before = {name: os.environ.get(name) for name in self._variables}
        os.environ.update(self._variables)  # the client is in this process

    @property
    def address(self) -> str:
        return f"{self.host}:{self.port}"

    def gateway(self, **settings: Any) -> Actor:
        return self.actor("gateway", host=self.host, port=self.port, settings=settings)

    def node(self, name: str, address: str = "", slots: int = 8) -> Actor:
        return self.actor("node", address=address or self.address, name=name, slots=slots)

    def actor(self, role: str, prefix: Sequence[str] = (), **told: Any) -> Actor:
        """`prefix` comes before its command, e.g. to enter a network."""
        environment = {"address": self.address, "token": TOKEN}
        actor = Actor(role, environment | told, dict(os.environ), list(prefix))
        self.actors.append(actor)
        return actor

    def leave(self, actor: Actor) -> None:
        """It has done its part."""
        actor.kill()
        self.actors.remove(actor)

    def client(self, address: str = "") -> Client:
        face = Client(address or self.address, token=TOKEN).with_presenter(Quiet)
        self._faces.append(face)
        return face

    def close(self) -> None:
        for face in self._faces:
            with contextlib.suppress(Exception):
                face.close()
        for actor in self.actors:
            actor.kill()
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
        shutil.rmtree(self.folder, ignore_errors=True)


@contextlib.contextmanager
def stage(**options: Any) -> Iterator[Stage]:
    made = Stage(**options)
    try:
        yield made
    finally:
        made.close()
