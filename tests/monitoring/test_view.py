"""What the monitor shows of a snapshot, in words, rows and HTML: without widgets, kernels or a gateway."""

from __future__ import annotations

import io
import string
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from easyremote import UsageError
from easyremote.cli import top
from easyremote.model import CallInfo, FailureInfo, GatewayInfo, GpuInfo, NodeInfo, OfferInfo, Overview, RestInfo
from easyremote.monitoring import view, words
from easyremote.monitoring.view import SORTS, Snapshot
from easyremote.monitoring.watching import with_own
from easyremote.monitoring.words import LANGUAGES, Words, language_of
from easyremote.notebook import monitor_html
from tests.attack.hostile import TEXTS, assert_html_is_harmless, assert_text_is_harmless

GIB = 2**30
EN, ZH = Words("en"), Words("zh")


def node(name: str, cpu: float = 10, status: str = "connected", **more: Any) -> NodeInfo:
    measured = {
        "cpus": 8, "cpu_percent": cpu, "memory_used_bytes": 4 * GIB, "memory_total_bytes": 16 * GIB, "gpus": 0
    }  # fmt: skip
    return NodeInfo(name, status, ("f",), 4, 1, 0.25, measured, **more)


def gpu(use: float, **more: Any) -> GpuInfo:
    return GpuInfo(0, "H100", "u", 60 * GIB, 80 * GIB, use, 64.0, 310.0, **more)


def snapshot(*nodes: NodeInfo, **more: Any) -> Snapshot:
    extra = {name: more.pop(name) for name in ("history", "outputs", "waits", "logs", "problem") if name in more}
    return Snapshot(Overview(GatewayInfo("h:1", "9", 3700.0, 1, 0, 0), nodes, **more), taken_at="12:00:00", **extra)


def names(rows: list[view.NodeRow]) -> list[str]:
    return [row.name for row in rows]


FLEET = snapshot(
    node("node-10", 90, host="alpha"),
    node("node-2", 20, status="draining", draining="new driver", gpus=(gpu(95),)),
    node("gpu-1", 50, labels={"zone": "b"}, gpus=(gpu(5),)),
    functions=(OfferInfo("train", "function", True, (("v2", ("gpu-1",)), ("v1", ("node-2",)))),),
)


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ("", ["gpu-1", "node-2", "node-10"]),
        ("NODE", ["node-2", "node-10"]),
        ("alpha", ["node-10"]),
        ("draining", ["node-2"]),
        ("zone=b", ["gpu-1"]),
        ("train", ["gpu-1", "node-2"]),
        ("train node", ["node-2"]),
        ("h100 gpu-", ["gpu-1"]),
        ("nothing", []),
    ],
)
def test_the_filter_finds_names_hosts_states_labels_gpus_and_functions(wanted: str, found: list[str]) -> None:
    assert names(view.node_rows(FLEET, EN, wanted)) == found


def test_in_chinese_a_state_is_found_by_either_word() -> None:
    assert names(view.node_rows(FLEET, ZH, "排空")) == names(view.node_rows(FLEET, ZH, "draining")) == ["node-2"]


@pytest.mark.parametrize(
    ("sort", "first"),
    [("name", "node-10"), ("cpu", "node-10"), ("gpu", "node-2")],
)
def test_nodes_are_sorted_and_names_count_their_numbers(sort: str, first: str) -> None:
    assert names(view.node_rows(FLEET, EN, sort=sort, descending=True))[0] == first


def test_a_row_says_in_a_sentence_what_its_bars_show() -> None:
    (row,) = view.node_rows(FLEET, EN, "node-2")
    assert row.spoken == "node-2: draining, slots 1/4, CPU 20 %, memory 4.0/16.0 GiB, GPU 0 95 %, new driver"
    assert row.mark == "◐" and row.gpus[0].use.is_high and not row.cpu.is_high
    assert (row.gpus[0].temperature.text, row.gpus[0].power.text) == ("64 °C", "310 W")


def test_calls_failures_and_functions_as_rows() -> None:
    seen = snapshot(
        calls=(
            CallInfo("aa", "train", "running", "n", 2, 70.0, 65.0, 0.25, "epoch 3", owner="3f9a01bc"),
            CallInfo("bb", "score", "queued", age_s=4.0, tasks=9, is_job=True),
        ),
        failures=(FailureInfo("cc", "f", "n", "remote", "builtins.ValueError", "no file", 61.0),
                  FailureInfo("dd", "f", "n", "remote", "", "", 1.0)),
        running=1, queued=1,
    )  # fmt: skip
    running, waiting = view.call_rows(seen, EN)
    assert (running.progress_text, running.time, running.note) == (
        "25 % epoch 3",
        "1 min 5 s",
        "attempt 2, token 3f9a01bc",
    )
    assert (waiting.state, waiting.time, waiting.note) == ("waiting", "4 s", "9 short calls, job")
    first, sealed = view.failure_rows(seen, EN)
    assert (first.kind, first.message, first.ago) == ("ValueError", "no file", "1 min 1 s ago")
    assert (sealed.kind, sealed.message) == ("remote", "sealed for its caller")
    (function,) = view.function_rows(FLEET, EN)
    assert (function.version, function.nodes, function.stale) == ("v2", "gpu-1, node-2", "node-2 still older")


def test_a_call_that_was_sent_ahead_waits_and_says_where() -> None:
    ahead = CallInfo("aa", "train", "running", "node-1", 1, 9.0, 8.0, is_own=True)
    other = CallInfo("bb", "train", "running", "node-1", 1, 9.0, 7.0)
    seen = snapshot(node("node-1"), calls=(ahead, other), running=2, queued=1)
    known = with_own({"aa"}, seen.overview)
    assert [(call.call_id, call.state) for call in known.calls] == [("bb", "running"), ("aa", "queued")]
    assert (known.running, known.queued) == (1, 2)
    assert with_own({"zz"}, seen.overview) is seen.overview
    row = view.call_row(known.calls[1], EN)
    assert (row.state, row.node) == ("waiting", "node-1")
    assert "node-1 has it already" in monitor_html.call_page(row, [], "", None, EN)
    full = NodeInfo("node-1", "connected", (), slots=1, running=2, load=2.0)
    assert view.node_row(full, {}, EN).slots.text == "1/1 +1"


def test_costs_are_those_of_ended_calls_and_of_those_that_run() -> None:
    seen = snapshot(
        node("n", price=2.0), spent=5.0, calls=(CallInfo("aa", "f", "running", "n", running_s=3.0),), sees_all=True
    )
    assert view.cost_so_far(seen.overview) == 11.0 and view.head(seen, EN)[-1] == "cost so far 11"


def test_both_languages_have_every_word_with_the_same_gaps() -> None:
    for key, texts in words._CATALOGUE.items():
        gaps = [sorted(name for _, name, _, _ in string.Formatter().parse(text) if name) for text in texts]
        assert all(texts) and gaps[0] == gaps[1], key


@pytest.mark.parametrize(
    ("wanted", "environment", "found"),
    [
        (None, {"LANG": "zh_CN.UTF-8"}, "zh"),
        (None, {"LANG": "zh_TW", "LC_ALL": "C"}, "en"),
        (None, {"EASYREMOTE_LANG": "zh", "LC_ALL": "C"}, "zh"),
        ("en", {"LANG": "zh_CN"}, "en"),
        (None, {}, "en"),
    ],
)
def test_the_language_is_the_wanted_one_or_that_of_the_locale(
    wanted: str | None, environment: dict[str, str], found: str
) -> None:
    assert language_of(wanted, environment) == found


def test_a_language_that_there_is_none_of_is_refused() -> None:
    with pytest.raises(UsageError):
        language_of("fr", {})


_numbers = st.one_of(st.floats(), st.sampled_from([0.0, 1e308, -1.0, float("nan"), float("inf")]))
_text = st.one_of(st.text(max_size=12), st.sampled_from(list(TEXTS.values())))
_history = st.dictionaries(st.sampled_from(["cpu", "memory", "gpu0", "gpu0 heat"]), st.lists(_numbers, max_size=5))


@st.composite
def _snapshots(draw: Any) -> Snapshot:
    nodes = tuple(
        NodeInfo(
            draw(_text), draw(_text), (draw(_text),), draw(st.integers(0, 9)), draw(st.integers(0, 9)), 0.0,
            {"cpus": 1, "cpu_percent": draw(_numbers), "memory_used_bytes": draw(st.integers(0, 2**64)),
             "memory_total_bytes": draw(st.integers(0, 2**64)), "gpus": 1},
            (GpuInfo(0, draw(_text), "", 1, draw(st.integers(0, 9)), draw(_numbers), draw(_numbers), draw(_numbers), lost=draw(_text)),),
            labels={draw(_text): draw(_text)}, draining=draw(_text), host=draw(_text),
            resting=(RestInfo(draw(_text), 1.0, draw(_text), False),),
        )
        for _ in range(draw(st.integers(0, 2)))
    )  # fmt: skip
    calls = (CallInfo("aa", draw(_text), "running", draw(_text), 1, draw(st.floats(0, 1e9)), 1.0, draw(st.sampled_from([None, 0.5])), draw(_text), owner=draw(_text), version=draw(_text)),)  # fmt: skip
    failures = (FailureInfo("bb", draw(_text), draw(_text), draw(_text), draw(_text), draw(_text), 1.0, draw(_text)),)
    functions = (
        OfferInfo(draw(_text), draw(_text), True, ((draw(_text), (draw(_text),)), (draw(_text), (draw(_text),)))),
    )
    history = {item.node_id: draw(_history) for item in nodes}
    text = draw(_text)
    return snapshot(*nodes, calls=calls, failures=failures, functions=functions, history=history, outputs={"aa": text}, logs=dict.fromkeys(history, text))  # fmt: skip


@settings(deadline=None, max_examples=50)
@given(_snapshots(), st.sampled_from(LANGUAGES), st.sampled_from(SORTS), _text)
def test_whatever_nodes_say_of_themselves_is_shown_and_harmless(
    seen: Snapshot, language: str, sort: str, wanted: str
) -> None:
    """T5: in the widget, in the picture that stays, and in a terminal."""
    said = Words(language)
    rows = view.node_rows(seen, said, sort=sort)
    assert len(rows) == len(seen.overview.nodes) >= len(view.node_rows(seen, said, wanted))
    lines = [monitor_html.node_line(row, said) for row in rows]
    lines += [monitor_html.call_line(row) for row in view.call_rows(seen, said)]
    lines += [monitor_html.node_page(item, seen, said) for item in seen.overview.nodes]
    (call,) = seen.overview.calls
    row, facts = view.call_row(call, said), view.call_facts(call, said)
    lines.append(monitor_html.call_page(row, facts, seen.outputs["aa"], None, said))
    lines.append(monitor_html.functions_table(view.function_rows(seen, said), said))
    lines.append(monitor_html.picture(seen, said, "ab12").split("</style>")[-1])
    for line in lines:
        assert_html_is_harmless(line, is_drawn=True)
        assert "nan" not in "".join(part.split('"')[0] for part in line.split('points="')[1:])
    console = Console(file=io.StringIO(), width=150, highlight=False, emoji=False, markup=False)
    console.print(top.picture(seen, said, sort, 30))
    assert_text_is_harmless(console.file.getvalue())  # type: ignore[attr-defined]


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_hundred_nodes_are_a_picture_of_bounded_size(language: str) -> None:
    history = {f"node-{i}": {"cpu": [0.5] * 60, "memory": [0.25] * 60} for i in range(100)}
    seen = snapshot(*(node(f"node-{i}", i) for i in range(100)), history=history)
    said = Words(language)
    assert len(view.node_rows(seen, said)) == 100
    assert len(monitor_html.picture(seen, said, "ab12")) < 200_000
    console = Console(file=io.StringIO(), width=120, height=40)
    console.print(top.picture(seen, said, "name", 40))
    assert console.file.getvalue().count("\n") <= 40  # type: ignore[attr-defined]
