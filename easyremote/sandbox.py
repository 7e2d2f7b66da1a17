"""A display of a node that isn't trusted, as it may be shown in a notebook.

A notebook's page runs what HTML says, with the rights of whoever looks at it: it can run cells. So the HTML of such a node goes
into a frame in which nothing runs and nothing is fetched; pictures are shown; scripts, widgets and all else are left out, and
said to be.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping
from typing import Any

from easyremote import foreign

MAX_SHOWN_CHARACTERS = 16 * 1024 * 1024
"""A form of a display that is longer isn't shown."""

_PICTURES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_BASE64 = re.compile(r"[A-Za-z0-9+/=\s]*")
_RUNS = re.compile(r"<\s*script|javascript:", re.IGNORECASE)
_BREAKS = re.compile(r"<(?:tr|br|p|div|li|h[1-6])\b", re.IGNORECASE)

_POLICY = (
    "default-src 'none'; img-src data:; style-src 'unsafe-inline'; font-src data:; base-uri 'none'; form-action 'none'"
)
_HEAD = (
    f'<!DOCTYPE html><meta charset="utf-8"><meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    "<style>body{background:#fff;color:#111;font:13px/1.4 sans-serif;margin:6px}table{border-collapse:collapse}"
    "th,td{padding:2px 8px;text-align:right}</style>"
)
_FRAME = "width:100%;border:1px solid rgba(128,128,128,0.28);resize:vertical;overflow:auto;background:#fff"
_NOTE = "opacity:0.65;font-size:0.92em;padding-left:8px"


def sandboxed(bundle: Mapping[str, Any], node: str) -> dict[str, Any]:
    """The bundle with what may be shown of it. Takes anything that JSON can be."""
    given = bundle.get("data")
    given = {kind: value for kind, value in given.items() if value is not None} if isinstance(given, dict) else {}
    data: dict[str, Any] = {kind: given[kind] for kind in _PICTURES if _is_picture(given.get(kind))}
    parts = [part for part in (_frame(given.get("text/html"), node), _drawing(given.get("image/svg+xml"))) if part]
    left_out = sorted(set(map(str, given)) - {*data, "text/plain", "text/html", "image/svg+xml"})
    note = _note(left_out, given, node)
    if parts:
        told = f'<div style="{_NOTE}">{html.escape(note)}</div>' if note else ""
        data["text/html"] = parts[0] + told
    plain = given.get("text/plain")
    lines = [foreign.text(plain, MAX_SHOWN_CHARACTERS)] if isinstance(plain, str) else []
    data["text/plain"] = "\n".join(lines + [f"({note})"] * (bool(note) and (not parts or not lines)))
    return {"data": data, "metadata": _sizes(bundle.get("metadata"), data)}


def _note(left_out: list[str], given: dict[str, Any], node: str) -> str:
    markup = given.get("text/html")
    if not left_out and not (isinstance(markup, str) and _RUNS.search(markup[:MAX_SHOWN_CHARACTERS])):
        return ""
    what = f" ({', '.join(foreign.name(kind, 60) for kind in left_out[:4])})" if left_out else ""
    return f"node '{foreign.name(node)}' isn't trusted here, so scripts and widgets of its displays don't run{what}"


def _is_picture(value: Any) -> bool:
    return isinstance(value, str) and len(value) <= MAX_SHOWN_CHARACTERS and _BASE64.fullmatch(value) is not None


def _frame(markup: Any, node: str) -> str:
    if not isinstance(markup, str) or len(markup) > MAX_SHOWN_CHARACTERS:
        return ""
    lines = min(max(len(_BREAKS.findall(markup)), len(markup) // 400) + 2, 20)
    title = html.escape(f"display of node {foreign.name(node)}")
    return (
        f'<iframe sandbox="" referrerpolicy="no-referrer" title="{title}" style="{_FRAME};height:{1.9 * lines:.0f}em" '
        f'srcdoc="{html.escape(_HEAD + markup)}"></iframe>'
    )


def _drawing(markup: Any) -> str:
    """A picture that a browser draws without running what is in it."""
    if not isinstance(markup, str) or len(markup) > MAX_SHOWN_CHARACTERS:
        return ""
    return (
        f'<img alt="" src="data:image/svg+xml;base64,{base64.b64encode(markup.encode("utf-8", "replace")).decode()}">'
    )


def _sizes(metadata: Any, data: dict[str, Any]) -> dict[str, Any]:
    """How large pictures are to be."""
    sizes: dict[str, Any] = {}
    for kind in _PICTURES:
        given = metadata.get(kind) if isinstance(metadata, dict) and kind in data else None
        if isinstance(given, dict):
            sizes[kind] = {
                side: given[side]
                for side in ("width", "height")
                if isinstance(given.get(side), int) and 0 < given[side] < 10_000
            }
    return sizes
