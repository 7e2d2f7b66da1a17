"""`approve="ask"`: shows code that is new on a node to the person at its terminal before it runs, and asks.

What is shown is what was verified, see `reading`. The person is asked about one call at a time, and no more about a call that is
cancelled meanwhile.
"""

from __future__ import annotations

import asyncio
import contextlib
import difflib
import os
import select
import sys
import threading
from collections.abc import Callable
from typing import TextIO

from easyremote.errors import ConsentError, UsageError
from easyremote.execution.reading import MAX_LINES, Reading, read_arguments, read_cell, read_function
from easyremote.security.approvals import Approvals
from easyremote.security.statements import digest_of
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb

APPROVE_MODES = ("", "ask")

_LOOK_EVERY_S = 0.2
_KEEP = "and keep a function"


class Terminal:
    """Where the node was started. Raises UsageError where that is no terminal: nobody could be asked there."""

    def __init__(self, source: TextIO | None = None, shown: TextIO | None = None) -> None:
        self._source = source or sys.stdin
        self._shown = shown or sys.stderr
        if not (self._source.isatty() and self._shown.isatty()):
            raise UsageError(
                'approve="ask" asks the person at the node\'s terminal, and this node has none. Start it in one, or trust keys '
                "instead: easyremote trust"
            )

    def show(self, text: str) -> None:
        print(text, file=self._shown, flush=True)

    def ask(self, question: str, stop: threading.Event) -> str:
        """A line that is typed after the question was shown; empty when told to stop."""
        descriptor = self._source.fileno()
        with contextlib.suppress(ImportError, OSError):
            import termios

            termios.tcflush(descriptor, termios.TCIFLUSH)  # what was typed before it was asked isn't an answer
        self.show(question)
        line = b""
        while not stop.is_set():
            if select.select([descriptor], [], [], _LOOK_EVERY_S)[0]:
                got = os.read(descriptor, 1024)
                line += got
                if not got or b"\n" in line:
                    break
        return line.decode(errors="replace").strip().lower()


class Approver:
    """Asks, and remembers. Runs on the loop."""

    def __init__(self, node_id: str, terminal: Terminal, approvals: Approvals | None = None) -> None:
        self._node_id = node_id
        self._terminal = terminal
        self._approvals = approvals or Approvals()
        self._turn = asyncio.Lock()

    async def check(
        self, submit: pb.Submit, code: codec.Encoded | None, client: str, on_wait: Callable[[], None]
    ) -> None:
        """Whether this call may run. `code`: what it brings. `client`: whose it is, for people. `on_wait`: a person is to decide.

        Raises ConsentError where it may not.
        """
        asked = submit.code.spec.environment
        digest = digest_of(code.parts) if code is not None else ""
        if digest and submit.code.spec.HasField("environment"):  # with other packages it is other code
            digest = digest_of([digest.encode(), asked.SerializeToString(deterministic=True)])
        arguments = await asyncio.to_thread(_read_arguments, submit)
        is_approved = code is None or self._approvals.is_approved(digest)
        if is_approved and arguments.is_data:
            return
        reading = await asyncio.to_thread(_read_code, submit.code.kind, code) if code is not None else Reading()
        if asked.requirements:
            reading.notes.append(
                f"it has these packages installed, whose code runs too: {', '.join(asked.requirements)}"
            )
        if reading.text.count("\n") > MAX_LINES:
            raise ConsentError(
                f"this code has more than {MAX_LINES} lines, too many to be approved on node '{self._node_id}'"
            )
        on_wait()
        async with self._turn:
            if self._approvals.is_approved(digest) and arguments.is_data:  # meanwhile
                return
            name = _name_of(submit)
            self._terminal.show(self._question(name, client, digest, reading, arguments))
            answer = await self._answer(may_always=code is not None)
            if answer not in ("y", "a"):
                self._terminal.show("Denied.\n")
                raise ConsentError(f"the owner of node '{self._node_id}' looked at this code and said no")
            if code is not None:
                self._approvals.approve(digest, name, reading.text, answer == "a")
            self._terminal.show("It runs.\n")

    async def _answer(self, may_always: bool) -> str:
        always = ", a: yes, and always for exactly this code" if may_always else ""
        while True:
            answer = (await self._ask(f"Run it? y: yes, once{always}, n: no"))[:8]
            answer = {"yes": "y", "no": "n", "always": "a"}.get(answer, answer)
            if answer in ("y", "n", "") or (answer == "a" and may_always):
                return answer

    async def _ask(self, question: str) -> str:
        """A line. Cancelled, it ends when nobody reads any more: an answer is for the question after it."""
        stop = threading.Event()
        reading = asyncio.ensure_future(asyncio.to_thread(self._terminal.ask, question, stop))
        try:
            return await asyncio.shield(reading)
        finally:
            stop.set()
            await asyncio.wait((reading,))

    def _question(self, name: str, client: str, digest: str, reading: Reading, arguments: Reading) -> str:
        before = self._approvals.last(name)
        head = f"{client} asks node '{self._node_id}' to run {name}"
        lines = [f"\n{'=' * 72}", _shown(head)]
        if digest:
            lines.append(f"SHA-256 of what it brings: {digest}")
        lines += [f"! {_shown(note)}" for note in [*reading.notes, *arguments.notes]]
        lines.append("-" * 72)
        if before is not None and before != reading.text:
            lines.append("What differs from what you approved under that name before:")
            changes = difflib.unified_diff(
                before.splitlines(), reading.text.splitlines(), "before", "now", lineterm="", n=3
            )
            lines += [_shown(line) for line in changes]
            lines += ["-" * 72, "All of it:"]
        lines += [_shown(line) for line in reading.text.split("\n")]
        return "\n".join([*lines, "=" * 72])


def _read_arguments(submit: pb.Submit) -> Reading:
    if submit.plain_only or (submit.arguments.content_type == codec.PLAIN and not submit.tasks):
        return Reading()  # decoded by what can't run anything
    if submit.arguments.HasField("blob"):
        return Reading(notes=["its arguments are too large to be looked at"], is_data=False)
    found = Reading()
    parts = [codec.Encoded.of(pb.Payload(data=task)) for task in submit.tasks] or [codec.Encoded.of(submit.arguments)]
    for encoded in parts:
        if encoded.size:
            read = read_arguments(encoded)
            found.is_data &= read.is_data
            found.notes += [note for note in read.notes if note not in found.notes]
    return found


def _read_code(kind: int, code: codec.Encoded) -> Reading:
    return read_cell(code) if kind == pb.Code.KIND_CELL else read_function(code)


def _name_of(submit: pb.Submit) -> str:
    if not submit.HasField("code"):
        return f"the function '{submit.function}'"
    what = {pb.Code.KIND_CELL: "a cell", pb.Code.KIND_REGISTER: _KEEP, pb.Code.KIND_STAGE: _KEEP}.get(
        submit.code.kind, "a function"
    )
    return f"{what} '{submit.code.spec.name}'"


def _shown(text: str) -> str:
    """As it is, but for characters that could make a terminal show something else than what is there."""
    return "".join(c if c.isprintable() or c == "\t" else c.encode("unicode_escape").decode() for c in text)
