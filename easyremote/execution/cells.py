"""Runs notebook cells in a worker: IPython's own shell where it is installed, with displays that go to the calling cell."""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Callable
from typing import Any

from easyremote.errors import UsageError
from easyremote.execution import figures, rich_display
from easyremote.execution.functions import remember_source
from easyremote.execution.metering import Meter
from easyremote.execution.place import Place, Sent

_LARGEST_VALUE_BYTES = 1024 * 1024
"""The value of a cell's last expression comes back itself up to this size; beyond it, only what it looks like."""

_shell: Any = None
_plain_namespace: dict[str, Any] = {"__name__": "__main__"}


def shell() -> Any:
    """This process's IPython shell, made at the first use. None where IPython isn't installed."""
    global _shell
    if _shell is None:
        try:
            _shell = _make_shell()
        except ImportError:
            _shell = False
    return _shell or None


def _make_shell() -> Any:
    from IPython.core.displayhook import DisplayHook
    from IPython.core.displaypub import DisplayPublisher
    from IPython.core.interactiveshell import InteractiveShell
    from traitlets import Type

    class RemotePublisher(DisplayPublisher):
        def publish(self, data: Any, metadata: Any = None, **options: Any) -> None:
            transient = options.get("transient") or {}
            rich_display.publish(
                data, metadata, display_id=transient.get("display_id", ""), update=bool(options.get("update"))
            )

        def clear_output(self, wait: bool = False) -> None:
            rich_display.publish({}, clear=True, wait=wait)

    class RemoteHook(DisplayHook):
        last: Any = None
        has_last = False
        source = ""

        def quiet(self) -> bool:
            return bool(self.semicolon_at_end_of_expression(self.source))  # a `;` says: show nothing

        def __call__(self, result: Any = None) -> None:
            self.check_for_underscore()
            if result is not None and not self.quiet():
                self.last, self.has_last = result, True
                self.update_user_ns(result)

    class RemoteShell(InteractiveShell):
        display_pub_class = Type(RemotePublisher)
        displayhook_class = Type(RemoteHook)

        def showtraceback(self, *_: Any, **__: Any) -> None:
            pass  # the exception itself goes to the client

        def showsyntaxerror(self, *_: Any, **__: Any) -> None:
            pass

        def enable_gui(self, gui: Any = None) -> None:
            pass

        def enable_matplotlib(self, gui: Any = None) -> tuple[Any, str]:
            return gui or "inline", rich_display.BACKEND  # `%matplotlib`: figures go to the calling cell already

        def init_history(self) -> None:
            self.config.HistoryManager.enabled = False
            super().init_history()

        def init_io(self) -> None:
            pass  # this process's streams are captured already

        def init_sys_modules(self) -> None:
            pass  # `__main__` stays what it is: values of its classes go back to the notebook by value

    made = RemoteShell.instance()
    if made.history_manager is not None:
        made.history_manager.enabled = False
    figures.install(made)
    return made


class CellRun:
    """One cell: `source` with the notebook's name for it, what its notebook sent of names, and names to bring back after."""

    def __init__(self, source: str, file: str, sent: Sent, bring_back: list[str]) -> None:
        self.source = source
        self.file = file
        self.sent = sent
        self.bring_back = bring_back

    def __call__(self) -> dict[str, Any]:
        """Runs it. Returns {"names": {...}} with what was asked for, "value" where the last expression has one, in "taken" the
        names that were sent and weren't here, and in "used" what `Meter.used` tells.

        Raises what the cell raised.
        """
        figures.bring(self.sent.get("figures", {}))
        before, meter = _place.marks(), Meter()
        try:
            with meter.running():
                found = _run_with_ipython(self) if shell() is not None else _run_plainly(self)
                rich_display.flush_figures()
        finally:
            _place.ran(self.sent, before)
        return found | {"taken": _place.taken, "used": meter.used()}


def _run_with_ipython(cell: CellRun) -> dict[str, Any]:
    ipython = shell()
    hook = ipython.displayhook
    hook.last, hook.has_last, hook.source = None, False, cell.source
    compiler = ipython.compile
    original = compiler.get_code_name
    compiler.get_code_name = lambda *_: cell.file
    remember_source(cell.file, cell.source)
    try:
        outcome = ipython.run_cell(cell.source, store_history=False)
    finally:
        compiler.get_code_name = original
    error = outcome.error_before_exec or outcome.error_in_exec
    if error is not None:
        raise error
    return _outcome(cell, ipython.user_ns, hook.last, hook.has_last)


def _run_plainly(cell: CellRun) -> dict[str, Any]:
    """Without IPython: plain Python, the last expression's value kept."""
    remember_source(cell.file, cell.source)
    names = _plain_namespace
    tree = ast.parse(cell.source, cell.file)
    last = tree.body.pop() if tree.body and isinstance(tree.body[-1], ast.Expr) else None
    exec(compile(tree, cell.file, "exec"), names)  # nosec B102 - what a worker is for
    value = None
    if isinstance(last, ast.Expr):
        value = eval(compile(ast.Expression(last.value), cell.file, "eval"), names)  # nosec B307 - likewise
    return _outcome(cell, names, value, value is not None)


def _outcome(cell: CellRun, namespace: dict[str, Any], value: Any, has_value: bool) -> dict[str, Any]:
    missing = [name for name in cell.bring_back if name not in namespace]
    if missing:
        raise UsageError(f"the cell was to bring back {', '.join(missing)} (-o), but it doesn't define it")
    outcome: dict[str, Any] = {"names": {name: namespace[name] for name in cell.bring_back}}
    if not has_value:
        return outcome
    travels = _travels(value)
    if travels:
        outcome["value"] = value
    if not travels or not _displays_itself(value):  # else it does where it arrives, in the way that suits that notebook
        # An open figure is drawn when the cell ends: here it is named only.
        data, metadata = ({"text/plain": repr(value)}, {}) if rich_display.is_open(value) else _format(value)
        if data:
            outcome["bundle"] = {"data": data, "metadata": metadata}
    return outcome


def _travels(value: Any) -> bool:
    """Whether the value itself can go back: small enough, and not a view of something that only exists here."""
    from easyremote.wire import codec

    if inspect.ismodule(value) or type(value).__module__.split(".")[0] == "matplotlib":
        return False
    if sys.getsizeof(value, 0) > _LARGEST_VALUE_BYTES:
        return False
    try:
        return codec.encode(value).size <= _LARGEST_VALUE_BYTES
    except Exception:
        return False


def _displays_itself(value: Any) -> bool:
    """As plotly's figures do."""
    return callable(getattr(type(value), "_ipython_display_", None))


def _format(value: Any) -> tuple[dict[str, Any], dict[str, Any]]:
    if shell() is not None:
        data, metadata = shell().display_formatter.format(value)
        return rich_display._textual(data), metadata
    try:
        text = repr(value)
    except Exception as error:
        text = f"<{type(value).__name__}, whose repr raised {type(error).__name__}>"
    return {"text/plain": text}, {}


def namespace() -> dict[str, Any]:
    """The names that cells run in."""
    made = shell()
    return _plain_namespace if made is None else made.user_ns


_place = Place(namespace)


def run_cell(
    source: str, file: str, sent: Sent, bring_back: list[str], node_id: str = ""
) -> Callable[[], dict[str, Any]]:
    """A cell as a callable without arguments. Where it needs names that neither are here nor came, it doesn't run, and gives
    {"wanted": names}. Raises what loading one of them raises."""
    wanted = _place.wanted(sent)
    if wanted:
        return lambda: {"wanted": wanted}
    _place.take(sent, node_id)
    return CellRun(source, file, sent, bring_back)
