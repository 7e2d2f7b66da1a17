"""Calls of every kind, through a real gateway."""

from __future__ import annotations

import asyncio
import concurrent.futures
import functools
import os
import threading
import time
from dataclasses import dataclass
from typing import Any

import pytest

from easyremote import (
    BadArguments,
    CallCancelled,
    Client,
    ComputeNode,
    DeadlineExceeded,
    DuplicateNode,
    EnvironmentMismatch,
    FunctionNotFound,
    NodeGone,
    NoNodeAvailable,
    PortInUse,
    RemoteError,
    Server,
    UnpicklableError,
    UsageError,
    WorkerCrashed,
)
from easyremote.cluster import LocalCluster
from tests.conftest import is_alive, wait_until


@dataclass
class Point:
    x: int


class Optimizer:
    pass


class Model:
    def __init__(self) -> None:
        self.opt = Optimizer()


class OwnError(Exception):
    def __init__(self, code: int, text: str) -> None:
        super().__init__(code, text)
        self.code = code


def test_every_kind_of_function_can_be_registered(node: ComputeNode, client: Client) -> None:
    @node.register
    def plain(a: int, b: int = 2) -> int:
        return a + b

    @node.register()
    async def coroutine(x: int) -> int:
        await asyncio.sleep(0)
        return x * 2

    @node.register(name="items")
    def generator(n: int) -> Any:
        yield from range(n)

    @node.register
    async def async_generator(n: int) -> Any:
        for i in range(n):
            yield i

    node.register(functools.partial(plain, 10), name="partial")
    node.register(Point(3).__repr__, name="method")
    assert plain(1) == 3  # what is decorated stays as it is
    assert client.call("plain", 1) == 3
    assert client.call("plain", a=1, b=5) == 6
    assert client.call("coroutine", 4) == 8
    assert client.call("items", 3) == [0, 1, 2]
    assert list(client.stream("async_generator", 3)) == [0, 1, 2]
    assert list(client.stream("plain", 1)) == [3]  # a stream of one
    assert list(client.stream("items", 0)) == []
    assert client.call("partial") == 12
    assert client.call("method") == "Point(x=3)"


def test_registering_after_serving_takes_effect_at_once_and_again_replaces(node: ComputeNode, client: Client) -> None:
    for version in range(5):
        node.register(lambda version=version: version, name="f")
        assert client.call("f") == version
    node.unregister("f")
    with pytest.raises(FunctionNotFound):
        client.call("f")
    node.register(lambda x, y: (x, y), name="f")  # another signature
    assert client.call("f", 1, y=2) == (1, 2)


def test_a_call_is_a_future_an_awaitable_and_an_iterator(node: ComputeNode, client: Client) -> None:
    gate = threading.Event()
    node.register(lambda: gate.wait(30) and "opened", name="wait")
    call = client.submit("wait")
    assert not call.done()
    with pytest.raises(TimeoutError):
        call.result(timeout=0.05)
    wait_until(lambda: call.state == "running")
    gate.set()
    assert concurrent.futures.wait([call], timeout=30).done == {call}
    assert (call.result(), call.state, call.node, call.exception()) == ("opened", "succeeded", "node-a", None)
    assert call.run_s > 0

    async def use() -> list[Any]:
        first = await client.submit("wait")
        return [first, *await asyncio.gather(*[client.submit("wait") for _ in range(5)])]

    assert asyncio.run(use()) == ["opened"] * 6
    assert list(client.submit("wait")) == ["opened"]


def test_exceptions_come_back_as_their_own_type_with_the_remote_traceback(node: ComputeNode, client: Client) -> None:
    @node.register
    def fail(kind: str) -> None:
        if kind == "own":
            raise OwnError(7, "seven")
        if kind == "unpicklable":
            error = ValueError("with a lock")
            error.lock = threading.Lock()  # type: ignore[attr-defined]
            raise error
        if kind == "exit":
            raise SystemExit(3)
        try:
            raise KeyError("first")
        except KeyError as first:
            raise RuntimeError("second") from first

    with pytest.raises(OwnError) as own:
        client.call("fail", "own")
    assert own.value.code == 7
    cause = own.value.__cause__
    assert isinstance(cause, RemoteError)
    assert cause.node == "node-a"
    assert "raise OwnError(7" in cause.remote_traceback
    assert "runner.py" not in cause.remote_traceback  # our own frames are left out
    with pytest.raises(RemoteError) as unpicklable:
        client.call("fail", "unpicklable")
    assert unpicklable.value.remote_type == "ValueError"
    with pytest.raises(RemoteError) as ended:
        client.call("fail", "exit")
    assert ended.value.remote_type == "SystemExit"  # it ends neither this process nor the node
    with pytest.raises(RuntimeError) as chained:
        client.call("fail", "chain")
    assert "KeyError: 'first'" in chained.value.__cause__.remote_traceback  # type: ignore[union-attr]
    assert client.submit("fail", "own").exception() is not None


def test_values_of_this_programs_own_classes_keep_their_class(node: ComputeNode, client: Client) -> None:
    node.register(lambda p: Point(p.x + 1), name="move")
    assert client.call("move", Point(1)) == Point(2)


def test_wrong_calls_are_refused_before_anything_is_sent(node: ComputeNode, client: Client) -> None:
    calls = []
    node.register(lambda a, b=0: calls.append(a), name="train_model")
    with pytest.raises(FunctionNotFound, match="did you mean train_model") as unknown:
        client.call("trainmodel", 1)
    assert unknown.value.close_names == ["train_model"]
    for wrong in (lambda: client.call("train_model"), lambda: client.call("train_model", 1, c=2)):
        with pytest.raises(BadArguments, match=r"train_model\(a, b=0\)"):
            wrong()
    with pytest.raises(UnpicklableError) as bad:
        client.call("train_model", {"opt": {"lock": threading.Lock()}})
    assert bad.value.path == "a['opt']['lock']"
    model = Model()
    model.opt.lock = threading.Lock()  # type: ignore[attr-defined]
    with pytest.raises(UnpicklableError, match=r"model\.opt\.lock \(a _thread\.lock\) can't be sent"):
        client.call(lambda model: None, model)
    with pytest.raises(UnpicklableError, match=r"model\.opt\.lock"):
        client.call(lambda: model)
    with pytest.raises(UsageError, match="known are timeout"):
        client.call_with_config("train_model", {"time_out": 3}, 1)
    with pytest.raises(UsageError, match="smart_adaptive"):
        client.call_with_config("train_model", {"strategy": "fastest"}, 1)
    with pytest.raises(UsageError, match="cost_limit"):
        client.call_with_config("train_model", {"cost_limit": -1}, 1)
    with pytest.raises(NodeGone, match="node-a"):
        client.call_node("node-b", "train_model", 1)
    with pytest.raises(UsageError):
        client.call(42)  # type: ignore[call-overload]
    assert calls == []


def test_the_older_packages_ways_of_calling(node: ComputeNode, client: Client) -> None:
    node.register(lambda data: data, name="echo")
    assert client.call_with_config("echo", {"strategy": "smart_adaptive"}, "x") == "x"
    assert client.call_with_config("echo", {"strategy": "cost_aware", "cost_limit": 5.0}, "x") == "x"
    assert client.call_node("node-a", "echo", "x") == "x"
    status = client.get_node_status("node-a")
    assert status["node_id"] == status.node_id == "node-a"
    assert status["status"] == "connected"
    assert "echo" in status["functions"]
    assert status["load"] == 0
    wait_until(lambda: client.get_node_status("node-a")["resources"])
    assert client.get_node_status("node-a").resources["cpus"] == os.cpu_count()
    assert [n["node_id"] for n in client.list_nodes()] == ["node-a"]
    assert set(dict(status)) == set(status.to_dict())


def test_calls_are_spread_over_nodes_of_one_process(server: Server, client: Client) -> None:
    nodes = [ComputeNode(server.address, f"n{i}").serve() for i in range(3)]
    for running in nodes:
        running.register(lambda name=running.node_id: name, name="who")
    assert {client.call("who") for _ in range(6)} == {"n0", "n1", "n2"}  # one after another
    assert set(client.map(lambda _: None, range(3))) == {None}
    for strategy in ("round_robin", "resource_aware", "latency_based", "cost_aware", "smart_adaptive"):
        assert {client.with_options(strategy=strategy).call("who") for _ in range(6)} == {"n0", "n1", "n2"}
    for running in nodes:
        running.stop()
    with pytest.raises(NoNodeAvailable):
        client.call("who")


def test_map_in_order_and_as_completed(node: ComputeNode, client: Client) -> None:
    release = threading.Event()

    @node.register
    def work(i: int) -> int:
        if i == 0:
            release.wait(30)
        return i * i

    results = client.map("work", range(3), as_completed=True)
    first = next(results)
    release.set()
    assert first != 0
    assert sorted([first, *results]) == [0, 1, 4]
    assert list(client.map("work", range(2000))) == [i * i for i in range(2000)]
    assert list(client.map(lambda a, b: a + b, [1, 2], [10, 20])) == [11, 22]
    with pytest.raises(ZeroDivisionError):
        list(client.map(lambda x: 1 // x, [1, 0, 2]))


def test_timeouts_of_waiting_running_and_the_whole(server: Server, client: Client) -> None:
    with ComputeNode(server.address, slots=1) as node:
        node.register(lambda: time.sleep(0.05) or True, name="nap")
        stop = threading.Event()
        node.register(lambda: stop.wait(60), name="block")

        def busy() -> None:
            while not stop.is_set():
                time.sleep(0.005)

        node.register(busy)
        with pytest.raises(DeadlineExceeded, match="run_timeout"):
            client.with_options(run_timeout=0.1).call("busy")
        blocking = client.submit("block")
        wait_until(lambda: blocking.state == "running")
        with pytest.raises(DeadlineExceeded, match="waited"):
            client.with_options(queue_timeout=0.1).call("nap")
        with pytest.raises(DeadlineExceeded, match=r"waiting for a node|waited"):
            client.with_options(timeout=0.2).call("nap")
        stop.set()
        assert blocking.result() is True
        assert client.call("nap") is True


def test_cancelling_frees_the_node_for_the_next_call(server: Server, client: Client) -> None:
    with ComputeNode(server.address, slots=1) as node:
        noticed = threading.Event()

        @node.register
        def loop() -> None:
            try:
                while True:
                    time.sleep(0.005)
            finally:
                noticed.set()

        @node.register
        async def sleep_long() -> None:
            await asyncio.sleep(600)

        for name in ("loop", "sleep_long"):
            call = client.submit(name)
            wait_until(lambda call=call: call.state == "running")
            assert call.cancel()
            assert not call.cancel()
            assert call.cancelled()
            with pytest.raises(CallCancelled):
                call.result()
        assert noticed.wait(30)
        node.register(lambda: "next", name="next")
        assert client.call("next") == "next"
        waiting = [client.submit("loop") for _ in range(3)]
        for call in waiting:
            call.cancel()
        assert client.call("next") == "next"


def test_leaving_a_stream_early_stops_the_generator(node: ComputeNode, client: Client) -> None:
    closed = threading.Event()
    produced = []

    @node.register
    def endless() -> Any:
        try:
            i = 0
            while True:
                produced.append(i)
                yield i
                i += 1
        finally:
            closed.set()

    for item in client.call_stream("endless"):
        if item == 5:
            break
    assert closed.wait(30)

    async def use() -> None:
        async for item in client.call_stream("endless"):
            if item == 5:
                break

    closed.clear()
    asyncio.run(use())
    assert closed.wait(30)


def test_a_slow_reader_pauses_the_generator(node: ComputeNode, client: Client) -> None:
    produced = []

    @node.register
    def flood() -> Any:
        for i in range(100_000):
            produced.append(i)
            yield i

    stream = iter(client.stream("flood"))
    assert [next(stream) for _ in range(10)] == list(range(10))
    seen = -1
    while len(produced) != seen:  # it comes to a stand
        seen = len(produced)
        time.sleep(0.3)
    assert seen < 2000
    assert [next(stream) for _ in range(3000)] == list(range(10, 3010))
    stream.close()


def test_shipped_code_runs_in_a_worker_process_with_what_it_captured(remote: Client) -> None:
    factor = 10

    def times(x: int) -> tuple[int, int]:
        return x * factor, os.getpid()

    value, pid = remote.call(times, 4)
    assert value == 40
    assert pid != os.getpid()
    factor = 3  # captured anew with each call
    assert remote.call(times, 4)[0] == 12
    assert list(remote.stream(lambda n: (i for i in range(n)), 3)) == [0, 1, 2]

    async def coroutine(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    assert remote.call(coroutine, 1) == 2


def test_a_registered_function_on_remote_nodes(remote: Client, cluster: LocalCluster) -> None:
    nodes = remote.node(*cluster.node_ids)

    @nodes.register
    def where() -> int:
        return os.getppid()

    assert len({remote.call("where") for _ in range(6)}) == 2
    assert remote.list_functions()[0].nodes == cluster.node_ids
    nodes.unregister("where")
    with pytest.raises(FunctionNotFound):
        remote.call("where")


def test_a_worker_that_dies_is_explained_and_the_node_lives_on(remote: Client) -> None:
    def crash(how: str) -> None:
        print("last words", flush=True)
        if how == "exit":
            os._exit(7)
        os.kill(os.getpid(), 11)

    with pytest.raises(WorkerCrashed, match="exit code 7") as ended:
        remote.call(crash, "exit")
    assert "last words" in ended.value.details["last_output"]
    assert ended.value.may_have_run
    with pytest.raises(WorkerCrashed, match="SIGSEGV"):
        remote.call(crash, "signal")
    assert remote.call(lambda: "fine") == "fine"


def test_cancelling_shipped_code_kills_what_it_started(remote: Client) -> None:
    def stubborn() -> Any:
        import signal
        import subprocess

        signal.signal(signal.SIGINT, signal.SIG_IGN)
        child = subprocess.Popen(["sleep", "602"])
        yield os.getpid(), child.pid
        while True:
            time.sleep(0.1)

    stream = remote.stream(stubborn)
    pids = next(iter(stream))
    stream.cancel()
    wait_until(lambda: not any(map(is_alive, pids)))
    assert remote.call(lambda: "fine") == "fine"


def test_an_owners_function_can_run_in_a_process(node: ComputeNode, client: Client) -> None:
    node.register(isolation="process")(_pid_of_worker)
    assert client.call("_pid_of_worker") != os.getpid()
    with pytest.raises(UsageError, match="isolation"):
        node.register(_pid_of_worker, isolation="container")


def _pid_of_worker() -> int:
    return os.getpid()


def test_no_node_for_shipped_code(client: Client) -> None:
    with pytest.raises(NoNodeAvailable, match="easyremote join"):
        client.call(lambda: 1)
    with pytest.raises(NoNodeAvailable, match="easyremote join"):
        client.call("anything")


def test_code_of_another_python_is_refused_with_both_versions(
    node: ComputeNode, client: Client, monkeypatch: Any
) -> None:
    monkeypatch.setattr("easyremote.execution.functions.python_minor", lambda: "3.9")
    with pytest.raises(EnvironmentMismatch, match=r"Python 3\.9.*node-a has 3\.1\d"):
        client.call(lambda: 1)


def test_a_taken_port_and_a_taken_name_are_refused(server: Server, node: ComputeNode) -> None:
    with pytest.raises(PortInUse, match=str(server.port)):
        Server(port=server.port).start_background()
    with pytest.raises(DuplicateNode, match="node-a"):
        ComputeNode(server.address, "node-a").serve()
    for wrong in (
        lambda: Server(port=70000),
        lambda: Server(host=""),
        lambda: ComputeNode("no port:x"),
        lambda: ComputeNode(slots=0),
    ):
        with pytest.raises(UsageError):
            wrong()


def test_a_node_that_ends_is_gone_at_once(server: Server, client: Client) -> None:
    running = ComputeNode(server.address, "short").serve()
    running.register(lambda: 1, name="f")
    assert client.call("f") == 1
    running.stop()
    running.stop()
    with pytest.raises(NodeGone):
        client.get_node_status("short")
    running.serve()  # and can serve again
    assert client.call("f") == 1
    running.stop()


def test_output_is_shown_where_the_caller_waits(remote: Client, node: ComputeNode, client: Client, capfd: Any) -> None:
    def talk() -> str:
        import sys

        print("to stdout")
        print("to stderr", file=sys.stderr)
        os.system("echo from a child")
        return "said"

    node.register(talk)
    assert remote.call(talk) == "said"
    shown = capfd.readouterr()
    assert shown.out == "to stdout\nfrom a child\n"
    assert shown.err == "to stderr\n"
    call = client.submit("talk")
    wait_until(call.done)
    capfd.readouterr()  # what its child printed went to this process's own stdout
    assert call.result() == "said"
    assert capfd.readouterr().out == "to stdout\n"
    assert client.with_options(output=False).call("talk") == "said"
    assert "to stdout" not in capfd.readouterr().out


def test_a_closed_client_says_so_and_cancels_what_was_open(server: Server, node: ComputeNode) -> None:
    stopped = threading.Event()

    @node.register
    def loop() -> None:
        try:
            while True:
                time.sleep(0.005)
        finally:
            stopped.set()

    client = Client(server.address)
    call = client.submit("loop")
    wait_until(lambda: call.state == "running")
    client.close()
    client.close()
    assert stopped.wait(30)
    with pytest.raises(CallCancelled, match="closed"):
        call.result()
    with pytest.raises(UsageError, match="closed"):
        client.call(lambda: 1)


def test_many_threads_and_loops_share_one_client(node: ComputeNode, client: Client) -> None:
    node.register(lambda x: x + 1, name="inc")
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda i: client.call("inc", i), range(200))) == list(range(1, 201))

    def own_loop(i: int) -> int:
        async def use() -> int:
            return sum(await asyncio.gather(*[client.submit("inc", j) for j in range(10)]))

        return asyncio.run(use())

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        assert list(pool.map(own_loop, range(8))) == [55] * 8
