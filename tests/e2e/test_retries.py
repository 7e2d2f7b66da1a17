"""`retry_on`, `retries`, `backoff` and `idempotent` through a real gateway."""

from __future__ import annotations

import asyncio
import concurrent.futures
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from easyremote import (
    CallLost,
    Client,
    ComputeNode,
    RemoteError,
    Server,
    UsageError,
    WorkerCrashed,
)
from easyremote.execution.retriable import is_named
from tests.conftest import wait_until
from tests.e2e.conftest import submit_together


class Flaky(Exception):
    pass


class VeryFlaky(Flaky):
    pass


class Failing:
    """Fails the first `times`."""

    def __init__(self, times: int, error: Exception) -> None:
        self.runs = 0
        self._times = times
        self._error = error

    def __call__(self, value: Any = None) -> Any:
        self.runs += 1
        if self.runs <= self._times:
            raise self._error
        return value


def failing(node: ComputeNode, times: int, error: Exception, **rule: Any) -> Failing:
    made = Failing(times, error)
    node.register(made, name="f", **rule)
    return made


@pytest.mark.parametrize(
    "wanted", [Flaky, (OSError, VeryFlaky), f"{__name__}.Flaky", [f"{__name__}.VeryFlaky", "KeyError"]]
)
def test_a_call_runs_again_after_errors_of_these_types(node: ComputeNode, client: Client, wanted: Any) -> None:
    function = failing(node, 2, VeryFlaky("not now"))
    call = client.with_options(retry_on=wanted, backoff=0).submit("f", 5)
    assert call.result(30) == 5
    assert (call.attempt, function.runs) == (3, 3)


def test_other_errors_come_at_once(node: ComputeNode, client: Client) -> None:
    function = failing(node, 2, Flaky("not now"))
    with pytest.raises(Flaky) as raised:
        client.with_options(retry_on=(VeryFlaky, "OSError", "no.such.Thing"), backoff=0).call("f")
    assert function.runs == 1
    assert not hasattr(raised.value, "__notes__")


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_a_class_of_this_process_is_found_by_name_there(
    node: ComputeNode, client: Client, isolation: str, tmp_path: Path
) -> None:
    class Own(Exception):
        pass

    def work(place: str) -> str:
        import os

        path = os.path.join(place, "seen")
        if not os.path.exists(path):
            open(path, "w").close()
            raise Own("first")
        return "second"

    node.register(work, isolation=isolation)
    assert client.with_options(retry_on=Own, backoff=0).call("work", str(tmp_path)) == "second"


def test_every_kind_of_function_is_run_again(node: ComputeNode, client: Client) -> None:
    runs: list[str] = []

    def first_of(kind: str) -> bool:
        runs.append(kind)
        return runs.count(kind) == 1

    @node.register
    async def coroutine() -> str:
        await asyncio.sleep(0)
        if first_of("coroutine"):
            raise Flaky
        return "done"

    @node.register
    def items() -> Iterator[int]:
        if first_of("items"):
            raise Flaky
        yield from range(3)

    @node.register
    def late() -> Iterator[int]:
        yield 1
        first_of("late")
        raise Flaky("too late")

    again = client.with_options(retry_on=Flaky, backoff=0)
    assert again.call("coroutine") == "done"
    assert list(again.stream("items")) == [0, 1, 2]
    with pytest.raises(Flaky) as raised:
        again.call("late")
    assert runs.count("late") == 1
    assert "it had delivered items already, so it isn't run again" in raised.value.__notes__[0]


def test_the_last_error_says_what_became_of_all_attempts(server: Server, node: ComputeNode, client: Client) -> None:
    error = Flaky("not now")
    with ComputeNode(server.address, "node-b") as other:
        function = failing(node, 9, error)
        other.register(function, name="f")
        with pytest.raises(Flaky, match="not now") as raised:
            client.with_options(retry_on=Flaky, backoff=0, retries=2).call("f")
    cause = raised.value.__cause__
    assert isinstance(cause, RemoteError)
    assert cause.attempt == 3
    assert "in __call__" in cause.remote_traceback
    assert [(a.number, a.type.rpartition(".")[2], a.message) for a in cause.attempts] == [
        (1, "Flaky", "not now"),
        (2, "Flaky", "not now"),
    ]
    assert {cause.attempts[0].node, cause.attempts[1].node} == {"node-a", "node-b"}
    assert "in __call__" in cause.attempts[0].traceback
    (note,) = raised.value.__notes__
    assert note.startswith(
        f"easyremote: this was attempt 3 on node '{cause.node}'; it had run 3 times and 2 retries are allowed"
    )
    assert "attempt 1 on node" in note


def test_whoever_watches_is_told(node: ComputeNode, client: Client, capsys: pytest.CaptureFixture[str]) -> None:
    failing(node, 1, Flaky("not now"))
    client.with_options(retry_on=Flaky, backoff=0).call("f")
    assert (
        "attempt 1 failed (tests.e2e.test_retries.Flaky: not now); 'f' runs again on 'node-a'"
        in capsys.readouterr().err
    )


def test_a_crashed_worker_is_retried_when_it_is_named(node: ComputeNode, client: Client, tmp_path: Path) -> None:
    def work(place: str) -> str:
        import os

        path = os.path.join(place, "seen")
        if not os.path.exists(path):
            open(path, "w").close()
            os._exit(7)
        return "second"

    with pytest.raises(WorkerCrashed):
        client.with_options(retry_on=Flaky).call(work, str(tmp_path))
    (tmp_path / "seen").unlink()
    for number, named in enumerate((WorkerCrashed, CallLost, "easyremote.WorkerCrashed", "WorkerCrashed")):
        call = client.with_options(retry_on=named, backoff=0).submit(work, str(tmp_path))
        assert (number, call.result(60), call.attempt) == (number, "second", 2)
        (tmp_path / "seen").unlink()


def test_futures_see_one_end(node: ComputeNode, client: Client) -> None:
    failing(node, 1, Flaky("not now"))
    again = client.with_options(retry_on=Flaky, backoff=0.1)
    seen: list[Any] = []
    call = again.submit("f", 1)
    call.add_done_callback(lambda done: seen.append(done.result()))
    assert concurrent.futures.wait([call], 30).not_done == set()
    assert next(concurrent.futures.as_completed([call])).result() == 1
    wait_until(lambda: seen == [1])

    async def awaited() -> Any:
        failing(node, 1, Flaky("not now"))
        return await again.submit("f", 2)

    assert asyncio.run(awaited()) == 2


def test_calls_that_may_be_retried_travel_alone_and_maps_retry_each(
    node: ComputeNode, client: Client, submitted: list[int]
) -> None:
    seen: set[int] = set()

    def f(x: int) -> int:
        if x % 3 == 0 and x not in seen:
            seen.add(x)
            raise Flaky(x)
        return x

    node.register(f)
    again = client.with_options(retry_on=Flaky, backoff=0)
    assert [call.result(30) for call in submit_together(again, "f", range(10))] == list(range(10))
    seen.clear()
    assert list(again.map("f", range(20))) == list(range(20))
    seen.clear()
    assert sorted(again.map("f", range(20), as_completed=True)) == list(range(20))
    assert set(submitted) == {0}


def test_defaults_come_with_the_registration(node: ComputeNode, client: Client, submitted: list[int]) -> None:
    function = failing(node, 2, Flaky("not now"), retries=2, retry_on=Flaky, backoff=0)
    assert client.call("f", 1) == 1
    function.runs = 0
    with pytest.raises(Flaky):
        client.with_options(retries=1).call("f", 1)
    function.runs = 0
    assert [call.result(30) for call in submit_together(client, "f", range(5))] == list(range(5))
    assert set(submitted) == {0}


def test_a_shipped_function_has_them_too(node: ComputeNode, client: Client, tmp_path: Path) -> None:
    @client.node("node-a").register(retry_on="ValueError", backoff=0, idempotent=True)
    def work(place: str) -> int:
        import os

        os.makedirs(place, exist_ok=True)
        runs = len(os.listdir(place))
        open(os.path.join(place, str(runs)), "w").close()
        if runs < 2:
            raise ValueError(runs)
        return runs

    assert client.call("work", str(tmp_path / "runs")) == 2


@pytest.mark.parametrize(
    "options",
    [
        {"retries": -1},
        {"retries": 1001},
        {"retries": True},
        {"retries": 1.5},
        {"backoff": -0.1},
        {"backoff": 31},
        {"backoff": float("nan")},
        {"backoff": "1"},
        {"retry_on": 5},
        {"retry_on": (KeyboardInterrupt,)},
        {"retry_on": "not a name"},
        {"retry_on": [object]},
        {"retry_on": [f"a.B{i}" for i in range(33)]},
    ],
)
def test_what_cant_be_is_refused_before_anything_is_sent(
    client: Client, node: ComputeNode, options: dict[str, Any]
) -> None:
    with pytest.raises(UsageError, match=next(iter(options))):
        client.with_options(**options)
    with pytest.raises(UsageError, match=next(iter(options))):
        node.register(lambda: None, name="g", **options)


def test_aliases_of_loaded_modules_are_found() -> None:
    class Memory(RuntimeError):
        pass

    Memory.__module__, Memory.__qualname__ = "fake_torch", "OutOfMemoryError"
    import sys
    import types

    cuda = types.ModuleType("fake_torch.cuda")
    cuda.OutOfMemoryError = Memory  # type: ignore[attr-defined]
    sys.modules["fake_torch.cuda"] = cuda
    try:
        assert is_named(Memory, ["fake_torch.cuda.OutOfMemoryError"])
        assert is_named(Memory, ["fake_torch.OutOfMemoryError"])
        assert is_named(Memory, ["RuntimeError"])
        assert not is_named(Memory, ["OutOfMemoryError", "fake_torch.cuda.Other", "fake.OutOfMemoryError", "cuda"])
    finally:
        del sys.modules["fake_torch.cuda"]
