from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import COMMAND, GATEWAY, NODE, RECIPES, Program
from tests.conftest import wait_until

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("node")]

Start = Callable[..., Program]
Run = Callable[..., Any]


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, dict[str, Any]]]:
    """A node for all of these tests: the folder of its functions, and what its gateway's line says."""
    folder, runtime = tmp_path_factory.mktemp("box"), tmp_path_factory.mktemp("run")
    (folder / "recipes.py").write_text(RECIPES)
    programs: list[Program] = []
    with pytest.MonkeyPatch.context() as patch:
        for name in ("RUNTIME", "STATE", "CONFIG"):
            patch.setenv(f"EASYREMOTE_{name}_DIR", str(runtime))
        try:
            for arguments, last in ((GATEWAY, "\n"), (NODE, "Ctrl-C stops the node.")):
                programs.append(Program((*COMMAND, *arguments), folder))
                programs[-1].wait_for(last)
            yield folder, json.loads(programs[0].stdout)
        finally:
            for program in reversed(programs):
                program.close()


@pytest.fixture(autouse=True)
def runtime_folder(box: object) -> Path:
    return Path(os.environ["EASYREMOTE_RUNTIME_DIR"])


@pytest.fixture
def gateway(box: tuple[Path, dict[str, Any]]) -> dict[str, Any]:
    return box[1]


@pytest.fixture
def node(box: object) -> None:
    """The one of all tests."""


@pytest.fixture
def folder(box: tuple[Path, dict[str, Any]]) -> Path:
    (box[0] / "stopped").unlink(missing_ok=True)
    return box[0]


def test_a_result_and_what_the_function_prints(run: Run) -> None:
    outcome = run("call", "add", "1", "b=4")
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "adding 1 4\n5\n", "")


def test_json_has_standard_output_for_itself(run: Run) -> None:
    outcome = run("call", "add", "1", "--json")
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (0, "3\n", "adding 1 2\n")


def test_arguments_arrive_as_they_were_meant(run: Run, gateway: dict[str, Any]) -> None:
    outcome = run(
        "call", "echo", "-2", "-1.5e3", "true", "[1, null]", "NaN", '"3"', "x={}", "y=a=b", "z=-1", "--json",
        "--gateway", gateway["address"], "--node", "box", "--timeout", "30",
    )  # fmt: skip
    assert outcome.returncode == 0, outcome.stderr
    assert json.loads(outcome.stdout) == {
        "args": [-2, -1500.0, True, [1, None], "NaN", "3"],
        "kwargs": {"x": {}, "y": "a=b", "z": -1},
    }


def test_after_two_dashes_everything_is_an_argument(run: Run) -> None:
    outcome = run("call", "--json", "echo", "--", "--json", "-x", "-2")
    assert json.loads(outcome.stdout)["args"] == ["--json", "-x", -2]


def test_items_of_a_generator_come_one_by_one(run: Run) -> None:
    outcome = run("call", "count", "2")
    assert (outcome.returncode, outcome.stdout) == (0, "at 0\n{'i': 0}\nat 1\n{'i': 1}\n")
    outcome = run("call", "count", "2", "--json")
    assert (outcome.returncode, outcome.stdout) == (0, '{"i": 0}\n{"i": 1}\n')
    assert outcome.stderr == "at 0\nat 1\n"


def test_a_text_is_printed_as_it_is_and_nothing_as_nothing(run: Run) -> None:
    assert run("call", "greet").stdout == "good day\n"
    assert run("call", "greet", "--json").stdout == '"good day"\n'
    assert run("call", "nothing").stdout == "no newline\n"
    assert run("call", "nothing", "--json").stdout == "null\n"


def test_an_exception_shows_the_remote_lines_and_none_of_ours(run: Run, folder: Path) -> None:
    outcome = run("call", "fail", "mnist")
    assert (outcome.returncode, outcome.stdout) == (1, "")
    assert outcome.stderr.startswith("about to fail\nTraceback (most recent call last):\n")
    assert f'File "{folder}/recipes.py"' in outcome.stderr
    assert 'raise LookupError(f"no data set {name}")' in outcome.stderr
    assert "LookupError: no data set mnist\n" in outcome.stderr
    assert outcome.stderr.endswith("error: 'fail' raised LookupError on node 'box'\n")
    assert "easyremote/" not in outcome.stderr


def test_a_function_that_exits_does_not_end_us_with_its_code(run: Run) -> None:
    outcome = run("call", "leave")
    assert outcome.returncode == 1
    assert "'leave' raised SystemExit on node 'box'" in outcome.stderr


@pytest.mark.parametrize("as_json", [(), ("--json",)])
def test_an_unknown_function_names_close_ones(run: Run, as_json: tuple[str, ...]) -> None:
    outcome = run("call", "ad", "1", *as_json)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert outcome.stderr.startswith("error: no function 'ad' at the gateway")
    assert "did you mean add?" in outcome.stderr


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ((), "NAME"),
        (("add",), "missing a required argument: 'a'"),
        (("add", "1", "c=3"), "unexpected keyword argument 'c'"),
        (("add", "a=1", "a=2"), "the argument 'a' is given twice"),
        (("add", "1", "--timeout", "0"), "timeout is a number above 0"),
        (("add", "1", "--timeout", "-1"), "timeout is a number above 0"),
        (("add", "1", "--timeout", "soon"), "--timeout"),
        (("add", "1", "--bogus"), "--bogus"),
        (("add", "1", "--gateway", "no address"), "is no gateway address"),
    ],
)
def test_wrong_usage(run: Run, arguments: tuple[str, ...], says: str) -> None:
    outcome = run("call", *arguments)
    assert (outcome.returncode, outcome.stdout) == (2, "")
    assert says in outcome.stderr


def test_a_node_that_is_not_there(run: Run) -> None:
    outcome = run("call", "add", "1", "--node", "attic")
    assert outcome.returncode == 3
    assert "node 'attic' isn't connected" in outcome.stderr


def test_a_timeout_stops_the_function(run: Run, folder: Path) -> None:
    outcome = run("call", "endless", str(folder), "--timeout", "0.5")
    assert outcome.returncode == 3
    assert "took longer than its timeout on node 'box'" in outcome.stderr
    wait_until((folder / "stopped").exists)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupt_stops_the_function(start: Start, folder: Path, number: signal.Signals, code: int) -> None:
    call = start("call", "endless", str(folder))
    call.wait_for("started")
    assert call.stop(number) == code
    assert "Traceback" not in call.stderr
    wait_until((folder / "stopped").exists)


def test_output_appears_while_the_function_runs(start: Start, folder: Path) -> None:
    call = start("call", "endless", str(folder), "--json")
    call.wait_for("started")
    assert call.process.poll() is None
    assert (call.stdout, call.stderr) == ("", "started\n")
    call.stop(signal.SIGINT)


def test_a_reader_that_has_enough_stops_the_generator(folder: Path) -> None:
    command = subprocess.list2cmdline(COMMAND)
    script = f"set -o pipefail; {command} call count 1000000 --json 2>/dev/null | head -1"
    outcome = subprocess.run(["bash", "-c", script], capture_output=True, text=True, cwd=folder, timeout=60)
    assert (outcome.returncode, outcome.stdout, outcome.stderr) == (141, '{"i": 0}\n', "")


def test_a_terminal_gets_colours_and_a_bar(folder: Path) -> None:
    shown = in_terminal(folder, "call", "steps", "8")
    assert "[########################] 8/8 epoch" in shown
    assert shown.splitlines()[-1].endswith("\x1b[32m'loss'\x1b[0m: \x1b[1;36m0.5\x1b[0m\x1b[1m}\x1b[0m")


def test_a_long_list_fills_the_lines_of_a_terminal(folder: Path) -> None:
    lines = in_terminal(folder, "call", "echo", *map(str, range(100))).splitlines()
    assert len(lines) < 10
    assert "98" in lines[-2] or "98" in lines[-1]


def test_a_terminal_gets_errors_in_colour_unless_it_does_not_want_to(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "\x1b[1;31merror:\x1b[0m 'fail' raised" in in_terminal(folder, "call", "fail", "x")
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in in_terminal(folder, "call", "fail", "x")


def test_a_terminal_is_told_that_a_call_waits(start: Start, folder: Path) -> None:
    calls = [start("call", "endless", str(folder)) for _ in range(2)]  # both slots
    for call in calls:
        call.wait_for("started")
    shown = in_terminal(folder, "call", "greet", "--timeout", "2")
    for call in calls:
        call.stop(signal.SIGINT)
    assert "'greet' waits for a node that is free ...\n" in shown
    assert "was still waiting for a node" in shown


def in_terminal(folder: Path, *arguments: str) -> str:
    """What a terminal would show."""
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
    process = subprocess.Popen(
        (*COMMAND, *arguments), stdin=theirs, stdout=theirs, stderr=theirs, cwd=folder, env=environment
    )
    os.close(theirs)
    shown = b""
    try:
        while piece := os.read(ours, 65536):
            shown += piece
    except OSError:  # the other end is closed
        pass
    os.close(ours)
    process.wait(30)
    return shown.decode().replace("\r\n", "\n")
