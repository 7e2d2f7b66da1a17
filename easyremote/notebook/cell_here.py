"""Which cell this thread works for."""

from __future__ import annotations

from easyremote.presenting import running_ipython


def cell_here() -> str:
    """The id of the request that the running cell, or the one that started this thread, came with; empty outside of kernels."""
    shell = running_ipython()
    parent = getattr(shell, "parent_header", None) or getattr(
        getattr(shell, "display_pub", None), "parent_header", None
    )
    header = parent.get("header", parent) if isinstance(parent, dict) else {}
    return str(header.get("msg_id", ""))
