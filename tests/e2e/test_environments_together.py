"""Environments that several nodes share, builds that are killed, and what an index, a client or a package may not do."""

from __future__ import annotations

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from easyremote import Client, ComputeNode, EnvironmentFailed, Sandbox, Server, UsageError, options
from easyremote.cluster import LocalCluster
from easyremote.execution import functions
from easyremote.execution.environments import uv
from easyremote.execution.environments.folder import FACTS, EnvironmentFolder
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.conftest import is_alive, wait_until
from tests.packages import SlowPackage, make_wheel

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not uv.find(), reason="uv isn't installed")]


@pytest.fixture(scope="module", autouse=True)
def packages(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A package that no index has, and a folder for environments that the tests of this file share."""
    folder = tmp_path_factory.mktemp("packages")
    make_wheel(folder, "treasure", "1.0", "VERSION = '1.0'\n")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_FIND_LINKS", str(folder))
        patch.setenv("EASYREMOTE_CACHE_DIR", str(tmp_path_factory.mktemp("cache")))
        yield folder


@pytest.fixture
def slow(packages: Path, tmp_path: Path) -> SlowPackage:
    return SlowPackage.make(packages, tmp_path, f"slow{len(list(packages.iterdir()))}")


def version_of(module: str) -> Callable[[], tuple[str, str]]:
    """A function that travels by value, as one of a notebook does."""

    def version() -> tuple[str, str]:
        import importlib
        import sys

        return importlib.import_module(module).VERSION, sys.prefix

    return version


class Texts:
    """What calls tell of their progress."""

    def __init__(self) -> None:
        self.said: list[str] = []

    def output(self, is_stderr: bool, text: str) -> None: ...
    def display(self, display: pb.Display, bundle: dict[str, Any]) -> None: ...

    def progress(self, progress: pb.Progress) -> None:
        self.said.append(progress.text)

    def of(self, client: Client) -> Client:
        return client.with_presenter(lambda: self)


def kept() -> list[list[str]]:
    return [environment.facts["requirements"] for environment in EnvironmentFolder().kept()]


def unfinished() -> list[Path]:
    return list(EnvironmentFolder().root.glob(".*.*"))


def programs_of(pid: int) -> dict[int, str]:
    """What a process has started, and what that has, each with its command."""
    found: dict[int, str] = {}
    for child in psutil.Process(pid).children(recursive=True):
        with contextlib.suppress(psutil.NoSuchProcess):
            found[child.pid] = " ".join(child.cmdline())
    return found


# ---- nodes together, and builds that are killed -----------------------------------------------------------------------


def test_two_nodes_that_are_asked_for_the_same_at_once_share_one_build(remote: Client, slow: SlowPackage) -> None:
    texts = Texts()
    asking = texts.of(remote).with_options(requirements=[slow.name])
    with ThreadPoolExecutor(2) as threads:
        ask = [asking.with_options(node=node).call for node in ("node-1", "node-2")]
        waiting = [threads.submit(call, version_of(slow.name)) for call in ask]
        wait_until(lambda: slow.builds and any("another node of this machine" in text for text in texts.said))
        slow.let_go_on()
        answers = {future.result() for future in waiting}
    assert len(answers) == 1, "both run in the same environment"
    assert len(slow.builds) == 1
    assert kept().count([slow.name]) == 1


def test_a_build_whose_node_is_killed_ends_with_it_and_the_next_ask_builds_it(
    remote: Client, cluster: LocalCluster, slow: SlowPackage
) -> None:
    asking = remote.with_options(requirements=[slow.name], retries=0)
    asking.with_options(node="node-1").submit(version_of(slow.name))
    wait_until(lambda: slow.builds)
    node = dict(zip(cluster.node_ids, cluster.pids[1:], strict=True))["node-1"]
    started = programs_of(node)
    assert slow.builds[0] in started and unfinished()
    os.kill(node, signal.SIGKILL)
    wait_until(lambda: not any(is_alive(pid) for pid in started))
    assert [slow.name] not in kept()
    slow.wait_no_more()
    assert asking.with_options(node="node-2").call(version_of(slow.name))[0] == "1.0"
    assert len(slow.builds) == 2
    assert not unfinished(), "what the first one left is gone"


def test_a_build_that_is_killed_is_told_and_leaves_nothing_and_the_next_ask_builds_it(
    node: ComputeNode, client: Client, slow: SlowPackage
) -> None:
    asking = client.with_options(requirements=[slow.name])
    call = asking.submit(version_of(slow.name))
    wait_until(lambda: slow.builds)
    started = programs_of(os.getpid())
    backend = slow.builds[0]
    (builder,) = (pid for pid, command in started.items() if command.startswith(f"{uv.find()} pip install"))
    os.kill(builder, signal.SIGKILL)
    with pytest.raises(EnvironmentFailed):
        call.result()
    wait_until(lambda: not is_alive(backend))
    assert [slow.name] not in kept() and not unfinished()
    slow.wait_no_more()
    assert asking.call(version_of(slow.name))[0] == "1.0"


def test_an_environment_is_used_until_its_node_lets_go_of_it(server: Server, client: Client) -> None:
    with ComputeNode(server.address, "brief"):
        client.with_options(requirements=["treasure"]).call(version_of("treasure"))
        (environment,) = (each for each in EnvironmentFolder().kept() if each.facts["requirements"] == ["treasure"])
        os.utime(environment.path / FACTS, (1, 1))
        assert EnvironmentFolder().is_in_use(environment.key)
        assert not EnvironmentFolder().remove(environment.key)
    assert not EnvironmentFolder().is_in_use(environment.key)
    assert (environment.path / FACTS).stat().st_mtime > environment.used - 1


# ---- what an index, a client or a package may not do ------------------------------------------------------------------


class _Index(BaseHTTPRequestHandler):
    """Sends whoever asks to an address with a secret, and refuses there."""

    def do_GET(self) -> None:
        is_sent_on = "signature=" in self.path
        self.send_response(403 if is_sent_on else 302)
        if not is_sent_on:
            self.send_header("Location", f"{self.path}x?signature=s3cret-signature")
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def index() -> Iterator[str]:
    """Where one is."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Index)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("name", ["PIP_INDEX_URL", "PIP_EXTRA_INDEX_URL", "UV_INDEX", "UV_DEFAULT_INDEX"])
def test_credentials_of_an_index_are_in_no_error_and_no_progress(
    server: Server, client: Client, index: str, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    label = "mine=" if name == "UV_INDEX" else ""
    monkeypatch.setenv(name, f"{label}http://ann:s3cret-p%40ss@{index}/s3cret-token/simple/")
    texts = Texts()
    with ComputeNode(server.address, "box"), pytest.raises(EnvironmentFailed) as failed:
        texts.of(client).with_options(requirements=["nowhere-to-be-found"]).call(version_of("nowhere"))
    told = [str(failed.value), repr(vars(failed.value)), *texts.said]
    assert "nowhere-to-be-found" in told[0]
    for secret in ("s3cret", "ann:", index):
        assert not [text for text in told if secret in text]


@pytest.mark.parametrize("what", ["python", "requirement"])
def test_a_node_runs_and_reads_no_path_that_a_client_names_as_python_or_as_a_package(
    node: ComputeNode, client: Client, packages: Path, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The program of a hostile client checks nothing by itself."""

    def unchecked(requirements: Any, python: Any) -> pb.Environment:
        return pb.Environment(requirements=requirements or (), python=python or "")

    monkeypatch.setattr(options, "environment_of", unchecked)
    monkeypatch.setattr(functions, "_check_python", lambda spec: None)
    program = tmp_path / "python3"
    program.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    program.chmod(0o755)
    wheel = next(packages.glob("treasure-*.whl"))
    asked = {"python": {"python": str(program)}, "requirement": {"requirements": [f"treasure @ file://{wheel}"]}}[what]
    with pytest.raises(UsageError):
        client.with_options(**asked).call(version_of("treasure"))
    assert not (tmp_path / "ran").exists()


def test_with_a_sandbox_only_wheels_are_installed_and_workers_can_not_change_what_is(
    bwrap: None, server: Server, client: Client, slow: SlowPackage
) -> None:
    slow.wait_no_more()

    def change() -> str:
        import treasure  # type: ignore[import-not-found]

        try:
            with open(str(treasure.__file__), "a"):
                return "changed"
        except OSError as error:
            return type(error).__name__

    with ComputeNode(server.address, "box", sandbox=Sandbox(), environments=True):
        with pytest.raises(EnvironmentFailed, match=slow.name):
            client.with_options(requirements=[slow.name]).call(version_of(slow.name))
        assert client.with_options(requirements=["treasure"]).call(change) == "OSError"
    assert not slow.builds, "nothing of it ran"
