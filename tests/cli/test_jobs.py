"""Jobs from a terminal."""

from __future__ import annotations

import json
import pickle
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.cli.conftest import Program

Run = Callable[..., "subprocess.CompletedProcess[str]"]


def submitted(run: Run, *arguments: str) -> str:
    done = run("call", *arguments, "--durable")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_job_is_submitted_listed_and_collected(gateway: dict[str, Any], node: Program, run: Run) -> None:
    job = submitted(run, "add", "1", "b=4")
    assert len(job) == 32
    done = run("result", job[:10])
    assert (done.stdout, done.returncode) == ("5\n", 0), done.stderr
    (line,) = run("jobs", "--json").stdout.splitlines()
    record = json.loads(line)
    assert (record["id"], record["title"], record["state"], record["node"]) == (job, "add", "succeeded", "box")
    listed = run("jobs").stdout
    assert job[:8] in listed and "succeeded" in listed
    assert run("logs", job[:10]).stdout == "adding 1 4\n"
    assert run("logs", job[:10], "-f").stdout == "adding 1 4\n"
    forgotten = run("cancel", job, "--forget")
    assert forgotten.stdout == f"Job {job[:8]} ('add') had ended already, and is forgotten.\n"
    assert "keeps no jobs" in run("jobs").stdout
    gone = run("result", job)
    assert gone.returncode == 2 and f"keeps no job '{job}'" in gone.stderr


def test_items_and_files(node: Program, run: Run, folder: Path) -> None:
    job = submitted(run, "count", "3")
    done = run("result", job, "--json")
    assert [json.loads(line) for line in done.stdout.splitlines()] == [{"i": 0}, {"i": 1}, {"i": 2}]
    assert done.stderr == ""
    saved = run("result", job, "--save", "items.pickle")
    assert saved.returncode == 0 and "items.pickle" in saved.stderr
    assert pickle.loads((folder / "items.pickle").read_bytes()) == [{"i": 0}, {"i": 1}, {"i": 2}]
    refused = run("result", job, "--save", "nowhere/items.pickle")
    assert refused.returncode == 2 and "can't be written" in refused.stderr


def test_a_job_that_failed(node: Program, run: Run) -> None:
    job = submitted(run, "fail", "mnist")
    done = run("result", job)
    assert done.returncode == 1
    assert "'fail' raised LookupError on node 'box'" in done.stderr and "_load(name)" in done.stderr
    logs = run("logs", job, "-f")
    assert logs.returncode == 0
    assert logs.stderr.startswith("about to fail\n") and "LookupError: no data set mnist" in logs.stderr
    assert "LookupError: no data set mnist" in run("jobs").stdout


def test_ctrl_c_ends_the_reading_and_cancel_the_job(
    node: Program, run: Run, start: Callable[..., Program], folder: Path
) -> None:
    job = submitted(run, "endless", str(folder))
    logs = start("logs", job[:8], "-f")
    logs.wait_for("started")
    assert logs.stop(signal.SIGINT) == 130
    waiting = run("result", job, "--timeout", "0.2")
    assert waiting.returncode == 3 and "it goes on" in waiting.stderr
    assert json.loads(run("jobs", "--json").stdout)["state"] == "running"
    cancelled = run("cancel", job[:8])
    assert cancelled.stdout == f"Job {job[:8]} ('endless') was told to stop.\n"
    ended = run("result", job)
    assert ended.returncode == 3 and "cancelled from a terminal" in ended.stderr


def test_jobs_go_on_when_the_gateway_is_started_again(start: Callable[..., Program], run: Run, tmp_path: Path) -> None:
    first = start("gateway", "--port", "0", "--json", "--journal", str(tmp_path / "mine.sqlite"))
    first.wait_for("\n")
    box = start("node", "recipes:add", "--name", "box", "--gateway", json.loads(first.stdout)["address"])
    box.wait_for("Ctrl-C stops the node.")
    job = submitted(run, "add", "2")
    assert run("result", job).stdout == "4\n"
    assert first.stop(signal.SIGTERM) == 0
    second = start("gateway", "--port", "0", "--json", "--journal", str(tmp_path / "mine.sqlite"))
    second.wait_for("\n")
    assert run("result", job).stdout == "4\n"


def test_a_gateway_may_keep_no_jobs(start: Callable[..., Program], run: Run) -> None:
    program = start("gateway", "--port", "0", "--json", "--no-jobs")
    program.wait_for("\n")
    done = run("jobs")
    assert done.returncode == 3 and "keeps no jobs" in done.stderr
