"""GPUs that aren't there: a fake NVML library, compiled here, which the real pynvml loads in real node processes."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from easyremote import Client
from easyremote.cluster import LocalCluster
from tests.conftest import wait_until

GIB = 2**30


@dataclass
class FakeGpu:
    """One line of the fake's file. Sizes in GiB."""

    uuid: str
    total: int
    used: int = 0
    fields: dict[str, int] = field(default_factory=dict)


@dataclass
class FakeNvml:
    """The GPUs of this machine, as the fake library tells them. `write` makes a change seen."""

    folder: Path
    file: Path
    gpus: list[FakeGpu] = field(default_factory=list)
    processes: dict[tuple[str, int], int] = field(default_factory=dict)
    """GiB by GPU and pid."""
    errors: dict[str, int] = field(default_factory=dict)
    """NVML's code by function."""

    def write(self) -> None:
        lines = [
            f"gpu {gpu.uuid} Fake-GPU {gpu.total * GIB} {gpu.used * GIB} "
            + " ".join(f"{name}={value}" for name, value in gpu.fields.items())
            for gpu in self.gpus
        ]
        lines += [f"process {uuid} {pid} {used * GIB}" for (uuid, pid), used in self.processes.items()]
        lines += [f"error {function} {code}" for function, code in self.errors.items()]
        new = self.file.with_suffix(".new")
        new.write_text("".join(f"{line}\n" for line in lines))
        new.replace(self.file)


def compile_fake(folder: Path) -> Path:
    """Put the fake libnvidia-ml.so.1 into this folder."""
    source = Path(__file__).with_name("fake_nvml.c")
    command = [
        "gcc",
        "-shared",
        "-fPIC",
        "-Wall",
        "-Werror",
        "-O1",
        "-o",
        str(folder / "libnvidia-ml.so.1"),
        str(source),
    ]
    subprocess.run(command, check=True, timeout=120)
    return folder


@pytest.fixture(scope="session")
def fake_library(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the fake libnvidia-ml.so.1."""
    return compile_fake(tmp_path_factory.mktemp("nvml"))


@pytest.fixture
def nvml(fake_library: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FakeNvml:
    """Two GPUs with 24 and 16 GiB, seen by processes that are started from now on."""
    made = FakeNvml(fake_library, tmp_path / "gpus", [FakeGpu("GPU-aaaa", 24), FakeGpu("GPU-bbbb", 16)])
    made.write()
    monkeypatch.setenv("LD_LIBRARY_PATH", str(fake_library))
    monkeypatch.setenv("FAKE_NVML", str(made.file))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return made


@pytest.fixture
def gpu_cluster(nvml: FakeNvml) -> Iterator[LocalCluster]:
    """A gateway and one node process that sees them."""
    with LocalCluster(1, slots=8) as running:
        yield running


@pytest.fixture
def gpu_client(gpu_cluster: LocalCluster) -> Iterator[Client]:
    with gpu_cluster.client() as client:
        wait_until(lambda: any(node.gpus for node in client.list_nodes()))
        yield client
