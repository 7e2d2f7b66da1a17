"""What a function says of the packages that it runs with, and of their Python. Checked here, before anything is sent."""

from __future__ import annotations

import re
from collections.abc import Iterable

from easyremote.errors import UsageError
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_REQUIREMENTS = 100
MAX_REQUIREMENT = 500

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?")
_REQUIREMENT = re.compile(
    _NAME.pattern + r"\s*(?:\[[^\]/]*\])?\s*(?:$|[<>=!~(;].*|@\s*(?:git\+)?(?:https?|ssh)://[^\s/].*)", re.IGNORECASE
)
"""A name, perhaps with extras; then nothing, versions, a marker, or an address elsewhere: no path, and no file of the node's."""

_PYTHON = re.compile(r"3\.\d{1,2}(\.\d{1,2})?")
_CREDENTIALS = re.compile(r"://[^/\s]*@")
_OLDEST = (3, 11)


def environment_of(requirements: Iterable[str] | None, python: str | None) -> pb.Environment | None:
    """The environment that this says; None where nothing is said.

    `requirements`: such as "numpy<2", as pip takes them, each with a package's name. `python`: "3.12" or "3.12.4".
    Raises UsageError for what can't be.
    """
    if requirements is None and python is None:
        return None
    if isinstance(requirements, str):
        raise UsageError(f'requirements is a list such as ["numpy<2"], not the text {requirements[:60]!r}')
    found = sorted({_checked(text) for text in requirements or ()})
    if len(found) > MAX_REQUIREMENTS:
        raise UsageError(f"an environment has at most {MAX_REQUIREMENTS} requirements, not {len(found)}")
    return pb.Environment(requirements=found, python=_checked_python(python) if python is not None else "")


def _checked(text: object) -> str:
    if not isinstance(text, str) or not text.isprintable() or not _NAME.match(text.strip()):
        raise UsageError(f'a requirement is a text such as "numpy<2" that begins with a package\'s name, not {text!r}')
    if _CREDENTIALS.search(text):
        raise UsageError(
            "a requirement with a user or a password in its address would be shown to the gateway and in lists; set up access to "
            "that index on the node instead, e.g. in its pip.conf"
        )
    if len(text) > MAX_REQUIREMENT:
        raise UsageError(f"a requirement has at most {MAX_REQUIREMENT} characters, not {len(text)}")
    if not _REQUIREMENT.fullmatch(text.strip()):
        raise UsageError(
            f'a requirement is "name", "name<2" or "name @ https://…", and has no path or file of the node, not {text!r}'
        )
    return " ".join(text.split())


def _checked_python(python: object) -> str:
    if not isinstance(python, str) or not _PYTHON.fullmatch(python):
        raise UsageError(f'python is a version such as "3.12" or "3.12.4", not {python!r}')
    if tuple(map(int, python.split(".")[:2])) < _OLDEST:
        raise UsageError(f"EasyRemote runs on Python {_OLDEST[0]}.{_OLDEST[1]} and newer, not on {python}")
    return python


def package_name(requirement: str) -> str:
    """The name of its package, as indexes compare them."""
    match = _NAME.match(requirement)
    return re.sub(r"[-_.]+", "-", match[0]).lower() if match else requirement


def merged(before: pb.Environment, more: pb.Environment) -> pb.Environment:
    """What both ask for; of a package that both name, what `more` says of it."""
    by_name = {package_name(text): text for text in before.requirements}
    named = {package_name(text) for text in more.requirements}
    kept = [text for name, text in by_name.items() if name not in named]
    return pb.Environment(requirements=sorted({*kept, *more.requirements}), python=more.python or before.python)


def described(environment: pb.Environment) -> str:
    """In a line, for people."""
    texts = [*environment.requirements, *([f"Python {environment.python}"] if environment.python else [])]
    return ", ".join(texts) or "no packages"
