"""What is going on, in one answer for a monitor: nodes, calls, failures, costs. As far as its asker may see it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain, islice

from easyremote.core.access import OWNER_ID, Access
from easyremote.core.answers import node_record
from easyremote.core.records import Call, Node, Session
from easyremote.core.state import State
from easyremote.core.transitions import CallState
from easyremote.wire.v1 import gateway_pb2 as pb

USUAL_CALLS, MAX_CALLS = 200, 1000
"""In one answer."""

MAX_COUNTED = 20_000
"""Calls that are looked at for one answer: some milliseconds."""

MAX_FAILURES = 100

_OF_DETAILS = ("runtime", "labels", "capacity", "functions")
"""What hardly changes of a node, and is most of its record."""


def picture(state: State, session: Session, look: pb.Query.Look, answer: pb.Answer) -> None:
    """Fill in what this session's token may see."""
    access = session.access
    nodes = [node for node in state.placing.nodes.values() if access.allows_node(node.node_id)]
    answer.nodes.extend(_node(node, state, access, look.details) for node in nodes)
    shown = answer.picture
    shown.sees_all = access.may_administer
    _add_calls(shown, state, session, min(look.max_calls or USUAL_CALLS, MAX_CALLS))
    tally = state.tally
    seen = (item for item in tally.failures if sees(access, item.whose))
    for item in islice(seen, MAX_FAILURES):
        shown.failures.add(
            ago_s=state.now - item.at,
            call_id=item.call_id,
            title=item.title,
            node_id=item.node_id,
            code=item.code,
            type=item.type,
            message=item.message,
            owner=_owner(item.whose),
        )
    shown.spent = sum(spent for whose, spent in tally.spent.items() if sees(access, whose))
    if look.details:
        shown.offers.extend(_offers(nodes, access))


def sees(access: Access, whose: str) -> bool:
    """Whether calls of this token may be seen, and stopped, with this access."""
    return access.may_administer or whose == access.token_id


def _owner(whose: str) -> str:
    return "" if whose == OWNER_ID else whose


def _node(node: Node, state: State, access: Access, with_details: bool) -> pb.NodeRecord:
    record = node_record(node, state.placing, state.now, access)
    record.offers = len(record.functions)
    if not with_details:
        for name in _OF_DETAILS:
            record.ClearField(name)
        for gpu in record.load.gpus:
            gpu.ClearField("name")
            gpu.ClearField("uuid")
    return record


def _add_calls(shown: pb.Picture, state: State, session: Session, most: int) -> None:
    running: list[Call] = []
    waiting: list[Call] = []
    for call in islice(_calls(state, session), MAX_COUNTED):
        if call.state is CallState.ENDED or call.is_abandoned:
            continue
        (running if call.occupies_slot else waiting).append(call)
    shown.running, shown.waiting = len(running), len(waiting)
    running.sort(key=lambda call: call.sent_at)
    for call in islice(chain(running, waiting), most):
        shown.calls.append(_call(call, state, session))


def _calls(state: State, session: Session) -> Iterator[Call]:
    """Those that it may see, each session's in the order in which they came."""
    access = session.access
    if access.may_administer:
        return iter(state.calls.values())
    sessions = (other for other in state.sessions.values() if other.role == pb.ROLE_CLIENT)
    mine = (other.calls.values() for other in sessions if other.access.token_id == access.token_id)
    kept = state.sessions.get(state.keeper_id)
    jobs: Iterable[Call] = kept.calls.values() if kept is not None else ()
    return chain(chain.from_iterable(mine), (call for call in jobs if call.whose == access.token_id))


def _call(call: Call, state: State, session: Session) -> pb.Picture.CallRecord:
    record = pb.Picture.CallRecord(
        call_id=call.call_id,
        title=call.title,
        is_running=call.occupies_slot,
        attempt=call.attempt,
        age_s=state.now - call.created_at,
        tasks=len(call.submit.tasks),
        owner=_owner(call.whose),
        is_own=call.client is session,
        is_job=call.client is not None and call.client.session_id == state.keeper_id,
        progress=call.progress if call.progress_of == call.attempt else None,
    )
    node = call.node
    if node is not None:
        record.node_id = node.node_id
        record.running_s = state.now - call.sent_at
        offered = node.offers.get(call.submit.function)
        record.version = offered.version if offered is not None else ""
    return record


def _offers(nodes: Iterable[Node], access: Access) -> Iterator[pb.Picture.OfferRecord]:
    """By name."""
    nodes = list(nodes)
    for name in sorted({name for node in nodes for name in node.offers if access.allows_function(name)}):
        offering = sorted((node for node in nodes if name in node.offers), key=lambda node: -node.offered_since[name])
        newest = offering[0].offers[name]
        versions: dict[str, list[str]] = {}
        for node in offering:
            versions.setdefault(node.offers[name].version, []).append(node.node_id)
        yield pb.Picture.OfferRecord(
            name=name,
            kind=newest.kind,
            shipped=newest.shipped,
            versions=[
                pb.Picture.OfferRecord.Version(version=version, nodes=sorted(names))
                for version, names in versions.items()
            ],
        )
