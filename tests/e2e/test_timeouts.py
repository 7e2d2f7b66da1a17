"""Which timeout ran out, for every way in which functions run; and what a lost call says of whether it ran."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from easyremote import CallLost, Client, ComputeNode, DeadlineExceeded, GatewayUnreachable, NodeGone, Server, UsageError
from easyremote.cluster import LocalCluster
from tests.conftest import wait_until


def late(client: Client, name: str, **options: float) -> DeadlineExceeded:
    with pytest.raises(DeadlineExceeded) as raised:
        client.with_options(**options).call(name)
    return raised.value


@pytest.mark.parametrize("way", ["thread", "coroutine", "process"])
def test_each_timeout_says_which_it_is(server: Server, client: Client, way: str, tmp_path: Path) -> None:
    place = str(tmp_path)

    def work() -> None:
        import os
        import time

        with open(os.path.join(place, "begun"), "a") as file:
            file.write("x")
        while True:
            time.sleep(0.01)

    def begin() -> None:
        with open(os.path.join(place, "begun"), "a") as file:
            file.write("x")

    async def waits() -> None:
        begin()
        await asyncio.sleep(1000)

    with ComputeNode(server.address, "n", slots=1) as node:
        if way == "coroutine":
            node.register(waits, name="work")
        else:
            node.register(work, isolation=way)
        begun = tmp_path / "begun"

        def count() -> int:
            return len(begun.read_text()) if begun.exists() else 0

        def is_free() -> bool:
            return client.get_node_status("n").running == 0

        first = late(client, "work", run_timeout=0.3)
        assert (first.which, first.details["node"]) == ("run", "n")
        assert late(client, "work", timeout=0.5).which == "total"
        wait_until(is_free)
        before = count()
        holding = client.submit("work")
        wait_until(lambda: count() == before + 1)
        assert late(client, "work", queue_timeout=0.3).which == "queue"
        assert late(client, "work", timeout=0.3).which == "total"
        assert late(client, "work", timeout=0.3, queue_timeout=50).which == "total"
        holding.cancel()
        wait_until(is_free)
        assert count() == before + 1  # those that waited were never begun


def test_awaiting_it_is_the_same(server: Server, client: Client) -> None:
    with ComputeNode(server.address, slots=1) as node:
        node.register(lambda: time.sleep(0.3), name="nap")

        async def wait() -> str:
            try:
                await client.with_options(run_timeout=0.05).submit("nap")
            except DeadlineExceeded as error:
                return error.which
            return ""

        assert asyncio.run(wait()) == "run"


def test_a_run_that_took_too_long_is_run_again_when_that_is_asked_for(node: ComputeNode, client: Client) -> None:
    runs: list[int] = []

    @node.register
    def work() -> int:
        runs.append(1)
        while len(runs) < 2:
            time.sleep(0.01)
        return len(runs)

    options = client.with_options(run_timeout=0.2, retry_on=DeadlineExceeded, backoff=0)
    assert options.call("work") == 2
    runs.clear()
    assert late(client.with_options(retry_on=KeyError), "work", run_timeout=0.2).which == "run"


@pytest.mark.parametrize("name", ["timeout", "queue_timeout", "run_timeout"])
@pytest.mark.parametrize("value", [0, -1, 0.0, float("nan"), float("inf"), -float("inf"), 1e10, True, "1", [1]])
def test_what_is_no_timeout_is_refused(client: Client, name: str, value: Any) -> None:
    with pytest.raises(UsageError, match=name):
        client.with_options(**{name: value})


# ---- whether it may have run -------------------------------------------------------------------------------------------


def test_a_call_that_was_never_sent_has_not_run(server: Server, client: Client) -> None:
    with pytest.raises(NodeGone) as gone:
        client.with_options(node="elsewhere").call(len, [])
    assert not isinstance(gone.value, CallLost)


def test_a_call_that_waited_for_a_node_that_vanished_has_not_run(server: Server, client: Client) -> None:
    with ComputeNode(server.address, "n", slots=1) as node:
        go_on = threading.Event()
        node.register(go_on.wait, name="hold")
        holding = client.submit("hold", 60)
        wait_until(lambda: holding.state == "running")
        waiting = client.submit("hold", 60)
        go_on_waiting = client.with_options(queue_timeout=0.5).submit("hold", 60)
        node.stop()
        go_on.set()
    error = waiting.exception(30)
    assert not getattr(error, "may_have_run", False)
    assert isinstance(go_on_waiting.exception(30), DeadlineExceeded)


@pytest.mark.parametrize("retries", [0, 1])
def test_a_call_that_had_begun_may_have_run(tmp_path: Path, retries: int) -> None:
    place = str(tmp_path / "begun")

    def work() -> None:
        import time

        open(place, "w").close()
        time.sleep(1000)

    with LocalCluster(1) as cluster, cluster.client() as remote:
        call = remote.with_options(retries=retries).submit(work)
        wait_until(lambda: Path(place).exists())
        os.kill(cluster.pids[1], signal.SIGKILL)
        with pytest.raises(CallLost) as lost:
            call.result(60)
        assert lost.value.may_have_run


@pytest.mark.parametrize("retries", [0, 1])
def test_a_call_at_a_node_that_stands_still_has_begun_only_where_it_needs_no_word(retries: int) -> None:
    """Sent, and nothing is known of it. With retries=0 it waits for its client's word, so it is known that it never began."""
    with LocalCluster(1) as cluster, cluster.client() as remote:
        assert remote.call(len, [1]) == 1
        os.kill(cluster.pids[1], signal.SIGSTOP)
        call = remote.with_options(retries=retries).submit(len, [1])
        wait_until(lambda: remote.list_nodes()[0].running == 1)
        os.kill(cluster.pids[1], signal.SIGKILL)
        error = call.exception(60)
        assert getattr(error, "may_have_run", False) is (retries > 0), error


@pytest.mark.parametrize(("retries", "begins"), [(3, False), (0, False), (0, True)])
def test_calls_that_a_gateway_took_with_it(
    gateway_process: Any, monkeypatch: pytest.MonkeyPatch, retries: int, begins: bool
) -> None:
    address, token = gateway_process()
    monkeypatch.setattr("easyremote.connection.GIVE_UP_AFTER_S", 0.5)
    monkeypatch.setenv("EASYREMOTE_TOKEN", token)
    entered, go_on = threading.Event(), threading.Event()
    with ComputeNode(address, "n", slots=1) as node, Client(address) as client:
        client._connection._give_up_after_s = 0.5

        @node.register
        def hold() -> None:
            entered.set()
            go_on.wait(60)

        holding = client.submit("hold")
        assert entered.wait(30)
        call = holding if begins else client.with_options(retries=retries).submit("hold")
        if begins:
            go_on.set()
            holding.result(30)
            go_on.clear()
            entered.clear()
            call = client.with_options(retries=retries).submit("hold")
            assert entered.wait(30)
        wait_until(lambda: client.gateway_info().running + client.gateway_info().queued >= (1 if begins else 2))
        gateway_process.kill()
        with pytest.raises(GatewayUnreachable) as lost:
            call.result(60)
        assert lost.value.may_have_run is (retries > 0 or begins)
        go_on.set()
