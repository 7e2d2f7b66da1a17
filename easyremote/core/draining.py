"""Words and bounds of draining: a node, or the gateway, takes no new calls and ends when those that run have ended."""

from __future__ import annotations

from collections.abc import Iterable

from easyremote.core.records import MAX_NAME, Node
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_HANDED_BACK = 100
"""A call that nodes have handed back so often counts each further time as an attempt: a node that does so for ever is broken."""

RETRY_AFTER_S = 5.0
"""When to try again at a gateway that is about to end."""

ENDING = f"this gateway is about to end and takes no new calls; try again in {RETRY_AFTER_S:g} s, or at another gateway"


def reason_of(drain: pb.Drain | pb.Query.DrainNode) -> str:
    """Why a node drains, in words that are shown to people."""
    if isinstance(drain, pb.Drain):
        return drain.reason[:MAX_NAME]
    return drain.reason[:MAX_NAME] or "a client asked for it"


def why(node: Node) -> str:
    """Why it takes no new calls; empty where it takes them."""
    return "its process is ending" if node.is_leaving else node.drain_reason


def no_node_to_drain(node_id: str, known: Iterable[str]) -> pb.ErrorInfo:
    there = ", ".join(sorted(known)) or "none"
    text = f"node '{node_id[:MAX_NAME]}' isn't connected to this gateway; connected are: {there}"
    return pb.ErrorInfo(code="node_gone", message=text)


def all_drain(title: str, nodes: Iterable[Node]) -> pb.ErrorInfo:
    """Nodes could run the call, but none of them takes new ones."""
    nodes = list(nodes)
    which = "; ".join(f"'{node.node_id}' ({why(node)})" for node in nodes[:3]) + ("; ..." if len(nodes) > 3 else "")
    asked = next((node.node_id for node in nodes if not node.is_leaving), None)
    undo = f"Resume with 'easyremote node resume {asked}', or wait" if asked is not None else "Wait"
    text = f"no node takes '{title}' now, since all that could are draining: {which}. {undo} for another with queue_timeout"
    return pb.ErrorInfo(code="no_node", message=text)
