"""What looks like a secret: told by its name or its form, and never shown."""

from __future__ import annotations

import itertools
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

_NAME = re.compile(
    r"(?:^|_)(?:api_?keys?|access_?keys?|secret_?keys?|private_?keys?|passw(?:or)?d|passwords|pwd|passphrase|secrets?|tokens?|"
    r"credentials?|auth|bearer|client_?secret|connection_?string)(?:_|$)",
    re.IGNORECASE,
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")

_FORMS = (
    (re.compile(r"\b(?:AKIA|ASIA)[0-9A-Z]{16}\b"), "an AWS access key", 4),
    (re.compile(r"\bgh[pousr]_[A-Za-z0-9]{20,}"), "a GitHub token", 4),
    (re.compile(r"\bgithub_pat_[A-Za-z0-9_]{20,}"), "a GitHub token", 11),
    (re.compile(r"\bglpat-[A-Za-z0-9_-]{20,}"), "a GitLab token", 6),
    (re.compile(r"\bhf_[A-Za-z0-9]{20,}"), "a Hugging Face token", 3),
    (re.compile(r"\bsk-[A-Za-z0-9_-]{20,}"), "an API key", 3),
    (re.compile(r"\bxox[abprs]-[A-Za-z0-9-]{10,}"), "a Slack token", 5),
    (re.compile(r"\bAIza[0-9A-Za-z_-]{35}"), "a Google API key", 4),
    (re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----"), "a private key", 0),
    (re.compile(r"\beyJ[A-Za-z0-9_-]{10,}\.eyJ[A-Za-z0-9_-]{10,}\.[A-Za-z0-9_-]*"), "a JSON web token", 3),
    (re.compile(r"\ber1:[A-Za-z0-9_-]{40,}"), "an EasyRemote invitation", 4),
    (re.compile(r"\b[a-z][a-z0-9+.-]*://[^\s/:@]+:[^\s/@]+@"), "an address with a password", 0),
)

_RANDOM = re.compile(r"[A-Za-z0-9+/_=.~-]{24,512}")
_RANDOM_BITS = 4.2
"""Entropy of a character from which text counts as random: names, sentences and hexadecimal digests have less."""

_MAX_TEXT = 100_000
_MAX_VISITS = 10_000
_MAX_DEPTH = 4


def looks_secret(name: str, value: Any) -> str:
    """Why this variable looks like a secret, without a part of it that opens anything; empty: it doesn't."""
    for path, key, text in itertools.islice(_texts(name, value, _MAX_DEPTH), _MAX_VISITS):
        why = _form_of(text) or ("called like a secret" if text and _is_named_so(key) else "")
        if why:
            where = f"{path}: " if path != name else ""
            return f"{where}{why}, {len(text):,} characters"
    return ""


def _texts(path: str, value: Any, depth: int, key: str = "") -> Iterator[tuple[str, str, str]]:
    """Texts in a value: the path to each, the last name on it, and the text."""
    key = key or path.rpartition(".")[2]
    if isinstance(value, (str, bytes, bytearray)):
        text = value if isinstance(value, str) else bytes(value[:_MAX_TEXT]).decode("utf-8", "replace")
        yield path, key, text[:_MAX_TEXT]
    elif depth and isinstance(value, Mapping):
        for name, item in list(value.items())[:_MAX_VISITS]:
            yield from _texts(f"{path}[{name!r}]"[:100], item, depth - 1, str(name))
    elif depth and isinstance(value, (list, tuple, set, frozenset)):
        for item in list(value)[:_MAX_VISITS]:
            yield from _texts(path, item, depth - 1, key)
    elif depth and hasattr(value, "__dict__") and not isinstance(value, type) and not callable(value):
        for name, item in list(vars(value).items())[:_MAX_VISITS]:
            yield from _texts(f"{path}.{name}", item, depth - 1, str(name))


def _is_named_so(name: str) -> bool:
    return bool(_NAME.search(_CAMEL.sub("_", name)))


def _form_of(text: str) -> str:
    for form, what, shown in _FORMS:
        found = form.search(text)
        if found:
            return f"{what} ({found[0][:shown]}…)" if shown else what
    if _RANDOM.fullmatch(text) and _is_mixed(text) and _bits(text) >= _RANDOM_BITS:
        return "random characters, as keys have"
    return ""


def _is_mixed(text: str) -> bool:
    return any(map(str.isupper, text)) and any(map(str.islower, text)) and any(map(str.isdigit, text))


def _bits(text: str) -> float:
    """Shannon entropy of a character of the text."""
    counts = Counter(text)
    return -sum(n / len(text) * math.log2(n / len(text)) for n in counts.values())
