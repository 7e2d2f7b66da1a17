"""Who waits for whom, through a real gateway."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from easyremote import Client, ComputeNode, GatewaySettings, OverloadedError, Server, UsageError
from tests.conftest import wait_until


class Desk:
    """A function with one slot that is served in turns, and remembers whom it served."""

    def __init__(self, node: ComputeNode) -> None:
        self.served: list[str] = []
        self._turn = threading.Semaphore(0)
        node.register(self.serve, name="serve")
        node.register(self.serve, name="serve_too")

    def serve(self, name: str) -> str:
        assert self._turn.acquire(timeout=60)
        self.served.append(name)
        return name

    def let(self, count: int) -> None:
        """So many calls end."""
        self._turn.release(count)


@pytest.fixture
def desk(server: Server) -> Iterator[Desk]:
    with ComputeNode(server.address, "desk", slots=1) as node:
        desk = Desk(node)
        yield desk
        desk.let(1_000_000)


def queued(client: Client) -> int:
    return client.gateway_info().queued


@pytest.mark.parametrize("function", ["serve", "serve_too"])
def test_ten_thousand_calls_of_one_client_don_t_delay_the_single_call_of_another(
    desk: Desk, server: Server, client: Client, function: str
) -> None:
    with Client(server.address) as other:
        flood = [client.submit("serve", "flood") for _ in range(10_000)]
        wait_until(lambda: queued(other) > 3000)
        single = other.submit(function, "single")
        wait_until(lambda: single.state == "queued" and queued(other) > 3000)
        desk.let(3)
        assert single.result(30) == "single"
        for call in flood:
            call.cancel()


def test_higher_priorities_go_first(desk: Desk, client: Client) -> None:
    holder = client.submit("serve", "holder")
    wait_until(lambda: holder.state == "running")
    calls = [client.with_options(priority=p).submit("serve", f"p{p}") for p in (-1, 0, 7)]
    calls += [client.with_options(priority=9).submit("serve_too", "p9")]
    wait_until(lambda: queued(client) == 4)
    desk.let(5)
    for call in calls:
        call.result(30)
    assert desk.served == ["holder", "p9", "p7", "p0", "p-1"]


@pytest.mark.parametrize("priority", [101, -101, 1.5, "high", True, None])
def test_a_priority_that_can_t_be(client: Client, priority: object) -> None:
    with pytest.raises(UsageError, match="priority is a whole number from -100 to 100"):
        client.with_options(priority=priority)


def test_a_client_at_its_bound_waits_by_itself_and_others_are_served() -> None:
    """A user of `submit` sees no error, and another client's calls go on meanwhile."""
    with (
        Server(port=0, settings=GatewaySettings(max_queued_calls=50)) as server,
        ComputeNode(server.address, "n", slots=2) as node,
        Client(server.address) as client,
        Client(server.address) as other,
    ):
        node.register(lambda x: x, name="f")
        calls = [client.with_options(retries=1).submit("f", number) for number in range(2000)]  # retries: no bundles
        assert [other.call("f", number) for number in range(5)] == list(range(5))
        assert [call.result(60) for call in calls] == list(range(2000))


def test_what_may_not_wait_is_refused_at_once() -> None:
    with (
        Server(port=0, settings=GatewaySettings(max_queued_calls=2)) as server,
        ComputeNode(server.address, "n", slots=1) as node,
        Client(server.address) as client,
    ):
        free = threading.Event()
        node.register(lambda: free.wait(60), name="hold")
        try:
            held = [client.submit("hold") for _ in range(2)]
            wait_until(lambda: held[0].state == "running")
            with pytest.raises(OverloadedError, match="2 calls at the gateway") as refused:
                client.with_options(queue_timeout=0.5).call("hold")
            assert refused.value.retry_after_s > 0
        finally:
            free.set()
