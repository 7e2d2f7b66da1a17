"""The command in processes of its own, as a person would run it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

COMMAND = (sys.executable, "-m", "easyremote")

RECIPES = '''
"""Functions for trying things out."""

import pathlib
import sys
import time

from easyremote import track


def add(a: int, b: int = 2) -> int:
    """The sum."""
    print("adding", a, b)
    return a + b


def fail(name):
    print("about to fail", file=sys.stderr)
    return _load(name)


def _load(name):
    raise LookupError(f"no data set {name}")


def count(n):
    for i in range(n):
        print("at", i)
        yield {"i": i}


def endless(folder):
    """Leaves a file behind when it is stopped."""
    print("started")
    try:
        while True:
            time.sleep(0.01)
    finally:
        pathlib.Path(folder, "stopped").touch()


def steps(n):
    for _ in track(range(n), "epoch"):
        pass
    return {"loss": 0.5}


def echo(*args, **kwargs):
    return {"args": args, "kwargs": kwargs}


def nothing():
    print("no newline", end="")


def greet():
    return "good day"


def leave():
    sys.exit(7)


class Shop:
    def sell():
        return "sold"


answer = 42
'''


GATEWAY = ("gateway", "--port", "0", "--json", "--show-token")
_OFFERED = ("add", "fail", "count", "endless", "steps", "echo", "nothing", "greet", "leave")
NODE = ("node", *(f"recipes:{name}" for name in _OFFERED), "--name", "box", "--slots", "2")


class Program:
    """A running command. What it prints is read as it comes, so that it never waits for us."""

    def __init__(self, command: tuple[str, ...], folder: Path) -> None:
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=folder
        )
        self._changed = threading.Condition()
        self._text = {"stdout": "", "stderr": ""}
        self._open = 2
        self._threads = [threading.Thread(target=self._read, args=(name,)) for name in self._text]
        for thread in self._threads:
            thread.start()

    @property
    def stdout(self) -> str:
        return self._text["stdout"]

    @property
    def stderr(self) -> str:
        return self._text["stderr"]

    def wait_for(self, text: str, timeout_s: float = 30.0) -> None:
        """Until it has printed this, on either stream."""
        with self._changed:
            self._changed.wait_for(lambda: self._has(text) or not self._open, timeout_s)
        assert self._has(text), f"{text!r} did not come: {self._text}"

    def stop(self, number: signal.Signals) -> int:
        self.process.send_signal(number)
        return self.exit_code()

    def exit_code(self, timeout_s: float = 30.0) -> int:
        """Wait for its end and for all that it printed."""
        code = self.process.wait(timeout_s)
        for thread in self._threads:
            thread.join(timeout_s)
        return code

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.exit_code()
        for pipe in (self.process.stdout, self.process.stderr):
            assert pipe is not None
            pipe.close()

    def _has(self, text: str) -> bool:
        return any(text in printed for printed in self._text.values())

    def _read(self, name: str) -> None:
        pipe = getattr(self.process, name)
        while piece := os.read(pipe.fileno(), 65536):
            with self._changed:
                self._text[name] += piece.decode()
                self._changed.notify_all()
        with self._changed:
            self._open -= 1
            self._changed.notify_all()


@pytest.fixture(autouse=True)
def interrupts_reach_children() -> Iterator[None]:
    """A test run in the background ignores SIGINT, and its children would, too."""
    previous = signal.getsignal(signal.SIGINT)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, previous)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The current folder of the commands, with a module of functions."""
    (tmp_path / "recipes.py").write_text(RECIPES)
    return tmp_path


@pytest.fixture
def start(folder: Path) -> Iterator[Callable[..., Program]]:
    """`start("join", ADDRESS)`: a command that is ended after the test."""
    programs: list[Program] = []

    def begin(*arguments: str, command: tuple[str, ...] = COMMAND) -> Program:
        programs.append(Program((*command, *arguments), folder))
        return programs[-1]

    yield begin
    for program in reversed(programs):
        program.close()


@pytest.fixture
def run(folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """`run("status")`: a command to its end."""

    def complete(*arguments: str, command: tuple[str, ...] = COMMAND) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (*command, *arguments), stdin=subprocess.DEVNULL, capture_output=True, text=True, cwd=folder, timeout=60
        )

    return complete


@pytest.fixture
def gateway(start: Callable[..., Program]) -> dict[str, Any]:
    """A gateway, as what its --json line says."""
    program = start(*GATEWAY)
    program.wait_for("\n")
    return json.loads(program.stdout)


@pytest.fixture
def node(start: Callable[..., Program], gateway: dict[str, Any]) -> Program:
    """A node named box with the functions of `recipes`."""
    program = start(*NODE)
    program.wait_for("Ctrl-C stops the node.")
    return program


@pytest.fixture
def stopwatch() -> Callable[[], float]:
    """Seconds since the test began."""
    began = time.monotonic()
    return lambda: time.monotonic() - began
