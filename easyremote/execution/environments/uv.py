"""The program `uv`: where it is, how it is told which index to use, and what it says.

It reads none of pip's settings by itself, and a node's owner has set up pip: so those are handed on. It ends with this process,
however that ends: else it would go on, with what it builds locked, and whoever asks for the same next would wait for it.
"""

from __future__ import annotations

import ast
import contextlib
import functools
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path

BUILD_TIMEOUT_S = 3600.0
"""What takes longer is given up."""

_SAID_BYTES = 64 * 1024
_LOOK_EVERY_S = 0.1

_INDEXES = {"index-url": "UV_DEFAULT_INDEX", "extra-index-url": "UV_INDEX", "find-links": "UV_FIND_LINKS"}
_PATHS = {"constraint": "UV_CONSTRAINT", "cert": "SSL_CERT_FILE"}
_PLAIN = {"trusted-host": "UV_INSECURE_HOST", "timeout": "UV_HTTP_TIMEOUT", "default-timeout": "UV_HTTP_TIMEOUT"}
_ADDRESSES = ("UV_DEFAULT_INDEX", "UV_INDEX_URL", "UV_INDEX", "UV_EXTRA_INDEX_URL", "UV_FIND_LINKS")

_SECTIONS = ("global", "install", ":env:")
"""Of pip's settings, those that hold when it installs."""

_GUARD = """\
exec 3<&0 </dev/null
{ read -r _ <&3; kill -KILL 0; } >/dev/null 2>&1 &
exec 3<&-
"$@"
"""
"""For a shell that leads a process group: it runs a program, and kills the group when the pipe that is its input is closed."""

# Each begins where a word does: what is said may be one word of 64 KiB, and would be searched from each of its letters.
_USER = re.compile(r"(\b\w+://)[^/\s`'\"]*@")
_INDEX = re.compile(
    r"(?:[\w.-]+=)?(?P<address>(?P<scheme>\w+)://(?:[^/\s]*@)?(?P<host>[^/\s:?#]+|\[[^\]]*\])(?:[:/?#].*)?)"
)
"""Of uv's settings: perhaps with a name for it before."""

_ADDRESS = re.compile(r"\b\w+://[^\s`'\")]*")


class UvFailed(Exception):
    """It ended with an error. The text is what it said, without credentials and addresses of indexes."""


class UvStopped(Exception):
    """It was told to stop."""


@functools.cache
def find() -> str:
    """Its path; empty where it isn't installed: as the package `uv` of this Python, or on the PATH."""
    with contextlib.suppress(ImportError, FileNotFoundError):
        from uv import find_uv_bin  # type: ignore[import-not-found]

        return str(find_uv_bin())
    return shutil.which("uv") or ""


def run(
    arguments: list[str],
    environment: Mapping[str, str],
    folder: Path,
    stop: threading.Event,
    on_line: Callable[[str], None],
) -> str:
    """Run it in this folder until it ends, and give what it says. Each line is handed on as it comes.

    Raises UvFailed; UvStopped after `stop` is set.
    """
    process = subprocess.Popen(
        ["/bin/sh", "-c", _GUARD, "sh", find(), *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env=environment,
        cwd=folder,
        start_new_session=True,
    )
    assert process.stdout is not None and process.stdin is not None
    try:
        said = _listen(process.stdout.fileno(), stop, lambda line: on_line(masked(line, environment)))
        code = process.wait()
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stdin.close()
        process.stdout.close()
    text = masked(said, environment)
    if code:
        raise UvFailed(text.strip() or f"uv ended with code {code}")
    return text


def _listen(descriptor: int, stop: threading.Event, on_line: Callable[[str], None]) -> str:
    until = time.monotonic() + BUILD_TIMEOUT_S
    said = line = ""
    while True:
        if stop.is_set():
            raise UvStopped
        if time.monotonic() > until:
            raise UvFailed(f"it took longer than {BUILD_TIMEOUT_S:g} s")
        if not select.select([descriptor], [], [], _LOOK_EVERY_S)[0]:
            continue
        data = os.read(descriptor, 65536).decode(errors="replace")
        if not data:
            return said
        said += data
        if len(said) > _SAID_BYTES:  # whole lines: half an address would tell what `masked` hides
            said = said[-_SAID_BYTES:].partition("\n")[2]
        *lines, line = (line + data).split("\n")
        line = line[-_SAID_BYTES:]
        for whole in lines:
            on_line(whole)


def masked(text: str, environment: Mapping[str, str]) -> str:
    """Without users, passwords and tokens in addresses, and without the addresses of indexes, which may be secret too."""
    for name in _ADDRESSES:
        for address in re.split(r"[\s,]+", environment.get(name, "")):
            found = _INDEX.fullmatch(address)
            if found and found["scheme"].lower() != "file":
                text = text.replace(found["address"].rstrip("/"), "<index>")
                host = re.escape(found["host"])  # and as uv writes addresses, which is in its own way
                at_host = rf"\b\w+://(?:[^/\s`'\"]*@)?{host}(?![\w.-])[^\s`'\")]*"
                text = re.sub(at_host, "<index>", text, flags=re.IGNORECASE)
    return _ADDRESS.sub(_without_query, _USER.sub(r"\1***@", text))


def _without_query(address: re.Match[str]) -> str:
    place, mark, _ = address[0].partition("?")
    return place + mark + "***" * bool(mark)


def settings(base: Mapping[str, str], cache: Path) -> dict[str, str]:
    """The environment that it runs in, from a process's: with this user's settings of pip, where there are none of uv."""
    found = {name: value for name, value in base.items() if name not in ("VIRTUAL_ENV", "PYTHONPATH", "PYTHONHOME")}
    found |= {"UV_CACHE_DIR": str(cache), "UV_NO_PROGRESS": "1", "NO_COLOR": "1"}
    if any(base.get(name) for name in _ADDRESSES) or base.get("UV_CONFIG_FILE"):
        return found
    for name, value in _of_pip(base).items():
        values = value.split()
        if name in _INDEXES:
            separator = " " if name == "extra-index-url" else ","
            found[_INDEXES[name]] = separator.join(values) if name != "index-url" else value
        elif name in _PATHS and value:
            found.setdefault(_PATHS[name], value)
        elif name in _PLAIN:
            found.setdefault(_PLAIN[name], " ".join(values))
        elif name == "proxy":
            found.setdefault("HTTPS_PROXY", value)
            found.setdefault("HTTP_PROXY", value)
        elif name == "no-index" and value.lower() in ("1", "true", "yes", "on"):
            found["UV_NO_INDEX"] = "1"
    if "UV_INDEX" in found:
        found.setdefault("UV_INDEX_STRATEGY", "unsafe-best-match")  # pip takes the best of all of them
    return found


def _of_pip(base: Mapping[str, str]) -> dict[str, str]:
    """Its settings by name; none where it isn't installed."""
    command = [sys.executable, "-I", "-m", "pip", "--disable-pip-version-check", "config", "list"]
    try:
        done = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, env=dict(base)
        )
    except (OSError, subprocess.TimeoutExpired):
        return {}
    found: dict[str, str] = {}
    for line in sorted(done.stdout.splitlines(), key=_rank):
        section, _, rest = line.partition(".")
        name, _, quoted = rest.partition("=")
        if section not in _SECTIONS:
            continue
        with contextlib.suppress(ValueError, SyntaxError):
            found[name.strip().lstrip(".")] = str(ast.literal_eval(quoted))
    return found


def _rank(line: str) -> int:
    """What is told later counts."""
    section = line.partition(".")[0]
    return _SECTIONS.index(section) if section in _SECTIONS else -1
