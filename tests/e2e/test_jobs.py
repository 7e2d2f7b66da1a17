"""Jobs: calls that outlive the client that made them, and the gateway's process."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from easyremote import (
    BadArguments,
    CallCancelled,
    CallLost,
    Client,
    ComputeNode,
    DeadlineExceeded,
    GatewaySettings,
    Job,
    JobNotFound,
    JobSettings,
    JobsUnavailable,
    OverloadedError,
    PayloadError,
    Server,
    UsageError,
)
from easyremote.reporting import progress
from tests.conftest import free_port, wait_until

GATEWAY = """
import sys
from easyremote import Server
server = Server(port=int(sys.argv[1]), token='a-token-that-stays-the-same', journal=sys.argv[2]).start_background()
print('up', flush=True)
server.wait()
"""

TOKEN = "a-token-that-stays-the-same"


class Gateway:
    """A gateway as a process, with the same port and journal each time it is started."""

    def __init__(self, journal: Path) -> None:
        self.port = free_port()
        self.address = f"127.0.0.1:{self.port}"
        self.journal = journal
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> float:
        """Returns how long it took to be there."""
        began = time.monotonic()
        command = [sys.executable, "-c", GATEWAY, str(self.port), str(self.journal)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "up\n"
        return time.monotonic() - began

    def kill(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def client(self) -> Client:
        return Client(self.address, token=TOKEN)

    def node(self, name: str = "n", **settings: Any) -> ComputeNode:
        return ComputeNode(self.address, name, token=TOKEN, **settings)


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Gateway]:
    made = Gateway(tmp_path / "jobs.sqlite")
    made.start()
    yield made
    made.kill()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    with Server(port=0, journal=tmp_path / "jobs.sqlite") as running:
        yield running


def add(node: ComputeNode) -> None:
    node.register(lambda a, b: a + b, name="add")


def test_a_job_is_a_call_that_is_found_again_by_its_id(server: Server, client: Client, node: ComputeNode) -> None:
    add(node)
    job = client.submit_job("add", 1, 2)
    assert isinstance(job, Job)
    assert job.result(30) == 3 and job.state == "succeeded"
    with Client(server.address) as other:
        again = other.job(job.id[:8])
        assert again.id == job.id
        assert again.result(30) == 3
        (record,) = other.jobs()
        assert (record.id, record.title, record.state, record.node) == (job.id, "add", "succeeded", "node-a")
        assert record.attempts == 1 and record.kept_bytes > 0 and record.error == ""
        assert record.created <= record.started <= record.ended < record.expires  # type: ignore[operator]


def test_durable_is_an_option_like_the_others(client: Client, node: ComputeNode) -> None:
    add(node)
    durable = client.with_options(durable=True, label="sum")
    job = durable.submit("add", 1, b=2)
    assert isinstance(job, Job) and job.result(30) == 3
    assert durable.call("add", 2, 2) == 4
    assert [record.title for record in client.jobs()] == ["sum", "sum"]
    assert not isinstance(client.submit("add", 1, 2), Job)
    with pytest.raises(UsageError, match="submit_jobs"):
        durable.map("add", [1], [2])
    with pytest.raises(BadArguments, match="submit_job"):
        client.submit("add", 1, 2, durable=True)


def test_a_function_that_has_a_parameter_named_durable_gets_it(client: Client, node: ComputeNode) -> None:
    node.register(lambda durable: durable, name="f")
    assert client.submit_job("f", durable="mine").result(30) == "mine"


def test_a_shipped_function_can_be_a_job(client: Client, node: ComputeNode) -> None:
    factor = 3
    assert client.submit_job(lambda x: x * factor, 14).result(60) == 42


def test_a_cell_can_be_a_job_in_a_namespace_that_lasts_or_in_one_of_its_own(client: Client, node: ComputeNode) -> None:
    from easyremote.notebook.cells import close_session, submit_cell

    def run(source: str, session_id: str) -> Job[Any]:
        job = submit_cell(client.with_options(durable=True), source, node=node.node_id, session_id=session_id)
        assert isinstance(job, Job)
        return job

    assert run("x = 40\nx + 1", "mine").result(60) == 41
    again = run("x + 2", "mine")
    assert again.result(60) == 42 and again.outcome()["names"] == {}
    assert client.job(again.id).result(60) == 42 and client.jobs()[0].kind == "cell"
    with pytest.raises(NameError):
        run("x", "").result(60)
    closing = run("import time\ntime.sleep(0.5)\nx", "mine")
    wait_until(lambda: closing.status().state == "running")
    close_session(client, node.node_id, "mine")  # its notebook has gone; the job in it goes on
    assert closing.result(60) == 40
    with pytest.raises(NameError):
        run("x", "mine").result(60)


def test_many_jobs_are_submitted_together(client: Client, node: ComputeNode) -> None:
    add(node)
    jobs = client.submit_jobs("add", range(300), range(300))
    assert [job.result(60) for job in jobs] == [2 * i for i in range(300)]
    assert len(client.jobs()) == 300 and len(client.jobs(limit=7)) == 7


def test_a_job_works_with_what_takes_futures(client: Client, node: ComputeNode) -> None:
    add(node)
    jobs = client.submit_jobs("add", range(4), range(4))
    done, _ = concurrent.futures.wait(jobs, timeout=60)
    assert done == set(jobs)
    told: list[Any] = []
    called = threading.Event()
    late = client.job(jobs[1].id)
    late.add_done_callback(lambda job: (told.append(job.result()), called.set()))
    assert called.wait(30) and told == [2]

    async def wait() -> Any:
        return await client.job(jobs[2].id)

    assert asyncio.run(wait()) == 4


def test_an_error_is_kept_and_raised_again(client: Client, node: ComputeNode) -> None:
    def fail() -> None:
        raise LookupError("no such data set")

    node.register(fail)
    job = client.submit_job("fail")
    for reader in (job, client.job(job.id)):
        with pytest.raises(LookupError, match="no such data set"):
            reader.result(30)
    assert job.status().state == "failed"
    assert job.status().error == "LookupError: no such data set"


def test_what_it_brought_is_replayed_from_the_first_event_and_then_live(
    client: Client, node: ComputeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    go_on = threading.Event()
    half = threading.Event()

    def talk() -> Any:
        for i in range(20):
            print("line", i)
            yield i
            if i == 9:
                half.set()
                go_on.wait(60)

    node.register(talk)
    job = client.submit_job("talk")
    wait_until(half.is_set)
    early = client.job(job.id)
    items = iter(early)
    first = [next(items) for _ in range(10)]
    go_on.set()
    assert first + list(items) == list(range(20))
    assert capsys.readouterr().out == "".join(f"line {i}\n" for i in range(20))
    late = client.job(job.id)
    assert late.result(30) == list(range(20))
    assert capsys.readouterr().out == "".join(f"line {i}\n" for i in range(20))


def test_progress_is_shown_in_the_list(client: Client, node: ComputeNode) -> None:
    go_on = threading.Event()

    def train() -> str:
        progress(1, 4, "epoch 1")
        go_on.wait(60)
        progress(4, 4, "epoch 4")
        return "trained"

    node.register(train)
    job = client.submit_job("train")
    wait_until(lambda: job.status().progress == 0.25)
    assert job.status().state == "running" and job.status().progress_text == "epoch 1"
    go_on.set()
    assert job.result(30) == "trained"
    assert job.status().progress == 1.0


def test_two_readers_read_the_same(server: Server, client: Client, node: ComputeNode) -> None:
    def count(n: int) -> Any:
        yield from range(n)

    node.register(count)
    job = client.submit_job("count", 2000)
    results: list[list[int]] = [[], []]

    def read(number: int) -> None:
        with Client(server.address) as reader:
            for item in reader.job(job.id):
                results[number].append(item)

    threads = [threading.Thread(target=read, args=(number,)) for number in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert results == [list(range(2000))] * 2
    assert job.result(30) == list(range(2000))


def test_leaving_a_loop_leaves_the_job_alone(client: Client, node: ComputeNode) -> None:
    def count() -> Any:
        yield from range(100)

    node.register(count)
    job = client.submit_job("count")
    for item in job:
        if item == 3:
            break
    assert client.job(job.id).result(30) == list(range(100))


def test_a_cancelled_job_stops_and_keeps_what_it_brought(
    client: Client, node: ComputeNode, capsys: pytest.CaptureFixture[str]
) -> None:
    stopped = threading.Event()

    def endless() -> None:
        print("begun", flush=True)
        progress(1, 2)
        try:
            while True:
                time.sleep(0.01)
        finally:
            stopped.set()

    node.register(endless)
    job = client.submit_job("endless")
    wait_until(lambda: job.status().progress)  # so its output is on disk
    assert client.job(job.id).cancel("enough") is True
    with pytest.raises(CallCancelled, match="enough"):
        job.result(30)
    assert stopped.wait(30)
    assert job.status().state == "cancelled"
    capsys.readouterr()
    with pytest.raises(CallCancelled):
        client.job(job.id).result(30)
    assert capsys.readouterr().out == "begun\n"
    done = client.submit_job(lambda: 1)
    assert done.result(60) == 1
    assert done.cancel() is False


def test_a_forgotten_job_is_gone_with_its_files(
    server: Server, client: Client, node: ComputeNode, tmp_path: Path
) -> None:
    node.register(lambda x: x, name="same")
    job = client.submit_job("same", np.arange(100_000))
    assert job.result(30).sum() == np.arange(100_000).sum()
    folder = tmp_path / "jobs.sqlite.files"
    assert len(list(folder.iterdir())) == 2  # its argument and its result
    job.forget()
    wait_until(lambda: not list(folder.iterdir()))
    assert client.jobs() == []
    for ask in (job.status, job.forget, job.cancel, lambda: client.job(job.id)):
        with pytest.raises(JobNotFound):
            ask()


def test_large_arguments_and_results_and_items(client: Client, node: ComputeNode) -> None:
    array = np.arange(1_000_000, dtype=np.float64)

    def double(x: Any) -> Any:
        return x * 2

    def rows(x: Any) -> Any:
        for i in range(4):
            yield x[i::4]

    node.register(double)
    node.register(rows)
    job, stream = client.submit_job("double", array), client.submit_job("rows", array)
    for reader in (job, client.job(job.id)):
        assert np.array_equal(reader.result(60), array * 2)
    assert all(np.array_equal(row, array[i::4]) for i, row in enumerate(client.job(stream.id)))
    data = array[:300_000].copy()
    shipped = client.submit_job(lambda: data.sum())
    assert shipped.result(60) == data.sum()


def test_an_id_that_several_have_or_none(client: Client, node: ComputeNode) -> None:
    add(node)
    client.submit_jobs("add", range(20), range(20))  # 20 of 16 first digits: two share one
    ids = [record.id for record in client.jobs()]
    shared = next(digit for digit in "0123456789abcdef" if sum(i.startswith(digit) for i in ids) > 1)
    with pytest.raises(UsageError, match="several jobs"):
        client.job(shared)
    for wrong in ("", "xyz", "0" * 40):
        with pytest.raises(UsageError):
            client.job(wrong)


def test_a_gateway_without_a_journal_says_what_to_do(node_without_journal: Client) -> None:
    for ask in (lambda: node_without_journal.submit_job("add", 1, 2), node_without_journal.jobs):
        with pytest.raises(JobsUnavailable, match=r"journal=True"):
            ask()
    assert node_without_journal.call("add", 1, 2) == 3


@pytest.fixture
def node_without_journal() -> Iterator[Client]:
    with Server(port=0) as server, ComputeNode(server.address) as node, Client(server.address) as client:
        add(node)
        yield client


def test_looking_for_jobs_makes_no_journal(runtime_folder: Path) -> None:
    with Server(port=0, journal=True) as server, Client(server.address) as client:
        assert client.jobs() == []
        assert not (runtime_folder / "state").exists()


def test_the_journal_is_this_users_alone(runtime_folder: Path) -> None:
    with Server(port=0, journal=True) as server, ComputeNode(server.address) as node, Client(server.address) as client:
        add(node)
        assert client.submit_job("add", 1, 2).result(30) == 3
        files = list((runtime_folder / "state").iterdir())
        assert {path.name for path in files} >= {f"jobs-{server.port}.sqlite"}
        assert all(path.stat().st_mode & 0o077 == 0 for path in files)


def test_timeouts_of_jobs(client: Client, node: ComputeNode) -> None:
    node.register(lambda: time.sleep(60), name="sleep")
    short = client.with_options(timeout=0.3).submit_job("sleep")
    with pytest.raises(DeadlineExceeded):
        short.result(30)
    assert short.status().state == "failed"
    waiting = client.with_options(queue_timeout=0.3, node="nobody").submit_job("sleep")
    with pytest.raises(DeadlineExceeded):
        waiting.result(30)


def test_a_job_waits_for_a_node_that_comes_later(server: Server, client: Client) -> None:
    with ComputeNode(server.address, "first") as first:
        add(first)
        client.with_options(node="later").submit_job("add", 1, 2)
    job = client.job(client.jobs()[0].id)
    assert job.status().state == "queued"
    with ComputeNode(server.address, "later") as later:
        add(later)
        assert job.result(60) == 3


def test_a_job_whose_node_is_lost_runs_on_another(gateway: Gateway, tmp_path: Path) -> None:
    code = (
        "import sys, time\nfrom easyremote import ComputeNode\n"
        f"node = ComputeNode('{gateway.address}', 'lost', token='{TOKEN}')\n"
        "@node.register\ndef f():\n    print('first', flush=True); time.sleep(3600)\n"
        "node.serve()\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    try:
        with gateway.client() as client:
            wait_until(client.list_functions)
            job = client.submit_job("f")
            wait_until(lambda: job.status().state == "running")
            with gateway.node("other") as other:
                other.register(lambda: "second", name="f")
                process.kill()
                assert job.result(60) == "second"
                assert job.status().attempts == 2 and job.status().node == "other"
    finally:
        process.kill()
        process.wait()


def test_a_job_outlives_the_client_that_was_killed(gateway: Gateway, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    code = (
        "import os, signal\nfrom easyremote import Client\n"
        f"client = Client('{gateway.address}', token='{TOKEN}')\n"
        f"print(client.submit_job('wait', '{gate}').id, flush=True)\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    with gateway.node() as node:
        node.register(wait_for_file)
        node.register(wait_for_file, name="wait")
        killed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
        assert killed.returncode == -signal.SIGKILL
        with gateway.client() as client:
            job = client.job(killed.stdout.strip())
            wait_until(lambda: job.status().state == "running")
            gate.touch()
            assert job.result(60) == "it came"


def wait_for_file(path: str) -> str:
    while not os.path.exists(path):
        time.sleep(0.01)
    return "it came"


def test_queued_and_running_jobs_outlive_the_gateway(gateway: Gateway, tmp_path: Path) -> None:
    runs: list[int] = []
    gate = threading.Event()

    def count(number: int) -> Any:
        runs.append(number)
        for i in range(10):
            print(number, "at", i)
            yield i
            if i == 4:
                gate.wait(60)

    with gateway.node(slots=2) as node, gateway.client() as client:
        node.register(count)
        jobs = client.submit_jobs("count", range(6))
        wait_until(lambda: len(runs) == 2)
        gateway.kill()
        gate.set()  # they go on without it
        gateway.start()
        with gateway.client() as other:
            for job in jobs:
                assert other.job(job.id).result(90) == list(range(10))
        assert sorted(runs) == list(range(6)), "each was begun once"
        assert [job.result(60) for job in jobs] == [list(range(10))] * 6


def test_a_once_only_job_is_begun_once_though_the_gateway_is_killed(gateway: Gateway) -> None:
    runs: list[int] = []
    gate = threading.Event()

    def once() -> str:
        runs.append(1)
        gate.wait(60)
        return "done"

    with gateway.node() as node, gateway.client() as client:
        node.register(once)
        job = client.with_options(retries=0).submit_job("once")
        wait_until(lambda: runs)
        gateway.kill()
        gateway.start()
        gate.set()
        with gateway.client() as other:
            assert other.job(job.id).result(60) == "done"
    assert runs == [1]


def test_a_once_only_job_whose_node_vanished_meanwhile_is_lost(gateway: Gateway) -> None:
    began, gate = threading.Event(), threading.Event()

    def once() -> None:
        began.set()
        gate.wait(60)

    with gateway.client() as client:
        with gateway.node() as node:
            node.register(once)
            job = client.with_options(retries=0).submit_job("once")
            wait_until(began.is_set)
            wait_until(lambda: job.status().state == "running")
            gateway.kill()
            gate.set()
        gateway.start()
        with gateway.client() as other, pytest.raises(CallLost) as lost:
            other.job(job.id).result(60)
        assert lost.value.may_have_run


def test_a_result_that_the_gateway_took_is_there_after_it_was_killed(gateway: Gateway) -> None:
    array = np.arange(500_000)
    with gateway.client() as client:
        with gateway.node() as node:
            node.register(lambda x: x + 1, name="more")
            small, large = client.submit_job("more", 1), client.submit_job("more", array)
            wait_until(lambda: {job.state for job in client.jobs()} == {"succeeded"})
        gateway.kill()
        gateway.start()
        with gateway.client() as other:  # no node is there any more
            assert other.job(small.id).result(30) == 2
            assert np.array_equal(other.job(large.id).result(30), array + 1)


def test_large_arguments_that_wait_outlive_the_gateway(gateway: Gateway) -> None:
    array = np.arange(500_000)
    with gateway.client() as client:
        with gateway.node() as node:
            node.register(lambda x: x + 1, name="more")
            client.list_functions()
            job = client.with_options(node="later").submit_job("more", array)
        gateway.kill()
        gateway.start()
        with gateway.node("later") as later, gateway.client() as other:
            later.register(lambda x: x + 1, name="more")
            assert np.array_equal(other.job(job.id).result(60), array + 1)


def test_a_reader_goes_on_where_it_was_when_the_gateway_comes_back(gateway: Gateway) -> None:
    def count() -> Any:
        for i in range(60):
            time.sleep(0.02)
            yield i

    with gateway.node() as node, gateway.client() as client:
        node.register(count)
        items = []
        for item in client.submit_job("count"):
            items.append(item)
            if item in (10, 30):
                gateway.kill()
                gateway.start()
        assert items == list(range(60))


def test_jobs_survive_a_gateway_that_is_killed_at_any_moment(gateway: Gateway) -> None:
    """Kills at moments that have nothing to do with what goes on; what was acknowledged runs to its end, once."""
    runs: list[int] = []

    def work(number: int) -> Any:
        runs.append(number)
        for i in range(5):
            print(number, i)
            time.sleep(0.004)
            yield number * 10 + i

    with gateway.node(slots=4) as node, gateway.client() as client:
        node.register(work)
        accepted: list[tuple[int, Job[Any]]] = []
        for round_ in range(5):
            numbers = range(round_ * 12, round_ * 12 + 12)
            accepted += [(number, client.submit_job("work", number)) for number in numbers]
            gateway.kill()
            gateway.start()
        with gateway.client() as other:
            for number, job in accepted:
                assert other.job(job.id).result(90) == [number * 10 + i for i in range(5)]
    assert set(runs) == set(range(60))


def test_a_gateway_is_ready_soon_with_many_queued_jobs(gateway: Gateway) -> None:
    with gateway.node() as node, gateway.client() as client:
        node.register(lambda i: i, name="f")
        client.with_options(node="later").submit_jobs("f", range(10_000))
    gateway.kill()
    assert gateway.start() < 5
    with gateway.client() as client, gateway.node("later", slots=8) as later:
        later.register(lambda i: i, name="f")
        wait_until(lambda: client.job(client.jobs(limit=1)[0].id).status().state == "succeeded", 60)
        states = [job.state for job in client.jobs()]
        assert len(states) == 10_000 and set(states) == {"succeeded"}


def test_the_same_job_submitted_twice_is_one(client: Client, node: ComputeNode) -> None:
    from easyremote import jobs
    from easyremote.bundling import Target
    from easyremote.wire import codec
    from easyremote.wire.v1 import gateway_pb2 as pb

    add(node)
    submit, _ = jobs.submission(client._connection, Target("add", pb.Options()), codec.encode_arguments((1, 2), {}))
    request = pb.JobRequest(keep=pb.JobRequest.Keep(submits=[submit, submit]))
    for _ in range(2):
        answer = client._connection.ask_job(request)
        assert not any(kept.HasField("error") for kept in answer.kept)
    assert len(client.jobs()) == 1
    other = pb.Submit()
    other.CopyFrom(submit)
    other.arguments.data = codec.encode_arguments((3, 4), {}).inline().data
    answer = client._connection.ask_job(pb.JobRequest(keep=pb.JobRequest.Keep(submits=[other])))
    assert answer.kept[0].error.code == "usage"


def limited(tmp_path: Path, **limits: Any) -> Server:
    return Server(port=0, journal=tmp_path / "small.sqlite", settings=GatewaySettings(jobs=JobSettings(**limits)))


def test_a_job_that_brings_too_much_is_stopped_and_says_so(tmp_path: Path) -> None:
    def flood() -> Any:
        while True:
            yield np.zeros(100_000)

    with limited(tmp_path, max_job_bytes=4_000_000) as server, ComputeNode(server.address) as node:
        node.register(flood)
        with Client(server.address) as client:
            job = client.submit_job("flood")
            with pytest.raises(PayloadError, match="4,000,000 bytes"):
                job.result(60)
            wait_until(lambda: client.list_nodes()[0].running == 0)
            with pytest.raises(UsageError, match="4,000,000"):
                client.submit_job(lambda x: x, np.zeros(1_000_000))


def test_output_beyond_its_bound_makes_room_and_says_so(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    def talk() -> str:
        for i in range(4000):
            print(f"line {i:05}", "x" * 200)
        return "said"

    with limited(tmp_path, max_output_bytes=200_000) as server, ComputeNode(server.address) as node:
        node.register(talk)
        with Client(server.address) as client:
            job = client.submit_job("talk")
            wait_until(lambda: job.status().state == "succeeded")
            assert job.status().dropped_events > 0 and job.status().kept_bytes < 400_000
            capsys.readouterr()
            assert client.job(job.id).result(30) == "said"
            shown = capsys.readouterr()
            assert "were left out" in shown.err
            assert shown.out.endswith(f"line 03999 {'x' * 200}\n") and "line 00000" not in shown.out


def test_collected_jobs_make_room_and_others_do_not(tmp_path: Path) -> None:
    with limited(tmp_path, max_jobs=3) as server, ComputeNode(server.address) as node, Client(server.address) as client:
        add(node)
        jobs = [client.submit_job("add", i, i) for i in range(3)]
        wait_until(lambda: {record.state for record in client.jobs()} == {"succeeded"})
        with pytest.raises(OverloadedError, match="3 jobs, the bound") as refused:
            client.submit_job("add", 9, 9)
        assert refused.value.retry_after_s > 0
        assert jobs[1].result(30) == 2
        wait_until(lambda: jobs[1].status().collected)
        fourth = client.submit_job("add", 9, 9)
        assert {record.id for record in client.jobs()} == {jobs[0].id, jobs[2].id, fourth.id}


def test_jobs_expire(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("easyremote.keeping.requests.EXPIRY_S", 0.05)
    with limited(tmp_path, expires_after_s=0.2) as server, ComputeNode(server.address) as node:
        add(node)
        with Client(server.address) as client:
            job = client.submit_job("add", 1, 2)
            wait_until(lambda: client.jobs() == [])
            with pytest.raises(JobNotFound):
                client.job(job.id)


def test_jobs_beyond_those_that_are_open_wait_on_disk(tmp_path: Path) -> None:
    with limited(tmp_path, max_open_jobs=5) as server, ComputeNode(server.address) as node:
        add(node)
        with Client(server.address) as client:
            jobs = client.submit_jobs("add", range(100), range(100))
            assert [job.result(60) for job in jobs] == [2 * i for i in range(100)]
            stuck = client.with_options(node="nobody").submit_jobs("add", range(6), range(6))
            last = client.submit_job("add", 1, 2)
            assert last.status().state == "queued"
            for job in stuck:
                assert job.cancel()
            assert last.result(30) == 3


def test_closing_a_client_ends_its_waiting_not_the_job(server: Server, node: ComputeNode) -> None:
    gate = threading.Event()
    node.register(lambda: gate.wait(60), name="wait")
    with Client(server.address) as client:
        job = client.submit_job("wait")
        assert not job.done()
        wait_until(lambda: job.status().state == "running")
    with pytest.raises(CallCancelled):
        job.result(30)
    gate.set()
    with Client(server.address) as other:
        assert other.job(job.id).result(30) is True


def test_waiting_for_a_job_can_time_out(client: Client, node: ComputeNode) -> None:
    gate = threading.Event()
    node.register(lambda: gate.wait(60), name="wait")
    job = client.submit_job("wait")
    with pytest.raises(TimeoutError):
        job.result(0.2)
    gate.set()
    assert job.result(30) is True


FULL_GATEWAY = """
import resource, signal, sys
from easyremote import Server
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
server = Server(port=int(sys.argv[1]), token='a-token-that-stays-the-same', journal=sys.argv[2]).start_background()
print('up', flush=True)
for line in sys.stdin:
    limit = int(line) if line.strip() != '-1' else resource.RLIM_INFINITY
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
    print('set', flush=True)
"""


def test_a_full_disk_refuses_jobs_and_keeps_running_ones_at_their_nodes(tmp_path: Path) -> None:
    """The kernel lets no file of the gateway grow, as a full disk would; nothing is lost, and all goes on afterwards."""
    port, journal = free_port(), tmp_path / "jobs.sqlite"
    command = [sys.executable, "-c", FULL_GATEWAY, str(port), str(journal)]
    process = subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdin is not None and process.stdout is not None

    def limit(count: int) -> None:
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(f"{count}\n")
        process.stdin.flush()
        assert process.stdout.readline() == "set\n"

    counted: list[int] = []
    go_on = threading.Event()

    def count() -> Any:
        for i in range(400):
            counted.append(i)
            print("at", i)
            yield i
            if i == 2:
                go_on.wait(60)

    try:
        assert process.stdout.readline() == "up\n"
        address = f"127.0.0.1:{port}"
        with ComputeNode(address, "n", token=TOKEN) as node, Client(address, token=TOKEN) as client:
            node.register(count)
            node.register(lambda x: x, name="same")
            job = client.submit_job("count")
            wait_until(lambda: len(counted) == 3)
            wait_until(lambda: job.status().state == "running")
            limit(1)  # not even the log's first page can be written
            go_on.set()
            with pytest.raises(JobsUnavailable, match="is the disk full") as refused:
                client.submit_job("same", 1)
            assert refused.value.retry_after_s > 0
            with pytest.raises(JobsUnavailable):
                client.submit_job("same", np.zeros(100_000))
            wait_until(lambda: len(counted) > 100)  # it goes on as far as its window lets it
            assert job.status().state == "running"  # what is there can be read
            assert client.call("same", 5) == 5  # other calls don't mind
            limit(-1)
            assert job.result(60) == list(range(400))
            assert client.submit_job("same", 7).result(30) == 7
            assert counted == list(range(400))
    finally:
        process.kill()
        _, errors = process.communicate()
    assert "jobs wait" in errors and "jobs go on" in errors


def test_a_handle_that_nobody_has_is_not_read_any_more(client: Client, node: ComputeNode) -> None:
    gate = threading.Event()
    node.register(lambda: gate.wait(60), name="wait")
    job_id = client.submit_job("wait").id
    for _ in range(20):
        assert not client.job(job_id).done()
    told = threading.Event()
    client.job(job_id).add_done_callback(lambda _: told.set())
    gc.collect()
    wait_until(lambda: sum(handle() is not None for handle in client._connection._readers.values()) == 1)
    gate.set()
    assert told.wait(30), "whoever gave a callback needn't keep the handle"
    wait_until(lambda: not client._connection._readers)


@pytest.fixture
def nothing_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    """As between machines: all values go through the gateway, in chunks."""
    monkeypatch.setenv("EASYREMOTE_SHARED_MEMORY", "0")
    monkeypatch.setenv("EASYREMOTE_LOCAL_SOCKET", "0")


def test_large_values_of_jobs_between_machines(nothing_shared: None, gateway: Gateway) -> None:
    array = np.arange(2_000_000.0)

    def rows(x: Any) -> Any:
        for i in range(3):
            yield x + i

    with gateway.node() as node, gateway.client() as client:
        node.register(rows)
        assert all(np.array_equal(row, array + i) for i, row in enumerate(client.submit_job("rows", array)))


def test_large_values_between_machines_outlive_the_gateway(nothing_shared: None, gateway: Gateway) -> None:
    array = np.arange(2_000_000.0)
    with gateway.node(slots=2) as node, gateway.client() as client:
        node.register(lambda x: x + 1, name="more")
        jobs: list[Job[Any]] = []
        for number in range(4):
            jobs.append(client.submit_job("more", array + number))
            gateway.kill()
            gateway.start()
        with gateway.client() as other:
            for number, job in enumerate(jobs):
                assert np.array_equal(other.job(job.id).result(90), array + number + 1)


@pytest.mark.parametrize("ask", [Job.result, Job.exception, list, lambda job: concurrent.futures.wait([job], 30)])
def test_a_job_of_a_closed_client_keeps_nobody_waiting(gateway: Gateway, ask: Callable[[Job[Any]], Any]) -> None:
    client = gateway.client()
    job = client.with_options(queue_timeout=60.0).submit_job(print)
    client.close()
    with contextlib.suppress(CallCancelled):
        ask(job)
    assert job.cancelled()
    assert job.done()
    assert job.state == "cancelled"


def test_arguments_of_a_job_that_is_refused_dont_stay_on_the_gateways_disk(tmp_path: Path) -> None:
    with limited(tmp_path, max_jobs=1) as server, Client(server.address) as client:
        waits = client.with_options(queue_timeout=600.0)
        waits.submit_job(print, np.zeros(100_000))
        with pytest.raises(OverloadedError, match="the bound"):
            waits.submit_job(print, np.ones(100_000))
        assert len(list((tmp_path / "small.sqlite.files").iterdir())) == 1


def test_a_journal_that_was_removed_takes_no_more_jobs_and_tells_what_it_has(tmp_path: Path) -> None:
    path = tmp_path / "jobs.sqlite"
    with Server(port=0, journal=path) as server, ComputeNode(server.address) as node, Client(server.address) as client:
        add(node)
        job = client.submit_job("add", 1, 2)
        assert job.result(30) == 3
        path.rename(tmp_path / "elsewhere.sqlite")
        with pytest.raises(JobsUnavailable, match="removed"):
            client.submit_job("add", 1, 3)
        assert client.job(job.id).result(30) == 3
        path.write_bytes(b"")
        with pytest.raises(JobsUnavailable, match="removed"):
            client.submit_job("add", 1, 4)
