"""Which code a node takes, through the public API; and what a key's limits do to a worker."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from easyremote import Client, ComputeNode, Server
from easyremote.errors import ConsentError, UsageError
from easyremote.execution.confinement import Confinement
from easyremote.execution.pools import Limits, WorkerPools
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.conftest import wait_until


@pytest.fixture
def server() -> Iterator[Server]:
    with Server(port=0).start_background() as server:
        yield server


def test_a_node_that_takes_no_code_still_serves_its_functions(server: Server) -> None:
    with ComputeNode(server.address, "gpu", code="none") as node, Client(server.address) as client:
        node.register(abs)
        assert client.call("abs", -1) == 1
        with pytest.raises(ConsentError, match="takes no code"):
            client.call(lambda: 1)


def test_on_ones_own_machine_nothing_is_asked(server: Server) -> None:
    with ComputeNode(server.address, "gpu"), Client(server.address) as client:
        assert client.call(lambda: 1) == 1
    assert not os.path.exists(os.environ["EASYREMOTE_CONFIG_DIR"])  # no key was made for it


def test_a_setting_that_there_is_not_is_refused() -> None:
    with pytest.raises(UsageError, match="'auto', 'signed', 'any', 'none'"):
        ComputeNode(code="all")


def seen(pid: int) -> str:
    """What a worker sees of GPUs."""
    environment = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return next((line for line in environment if line.startswith("CUDA_VISIBLE_DEVICES=")), "")


@pytest.mark.parametrize(
    ("limits", "gpus", "expected"),
    [
        (Limits(3 << 30, True), [], "CUDA_VISIBLE_DEVICES=-1"),
        (Limits(0, True), [1], "CUDA_VISIBLE_DEVICES=1"),
    ],
)
def test_workers_have_the_limits_of_the_key_that_they_run_for(limits: Limits, gpus: list[int], expected: str) -> None:
    async def check() -> None:
        pools = WorkerPools("n")
        try:
            grant = pb.Grant(gpus=gpus)
            worker = await pools.take("", grant, limits)
            assert (await pools.take("", grant, limits)).pool is worker.pool
            assert (await pools.take("", grant)).pool is not worker.pool
            await asyncio.to_thread(wait_until, lambda: seen(worker.process.pid) == expected)
        finally:
            await pools.close()

    asyncio.run(check())


def test_a_pool_of_a_key_with_less_memory_than_the_node_gives_has_less() -> None:
    async def check() -> None:
        pools = WorkerPools("n", Confinement(memory_bytes=4 << 30))
        try:
            for limit, expected in ((3 << 30, 3 << 30), (5 << 30, 4 << 30)):
                worker = await pools.take("", pb.Grant(), Limits(limit))
                assert worker.pool._confined is not None
                assert worker.pool._confined.memory_bytes == expected
        finally:
            await pools.close()

    asyncio.run(check())


def test_a_session_isn_t_shared_by_keys_of_other_limits() -> None:
    async def check() -> None:
        pools = WorkerPools("n")
        try:
            worker = pools.take_for_session("s", pb.Grant(), Limits(3 << 30))
            worker.pool.give_back(worker)
            assert pools.take_for_session("s", pb.Grant(), Limits(3 << 30)) is worker
            with pytest.raises(UsageError, match="other limits"):
                pools.take_for_session("s", pb.Grant())
        finally:
            await pools.close()

    asyncio.run(check())
