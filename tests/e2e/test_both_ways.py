"""What matters most, over the Unix socket that processes of one host use, and over gRPC as between machines."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from easyremote import CallCancelled, Client, ComputeNode, FunctionNotFound, RemoteError, Server, discovery
from tests.conftest import wait_until
from tests.e2e.conftest import is_local


@pytest.fixture(params=["socket", "grpc"], autouse=True)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How sessions travel."""
    monkeypatch.setenv(discovery.LOCAL_SOCKET_VARIABLE, "1" if request.param == "socket" else "0")
    return request.param


def test_calls_streams_errors_and_large_values(way: str, server: Server, node: ComputeNode, client: Client) -> None:
    @node.register
    def work(kind: str, value: Any = None) -> Any:
        if kind == "fail":
            raise KeyError("as it was")
        return value

    @node.register
    def count(total: int) -> Any:
        yield from range(total)

    assert client.call("work", "echo", {"a": [1, 2.5, None]}) == {"a": [1, 2.5, None]}
    assert list(client.stream("count", 3000)) == list(range(3000))
    with pytest.raises(KeyError, match="as it was") as failed:
        client.call("work", "fail")
    assert isinstance(failed.value.__cause__, RemoteError)
    with pytest.raises(FunctionNotFound):
        client.call("wrok", 1)
    array = np.arange(500_000, dtype=np.float64)
    assert np.array_equal(client.call("work", "echo", array), array)
    assert client.call(lambda a: float(a.sum()), array) == float(array.sum())
    assert list(client.map("work", ["echo"] * 500, range(500))) == list(range(500))
    assert is_local(client) == is_local(node) == (way == "socket")


def test_cancelled_calls_stop(node: ComputeNode, client: Client, tmp_path: Path) -> None:
    place = str(tmp_path)

    def wait(name: str) -> None:
        import os
        import time

        open(f"{place}/{name}-began", "w").close()
        try:
            while not os.path.exists(f"{place}/gate"):
                time.sleep(0.002)
        except BaseException:
            open(f"{place}/{name}-stopped", "w").close()
            raise

    node.register(wait)
    here, shipped = client.submit("wait", "thread"), client.submit(wait, "worker")
    for name, call in (("thread", here), ("worker", shipped)):
        wait_until((tmp_path / f"{name}-began").exists)
        assert call.cancel()
        wait_until((tmp_path / f"{name}-stopped").exists)
        with pytest.raises(CallCancelled):
            call.result()
    (tmp_path / "gate").touch()
    assert client.call("wait", "again") is None


def test_a_gateway_that_is_killed_and_started_again_loses_no_call(
    way: str, gateway_process: Any, tmp_path: Path
) -> None:
    address, token = gateway_process()
    with ComputeNode(address, "n", token=token) as node, Client(address, token=token) as client:
        started, gate = threading.Event(), threading.Event()
        runs: list[str] = []

        @node.register
        def count() -> Any:
            for i in range(600):
                if i == 300:
                    started.set()
                    gate.wait(60)
                yield i

        @node.register
        def once() -> str:
            runs.append("once")
            gate.wait(60)
            return "done"

        call, stream = client.submit("once"), client.submit("count")
        items = iter(stream)
        first = [next(items) for _ in range(150)]
        wait_until(lambda: runs and started.is_set())
        assert is_local(client) == is_local(node) == (way == "socket")
        gateway_process.kill()
        wait_until(lambda: not client.is_connected and not node.is_connected)
        late = client.submit("once")
        gateway_process()
        gate.set()
        assert [*first, *items] == list(range(600))
        assert call.result(timeout=60) == late.result(timeout=60) == "done"
        assert runs == ["once"] * 2
        assert is_local(client) == is_local(node) == (way == "socket")


def test_the_gateways_goodbye_is_heard(way: str, server: Server) -> None:
    with Client(server.address, token=server.token) as client, ComputeNode(server.address, token=server.token) as node:
        assert is_local(client) == (way == "socket")
        server.stop()
        wait_until(lambda: not client.is_connected and not node.is_connected)
        assert not os.listdir(os.environ[discovery.RUNTIME_VARIABLE])
