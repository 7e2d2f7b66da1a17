"""What a remote cell's line tells of GPUs."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from easyremote.cluster import LocalCluster
from easyremote.notebook.outcomes import Cell
from easyremote.notebook.places import Notebook
from easyremote.notebook.running import run_cell
from easyremote.notebook.workspace import workspace
from tests.gpu.conftest import FakeNvml

pytestmark = pytest.mark.slow


@pytest.fixture
def connected(gpu_cluster: LocalCluster) -> Iterator[None]:
    workspace.connect(gpu_cluster.address)
    yield
    workspace.stop()


def test_the_gpus_that_a_session_used_and_their_memory(connected: None, nvml: FakeNvml) -> None:
    client = workspace.require_client()

    def run(source: str) -> Cell:
        return Cell(source, Notebook({}, {}), {}, [], [], True, {})

    first = run_cell(client, run("import os\nos.getpid()"))
    assert first.gpus == [] and first.peak_memory_bytes > 0
    nvml.processes["GPU-bbbb", int(first.value)] = 3
    nvml.gpus[1].used = 3
    nvml.write()
    second = run_cell(client, run("1"))
    assert second.gpus == [{"name": "Fake-GPU", "index": 1, "peak_memory_bytes": 3 * 2**30}]
