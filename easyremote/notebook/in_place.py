"""One output of a cell that changes."""

from __future__ import annotations

import secrets
from typing import Any

from IPython.display import display, update_display


def show_in_place(view: Any, display_id: str = "") -> str:
    """Show it, or show it instead of what has this id. Returns its id."""
    if display_id:
        update_display(view, display_id=display_id)
        return display_id
    display_id = secrets.token_hex(8)
    display(view, display_id=display_id)
    return display_id
