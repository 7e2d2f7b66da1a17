"""Builds environments for one node's calls, and keeps those from being removed that it uses. Runs on the loop.

However many calls wait for an environment, it is built once, and each of them is told how far it is.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import platform
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from easyremote.errors import EasyRemoteError, EnvironmentFailed
from easyremote.execution.environments import uv
from easyremote.execution.environments.folder import PROGRAM, EnvironmentFolder, Hold, Stopped
from easyremote.execution.environments.interpreter import CELL_NEEDS, WORKER_NEEDS, Interpreter

BUILDS_AT_ONCE = 2
KEEP_S = 60.0
"""What was handed out so recently is in use, whether or not a worker of it has started yet."""

STAGES = 4
"""A build is told in so many steps: a Python, what is to be installed, that it is at hand, that it is installed."""

OnProgress = Callable[[int, str], None]
"""How many of the `STAGES` are done, and a text for people."""

_ASK = "import json, platform, sys; print(json.dumps([platform.python_version(), sys.base_prefix]))"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is asked for. `python`: "3.12", or a whole version. `for_cells`: notebook cells run in it."""

    requirements: tuple[str, ...]
    python: str
    for_cells: bool = False

    @property
    def all(self) -> list[str]:
        return [*self.requirements, *WORKER_NEEDS, *(CELL_NEEDS if self.for_cells else ())]


@dataclass(slots=True)
class _Build:
    stop: threading.Event = field(default_factory=threading.Event)
    listeners: list[OnProgress] = field(default_factory=list[OnProgress])
    last: tuple[int, str] | None = None
    task: asyncio.Future[Interpreter] | None = None

    def tell(self, stage: int, text: str) -> None:
        self.last = stage, text
        for listener in list(self.listeners):
            listener(stage, text)


class Environments:
    """`variables`: the environment variables that a build gets. `wheels_only`: nothing may run code to be installed."""

    def __init__(
        self,
        node_id: str,
        variables: Mapping[str, str],
        wheels_only: bool = False,
        folder: EnvironmentFolder | None = None,
    ) -> None:
        self._node_id = node_id
        self._variables = variables
        self._wheels_only = wheels_only
        self._folder = folder or EnvironmentFolder()
        self._held: dict[str, tuple[Hold, Interpreter, float]] = {}
        self._builds: dict[str, _Build] = {}
        self._threads: ThreadPoolExecutor | None = None
        self._settings: dict[str, str] | None = None

    async def ready(self, wanted: Wanted, on_progress: OnProgress) -> Interpreter:
        """The Python of the environment, which is built where it isn't there. Raises EnvironmentFailed."""
        key = self._key(wanted)
        if key in self._held:
            hold, interpreter, _ = self._held[key]
            self._held[key] = hold, interpreter, time.monotonic()
            return interpreter
        build = self._builds.get(key)
        if build is None or build.stop.is_set():
            build = self._builds[key] = _Build()
            build.task = asyncio.ensure_future(self._build(key, wanted, build))
        elif build.last is not None:
            on_progress(*build.last)
        build.listeners.append(on_progress)
        assert build.task is not None
        try:
            return await asyncio.shield(build.task)
        finally:
            build.listeners.remove(on_progress)
            if not build.listeners and not build.task.done():
                build.stop.set()

    def release_unused(self, in_use: Collection[str]) -> None:
        """Let go of those whose keys aren't among these."""
        now = time.monotonic()
        for key, (hold, _, handed_at) in list(self._held.items()):
            if key not in in_use and now - handed_at > KEEP_S:
                del self._held[key]
                self._let_go(key, hold)

    async def close(self) -> None:
        for build in self._builds.values():
            build.stop.set()
        tasks = [build.task for build in self._builds.values() if build.task is not None]
        await asyncio.gather(*tasks, return_exceptions=True)
        if self._threads is not None:
            self._threads.shutdown(wait=False)
        for key, (hold, _, _) in self._held.items():
            self._let_go(key, hold)
        self._held.clear()

    def _let_go(self, key: str, hold: Hold) -> None:
        self._folder.used(key)  # until now: it may have been got long ago
        hold.release()

    def _key(self, wanted: Wanted) -> str:
        python = [wanted.python]
        if _is_own(wanted.python):
            python = [platform.python_version(), sys.base_prefix]
        said = [wanted.all, python, platform.machine(), self._wheels_only]
        return hashlib.sha256(json.dumps(said).encode()).hexdigest()[:20]

    async def _build(self, key: str, wanted: Wanted, build: _Build) -> Interpreter:
        loop = asyncio.get_running_loop()
        if self._threads is None:
            self._threads = ThreadPoolExecutor(BUILDS_AT_ONCE, "easyremote-environments")

        def tell(stage: int, text: str) -> None:
            loop.call_soon_threadsafe(build.tell, stage, text)

        try:
            hold, interpreter = await loop.run_in_executor(self._threads, self._get, key, wanted, build.stop, tell)
        except (uv.UvFailed, uv.UvStopped, Stopped, OSError, EasyRemoteError) as error:
            raise self._failure(wanted, error) from error
        finally:
            if self._builds.get(key) is build:
                del self._builds[key]
        if key in self._held:  # of a build that was begun anew while this one was to stop
            hold.release()
            hold = self._held[key][0]
        self._held[key] = hold, interpreter, time.monotonic()
        return interpreter

    def _failure(self, wanted: Wanted, error: Exception) -> EnvironmentFailed:
        asked = ", ".join(wanted.requirements) or "no packages"
        said = error.message if isinstance(error, EasyRemoteError) else str(error) or "it was stopped"
        return EnvironmentFailed(
            f"node '{self._node_id}' can't build an environment with {asked} (Python {wanted.python}):\n{said}",
            requirements="\n".join(wanted.requirements),
            python=wanted.python,
            node=self._node_id,
        )

    # ---- in a thread -----------------------------------------------------------------------------------------------

    def _get(self, key: str, wanted: Wanted, stop: threading.Event, tell: OnProgress) -> tuple[Hold, Interpreter]:
        waits = threading.Event()

        def on_wait() -> None:
            if not waits.is_set():
                waits.set()
                tell(0, "another node of this machine builds the environment")

        hold = self._folder.get(key, lambda path: self._make(path, wanted, stop, tell), stop, on_wait)
        try:
            path = self._folder.path(key)
            facts = self._folder.facts(key)
            return hold, Interpreter(key, str(path / PROGRAM), facts["python"], (str(path), facts["base"]))
        except BaseException:
            hold.release()
            raise

    def _make(self, path: Path, wanted: Wanted, stop: threading.Event, tell: OnProgress) -> dict[str, Any]:
        """Build it there. Tells what it is."""
        began = time.monotonic()
        if self._settings is None:
            self._settings = uv.settings(self._variables, self._folder.cache)
        asked = ", ".join(wanted.requirements) or "no packages"
        tell(0, f"building an environment for {asked}")
        root = self._folder.root
        python = sys.executable if _is_own(wanted.python) else wanted.python
        venv = ["venv", "--no-project", "--relocatable", "--python", python, str(path)]
        uv.run(venv, self._settings, root, stop, lambda line: None)
        program = str(path / PROGRAM)
        version, base = self._ask(program, root)
        tell(1, f"building an environment for {asked}: Python {version}")
        install = ["pip", "install", "--python", program, *(["--no-build"] if self._wheels_only else [])]
        said = uv.run(
            [*install, "--", *wanted.all], self._settings, root, stop, lambda line: _tell_line(line, asked, tell)
        )
        tell(STAGES, f"built an environment for {asked} in {time.monotonic() - began:.1f} s")
        return {
            "python": version,
            "base": base,
            "requirements": list(wanted.requirements),
            "for_cells": wanted.for_cells,
            "packages": re.findall(r"^ \+ (\S+==\S+)", said, re.MULTILINE),
        }

    def _ask(self, program: str, folder: Path) -> tuple[str, str]:
        done = subprocess.run(
            [program, "-I", "-c", _ASK],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            cwd=folder,
            timeout=60,
        )
        if done.returncode:
            raise uv.UvFailed(f"its Python doesn't run: {done.stderr.strip()[-500:]}")
        version, base = json.loads(done.stdout)
        return version, base


def _is_own(python: str) -> bool:
    """Whether this process's Python will do."""
    own = platform.python_version()
    return python in (own, ".".join(own.split(".")[:2]))


_STAGES = (
    (2, re.compile(r"Resolved (\d+ packages?)"), "resolved {}"),
    (2, re.compile(r"Downloading (\S+ \(.*\))"), "downloading {}"),
    (2, re.compile(r"Building (\S+)"), "building {}"),
    (3, re.compile(r"Prepared (\d+ packages?)"), "prepared {}"),
    (3, re.compile(r"Installed (\d+ packages?)"), "installed {}"),
)


def _tell_line(line: str, asked: str, tell: OnProgress) -> None:
    for stage, pattern, text in _STAGES:
        match = pattern.match(line.strip())
        if match:
            tell(stage, f"building an environment for {asked}: {text.format(match[1])}")
