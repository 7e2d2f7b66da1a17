"""What a notebook's stop button does beyond the interrupt that whoever waits sees.

- Pressed again while no code runs, it kills what was stopped a moment ago and still runs.
- An interrupt in the body of a loop over a call's items leaves the loop, but the error that the notebook keeps holds its frame,
  and so the loop's iterator: the call would go on, and wait for ever for somebody to take its items.
- A cell that awaits something is left at once. ipykernel (6.31, 7.4) asks its loop for that from within the signal's handler, and
  the loop doesn't wake up for it before something else happens.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from typing import Any

from easyremote import interrupts


def install(shell: Any) -> None:
    """Watch over the cells of this shell."""
    uninstall(shell)
    interrupts.on_first = lambda: _hear_of_the_next(getattr(shell, "kernel", None))
    _have_signals_wake_the_loop()
    shell.events.register("pre_run_cell", _cell_begins)
    shell.events.register("post_run_cell", _cell_has_ended)


def uninstall(shell: Any) -> None:
    """Leave everything to the kernel again."""
    interrupts.on_first = None
    for event, function in (("pre_run_cell", _cell_begins), ("post_run_cell", _cell_has_ended)):
        if function in shell.events.callbacks[event]:
            shell.events.unregister(event, function)


def _have_signals_wake_the_loop() -> None:
    """A loop that handles any signal is woken by all. This one is ignored otherwise, and nobody sends it."""
    with contextlib.suppress(RuntimeError, ValueError, NotImplementedError):  # no loop runs here, or it can't
        asyncio.get_running_loop().add_signal_handler(signal.SIGURG, lambda: None)


def _hear_of_the_next(kernel: Any) -> None:
    """A kernel of ipykernel ignores the button while it has nothing to do; what it does then is set while a cell runs."""
    if hasattr(kernel, "saved_sigint_handler") and threading.current_thread() is threading.main_thread():
        kernel.saved_sigint_handler = _pressed_again


def _pressed_again(_number: int, _frame: Any) -> None:
    interrupts.again()


def _cell_begins(_info: Any = None) -> None:
    interrupts.loops.forget()


def _cell_has_ended(result: Any = None) -> None:
    if isinstance(getattr(result, "error_in_exec", None), KeyboardInterrupt):
        interrupts.loops.close()
