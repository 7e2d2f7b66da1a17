"""Shows a call's output where the caller is: text on its own streams, rich displays in a notebook that has them."""

from __future__ import annotations

import json
import math
import sys
from typing import Any, Protocol

from easyremote import foreign
from easyremote.bar_lines import BarLines, hashes
from easyremote.errors import PayloadError
from easyremote.sandbox import sandboxed
from easyremote.waiting import WaitingNote
from easyremote.wire.v1 import gateway_pb2 as pb


class Presenter(Protocol):
    """Shows one event of a call; called in the thread that waits for it.

    One that has an `output_limit`, in characters, gets so much as `output`, and then `tail(tail, text, node)`: the newest lines
    of what came beyond it, in the place of those before.
    """

    def output(self, is_stderr: bool, text: str) -> None: ...
    def display(self, display: pb.Display, bundle: dict[str, Any]) -> None: ...
    def progress(self, progress: pb.Progress) -> None: ...


class DefaultPresenter:
    """Prints text; gives displays to IPython where it runs, else prints their text form."""

    def output(self, is_stderr: bool, text: str) -> None:
        stream = sys.stderr if is_stderr else sys.stdout
        if _bar_lines is not None:
            _bar_lines.write(stream, text)
            return
        stream.write(text)
        stream.flush()

    def display(self, display: pb.Display, bundle: dict[str, Any]) -> None:
        shell = running_ipython()
        if shell is not None:
            if display.clear:
                shell.display_pub.clear_output(wait=display.wait)
                return
            transient = {"display_id": display.display_id} if display.display_id else {}
            shell.display_pub.publish(
                data=bundle["data"], metadata=bundle.get("metadata"), transient=transient, update=display.update
            )
        elif "text/plain" in bundle.get("data", {}):
            self.output(False, str(bundle["data"]["text/plain"]) + "\n")

    def progress(self, progress: pb.Progress) -> None:
        if progress.bars:
            _lines_here().show(self, progress.bars)
            return
        self.output(True, f"\r{progress_line(progress)}" + ("\n" if 0 < progress.total <= progress.done else ""))


_bar_lines: BarLines | None = None


def _lines_here() -> BarLines:
    """The bars on standard error, from the first one on."""
    global _bar_lines
    if _bar_lines is None or _bar_lines.stream is not sys.stderr:
        _bar_lines = BarLines(sys.stderr)
    return _bar_lines


def present(presenter: Presenter, event: pb.Event, bundle_json: bytes, is_trusted: bool, node: str) -> None:
    """Show an event that isn't a value. `is_trusted`: its node may run code here; else only what does nothing is shown."""
    if event.HasField("output"):
        text = event.output.text if is_trusted else foreign.printed(event.output.text)
        tail = getattr(presenter, "tail", None) if event.output.HasField("tail") else None
        if tail is not None:
            tail(event.output.tail, text, node)
        else:
            presenter.output(event.output.is_stderr, text)
    elif event.HasField("display"):
        display, bundle = event.display, bundle_of(bundle_json)
        if not is_trusted:
            bundle = sandboxed(bundle, node)
            if display.display_id:  # else it could change what this notebook itself shows
                display = pb.Display(
                    display_id=f"{node}:{display.display_id}",
                    update=display.update,
                    clear=display.clear,
                    wait=display.wait,
                )
        presenter.display(display, bundle)
    elif event.HasField("progress"):
        presenter.progress(event.progress)


def tell_waiting(presenter: Presenter, note: WaitingNote) -> None:
    """Why the call waits: as the presenter's `waiting(note)` shows it, where it has one, else on standard error."""
    show = getattr(presenter, "waiting", None)
    if show is not None:
        show(note)
    else:
        presenter.output(True, str(note))


def progress_line(progress: pb.Progress) -> str:
    """A bar of text, e.g. `[######......] 12/24 epoch 12`."""
    text = f" {foreign.name(progress.text)}" if progress.text else ""
    if not progress.total or not math.isfinite(progress.done / progress.total):
        return f"{count_text(progress.done)}{text}"
    part = min(max(progress.done / progress.total, 0.0), 1.0)
    return f"{hashes(part)} {count_text(progress.done)}/{count_text(progress.total)}{text}"


def count_text(value: float) -> str:
    """A whole number with all its digits, e.g. 2500000; another one with six."""
    return str(int(value)) if float(value).is_integer() else f"{value:g}"


def running_ipython() -> Any:
    """IPython's shell of this process, without importing IPython."""
    module = sys.modules.get("IPython")
    get = getattr(module, "get_ipython", None)
    return get() if get is not None else None


def bundle_of(payload_json: bytes) -> dict[str, Any]:
    """What a node sent as a display. Raises PayloadError when it is nothing of the kind."""
    try:
        bundle = json.loads(payload_json) if payload_json else {}
    except (ValueError, RecursionError) as error:
        raise PayloadError(f"a display came that isn't JSON: {error}") from None
    if not isinstance(bundle, dict) or not isinstance(bundle.get("data", {}), dict):
        raise PayloadError("a display came that is no mime bundle")
    return {"data": {}, "metadata": {}} | bundle
