"""The zero-configuration face: the same classes, with everything found for you.

from easyremote.simple import quick_start, quick_node, quick_client
"""

from __future__ import annotations

from easyremote.client import Client
from easyremote.node import ComputeNode
from easyremote.server import Server

__all__ = ["Client", "ComputeNode", "Server", "quick_client", "quick_node", "quick_start"]

_server: Server | None = None


def quick_start(port: int | None = None) -> Server:
    """A gateway in this process, running in the background. Called again it gives the one that runs."""
    global _server
    if _server is None or not _server.is_running or port not in (None, _server.port):
        _server = Server(port).start_background()
    return _server


def quick_node(gateway: str | None = None, node_id: str | None = None) -> ComputeNode:
    """A node that serves already: what is registered on it can be called at once."""
    return ComputeNode(gateway, node_id).serve()


def quick_client(gateway: str | None = None) -> Client:
    """A connected client."""
    return Client(gateway)
