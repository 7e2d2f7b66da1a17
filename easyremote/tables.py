"""Tables for people: HTML that follows the page's colours, light or dark, and text."""

from __future__ import annotations

import html
import re
from collections.abc import Iterable
from itertools import zip_longest
from typing import Any

from easyremote import foreign

_STYLE = (
    "border-collapse:collapse;font-size:0.92em;margin:0.3em 0;color:inherit;background:transparent;"
    "font-variant-numeric:tabular-nums"
)
_CELL = "text-align:left;padding:0.25em 1.1em 0.25em 0;border:none;border-bottom:1px solid rgba(128,128,128,0.28);color:inherit"
_NOWRAP = ";white-space:nowrap"
_SHORT = 24
"""Characters of a cell that stays in one line."""

_HEAD = _CELL + ";font-weight:600;opacity:0.72"
MUTED = "opacity:0.65"
INDENT = "padding-left:8px"  # as far as JupyterLab's own text outputs


class Table:
    """Rows with a caption, as HTML that follows the page's colours and as text.

    Cells may have several lines; what others named goes through `foreign.name` before, so that it can't make up rows.
    """

    def __init__(self, caption: str, columns: list[str], rows: Iterable[Iterable[Any]], empty: str = "") -> None:
        self.caption = foreign.text(caption)
        self.columns = columns
        self.rows = [[foreign.text(str(value)) for value in row] for row in rows]
        self.empty = empty

    def _repr_html_(self) -> str:
        return self.html()

    def html(self) -> str:
        caption = f'<div style="margin-top:0.2em">{_with_code(self.caption)}</div>' if self.caption else ""
        if not self.rows:
            return f'<div style="{INDENT}">{caption}<div style="{MUTED}">{html.escape(self.empty)}</div></div>'
        head = "".join(f'<th scope="col" style="{_HEAD}">{html.escape(name)}</th>' for name in self.columns)
        body = "".join(
            '<tr style="background:transparent">'
            + "".join(
                f'<td style="{_CELL}{_NOWRAP * (len(value) <= _SHORT)}">{html.escape(value)}</td>' for value in row
            )
            + "</tr>"
            for row in self.rows
        )
        head = f'<thead><tr style="background:transparent">{head}</tr></thead>'
        return f'<div style="{INDENT}">{caption}<table style="{_STYLE}">{head}<tbody>{body}</tbody></table></div>'

    def __repr__(self) -> str:
        if not self.rows:
            return "\n".join(filter(None, (self.caption, self.empty)))
        rows = [[value.split("\n") for value in row] for row in [self.columns, *self.rows]]
        widths = [max(len(line) for value in column for line in value) for column in zip(*rows, strict=True)]
        lines = [
            "  ".join(v.ljust(w) for v, w in zip(line, widths, strict=True)).rstrip()
            for row in rows
            for line in zip_longest(*row, fillvalue="")
        ]
        return "\n".join(filter(None, [self.caption, *lines]))


def _with_code(text: str) -> str:
    """As HTML, with what stands in backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text))
