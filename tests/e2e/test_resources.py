"""What calls need and what they get, through a real gateway."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import pytest

import easyremote
from easyremote import Client, ComputeNode, CurrentCall, InsufficientResources, NoNodeAvailable, Server, UsageError
from tests.conftest import wait_until


class Meeting:
    """A function that counts who is in it, and lets them out when it is told to."""

    def __init__(self) -> None:
        self.inside = 0
        self.most = 0
        self.gpus: list[tuple[int, ...]] = []
        self.open = threading.Semaphore(0)
        self._lock = threading.Lock()

    def __call__(self, name: str = "") -> str:
        current = easyremote.current_call()
        assert current is not None
        with self._lock:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.gpus.append(current.gpus)
        assert self.open.acquire(timeout=60)
        with self._lock:
            self.inside -= 1
        return name


def test_a_function_declares_what_it_needs_and_no_more_of_it_run_than_fit(server: Server, client: Client) -> None:
    meeting = Meeting()
    with ComputeNode(server.address, "a", slots=8, gpus=2, gpu_memory="16GiB", cpus=4) as node:
        node.register(meeting, name="f", gpus=1, gpu_memory="12GiB", cpus=1)
        calls = [client.submit("f", str(i)) for i in range(5)]
        wait_until(lambda: meeting.inside == 2)
        assert sorted(meeting.gpus) == [(0,), (1,)]
        meeting.open.release(5)
        assert [call.result() for call in calls] == list("01234")
        assert meeting.most == 2
        (info,) = client.list_functions()
        assert info.needs == {"cpus": 1.0, "gpus": 1, "gpu_memory": "12 GiB"}


def test_max_concurrency_holds_for_one_function_and_leaves_the_other_slots_to_others(
    server: Server, client: Client
) -> None:
    meeting = Meeting()
    with ComputeNode(server.address, "a", slots=4) as node:
        node.register(meeting, name="f", max_concurrency=1)

        @node.register(max_concurrency=2)
        def other() -> int:
            return 1

        calls = [client.submit("f") for _ in range(3)]
        wait_until(lambda: meeting.inside == 1)
        assert [client.call("other") for _ in range(5)] == [1] * 5
        meeting.open.release(3)
        for call in calls:
            call.result()
        assert meeting.most == 1


def test_what_no_node_could_ever_have_fails_in_well_under_a_second(server: Server, client: Client) -> None:
    with ComputeNode(server.address, "a", cpus=2, memory="1GiB", gpus=0, labels={"zone": "lab"}) as node:
        node.register(len, name="f")
        began = time.monotonic()
        with pytest.raises(InsufficientResources, match=r"gpus=1 \(no node has a GPU\)") as caught:
            client.with_options(gpus=1, memory="2GiB").call("f", [])
        assert time.monotonic() - began < 1
        assert isinstance(caught.value, NoNodeAvailable)
        assert caught.value.details["most_memory"] == "1 GiB"
        with pytest.raises(InsufficientResources, match="zone=roof"):
            client.call_with_config("f", {"labels": {"zone": "roof"}}, [])
        assert client.call_with_config("f", {"labels": {"zone": "lab"}, "cpus": 2}, []) == 0


def test_a_shipped_function_says_what_it_needs_too_and_registering_it_needs_nothing(
    server: Server, client: Client
) -> None:
    def pinned() -> Any:
        current = easyremote.current_call()
        return os.environ.get("CUDA_VISIBLE_DEVICES"), current.gpus if current is not None else None

    pinned.__module__ = "__main__"
    with ComputeNode(server.address, "a", slots=4, gpus=[3, 5], gpu_memory="8GiB") as node:
        busy = Meeting()
        node.register(busy, name="busy", gpus=2)
        call = client.submit("busy")
        wait_until(lambda: busy.inside == 1)
        there = client.with_options(gpus=1).node("a")  # both are taken: registering must not wait for one
        there.register(pinned, gpus=1)
        busy.open.release()
        call.result()
        assert client.call("pinned") == ("3", (3,))
        assert client.with_options(gpus=2).call("pinned") == ("3,5", (3, 5))
        assert client.with_options(gpus=0).call("pinned") == (None, ())


@pytest.mark.parametrize("isolation", ["thread", "process"])
def test_calls_that_run_together_have_one_gpu_together(server: Server, client: Client, isolation: str) -> None:
    def where(numbers: list[int]) -> list[Any]:
        current = easyremote.current_call()
        assert current is not None
        return [(number, current.gpus) for number in numbers]

    where.__module__ = "__main__"
    with ComputeNode(server.address, "a", slots=2, gpus=2) as node:
        node.register(where, batch=4, gpus=1, isolation=isolation)
        blocker = Meeting()
        node.register(blocker, name="blocker", gpus=1)
        blocked = client.submit("blocker")
        wait_until(lambda: blocker.inside == 1)
        (taken,) = blocker.gpus[0]
        calls = [client.submit("where", number) for number in range(20)]
        assert [call.result() for call in calls] == [(number, (1 - taken,)) for number in range(20)]
        blocker.open.release()
        blocked.result()
        with pytest.raises(UsageError, match="run together"):
            client.with_options(gpus=2).call("where", 1)


def test_a_function_knows_its_call(server: Server, client: Client) -> None:
    assert easyremote.current_call() is None

    def facts() -> Any:
        current = easyremote.current_call()
        assert current is not None
        left = None if current.deadline is None else current.deadline - __import__("time").monotonic()
        return current, left

    facts.__module__ = "__main__"
    with ComputeNode(server.address, "a", slots=2) as node:
        node.register(facts, name="here")
        node.register(facts, name="apart", isolation="process")
        for name in ("here", "apart"):
            call = client.with_options(timeout=50, run_timeout=30).submit(name)
            current, left = call.result()
            assert current == CurrentCall(call.call_id, "a", 1, (), current.deadline)
            assert 0 < left <= 30
            assert client.call(name)[1] is None


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"gpus": -1}, "gpus is a whole number from 0 to 64"),
        ({"gpus": 1.5}, "gpus is a whole number"),
        ({"gpu_memory": "12 gigs"}, "gpu_memory is a size such as"),
        ({"memory": True}, "memory is a size such as"),
        ({"cpus": "2"}, "cpus is a number of processors"),
        ({"slots": 0}, "slots is a whole number from 1 to 4096"),
        ({"labels": ["zone"]}, "labels is a mapping"),
        ({"labels": {"zone": 1}}, "labels is a mapping"),
        ({"gpu": 1}, "gpu"),
    ],
)
def test_what_can_not_be_needed_is_refused_at_once(client: Client, wrong: dict[str, Any], says: str) -> None:
    with pytest.raises(UsageError, match=says):
        client.with_options(**wrong)
    node = ComputeNode("127.0.0.1:1")
    with pytest.raises(UsageError, match=says):
        node.register(len, name="f", **wrong)


@pytest.mark.parametrize("wrong", [{"gpus": "all"}, {"gpus": [0, 0]}, {"memory": "much"}, {"cpus": -1}])
def test_what_can_not_be_offered_is_refused_at_once(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        ComputeNode("127.0.0.1:1", **wrong)


def test_what_runs_when_the_gateway_is_replaced_keeps_what_it_has(gateway_process: Any) -> None:
    meeting = Meeting()
    address, token = gateway_process()
    with ComputeNode(address, "a", token=token, slots=8, gpus=2) as node, Client(address, token=token) as client:
        node.register(meeting, name="f", gpus=1)
        first = client.submit("f", "first")
        wait_until(lambda: meeting.inside == 1)
        gateway_process.kill()
        gateway_process()
        wait_until(lambda: node.is_connected and client.is_connected)
        calls = [client.submit("f", str(i)) for i in range(3)]
        wait_until(lambda: meeting.inside == 2)
        assert sorted(meeting.gpus) == [(0,), (1,)]
        meeting.open.release(4)
        assert first.result() == "first"
        assert [call.result() for call in calls] == ["0", "1", "2"]
        assert meeting.most == 2
