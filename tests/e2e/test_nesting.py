"""A function that calls another one, through a client of its own."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from easyremote import Client, ComputeNode, DeadlineExceeded, Server
from easyremote.errors import RemoteError

FACTORIAL = """
def factorial(address, token, n):
    from easyremote import Client
    if n < 2:
        return 1
    with Client(address, token=token) as client:
        return n * client.call("factorial", address, token, n - 1)
"""

LEFT = """
def left(address, token, deep):
    "What is left of the time of the call that runs this, as those see it that it makes."
    import time
    from easyremote import Client
    from easyremote.execution.context import current
    if deep:
        with Client(address, token=token) as client:
            return client.call("left", address, token, deep - 1)
    deadline = current.get().deadline
    return None if deadline is None else deadline - time.monotonic()
"""


def made(source: str, name: str) -> object:
    namespace: dict[str, object] = {"__name__": "__main__"}
    exec(source, namespace)
    return namespace[name]


@pytest.fixture(params=["thread", "process"])
def narrow(request: pytest.FixtureRequest, server: Server) -> Iterator[ComputeNode]:
    """A node with one slot."""
    with ComputeNode(server.address, "narrow", slots=1) as node:
        for source, name in ((FACTORIAL, "factorial"), (LEFT, "left")):
            node.register(made(source, name), name=name, isolation=request.param)  # type: ignore[arg-type]
        yield node


def test_a_function_may_call_itself_on_a_node_with_one_slot(
    narrow: ComputeNode, server: Server, client: Client
) -> None:
    factorial = client.with_options(timeout=60)
    assert factorial.call("factorial", server.address, server.token, 5) == 120


def test_the_time_left_goes_with_calls_that_a_call_makes(narrow: ComputeNode, server: Server, client: Client) -> None:
    assert client.call("left", server.address, server.token, 1) is None
    total = client.with_options(timeout=50).call("left", server.address, server.token, 1)
    assert 0 < total < 50
    run = client.with_options(run_timeout=50).call("left", server.address, server.token, 1)
    assert 0 < run < 50


def test_a_function_that_calls_itself_for_ever_is_told_so(server: Server, client: Client) -> None:
    with ComputeNode(server.address, "narrow", slots=1) as node, Client(server.address) as inner:
        node.register(lambda: inner.call("forever"), name="forever")
        with pytest.raises(Exception, match="calls itself without an end") as caught:
            client.with_options(timeout=60).call("forever")
        assert not isinstance(caught.value, DeadlineExceeded)
        assert isinstance(caught.value, RemoteError) or caught.value.__cause__ is not None


def test_a_call_whose_maker_has_no_time_left_ends_with_it(server: Server, client: Client) -> None:
    with (
        ComputeNode(server.address, "outer", slots=1) as outer,
        ComputeNode(server.address, "inner", slots=1) as inner_node,
        Client(server.address) as inner,
    ):
        inner_node.register(lambda: time.sleep(30), name="sleep")
        outer.register(lambda: inner.call("sleep"), name="outer")
        began = time.monotonic()
        with pytest.raises(DeadlineExceeded):
            client.with_options(run_timeout=0.5).call("outer")
        assert client.with_options(node="inner", queue_timeout=20).call(abs, -1) == 1  # its slot is free again
        assert time.monotonic() - began < 20


def test_coroutines_that_call_each_other(server: Server, client: Client) -> None:
    with ComputeNode(server.address, "narrow", slots=1) as node, Client(server.address) as inner:

        async def twice(n: int) -> int:
            return 2 * await inner.submit("twice", n - 1) if n else 1

        node.register(twice)
        assert client.with_options(timeout=60).call("twice", 4) == 16


def test_a_map_within_a_call(server: Server, client: Client) -> None:
    with ComputeNode(server.address, "narrow", slots=1) as node, Client(server.address) as inner:
        node.register(lambda n: n * n, name="square")
        node.register(lambda n: sum(inner.map("square", range(n))), name="squares")
        assert client.with_options(timeout=60).call("squares", 200) == sum(n * n for n in range(200))
