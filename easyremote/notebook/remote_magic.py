"""`%%remote` and `%remote`: their options; `notebook.running` does the work."""

from __future__ import annotations

import argparse
import re
from typing import Any

from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from easyremote.notebook.cells import names_from
from easyremote.notebook.dry_run import explain_cell
from easyremote.notebook.running import run_remote
from easyremote.notebook.workspace import workspace

_WORD = re.compile(r"\s*(\S+)")


@magics_class
class RemoteMagics(Magics):
    """`%%remote` and `%remote` of one IPython shell."""

    @magic_arguments()
    @argument("-n", "--node", default="", help="name of the node (default: the one that holds this notebook's session)")
    @argument("--all", dest="every_node", action="store_true", help="on every node at the same time")
    @argument("-i", "--input", default="", help="variables to send in any case, e.g. -i a,b")
    @argument("-o", "--output", default="", help="variables to bring back, e.g. -o c")
    @argument(
        "--no-send",
        "--local-only",
        dest="by_itself",
        action="store_false",
        help="send nothing by itself: the cell has what -i names, and what the session has",
    )
    @argument("--fresh", action="store_true", help="end the session first, and begin a new one")
    @argument("--gpus", type=int, default=None, help="whole GPUs that the cell has for itself")
    @argument("--gpu-memory", default=None, help="free on each of its GPUs, or of one that others share, e.g. 8GiB")
    @argument("--memory", default=None, help="memory that it needs, e.g. 4GiB")
    @argument("--cpus", type=float, default=None, help="processors that it needs")
    @argument("--strategy", default=None, help="how the node of a new session is chosen, e.g. cost_aware")
    @argument("--retries", type=int, default=0, help="how often it runs again after its node was lost (default 0)")
    @argument("-t", "--timeout", type=float, default=None, help="seconds after which the cell is stopped")
    @argument(
        "--with",
        dest="requirements",
        action="append",
        help="a package that the session is to have, e.g. --with pandas --with 'numpy<2'; may be repeated",
    )
    @argument("--python", default=None, help="the Python that the session is to have, e.g. 3.12")
    @argument("--bg", action="store_true", help="in the background: the cell ends at once, its run is a job shown here")
    @argument(
        "--apart", action="store_true", help="with --bg: in a namespace of its own, so that no other cell waits for it"
    )
    @argument(
        "--on-interrupt",
        choices=("cancel", "detach"),
        default="cancel",
        help="detach: the stop button leaves it running",
    )
    @argument("--name", default="", help="what lists and errors call this cell's run")
    @argument("--dry-run", action="store_true", help="show what would be sent, and send nothing")
    @no_var_expand
    @line_cell_magic
    def remote(self, line: str, cell: str | None = None) -> Any:
        """Run the cell on a node, in a session whose names last from cell to cell.

        What the cell reads is sent along where the session lacks it, or where it has changed here. Prints, figures, displays and
        errors appear here while it runs, and the value of the last expression is this cell's Out. The stop button stops the
        remote work. In one line, `x = %remote EXPRESSION` gives the expression's value.
        """
        if any(word in ("-h", "--help") for word in line.split()[:1]):
            print(self.remote.__doc__)
            return None
        said, source = (line, cell) if cell is not None else _split(line)
        options = parse_argstring(self.remote, said)
        if options.dry_run:
            assert self.shell is not None
            title = f"cell {self._cell_number()}"
            given, names = names_from(options.input), self.shell.user_ns
            return explain_cell(source, names, given, title, workspace.client, self.shell.user_ns_hidden)
        return run_remote(
            source,
            node=options.node,
            every_node=options.every_node,
            send=names_from(options.input),
            bring_back=names_from(options.output),
            by_itself=options.by_itself,
            fresh=options.fresh,
            name=options.name,
            timeout=options.timeout,
            retries=options.retries,
            strategy=options.strategy,
            gpus=options.gpus,
            gpu_memory=options.gpu_memory,
            memory=options.memory,
            cpus=options.cpus,
            requirements=_unquoted(options.requirements),
            python=options.python,
            background=options.bg,
            apart=options.apart,
            on_interrupt=options.on_interrupt,
            cell_number=self._cell_number(),
        )

    def _cell_number(self) -> int:
        """The N of this cell's In[N]. While a cell runs, IPython's own counter is one further, but for older versions."""
        assert self.shell is not None
        running = getattr(self.shell.displayhook, "exec_result", None)
        return getattr(running, "execution_count", None) or self.shell.execution_count


def _unquoted(texts: list[str] | None) -> list[str] | None:
    """IPython leaves quotation marks where they are."""
    return None if texts is None else [text.strip("\"'") for text in texts]


def _split(line: str) -> tuple[str, str]:
    """The options that a line begins with, and the expression behind them, as it is."""
    parser: argparse.ArgumentParser = RemoteMagics.remote.parser  # type: ignore[attr-defined] # pyright: ignore
    actions, end = parser._option_string_actions, 0
    while (found := _WORD.match(line, end)) is not None and (
        action := actions.get(found[1].partition("=")[0])
    ) is not None:
        end = found.end()
        if action.nargs != 0 and "=" not in found[1] and (value := _WORD.match(line, end)) is not None:
            end = value.end()
    return line[:end], line[end:].strip()
