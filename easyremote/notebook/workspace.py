"""What a notebook is connected to. The magics call these functions, and so may anyone."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from easyremote import lifetime
from easyremote.client import Client
from easyremote.cluster import LocalCluster
from easyremote.errors import EasyRemoteError, NoNodeAvailable, UsageError
from easyremote.model import NodeInfo
from easyremote.notebook.cells import close_session, submit_cell
from easyremote.notebook.display import NotebookPresenter
from easyremote.notebook.places import Places
from easyremote.remote_node import RemoteNode


@dataclass(eq=False)
class Workspace:
    """The connection of this kernel. There is one, `workspace`; it survives a reload of the extension."""

    client: Client | None = None
    cluster: LocalCluster | None = None
    session_id: str = field(default_factory=lambda: secrets.token_hex(8))
    session_node: str = ""  # where %%remote cells without -n run
    session_nodes: set[str] = field(default_factory=set)  # where this notebook's namespaces live
    places: Places = field(default_factory=Places)  # what these namespaces have of the notebook's names
    prices: dict[str, float] = field(default_factory=dict)  # of a second on each node, as they were when it was chosen
    footer: str = field(default_factory=lambda: os.environ.get("EASYREMOTE_FOOTER", "on"))  # as in `notebook.footer`
    bound: dict[str, Any] = field(default_factory=dict)  # names that were put into the notebook

    def start(
        self,
        nodes: int = 1,
        slots: int | None = None,
        port: int = 0,
        bind: str = "127.0.0.1",
        advertise: Sequence[str] = (),
    ) -> bool:
        """A gateway and nodes as processes on this machine, and a client of them. False when they run already.

        `bind`, `advertise`: as `LocalCluster` has them; with 0.0.0.0 other machines can join.
        """
        if self.cluster is not None and self.cluster.is_running:
            return False
        if self.is_connected:
            raise UsageError(f"this notebook is connected to {self.address}; `%easyremote stop` first disconnects it")
        self.stop()
        self.cluster = LocalCluster(nodes, slots=slots, port=port, bind=bind, advertise=advertise)
        self._use(self.cluster.client())
        return True

    def connect(self, address: str | None = None, token: str | None = None) -> None:
        """Use a gateway that exists."""
        client = Client(address, token=token)
        self.stop()
        self._use(client)

    def stop(self) -> bool:
        """Disconnect, and end what `start` started. False when there was nothing."""
        client, cluster = self.client, self.cluster
        nodes, self.session_nodes = self.session_nodes, set()
        self.client = self.cluster = None
        self.session_node = ""
        self.places.forget()
        lifetime.closed(self)
        if client is not None:
            for node in sorted(nodes) if cluster is None else ():  # those of a cluster end with it
                with contextlib.suppress(EasyRemoteError):
                    close_session(client, node, self.session_id)
            client.close()
        if cluster is not None:
            cluster.stop()
        return client is not None

    def require_client(self) -> Client:
        """The client. Raises UsageError that says how to get one."""
        if self.client is None:
            raise UsageError("not connected yet: run `%easyremote start`, or `%easyremote connect ADDRESS`")
        return self.client

    @property
    def is_connected(self) -> bool:
        return self.client is not None

    @property
    def address(self) -> str:
        return self.client.address if self.client is not None else ""

    def jobs_remark(self) -> str:
        """What there is to say of a job that is made here."""
        return "ends with this kernel" if self.cluster is not None else ""

    def node_handle(self) -> RemoteNode:
        """A handle of all nodes that are there whenever it is used; there may be none yet."""
        return RemoteNode(self.require_client())

    def choose_node(self, wanted: str = "", **options: Any) -> str:
        """The node for a cell: the wanted one, else the one that holds this notebook's session.

        Where there is no session yet the least busy node gets it; with options that say what it needs, or a strategy, the one
        that the gateway finds (see `Client.with_options`). Raises NoNodeAvailable, NodeGone, InsufficientResources.
        """
        node = self._choose(wanted, options)
        self.session_nodes.add(node)
        return node

    def start_afresh(self, node: str = "") -> None:
        """End this notebook's session on this node, or the one of cells without -n. The next cell begins a new one."""
        node = node or self.session_node
        if not node:
            return
        if node in self.session_nodes:
            close_session(self.require_client(), node, self.session_id)
        self.places.forget(node)
        if node == self.session_node:
            self.session_node = ""

    def _choose(self, wanted: str, options: dict[str, Any]) -> str:
        client = self.require_client()
        if wanted:
            chosen = client.get_node_status(wanted)
            self.prices[wanted] = chosen.price
            return chosen.node_id
        nodes = {node.node_id: node for node in client.list_nodes() if node.status == "connected"}
        if not nodes:
            raise NoNodeAvailable(
                f"no node is connected to {self.address}; start one with `easyremote join {self.address}` in a terminal there"
            )
        self.prices |= {node.node_id: node.price for node in nodes.values()}
        if self.session_node not in nodes:
            self.session_node = self._placed(client, options) if options else min(nodes.values(), key=_busyness).node_id
        return self.session_node

    def _placed(self, client: Client, options: dict[str, Any]) -> str:
        """Where the gateway begins the session: an empty cell goes there first."""
        call = submit_cell(client, "", node="", session_id=self.session_id, name="a new session", options=options)
        call.result()
        return call.node

    def _kernel_ends(self) -> None:
        self.stop()

    def _use(self, client: Client) -> None:
        self.client = client.with_presenter(NotebookPresenter)
        lifetime.opened(
            self, self._kernel_ends, lifetime.USERS
        )  # a kernel that is shut down leaves no namespace on nodes that live on


def _busyness(node: NodeInfo) -> tuple[float, str]:
    return node.load, node.node_id


workspace = Workspace()
