"""`%easyremote start | connect | stop`."""

from __future__ import annotations

import argparse
import time
from typing import Any

from IPython.display import display

from easyremote.notebook.commands.base import Session
from easyremote.notebook.display import nodes_table

HELP = (
    ("start [--nodes N] [--slots N]", "a gateway and N nodes (default 1) on this machine"),
    ("start --nodes 0 --bind 0.0.0.0", "a gateway that other machines join, by invitation"),
    ("connect [ADDRESS | er1:...]", "use a gateway that exists, or an invitation"),
    ("stop", "disconnect, and end what start started"),
)


def add_to(commands: Any) -> None:
    start = commands.add_parser("start", help="start a gateway and nodes on this machine")
    start.add_argument("--nodes", type=int, default=1, help="how many node processes (default 1)")
    start.add_argument("--slots", type=int, default=None, help="calls that each node runs at once")
    start.add_argument("--port", type=int, default=0, help="port of the gateway (default: any free one)")
    start.add_argument("--bind", default="127.0.0.1", help="0.0.0.0: other machines can join, in TLS, by invitation")
    start.add_argument("--advertise", action="append", default=[], help="the host:port that invitations tell them")
    start.set_defaults(run=run_start)
    connect = commands.add_parser("connect", help="use a gateway that exists")
    connect.add_argument("address", nargs="?", default=None, help="host:port or er1:…; found by itself on this machine")
    connect.set_defaults(run=run_connect)
    commands.add_parser("stop", help="disconnect, and end what start started").set_defaults(run=run_stop)


def run_start(session: Session, options: argparse.Namespace) -> None:
    workspace = session.workspace
    began = time.perf_counter()
    if workspace.start(options.nodes, options.slots, options.port, options.bind, options.advertise):
        bound = session.bind()
        caption = f"gateway {workspace.address} started in {time.perf_counter() - began:.1f} s{bound}"
    else:
        bound = session.bind()
        caption = f"gateway {workspace.address} runs already; `%easyremote stop` ends it{bound}"
    display(nodes_table(workspace.require_client().list_nodes(), caption))


def run_connect(session: Session, options: argparse.Namespace) -> None:
    workspace = session.workspace
    workspace.connect(options.address)
    session.unbind()  # not before: where it fails, the notebook stays connected as it was
    caption = f"connected to {workspace.address}{session.bind()}"
    display(nodes_table(workspace.require_client().list_nodes(), caption))


def run_stop(session: Session, options: argparse.Namespace) -> None:
    workspace = session.workspace
    address = workspace.address
    started_here = workspace.cluster is not None
    session.unbind()
    if not workspace.stop():
        print("nothing to stop: this notebook isn't connected")
    elif started_here:
        print(f"stopped the gateway {address} and its nodes")
    else:
        print(f"disconnected from {address}")
