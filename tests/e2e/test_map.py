"""`Client.map`: many calls of one function, in chunks where they are short, in order always."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from easyremote import BadArguments, CallLost, Client, ComputeNode, FunctionNotFound, Server, UsageError, WorkerCrashed
from easyremote.bundling import MAX_TASKS
from easyremote.cluster import LocalCluster
from easyremote.mapping import MAP_WINDOW
from tests.conftest import wait_until
from tests.e2e.conftest import seems_short


@pytest.fixture(params=["thread", "process"])
def isolation(request: pytest.FixtureRequest, node: ComputeNode, client: Client) -> str:
    """Where the functions run. A worker is there already."""
    if request.param == "process":
        client.call(lambda: None)
    return request.param


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Chunks keep what they have, however long they take on this machine."""
    monkeypatch.setattr("easyremote.serving.GIVE_BACK_AFTER_S", 1e9)


def nothing_runs(client: Client, node: ComputeNode) -> None:
    assert node._engine is not None
    engine = node._engine
    wait_until(lambda: client._connection._core.open_count == 0 and engine._core.is_idle)


def noting(folder: Path, **how: Any) -> Any:
    """A function that writes down each beginning; it waits at `blocking` for the file "gate", and fails at `failing`."""
    place, blocking, failing = str(folder), how.get("blocking"), how.get("failing")

    def work(x: int) -> int:
        import os
        import tempfile
        import time

        tempfile.mkstemp(prefix=f"began-{x}-", dir=place)
        while x == blocking and not os.path.exists(f"{place}/gate"):
            time.sleep(0.002)
        if x == failing:
            raise KeyError(f"item {x}")
        return x * 10

    return work


def begun(folder: Path) -> list[int]:
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("began-*"))


# ---- results ---------------------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("patient")
def test_thousands_of_tiny_tasks_come_in_order(
    node: ComputeNode, client: Client, isolation: str, submitted: list[int]
) -> None:
    node.register(lambda x, y: (x, y), name="pair", isolation=isolation)
    for _ in range(2):  # what is known of the function afterwards changes nothing
        expected = list(zip(range(2000), range(2000, 0, -1), strict=True))
        assert list(client.map("pair", range(2000), range(2000, 0, -1))) == expected
    assert max(submitted) > 1
    assert sum(max(count, 1) for count in submitted) == 4000
    nothing_runs(client, node)


@pytest.mark.usefixtures("patient")
def test_a_lambda_is_mapped_as_a_registered_function_is(
    node: ComputeNode, client: Client, submitted: list[int]
) -> None:
    offset = 7
    assert list(client.map(lambda x: x + offset, range(1000))) == [x + 7 for x in range(1000)]
    assert sum(max(count, 1) for count in submitted) == 1000
    nothing_runs(client, node)


def test_as_completed_gives_each_result_once(node: ComputeNode, client: Client, isolation: str) -> None:
    node.register(lambda x: x * 2, name="double", isolation=isolation)
    assert sorted(client.map("double", range(1000), as_completed=True)) == [2 * x for x in range(1000)]
    assert sorted(client.map(lambda x: x + 1, range(50), as_completed=True)) == list(range(1, 51))
    nothing_runs(client, node)


@pytest.mark.parametrize("as_completed", [False, True])
def test_without_inputs_there_are_no_results(node: ComputeNode, client: Client, as_completed: bool) -> None:
    assert list(client.map("nobody has this", [], as_completed=as_completed)) == []
    assert list(client.map(lambda x: x, [], as_completed=as_completed)) == []
    assert list(client.map(lambda x, y: x, [1, 2, 3], [], as_completed=as_completed)) == []
    with pytest.raises(UsageError):
        client.map(lambda: 1)


def test_large_arguments_and_results_among_small_ones(
    node: ComputeNode, client: Client, isolation: str, submitted: list[int]
) -> None:
    node.register(lambda x: x, name="echo", isolation=isolation)
    seems_short(client, "echo", 0)
    kinds: list[Any] = [1, "x" * 3000, None, np.arange(100), b"y" * 100_000, [0] * 500, np.zeros(50_000)]
    values = [kinds[i % 7] if i % 5 == 0 else i for i in range(1500)]
    came = list(client.map("echo", values))
    assert len(came) == len(values)
    for value, expected in zip(came, values, strict=True):
        assert np.array_equal(value, expected) if isinstance(expected, np.ndarray) else value == expected
    assert max(submitted) > 1
    nothing_runs(client, node)


def test_generators_and_coroutines_give_their_whole_value(node: ComputeNode, client: Client) -> None:
    @node.register
    def count(x: int) -> Any:
        yield from range(x)

    @node.register
    async def twice(x: int) -> int:
        return 2 * x

    node.register(lambda x: (i for i in range(x)), name="lazy")
    for name, whole in (
        ("count", lambda x: list(range(x))),
        ("twice", lambda x: 2 * x),
        ("lazy", lambda x: list(range(x))),
    ):
        assert list(client.map(name, [3, 0, 5] * 20)) == [whole(x) for x in [3, 0, 5] * 20]


def test_two_maps_at_once_are_not_mixed_up(node: ComputeNode, client: Client, isolation: str) -> None:
    node.register(lambda x: x, name="echo", isolation=isolation)
    seems_short(client, "echo", 0)
    maps = client.map("echo", range(1500)), client.map("echo", range(10_000, 11_500))
    for n, row in enumerate(zip(*maps, strict=True)):
        assert row == (n, 10_000 + n)
    wrong: list[int] = []

    def work(start: int) -> None:
        wrong.extend(n for n, x in enumerate(client.map("echo", range(start, start + 700)), start) if n != x)

    threads = [threading.Thread(target=work, args=(10_000 * number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
    nothing_runs(client, node)


def test_a_map_that_nobody_reads_on_keeps_nobody_else_waiting(
    server: Server, client: Client, isolation: str, submitted: list[int]
) -> None:
    """Its chunks are calls that stream, but they hold no slot until they are read."""
    with ComputeNode(server.address, "one-slot", slots=1) as narrow:
        narrow.register(lambda x: x, name="echo", isolation=isolation)
        seems_short(client, "echo", 0)
        results = client.map("echo", range(6000))
        assert next(results) == 0
        with Client(server.address) as other:
            assert other.submit("echo", "other").result(timeout=60) == "other"
        assert list(results) == list(range(1, 6000))
        assert max(submitted) > 512
        nothing_runs(client, narrow)


# ---- inputs ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("as_completed", [False, True])
def test_endless_inputs_are_read_as_they_are_needed(node: ComputeNode, client: Client, as_completed: bool) -> None:
    node.register(lambda x: x, name="echo")
    seems_short(client, "echo", 0)
    read = itertools.count()
    last = 0

    def endless() -> Iterator[int]:
        nonlocal last
        while True:
            last = next(read)
            yield last

    results = client.map("echo", endless(), as_completed=as_completed)
    ahead = 0
    for taken in range(3000):
        value = next(results)
        assert as_completed or value == taken
        ahead = max(ahead, last - taken)
    assert ahead <= max(MAP_WINDOW, 8 * MAX_TASKS) + MAX_TASKS
    results.close()  # type: ignore[attr-defined]
    nothing_runs(client, node)


@pytest.mark.parametrize("as_completed", [False, True])
def test_an_error_of_the_inputs_is_raised_and_nothing_goes_on(
    node: ComputeNode, client: Client, as_completed: bool
) -> None:
    node.register(lambda x: x, name="echo")

    def inputs() -> Iterator[int]:
        yield from range(1500)
        raise OSError("no more inputs")

    came: list[int] = []
    with pytest.raises(OSError, match="no more inputs"):
        came.extend(client.map("echo", inputs(), as_completed=as_completed))
    assert as_completed or came == list(range(len(came)))
    nothing_runs(client, node)


def test_a_function_that_is_not_there_or_wants_other_arguments_is_an_error_at_once(
    node: ComputeNode, client: Client
) -> None:
    node.register(lambda x: x, name="echo")
    with pytest.raises(FunctionNotFound):
        next(client.map("ecko", range(3)))
    with pytest.raises(BadArguments):
        next(client.map("echo", range(3), range(3)))
    nothing_runs(client, node)


# ---- failures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("failing", [0, 1, 40, 999, 1999])
@pytest.mark.usefixtures("patient")
def test_a_failing_item_is_raised_in_its_place_and_the_rest_is_left(
    node: ComputeNode, client: Client, isolation: str, submitted: list[int], failing: int
) -> None:
    def work(x: int) -> int:
        if x == failing:
            raise KeyError(f"item {x}")
        return x * 10

    node.register(work, isolation=isolation)
    seems_short(client, "work", 0)
    came: list[int] = []
    with pytest.raises(KeyError, match=f"item {failing}"):
        came.extend(client.map("work", range(2000)))
    assert came == [10 * x for x in range(failing)]
    assert max(submitted) > 1
    nothing_runs(client, node)
    assert client.call("work", 5000) == 50_000


def test_an_unpicklable_result_is_an_error_in_its_place(node: ComputeNode, client: Client, isolation: str) -> None:
    node.register(lambda x: threading.Lock() if x == 70 else x, name="work", isolation=isolation)
    seems_short(client, "work", 0)
    came: list[int] = []
    with pytest.raises(UsageError, match="lock"):
        came.extend(client.map("work", range(200)))
    assert came == list(range(70))
    nothing_runs(client, node)


@pytest.mark.usefixtures("patient")
def test_a_lost_call_of_the_functions_own_is_an_error_like_others_and_runs_nothing_twice(
    node: ComputeNode, client: Client, isolation: str, tmp_path: Path
) -> None:
    place = str(tmp_path)

    def lose(x: int) -> int:
        import tempfile

        import easyremote

        tempfile.mkstemp(prefix=f"began-{x}-", dir=place)
        if x == 5:
            raise easyremote.CallLost("a call of mine was lost", may_have_run=True)
        return x

    node.register(lose, isolation=isolation)
    seems_short(client, "lose", 0)
    with pytest.raises(CallLost, match="of mine"):
        list(client.map("lose", range(20)))
    nothing_runs(client, node)
    assert begun(tmp_path).count(5) == 1


@pytest.mark.usefixtures("patient")
def test_one_that_kills_its_worker_is_an_error_in_its_place(
    node: ComputeNode, client: Client, submitted: list[int]
) -> None:
    def work(x: int) -> int:
        import os
        import sys

        sys.setswitchinterval(100)  # the thread that sends results has no time to
        if x == 30:
            os._exit(3)
        return x

    node.register(work, isolation="process")
    seems_short(client, "work", 0)
    came: list[int] = []
    with pytest.raises(WorkerCrashed):
        came.extend(client.map("work", range(100)))
    assert came == list(range(30))
    assert max(submitted) > 1
    nothing_runs(client, node)
    assert client.call("work", 1) == 1


@pytest.mark.slow
def test_a_node_that_dies_in_the_middle_costs_nothing(cluster: LocalCluster, remote: Client, tmp_path: Path) -> None:
    place = str(tmp_path)

    def work(x: int) -> int:
        import os
        import signal

        if x == 700 and not os.path.exists(f"{place}/killed"):
            open(f"{place}/killed", "w").close()
            os.kill(os.getppid(), signal.SIGKILL)
            while True:
                signal.pause()
        return x * 10

    remote.node(*cluster.node_ids).register(work)
    seems_short(remote, "work", 0)
    assert list(remote.map("work", range(3000))) == [10 * x for x in range(3000)]
    assert (tmp_path / "killed").exists()


# ---- leaving, and what turns out to be slow --------------------------------------------------------------------------


@pytest.mark.parametrize("as_completed", [False, True])
def test_leaving_early_stops_what_is_under_way(
    node: ComputeNode, client: Client, isolation: str, as_completed: bool, tmp_path: Path
) -> None:
    node.register(noting(tmp_path, blocking=100), name="work", isolation=isolation)
    seems_short(client, "work", 0)
    results = client.map("work", range(2000), as_completed=as_completed)
    came = [next(results) for _ in range(50)]
    assert len(came) == 50
    results.close()  # type: ignore[attr-defined]
    nothing_runs(client, node)  # though the gate was never opened


def test_what_becomes_slow_in_the_middle_holds_up_no_other(
    node: ComputeNode, client: Client, isolation: str, tmp_path: Path
) -> None:
    node.register(noting(tmp_path, blocking=20), name="work", isolation=isolation)
    seems_short(client, "work", 0)
    came: list[int] = []
    done = threading.Event()

    def read() -> None:
        came.extend(client.map("work", range(300)))
        done.set()

    thread = threading.Thread(target=read)
    thread.start()
    wait_until(lambda: set(begun(tmp_path)) == set(range(300)))  # all the others run beside it
    assert not done.is_set()
    (tmp_path / "gate").touch()
    thread.join()
    assert came == [10 * x for x in range(300)]
    assert begun(tmp_path) == list(range(300))  # each once
    nothing_runs(client, node)
