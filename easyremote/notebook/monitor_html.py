"""The monitor's rows as HTML: tables, bars and small charts in inline SVG. Pure; every text is escaped here."""

from __future__ import annotations

import html
import math
from collections.abc import Iterable, Sequence
from dataclasses import replace

from easyremote.model import Explanation, NodeInfo
from easyremote.monitoring import view
from easyremote.monitoring.view import CallRow, FailureRow, FunctionRow, Gauge, GpuRow, NodeRow, Snapshot
from easyremote.monitoring.words import STATUS_MARKS, Words
from easyremote.notebook.monitor_style import STYLE

_WIDE, _TALL = 100, 24


def live(markup: str, monitor_id: str = "") -> str:
    """A part of the widget."""
    return f'<div class="er-mon{f" er-live-{monitor_id}" if monitor_id else ""}">{markup}</div>'


def head(snapshot: Snapshot, words: Words) -> str:
    parts = "".join(f"<span>{html.escape(part)}</span>" for part in view.head(snapshot, words))
    problem = ""
    if snapshot.problem:
        problem = note(words("offline", why=snapshot.problem))
    title = f"<b>EasyRemote</b><span>{html.escape(snapshot.overview.gateway.address)}</span>"
    return f'<div class="er-head">{title}{parts}</div>{problem}'


def note(text: str, warns: bool = True) -> str:
    """A line that wants to be seen; nothing where there is no text."""
    mark = '<span class="er-warn" aria-hidden="true">▲ </span>' if warns else ""
    return f'<div class="er-note{" er-told" * (not warns)}">{mark}{html.escape(text)}</div>' if text else ""


def heading(text: str) -> str:
    return f'<div class="er-h" role="heading" aria-level="3">{html.escape(text)}</div>'


# ---- nodes -----------------------------------------------------------------------------------------------------------


def node_columns(words: Words) -> str:
    names = ("status", "slots", "cpu", "memory", "gpu")
    cells = "".join(f"<span>{html.escape(words(name))}</span>" for name in names)
    return f'<div class="er-grid er-cols" aria-hidden="true">{cells}<span>{html.escape(words("finished"))}</span></div>'


def node_line(row: NodeRow, words: Words) -> str:
    """One row, which a screen reader reads as one sentence."""
    cells = [
        _status(row),
        _gauge(row.slots),
        _traced(row.cpu),
        _traced(row.memory),
        _gpus(row.gpus) or _muted("–"),
        _ends(row, words),
    ]
    note = f'<div class="er-dim er-cut">{html.escape(row.note)}</div>' if row.note else ""
    body = "".join(f"<div>{cell}</div>" for cell in cells)
    return _spoken(row.spoken, f'<div class="er-grid" aria-hidden="true">{body}</div>{note}')


def _status(row: NodeRow) -> str:
    odd = "" if row.status == "connected" else " er-odd"
    return f'<span class="er-st{odd}"><span class="er-mark">{row.mark}</span>{html.escape(row.status_text)}</span>'


def _ends(row: NodeRow, words: Words) -> str:
    failed = f' <span class="er-warn">▲ {row.failed}</span>' if row.failed else ""
    return (
        f'<span title="{_attribute(words("finished"))} / {_attribute(words("failed"))}">{row.finished}{failed}</span>'
    )


def _gpus(gpus: Sequence[GpuRow]) -> str:
    return "".join(_gpu(gpu) for gpu in gpus)


def _gpu(gpu: GpuRow) -> str:
    if gpu.lost:
        return f'<div class="er-gpu er-warn">▲ {html.escape(f"{gpu.name}: {gpu.lost}")}</div>'
    more = " · ".join(text for text in (gpu.temperature.text, gpu.power.text) if text)
    parts = [_traced(gpu.use), _gauge(gpu.memory), f'<span class="er-dim">{html.escape(more)}</span>' if more else ""]
    return f'<div class="er-gpu" title="{_attribute(gpu.name)}">{"".join(parts)}</div>'


def _gauge(gauge: Gauge) -> str:
    """A bar with its text."""
    if not gauge.text:
        return _muted("–")
    bar = f'<span class="er-bar"><i style="width:{100 * gauge.part:.0f}%"></i></span>' if gauge.part is not None else ""
    return f'<span class="er-gauge{_high(gauge)}">{bar}<span>{_shape(gauge)}{html.escape(gauge.text)}</span></span>'


def _traced(gauge: Gauge) -> str:
    """A small chart with its text."""
    if not gauge.text:
        return _muted("–")
    chart = spark(gauge.series, 54, 20)
    return f'<span class="er-gauge{_high(gauge)}">{chart}<span>{_shape(gauge)}{html.escape(gauge.text)}</span></span>'


def _high(gauge: Gauge) -> str:
    return " er-high" if gauge.is_high else ""


def _shape(gauge: Gauge) -> str:
    return '<span class="er-warn">▲</span>' if gauge.is_high else ""


def _muted(text: str) -> str:
    return f'<span class="er-dim">{html.escape(text)}</span>'


def spark(series: Sequence[float], width: int, height: int, top: float = 1.0) -> str:
    """The last minute, the newest at the right; `top`: the value of its upper edge. For eyes only."""
    values = [min(max(value / top, 0.0), 1.0) if math.isfinite(value) else 0.0 for value in series] if top > 0 else []
    step = _WIDE / 59
    begin = _WIDE - step * (len(values) - 1)
    points = " ".join(f"{begin + step * i:.1f},{_TALL * (1 - value):.1f}" for i, value in enumerate(values))
    drawn = ""
    if len(values) > 1:
        drawn = (
            f'<polygon class="er-area" points="{begin:.1f},{_TALL} {points} {_WIDE},{_TALL}"/>'
            f'<polyline class="er-trace" points="{points}"/>'
        )
    return (
        f'<svg width="{width}" height="{height}" viewBox="0 0 {_WIDE} {_TALL}" preserveAspectRatio="none" aria-hidden="true">'
        f'<line class="er-base" x1="0" x2="{_WIDE}" y1="{_TALL}" y2="{_TALL}"/>{drawn}</svg>'
    )


# ---- calls -----------------------------------------------------------------------------------------------------------


def call_columns(words: Words) -> str:
    names = ("status", "node", "progress", "time")
    cells = "".join(f"<span>{html.escape(words(name))}</span>" for name in names)
    return f'<div class="er-grid er-calls er-cols" aria-hidden="true">{cells}<span></span></div>'


def call_line(row: CallRow) -> str:
    mark = "▶" if row.is_running else "…"
    cells = [
        f'<span class="er-mark">{mark}</span>{html.escape(row.state)}',
        f'<span class="er-cut">{html.escape(row.node) or "–"}</span>',
        _progress(row),
        html.escape(row.time),
        f'<span class="er-dim er-cut">{html.escape(row.note)}</span>',
    ]
    body = "".join(f'<div class="er-cut">{cell}</div>' for cell in cells)
    return _spoken(row.spoken, f'<div class="er-grid er-calls" aria-hidden="true">{body}</div>')


def _spoken(text: str, drawn: str) -> str:
    """What a screen reader says of what others see."""
    return f'<div role="group" aria-label="{_attribute(text)}">{drawn}</div>'


def _progress(row: CallRow) -> str:
    if row.progress is None:
        return f'<span class="er-dim">{html.escape(row.progress_text)}</span>'
    bar = f'<span class="er-bar er-wide"><i style="width:{100 * row.progress:.1f}%"></i></span>'
    return f'<span class="er-gauge" style="display:flex">{bar}<span>{html.escape(row.progress_text)}</span></span>'


# ---- tables ----------------------------------------------------------------------------------------------------------


def functions_table(rows: Sequence[FunctionRow], words: Words) -> str:
    if not rows:
        return f'<div class="er-dim">{html.escape(words("no functions"))}</div>'
    body = [
        [
            html.escape(row.name),
            html.escape(row.kind),
            f"<code>{html.escape(row.version)}</code>",
            html.escape(row.nodes),
            f'<span class="er-warn">▲ {html.escape(row.stale)}</span>' if row.stale else _muted(words("newest")),
        ]
        for row in rows
    ]
    return _table([words("function"), "", words("version"), words("where"), ""], body)


def failures_table(rows: Sequence[FailureRow], words: Words) -> str:
    if not rows:
        return f'<div class="er-dim">{html.escape(words("no errors"))}</div>'
    body = [
        [
            html.escape(row.ago),
            html.escape(row.function),
            html.escape(row.node) or "–",
            f'<span class="er-warn" aria-hidden="true">▲ </span><b>{html.escape(row.kind)}</b> {html.escape(row.message)}',
        ]
        for row in rows
    ]
    return _table([words("time"), words("function"), words("node"), words("what happened")], body)


def nodes_table(rows: Sequence[NodeRow], words: Words) -> str:
    """As it stands in a saved notebook, where there are no buttons."""
    if not rows:
        return f'<div class="er-dim">{html.escape(words("no nodes"))}</div>'
    names = ("node", "status", "slots", "cpu", "memory", "gpu", "finished")
    body = [
        [
            f"<b>{html.escape(row.name)}</b>",
            _status(row) + (f'<div class="er-dim">{html.escape(row.note)}</div>' if row.note else ""),
            _gauge(row.slots),
            _traced(row.cpu),
            _traced(row.memory),
            _gpus(row.gpus) or "–",
            _ends(row, words),
        ]
        for row in rows
    ]
    return _table([words(name) for name in names], body)


def calls_table(rows: Sequence[CallRow], words: Words) -> str:
    if not rows:
        return f'<div class="er-dim">{html.escape(words("no calls"))}</div>'
    body = [
        [
            f"<b>{html.escape(row.name)}</b>",
            f'<span class="er-mark" aria-hidden="true">{"▶" if row.is_running else "…"}</span>{html.escape(row.state)}',
            html.escape(row.node) or "–",
            _progress(row),
            html.escape(row.time),
            f'<span class="er-dim">{html.escape(row.note)}</span>',
        ]
        for row in rows
    ]
    return _table([words("call"), words("status"), words("node"), words("progress"), words("time"), ""], body)


def _table(columns: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    """Cells are HTML, columns are text."""
    top = "".join(f'<th scope="col">{html.escape(name)}</th>' for name in columns)
    body = "".join("<tr>" + "".join(f"<td>{cell}</td>" for cell in row) + "</tr>" for row in rows)
    return f"<table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>"


# ---- pages -----------------------------------------------------------------------------------------------------------


def node_page(node: NodeInfo, snapshot: Snapshot, words: Words) -> str:
    row = view.node_row(node, snapshot.history.get(node.node_id, {}), words)
    log = snapshot.logs.get(node.node_id)
    parts = [
        f'<div class="er-head"><b>{html.escape(row.name)}</b>{_status(row)}{_muted(f"{row.slots.label} {row.slots.text}")}</div>',
        _charts([row.cpu, row.memory]),
        *(_gpu_charts(gpu, words) for gpu in row.gpus),
        _facts(view.node_facts(node, words)),
        heading(words("calls")) + calls_table(view.call_rows(snapshot, words, node.node_id, 20), words),
        heading(words("functions")) + functions_table(view.function_rows(snapshot, words, node.node_id), words),
        heading(words("recent errors")) + failures_table(view.failure_rows(snapshot, words, node.node_id, 10), words),
        heading(words("log")) + (_pre(log) if log else _muted(words("no log" if log is None else "no output"))),
    ]
    return "".join(parts)


def _gpu_charts(gpu: GpuRow, words: Words) -> str:
    title = heading(f"{words('gpu')} {gpu.name}")
    if gpu.lost:
        return title + note(gpu.lost)
    use = replace(gpu.use, label=words("use"))
    return title + _charts([use, gpu.memory, gpu.temperature, gpu.power], gpu.name)


def _charts(gauges: Iterable[Gauge], of: str = "") -> str:
    return f'<div class="er-charts">{"".join(_chart(gauge, of) for gauge in gauges if gauge.text)}</div>'


def _chart(gauge: Gauge, of: str) -> str:
    """`of`: what it is about, for who doesn't see the heading above it."""
    top = 1.0 if gauge.part is not None or not gauge.series else max(1.0, *gauge.series)
    label = f"{of} {gauge.label}" if of else gauge.label
    return (
        f'<div class="er-chart{_high(gauge)}" role="img" aria-label="{_attribute(f"{label} {gauge.text}")}">'
        '<div aria-hidden="true">'
        f'<span class="er-dim er-cut">{html.escape(gauge.label)}</span>'
        f"<span>{_shape(gauge)}{html.escape(gauge.text)}</span></div>"
        f"{spark(gauge.series, 195, 48, top)}</div>"
    )


def call_page(
    call: CallRow, facts: list[tuple[str, str]], output: str | None, explanation: Explanation | None, words: Words
) -> str:
    """`output`: None where it isn't this client's call."""
    parts = [
        f'<div class="er-head"><b>{html.escape(call.name)}</b><span>{html.escape(call.state)}</span></div>',
        f'<div style="max-width:36em">{_progress(call)}</div>' if call.progress is not None else "",
        _facts(facts),
    ]
    if not call.is_running:
        parts.append(heading(words("why it waits")) + _why(call, output is not None, explanation, words))
    told = words("others output") if output is None else words("no output")
    parts.append(heading(words("output")) + (_pre(output) if output else _muted(told)))
    return "".join(parts)


def _why(call: CallRow, is_own: bool, explanation: Explanation | None, words: Words) -> str:
    if call.node:
        return _muted(words("sent ahead", node=call.node))
    if explanation is not None:
        return explanation._repr_html_()
    return _muted("…" if is_own else words("why elsewhere"))


def _facts(facts: Iterable[tuple[str, str]]) -> str:
    return (
        "<dl>" + "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(text)}</dd>" for name, text in facts) + "</dl>"
    )


def _pre(text: str) -> str:
    """Scrolled to its end."""
    return f'<div class="er-tail" tabindex="0"><pre>{html.escape(view.printed(text))}</pre></div>'


def _attribute(text: str) -> str:
    return html.escape(text, quote=True)


# ---- the picture that stays ------------------------------------------------------------------------------------------

_SAVED_NODES, _SAVED_CALLS, _SAVED_FAILURES = 30, 10, 5


def picture(snapshot: Snapshot, words: Words, monitor_id: str) -> str:
    """What a saved notebook has. It hides itself where the live widget is, and the error of a widget that isn't any more."""
    hides = (
        f"<style>body:has(.er-live-{monitor_id}) .er-saved-{monitor_id}{{display:none}}"
        f".jp-OutputArea-child:has(+ .jp-OutputArea-child .er-saved-{monitor_id}) > .jp-OutputArea-output.jupyter-widgets"
        ":not(:has(*))"
        "{display:none}</style>"
    )
    marks = ", ".join(f"{mark} {words.status(status)}" for status, mark in STATUS_MARKS.items())
    nodes = view.node_rows(snapshot, words)
    calls = view.call_rows(snapshot, words, most=_SAVED_CALLS)
    failures = view.failure_rows(snapshot, words, most=_SAVED_FAILURES)
    parts = [head(snapshot, words), nodes_table(nodes[:_SAVED_NODES], words)]
    if len(nodes) > _SAVED_NODES:
        parts.append(_muted(words("more calls", n=len(nodes) - _SAVED_NODES)))
    if calls:
        parts.append(heading(words("calls")) + calls_table(calls, words))
    if failures:
        parts.append(heading(words("recent errors")) + failures_table(failures, words))
    foot = html.escape(f"{words('picture of', at=snapshot.taken_at)} · {marks}")
    parts.append(f'<div class="er-dim" style="font-size:12px;margin-top:.4em">{foot}</div>')
    return f'{STYLE}{hides}<div class="er-mon er-saved er-saved-{monitor_id}">{"".join(parts)}</div>'
