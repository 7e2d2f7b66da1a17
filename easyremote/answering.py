"""Asks the person at this client what a remote function asks: in a notebook's cell, or at the terminal.

`input` and `getpass` of this process do the asking, so that a notebook's front end shows its own box, and what is piped into a
script is read.
"""

from __future__ import annotations

import asyncio
import builtins
import sys
import threading
from typing import Any

from easyremote import foreign
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_ANSWER = 64 * 1024
"""Longest answer, in characters."""

WAITED_FOR_WITHIN_S = 1.0
"""A call that nobody has begun to wait for gets no answer after so long."""

UNATTENDED = (
    "nobody waits for this call, so nobody is there to answer: a call is asked in a cell of %%remote, in client.call, or while "
    "result() waits for it"
)

_lock = threading.Lock()
_PYTHONS_OWN = "EOF when reading a line"
_TYPED_BEFORE = "the standard input of the client has ended, so nobody is there to answer"


class Unanswered(Exception):
    """Nobody can answer; the text says why, to the author of the function."""


def answer(presenter: object, asked: pb.Asked, is_trusted: bool, node: str) -> str:
    """Ask in this thread, and return what was typed. Raises Unanswered; KeyboardInterrupt where the person stopped it.

    `presenter`: asks itself where it has a method `ask(prompt, is_secret)`. `is_trusted`: the node may run code here. Else its
    prompt is made harmless, and says whose it is.
    """
    _check_place()
    ask = getattr(presenter, "ask", _ask)
    prompt = asked.prompt if is_trusted else f"node {foreign.name(node)} asks: {foreign.text(asked.prompt)}"
    try:
        with _lock:
            text = ask(prompt, asked.is_secret)
    except EOFError as error:
        said = str(error)  # by who asks in turn, where this process is a worker
        raise Unanswered(_TYPED_BEFORE if said in ("", _PYTHONS_OWN) else said) from None
    except Exception as error:
        raise Unanswered(f"the client can't ask: {type(error).__name__}: {error}") from None
    if len(text) > MAX_ANSWER:
        raise Unanswered(f"the answer has {len(text):,} characters, and {MAX_ANSWER:,} are the most")
    return text


def _ask(prompt: str, is_secret: bool) -> str:
    if not is_secret:
        return builtins.input(prompt)
    import getpass

    return getpass.getpass(prompt)


def _check_place() -> None:
    """Raises Unanswered where a question would come to nobody, or block what must not be blocked."""
    kernel = _kernel()
    if kernel is not None:
        if threading.current_thread() is not threading.main_thread():
            raise Unanswered("the call is waited for in a thread of the notebook; wait for it in a cell to be asked")
        if not getattr(kernel, "_allow_stdin", True):
            raise Unanswered("the notebook's front end allows no questions (no stdin), so nobody is there to answer")
    elif sys.stdin is None:
        raise Unanswered("the client has no standard input, so nobody is there to answer")
    elif _is_awaited():
        raise Unanswered(
            "the call is awaited, and a question would block the event loop; client.call(...) can be asked"
        )


def _is_awaited() -> bool:
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        return False
    return True


def _kernel() -> Any:
    """The Jupyter kernel that this process is, if it is one."""
    module = sys.modules.get("IPython")
    get = getattr(module, "get_ipython", None)
    shell = get() if get is not None else None
    return getattr(shell, "kernel", None)
