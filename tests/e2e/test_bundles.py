"""Short calls that travel as one: each stays a call of its own, whatever happens to the others."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from easyremote import (
    Call,
    CallCancelled,
    CallLost,
    Client,
    ComputeNode,
    RemoteError,
    Server,
    UnpicklableError,
    WorkerCrashed,
)
from easyremote.bundling import MAX_TASK_BYTES, MAX_TASKS
from easyremote.cluster import LocalCluster
from easyremote.serving import GIVE_BACK_AFTER_S
from tests.conftest import wait_until
from tests.e2e.conftest import held_loop, seems_short, submit_together


@pytest.fixture(params=["thread", "process"])
def isolation(request: pytest.FixtureRequest, node: ComputeNode, client: Client) -> str:
    """Where the functions run. A worker is there already."""
    if request.param == "process":
        client.call(lambda: None)
    return request.param


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bundles keep what they have, however long they take on this machine."""
    monkeypatch.setattr("easyremote.serving.GIVE_BACK_AFTER_S", 1e9)


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch, patient: None) -> None:
    """They give back what hasn't begun, as they do outside of these tests."""
    monkeypatch.setattr("easyremote.serving.GIVE_BACK_AFTER_S", GIVE_BACK_AFTER_S)


def wait_at_gate(folder: Path, blocking: int = 0) -> Callable[[int], int]:
    """A function that writes down each beginning and each interruption; for `blocking` it waits for the file "gate"."""
    place = str(folder)

    def work(x: int) -> int:
        import tempfile

        tempfile.mkstemp(prefix=f"began-{x}-", dir=place)
        try:
            while x == blocking and not os.path.exists(f"{place}/gate"):
                time.sleep(0.002)
        except BaseException:
            open(f"{place}/interrupted-{x}", "w").close()
            raise
        return x * 10

    return work


def begun(folder: Path) -> list[int]:
    """Which tasks began, once for each time."""
    return sorted(int(path.name.split("-")[1]) for path in folder.glob("began-*"))


def outcome(call: Call[Any]) -> Any:
    """Its value, or the class of what it raised."""
    error = call.exception(timeout=60)
    return call.result() if error is None else type(error)


# ---- results ---------------------------------------------------------------------------------------------------------


def test_every_call_has_its_own_result_whatever_its_size(
    node: ComputeNode, client: Client, isolation: str, submitted: list[int]
) -> None:
    def produce(x: int) -> Any:
        import numpy as np

        kinds = [x, None, "text" * x, b"m" * (1024 * 1024), [x] * 2000, np.full(10 * x, x), {"x": {x}}]
        return kinds[x % len(kinds)]

    node.register(produce, isolation=isolation)
    calls = submit_together(client, "produce", range(35))
    for x, call in enumerate(calls):
        expected = produce(x)
        value = call.result(timeout=60)
        assert np.array_equal(value, expected) if isinstance(expected, np.ndarray) else value == expected
        assert type(value) is type(expected)
        assert (call.state, call.node, call.attempt) == ("succeeded", "node-a", 1)
    assert submitted == [35]


def test_a_bundled_call_is_a_future_an_awaitable_and_an_iterator(
    node: ComputeNode, client: Client, submitted: list[int]
) -> None:
    node.register(lambda x: x + 1, name="inc")
    calls = submit_together(client, "inc", range(30))

    async def gather() -> list[int]:
        return await asyncio.gather(*calls[:10])

    assert asyncio.run(gather()) == list(range(1, 11))
    assert {call.result() for call in concurrent.futures.as_completed(calls[10:20])} == set(range(11, 21))
    assert [list(call) for call in calls[20:]] == [[x + 1] for x in range(20, 30)]
    assert 30 in submitted


def test_a_bundle_holds_no_more_than_it_may(node: ComputeNode, client: Client, submitted: list[int]) -> None:
    node.register(len, name="length")
    calls = submit_together(client, "length", [b"x"] * (MAX_TASKS + 500))
    assert [call.result(timeout=60) for call in calls] == [1] * (MAX_TASKS + 500)
    assert max(submitted) == MAX_TASKS
    submitted.clear()
    calls = submit_together(client, "length", [b"y" * 900] * 200 + [b"z" * 5000])
    assert [call.result(timeout=60) for call in calls] == [900] * 200 + [5000]
    assert 1 < max(submitted) <= MAX_TASK_BYTES // 900
    assert 0 in submitted  # the large one goes by itself


def test_calls_of_several_functions_and_options_that_leave_together_are_not_mixed_up(
    node: ComputeNode, client: Client, isolation: str, submitted: list[int]
) -> None:
    node.register(lambda x: ("a", x), name="a", isolation=isolation)
    node.register(lambda x: ("b", x), name="b", isolation=isolation)
    labelled = client.with_options(label="with a label")
    for name in ("a", "b"):
        seems_short(client, name, 0)
        labelled._check_arguments(name, (0,), {})
    with held_loop():
        made = []
        for x in range(60):
            name, face = "ab"[x // 3 % 2], (client, labelled)[x // 7 % 2]
            made.append(((name, x), face.submit(name, x)))
    for expected, call in made:
        assert call.result(timeout=60) == expected
    assert [count for count in submitted if count > 1]


def test_many_threads_that_submit_at_once_get_what_they_asked_for(
    node: ComputeNode, client: Client, isolation: str
) -> None:
    node.register(lambda x: x * 2, name="double", isolation=isolation)
    seems_short(client, "double", 0)
    wrong: list[int] = []

    def ask(start: int) -> None:
        for _ in range(3):
            calls = [client.submit("double", x) for x in range(start, start + 50)]
            wrong.extend(x for x, call in enumerate(calls, start) if call.result(timeout=60) != 2 * x)

    threads = [threading.Thread(target=ask, args=(100 * number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_what_a_plain_function_hands_back_unfinished_is_finished_for_the_caller(
    node: ComputeNode, client: Client, isolation: str, submitted: list[int]
) -> None:
    def lazy(x: int) -> Any:
        import asyncio

        async def twice(x: int) -> int:
            await asyncio.sleep(0)
            return 2 * x

        async def items() -> Any:
            for i in range(x):
                yield i

        return [lambda: (i for i in range(x)), lambda: twice(x), items, lambda: x][x % 4]()

    node.register(lazy, isolation=isolation)
    calls = submit_together(client, "lazy", range(8))
    assert [call.result(timeout=60) for call in calls] == [[], 2, [0, 1], 3, [0, 1, 2, 3], 10, [*range(6)], 7]
    assert 8 in submitted


# ---- what goes by itself ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "options", [{"retries": 0}, {"retries": 2}, {"timeout": 60}, {"run_timeout": 60}, {"queue_timeout": 60}]
)
def test_calls_with_limits_of_their_own_travel_alone(
    node: ComputeNode, client: Client, submitted: list[int], options: dict[str, Any]
) -> None:
    node.register(lambda x: x, name="echo")
    limited = client.with_options(**options)
    assert [call.result() for call in submit_together(limited, "echo", range(5))] == list(range(5))
    assert submitted == [0] * 5


def test_coroutines_and_generators_travel_alone(node: ComputeNode, client: Client, submitted: list[int]) -> None:
    @node.register
    async def coroutine(x: int) -> int:
        return x

    @node.register
    def generator(x: int) -> Any:
        yield x

    @node.register
    async def asyncgen(x: int) -> Any:
        yield x

    for name, expected in (("coroutine", 1), ("generator", [1]), ("asyncgen", [1])):
        assert [call.result() for call in submit_together(client, name, [1] * 5)] == [expected] * 5
    assert submitted == [0] * 15


def test_a_plain_function_that_turns_out_to_be_a_stream_streams(
    node: ComputeNode, client: Client, submitted: list[int]
) -> None:
    node.register(lambda x: (i for i in range(x)), name="lazy")
    assert list(client.stream("lazy", 3)) == [0, 1, 2]  # what it is is learned here
    with held_loop():
        calls = [client.submit("lazy", x) for x in range(5)]
    assert [list(call) for call in calls] == [list(range(x)) for x in range(5)]
    assert submitted == [0] * 6


# ---- failures --------------------------------------------------------------------------------------------------------


def test_what_fails_fails_alone_with_its_own_traceback(
    node: ComputeNode, client: Client, isolation: str, submitted: list[int]
) -> None:
    def fail(x: int) -> Any:
        import sys
        import threading

        class Unpicklable(Exception):
            def __init__(self) -> None:
                super().__init__("has a lock")
                self.lock = threading.Lock()

        if x == 3:
            raise KeyError("three")
        if x == 5:
            raise ValueError("five")  # the line of the five
        if x == 7:
            raise Unpicklable
        if x == 9:
            return threading.Lock()
        if x == 11:
            sys.exit(1)
        return x

    node.register(fail, isolation=isolation)
    calls = submit_together(client, "fail", range(13))
    failing = {3: KeyError, 5: ValueError, 7: RemoteError, 9: UnpicklableError, 11: RemoteError}
    assert [outcome(call) for call in calls] == [failing.get(x, x) for x in range(13)]
    assert submitted == [13]
    cause = calls[5].exception().__cause__  # type: ignore[union-attr]
    assert isinstance(cause, RemoteError)
    assert "the line of the five" in cause.remote_traceback
    assert "three" not in cause.remote_traceback
    assert (cause.node, calls[5].state) == ("node-a", "failed")
    assert "has a lock" in str(calls[7].exception())
    assert "SystemExit" in str(calls[11].exception())


def test_any_number_of_results_that_cannot_be_sent(
    node: ComputeNode, client: Client, isolation: str, submitted: list[int]
) -> None:
    """Each once took a place among the items that the worker may be ahead, and none gave it back."""
    node.register(lambda x: threading.Lock(), name="locks", isolation=isolation)
    calls = submit_together(client, "locks", range(700))
    assert {outcome(call) for call in calls} == {UnpicklableError}
    assert submitted == [700]


def test_an_error_of_ours_that_a_function_raises_is_its_own(
    node: ComputeNode, client: Client, isolation: str, submitted: list[int], tmp_path: Path
) -> None:
    """As when it makes calls itself: nobody takes that for the fate of the bundle."""
    place = str(tmp_path)

    def lose(x: int) -> int:
        import tempfile

        import easyremote

        tempfile.mkstemp(prefix=f"began-{x}-", dir=place)
        if x == 2:
            raise easyremote.CallLost("a call of mine was lost", may_have_run=True)
        if x == 4:
            raise easyremote.CallCancelled("a call of mine was cancelled")
        return x

    node.register(lose, isolation=isolation)
    calls = submit_together(client, "lose", range(6))
    assert [outcome(call) for call in calls] == [0, 1, CallLost, 3, CallCancelled, 5]
    assert begun(tmp_path) == list(range(6))
    assert 6 in submitted


# ---- output ----------------------------------------------------------------------------------------------------------


class Shown:
    """A presenter that keeps what it is given."""

    def __init__(self) -> None:
        self.texts = {False: "", True: ""}
        self.displays: list[Any] = []
        self.done: list[float] = []

    def output(self, is_stderr: bool, text: str) -> None:
        self.texts[is_stderr] += text

    def display(self, display: Any, bundle: Any) -> None:
        self.displays.append(bundle)

    def progress(self, progress: Any) -> None:
        self.done.append(progress.done)


def shown(call: Call[Any]) -> Shown:
    presenter: Any = call._presenter
    return presenter


def test_what_is_printed_goes_to_the_call_that_printed_it(
    node: ComputeNode, client: Client, isolation: str, submitted: list[int]
) -> None:
    def talk(x: int) -> int:
        import sys

        import easyremote

        print(f"one {x}")
        print(f"error {x}", file=sys.stderr)
        if x % 2:
            easyremote.progress(x, 10)
        print(f"no newline {x}", end="")
        if x == 4:
            raise ValueError
        return x

    node.register(talk, isolation=isolation)
    calls = submit_together(client.with_presenter(Shown), "talk", range(8))
    assert [outcome(call) for call in calls] == [0, 1, 2, 3, ValueError, 5, 6, 7]
    for x, call in enumerate(calls):
        assert shown(call).texts == {False: f"one {x}\nno newline {x}", True: f"error {x}\n"}
        assert shown(call).done == [x] * (x % 2)
    assert 8 in submitted


def test_what_c_code_and_child_processes_print_goes_to_the_call_that_printed_it(
    node: ComputeNode, client: Client, submitted: list[int]
) -> None:
    def write(x: int) -> int:

        os.write(1, f"line {x}\n".encode())
        return x

    node.register(write, isolation="process")
    client.call(lambda: None)  # a worker is there
    calls = submit_together(client.with_presenter(Shown), "write", range(5))
    assert [outcome(call) for call in calls] == list(range(5))
    assert [shown(call).texts[False] for call in calls] == [f"line {x}\n" for x in range(5)]
    assert 5 in submitted


# ---- one that takes long ---------------------------------------------------------------------------------------------


@pytest.mark.usefixtures("impatient")
def test_the_others_do_not_wait_for_one_that_blocks(
    node: ComputeNode, client: Client, isolation: str, submitted: list[int], tmp_path: Path
) -> None:
    node.register(wait_at_gate(tmp_path), name="work", isolation=isolation)
    for repeat in range(2):
        calls = submit_together(client, "work", range(8))
        assert [call.result(timeout=60) for call in calls[1:]] == [10 * x for x in range(1, 8)]
        assert not calls[0].done()
        (tmp_path / "gate").touch()
        assert calls[0].result(timeout=60) == 0
        assert begun(tmp_path) == sorted([*range(8)] * (repeat + 1))
        (tmp_path / "gate").unlink()
    assert submitted.count(8) == 2


@pytest.mark.usefixtures("impatient")
def test_the_others_do_not_wait_where_the_worker_has_to_be_started_first(
    node: ComputeNode, client: Client, submitted: list[int], tmp_path: Path
) -> None:
    """That takes longer than a bundle is given, so it is told to begin no more before it has begun."""
    node.register(wait_at_gate(tmp_path), name="work", isolation="process")
    calls = submit_together(client, "work", range(8))
    assert [call.result(timeout=60) for call in calls[1:]] == [10 * x for x in range(1, 8)]
    assert not calls[0].done()
    (tmp_path / "gate").touch()
    assert calls[0].result(timeout=60) == 0
    assert begun(tmp_path) == list(range(8))
    assert 8 in submitted


@pytest.mark.usefixtures("impatient")
def test_one_that_blocks_in_the_middle_keeps_what_came_before_and_holds_up_nothing_behind(
    node: ComputeNode, client: Client, isolation: str, submitted: list[int], tmp_path: Path
) -> None:
    node.register(wait_at_gate(tmp_path, blocking=4), name="work", isolation=isolation)
    calls = submit_together(client, "work", range(9))
    others = [call for x, call in enumerate(calls) if x != 4]
    assert [call.result(timeout=60) for call in others] == [10 * x for x in range(9) if x != 4]
    (tmp_path / "gate").touch()
    assert calls[4].result(timeout=60) == 40
    assert begun(tmp_path) == list(range(9))
    assert 9 in submitted


@pytest.mark.usefixtures("impatient")
def test_a_bundled_call_that_runs_says_so_and_how_long_it_ran(
    node: ComputeNode, client: Client, submitted: list[int], tmp_path: Path
) -> None:
    node.register(wait_at_gate(tmp_path), name="work")
    calls = submit_together(client, "work", range(4))
    calls[1].result(timeout=60)
    was = calls[0].state, calls[0].node
    (tmp_path / "gate").touch()
    calls[0].result(timeout=60)
    assert was == ("running", "node-a")
    assert calls[0].run_s > 0
    assert 4 in submitted


# ---- cancelling ------------------------------------------------------------------------------------------------------


def test_one_that_has_not_begun_is_cancelled_alone(
    node: ComputeNode, client: Client, isolation: str, submitted: list[int], tmp_path: Path
) -> None:
    node.register(wait_at_gate(tmp_path), name="work", isolation=isolation)
    calls = submit_together(client, "work", range(6))
    wait_until(lambda: begun(tmp_path) == [0])
    assert calls[3].cancel()
    assert calls[5].cancel()
    assert not calls[3].cancel()
    seems_short(client, "work", 0)
    client.list_nodes()  # what was cancelled has left before
    (tmp_path / "gate").touch()
    expected = [0, 10, 20, CallCancelled, 40, CallCancelled]
    assert [outcome(call) for call in calls] == expected
    assert client.call("work", 1) == 10
    assert [x for x in begun(tmp_path) if x in (3, 5)] in ([], [3], [5], [3, 5])
    assert submitted[0] == 6


def test_one_that_runs_is_interrupted_and_the_others_have_their_results(
    node: ComputeNode, client: Client, isolation: str, submitted: list[int], tmp_path: Path
) -> None:
    node.register(wait_at_gate(tmp_path, blocking=2), name="work", isolation=isolation)
    calls = submit_together(client, "work", range(6))
    wait_until(lambda: 2 in begun(tmp_path))
    assert calls[2].cancel()
    assert [outcome(call) for call in calls] == [0, 10, CallCancelled, 30, 40, 50]
    wait_until((tmp_path / "interrupted-2").exists)
    assert begun(tmp_path) == list(range(6))
    assert client.call("work", 7) == 70  # the node goes on
    assert submitted[0] == 6


def test_when_all_are_cancelled_nothing_goes_on(
    node: ComputeNode, client: Client, isolation: str, submitted: list[int], tmp_path: Path
) -> None:
    node.register(wait_at_gate(tmp_path), name="work", isolation=isolation)
    calls = submit_together(client, "work", range(6))
    wait_until(lambda: begun(tmp_path) == [0])
    for call in calls:
        call.cancel()
    wait_until((tmp_path / "interrupted-0").exists)
    assert client.call("work", 9) == 90
    assert begun(tmp_path) == [0, 9]
    assert {outcome(call) for call in calls} == {CallCancelled}
    assert client._connection._core.open_count == 0
    assert submitted[0] == 6


def test_cancelled_before_they_left_they_do_not_begin(
    node: ComputeNode, client: Client, isolation: str, submitted: list[int], tmp_path: Path
) -> None:
    """Submitted and cancelled before the loop came to it: in a bundle that waits behind another call for its only slot."""
    node.register(wait_at_gate(tmp_path), name="work", isolation=isolation)
    seems_short(client, "work", 0)
    blocking = [client.with_options(retries=1).submit("work", 0) for _ in range(node.slots)]
    wait_until(lambda: len(begun(tmp_path)) == node.slots)
    with held_loop():
        calls = [client.submit("work", x) for x in range(1, 7)]
        calls[1].cancel()
        calls[4].cancel()
    client.list_nodes()
    (tmp_path / "gate").touch()
    assert [outcome(call) for call in calls] == [10, CallCancelled, 30, 40, CallCancelled, 60]
    assert [call.result() for call in blocking] == [0] * node.slots
    assert begun(tmp_path) == [*[0] * node.slots, 1, 3, 4, 6]
    assert 6 in submitted


def test_closing_the_client_ends_them_all_and_frees_the_node(
    server: Server, node: ComputeNode, isolation: str, submitted: list[int], tmp_path: Path
) -> None:
    node.register(wait_at_gate(tmp_path), name="work", isolation=isolation)
    with Client(server.address) as client:
        calls = submit_together(client, "work", range(6))
        wait_until(lambda: begun(tmp_path) == [0])
    assert {outcome(call) for call in calls} == {CallCancelled}
    wait_until((tmp_path / "interrupted-0").exists)
    with Client(server.address) as other:
        assert other.call("work", 3) == 30
    assert begun(tmp_path) == [0, 3]
    assert submitted[0] == 6


# ---- what dies -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["exit", "kill"])
def test_a_worker_that_one_of_them_kills_takes_only_that_one_along(
    node: ComputeNode, client: Client, submitted: list[int], how: str
) -> None:
    def work(x: int) -> int:
        import signal

        if x == 0 and how == "exit":
            os._exit(3)
        if x == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return x

    node.register(work, isolation="process")
    client.call(lambda: None)  # a worker is there
    calls = submit_together(client, "work", range(6))
    assert [outcome(call) for call in calls] == [WorkerCrashed, *range(1, 6)]
    crashed: Any = calls[0].exception()
    assert crashed.details.get("exit_code" if how == "exit" else "signal") == ("3" if how == "exit" else "SIGKILL")
    assert client.call("work", 9) == 9
    assert 6 in submitted


def test_one_that_kills_the_worker_is_told_apart_from_those_that_ended_a_moment_before(
    node: ComputeNode, client: Client, submitted: list[int]
) -> None:
    def work(x: int) -> int:
        import sys

        sys.setswitchinterval(100)  # the thread that sends results has no time to
        if x == 5:
            os._exit(3)
        return x

    node.register(work, isolation="process")
    client.call(lambda: None)  # a worker is there
    calls = submit_together(client, "work", range(1, 10))
    assert [outcome(call) for call in calls] == [1, 2, 3, 4, WorkerCrashed, 6, 7, 8, 9]
    assert 9 in submitted


@pytest.mark.slow
def test_a_node_that_dies_in_the_middle_costs_none_of_them_anything(
    cluster: LocalCluster, remote: Client, submitted: list[int], tmp_path: Path
) -> None:
    place = str(tmp_path)

    def work(x: int) -> int:
        import signal
        import tempfile

        tempfile.mkstemp(prefix=f"began-{x}-", dir=place)
        if x == 5 and not os.path.exists(f"{place}/killed"):
            open(f"{place}/killed", "w").close()
            os.kill(os.getppid(), signal.SIGKILL)
            while True:
                signal.pause()
        return x * 10

    remote.node(*cluster.node_ids).register(work)
    calls = submit_together(remote, "work", range(10))
    assert [call.result(timeout=60) for call in calls] == [10 * x for x in range(10)]
    assert set(begun(tmp_path)) == set(range(10))
    assert begun(tmp_path).count(5) == 2
    assert len(remote.list_nodes()) == 1
    assert 10 in submitted


@pytest.mark.slow
def test_a_gateway_that_is_killed_and_started_again_costs_none_of_them_anything(
    gateway_process: Any, submitted: list[int], tmp_path: Path
) -> None:
    address, token = gateway_process()
    with ComputeNode(address, "n", token=token) as node, Client(address, token=token) as client:
        node.register(wait_at_gate(tmp_path, blocking=3), name="work")
        calls = submit_together(client, "work", range(8))
        wait_until(lambda: 3 in begun(tmp_path))
        gateway_process.kill()
        wait_until(lambda: not client.is_connected and not node.is_connected)
        calls[6].cancel()
        gateway_process()
        wait_until(lambda: client.is_connected and node.is_connected)
        client.list_nodes()
        (tmp_path / "gate").touch()
        expected = [0, 10, 20, 30, 40, 50, CallCancelled, 70]
        assert [outcome(call) for call in calls] == expected
        assert [x for x in begun(tmp_path) if x != 6] == [0, 1, 2, 3, 4, 5, 7]
        assert submitted == [8]
