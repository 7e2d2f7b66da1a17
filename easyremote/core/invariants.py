"""What is always true of a broker's records. The simulation checks it after each event."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

from easyremote.core.queues import Queues
from easyremote.core.records import MAX_HELD_ACKS, Call, Node, Session
from easyremote.core.transitions import CallState


def check(
    calls: Mapping[bytes, Call],
    queues: Queues,
    nodes: Mapping[str, Node],
    sessions: Mapping[bytes, Session],
    by_conn: Mapping[int, Session],
) -> None:
    """Raise AssertionError, naming what isn't true."""
    for call in calls.values():
        _check_call(call, queues, sessions)
    queues.check()
    for line in queues.by_key.values():
        assert all(call.state is CallState.QUEUED for call in line), "only queued calls are in a queue"
    for name, node in nodes.items():
        assert node.node_id == name and node.session.node is node, "a node is known by its name"
        if node.is_here:
            assert node.is_shut == (node.is_draining or node.session.is_quiet), "who drains or is quiet gets no calls"
        assert sessions.get(node.session.session_id) is node.session, "a node's session is known"
        running = 0
        for call_id, call in node.calls.items():
            running += call.occupies_slot
            assert calls.get(call_id) is call, "a node's calls are known"
        assert node.running_count == running, "slots are counted"
        node.share.check(sessions)
    _check_rooms(nodes)
    for session in sessions.values():
        for call_id, call in session.calls.items():
            assert calls.get(call_id) is call and call.client is session, "a client's calls are known as its own"
        assert len(session.held_acks) <= MAX_HELD_ACKS, "few acknowledgements wait"
        held = sum(call.size for call in session.calls.values() if call.state is CallState.QUEUED)
        assert session.waiting_bytes == held, "what a client's waiting calls hold is counted"
    for conn, session in by_conn.items():
        assert session.conn == conn, "a connection and its session know each other"
        assert sessions.get(session.session_id) is session, "who has a connection is known"


def _check_rooms(nodes: Mapping[str, Node]) -> None:
    """What calls hold is what they were granted, and nowhere more than there is, but for what was there before a restart."""
    granted = [
        (node, call.grant, call.is_claimed)
        for node in nodes.values()
        for call in node.calls.values()
        if call.grant is not None
    ]
    if not granted and not any(node.has_terms for node in nodes.values()):
        return
    for node in nodes.values():
        own = [grant for holder, grant, _ in granted if holder is node]
        room = node.room
        assert room.reserved == sum(grant.slots - 1 for grant in own), "slots beyond one a call are counted"
        counts = Counter(grant.counts_as for grant in own if grant.counts_as)
        assert room.counts == counts, "calls of functions that have a max_concurrency are counted"
        for what in ("cpus", "memory"):
            pot = getattr(room, what)
            users = [entry for entry in granted if getattr(entry[0].room, what) is pot]
            amount = "millicpus" if what == "cpus" else "memory_bytes"
            assert pot.held == sum(getattr(grant, amount) for _, grant, _ in users), f"{what} are counted"
            assert pot.held <= pot.total or any(claimed for *_, claimed in users), f"no more {what} than there are"
        for gpu in room.gpus.values():
            holders = [
                (grant, claimed)
                for holder, grant, claimed in granted
                for held in holder.room.of(grant.gpus)
                if held is gpu
            ]
            assert gpu.calls == len(holders), "calls on a GPU are counted"
            assert gpu.held == sum(grant.gpu_memory_bytes for grant, _ in holders), "a GPU's memory is counted"
            if not any(claimed for _, claimed in holders):
                assert gpu.held <= gpu.total, "no more of a GPU's memory than there is"
                assert len(holders) < 2 or not any(grant.is_exclusive for grant, _ in holders), (
                    "whole GPUs have one call"
                )


def _check_call(call: Call, queues: Queues, sessions: Mapping[bytes, Session]) -> None:
    if call.occupies_slot:
        assert call.node is not None and call.node.calls.get(call.call_id) is call, "a running call has its node"
    else:
        assert call.grant is None, "only a running call holds something"
    if call.state in (CallState.QUEUED, CallState.HELD):
        assert call.node is None, "a waiting call has no node"
    if call.state is CallState.QUEUED:
        assert queues.holds(call), "a queued call is in its queue"
    if call.state is CallState.BACKING_OFF:
        assert call.node is None and call.client is not None, "who waits after an error is nowhere, and somebody's"
        assert call.retry_at is not None, "and waits until a time"
    if call.state is CallState.HELD:
        assert call.hold_until is not None, "a call is held until a time"
    if call.client is not None:
        assert call.client.calls.get(call.call_id) is call, "a call is known to its client"
        assert sessions.get(call.client.session_id) is call.client, "a call's client is known"
    else:
        assert call.is_abandoned or call.hold_until is not None, "a call without a client has an end in sight"
