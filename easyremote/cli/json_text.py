"""JSON as a terminal may get it."""

from __future__ import annotations

import json
from typing import Any


def json_text(value: Any) -> str:
    """One line of JSON. Letters stay as they are; what a terminal would obey, or not show, is escaped as JSON knows it."""
    return printable(json.dumps(value, ensure_ascii=False))


def printable(text: str) -> str:
    """The same for a line of JSON that is there already."""
    if text.isprintable():
        return text
    return "".join(letter if letter.isprintable() else json.dumps(letter)[1:-1] for letter in text)
