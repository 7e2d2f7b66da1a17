"""The tasks of a bundle: each is begun once or given back once, whoever asks when."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from easyremote.errors import CallCancelled
from easyremote.execution.context import CallInterrupted
from easyremote.execution.tasks import Tasks, run_tasks
from easyremote.wire import codec


@pytest.fixture
def nervous_switching() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


class TasksModel(RuleBasedStateMachine):
    """Beside a plain model: a list of what is open."""

    @initialize(count=st.integers(0, 8), skipped=st.sets(st.integers(0, 9), max_size=3))
    def begin(self, count: int, skipped: set[int]) -> None:
        self.tasks = Tasks([bytes([number]) for number in range(count)], skipped)
        self.open = list(range(count))
        self.unwanted = set(skipped)
        self.running: int | None = None
        self.count = count

    @rule()
    def take(self) -> None:
        expected = self.open.pop(0) if self.open else None
        if expected is not None:
            self.running = expected
        if expected in self.unwanted:
            with pytest.raises(CallCancelled):
                self.tasks.take()
        else:
            assert self.tasks.take() == (None if expected is None else bytes([expected]))

    @rule()
    def give_back(self) -> None:
        assert self.tasks.give_back() == (self.open[0] if self.open else None)
        self.open.clear()

    @rule(numbers=st.lists(st.integers(0, 9), max_size=4))
    def skip(self, numbers: list[int]) -> None:
        self.unwanted |= set(numbers)
        assert self.tasks.skip(numbers) == (self.running is not None and self.running in numbers)

    @invariant()
    def counts(self) -> None:
        if hasattr(self, "tasks"):
            assert self.tasks.count == self.count


TestTasksModel = TasksModel.TestCase


@pytest.mark.slow
@pytest.mark.usefixtures("nervous_switching")
def test_each_task_is_taken_or_given_back_once_while_threads_race() -> None:
    for _ in range(300):
        count = 50
        tasks = Tasks([bytes([number]) for number in range(count)])
        taken: list[int] = []
        returned: list[int] = []
        start = threading.Barrier(3)

        def take(tasks: Tasks = tasks, taken: list[int] = taken, start: threading.Barrier = start) -> None:
            start.wait()
            while True:
                try:
                    data = tasks.take()
                except CallCancelled:
                    taken.append(-1)
                    continue
                if data is None:
                    return
                taken.append(data[0])

        def give_back(tasks: Tasks = tasks, returned: list[int] = returned, start: threading.Barrier = start) -> None:
            start.wait()
            tasks.skip([3, 47])
            first = tasks.give_back()
            if first is not None:
                returned.append(first)

        threads = [threading.Thread(target=work) for work in (take, give_back, give_back)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(returned) <= 1
        end = returned[0] if returned else count
        assert [number if number >= 0 else place for place, number in enumerate(taken)] == list(range(end))
        assert all(place in (3, 47) for place, number in enumerate(taken) if number < 0)


class Gathering:
    """An emitter that keeps what comes."""

    call_id = b"c" * 16
    node_id = "n"
    may_unpickle = True

    def __init__(self) -> None:
        self.came: list[Any] = []

    def item(self, value: Any) -> None:
        self.came.append(value)

    def failure(self, error: BaseException) -> None:
        self.came.append(type(error))

    def result(self, value: Any, is_exhausted: bool = False) -> None:
        self.came.append("end" if is_exhausted and value is None else "a wrong end")

    def failed(self, error: BaseException) -> None:
        self.came.append(("failed", type(error)))


def ran(function: Any, arguments: list[Any], skipped: tuple[int, ...] = ()) -> list[Any]:
    emitter: Any = Gathering()
    encoded = [bytes(codec.encode_arguments((argument,), {}).parts[0]) for argument in arguments]
    run_tasks(function, Tasks(encoded, skipped), emitter)
    return emitter.came


@given(kinds=st.lists(st.sampled_from(["value", "error", "exit", "generator", "async"]), max_size=12))
def test_each_task_has_one_outcome_in_its_place(kinds: list[str]) -> None:
    def function(kind: str) -> Any:
        if kind == "error":
            raise ValueError
        if kind == "exit":
            raise SystemExit(3)
        if kind == "generator":
            return (number for number in range(3))
        if kind == "async":
            return asyncio.sleep(0, "slept")
        return kind

    expected = {"value": "value", "error": ValueError, "exit": SystemExit, "generator": [0, 1, 2], "async": "slept"}
    assert ran(function, list(kinds)) == [*(expected[kind] for kind in kinds), "end"]


def test_unwanted_tasks_are_not_begun_and_keep_their_places() -> None:
    begun = []
    assert ran(begun.append, [0, 1, 2, 3], skipped=(1, 3)) == [None, CallCancelled, None, CallCancelled, "end"]
    assert begun == [0, 2]


@pytest.mark.parametrize("interrupt", [CallInterrupted, KeyboardInterrupt])
def test_an_interrupt_ends_them_all(interrupt: type[BaseException]) -> None:
    begun = []

    def function(number: int) -> int:
        begun.append(number)
        if number == 1:
            raise interrupt
        return number

    assert ran(function, [0, 1, 2]) == [0, ("failed", interrupt)]
    assert begun == [0, 1]


def test_arguments_that_do_not_fit_or_cannot_be_loaded_fail_their_own_task() -> None:
    emitter: Any = Gathering()
    fits, too_many = (bytes(codec.encode_arguments(args, {}).parts[0]) for args in ((1,), (1, 2)))
    run_tasks(lambda x: x, Tasks([fits, b"no pickle", too_many, fits]), emitter)
    first, broken, wrong, last, end = emitter.came
    assert (first, last, end) == (1, 1, "end")
    assert issubclass(broken, Exception)
    assert issubclass(wrong, TypeError)
