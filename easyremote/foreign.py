"""Text that others wrote, made harmless before it is shown: names, messages, tracebacks, and what functions print.

What a terminal would obey, what hides or reorders other text, and what breaks a table is shown as its escape instead, `\\x1b` for
one. Records and attributes keep the text as it came; only what is shown is changed.
"""

from __future__ import annotations

import re

NAME_CHARACTERS = 200
"""A name, or anything else that belongs into one line, is cut here when it is shown."""

MESSAGE_CHARACTERS = 10_000

TRACEBACK_CHARACTERS = 256 * 1024

_CONTROLS = "\x00-\x1f\x7f-\x9f"  # terminals obey them; those from 0x80 are escape sequences in one byte
_REORDERING = "\u202a-\u202e\u2066-\u2069"
_HIDDEN = "\u00ad\u180e\u200b\u2028\u2029\u2060-\u2065\u206a-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f"
_JOINING = "\u061c\u200c-\u200f"  # some scripts need these; names that look alike can be made with them
_SURROGATES = "\ud800-\udfff"
_MARKS = "\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f"

_IN_A_NAME = re.compile(f"[{_CONTROLS}{_REORDERING}{_HIDDEN}{_JOINING}{_SURROGATES}]")
_IN_A_TEXT = re.compile(f"(?![\\n\\t])[{_CONTROLS}{_REORDERING}{_HIDDEN}{_SURROGATES}]")
_PRINTED = re.compile(f"\x1b\\[(?:[0-9;:]{{0,32}}m|[0-2]?K)|(?![\\n\\t\\r\\b])[{_CONTROLS}{_REORDERING}{_SURROGATES}]")
_STACKED = re.compile(f"([{_MARKS}]{{3}})[{_MARKS}]+")


def name(text: str, most: int = NAME_CHARACTERS) -> str:
    """One line: a name, a label, a cell of a table."""
    return _cut(_STACKED.sub(r"\1", _IN_A_NAME.sub(_escaped, text[: most + 1])), most)


def text(text: str, most: int = MESSAGE_CHARACTERS) -> str:
    """Lines: a message, a reason."""
    return _cut(_STACKED.sub(r"\1", _IN_A_TEXT.sub(_escaped, text.replace("\r\n", "\n")[: most + 1])), most)


def traceback(text: str, most: int = TRACEBACK_CHARACTERS) -> str:
    """The same, cut in its middle."""
    if len(text) > most:
        text = f"{text[: most // 2]}\n... {len(text) - most:,} characters left out ...\n{text[-(most // 2) :]}"
    return _STACKED.sub(r"\1", _IN_A_TEXT.sub(_escaped, text.replace("\r\n", "\n")))


def printed(text: str) -> str:
    """What a function prints: colours, and what a progress bar needs in its line, are left as they are."""
    return _PRINTED.sub(_kept_or_escaped, text)


def _kept_or_escaped(match: re.Match[str]) -> str:
    found = match[0]
    return found if len(found) > 1 else _escaped(match)


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode()


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
