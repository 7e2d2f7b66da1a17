"""Values that stay where they are: put once, sent once to each node, kept where a call made them, freed with their last handle."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from easyremote import (
    Client,
    ComputeNode,
    GatewaySettings,
    OverloadedError,
    PayloadError,
    Ref,
    RefLost,
    Server,
    UsageError,
)
from easyremote.cluster import LocalCluster
from easyremote.wire.shared_files import SharedFiles
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.conftest import shared_folder, wait_until
from tests.e2e.conftest import Wire

MIB = 1024 * 1024
WAYS = {
    "shared memory": {},
    "local, no shared memory": {"EASYREMOTE_SHARED_MEMORY": "0"},
    "gRPC": {"EASYREMOTE_LOCAL_SOCKET": "0", "EASYREMOTE_SHARED_MEMORY": "0"},
    "gRPC, shared memory": {"EASYREMOTE_LOCAL_SOCKET": "0"},
}


@dataclass
class Job:
    data: Any
    name: str


@pytest.fixture(params=WAYS)
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How values travel."""
    for name, value in WAYS[request.param].items():
        monkeypatch.setenv(name, value)
    return request.param


@pytest.fixture
def second(server: Server) -> Iterator[ComputeNode]:
    with ComputeNode(server.address, "node-b", slots=4) as running:
        yield running


def values_of(node: ComputeNode) -> Any:
    assert node._engine is not None
    return node._engine.values


def files() -> set[str]:
    """Shared files of this process, which is client and node here."""
    return {path.name for path in shared_folder().glob(f"{os.getpid()}-*")}


class Asked:
    """Counts how often a client is asked for the value of a ref."""

    def __init__(self, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
        self.transfers: set[bytes] = set()
        transfers = client._connection._transfers
        original = transfers.requested

        def requested(fetch: pb.Fetch) -> None:
            if fetch.of_ref and not fetch.done:
                self.transfers.add(fetch.transfer_id)
            original(fetch)

        monkeypatch.setattr(transfers, "requested", requested)


def total(*arrays: Any) -> float:
    return float(sum(array.sum() for array in arrays))


@pytest.mark.parametrize("isolation", ["thread", "process"])
@pytest.mark.parametrize("size", [1, 1000, 300_000])
def test_a_function_gets_the_value_itself(
    way: str, server: Server, node: ComputeNode, client: Client, isolation: str, size: int
) -> None:
    def look(array: Any) -> tuple[str, bool, float]:
        return type(array).__name__, array.flags.writeable, float(array.sum())

    node.register(look, isolation=isolation)
    array = np.arange(size, dtype=np.float64)
    ref = client.put(array)
    array += 1  # it was taken as it was
    for _ in range(2):
        assert client.call("look", ref) == ("ndarray", False, size * (size - 1) / 2)
    assert np.array_equal(ref.get(), np.arange(size))
    ref.get()[0] = -1  # it is ours to change


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_in_any_depth_and_the_same_object_wherever_it_is_mentioned(
    server: Server, node: ComputeNode, client: Client, isolation: str
) -> None:
    def look(first: Any, *, job: Any) -> tuple[int, str, bool]:
        return len(first[0]["a"]), job.name, job.data is first[0]["a"]

    node.register(look, isolation=isolation)
    ref = client.put({"x": list(range(10_000))})
    assert client.call("look", [{"a": ref}], job=Job(ref, "it")) == (1, "it", True)


def test_in_a_coroutine_a_generator_and_shipped_code(server: Server, node: ComputeNode, client: Client) -> None:
    async def later(x: Any) -> int:
        return len(x)

    def each(x: Any) -> Iterator[int]:
        yield from x

    node.register(later)
    node.register(each)
    ref = client.put([1, 2, 3])
    assert client.call("later", ref) == 3
    assert list(client.stream("each", ref)) == [1, 2, 3]
    assert client.call(lambda x: [*x, 4], ref) == [1, 2, 3, 4]


def test_a_value_is_sent_once_to_each_node(
    way: str, server: Server, node: ComputeNode, second: ComputeNode, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    meet = threading.Barrier(2)

    def score(data: Any, index: int) -> float:
        if index < 2:
            meet.wait(30)  # while one node waits here, another call goes to the other one
        return float(data[index])

    for each in (node, second):
        each.register(score)
        each.register(total, isolation="process")
    asked = Asked(client, monkeypatch)
    data = np.arange(MIB, dtype=np.float64)
    ref = client.put(data)
    assert not asked.transfers  # nothing is sent yet
    assert list(client.map("score", [ref] * 30, range(30))) == list(range(30))
    calls = [client.submit("total", ref, ref) for _ in range(6)]
    assert {call.result() for call in calls} == {2 * data.sum()}
    assert len(asked.transfers) == 2
    assert all(len(values_of(each)) <= 1 for each in (node, second))


def test_equal_values_are_one(
    server: Server, node: ComputeNode, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    node.register(total)
    asked = Asked(client, monkeypatch)
    first, again, other = (client.put(np.full(MIB, x)) for x in (1.0, 1.0, 2.0))
    assert first.ref_id == again.ref_id != other.ref_id
    assert client.call("total", first, again, other) == 4 * MIB
    assert len(values_of(node)) == 2
    first.release()
    assert client.call("total", again) == MIB
    assert len(asked.transfers) == 2
    with Client(server.address) as stranger:
        assert stranger.put(np.full(MIB, 1.0)).ref_id != again.ref_id  # nobody can guess it


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_result_stays_on_its_node_and_calls_go_there(
    way: str, server: Server, node: ComputeNode, second: ComputeNode, client: Client, isolation: str
) -> None:
    for each in (node, second):
        each.register(lambda n: np.arange(n, dtype=np.float64), name="make", isolation=isolation)
        each.register(total, isolation=isolation)
    keep = client.with_options(keep=True)
    made = keep.call_node("node-b", "make", 4 * MIB)
    assert isinstance(made, Ref) and made.node == "node-b" and made.size_bytes > 32 * MIB
    assert repr(made) == "<Ref numpy.ndarray (4194304,), 32 MiB, on node 'node-b'>"
    for _ in range(5):
        call = client.submit("total", made)
        call.result()
        assert call.node == "node-b"
    assert len(values_of(node)) == 0
    expected = 4 * MIB * (4 * MIB - 1) / 2
    assert client.call_node("node-a", "total", made) == expected  # it comes through the gateway
    assert len(values_of(node)) == 1
    again = keep.call("make", 10)
    assert np.array_equal(again.get(), np.arange(10))
    value = made.get()
    assert value.sum() == expected
    value[0] = 1.0


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_the_last_handle_frees_it_everywhere(
    way: str, server: Server, node: ComputeNode, second: ComputeNode, client: Client, isolation: str
) -> None:
    for each in (node, second):
        each.register(total, isolation=isolation)
        each.register(lambda x: x + 1, name="more", isolation=isolation)
    before = files()
    data = client.put(np.zeros(MIB))
    alias = client.put(np.zeros(MIB))
    for name in ("node-a", "node-b"):
        client.call_node(name, "total", data)
    made = client.with_options(keep=True).call_node("node-a", "more", data)
    client.call_node("node-b", "total", made)
    assert [len(values_of(each)) for each in (node, second)] == [2, 2]
    made.release()
    made.release()
    wait_until(lambda: [len(values_of(each)) for each in (node, second)] == [1, 1])
    del data
    client.call("total", alias)  # whatever was to go has gone before this
    assert {len(values_of(each)) for each in (node, second)} == {1}
    del alias
    wait_until(lambda: not any(len(values_of(each)) for each in (node, second)))
    assert not any(values_of(each).held_bytes for each in (node, second))
    assert files() <= before
    for transfers in (client._connection._transfers, *(each._engine._transfers for each in (node, second))):
        wait_until(lambda transfers=transfers: not (transfers._owned or transfers._outgoing or transfers._incoming))


def test_a_call_holds_what_it_names(server: Server, node: ComputeNode, client: Client) -> None:
    go_on = threading.Event()

    def slow(array: Any) -> float:
        go_on.wait(30)
        return float(array.sum())

    node.register(slow)
    call = client.submit("slow", client.put(np.ones(MIB)))  # nobody else holds the ref
    waiting = [client.submit("slow", client.put(np.ones(MIB))) for _ in range(50)]
    go_on.set()
    assert call.result() == MIB
    assert {one.result() for one in waiting} == {MIB}
    wait_until(lambda: len(values_of(node)) == 0)


def test_a_client_that_closes_frees_its_values(server: Server, node: ComputeNode) -> None:
    node.register(total)
    with Client(server.address) as client:
        ref = client.put(np.zeros(MIB))
        client.call("total", ref)
        assert len(values_of(node)) == 1
    wait_until(lambda: len(values_of(node)) == 0)
    with pytest.raises(UsageError, match="closed"):
        ref.get()
    del ref


def test_what_has_no_room_is_dropped_and_a_kept_result_is_lost_with_a_reason(server: Server, client: Client) -> None:
    with ComputeNode(server.address, "small", value_memory="20MiB") as node:
        node.register(lambda n, x: np.full(n, x), name="make")
        node.register(total)
        keep = client.with_options(keep=True)
        first = keep.call("make", MIB, 1.0)
        second = keep.call("make", MIB, 2.0)
        data = client.put(np.full(MIB, 3.0))
        assert client.call("total", data) == 3 * MIB  # the copy goes first: it can be had again
        assert client.call("total", first) == MIB
        assert client.call("total", data) == 3 * MIB
        assert client.call("total", second) == 2 * MIB
        third = keep.call("make", MIB, 4.0)
        wait_until(lambda: len(values_of(node)) == 2)  # now the one used longest ago goes
        with pytest.raises(RefLost, match="node 'small' had no room for it: its values may take 20 MiB"):
            first.get()
        with pytest.raises(RefLost, match="no room") as lost:
            client.call("total", first)
        assert lost.value.details["ref"] == first.ref_id and lost.value.details["was_on"] == "small"
        assert client.call("total", second, third) == 6 * MIB
        assert values_of(node).held_bytes <= 20 * MIB
        with pytest.raises(PayloadError, match="value_memory"):
            keep.call("make", 3 * MIB, 1.0)


def test_what_running_calls_use_stays_beyond_the_bound(server: Server, client: Client) -> None:
    with ComputeNode(server.address, "small", value_memory=1000) as node:
        for isolation in ("thread", "process"):
            node.register(total, name=f"total-{isolation}", isolation=isolation)
            ref = client.put(np.ones(MIB))
            assert client.call(f"total-{isolation}", ref) == MIB
            assert client.call(f"total-{isolation}", ref) == MIB
            wait_until(lambda: len(values_of(node)) == 0)


def test_a_node_that_is_killed_takes_its_values_along_but_not_what_was_put(
    cluster: LocalCluster, remote: Client
) -> None:
    keep = remote.with_options(keep=True)
    data = remote.put(np.ones(MIB))
    made = keep.call_node("node-1", lambda x: x + 1, data)
    copied = keep.call_node("node-1", lambda x: x + 2, data)
    assert remote.call_node("node-2", lambda x: float(x[0]), copied) == 3
    os.kill(cluster.pids[1], signal.SIGKILL)
    with pytest.raises(RefLost, match="node 'node-1' is gone"):
        made.get()
    with pytest.raises(RefLost, match=r"numpy.ndarray \(1048576,\), 8 MiB.*is gone.*Make it again"):
        remote.call(lambda x: float(x[0]), made)
    assert copied.get()[0] == 3  # the other node has it too
    assert remote.call(lambda x: float(x[0]), data) == 1
    SharedFiles()  # the next process that starts removes what the killed one left


def test_the_gateway_is_killed_and_comes_back(gateway_process: Any) -> None:
    address, token = gateway_process()
    with ComputeNode(address, "a", token=token) as node, Client(address, token=token) as client:
        node.register(lambda n: np.arange(n), name="make")
        node.register(total)
        data, made = client.put(np.arange(MIB)), client.with_options(keep=True).call("make", MIB)
        assert client.call("total", data) == client.call("total", made)
        gateway_process.kill()
        gateway_process()
        assert client.call("total", data, made) == MIB * (MIB - 1)
        assert made.get().sum() == MIB * (MIB - 1) // 2
        assert len(values_of(node)) == 2
        del data
        made.release()
        wait_until(lambda: len(values_of(node)) == 0)


def test_refs_that_are_of_no_use_say_so_at_once(
    server: Server, node: ComputeNode, client: Client, tmp_path: Path
) -> None:
    node.register(total)
    ref = client.put([1])
    with pytest.raises(UsageError, match="travels only as an argument"):
        pickle.dumps(ref)
    with pytest.raises(UsageError, match="travels only as an argument"):
        client.call(lambda: ref)
    with pytest.raises(UsageError, match="Ref already"):
        client.put(ref)
    with pytest.raises(UsageError, match="lock"):
        client.put({"a": threading.Lock()})
    with Client(server.address) as other:
        with pytest.raises(UsageError, match="belongs to another client"):
            other.call("total", ref)
        with pytest.raises(UsageError, match="belongs to another client"):
            list(other.map("total", [ref]))
        theirs = other.put([2])
    with pytest.raises(UsageError, match="client of this Ref is closed"):
        client.call("total", theirs)
    ref.release()
    assert "released" in repr(ref)
    for use in (ref.get, lambda: client.call("total", [ref])):
        with pytest.raises(UsageError, match="was released"):
            use()
    node.register(lambda: (yield 1), name="items")
    with pytest.raises(UsageError, match="generator"):
        client.with_options(keep=True).call("items")


def test_too_many_refs_are_refused(server: Server, client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easyremote.refs.MAX_REFS", 3)
    refs = [client.put(index) for index in range(3)]
    wait_until(lambda: len(client._connection.refs._counts) == 3)
    with pytest.raises(OverloadedError, match="3 refs"):
        client.put("one more")
    refs.pop().release()
    wait_until(lambda: len(client._connection.refs._counts) == 2)
    client.put("one more")


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_in_calls_that_run_together(server: Server, node: ComputeNode, client: Client, isolation: str) -> None:
    def totals(arrays: list[Any], weights: list[float]) -> list[float]:
        return [float(array.sum()) * weight for array, weight in zip(arrays, weights, strict=True)]

    node.register(totals, batch=8, batch_wait="50ms", isolation=isolation)
    ref = client.put(np.ones(MIB))
    calls = [client.submit("totals", ref, float(index)) for index in range(8)]
    assert [call.result() for call in calls] == [MIB * index for index in range(8)]
    kept = client.with_options(keep=True).call("totals", ref, 2.0)
    assert kept.get() == 2 * MIB and kept.node == "node-a"


def test_all_workers_of_a_node_map_one_file(server: Server, client: Client, tmp_path: Path) -> None:
    with ComputeNode(server.address, "four", slots=4) as node:

        def meet(array: Any, folder: str, number: int) -> float:
            import time

            Path(folder, str(number)).touch()
            while len(os.listdir(folder)) < 4:
                time.sleep(0.01)
            return float(array[number])

        node.register(meet, isolation="process")
        before = files()
        ref = client.put(np.arange(MIB, dtype=np.float64))
        calls = [client.submit("meet", ref, str(tmp_path), number) for number in range(4)]
        assert [call.result() for call in calls] == [0, 1, 2, 3]
        wait_until(lambda: len(files() - before) == 1)  # the one that is kept for further calls


def test_a_cut_in_the_midst_of_a_transfer_costs_nothing(
    server: Server, wires: list[Wire], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in WAYS["gRPC"].items():
        monkeypatch.setenv(name, value)
    with (
        ComputeNode(wires[0].address, "a", token=server.token) as node,
        Client(wires[1].address, token=server.token) as client,
    ):
        node.register(total)
        for number, wire in enumerate(wires):
            ref = client.put(np.full(32 * MIB, float(number)))
            call = client.submit("total", ref)
            wait_until(lambda: any(not value.parts for value in values_of(node)._values.values()))
            wire.cut()
            assert call.result() == 32 * MIB * number


def test_a_forked_child_is_told_that_refs_are_not_its_own(server: Server, client: Client) -> None:
    ref = client.put([1])
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            ref.get()
        except UsageError as error:
            os.write(write, str(error).encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    assert b"forked" in os.read(read, 1000)
    os.close(read)
    assert ref.get() == [1]


def test_a_client_that_is_killed_leaves_nothing_at_the_nodes(tmp_path: Path) -> None:
    code = (
        "import numpy as np\nfrom easyremote import Client\nclient = Client({address!r}, token={token!r})\n"
        "data = client.put(np.ones(1_000_000))\nmade = client.with_options(keep=True).call('more', data)\n"
        "print(client.call('total', data, made), flush=True)\ninput()\n"
    )
    with (
        Server(port=0, settings=GatewaySettings(grace_s=0.5)) as server,
        ComputeNode(server.address, "a") as node,
    ):
        node.register(total)
        node.register(lambda x: x + 1, name="more")
        program = code.format(address=server.address, token=server.token)
        child = subprocess.Popen(
            [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "3000000.0\n"
        assert len(values_of(node)) == 2
        child.kill()
        child.communicate()
        wait_until(lambda: len(values_of(node)) == 0)
        SharedFiles()  # the next process that starts removes what the killed one left


@pytest.mark.parametrize("makes", ["thread", "process"])
def test_what_a_thread_made_a_worker_gets_and_the_reverse(
    server: Server, node: ComputeNode, client: Client, makes: str
) -> None:
    takes = "process" if makes == "thread" else "thread"
    node.register(lambda n: {"a": np.arange(n), "b": ["text"] * n}, name="make", isolation=makes)
    node.register(lambda x: (int(x["a"].sum()), len(x["b"])), name="look", isolation=takes)
    node.register(lambda x: (int(x["a"].sum()), len(x["b"])), name="look_there", isolation=makes)
    for size in (10, MIB):
        made = client.with_options(keep=True).call("make", size)
        assert client.call("look", made) == client.call("look_there", made) == (size * (size - 1) // 2, size)


def test_a_call_that_is_cancelled_while_its_value_comes_lets_the_others_have_it(
    server: Server, node: ComputeNode, client: Client
) -> None:
    node.register(total)
    entered = threading.Event()
    transfers = client._connection._transfers
    original = transfers.requested

    def requested(fetch: pb.Fetch) -> None:
        if entered.is_set() or not fetch.of_ref:
            original(fetch)
        else:
            entered.set()
            held.append(fetch)

    held: list[pb.Fetch] = []
    transfers.requested = requested  # type: ignore[method-assign]
    ref = client.put(np.ones(MIB))
    first, second = client.submit("total", ref), client.submit("total", ref)
    assert entered.wait(30)
    wait_until(lambda: next(iter(values_of(node)._values.values())).pins == 2)
    first.cancel()
    wait_until(lambda: next(iter(values_of(node)._values.values())).pins == 1)
    client._connection.post(lambda: original(held[0]))
    assert second.result() == MIB


def test_what_a_worker_made_outlives_it(server: Server, node: ComputeNode, client: Client) -> None:
    node.register(lambda n: np.full(n, os.getpid()), name="make", isolation="process")
    node.register(lambda x: (int(x[0]), os.getpid()), name="look", isolation="process")
    made = client.with_options(keep=True).call("make", MIB)
    maker, _ = client.call("look", made)
    os.kill(maker, signal.SIGKILL)
    wait_until(lambda: not os.path.exists(f"/proc/{maker}"))  # gone when its node has noticed
    SharedFiles()  # removes what dead processes left
    there, other = client.call("look", made)
    assert there == maker != other
