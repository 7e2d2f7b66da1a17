"""A gateway that somebody runs beside their notebook, and a machine elsewhere that joins it with one line."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from easyremote import Client
from easyremote.cluster import LocalCluster
from tests.conftest import wait_until

pytestmark = pytest.mark.slow


@contextmanager
def box(client: Client, folder: Path, name: str = "gpu-box") -> Iterator[subprocess.Popen[bytes]]:
    """`easyremote join`, as another user on another machine runs it: with folders of its own."""
    home = folder / name
    folders = {f"EASYREMOTE_{kind}_DIR": str(home / kind.lower()) for kind in ("CONFIG", "RUNTIME", "STATE")}
    command = [sys.executable, "-m", "easyremote", "join", client.invite(), "--name", name, "--slots", "2"]
    process = subprocess.Popen(command, env={**os.environ, **folders}, stdout=subprocess.DEVNULL)
    try:
        wait_until(lambda: name in {node.node_id for node in client.list_nodes()}, timeout_s=60)
        yield process
    finally:
        process.terminate()
        process.wait()


def count(number: int) -> Iterator[int]:
    yield from range(number)


def test_calls_go_to_a_box_that_joined_and_to_nodes_of_this_machine_alike(tmp_path: Path) -> None:
    with LocalCluster(1, bind="0.0.0.0") as cluster, cluster.client() as client:
        assert client.call(os.getppid) == cluster.pids[1]
        with box(client, tmp_path) as process:
            there, here = client.with_options(node="gpu-box"), client.with_options(node="node-1")
            assert there.call(os.getppid) == process.pid  # at once: who has seen it in a list can call it
            assert here.call(os.getppid) == cluster.pids[1]
            assert set(client.map(lambda _: os.getppid(), range(200))) == {process.pid, cluster.pids[1]}

            data = client.put(np.arange(300_000))
            total = int(np.arange(300_000).sum())
            assert there.call(lambda array: int(array.sum()), data) == total
            assert here.call(lambda array: int(array.sum()), data) == total
            assert list(there.stream(count, 3)) == [0, 1, 2]
        assert client.call(os.getppid) == cluster.pids[1]  # it left, and nothing is missed


def test_a_notebook_may_have_no_node_of_its_own(tmp_path: Path) -> None:
    with LocalCluster(0, bind="0.0.0.0") as cluster, cluster.client() as client, box(client, tmp_path) as process:
        assert client.call(os.getppid) == process.pid


def test_a_call_that_waited_unsealed_for_the_box_says_what_to_do(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Nothing had told its client yet that it was to be sealed, and nobody but its client can do that."""
    with LocalCluster(1, bind="0.0.0.0") as cluster, cluster.client() as client:
        there = client.with_options(node="gpu-box", queue_timeout=60)
        waiting = there.submit(os.getppid)
        said: list[str] = []

        def is_said() -> bool:
            said.append(capfd.readouterr().err)
            return "'gpu-box' takes only sealed calls. Call again" in "".join(said)

        with box(client, tmp_path) as process:
            reader = threading.Thread(target=waiting.exception)  # who waits for a call is told why it waits
            reader.start()
            wait_until(is_said)
            assert not waiting.done()
            waiting.cancel()
            reader.join(60)
            assert there.call(os.getppid) == process.pid
