"""`%%remote`: its options, and the cell that it is given to `notebook.cells` with."""

from __future__ import annotations

from typing import Any

from IPython.core.magic import Magics, cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring

from easyremote.calls import Call
from easyremote.client import Client
from easyremote.jobs import Job
from easyremote.notebook.background import run_in_background, title_of_cell
from easyremote.notebook.cells import names_from, submit_cell, take_outcome, values_of
from easyremote.notebook.dry_run import explain_cell
from easyremote.notebook.workspace import workspace


@magics_class
class RemoteMagics(Magics):
    """`%%remote` of one IPython shell."""

    @magic_arguments()
    @argument("-n", "--node", default="", help="name of the node (default: the one that holds this notebook's session)")
    @argument("-i", "--input", default="", help="variables to send, e.g. -i a,b")
    @argument("-o", "--output", default="", help="variables to bring back, e.g. -o c")
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
    @cell_magic
    def remote(self, line: str, cell: str) -> Any:
        """Run the cell on a node, in a namespace that lasts from cell to cell.

        Prints, figures, displays and errors appear here while it runs, and the value of the last expression is this cell's Out.
        The stop button stops the remote work.
        """
        options = parse_argstring(self.remote, line)
        assert self.shell is not None
        namespace = self.shell.user_ns
        if options.dry_run:
            return explain_cell(
                cell, namespace, names_from(options.input), f"cell {self._cell_number()}", workspace.client
            )
        send = values_of(names_from(options.input), namespace)

        def submit(client: Client) -> Call[dict[str, Any]]:
            return submit_cell(
                client,
                cell,
                node=workspace.choose_node(options.node),
                session_id="" if options.apart else workspace.session_id,
                cell_number=self._cell_number(),
                send=send,
                bring_back=names_from(options.output),
                name=title_of_cell(self._cell_number(), options.name) if options.bg or detaches else options.name,
                timeout=options.timeout,
                requirements=_unquoted(options.requirements),
                python=options.python,
            )

        detaches = options.on_interrupt == "detach"
        client = workspace.require_client().with_options(on_interrupt=options.on_interrupt)
        if options.bg:
            return run_in_background(submit, client, workspace.jobs_remark())
        call = submit(client)
        outcome = call.outcome() if isinstance(call, Job) else call.result()
        return take_outcome(outcome, namespace, "" if call._may_unpickle else call.node)

    def _cell_number(self) -> int:
        """The N of this cell's In[N]. While a cell runs, IPython's own counter is one further, but for older versions."""
        assert self.shell is not None
        running = getattr(self.shell.displayhook, "exec_result", None)
        return getattr(running, "execution_count", None) or self.shell.execution_count


def _unquoted(texts: list[str] | None) -> list[str] | None:
    """IPython leaves quotation marks where they are."""
    return None if texts is None else [text.strip("\"'") for text in texts]
