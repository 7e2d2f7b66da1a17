"""Calls and GPUs, with real processes: who gets which, what others' use does, and what happens when one vanishes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import easyremote
from easyremote import Client, DeadlineExceeded, GpuInfo, InsufficientResources
from easyremote.cluster import LocalCluster
from tests.conftest import wait_until
from tests.gpu.conftest import GIB, FakeNvml

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="NVML's fake is a library for Linux")


def seen() -> tuple[str | None, tuple[int, ...], str]:
    """What a call sees of its GPUs."""
    current = easyremote.current_call()
    assert current is not None
    return os.environ.get("CUDA_VISIBLE_DEVICES"), current.gpus, os.environ.get("CUDA_DEVICE_ORDER", "")


def held_until(path: str) -> tuple[int, ...]:
    """Says by a file that it runs, and runs until another is there."""
    import time

    current = easyremote.current_call()
    assert current is not None
    with open(f"{path}.{current.call_id}.runs", "w") as file:
        file.write(" ".join(map(str, current.gpus)))
    while not os.path.exists(path):
        time.sleep(0.01)
    return current.gpus


def running(path: Path) -> list[str]:
    """The GPUs of those that have begun."""
    return sorted(file.read_text() for file in path.parent.glob(f"{path.name}.*.runs"))


def gpu(client: Client, index: int) -> GpuInfo:
    (node,) = client.list_nodes()
    return node.gpus[index]


def shipped(function: Any) -> Any:
    """A function that goes by value: this module isn't on a node's path."""
    import types

    copied = types.FunctionType(function.__code__, {"easyremote": easyremote, "os": os}, function.__name__)
    copied.__module__ = "__main__"
    return copied


SEEN, HELD = shipped(seen), shipped(held_until)


def test_a_worker_sees_the_gpus_of_its_call_and_nothing_else(gpu_client: Client) -> None:
    assert gpu_client.call(SEEN) == (None, (), "")
    assert gpu_client.with_options(gpus=1, gpu_memory="20GiB").call(SEEN) == ("0", (0,), "PCI_BUS_ID")
    assert gpu_client.with_options(gpu_memory="8GiB").call(SEEN) == ("1", (1,), "PCI_BUS_ID")
    assert gpu_client.with_options(gpus=2).call(SEEN) == ("0,1", (0, 1), "PCI_BUS_ID")
    assert gpu_client.call(SEEN) == (None, (), "")


def test_what_nvml_measures_is_shown(gpu_client: Client, nvml: FakeNvml) -> None:
    nvml.gpus[0].used = 5
    nvml.gpus[0].fields = {"util": 37, "temp": 61, "power": 250_000}
    nvml.errors = {"nvmlDeviceGetComputeRunningProcesses": 3}  # not supported
    nvml.write()
    wait_until(lambda: gpu(gpu_client, 0).memory_used_bytes == 5 * GIB)
    first = gpu(gpu_client, 0)
    assert (first.name, first.uuid, first.memory_total_bytes) == ("Fake-GPU", "GPU-aaaa", 24 * GIB)
    assert (first.utilization_percent, first.temperature_c, first.power_w) == (37, 61, 250)
    (node,) = gpu_client.list_nodes()
    assert node.capacity["gpus"] == 2
    assert node.in_use == {"slots": 0, "cpus": 0.0, "memory_bytes": 0, "gpus": 0}
    nvml.errors = {"nvmlDeviceGetPowerUsage": 3, "nvmlDeviceGetTemperature": 999}
    nvml.gpus[0].used = 6
    nvml.write()
    wait_until(lambda: gpu(gpu_client, 0).memory_used_bytes == 6 * GIB)
    assert (gpu(gpu_client, 0).power_w, gpu(gpu_client, 0).utilization_percent, gpu(gpu_client, 0).lost) == (0, 37, "")


def test_two_nodes_of_one_machine_never_use_a_gpu_twice(nvml: FakeNvml, tmp_path: Path) -> None:
    end = tmp_path / "end"
    with LocalCluster(2, slots=4) as cluster, cluster.client() as client:
        wait_until(lambda: sum(len(node.gpus) for node in client.list_nodes()) == 4)
        calls = [client.with_options(gpus=1).submit(HELD, str(end)) for _ in range(3)]
        wait_until(lambda: len(running(end)) == 2)
        assert running(end) == ["0", "1"]
        end.touch()
        assert {call.result() for call in calls} == {(0,), (1,)}


def test_what_somebody_else_uses_is_not_given_out_until_it_is_free(gpu_client: Client, nvml: FakeNvml) -> None:
    nvml.gpus[0].used, nvml.gpus[1].used = 20, 12
    nvml.processes = {("GPU-aaaa", 1): 20, ("GPU-bbbb", 1): 12}
    nvml.write()
    wait_until(lambda: gpu(gpu_client, 1).memory_used_bytes == 12 * GIB)
    fits = gpu_client.with_options(gpu_memory="4GiB")
    assert fits.call(SEEN)[1] == (0,)
    with pytest.raises(DeadlineExceeded, match=r"gpu_memory=5 GiB, and 4 GiB of 24 GiB is free"):
        gpu_client.with_options(gpu_memory="5GiB", queue_timeout=0.5).call(SEEN)
    waiting = gpu_client.with_options(gpu_memory="10GiB").submit(SEEN)
    nvml.gpus[1].used, nvml.processes = 2, {("GPU-aaaa", 1): 20, ("GPU-bbbb", 1): 2}
    nvml.write()
    assert waiting.result(30)[1] == (1,)


def test_what_a_nodes_own_idle_workers_use_does_not_count_as_others(gpu_client: Client, nvml: FakeNvml) -> None:
    """A worker that keeps its memory after a call doesn't keep the next call out."""
    worker = gpu_client.with_options(gpu_memory="20GiB").call(os.getpid)
    nvml.gpus[0].used, nvml.processes = 20, {("GPU-aaaa", worker): 20}
    nvml.write()
    wait_until(lambda: gpu(gpu_client, 0).own_memory_bytes == 20 * GIB)
    assert gpu_client.with_options(gpu_memory="22GiB").call(SEEN)[1] == (0,)


def test_an_idle_worker_ends_where_another_call_has_its_gpu_alone(gpu_client: Client) -> None:
    from tests.conftest import is_alive

    shares = gpu_client.with_options(gpu_memory="20GiB")
    worker = shares.call(os.getpid)
    assert shares.call(os.getpid) == worker, "it is kept warm"
    gpu_client.with_options(gpus=2).call(SEEN)
    wait_until(lambda: not is_alive(worker))


def test_a_gpu_that_vanishes_gets_nothing_new_and_what_runs_goes_on(
    gpu_client: Client, nvml: FakeNvml, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    call = gpu_client.with_options(gpus=1, gpu_memory="20GiB").submit(HELD, str(end))
    wait_until(lambda: running(end) == ["0"])
    nvml.gpus[0].fields = {"lost": 1}
    nvml.write()
    wait_until(lambda: gpu(gpu_client, 0).lost)
    assert "lost" in gpu(gpu_client, 0).lost
    assert gpu_client.with_options(gpus=1).call(SEEN)[1] == (1,)
    end.touch()
    assert call.result() == (0,)
    with pytest.raises(DeadlineExceeded):
        gpu_client.with_options(gpus=2, queue_timeout=0.3).call(SEEN)
    with pytest.raises(InsufficientResources) as caught:  # given up some seconds later
        gpu_client.with_options(gpus=2).call(SEEN)
    assert caught.value.details["most_gpus"] == "1"
    nvml.gpus[0].fields = {}
    nvml.write()
    wait_until(lambda: not gpu(gpu_client, 0).lost)
    assert gpu_client.with_options(gpus=2).call(SEEN)[1] == (0, 1)


def test_the_whole_driver_may_go_away_and_come_back(gpu_client: Client, nvml: FakeNvml) -> None:
    nvml.errors = {"nvmlDeviceGetCount": 9, "nvmlInit": 9}
    nvml.write()
    wait_until(lambda: gpu(gpu_client, 0).lost and gpu(gpu_client, 1).lost)
    assert gpu_client.call(SEEN)[1] == ()
    nvml.errors = {}
    nvml.write()
    wait_until(lambda: not gpu(gpu_client, 0).lost)
    assert gpu_client.with_options(gpus=2).call(SEEN)[1] == (0, 1)


def test_a_gpu_that_is_pulled_out_does_not_change_the_numbers_of_the_others(gpu_client: Client, nvml: FakeNvml) -> None:
    nvml.gpus = nvml.gpus[1:]
    nvml.write()
    wait_until(lambda: gpu(gpu_client, 0).lost)
    assert (gpu(gpu_client, 1).uuid, gpu(gpu_client, 1).lost) == ("GPU-bbbb", "")


def test_cuda_visible_devices_of_the_node_says_which_it_offers(nvml: FakeNvml, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    with LocalCluster(1, slots=4) as cluster, cluster.client() as client:
        assert client.with_options(gpus=1).call(SEEN)[:2] == ("1", (1,))
        with pytest.raises(InsufficientResources) as caught:
            client.with_options(gpus=2).call(SEEN)
        assert (caught.value.details["most_gpus"], caught.value.details["wanted_gpus"]) == ("1", "2")


def test_the_command_line_says_what_a_node_offers_and_status_shows_what_is_in_use(
    nvml: FakeNvml, tmp_path: Path
) -> None:
    end = tmp_path / "end"
    with LocalCluster(0) as cluster, cluster.client() as client:
        command = [sys.executable, "-m", "easyremote", "join", cluster.address, "--name", "cli", "--slots", "2"]
        command += ["--cpus", "3", "--memory", "10GiB", "--gpus", "0,", "--gpu-memory", "12GiB", "--label", "zone=lab"]
        environment = os.environ | {"EASYREMOTE_TOKEN": cluster._token}
        process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        try:
            wait_until(lambda: client.list_nodes() and client.list_nodes()[0].gpus[0].memory_total_bytes)
            (node,) = client.list_nodes()
            assert node.capacity == {"slots": 2, "cpus": 3.0, "memory_bytes": 10 * GIB, "gpus": 1}
            wanted = {"cpus": 1.5, "memory": "4GiB", "gpu_memory": "7GiB", "labels": {"zone": "lab"}}
            call = client.with_options(**wanted).submit(HELD, str(end))
            wait_until(lambda: running(end) == ["0"])
            (node,) = client.list_nodes()
            assert node.in_use == {"slots": 1, "cpus": 1.5, "memory_bytes": 4 * GIB, "gpus": 1}
            assert (node.gpus[0].calls, node.gpus[0].held_bytes, node.gpus[0].offered_bytes) == (1, 7 * GIB, 12 * GIB)
            status = [sys.executable, "-m", "easyremote", "status", "--gateway", cluster.address]
            shown = subprocess.run(status, env=environment, capture_output=True, text=True, timeout=60).stdout
            assert "1: 7.0 GiB" in shown
            end.touch()
            assert call.result() == (0,)
        finally:
            process.terminate()
            process.communicate(timeout=60)


def test_a_machine_whose_library_does_not_work_has_no_gpus(nvml: FakeNvml) -> None:
    nvml.errors = {"nvmlInit": 9}
    nvml.write()
    with LocalCluster(1) as cluster, cluster.client() as client:
        assert client.call(SEEN)[1] == ()
        with pytest.raises(InsufficientResources):
            client.with_options(gpus=1).call(SEEN)
