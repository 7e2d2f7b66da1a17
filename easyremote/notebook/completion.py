"""Completions: commands and options of the magics, names of nodes, and of functions in `client.call("…`.

Names are asked for in the background and kept; a completion waits for them for 0.3 s at most.
"""

from __future__ import annotations

import contextlib
import re
import threading
import time
from typing import Any

from IPython.core.completer import SimpleCompletion, context_matcher

from easyremote import foreign
from easyremote.client import Client
from easyremote.errors import EasyRemoteError
from easyremote.notebook import commands
from easyremote.notebook.remote_magic import RemoteMagics
from easyremote.notebook.workspace import workspace

WAIT_S = 0.3
FRESH_S = 2.0
"""Names that are older are asked for again; those that are known are offered meanwhile."""

_MAGIC = re.compile(r"%(?:easyremote|er)\s+(?P<words>(?:\S+\s+)*)(?P<word>\S*)$")
_CELL = re.compile(r"%%?remote\s+(?P<words>(?:\S+\s+)*)(?P<word>\S*)$")
_CALL = re.compile(r"\.(?:call|submit|submit_job|stream|map|function|explain)\(\s*[\"'](?P<word>[^\"']*)$")


class Names:
    """Of functions and nodes, as one client's gateway told them last."""

    def __init__(self) -> None:
        self._known: dict[str, list[str]] = {"functions": [], "nodes": []}
        self._of: Client | None = None
        self._at = 0.0
        self._asking: threading.Event | None = None
        self._lock = threading.Lock()

    def get(self, kind: str) -> list[str]:
        """What is known of "functions" or "nodes", at once or after `WAIT_S`."""
        client = workspace.client
        if client is None:
            return []
        with self._lock:
            if client is not self._of:
                self._of, self._at, self._known, self._asking = client, 0.0, {"functions": [], "nodes": []}, None
            if self._asking is None and time.monotonic() - self._at > FRESH_S:
                self._asking = threading.Event()
                threading.Thread(target=self._ask, args=(client, self._asking), daemon=True).start()
            asking, must_wait = self._asking, not self._at
        if asking is not None and must_wait:
            asking.wait(WAIT_S)
        with self._lock:
            return self._known[kind]

    def _ask(self, client: Client, asking: threading.Event) -> None:
        known: dict[str, list[str]] | None = None
        with contextlib.suppress(EasyRemoteError):
            known = {
                "functions": [item.name for item in client.list_functions()],
                "nodes": [node.node_id for node in client.list_nodes()],
            }
        with self._lock:
            if self._of is client:
                self._known, self._at, self._asking = known or self._known, time.monotonic(), None
        asking.set()


names = Names()


def suggestions(line: str) -> tuple[str, list[str]] | None:
    """What is being written at the end of this line, and what it may become. None where it isn't ours."""
    for pattern, find in ((_MAGIC, _of_easyremote), (_CELL, _of_remote), (_CALL, _of_call)):
        found = pattern.search(line)
        if found is not None:
            word = found["word"]
            options = find(found.groupdict().get("words", "").split(), word)
            return word, sorted(option for option in set(options) if option.startswith(word))
    return None


def _of_easyremote(words: list[str], word: str) -> list[str]:
    known = commands.command_options()
    return known.get(words[0], []) if words else list(known)


def _of_remote(words: list[str], word: str) -> list[str]:
    if words and words[-1] in ("-n", "--node"):
        return names.get("nodes")
    options: Any = getattr(RemoteMagics.remote, "parser")._option_string_actions  # noqa: B009 - magic_arguments adds it
    return list(options)


def _of_call(words: list[str], word: str) -> list[str]:
    return names.get("functions")


@context_matcher(identifier="easyremote")
def matcher(context: Any) -> Any:
    """IPython's view of `suggestions`."""
    found = suggestions(context.line_with_cursor[: context.cursor_position])
    if found is None:
        return {"completions": []}
    word, options = found
    harmless = [option for option in options if option == foreign.name(option)]
    return {
        "completions": [SimpleCompletion(text=option, type="easyremote") for option in harmless],
        "matched_fragment": word,
        "suppress": True,
    }
