"""Calls that run together: single calls in, one run, each its own result or error."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any

import grpc
import numpy as np
import pytest

from easyremote import (
    BadArguments,
    Call,
    CallCancelled,
    Client,
    ComputeNode,
    DeadlineExceeded,
    Server,
    UsageError,
    WorkerCrashed,
)
from easyremote.cluster import LocalCluster
from easyremote.wire.v1 import gateway_pb2 as pb
from easyremote.wire.v1 import gateway_pb2_grpc
from tests.conftest import wait_until
from tests.e2e.conftest import submit_together

LONG = 60.0
"""A wait that no test waits for: its batch leaves because it is full."""


def together(client: Client, function: str, arguments: Any) -> list[Call[Any]]:
    return submit_together(client, function, arguments)


def outcome(call: Call[Any]) -> Any:
    error = call.exception(60)
    return call.result() if error is None else type(error).__name__


# ---- one run for many calls ------------------------------------------------------------------------------------------


@pytest.fixture(params=["thread", "process"])
def isolation(request: pytest.FixtureRequest) -> str:
    return request.param


def test_calls_that_come_together_run_as_one(node: ComputeNode, client: Client, isolation: str) -> None:
    @node.register(batch=8, batch_wait=LONG, isolation=isolation)
    def predict(xs: list[int]) -> list[tuple[int, int]]:
        return [(x * x, len(xs)) for x in xs]

    calls = together(client, "predict", range(16))
    assert [call.result(60) for call in calls] == [(x * x, 8) for x in range(16)]
    assert {call.node for call in calls} == {"node-a"}


def test_a_batch_that_does_not_fill_leaves_after_its_wait(node: ComputeNode, client: Client) -> None:
    node.register(lambda xs: [len(xs)] * len(xs), name="size", batch=8, batch_wait="50ms")
    assert [call.result(60) for call in together(client, "size", range(3))] == [3] * 3


def test_a_coroutine_function_gets_batches_too(node: ComputeNode, client: Client, isolation: str) -> None:
    @node.register(batch=4, batch_wait=LONG, isolation=isolation)
    async def predict(xs: list[int]) -> list[int]:
        await asyncio.sleep(0)
        return [x + len(xs) for x in xs]

    assert [call.result(60) for call in together(client, "predict", range(4))] == [4, 5, 6, 7]


def test_a_function_from_a_client_gets_batches_too(node: ComputeNode, client: Client) -> None:
    @client.node("node-a").register(batch=4, batch_wait=LONG)
    def predict(xs):
        return [x + len(xs) for x in xs]

    assert [call.result(60) for call in together(client, "predict", range(4))] == [4, 5, 6, 7]
    assert list(client.map("predict", range(8))) == [x + 4 for x in range(8)]


def test_an_array_is_taken_apart_along_its_first_axis(node: ComputeNode, client: Client, isolation: str) -> None:
    @node.register(batch=4, batch_wait=LONG, isolation=isolation)
    def double(rows: list[np.ndarray]) -> np.ndarray:
        return 2 * np.stack(rows)

    rows = [np.arange(3) + n for n in range(4)]
    for row, call in zip(rows, together(client, "double", rows), strict=True):
        np.testing.assert_array_equal(call.result(60), 2 * row)


def test_large_values_go_in_and_out(node: ComputeNode, client: Client, isolation: str) -> None:
    @node.register(batch=3, batch_wait=LONG, isolation=isolation)
    def negate(arrays: list[np.ndarray]) -> list[np.ndarray]:
        return [-array for array in arrays]

    arrays = [np.full(300_000, n) for n in range(3)]
    calls = [client.submit("negate", array) for array in arrays]
    for array, call in zip(arrays, calls, strict=True):
        np.testing.assert_array_equal(call.result(60), -array)


def test_each_parameter_becomes_a_list_however_it_was_given(node: ComputeNode, client: Client) -> None:
    @node.register(batch=4, batch_wait=LONG)
    def mix(xs: list[int], scales: list[int] = 10, *, names: list[str] = "none") -> list[Any]:  # type: ignore[assignment]
        assert len(xs) == len(scales) == len(names) == 4
        return list(zip(xs, scales, names, strict=True))

    calls = [
        client.submit("mix", 1),
        client.submit("mix", 2, 20),
        client.submit("mix", scales=30, xs=3),
        client.submit("mix", 4, names="four"),
    ]
    assert [call.result(60) for call in calls] == [
        (1, 10, "none"),
        (2, 20, "none"),
        (3, 30, "none"),
        (4, 10, "four"),
    ]
    with pytest.raises(BadArguments):
        client.call("mix", 1, 2, 3)


def test_a_function_that_takes_anything_gets_calls_of_one_shape_at_a_time(node: ComputeNode, client: Client) -> None:
    node.register(
        lambda *args, **named: [(*values, sorted(named)) for values in zip(*args, strict=True)],
        name="any",
        batch=4,
        batch_wait=LONG,
    )
    calls = [client.submit("any", 1), client.submit("any", 2), client.submit("any", 3, 4), client.submit("any", 5, a=6)]
    assert [call.result(60) for call in calls] == [(1, []), (2, []), (3, 4, []), (5, ["a"])]


def test_callers_see_an_ordinary_function(node: ComputeNode, client: Client) -> None:
    @node.register(batch=4)
    def predict(image: list[bytes], scale: list = 1.0) -> list[str]:  # type: ignore[assignment]
        """What is on it."""
        return ["cat" for _ in image]

    (info,) = client.list_functions()
    assert (info.signature, info.kind, info.doc) == ("(image: bytes, scale=1.0)", "function", "What is on it.")
    assert client.call("predict", b"...") == "cat"


# ---- one bad item fails alone ----------------------------------------------------------------------------------------


def test_an_exception_among_the_results_fails_its_own_call(node: ComputeNode, client: Client, isolation: str) -> None:
    @node.register(batch=3, batch_wait=LONG, isolation=isolation)
    def invert(xs: list[float]) -> list[Any]:
        return [1 / x if x else ZeroDivisionError("no inverse") for x in xs]

    calls = together(client, "invert", [1, 0, 2])
    assert [outcome(call) for call in calls] == [1.0, "ZeroDivisionError", 0.5]
    assert str(calls[1].exception()) == "no inverse"


def test_after_an_exception_each_call_is_run_alone(node: ComputeNode, client: Client, isolation: str) -> None:
    @node.register(batch=3, batch_wait=LONG, isolation=isolation)
    def invert(xs: list[float]) -> list[tuple[float, int]]:
        return [(1 / x, len(xs)) for x in xs]

    assert [outcome(call) for call in together(client, "invert", [1, 0, 2])] == [
        (1.0, 1),
        "ZeroDivisionError",
        (0.5, 1),
    ]


def test_without_batch_split_an_exception_fails_all(node: ComputeNode, client: Client, isolation: str) -> None:
    @node.register(batch=3, batch_wait=LONG, batch_split=False, isolation=isolation)
    def invert(xs: list[float]) -> list[float]:
        return [1 / x for x in xs]

    assert [outcome(call) for call in together(client, "invert", [1, 0, 2])] == ["ZeroDivisionError"] * 3


def test_a_call_that_must_not_run_twice_does_not(node: ComputeNode, client: Client) -> None:
    runs: list[list[int]] = []

    def invert(xs: list[int]) -> list[float]:
        runs.append(xs)
        return [1 / x for x in xs]

    node.register(invert, batch=2, batch_wait=LONG)
    once = client.with_options(retries=0).submit("invert", 1)
    wait_until(lambda: once.state == "running")
    bad = client.submit("invert", 0)
    assert [outcome(once), outcome(bad)] == ["ZeroDivisionError"] * 2
    assert runs == [[1, 0], [0]]


@pytest.mark.parametrize(
    ("returned", "told"),
    [
        (lambda xs: xs[:1], "it was called for 2 and returned 1"),
        (lambda xs: None, "it returned a NoneType"),
        (lambda xs: "ab", "it returned a str"),
        (lambda xs: {0: 1, 1: 2}, "it returned a dict"),
    ],
    ids=["too few", "nothing", "text", "a dict"],
)
def test_what_is_no_result_for_each_fails_all(
    node: ComputeNode, client: Client, returned: Callable[[list[int]], Any], told: str
) -> None:
    node.register(returned, name="f", batch=2, batch_wait=LONG)
    for call in together(client, "f", [1, 2]):
        with pytest.raises(UsageError, match=rf"a result for each call; {told}|a result for each call: {told}"):
            call.result(60)


def test_a_result_that_cannot_be_sent_fails_alone(node: ComputeNode, client: Client, isolation: str) -> None:
    @node.register(batch=2, batch_wait=LONG, isolation=isolation)
    def make(xs: list[int]) -> list[Any]:
        import threading

        return [threading.Lock() if x else "fine" for x in xs]

    assert [outcome(call) for call in together(client, "make", [0, 1])] == ["fine", "UnpicklableError"]


def test_a_crash_is_the_fault_of_whoever_crashes_alone(node: ComputeNode, client: Client) -> None:
    @node.register(batch=3, batch_wait=LONG, isolation="process")
    def risky(xs: list[int]) -> list[int]:
        if 0 in xs:
            os.kill(os.getpid(), signal.SIGKILL)
        return xs

    calls = together(client, "risky", [1, 0, 2])
    assert [outcome(call) for call in calls] == [1, "WorkerCrashed", 2]
    with pytest.raises(WorkerCrashed, match="'risky' on node 'node-a' died"):
        calls[1].result()


# ---- one call ends before the others ---------------------------------------------------------------------------------


class Gate:
    """A function that waits until it is let go."""

    def __init__(self) -> None:
        self.sizes: list[int] = []
        self.entered, self.opened = threading.Event(), threading.Event()

    def __call__(self, xs: list[Any]) -> list[Any]:
        self.sizes.append(len(xs))
        self.entered.set()
        while not self.opened.wait(0.01):  # so that it can be interrupted
            pass
        return xs


@pytest.fixture
def gate(node: ComputeNode) -> Iterator[Gate]:
    made = Gate()
    node.register(made, name="gate", batch=2, batch_wait=LONG)
    yield made
    made.opened.set()


def test_a_cancelled_call_leaves_the_others_alone(client: Client, gate: Gate) -> None:
    calls = together(client, "gate", range(2))
    assert gate.entered.wait(60)
    assert calls[0].cancel()
    with pytest.raises(CallCancelled):
        calls[0].result(60)
    gate.opened.set()
    assert calls[1].result(60) == 1


def test_a_call_that_is_cancelled_while_it_waits_never_runs(client: Client, gate: Gate) -> None:
    gate.opened.set()
    first = client.submit("gate", "first")
    wait_until(lambda: first.state == "running")
    first.cancel()
    assert [call.result(60) for call in together(client, "gate", ["second", "third"])] == ["second", "third"]
    assert gate.sizes == [2]


def test_a_run_that_nobody_wants_is_stopped(node: ComputeNode, client: Client, gate: Gate) -> None:
    for call in together(client, "gate", range(2)):
        call.cancel()
    more = together(client, "gate", range(2))  # waits behind it, or takes its place
    gate.opened.clear()
    for call in more:
        call.cancel()
    gate.opened.set()
    assert [call.result(60) for call in together(client, "gate", range(2))] == [0, 1]


def test_a_run_in_a_worker_that_nobody_wants_is_stopped(node: ComputeNode, client: Client) -> None:
    @node.register(batch=2, batch_wait=LONG, isolation="process")
    def sleep(xs: list[float]) -> list[float]:
        import time

        print("sleeps")
        time.sleep(max(xs))
        return xs

    calls = together(client, "sleep", [600, 600])
    wait_until(lambda: all(call.state == "running" for call in calls))
    for call in calls:
        call.cancel()
    assert [call.result(60) for call in together(client, "sleep", [0, 0])] == [0, 0]


def test_a_timeout_ends_one_call_of_a_run(client: Client, gate: Gate) -> None:
    patient = client.submit("gate", "patient")
    hasty = client.with_options(run_timeout=0.2).submit("gate", "hasty")
    with pytest.raises(DeadlineExceeded):
        hasty.result(60)
    gate.opened.set()
    assert patient.result(60) == "patient"


def test_a_node_that_stops_ends_calls_that_wait_for_others(server: Server, client: Client) -> None:
    with ComputeNode(server.address, "leaves") as node:
        node.register(lambda xs: xs, name="f", batch=2, batch_wait=LONG)
        call = client.with_options(node="leaves").submit("f", 1)
        wait_until(lambda: call.state == "running")
    with pytest.raises(CallCancelled, match="node 'leaves' is stopping"):
        call.result(60)


# ---- what belongs to whom --------------------------------------------------------------------------------------------


def test_what_a_run_prints_goes_to_its_first_call(
    node: ComputeNode, client: Client, isolation: str, capsys: pytest.CaptureFixture[str]
) -> None:
    @node.register(batch=3, batch_wait=LONG, isolation=isolation)
    def show(xs: list[int]) -> list[int]:
        print("a run of", len(xs))
        return xs

    calls = together(client, "show", range(3))
    assert [call.result(60) for call in calls[1:]] == [1, 2]
    assert capsys.readouterr().out == ""
    assert calls[0].result(60) == 0
    assert capsys.readouterr().out == "a run of 3\n"


def test_what_an_owner_declares_wrongly_is_refused(node: ComputeNode) -> None:
    def generate(xs: list[int]) -> Iterator[int]:
        yield from xs

    with pytest.raises(UsageError, match="'generate' yields its results"):
        node.register(generate, batch=4)
    for wrong in (0, 1025, True, 2.5, "4"):
        with pytest.raises(UsageError, match="batch is a whole number of calls from 1 to 1024"):
            node.register(len, batch=wrong)  # type: ignore[arg-type]
    for wait in ("5", "5 minutes", -1, 61, float("nan"), None, True):
        with pytest.raises(UsageError, match="batch_wait is a time up to 60 s"):
            node.register(len, batch=2, batch_wait=wait)  # type: ignore[arg-type]


def test_a_function_that_is_registered_anew_with_batch_takes_bundles_apart(node: ComputeNode, client: Client) -> None:
    node.register(lambda x: x, name="f")
    assert client.call("f", 1) == 1
    node.register(lambda xs: [-x for x in xs], name="f", batch=4, batch_wait=0)
    assert [call.result(60) for call in submit_together(client, "f", range(20))] == [-x for x in range(20)]
    assert list(client.map("f", range(50))) == [-x for x in range(50)]


def test_batches_need_no_slot(server: Server, client: Client) -> None:
    """The node's one slot is taken, and calls that run together go on."""
    with ComputeNode(server.address, "small", slots=1) as node:
        gate = Gate()
        node.register(lambda: gate([1]), name="blocks")
        node.register(lambda xs: [len(xs)] * len(xs), name="size", batch=16, batch_wait=LONG)
        blocking = client.submit("blocks")
        try:
            assert gate.entered.wait(60)
            assert [call.result(60) for call in together(client, "size", range(32))] == [16] * 32
        finally:
            gate.opened.set()
        assert blocking.result(60) == [1]


def test_programs_that_are_not_python_join_batches_too(
    server: Server, node: ComputeNode, client: Client, isolation: str
) -> None:
    @node.register(batch=2, batch_wait=LONG, isolation=isolation)
    def describe(xs: list[Any]) -> list[Any]:
        return [{"size": len(xs), "x": x} for x in xs]

    with grpc.insecure_channel(server.address) as channel:
        allowed = (("authorization", f"Bearer {server.token}"),)
        request = pb.InvokeRequest(function="describe", json="[1]")
        reply = gateway_pb2_grpc.GatewayStub(channel).Invoke.future(request, metadata=allowed, timeout=60)
        wait_until(lambda: client.list_nodes()[0].running == 1)
        assert client.call("describe", (2,)) == {"size": 2, "x": (2,)}
        assert json.loads(reply.result().json) == {"size": 2, "x": 1}


def test_values_that_stay_go_into_batches_and_come_out_of_them(
    node: ComputeNode, client: Client, isolation: str
) -> None:
    @node.register(batch=2, batch_wait=LONG, isolation=isolation)
    def double(arrays: list[np.ndarray]) -> list[np.ndarray]:
        return [2 * array for array in arrays]

    kept = client.put(np.arange(5))
    calls = [client.with_options(keep=True).submit("double", kept), client.submit("double", np.arange(3))]
    np.testing.assert_array_equal(calls[1].result(60), [0, 2, 4])
    np.testing.assert_array_equal(calls[0].result(60).get(), [0, 2, 4, 6, 8])


def test_calls_of_a_batch_go_to_another_node_when_theirs_is_lost() -> None:
    with LocalCluster(2) as cluster, cluster.client() as client:
        first, second = cluster.node_ids
        client.node(first).register(by_value("import time; time.sleep(600)"), name="f", batch=4, batch_wait=LONG)
        calls = [client.submit("f", number) for number in range(4)]
        wait_until(lambda: all(call.state == "running" for call in calls))
        client.node(second).register(by_value("pass"), name="f", batch=4, batch_wait=LONG)
        os.kill(dict(zip(cluster.node_ids, cluster.pids[1:], strict=True))[first], signal.SIGKILL)
        assert [call.result(60) for call in calls] == [(number, 4) for number in range(4)]
        assert {call.node for call in calls} == {second}


def test_every_batch_of_a_function_has_its_gpu(server: Server, client: Client) -> None:
    """The first call at the node brings it; those that come while others are there bring nothing."""
    with ComputeNode(server.address, "a", slots=1, gpus=[3, 5], gpu_memory="8GiB") as there:

        @there.register(batch=2, batch_wait=LONG, gpus=1, isolation="process")
        def pinned(xs: list[int]) -> list[Any]:
            import os

            return [os.environ.get("CUDA_VISIBLE_DEVICES")] * len(xs)

        assert [call.result(60) for call in together(client, "pinned", range(12))] == ["3"] * 12


def by_value(first: str) -> Any:
    """A function that goes by value, and begins with this."""
    namespace: dict[str, Any] = {"__name__": "__main__"}
    exec(f"def f(xs):\n    {first}\n    return [(x, len(xs)) for x in xs]\n", namespace)
    return namespace["f"]
