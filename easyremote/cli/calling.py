"""`easyremote call`."""

from __future__ import annotations

import json
import signal
import sys
import threading
from collections.abc import Iterable
from typing import Any

from easyremote import foreign
from easyremote.calls import Call
from easyremote.cli import exits
from easyremote.cli.values import read_arguments, to_json
from easyremote.client import Client
from easyremote.errors import RemoteError
from easyremote.presenting import progress_line
from easyremote.waiting import WaitingNote
from easyremote.wire.v1 import gateway_pb2 as pb

WAITING_AFTER_S = 1.0
"""A person at a terminal is told when nothing has started by then."""

SHOWN_CHARACTERS = 100_000
"""Of one value on a terminal."""


def run(
    name: str,
    texts: Iterable[str],
    gateway: str | None,
    node: str | None,
    timeout_s: float | None,
    as_json: bool,
    durable: bool,
) -> None:
    """Call the function and print what comes; of a job its id."""
    args, kwargs = read_arguments(texts)
    if durable:
        with Client(gateway) as client:
            job = client.with_options(node=node, timeout=timeout_s).submit_job(name, *args, **kwargs)
            print(json.dumps({"id": job.id}) if as_json else job.id)
        return
    screen = Screen(as_json)
    signal.signal(signal.SIGTERM, _terminate)
    with Client(gateway) as client:
        client = client.with_options(node=node, timeout=timeout_s).with_presenter(lambda: screen)
        call = client.submit(name, *args, **kwargs)
        hint = threading.Timer(WAITING_AFTER_S, _tell_waiting, (call,))
        hint.daemon = True
        hint.start()
        try:
            for value in call:
                screen.value(value, call.is_stream)
        except KeyboardInterrupt:
            call.cancel("interrupted")
            screen.close()
            where = f" on node '{call.node}'" if call.node else ""
            exits.tell(f"interrupted: '{name}'{where} was told to stop")
            raise
        except Exception as error:
            screen.close()
            tell_if_remote(name, error)
            raise
        finally:
            hint.cancel()
        screen.close()


def _tell_waiting(call: Call[Any]) -> None:
    if call.state == "queued" and sys.stderr.isatty():
        exits.tell(f"'{call.function}' waits for a node that is free ...")


def _print_pretty(value: Any) -> None:
    """Broken to the terminal's width, as many values a line as fit, coloured like a literal."""
    import pprint

    from rich.console import Console
    from rich.highlighter import ReprHighlighter
    from rich.text import Text

    console = Console()
    shown = pprint.pformat(value, width=console.width, compact=True, sort_dicts=False)
    left_out = len(shown) - SHOWN_CHARACTERS
    console.print(ReprHighlighter()(Text(shown[:SHOWN_CHARACTERS])), soft_wrap=True)
    if left_out > 0:
        exits.tell(f"... and {left_out:,} more characters (all of it goes to a file or a pipe, or with --json)")


def _terminate(number: int, _frame: Any) -> None:
    """Leave the `with` block of the client, which cancels the call."""
    raise SystemExit(128 + number)


def tell_if_remote(name: str, error: Exception) -> None:
    """Print the remote traceback and end, where the function raised."""
    remote = error if isinstance(error, RemoteError) else error.__cause__
    if isinstance(remote, RemoteError):
        _tell_remote(name, remote)


def _tell_remote(name: str, error: RemoteError) -> None:
    exits.tell(foreign.printed(error.remote_traceback.rstrip()))
    where = f" on node '{foreign.name(error.node)}'" if error.node else ""
    exits.fail(f"'{name}' raised {foreign.name(error.remote_type.rpartition('.')[2])}{where}", exits.REMOTE)


class Screen:
    """Where a call's values and its output go. With JSON, standard output is for the values alone."""

    def __init__(self, as_json: bool) -> None:
        self._as_json = as_json
        self._is_terminal = sys.stdout.isatty()
        self._shows_progress = sys.stderr.isatty()
        self._has_progress = False  # the last line of the terminal is a progress bar
        self._at_line_start = True
        for stream in (sys.stdout, sys.stderr):  # a character that the terminal has no code for mustn't end the call
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]

    # ---- values --------------------------------------------------------------------------------------------------

    def value(self, value: Any, is_item: bool) -> None:
        self._clear_progress()
        if self._as_json:
            print(to_json(value), flush=True)
            return
        if not self._at_line_start:
            print()
            self._at_line_start = True
        if value is None and not is_item:
            return  # a function that returns nothing
        if isinstance(value, str):
            print(foreign.printed(value) if self._is_terminal else value, flush=True)
        elif self._is_terminal:
            _print_pretty(value)
        else:
            print(repr(value), flush=True)

    # ---- output, as a Presenter ----------------------------------------------------------------------------------

    def output(self, is_stderr: bool, text: str) -> None:
        self._clear_progress()
        is_stderr = is_stderr or self._as_json
        stream = sys.stderr if is_stderr else sys.stdout
        stream.write(text)
        stream.flush()
        if text and not is_stderr:
            self._at_line_start = text.endswith("\n")

    def display(self, display: pb.Display, bundle: dict[str, Any]) -> None:
        text = bundle.get("data", {}).get("text/plain")
        if text and not display.clear:
            self.output(False, f"{text}\n")

    def progress(self, progress: pb.Progress) -> None:
        if self._shows_progress:
            self._clear_progress()
            sys.stderr.write(progress_line(progress))
            sys.stderr.flush()
            self._has_progress = True

    def ask(self, prompt: str, is_secret: bool) -> str:
        """What a function asks is asked on standard error. Raises EOFError at the end of standard input."""
        self._clear_progress()
        if is_secret:
            import getpass

            return getpass.getpass(prompt, stream=sys.stderr)
        sys.stderr.write(prompt)
        sys.stderr.flush()
        line = sys.stdin.readline()
        if not line:
            raise EOFError
        return line.rstrip("\n")

    def waiting(self, note: WaitingNote) -> None:
        self.output(True, str(note))

    def close(self) -> None:
        """The call has ended; the last progress stays."""
        if self._has_progress:
            self._has_progress = False
            exits.tell("")

    def _clear_progress(self) -> None:
        if self._has_progress:
            self._has_progress = False
            sys.stderr.write("\r\x1b[K")
            sys.stderr.flush()
