"""Clicks that are served while a cell runs, where the page and the kernel can that.

JupyterLab, from 4.4 on, sends what happens in a widget to a subshell of the kernel, which is a thread beside the one that runs
cells. ipykernel from 7.4 on takes it to the subshell that wrote to the widget last instead, as that may wait for an answer; here
that would be the cell's, and nobody waits.
"""

from __future__ import annotations

import threading
from typing import Any


def serve_aside(*shown: Any) -> None:
    """Have what happens in these widgets, and in those within them, served where the page sent it."""
    for widget in shown:
        comm: Any = getattr(widget, "comm", None)
        if hasattr(comm, "_reply_subshell_for"):
            comm._reply_subshell_for = _as_sent
        serve_aside(*getattr(widget, "children", ()))


def is_aside() -> bool:
    """Whether what is being served now came to a thread beside the one that runs cells."""
    return threading.current_thread() is not threading.main_thread()


def _as_sent(_: Any, subshell_id: str | None) -> str | None:
    return subshell_id
