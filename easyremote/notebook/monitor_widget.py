"""The monitor as an ipywidgets widget: rows in HTML beside real buttons, a filter, a choice of order, pages of nodes and calls.

Each part is set only where it has changed, so little goes to the page, and what has the focus keeps it.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import ipywidgets as widgets
from IPython.core.getipython import get_ipython

from easyremote.monitoring import view
from easyremote.monitoring.view import SORTS, Snapshot
from easyremote.notebook import clicks
from easyremote.notebook import monitor_html as markup
from easyremote.notebook.monitor_style import STYLE

if TYPE_CHECKING:
    from easyremote.notebook.monitor import Monitor

AT_FIRST, MORE = 20, 40
"""Rows of nodes, and how many more a click brings."""

CALLS_BESIDE_NODES, FAILURES_BESIDE_NODES = 6, 3
ORDER_KEPT_S = 5.0
"""Rows change places no faster, so that nobody clicks what has just come there."""

BUSY_AFTER_S = 1.5
TOLD_FOR_S = 8.0
_NAME_PX, _GAP_PX = 136, 8
_NAME = {"width": f"{_NAME_PX}px", "flex": "0 0 auto", "margin": f"1px {_GAP_PX}px 1px 0"}
_TABS = ("nodes", "calls", "functions", "errors")


class _Rows:
    """Buttons with a line of HTML each. They are made once and used again."""

    def __init__(self, open_page: Callable[[str], None], hint: Callable[[str], str]) -> None:
        self._open_page = open_page
        self._hint = hint
        self._ids: list[str] = []
        self._parts: list[tuple[Any, Any, Any]] = []
        self.box = widgets.VBox()

    @property
    def all(self) -> list[Any]:
        """Its widgets, shown or not."""
        return [self.box, *(widget for parts in self._parts for widget in parts)]

    def set(self, rows: Sequence[tuple[str, str, str]]) -> None:
        """Each an id, a name and HTML."""
        while len(self._parts) < len(rows):
            self._add()
        self._ids = [row[0] for row in rows]
        for (button, line, _), (_, name, text) in zip(self._parts, rows, strict=False):
            _set(button, description=name, tooltip=self._hint(name))
            _set(line, value=markup.live(text))
        shown = tuple(part[2] for part in self._parts[: len(rows)])
        if self.box.children != shown:
            self.box.children = shown

    def _add(self) -> None:
        number = len(self._parts)
        button = widgets.Button(layout=_NAME)
        button.add_class("er-name")
        line = widgets.HTML(layout={"flex": "1 1 auto", "overflow": "auto hidden"})
        row = widgets.HBox([button, line], layout={"align_items": "center", "overflow": "hidden"})
        row.add_class("er-row")
        button.on_click(lambda _: number < len(self._ids) and self._open_page(self._ids[number]))
        clicks.serve_aside(button)
        self._parts.append((button, line, row))


class Panel:
    """All of it. `show` comes from the watcher's thread, clicks from the kernel's."""

    def __init__(self, monitor: Monitor) -> None:
        self._monitor = monitor
        self._words = words = monitor.words
        self._lock = threading.RLock()
        self._snapshot: Snapshot | None = None
        self.open_node = self.open_call = ""
        self._most = AT_FIRST
        self._order: list[str] = []
        self._order_for: tuple[str, str] = ("", "")
        self._ordered_at = 0.0
        self._told, self._told_at, self._told_warns = "", 0.0, False
        self._asked = ""  # what is to be confirmed
        self._is_closed = False
        self._serves_aside = False  # this page's clicks don't wait for cells

        self._head = widgets.HTML()
        self._note = widgets.HTML()
        self._filter = widgets.Text(
            description=words("filter"), placeholder=words("filter hint"), continuous_update=True,
            layout={"width": "24em"}, style={"description_width": "initial"},
        )  # fmt: skip
        self._sort = widgets.Dropdown(
            description=words("sort"), options=[(words(f"by {name}"), name) for name in SORTS], value="name",
            layout={"width": "15em"}, style={"description_width": "initial"},
        )  # fmt: skip
        self._tabs = widgets.ToggleButtons(
            options=[(words(name), name) for name in _TABS], value="nodes", style={"button_width": "auto"}
        )
        self._controls = widgets.HBox(
            [self._tabs, self._filter, self._sort], layout={"flex_flow": "row wrap", "align_items": "center"}
        )
        self._node_columns, self._call_columns = self._columns(markup.node_columns), self._columns(markup.call_columns)
        self._nodes = _Rows(self._open_node, self._hint)
        self._calls = _Rows(self._open_call, self._hint)
        self._below_nodes, self._calls_head, self._below_calls = widgets.HTML(), widgets.HTML(), widgets.HTML()
        self._more = self._button(words("more", n=MORE), self._show_more)
        self._back = self._button(words("back"), self._close_page)
        self._drain = self._button(words("drain"), self._drain_clicked)
        self._remove = self._button(words("remove"), self._remove_clicked, words("remove hint"))
        self._cancel = self._button(words("cancel"), self._cancel_clicked, words("cancel hint"))
        self._page = widgets.HTML()
        self._body = widgets.VBox()
        self.root = widgets.VBox([self._head, self._note, self._body], layout={"overflow": "hidden"})
        self.root.add_class("er-wrap")
        self.root._view_count = 0
        self.root.observe(lambda _: self._views_changed(), "_view_count")
        for control, name in ((self._filter, "value"), (self._sort, "value"), (self._tabs, "value")):
            control.observe(lambda _: self._changed(), name)
        buttons = (self._more, self._back, self._drain, self._remove, self._cancel)
        clicks.serve_aside(self.root, self._controls, *buttons)
        self._busy = _Busy()

    @property
    def mime(self) -> dict[str, Any]:
        """The widget, for a mime bundle."""
        view_of = {"version_major": 2, "version_minor": 0, "model_id": self.root.model_id}
        return {"application/vnd.jupyter.widget-view+json": view_of}

    @property
    def is_seen(self) -> bool:
        return bool(self.root._view_count) and not self._is_closed

    def _columns(self, make: Callable[[Any], str]) -> Any:
        gap = widgets.HTML(layout={"width": f"{_NAME_PX + _GAP_PX}px", "flex": "0 0 auto"})
        line = widgets.HTML(markup.live(make(self._words)), layout={"flex": "1 1 auto", "overflow": "hidden"})
        row = widgets.HBox([gap, line])
        row.add_class("er-row")
        return row

    def _button(self, text: str, clicked: Callable[[], None], tooltip: str = "") -> Any:
        button = widgets.Button(description=text, tooltip=tooltip or text, layout={"width": "auto"})
        button.on_click(lambda _: self._clicked(clicked))
        return button

    def _hint(self, name: str) -> str:
        return self._words("open", what=name)

    # ---- what a person does --------------------------------------------------------------------------------------

    def _clicked(self, then: Callable[[], None]) -> None:
        self._serves_aside = clicks.is_aside()
        then()

    def _changed(self) -> None:
        self._clicked(lambda: None)
        self._order_for = ("", "\0")
        self._render()

    def _open_node(self, node_id: str) -> None:
        self._clicked(lambda: self._open(node_id, ""))

    def _open_call(self, call_id: str) -> None:
        self._clicked(lambda: self._open("", call_id))

    def _close_page(self) -> None:
        self._open("", "")

    def _open(self, node_id: str, call_id: str) -> None:
        with self._lock:
            self.open_node, self.open_call, self._asked = node_id, call_id, ""
        self._render()
        self._monitor.look_now()

    def _show_more(self) -> None:
        self._most += MORE
        self._render()

    def _drain_clicked(self) -> None:
        node = self._node()
        if node is not None:
            (self._monitor.resume if node.draining else self._monitor.drain)(node.node_id)

    def _remove_clicked(self) -> None:
        if self._sure("remove"):
            self._monitor.remove(self.open_node)

    def _cancel_clicked(self) -> None:
        call = self._call()
        if call is not None:
            self._monitor.cancel(call.call_id, call.function)

    def _sure(self, what: str) -> bool:
        """Whether it was asked before."""
        is_sure, self._asked = self._asked == what, "" if self._asked == what else what
        self._render()
        return is_sure

    def _views_changed(self) -> None:
        self._serves_aside = self._serves_aside or clicks.is_aside()
        if self.root._view_count:
            self._monitor.look_now()

    def tell(self, text: str, warns: bool) -> None:
        """A line above, for some seconds."""
        self._told, self._told_at, self._told_warns = text, time.monotonic(), warns

    # ---- what is shown -------------------------------------------------------------------------------------------

    def show(self, snapshot: Snapshot, is_last: bool = False) -> None:
        with self._lock:
            self._snapshot = snapshot
            if is_last:
                self._is_closed = True
        self._render()

    def close(self) -> None:
        """The widgets are gone from the page."""
        self._is_closed = True
        self._busy.close()
        parts = [part for value in vars(self).values() for part in (value.all if isinstance(value, _Rows) else [value])]
        for part in parts:
            if isinstance(part, widgets.Widget):
                for inner in getattr(part, "children", ()):
                    inner.close()
                part.close()

    def _render(self) -> None:
        with self._lock:
            snapshot = self._snapshot
            if snapshot is None:
                return
            _set(self._head, value=STYLE + markup.live(markup.head(snapshot, self._words), self._monitor.id))
            _set(self._note, value=markup.live(markup.note(*self._note_now())))
            if self.open_node:
                self._render_node(snapshot)
            elif self.open_call:
                self._render_call(snapshot)
            else:
                self._render_lists(snapshot, str(self._tabs.value))

    def _note_now(self) -> tuple[str, bool]:
        """A text, and whether it warns."""
        if self._is_closed:
            return self._words("closed"), False
        if self._told and time.monotonic() - self._told_at < TOLD_FOR_S:
            return self._told, self._told_warns
        if self._busy.for_s > BUSY_AFTER_S and not self._serves_aside:
            return self._words("busy"), True
        return "", False

    def _render_lists(self, snapshot: Snapshot, tab: str) -> None:
        words = self._words
        if tab == "nodes":
            parts = [self._controls, *self._node_parts(snapshot)]
        elif tab == "calls":
            parts = [self._controls, *self._call_parts(snapshot, None)]
        else:
            rows = (
                markup.functions_table(view.function_rows(snapshot, words), words)
                if tab == "functions"
                else markup.failures_table(view.failure_rows(snapshot, words), words)
            )
            _set(self._page, value=markup.live(rows))
            parts = [self._controls, self._page]
        self._put(parts)

    def _node_parts(self, snapshot: Snapshot) -> list[Any]:
        words, asked, sort = self._words, self._filter.value, str(self._sort.value)
        rows = self._in_kept_order(view.node_rows(snapshot, words, asked, sort, descending=sort != "name"), asked, sort)
        count = len(snapshot.overview.nodes)
        self._nodes.set([(row.node_id, row.name, markup.node_line(row, words)) for row in rows[: self._most]])
        told = ""
        if not count:
            told = f"{words('no nodes')} {snapshot.overview.gateway.address}"
        elif not rows:
            told = words("no match")
        elif asked:
            told = words("hidden", n=len(rows), all=count)
        _set(self._below_nodes, value=markup.live(markup._muted(told) if told else ""))
        parts = [*([self._node_columns] if rows else []), self._nodes.box, *([self._below_nodes] if told else [])]
        left = len(rows) - self._most
        if left > 0:
            _set(self._more, description=words("more", n=min(left, MORE)))
            parts.append(self._more)
        if snapshot.overview.calls:
            parts += self._call_parts(snapshot, CALLS_BESIDE_NODES)
        failures = view.failure_rows(snapshot, words, most=FAILURES_BESIDE_NODES)
        if failures:
            text = markup.heading(words("recent errors")) + markup.failures_table(failures, words)
            _set(self._page, value=markup.live(text))
            parts.append(self._page)
        return parts

    def _in_kept_order(self, rows: list[view.NodeRow], asked: str, sort: str) -> list[view.NodeRow]:
        now = time.monotonic()
        if self._order_for != (asked, sort) or now - self._ordered_at > ORDER_KEPT_S:
            self._order_for, self._ordered_at = (asked, sort), now
            self._order = [row.node_id for row in rows]
            return rows
        places = {node_id: place for place, node_id in enumerate(self._order)}
        return sorted(rows, key=lambda row: places.get(row.node_id, len(places)))

    def _call_parts(self, snapshot: Snapshot, most: int | None) -> list[Any]:
        words = self._words
        rows = view.call_rows(snapshot, words, most=most)
        self._calls.set([(row.call_id, row.name, markup.call_line(row)) for row in rows])
        left = snapshot.overview.running + snapshot.overview.queued - len(rows)
        told = words("more calls", n=left) if left > 0 else "" if rows else words("no calls")
        _set(self._calls_head, value=markup.live(markup.heading(words("calls"))))
        _set(self._below_calls, value=markup.live(markup._muted(told)))
        columns = [self._calls_head, self._call_columns] if rows else []
        return [*columns, self._calls.box, *([self._below_calls] if told else [])]

    def _render_node(self, snapshot: Snapshot) -> None:
        node, words = self._node(), self._words
        if node is None:
            self._gone(words("node gone"))
            return
        _set(self._drain, description=words("resume" if node.draining else "drain"), tooltip=words("drain hint"))
        _set(self._remove, description=words("sure" if self._asked == "remove" else "remove"))
        _set(self._page, value=markup.live(markup.node_page(node, snapshot, words)))
        buttons = [self._back, self._drain, *([self._remove] if self._monitor.may_remove(node.node_id) else [])]
        self._put_page(buttons)

    def _render_call(self, snapshot: Snapshot) -> None:
        call, words = self._call(), self._words
        if call is None:
            self._gone(words("ended"))
            return
        output = snapshot.outputs.get(call.call_id, "" if call.is_own else None)
        waits = snapshot.waits.get(call.call_id)
        page = markup.call_page(view.call_row(call, words), view.call_facts(call, words), output, waits, words)
        _set(self._page, value=markup.live(page))
        self._put_page([self._back, self._cancel])

    def _gone(self, text: str) -> None:
        _set(self._page, value=markup.live(markup.note(text)))
        self._put_page([self._back])

    def _node(self) -> Any:
        nodes = self._snapshot.overview.nodes if self._snapshot is not None else ()
        return next((node for node in nodes if node.node_id == self.open_node), None)

    def _call(self) -> Any:
        calls = self._snapshot.overview.calls if self._snapshot is not None else ()
        return next((call for call in calls if call.call_id == self.open_call), None)

    def _put_page(self, buttons: list[Any]) -> None:
        if not self._body.children or getattr(self._body.children[0], "children", ()) != tuple(buttons):
            self._put([widgets.HBox(buttons), self._page])

    def _put(self, parts: list[Any]) -> None:
        if self._body.children != tuple(parts):
            self._body.children = tuple(parts)


class _Busy:
    """For how long a cell has been running in this kernel."""

    def __init__(self) -> None:
        self._since: float | None = None
        shell = get_ipython()
        self._events = shell.events if shell is not None else None
        if self._events is not None:
            self._events.register("pre_run_cell", self._begins)
            self._events.register("post_run_cell", self._ends)

    @property
    def for_s(self) -> float:
        return 0.0 if self._since is None else time.monotonic() - self._since

    def _begins(self, *_: Any) -> None:
        self._since = time.monotonic()

    def _ends(self, *_: Any) -> None:
        self._since = None

    def close(self) -> None:
        if self._events is not None:
            for name, callback in (("pre_run_cell", self._begins), ("post_run_cell", self._ends)):
                with contextlib.suppress(ValueError):  # it was closed before
                    self._events.unregister(name, callback)
            self._events = None


def _set(widget: Any, **values: Any) -> None:
    """What is the same already isn't sent."""
    for name, value in values.items():
        if getattr(widget, name) != value:
            setattr(widget, name, value)
