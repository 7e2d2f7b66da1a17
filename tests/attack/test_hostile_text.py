"""T12: what nodes and functions are called, and what they say of themselves, does nothing where it is shown."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest

from easyremote import Client, Server, foreign
from easyremote.discovery import find
from easyremote.notebook.bars import BarsView, _OneView
from easyremote.notebook.display import functions_table, nodes_table
from easyremote.presenting import progress_line
from easyremote.tables import Table
from easyremote.views import function_info, node_info
from easyremote.waiting import WaitingNote, explanation_of
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.attack.hostile import TEXTS, HostileNode, assert_html_is_harmless, assert_text_is_harmless, failure
from tests.conftest import wait_until

pytestmark = pytest.mark.attack

NAMES = {kind: text[:200] if text.isprintable() else f"{kind} node" for kind, text in TEXTS.items()}
"""What the gateway takes as names: the others it refuses."""

hostile = pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)


@pytest.fixture(scope="module")
def all_of_them(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A gateway with a node for each text, called so, with a function of that name, on a host called so."""
    folder = tmp_path_factory.mktemp("hostile")
    folder.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch, contextlib.ExitStack() as stack:
        patch.setenv("EASYREMOTE_RUNTIME_DIR", str(folder))
        server = stack.enter_context(Server(port=0, journal=folder / "jobs.sqlite"))
        endpoint = find(server.address, server.token)
        for kind, text in TEXTS.items():
            answers = {NAMES[kind]: lambda text=text: [failure(text)]}
            stack.enter_context(HostileNode(endpoint, NAMES[kind], text, **answers))
        with Client(server.address, token=server.token) as client:
            wait_until(lambda: len(client.list_functions()) == len(TEXTS))
            for name in NAMES.values():
                with contextlib.suppress(Exception):
                    client.submit_job(name).result(30)
        yield server


@pytest.fixture
def looking(all_of_them: Server) -> Iterator[Client]:
    with Client(all_of_them.address, token=all_of_them.token) as client:
        yield client


def assert_table_is_harmless(table: Table, rows: int) -> None:
    assert len(table.rows) == rows
    assert_text_is_harmless(repr(table))
    assert repr(table).count("\n") <= rows + 1, "a row took more than a line"
    assert_html_is_harmless(table.html())
    assert table.html().count("<tr") == rows + 1


def test_tables_of_a_notebook(looking: Client) -> None:
    nodes, functions = looking.list_nodes(), looking.list_functions()
    assert {node.node_id for node in nodes} == set(NAMES.values())
    assert {node.host for node in nodes} == set(TEXTS.values()), "records tell it as it is"
    assert_table_is_harmless(nodes_table(nodes), len(TEXTS))
    assert_table_is_harmless(functions_table(functions), len(functions))


@pytest.mark.parametrize("kind", TEXTS)
def test_why_tables_and_handles(looking: Client, kind: str) -> None:
    text = NAMES[kind]
    explanation = looking.explain(text, node=text)
    assert_text_is_harmless(repr(explanation))
    assert_html_is_harmless(explanation._repr_html_())
    note = WaitingNote(text, 3.0, "here", explanation)
    assert_text_is_harmless(str(note))
    assert_html_is_harmless(note._repr_html_())
    call = looking.submit(text)
    call.exception(30)
    assert_text_is_harmless(repr(call))


@hostile
def test_tables_of_what_a_hostile_gateway_answers(text: str) -> None:
    record = pb.NodeRecord(node_id=text, status=text, slots=1, functions=[text], draining=text)
    record.runtime.python = record.runtime.host = text
    record.load.gpus.add(name=text)
    spec = pb.FunctionSpec(name=text, doc=text)
    assert_table_is_harmless(nodes_table([node_info(record)]), 1)
    assert_table_is_harmless(functions_table([function_info(pb.FunctionRecord(spec=spec, nodes=[text, text]))]), 1)
    outlook = pb.NodeOutlook(node_id=text, reason=text, remedy=text)
    explanation = explanation_of(pb.Explanation(function=text, headline=text, nodes=[outlook]))
    assert_text_is_harmless(repr(explanation))
    assert_html_is_harmless(explanation._repr_html_())


@hostile
def test_progress(text: str) -> None:
    for total in (0.0, 4.0, float("nan"), float("inf")):
        progress = pb.Progress(done=2.0, total=total, text=text)
        assert "\n" not in progress_line(progress)
        assert_text_is_harmless(progress_line(progress))
        assert_html_is_harmless(_OneView(progress)._repr_html_())
        bar = pb.Progress.Bar(id=text, text=text, note=text, done=1, total=2, has_ended=True)
        assert_html_is_harmless(BarsView([bar])._repr_html_())


def command(server: Server, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "easyremote", *arguments, "--gateway", server.address],
        input="",
        capture_output=True,
        text=True,
        errors="surrogateescape",
        timeout=60,
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["status", "jobs"])
def test_lists_of_the_command(all_of_them: Server, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("EASYREMOTE_TOKEN", all_of_them.token)
    shown = command(all_of_them, name)
    assert shown.returncode == 0, shown.stderr
    assert_text_is_harmless(shown.stdout)
    assert_text_is_harmless(shown.stderr)
    unfolded = "".join(shown.stdout.split())
    assert "[boldred]node[/]" in unfolded, "markup is shown, not obeyed"
    assert "node:bomb:" in unfolded
    if name == "status":
        assert "node\\u202egpj" in unfolded


@pytest.mark.slow
def test_json_of_the_command_is_exact_and_yet_printable(all_of_them: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("EASYREMOTE_TOKEN", all_of_them.token)
    shown = command(all_of_them, "status", "--json").stdout
    assert not {character for character in shown if not character.isprintable()} - {"\n"}
    assert {node["host"] for node in json.loads(shown)["nodes"]} == set(TEXTS.values())


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["clears the screen", "one-byte sequences", "reorders", "markup of rich", "long"])
def test_errors_and_why_tables_of_the_command(all_of_them: Server, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setenv("EASYREMOTE_TOKEN", all_of_them.token)
    name = NAMES[kind]
    for shown in (command(all_of_them, "explain", name), command(all_of_them, "call", name)):
        assert_text_is_harmless(shown.stdout)
        assert_text_is_harmless(shown.stderr)
    assert shown.returncode == 1
    assert "raised" in shown.stderr


# ---- the functions behind it -----------------------------------------------------------------------------------------


@hostile
def test_a_name_is_one_short_line(text: str) -> None:
    shown = foreign.name(text)
    assert_text_is_harmless(shown)
    assert "\n" not in shown
    assert len(shown) <= foreign.NAME_CHARACTERS
    assert shown == foreign.name(shown), "what is harmless stays as it is"


@hostile
def test_what_functions_print_keeps_its_colours_and_its_line_alone(text: str) -> None:
    shown = foreign.printed(f"\x1b[1;31mred\x1b[0m {text}\x1b[K\r")
    assert shown.startswith("\x1b[1;31mred\x1b[0m ")
    assert shown.endswith("\x1b[K\r")
    inside = shown[len("\x1b[1;31mred\x1b[0m ") : -len("\x1b[K\r")]
    assert "\x1b" not in inside
    assert not {character for character in inside if "\x80" <= character <= "\x9f"}


def test_ordinary_text_of_any_language_stays_as_it_is() -> None:
    for text in (
        "gpu-box",
        "显卡一号",
        "Größe",
        "عقدة",
        "צומת",
        "नोड",
        "Việt Nam e\u0301",
        "👩‍🔬"[:1],
        "a  b",
        "$x^2$",
    ):
        assert foreign.name(text) == foreign.text(text) == foreign.printed(text) == text


def test_text_is_made_harmless_in_time_that_grows_with_its_length() -> None:
    for piece in ("\x1b[", "\u0301", "\x1b[0;", " \n", "<"):
        text = piece * 500_000
        for make in (foreign.name, foreign.text, foreign.traceback, foreign.printed):
            make(text)  # one of quadratic time wouldn't come back
