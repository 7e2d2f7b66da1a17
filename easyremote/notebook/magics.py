"""`%easyremote` (short: `%er`) and `%%remote`."""

from __future__ import annotations

import argparse
import shlex
import time
from typing import Any, NoReturn

from IPython.core.magic import Magics, cell_magic, line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments, parse_argstring
from IPython.display import display

from easyremote.errors import UsageError
from easyremote.notebook.cells import names_from, submit_cell, take_outcome, values_of
from easyremote.notebook.display import functions_table, nodes_table
from easyremote.notebook.invitation import InvitationView
from easyremote.notebook.workspace import workspace
from easyremote.security.joining import Invitation

_HELP = """\
%easyremote start [--nodes N] [--slots N]   a gateway and N nodes (default 1) on this machine
%easyremote connect [ADDRESS | er1:...]     use a gateway that exists, or an invitation
%easyremote invite [--role ROLE]            the line that joins another machine to the gateway
%easyremote status                          the gateway and its nodes
%easyremote nodes                           the nodes
%easyremote functions                       the functions that can be called
%easyremote stop                            disconnect, and end what start started
%easyremote help                            this text

%%remote [-n NODE] [-i a,b] [-o c]          run the cell on a node; %%remote? tells more

`start` and `connect` bind `client` and `node` where these names are free:
    @node.register                          ship the function below; run the cell again to replace it
    client.call("f", 1, 2)                  call it; client.submit for a future, client.stream for items
"""


class _Parser(argparse.ArgumentParser):
    """Says what is wrong instead of ending the kernel."""

    def error(self, message: str) -> NoReturn:
        raise UsageError(f"{message}; `%easyremote help` shows what there is")

    def exit(self, status: int = 0, message: str | None = None) -> NoReturn:
        raise _HelpShown


class _HelpShown(Exception):
    pass


def _parser() -> _Parser:
    parser = _Parser(prog="%easyremote", description="Connect this notebook to nodes.")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=_Parser)
    start = commands.add_parser("start", help="start a gateway and nodes on this machine")
    start.add_argument("--nodes", type=int, default=1, help="how many node processes (default 1)")
    start.add_argument("--slots", type=int, default=None, help="calls that each node runs at once")
    start.add_argument("--port", type=int, default=0, help="port of the gateway (default: any free one)")
    connect = commands.add_parser("connect", help="use a gateway that exists")
    connect.add_argument("address", nargs="?", default=None, help="host:port or er1:…; found by itself on this machine")
    invite = commands.add_parser("invite", help="the line that joins another machine to the gateway")
    invite.add_argument("--role", default="node", help="node (default), call, ship or admin")
    invite.add_argument("--expires", default="1h", help="how long it is good (default 1h)")
    invite.add_argument("--uses", type=int, default=1, help="how often (default 1)")
    for name, text in _PLAIN_COMMANDS.items():
        commands.add_parser(name, help=text)
    return parser


_PLAIN_COMMANDS = {
    "status": "the gateway and its nodes",
    "nodes": "the nodes",
    "functions": "the functions that can be called",
    "stop": "disconnect, and end what start started",
    "help": "what there is",
}


@magics_class
class EasyRemoteMagics(Magics):
    """The magics of one IPython shell."""

    @no_var_expand
    @line_magic
    def easyremote(self, line: str) -> None:
        """Connect this notebook to nodes: start, connect, invite, status, nodes, functions, stop, help."""
        self._run(line)

    def _run(self, line: str) -> None:
        try:
            options = _parser().parse_args(shlex.split(line))
        except _HelpShown:
            return
        getattr(self, f"_{options.command or 'help'}")(options)

    @no_var_expand
    @line_magic
    def er(self, line: str) -> None:
        """Short for %easyremote."""
        self._run(line)

    @magic_arguments()
    @argument("-n", "--node", default="", help="name of the node (default: the one that holds this notebook's session)")
    @argument("-i", "--input", default="", help="variables to send, e.g. -i a,b")
    @argument("-o", "--output", default="", help="variables to bring back, e.g. -o c")
    @argument("-t", "--timeout", type=float, default=None, help="seconds after which the cell is stopped")
    @argument("--name", default="", help="what lists and errors call this cell's run")
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
        send = values_of(names_from(options.input), namespace)
        call = submit_cell(
            workspace.require_client(),
            cell,
            node=workspace.choose_node(options.node),
            session_id=workspace.session_id,
            cell_number=self._cell_number(),
            send=send,
            bring_back=names_from(options.output),
            name=options.name,
            timeout=options.timeout,
        )
        return take_outcome(call.result(), namespace, "" if call._may_unpickle else call.node)

    def _cell_number(self) -> int:
        """The N of this cell's In[N]. While a cell runs, IPython's own counter is one further, but for older versions."""
        assert self.shell is not None
        running = getattr(self.shell.displayhook, "exec_result", None)
        return getattr(running, "execution_count", None) or self.shell.execution_count

    # ---- %easyremote's commands ----------------------------------------------------------------------------------

    def _start(self, options: argparse.Namespace) -> None:
        began = time.perf_counter()
        if workspace.start(options.nodes, options.slots, options.port):
            self._bind()
            took = time.perf_counter() - began
            caption = f"gateway {workspace.address} started in {took:.1f} s{self._names()}"
        else:
            caption = f"gateway {workspace.address} runs already; `%easyremote stop` ends it{self._names()}"
        display(nodes_table(workspace.require_client().list_nodes(), caption))

    def _connect(self, options: argparse.Namespace) -> None:
        self._unbind()
        workspace.connect(options.address)
        self._bind()
        display(
            nodes_table(workspace.require_client().list_nodes(), f"connected to {workspace.address}{self._names()}")
        )

    def _invite(self, options: argparse.Namespace) -> None:
        client = workspace.require_client()
        text = client.invite(options.role, expires=options.expires, uses=options.uses)
        display(InvitationView(text, options.role, options.expires, options.uses, Invitation.parse(text).addresses))

    def _status(self, options: argparse.Namespace) -> None:
        client = workspace.require_client()
        info = client.gateway_info()
        caption = (
            f"gateway {info.address}, easyremote {info.version}, up {info.uptime_s:.0f} s: {info.clients} clients, "
            f"{info.running} calls running, {info.queued} waiting"
        )
        display(nodes_table(client.list_nodes(), caption))

    def _nodes(self, options: argparse.Namespace) -> None:
        display(nodes_table(workspace.require_client().list_nodes()))

    def _functions(self, options: argparse.Namespace) -> None:
        display(functions_table(workspace.require_client().list_functions()))

    def _stop(self, options: argparse.Namespace) -> None:
        address = workspace.address
        started_here = workspace.cluster is not None
        self._unbind()
        if not workspace.stop():
            print("nothing to stop: this notebook isn't connected")
        elif started_here:
            print(f"stopped the gateway {address} and its nodes")
        else:
            print(f"disconnected from {address}")

    def _help(self, options: argparse.Namespace) -> None:
        print(_HELP, end="")

    # ---- names in the notebook -----------------------------------------------------------------------------------

    def _bind(self) -> None:
        """Bind `client` and `node` where the notebook doesn't use these names for something else."""
        assert self.shell is not None
        for name, value in (("client", workspace.client), ("node", workspace.node_handle())):
            taken = name in self.shell.user_ns and self.shell.user_ns[name] is not workspace.bound.get(name)
            if value is not None and not taken:
                self.shell.user_ns[name] = workspace.bound[name] = value

    def _unbind(self) -> None:
        assert self.shell is not None
        for name, value in workspace.bound.items():
            if self.shell.user_ns.get(name) is value:
                del self.shell.user_ns[name]
        workspace.bound.clear()

    def _names(self) -> str:
        assert self.shell is not None
        ours = [f"`{name}`" for name, value in workspace.bound.items() if self.shell.user_ns.get(name) is value]
        others = [f"`{name}`" for name in ("client", "node") if name in self.shell.user_ns and f"`{name}`" not in ours]
        text = f"; {' and '.join(ours)} {'are' if len(ours) > 1 else 'is'} ready" if ours else ""
        if others:
            text += f"; {' and '.join(others)} left as you defined {'them' if len(others) > 1 else 'it'}"
        return text
