"""Values of any size, by shared memory on one host and in chunks otherwise, in bounded gateway memory."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import psutil
import pytest

from easyremote import Client, ComputeNode, PayloadError, Server
from easyremote.cluster import LocalCluster
from easyremote.wire.shared_files import SharedFiles

MIB = 1024 * 1024


@pytest.fixture(params=["shared memory", "chunks"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How large values travel between two processes; without an identity nobody shares memory with this one."""
    if request.param == "chunks":
        prepared = SharedFiles.__init__

        def without_identity(self: SharedFiles, *arguments: Any) -> None:
            prepared(self, *arguments)
            self.identity = ""

        monkeypatch.setattr(SharedFiles, "__init__", without_identity)
    return request.param


@pytest.fixture
def large(way: str, cluster: LocalCluster) -> Iterator[Client]:
    with cluster.client() as running:
        yield running


def test_a_300_megabyte_array_as_argument_and_result_in_bounded_gateway_memory(
    cluster: LocalCluster, large: Client
) -> None:
    gateway = psutil.Process(cluster.pids[0])
    large.call(lambda x: x, np.zeros(MIB // 4))  # everything is warm
    before = gateway.memory_info().rss
    peak = 0
    array = np.arange(300 * MIB // 8, dtype=np.float64)
    call = large.submit(lambda x: x + 1, array)
    while not call.done():
        peak = max(peak, gateway.memory_info().rss)
    result = call.result()
    assert result.nbytes == 300 * MIB
    assert np.array_equal(result[::100_003], array[::100_003] + 1)
    result[0] = -1  # it is ours to change
    assert peak - before < 100 * MIB


@pytest.mark.parametrize("size", [0, 1, 64 * 1024 - 200, 64 * 1024, 64 * 1024 + 1, MIB, 9 * MIB + 13])
def test_every_size_arrives_whole(way: str, server: Server, node: ComputeNode, size: int) -> None:
    node.register(lambda x: x[::-1], name="turn")
    value = os.urandom(size)
    with Client(server.address) as client:
        assert client.call("turn", value) == value[::-1]


def test_arrays_of_every_layout_and_mixtures_arrive_equal(large: Client) -> None:
    base = np.arange(400_000).reshape(400, 1000)
    value = {
        "rows": base[::2],
        "columns": base.T,
        "fortran": np.asfortranarray(base),
        "empty": base[:0],
        "objects": np.array([{"a": 1}, None], dtype=object),
        "list": [base, b"x" * MIB, bytearray(b"y" * MIB)],
        "readonly": np.frombuffer(b"z" * MIB, dtype=np.uint8),
    }
    back = large.call(lambda v: v, value)
    for name in ("rows", "columns", "fortran", "empty", "readonly"):
        assert np.array_equal(back[name], value[name])
    assert back["objects"][0] == {"a": 1}
    assert np.array_equal(back["list"][0], base)
    assert back["list"][1:] == value["list"][1:]


def test_large_items_stream_one_by_one_and_only_a_few_ahead(large: Client) -> None:
    def produce() -> Any:
        for i in range(8):
            yield np.full(4 * MIB // 8, i, dtype=np.float64)

    for i, item in enumerate(large.stream(produce)):
        assert item.nbytes == 4 * MIB
        assert item[0] == i


def test_large_code_and_registered_functions_that_captured_data(large: Client, cluster: LocalCluster) -> None:
    table = np.arange(2 * MIB, dtype=np.int64)
    assert large.call(lambda i: int(table[i]), 12345) == 12345
    large.node(*cluster.node_ids).register(lambda i: int(table[i]), name="look_up")
    assert list(large.map("look_up", range(0, 1000, 50))) == list(range(0, 1000, 50))


def test_several_large_calls_at_once(large: Client) -> None:
    arrays = [np.full(MIB, i, dtype=np.float64) for i in range(8)]
    calls = [large.submit(lambda x: x * 2, array) for array in arrays]
    for i, call in enumerate(calls):
        assert call.result()[0] == 2 * i


class BreaksOnLoading:
    def __reduce__(self) -> Any:
        return _explode, ()


def _explode() -> None:
    raise OSError("not here")


def test_a_result_that_cannot_be_loaded_is_an_error_that_says_so(node: ComputeNode, client: Client) -> None:
    node.register(lambda: BreaksOnLoading(), name="broken")
    with pytest.raises(PayloadError, match=r"broken.*node-a.*OSError: not here"):
        client.call("broken")


def test_a_large_exception_and_a_large_traceback_arrive_as_text(remote: Client) -> None:
    def fail() -> None:
        raise ValueError("x" * 10_000_000)

    with pytest.raises(Exception, match="xxxx") as failed:
        remote.call(fail)
    assert len(str(failed.value)) < MIB
