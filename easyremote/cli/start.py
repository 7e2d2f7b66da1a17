"""The console script. It hides invitations before it imports anything large: until then others see them."""

from __future__ import annotations

from easyremote.cli.hiding import hide_invitations


def main() -> None:
    """The `easyremote` command."""
    hide_invitations()
    from easyremote.cli.main import app

    app(prog_name="easyremote")
