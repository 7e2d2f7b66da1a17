from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import easyremote
from easyremote.cli.status import gib, view
from easyremote.model import FunctionInfo, GatewayInfo, GpuInfo, NodeInfo
from easyremote.sizes import format_span
from tests.cli.conftest import Program

Run = Callable[..., Any]

GIB = 2**30
GPU = GpuInfo(0, "NVIDIA H100 80GB HBM3", "GPU-1", 40 * GIB, 80 * GIB, 97.0, 61.0, 645.0, held_bytes=12 * GIB, calls=2)
BUSY = NodeInfo(
    "gpu-box-01-3fa2c1", "connected", ("train",), 8, 3, 0.4, python="3.11.7", host="gpu-box-01.cluster.local", gpus=(GPU,),
    resources={"cpus": 128, "cpu_percent": 37.2, "memory_used_bytes": 213 * GIB, "memory_total_bytes": 1007 * GIB, "gpus": 1},
)  # fmt: skip
NEW = NodeInfo("laptop", "away", (), 4, 0, 0.0, python="3.12.1", host="laptop")
TRAIN = FunctionInfo("train", "(config: list[int]) -> dict", "async_generator", (BUSY.node_id,), "", "", False)


def shown(nodes: list[NodeInfo], functions: list[FunctionInfo]) -> str:
    screen = io.StringIO()
    Console(file=screen, width=100).print(
        view(GatewayInfo("127.0.0.1:8080", "3.0.0", 93784.0, 3, 1, 2), nodes, functions)
    )
    return screen.getvalue()


def test_the_tables_fit_a_hundred_columns() -> None:
    text = shown([BUSY, NEW], [TRAIN])
    assert "Gateway 127.0.0.1:8080  version 3.0.0, up 1 d 2 h, 2 running, 1 queued, 2 other clients" in text
    assert re.search(r"gpu-box-01-3fa2c1 +connected +3 of 8 +37 % +213 of 1007 GiB +1 +1 +gpu-box-01 +3\.11\.7", text)
    assert re.search(r"laptop +away +0 of 4 +0 +0 +laptop +3\.12\.1", text)
    assert re.search(r"0: NVIDIA H100 80GB HBM3 +97 % +40\.0 of 80 GiB +2: 12\.0 GiB +61 °C +645 W", text)
    assert re.search(r"train\(config: list\[int\]\) -> dict +async generator +gpu-box-01-3fa2c1", text)


def test_what_is_missing_is_said() -> None:
    assert "No node is connected. Add one with: easyremote join 127.0.0.1:8080" in shown([], [])
    text = shown([NEW], [])
    assert "No function is registered" in text
    assert "GPUs\n" not in text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (3700, "1 h 1 min"), (200_000, "2 d 7 h")]
)
def test_spans(seconds: float, text: str) -> None:
    assert format_span(seconds) == text


@pytest.mark.parametrize(
    ("used", "total", "text"), [(0.5, 15.9, "0.5 of 15.9 GiB"), (512.2, 1007.6, "512 of 1008 GiB")]
)
def test_sizes(used: float, total: float, text: str) -> None:
    assert gib(used * GIB, total * GIB) == text


@pytest.mark.slow
def test_status_of_a_gateway_with_a_node(run: Run, node: Program, gateway: dict[str, Any]) -> None:
    for arguments in ((), ("--gateway", gateway["address"])):
        outcome = run("status", *arguments)
        assert (outcome.returncode, outcome.stderr) == (0, "")
        assert f"Gateway {gateway['address']}  version {easyremote.__version__}" in outcome.stdout
        assert re.search(r"box +connected +0 of 2", outcome.stdout)
        assert re.search(r"add\(a: int, b: int = 2\) +function +box", outcome.stdout)
        assert re.search(r"count\(n\) +generator +box", outcome.stdout)


@pytest.mark.slow
def test_json_of_status(run: Run, node: Program, gateway: dict[str, Any]) -> None:
    outcome = run("status", "--json")
    assert (outcome.returncode, outcome.stderr, outcome.stdout.count("\n")) == (0, "", 1)
    facts = json.loads(outcome.stdout)
    assert facts["gateway"]["address"] == gateway["address"]
    assert [(item["node_id"], item["slots"], item["pid"]) for item in facts["nodes"]] == [("box", 2, node.process.pid)]
    assert {item["name"]: item["kind"] for item in facts["functions"]}["count"] == "generator"


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("status",), ("call", "add", "1"), ("node", "recipes:add")])
def test_without_any_gateway_the_places_that_were_looked_at_are_named(
    run: Run, arguments: tuple[str, ...], runtime_folder: Path
) -> None:
    outcome = run(*arguments)
    assert (outcome.returncode, outcome.stdout) == (3, "")
    assert "error: no gateway found" in outcome.stderr
    assert str(runtime_folder) in outcome.stderr


@pytest.mark.slow
@pytest.mark.parametrize("arguments", [("status",), ("call", "add", "1")])
def test_a_gateway_that_does_not_answer_is_given_up_after_two_seconds(
    run: Run, arguments: tuple[str, ...], stopwatch: Callable[[], float]
) -> None:
    outcome = run(*arguments, "--gateway", "127.0.0.1:1")
    assert (outcome.returncode, outcome.stdout) == (3, "")
    assert outcome.stderr.startswith("error: no gateway answers at 127.0.0.1:1")
    assert 1.5 < stopwatch() < 15


@pytest.mark.slow
def test_an_error_says_where_the_address_came_from(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYREMOTE_ADDRESS", "127.0.0.1:1")
    outcome = run("status")
    assert outcome.returncode == 3
    assert "no gateway answers at 127.0.0.1:1 (EASYREMOTE_ADDRESS)" in outcome.stderr


@pytest.mark.slow
def test_help_teaches(run: Run) -> None:
    text = run("--help").stdout
    for words in ("gateway", "join", "node", "call", "status", "Exit codes", "130  interrupted", "EASYREMOTE_TOKEN"):
        assert words in text
    for command in (
        "gateway",
        "join",
        "node",
        "call",
        "status",
        "jobs",
        "logs",
        "result",
        "cancel",
        "invite",
        "doctor",
        "tokens",
        "environments",
    ):
        text = run(command, "-h").stdout
        examples = 3 if command == "node" else 2
        assert len(re.findall(rf"^ +easyremote {command}\b", text, re.MULTILINE)) == examples, text


@pytest.mark.slow
def test_version(run: Run) -> None:
    assert run("--version").stdout.startswith(f"easyremote {easyremote.__version__} (Python ")


@pytest.mark.slow
def test_the_console_script_is_the_same(run: Run) -> None:
    script = Path(sys.executable).with_name("easyremote")
    assert run("--version", command=(str(script),)).stdout == run("--version").stdout


@pytest.mark.slow
def test_an_unknown_command_is_wrong_usage(run: Run) -> None:
    outcome = run("statsu")
    assert outcome.returncode == 2
    assert "statsu" in outcome.stderr


@pytest.mark.slow
def test_help_loads_none_of_what_the_commands_need() -> None:
    code = (
        "import sys; sys.argv = ['easyremote', '--help']\n"
        "from easyremote.cli.main import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'grpc', 'google.protobuf', 'cloudpickle', 'psutil', 'numpy', 'IPython', 'asyncio', 'easyremote.client'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    outcome = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (outcome.returncode, outcome.stderr) == (0, "")
