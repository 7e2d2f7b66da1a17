"""Why a call waits, or can't run: for each node what is in the way, what would change it, and when.

Another reason is another function in `CHECKS`: it gets the call with what surrounds it, and a node, and answers with a `Finding`
when this is what keeps the call from that node. The first one that answers counts.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

from easyremote.core.draining import why
from easyremote.core.placing import MAX_NAMED, Placing, circuit_of, has_python, minor, why_it_builds_none
from easyremote.core.queues import Queues
from easyremote.core.records import Call, Node
from easyremote.core.rings import UNSEALED_REMEDY
from easyremote.core.rooms import lacks_at
from easyremote.core.transitions import CallState
from easyremote.wire.v1 import gateway_pb2 as pb

NOW, LATER, NEVER = pb.OUTLOOK_NOW, pb.OUTLOOK_LATER, pb.OUTLOOK_NEVER

_VERDICTS = {NOW: "runs now", LATER: "must wait", NEVER: "can't"}

MAX_ROWS = 100
"""Nodes in one table."""


class Finding(NamedTuple):
    """What is in the way at a node."""

    outlook: pb.Outlook
    reason: str
    remedy: str = ""
    expected_s: float | None = None


@dataclass(frozen=True, slots=True)
class Case:
    """A call, with what is asked of it only once."""

    call: Call
    placing: Placing
    queues: Queues
    now: float
    grace_s: float
    chosen: Node | None  # the node that it would go to now
    is_declined: bool  # ... but its strategy rather waits


Check = Callable[[Case, Node], Finding | None]


def explain(call: Call, placing: Placing, queues: Queues, now: float, grace_s: float) -> pb.Explanation:
    """The table of a call that waits, or of one that might be made; such a one is in no queue."""
    if call.state is not CallState.QUEUED:
        return _placed(call, now)
    chosen = placing.choose(call)
    is_declined = call.key in placing.declined or (chosen is not None and placing.waits(call, chosen, queues, now))
    case = Case(call, placing, queues, now, grace_s, chosen, is_declined)
    rows = sorted(
        ((finding.outlook, _soon(finding), node.node_id, finding) for node, finding in _findings(case)),
        key=lambda row: row[:3],
    )
    explanation = pb.Explanation(function=call.title, left_out=max(len(rows) - MAX_ROWS, 0))
    explanation.nodes.extend(_row(node_id, finding) for _, _, node_id, finding in rows[:MAX_ROWS])
    if call.key.node_id and call.key.node_id not in placing.nodes:
        missing = Finding(NEVER, "it isn't connected", "start it, or name another node")
        explanation.nodes.insert(0, _row(call.key.node_id, missing))
    if queues.holds(call):
        explanation.waited_s = now - call.created_at
    _sum_up(case, explanation, [finding for *_, finding in rows])
    return explanation


def _soon(finding: Finding) -> float:
    return finding.expected_s if finding.expected_s is not None else float("inf")


def _placed(call: Call, now: float) -> pb.Explanation:
    """Of a call that waits no more, or not for a node."""
    if call.node is not None:
        where = f"is at {call.node.node_id} since {span(now - call.sent_at)}"
        return pb.Explanation(function=call.title, outlook=NOW, headline=f"'{call.title}' {where}", expected_s=0.0)
    left_s = max((call.hold_until or now) - now, 0.0)
    text = f"'{call.title}' waits {span(left_s)} more for nodes that may come back with it, after the gateway was restarted"
    return pb.Explanation(function=call.title, outlook=LATER, headline=text, waited_s=now - call.created_at)


def as_text(explanation: pb.Explanation) -> str:
    """The table in lines, for an error's details."""
    lines = [explanation.headline]
    for row in explanation.nodes:
        verdict = _VERDICTS[row.outlook]
        lines.append(": ".join(filter(None, (row.node_id, verdict, row.reason))))
        if row.remedy:
            lines[-1] += f" ({row.remedy})"
    if explanation.left_out:
        lines.append(f"and {explanation.left_out} more nodes")
    return "\n".join(lines)


def in_short(explanation: pb.Explanation) -> str:
    """What is in the way, in a line: of the nodes that count most."""
    rows = [row for row in explanation.nodes if row.outlook != NEVER] or list(explanation.nodes)
    parts = [f"{row.node_id}: {row.reason or 'it could run there now'}" for row in rows[:MAX_NAMED]]
    more = len(rows) - len(parts) + explanation.left_out
    return "; ".join(parts) + (f"; and {more} more nodes" if more else "")


def _findings(case: Case) -> Iterable[tuple[Node, Finding]]:
    for node in case.placing.nodes.values():
        found = (check(case, node) for check in CHECKS)
        yield node, next((finding for finding in found if finding is not None), Finding(NOW, "", expected_s=0.0))


def _row(node_id: str, finding: Finding) -> pb.NodeOutlook:
    outlook, reason, remedy, expected_s = finding
    return pb.NodeOutlook(node_id=node_id, outlook=outlook, reason=reason, remedy=remedy, expected_s=expected_s)


def _sum_up(case: Case, explanation: pb.Explanation, findings: list[Finding]) -> None:
    call = case.call
    problem = case.placing.problem(call)
    if problem is not None:
        explanation.outlook = NEVER
        explanation.headline = problem.message
        return
    explanation.outlook = min((finding.outlook for finding in findings), default=LATER)
    if explanation.outlook == NOW and case.chosen is not None:
        explanation.expected_s = 0.0
        explanation.headline = f"'{call.title}' would run now, on {case.chosen.node_id}"
        return
    before = explanation.before = _before(call, case.queues)
    free_s = min((finding.expected_s for finding in findings if finding.expected_s is not None), default=None)
    each_s = _each_s(case)
    if free_s is not None and (not before or each_s is not None):
        explanation.expected_s = free_s + before * (each_s or 0.0)
    others = "another call waits" if before == 1 else f"{before} other calls wait"
    first = f"; {others} before it" if before else ""
    when = f"; expected to begin in about {span(explanation.expected_s)}" if explanation.HasField("expected_s") else ""
    explanation.headline = f"'{call.title}' has to wait{first}{when}"


def _before(call: Call, queues: Queues) -> int:
    """Calls that are expected to go first: those of a higher priority, its client's earlier ones, and as many of each other."""
    line = queues.by_key.get(call.key)
    if line is None:
        return 0
    higher = sum(len(queue) for level, lane in line.lanes.items() if level > call.priority for queue in lane.values())
    lane = line.lanes.get(call.priority, {})
    own = [other.call_id for other in lane.get(call.owner, {}).values()]
    earlier = own.index(call.call_id) if call.call_id in own else len(own)
    others = sum(min(len(queue), earlier + 1) for client, queue in lane.items() if client != call.owner)
    return higher + earlier + others


def _each_s(case: Case) -> float | None:
    """How often such a call is expected to begin, in seconds between two."""
    rates = [
        node.slots / node.expected_s(case.call.key.function)
        for node in case.placing.candidates(case.call.key)
        if node.is_here and node.expected_s(case.call.key.function) > 0
    ]
    return 1 / sum(rates) if rates else None


def span(seconds: float) -> str:
    """For people: `0.4 s`, `12 s`, `5 min`, `3 h`."""
    if seconds < 10:
        return f"{max(seconds, 0.1):.1f} s"
    for size, name in ((3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {name}"
    return f"{seconds:.0f} s"


# ---- what may be in the way, the lasting first -------------------------------------------------------------------------


def _is_another(case: Case, node: Node) -> Finding | None:
    wanted = case.call.key.node_id
    if not wanted or wanted == node.node_id:
        return None
    return Finding(NEVER, f"the call is to run on '{wanted}'", f"leave out node='{wanted}'")


def _is_not_allowed(case: Case, node: Node) -> Finding | None:
    key = case.call.key
    if key.allows(node.node_id):
        return None
    allowed = ", ".join(key.allowed_nodes[:MAX_NAMED]) + (", …" if len(key.allowed_nodes) > MAX_NAMED else "")
    return Finding(NEVER, f"the token allows calls on nodes {allowed} only", "another token")


def _has_another_python(case: Case, node: Node) -> Finding | None:
    key, python = case.call.key, node.session.runtime.python
    if not key.is_code or has_python(node, key):
        return None
    return Finding(
        NEVER,
        f"it has Python {minor(python)[:20]}, and the code was made by {key.python[:20]}",
        f"use Python {key.python[:20]} there, or call a function that is registered on the node",
    )


def _builds_no_environments(case: Case, node: Node) -> Finding | None:
    if not case.call.key.builds or node.builds:
        return None
    text = f"it builds no environment for the call's packages: {why_it_builds_none(node)}"
    return Finding(NEVER, text, "pip install 'easyremote[environments]' there, or leave out requirements")


def _lacks_function(case: Case, node: Node) -> Finding | None:
    key = case.call.key
    if key.is_code or key.function in node.offers:
        return None
    close = case.placing.close_names(key.function, node.node_id)
    remedy = f"register it there, or call {' or '.join(close)}" if close else "register it there"
    return Finding(NEVER, "it doesn't offer this function", remedy)


def _leaves_it_to_another(case: Case, node: Node) -> Finding | None:
    key = case.call.key
    if key.node_id or key.is_code or node in case.placing.candidates(key):
        return None
    first = next(iter(case.placing.candidates(key)), None)
    if first is None or first.offers[key.function].load_balancing:
        return None
    return Finding(
        NEVER,
        f"'{first.node_id}' registered it first, with load_balancing=False",
        f"name the node with node='{node.node_id}', or register it with load balancing",
    )


def _is_too_dear(case: Case, node: Node) -> Finding | None:
    key = case.call.key
    if case.placing.is_affordable(node, key):
        return None
    cost = case.placing.expected_cost(node, key)
    text = f"it would cost about {cost:.3g}, more than cost_limit={key.cost_limit:g}"
    return Finding(NEVER, text, f"cost_limit={cost:.3g} or more")


def _never_has_what_it_needs(case: Case, node: Node) -> Finding | None:
    lacking = [lack for lack in lacks_at(node, case.call.key) if lack.is_never]
    if not lacking:
        return None
    labels = [f"--label {lack.need[7:]}={lack.wanted}" for lack in lacking if lack.need.startswith("labels.")]
    remedy = f"start a node with {' '.join(labels)}" if labels else "ask for less, or start a node that has it"
    return Finding(NEVER, "; ".join(map(str, lacking)), remedy)


def _drains(case: Case, node: Node) -> Finding | None:
    if not node.is_draining:
        return None
    remedy = "wait for another" if node.is_leaving else f"easyremote node resume {node.node_id}"
    return Finding(NEVER, f"it takes no new calls: {why(node)}", remedy)


def _can_t_open_it(case: Case, node: Node) -> Finding | None:
    key = case.call.key
    if case.placing.rings.can_open(node, key):
        return None
    if not key.epoch:
        return Finding(NEVER, "it takes only sealed calls, and this one isn't sealed", UNSEALED_REMEDY)
    if not node.identity:
        return Finding(NEVER, "the call is sealed, and it has no key to open it with", "upgrade EasyRemote there")
    return Finding(NEVER, "the call is sealed, and its client doesn't trust this node's key", "easyremote keys --help")


def _doesn_t_take_it(case: Case, node: Node) -> Finding | None:
    """Whatever has no check of its own."""
    if node in case.placing.candidates(case.call.key):
        return None
    return Finding(NEVER, "it doesn't take such calls")


def _is_away(case: Case, node: Node) -> Finding | None:
    if node.is_here:
        return None
    away_s = case.now - (node.session.away_since if node.session.away_since is not None else case.now)
    left_s = max(case.grace_s - away_s, 0.0)
    text = f"its connection broke {span(away_s)} ago; it is given up in {span(left_s)}"
    return Finding(LATER, text, "it comes back by itself, or is started again")


def _is_silent(case: Case, node: Node) -> Finding | None:
    if not node.session.is_quiet:
        return None
    text = f"nothing was heard of it for {span(case.now - node.session.heard_at)}, though its process lives"
    return Finding(LATER, text, "a function may hold the interpreter lock there; register it with isolation='process'")


def _was_lost(case: Case, node: Node) -> Finding | None:
    if node.node_id not in case.call.submit.options.not_on or node is case.chosen:
        return None
    return Finding(LATER, "it was lost with this call before, so others go first")


def _lacks_room(case: Case, node: Node) -> Finding | None:
    lacking = [lack for lack in lacks_at(node, case.call.key) if lack.need != "slots"]
    return Finding(LATER, "; ".join(map(str, lacking)), "other calls end there, or ask for less") if lacking else None


def _rests(case: Case, node: Node) -> Finding | None:
    key = case.call.key
    found = case.placing.circuits.in_the_way(node.node_id, circuit_of(key), case.now)
    if found is None or case.placing.trusts(node, key):
        return None
    why_it_rests, left_s = found
    when = f"it rests for {span(left_s)} more" if left_s is not None else "one call tries it now"
    return Finding(LATER, f"{when}: {why_it_rests}", "find out why they fail there, or wait", left_s)


def _is_busy(case: Case, node: Node) -> Finding | None:
    if case.placing.has_room(node, case.call.key):
        return None
    running = [call for call in node.calls.values() if call.occupies_slot]
    counts = Counter(call.key.function or "code" for call in running)
    named = [f"{name} ×{count}" for name, count in counts.most_common(MAX_NAMED)]
    if len(counts) > len(named):
        named.append("others")
    free_s = node.free_in_s(case.now)
    slots = "its slot is" if node.slots == 1 else f"all {node.slots} slots are"
    if not running:
        return Finding(LATER, "its slots are kept for a call that needs more of them", "wait, or another node")
    if free_s is not None:
        when = (
            f"; one is expected to be free in about {span(free_s)}"
            if node.slots > 1
            else f", about {span(free_s)} more"
        )
    else:
        longest_s = max((case.now - call.sent_at for call in running), default=0.0)
        when = f", for {span(longest_s)} so far"
    return Finding(LATER, f"{slots} busy with {', '.join(named)}{when}", "more slots, or another node", free_s)


def _is_declined(case: Case, node: Node) -> Finding | None:
    if not case.is_declined:
        return None
    return Finding(LATER, "it is free, but the strategy rather waits for a faster node", "strategy='round_robin'")


CHECKS: tuple[Check, ...] = (
    _is_another,
    _is_not_allowed,
    _has_another_python,
    _builds_no_environments,
    _lacks_function,
    _leaves_it_to_another,
    _is_too_dear,
    _never_has_what_it_needs,
    _drains,
    _can_t_open_it,
    _doesn_t_take_it,
    _is_away,
    _is_silent,
    _was_lost,
    _lacks_room,
    _rests,
    _is_busy,
    _is_declined,
)
