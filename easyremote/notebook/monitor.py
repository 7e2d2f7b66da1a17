"""`Monitor`: a live picture of a gateway in a notebook, with three faces: a widget, HTML that stays in the saved notebook, text.

The widget is one output, and under it the picture that stays is another, with a display id. That hides itself where the widget
lives; where the widget can't live any more (the notebook was closed and opened, without its kernel), it hides the widget's error
message instead.
"""

from __future__ import annotations

import secrets
import threading
import time
from typing import Any

from IPython.core.getipython import get_ipython
from IPython.display import display, publish_display_data, update_display

from easyremote.client import Client
from easyremote.cluster import LocalCluster
from easyremote.errors import EasyRemoteError
from easyremote.monitoring import view
from easyremote.monitoring.view import Snapshot
from easyremote.monitoring.watching import Watcher
from easyremote.monitoring.words import Words, language_of
from easyremote.notebook import monitor_html
from easyremote.tables import Table

SAVED_EVERY_S = 20.0
"""While the widget is seen, the picture that stays is made anew so often; without widgets every second time that it is looked."""

LIVE_WITHOUT_WIDGETS_S = 600.0
"""Nobody can tell whether a plain output is seen, so it lives for so long."""


class Monitor:
    """Show it with `display`, or as the last value of a cell. `language`: "en" or "zh"; None: that of the locale.

    `cluster`: one of this process, whose nodes' logs it shows and whose nodes it can end. Raises UsageError for another language.
    """

    def __init__(self, client: Client, cluster: LocalCluster | None = None, language: str | None = None) -> None:
        self.words = Words(language_of(language))
        self.client = client
        self.cluster = cluster
        self.id = secrets.token_hex(4)
        self._watcher = Watcher.of(client)
        self._panel: Any = None
        self._lock = threading.Lock()
        self._saved_at = 0.0
        self._shown_at: float | None = None
        self._is_closed = False
        self._last: Snapshot | None = None

    # ---- its faces -----------------------------------------------------------------------------------------------

    def _ipython_display_(self) -> None:
        snapshot = self._look()
        if not hasattr(get_ipython(), "kernel"):
            print(self._text(snapshot))
            return
        self._open_panel()
        is_new, self._shown_at = self._shown_at is None, time.monotonic()
        if self._panel is not None:
            self._panel.show(snapshot)
            publish_display_data({"text/plain": "EasyRemote", "text/html": "<span></span>", **self._panel.mime})
        display(_Picture(self, snapshot), display_id=f"er-{self.id}", update=False)
        self._saved_at = time.monotonic()
        if is_new and not self._is_closed:
            self._watcher.add(self)

    def __repr__(self) -> str:
        return self._text(self._look())

    def html(self) -> str:
        """A picture as it stays in a saved notebook."""
        return monitor_html.picture(self._look(), self.words, self.id)

    def _text(self, snapshot: Snapshot) -> str:
        words = self.words
        rows = [
            [row.name, f"{row.mark} {row.status_text}", row.slots.text, row.cpu.text, row.memory.text, gpus_text(row)]
            for row in view.node_rows(snapshot, words)
        ]
        columns = [words(name) for name in ("node", "status", "slots", "cpu", "memory", "gpu")]
        caption = " · ".join([snapshot.overview.gateway.address, *view.head(snapshot, words)])
        return repr(Table(caption, columns, rows, words("no nodes")))

    def _look(self) -> Snapshot:
        if self._last is None or not (self._is_closed or self.client.is_closed):
            self._last = self._with_logs(self._watcher.snapshot())
        return self._last

    # ---- as a viewer ---------------------------------------------------------------------------------------------

    @property
    def is_seen(self) -> bool:
        if self._is_closed or self._shown_at is None:
            return False
        if self._panel is not None:
            return self._panel.is_seen
        return time.monotonic() - self._shown_at < LIVE_WITHOUT_WIDGETS_S

    @property
    def open_call(self) -> str:
        return self._panel.open_call if self._panel is not None else ""

    def show(self, snapshot: Snapshot, is_last: bool) -> None:
        """Called once a second or so by the watcher's thread, which no busy kernel holds up."""
        snapshot = self._last = self._with_logs(snapshot)
        if self._panel is not None:
            self._panel.show(snapshot, is_last)
        every_s = SAVED_EVERY_S if self._panel is not None else 2.0
        if is_last or time.monotonic() - self._saved_at > every_s:
            self._save(snapshot)

    def _save(self, snapshot: Snapshot) -> None:
        self._saved_at = time.monotonic()
        update_display(_Picture(self, snapshot), display_id=f"er-{self.id}")

    def close(self) -> None:
        """End it; the last picture stays. Closing again does nothing."""
        with self._lock:
            if self._is_closed:
                return
            self._is_closed = True
        self._watcher.remove(self)
        if self._last is not None and self._shown_at is not None:
            self._save(self._last)
        if self._panel is not None:
            self._panel.close()

    # ---- what its buttons do -------------------------------------------------------------------------------------

    def drain(self, node_id: str) -> None:
        self._do(lambda: self.client.drain_node(node_id, "a monitor"), self.words("drained", what=node_id))

    def resume(self, node_id: str) -> None:
        self._do(lambda: self.client.resume_node(node_id), self.words("resumed", what=node_id))

    def remove(self, node_id: str) -> None:
        cluster = self.cluster
        if cluster is not None:
            self._do(lambda: cluster.remove_node(node_id), self.words("removed", what=node_id))

    def may_remove(self, node_id: str) -> bool:
        return self.cluster is not None and node_id in self.cluster.node_ids

    def cancel(self, call_id: str, title: str) -> None:
        self._do(lambda: self._cancel(call_id), self.words("cancelled", what=title))

    def _cancel(self, call_id: str) -> None:
        shown = next((call for call in self._look().overview.calls if call.call_id == call_id), None)
        own = next((call for call in self.client.open_calls() if call.call_id == call_id), None)
        if own is not None:
            own.cancel("cancelled from a monitor")
        elif shown is not None and shown.is_job:
            self.client.job(call_id).cancel()
        else:
            self.client.cancel_call(call_id)

    def _do(self, work: Any, done: str) -> None:
        """In the watcher's thread, as the kernel isn't to wait for the gateway."""

        def step() -> None:
            told, failed = done, False
            try:
                work()
            except EasyRemoteError as error:
                told, failed = str(error), True
            if self._panel is not None:
                self._panel.tell(told, failed)

        self._watcher.do(step)

    def look_now(self) -> None:
        """Somebody has begun to look, or wants to see something else."""
        self._watcher.look()

    def _with_logs(self, snapshot: Snapshot) -> Snapshot:
        cluster, wanted = self.cluster, self._panel.open_node if self._panel is not None else ""
        if cluster is None or not wanted or wanted not in cluster.node_ids:
            return snapshot
        try:
            logs = {wanted: cluster.log_tail(wanted)}
        except (EasyRemoteError, ValueError):  # it ended a moment ago
            return snapshot
        return Snapshot(**{**vars(snapshot), "logs": logs})

    def _open_panel(self) -> None:
        if self._panel is not None or self._is_closed:
            return
        try:
            from easyremote.notebook.monitor_widget import Panel
        except ImportError:  # ipywidgets isn't installed: the picture is all there is
            return
        self._panel = Panel(self)


class _Picture:
    """What stays, in HTML and as text."""

    def __init__(self, monitor: Monitor, snapshot: Snapshot) -> None:
        self._html = monitor_html.picture(snapshot, monitor.words, monitor.id)
        self._text = monitor._text(snapshot)

    def _repr_html_(self) -> str:
        return self._html

    def __repr__(self) -> str:
        return self._text


def gpus_text(row: view.NodeRow) -> str:
    """All of a node, in a line."""
    return "; ".join(
        gpu.lost
        or " ".join(text for text in (gpu.use.text, gpu.memory.text, gpu.temperature.text, gpu.power.text) if text)
        for gpu in row.gpus
    )
