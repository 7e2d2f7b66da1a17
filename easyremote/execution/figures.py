"""Figures of a session's cells, in the formats that the notebook's inline backend has: `%config InlineBackend.figure_format`.

A session has an inline backend's settings of its own, IPython's `InlineBackend`. Each cell brings those of its notebook, which
count from then on where they are other than what the last cell brought; so what a remote cell sets for itself lasts until the
notebook says something else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from easyremote.execution.import_hooks import when_imported

Settings = Mapping[str, Any]
"""`formats`: names that IPython's inline backend knows; `options`: further arguments of `Figure.savefig`."""

_shell: Any = None
_inline: Any = None
_brought: Settings = {"formats": ["png"], "options": {"bbox_inches": "tight"}}
"""Of the last cell; at first what a notebook has that says nothing."""


def install(shell: Any) -> None:
    """Have this shell show figures when matplotlib is there, and know `%config InlineBackend`, if that is installed here."""
    global _shell, _inline
    try:
        from matplotlib_inline.config import InlineBackend
    except ImportError:
        return
    _shell, _inline = shell, InlineBackend.instance(parent=shell)
    shell.configurables.append(_inline)
    when_imported("matplotlib.figure", lambda _: _show_as_set())


def _show_as_set() -> None:
    from IPython.core.pylabtools import select_figure_formats

    _inline.shell = _shell  # from now on it acts on changes by itself; before, that would import matplotlib
    select_figure_formats(_shell, _inline.figure_formats, **_inline.print_figure_kwargs)


def bring(settings: Settings) -> None:
    """What the cell's notebook has."""
    global _brought
    if _inline is None or not settings or settings == _brought:
        return
    _brought = settings
    _inline.print_figure_kwargs = dict(settings["options"])
    _inline.figure_formats = set(settings["formats"])


def bundle(figure: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    """Its mime bundle and metadata, in the formats of the session; empty where this process has none."""
    return ({}, {}) if _shell is None else _shell.display_formatter.format(figure)
