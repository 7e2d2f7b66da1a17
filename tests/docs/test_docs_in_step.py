"""The documentation says what the code says."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from easyremote import errors
from easyremote.core.strategies import known_strategies

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
UNITS = {"ms": 0.001, "": 1, "s": 1, "d": 86400, "KiB": 1024, "MiB": 1024**2, "GiB": 1024**3}


def rows(text: str) -> list[list[str]]:
    """The cells of each row of the tables, without heads and rules."""
    found: list[list[str]] = []
    lines = text.splitlines()
    for line, after in zip(lines, [*lines[1:], ""], strict=True):
        if line.startswith("|") and not line.startswith("| ---") and not after.startswith("| ---"):
            found.append([cell.strip() for cell in line.strip("|").split("|")])
    return found


def code_words(text: str) -> list[str]:
    return re.findall(r"`([^`]+)`", text)


def test_every_error_is_documented_with_its_parents_and_its_code() -> None:
    documented = {}
    for name, parents, code, *_ in rows((DOCS / "errors.md").read_text()):
        documented[code_words(name)[0]] = (code_words(parents), code_words(code)[0])
    true = {}
    for name in errors.__all__:
        cls = getattr(errors, name)
        true[name] = ([base.__name__ for base in cls.__bases__], cls.code)
    assert documented == true


def test_every_strategy_is_documented() -> None:
    names = [code_words(row[0])[0] for row in rows((DOCS / "strategies.md").read_text())]
    assert sorted(names) == sorted(known_strategies())


def test_strategies_that_are_called_the_same_are_the_same() -> None:
    from easyremote.core.strategies import make_strategy

    for name, picks in rows((DOCS / "strategies.md").read_text()):
        if match := re.search(r"the same as `(\w+)`", picks):
            assert type(make_strategy(code_words(name)[0])) is type(make_strategy(match[1])), name


def value_of(path: str) -> Any:
    """The value of e.g. `config.GatewaySettings.grace_s`, or `calls._KEPT.output`."""
    parts = path.split(".")
    for split in range(len(parts), 0, -1):
        try:
            value: Any = import_module(".".join(["easyremote", *parts[:split]]))
        except ModuleNotFoundError:
            continue
        for name in parts[split:]:
            value = value[name] if isinstance(value, dict) else getattr(value, name)
            value = value() if isinstance(value, type) else value  # settings: their defaults
        return value
    raise AssertionError(f"there is no {path}")


BOUNDS = [row for row in rows((DOCS / "bounds.md").read_text()) if row[3]]


@pytest.mark.parametrize("row", BOUNDS, ids=[row[3].strip("`") for row in BOUNDS])
def test_a_documented_bound_is_the_one_in_the_code(row: list[str]) -> None:
    number, unit = re.fullmatch(r"([\d.]+) ?(\w*)", row[1]).groups()  # type: ignore[union-attr]
    assert float(number) * UNITS[unit] == value_of(code_words(row[3])[0])


def test_every_dependency_has_its_reason() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
    ]
    names = {re.split(r"[\[<>=;~ ]", item)[0] for item in wanted} - {"easyremote"}
    documented = [code_words(row[0])[0] for row in rows((DOCS / "dependencies.md").read_text())]
    assert sorted(set(documented)) == sorted(documented)
    assert set(documented) == names


def test_what_is_said_not_to_be_imported_yet_is_not() -> None:
    found = [row for row in rows((DOCS / "dependencies.md").read_text()) if "nothing imports it yet" in row[1]]
    modules = {code_words(row[0])[0].replace("-", "_") for row in found}
    assert modules
    for path in (ROOT / "easyremote").rglob("*.py"):
        imported = set(re.findall(r"^\s*(?:from|import) (\w+)", path.read_text(), re.MULTILINE))
        assert not imported & modules, path


def test_the_layers_are_those_that_lint_holds() -> None:
    def exists(module: str) -> bool:
        package = ROOT / "easyremote"
        return (package / module / "__init__.py").exists() or (package / f"{module}.py").exists()

    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]["contracts"]
    layers = next(contract["layers"] for contract in contracts if contract["id"] == "layers")
    true = [{name for name in re.findall(r"\((\w+)\)", layer) if name[0] != "_" and exists(name)} for layer in layers]
    told = [set(code_words(row[0])) for row in rows((ROOT / "CONTRIBUTING.md").read_text())]
    assert told == [layer for layer in true if layer]


def test_the_strategy_of_ones_own_works_for_clients_elsewhere() -> None:
    """As documented: three processes, of which only the gateway's knows the strategy."""
    blocks = re.findall(r"^```python\n(.*?)^```$", (DOCS / "strategies.md").read_text(), re.MULTILINE | re.DOTALL)
    gateway = blocks[1] + (
        "server.start_background()\nprint(server.address, server.token, flush=True)\nimport sys; sys.stdin.read()\n"
    )
    elsewhere = (
        "import sys\nfrom easyremote import Client, ComputeNode, UsageError\n"
        "address, token = sys.argv[1:]\n"
        "node = ComputeNode(address, token=token).serve()\nclient = Client(address, token=token)\n"
        "node.register(lambda config: config + 1, name='train')\nconfig = 1\n"
        f"print({blocks[2].strip()})\n"
        "try:\n    client.call_with_config('train', {'strategy': 'fastest'}, 1)\n"
        "except UsageError as error:\n    print(error)\n"
        "node.stop()\nclient.close()\n"
    )
    python, pipe = [sys.executable, "-c"], subprocess.PIPE
    with subprocess.Popen([*python, gateway], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        found = process.stdout.readline().split()
        done = subprocess.run([*python, elsewhere, *found], capture_output=True, text=True, timeout=60)
        process.communicate()
    assert done.stderr == ""
    value, refusal = done.stdout.splitlines()
    assert value == "2"
    assert refusal.startswith("unknown strategy 'fastest'")
    for name in [*known_strategies()[:5], "fastest_first"]:
        assert name in refusal


def test_the_batched_function_of_the_docs_works() -> None:
    define, call = re.findall(r"^```python\n(.*?)^```$", (DOCS / "batching.md").read_text(), re.MULTILINE | re.DOTALL)
    script = (
        "from easyremote import Client, Server\n"
        "with Server(port=0) as server:\n"
        f"{indented(define)}    with node, Client(server.address) as client:\n    {indented('print(' + call.strip() + ')')}"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert (done.stdout, done.stderr) == ("9 bytes, with 0 others\n", "")


def indented(code: str) -> str:
    return "".join(f"    {line}" for line in code.splitlines(keepends=True))


def test_the_example_of_retries_prints_what_is_said(tmp_path: Path) -> None:
    text = (DOCS / "failures.md").read_text()
    (code, expected) = re.search(
        r"^```python\n(.*?)^```\n\n```text\n(.*?)^```$", text, re.MULTILINE | re.DOTALL
    ).groups()  # type: ignore[union-attr]
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, timeout=60)
    assert re.sub(r"on node '[^']*'", "on node 'NODE'", done.stdout) == expected
