"""What the gateway tells those who ask what it knows."""

from __future__ import annotations

from collections.abc import Iterable

from easyremote.core.access import OWNER, Access
from easyremote.core.draining import why
from easyremote.core.placing import Placing
from easyremote.core.records import Node
from easyremote.core.rooms import in_use
from easyremote.wire.v1 import gateway_pb2 as pb


def answer(query: pb.Query, access: Access, placing: Placing, gateway: pb.GatewayRecord, now: float) -> pb.Answer:
    """The answer to a client's question, with what its token lets it use. `gateway` is the gateway's record of itself."""
    reply = pb.Answer(query_id=query.query_id)
    what = query.WhichOneof("what")
    nodes = [node for node in placing.nodes.values() if access.allows_node(node.node_id)]
    if what == "list_nodes":
        reply.nodes.extend(node_record(node, placing, now, access) for node in nodes)
        reply.gateway.CopyFrom(gateway)
    elif what == "list_functions":
        names = sorted({name for node in nodes for name in node.offers if access.allows_function(name)})
        reply.functions.extend(_function_record(name, nodes) for name in names)
    elif what == "describe_function":
        record = _function_record(query.describe_function, nodes)
        if record.nodes:
            reply.functions.append(record)
        else:
            close = placing.close_names(query.describe_function)
            reply.close_names.extend(name for name in close if access.allows_function(name))
    else:
        reply.error.CopyFrom(pb.ErrorInfo(code="remote_protocol", message="this gateway doesn't know that query"))
    return reply


def _function_record(name: str, nodes: Iterable[Node]) -> pb.FunctionRecord:
    offering = [node for node in nodes if name in node.offers]
    record = pb.FunctionRecord(nodes=[node.node_id for node in offering])
    for node in offering:
        record.versions[node.node_id] = node.offers[name].version
    if offering:
        record.spec.CopyFrom(offering[-1].offers[name])
    return record


def node_record(node: Node, placing: Placing, now: float, access: Access = OWNER) -> pb.NodeRecord:
    """What is known of a node, for people and programs; of its functions those that may be called with this access."""
    resting = placing.circuits.resting(node.node_id, now)
    return pb.NodeRecord(
        node_id=node.node_id,
        status=_status(node, rests=any(not item.function for item in resting)),
        slots=node.slots,
        running=node.running_count,
        finished=node.finished,
        failed=node.failed,
        functions=sorted(name for name in node.offers if access.allows_function(name)),
        load=node.load,
        runtime=node.session.runtime,
        labels=node.labels,
        connected_s=now - node.session.connected_at,
        price=node.price,
        draining=why(node),
        resting=resting,
        capacity=node.capacity,
        in_use=in_use(node),
    )


def _status(node: Node, rests: bool) -> str:
    if not node.is_here:
        return "away"
    if node.session.is_quiet:
        return "silent"
    if node.is_draining:
        return "draining"
    return "resting" if rests else "connected"
