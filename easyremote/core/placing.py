"""Which nodes could run a call, which can now, and what is missing where none can."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterable, Sequence

from easyremote.core.circuits import CODE, Circuits
from easyremote.core.draining import all_drain
from easyremote.core.keeping import Keeping
from easyremote.core.nearness import MissingS, nearest, rather_waits
from easyremote.core.pools import FEW, MAX_RANKINGS, Pool, Ranking
from easyremote.core.queues import Queues
from easyremote.core.records import FAILURE_HALVES_S, NEGLIGIBLE, Call, Node, QueueKey
from easyremote.core.resources import Terms, asked
from easyremote.core.rings import Rings, epoch_of
from easyremote.core.rooms import Rooms, admission_of, could_ever, never_fits, terms_of
from easyremote.core.strategies import Ranked, SmartAdaptive, Strategy, make_strategy
from easyremote.errors import UsageError
from easyremote.wire.v1 import gateway_pb2 as pb

_log = logging.getLogger("easyremote")

_NOBODY = (
    "no node is connected; start one with 'easyremote join ADDRESS', or `%easyremote start --nodes 1` in a notebook"
)

OUT_OF_SIGHT = 200
"""A node that had none of the last so many calls, times the number of nodes, may be tried again."""

LAST_CHANCE_S = 1.0
"""A call whose time to wait for a node is over so soon takes what there is. Longer than from tick to tick."""

MAX_DECLINED = 16
"""Keys whose calls may wait by choice; those of further ones take what there is."""

_SPARE = 16
"""Machines whose nodes are gone are forgotten when they are so many."""

_MAX_LOST = 1024
"""Nodes that are gone of which it is kept that they lost calls; further ones are forgotten."""

MAX_NAMED = 3
"""Nodes that an error's message names, and functions that a reason does."""

_MAX_KEYS = 16384
"""Answers remembered, more than the calls of one client; at this many all are worked out anew."""


class Placing:
    """The nodes by name, and what they offer."""

    def __init__(self, default_strategy: str) -> None:
        self.nodes: dict[str, Node] = {}
        self.missing_s: MissingS = lambda node, refs: 0.0
        self._default_strategy = default_strategy
        self._strategies: dict[str, Strategy] = {}
        self._broken: list[Strategy] = []  # those of which it is told that they raise
        self._pools: dict[QueueKey, Pool] = {}  # this and what follows is dropped whenever a node or its offers change
        self._pool_of: dict[tuple[tuple[Node, ...], tuple[Terms | None, ...]], Pool] = {}
        self._rankings_of: dict[Node, list[Ranking]] = {}
        self._last: tuple[Ranking, Node] | None = None  # the choice before, of calls that came together
        self._registrations = 0
        self._lost: dict[str, float] = {}  # as it is held against nodes that are gone
        self._pressures: dict[str, float] = {}  # by machine
        self.dispatches = 0
        self.declined: dict[QueueKey, None] = {}  # whose first call waits though a node has credit
        self.rooms = Rooms()
        self.keeping = Keeping(self._freed)
        self.circuits = Circuits()
        self.rings = Rings()

    # ---- nodes ---------------------------------------------------------------------------------------------------

    def add(self, node: Node) -> None:
        self.nodes[node.node_id] = node
        node.lost = max(node.lost, self._lost.pop(node.node_id, 0.0))
        self._drop_pools()

    def remove(self, node: Node) -> None:
        """Its name may have been taken over already."""
        is_known = self.nodes.get(node.node_id) is node
        if is_known:
            del self.nodes[node.node_id]
        self.keeping.left(node)
        self.rooms.left(node, is_replaced=not is_known)
        self._drop_pools()

    def take_offers(self, node: Node, offers: Iterable[pb.FunctionSpec]) -> None:
        node.offers = {spec.name: spec for spec in offers}
        node.rules = {name: spec for name, spec in node.offers.items() if spec.idempotent or spec.HasField("retry")}
        since: dict[str, int] = {}
        for name in node.offers:
            self._registrations += 1
            since[name] = node.offered_since.get(name, self._registrations)
        node.offered_since = since
        node.has_terms = any(admission_of(node, QueueKey(name, "", "", False, 0.0)) for name in node.offers)
        node.has_batches = any(spec.batch for spec in node.offers.values())
        self._drop_pools()

    def rings_changed(self) -> None:
        """Clients have admitted nodes to their sealed calls, or do so no more."""
        self._drop_pools()

    def lost_calls(self, node: Node) -> None:
        """The node is gone, and calls with it."""
        node.lost_calls()
        if node.node_id in self._lost or len(self._lost) < _MAX_LOST:
            self._lost[node.node_id] = node.lost

    def loaded(self, node: Node, load: pb.Load, now: float) -> None:
        """The node reports what its machine is doing. Strategies see it from the next tick on."""
        node.load = load
        if node.room.gpus and self.rooms.loaded(node, load.gpus, self.nodes, now):
            self._drop_pools()
        self._pressures[node.host] = _pressure(load)
        if len(self._pressures) > len(self.nodes) + _SPARE:
            hosts = {node.host for node in self.nodes.values()}
            self._pressures = {host: pressure for host, pressure in self._pressures.items() if host in hosts}

    def time_passed(self, passed_s: float, now: float) -> bool:
        """What is held against nodes fades, and those that weren't used for long come into question again.

        Tells whether nodes have less to offer than before.
        """
        unused_since = self.dispatches - OUT_OF_SIGHT * len(self.nodes)
        for node in self.nodes.values():
            is_out = 0 < node.last_used < unused_since and not node.running_count
            pressure = self._pressures.get(node.host, 0.0)  # the same for all nodes of a machine
            if node.fade(passed_s) or is_out != node.is_out_of_sight or pressure != node.pressure:
                node.is_out_of_sight, node.pressure = is_out, pressure
                self.changed(node)
        if self._lost:
            kept = 0.5 ** (passed_s / FAILURE_HALVES_S)
            self._lost = {name: lost * kept for name, lost in self._lost.items() if lost > NEGLIGIBLE}
        has_less = self.rooms.time_passed(now)
        if has_less:
            self._drop_pools()
        is_open_to_fewer, self.rings.has_less = self.rings.has_less, False
        return has_less or is_open_to_fewer

    def changed(self, node: Node) -> None:
        """The node got a call or ended one, learned a duration, came or went."""
        for ranking in self._rankings_of.get(node, ()):
            ranking.changed(node)

    def _freed(self, node: Node) -> None:
        """It may take calls that it didn't take before, though none of its own has ended; or takes some no more."""
        self.changed(node)
        self.rooms.freed[node] = None

    def _drop_pools(self) -> None:
        self.circuits.has_changed = self.circuits.is_open
        self._forget_pools()

    def _forget_pools(self) -> None:
        """They are worked out anew, and come out the same."""
        self._pools.clear()
        self._pool_of.clear()
        self._rankings_of.clear()
        self._last = None

    def batch_begins(self) -> None:
        """What is chosen from now on came together."""
        self._last = None

    # ---- choosing ------------------------------------------------------------------------------------------------

    def candidates(self, key: QueueKey) -> Sequence[Node]:
        """Nodes that could ever run calls of this key, those that are away for a moment included."""
        return self._pool(key).nodes

    def _pool(self, key: QueueKey) -> Pool:
        pool = self._pools.get(key)
        if pool is None:
            if len(self._pools) >= _MAX_KEYS:
                self._forget_pools()
            nodes = tuple(self._find(key))
            terms = tuple(admission_of(node, key) for node in nodes)
            pool = self._pool_of.get((nodes, terms))
            if pool is None:
                by_node = {node: found for node, found in zip(nodes, terms, strict=True) if found is not None}
                pool = self._pool_of[nodes, terms] = Pool(nodes, by_node)
            self._pools[key] = pool
        return pool

    def _find(self, key: QueueKey) -> list[Node]:
        found = [node for node in self._serving(key) if self.rings.can_open(node, key)]
        if len(found) > 1 and not key.is_code:
            first = min(found, key=lambda node: node.offered_since[key.function])
            if not first.offers[key.function].load_balancing:
                found = [first]
        return [node for node in found if terms_of(node, key) is None or could_ever(node, key)]

    def _serving(self, key: QueueKey) -> list[Node]:
        """Nodes that offer the function, or take the code, whatever else it needs."""
        if key.node_id:
            pinned = self.nodes.get(key.node_id)
            return [pinned] if pinned is not None and _can_run(pinned, key) else []
        return [node for node in self.nodes.values() if _can_run(node, key)]

    def takes(self, node: Node, key: QueueKey) -> bool:
        """Whether this node runs calls of this key."""
        return node in self._pool(key).members and _is_affordable(node, key)

    def has_room(self, node: Node, key: QueueKey) -> bool:
        """Whether it has what they need now."""
        return fits(node, key, self._pool(key)) and (not self.circuits.is_open or self.trusts(node, key))

    def trusts(self, node: Node, key: QueueKey) -> bool:
        """Whether calls of this key go there though they may have kept failing there."""
        function = circuit_of(key)
        if not self.circuits.concerns(function) or self.circuits.trusts(node.node_id, function):
            return True
        others = (other for other in self.candidates(key) if other.takes_calls and _is_affordable(other, key))
        return self.circuits.first_to_end((other.node_id for other in others), function) == node.node_id

    def with_terms(self, key: QueueKey) -> Sequence[Node]:
        """Nodes that could run calls of this key, and where they need more than a slot."""
        pool = self._pool(key)
        return [node for node in pool.nodes if node in pool.terms] if pool.terms is not None else ()

    def grant(self, key: QueueKey, node: Node) -> pb.Grant | None:
        """What a call of this key is to have at this node, which it fits; None: a slot."""
        terms = self._pool(key).terms
        if terms is None or node not in terms:
            return None
        grant = node.room.grant(terms[node], node.keeper == key)
        self.keeping.end(key)
        return grant

    def choose(self, call: Call) -> Node | None:
        """A node that takes the call now, by the call's strategy; one that lost it before only where there is no other."""
        key = call.key
        pool = self._pool(key)
        nodes = pool.nodes
        if len(nodes) == 1 and not key.cost_limit:
            is_free = nodes[0].has_credit if pool.terms is None else fits(nodes[0], key, pool)
            return nodes[0] if is_free else None
        options = call.submit.options
        may_rest = self.circuits.is_open and self.circuits.concerns(circuit_of(key))
        is_plain = not key.cost_limit and not options.not_on and pool.terms is None and not call.refs and not may_rest
        if len(nodes) > FEW and is_plain:
            strategy = self._strategy(options.strategy)
            ranking = self._ranking(pool, strategy, key.function)
            if ranking is not None:
                return self._first(ranking) if ranking.keeps_together else ranking.first()
        if pool.terms is None:
            ready = [node for node in nodes if node.has_credit and _is_affordable(node, key)]
        else:
            ready = [node for node in nodes if fits(node, key, pool) and _is_affordable(node, key)]
        if may_rest:
            ready = [node for node in ready if self.trusts(node, key)]
        if options.not_on:
            ready = [node for node in ready if node.node_id not in options.not_on] or ready
        if not ready:
            return None
        strategy = self._strategy(options.strategy)
        if call.refs and len(ready) > 1:
            ready = nearest(call, ready, strategy, self.missing_s)
        if not isinstance(strategy, Ranked):
            return self._asked(call, strategy, ready)
        return ready[0] if len(ready) == 1 else strategy.choose(key.function, ready)  # type: ignore[return-value]

    def waits(self, call: Call, node: Node, queues: Queues, now: float) -> bool:
        """Whether the call's strategy, which chose this node, lets it rather wait for another that is at work."""
        if call.family is not None and is_held_back(call, node):
            self._declined(call.key)  # those behind it may go once it has left, wherever to
            return True
        pool = self._pool(call.key)
        if len(pool.nodes) == 1:
            return False
        if call.refs and self._waits_for_values(call, node, pool, queues, now):
            return True
        if pool.terms is not None:
            return False
        strategy = self._strategy(call.submit.options.strategy)
        return isinstance(strategy, Ranked) and self._waits(call, node, pool, strategy, queues, now)

    def refuses(self, call: Call, node: Node, queues: Queues, now: float) -> bool:
        """The same where the strategy hasn't chosen this node, but the node has become free."""
        if call.family is not None and is_held_back(call, node):
            self._declined(call.key)  # those behind it may go once it has left, wherever to
            return True
        pool = self._pool(call.key)
        if len(pool.nodes) == 1:
            return False
        if call.refs and self._waits_for_values(call, node, pool, queues, now):
            return True
        strategy = self._strategy(call.submit.options.strategy)
        if isinstance(strategy, Ranked):
            return pool.terms is None and self._waits(call, node, pool, strategy, queues, now)
        return self._asked(call, strategy, [node]) is None

    def _waits_for_values(self, call: Call, node: Node, pool: Pool, queues: Queues, now: float) -> bool:
        """Whether it rather waits for a node that has the values which its arguments name."""
        if not isinstance(self._strategy(call.submit.options.strategy), SmartAdaptive):
            return False
        if call.queue_deadline is not None and call.queue_deadline - now < LAST_CHANCE_S:
            return False
        others = [
            other
            for other in pool.nodes
            if other is not node and other.running_count and other.takes_calls and _is_affordable(other, call.key)
        ]
        waiting = len(queues) + (not queues.holds(call))
        waited_s = now - call.declined_at if call.declined_at is not None else 0.0
        if not rather_waits(call, node, others, waiting, waited_s, self.missing_s):
            return False
        if call.declined_at is None:
            call.declined_at = now
        return self._declined(call.key)

    def _waits(self, call: Call, node: Node, pool: Pool, strategy: Ranked, queues: Queues, now: float) -> bool:
        key = call.key
        if not strategy.may_wait(key.function, node):
            return False
        if call.queue_deadline is not None and call.queue_deadline - now < LAST_CHANCE_S:
            return False
        others = [
            other
            for other in pool.fastest(key.function)
            if other is not node
            and other.running_count
            and other.takes_calls
            and _is_affordable(other, key)
            and (not self.circuits.is_open or self.trusts(other, key))
        ]
        if not others:
            return False
        waiting = len(queues) + (not queues.holds(call))
        waited_s = now - call.declined_at if call.declined_at is not None else 0.0
        if not strategy.waits(key.function, node, others, waiting, waited_s, now):
            return False
        if call.declined_at is None:
            call.declined_at = now
        return self._declined(key)

    def _asked(self, call: Call, strategy: Strategy, ready: list[Node]) -> Node | None:
        """Its choice. It may let the call wait only while a node is at work: else nothing might ever change."""
        try:
            chosen = strategy.choose(call.key.function, ready)
            if chosen is not None and chosen not in ready:
                raise UsageError(f"it chose {chosen!r}, which is none of the offers")
        except Exception as error:  # it is somebody else's code, and the call can do without it
            self._note_broken(strategy, error)
            return ready[0]
        if chosen is not None:
            return chosen  # type: ignore[return-value]
        is_work = any(node.is_here and node.running_count for node in self._pool(call.key).nodes)
        return None if is_work and self._declined(call.key) else ready[0]

    def _note_broken(self, strategy: Strategy, error: Exception) -> None:
        if strategy not in self._broken:
            self._broken.append(strategy)
            name = next(name for name, known in self._strategies.items() if known is strategy)
            _log.error("strategy '%s' failed, and calls go to the first offer instead", name, exc_info=error)

    def _declined(self, key: QueueKey) -> bool:
        """Its calls wait beside a node that has credit, and are to be placed anew when anything happens. False: too many do."""
        if key in self.declined or len(self.declined) < MAX_DECLINED:
            self.declined[key] = None
            return True
        return False

    def _first(self, ranking: Ranking) -> Node | None:
        """The node before once more, where a message of its own would cost more than the call; else the best."""
        if self._last is not None and self._last[0] is ranking and self._last[1].takes_more_at_once:
            return self._last[1]
        node = ranking.first()
        self._last = (ranking, node) if node is not None else None
        return node

    def _ranking(self, pool: Pool, strategy: Strategy, function: str) -> Ranking | None:
        """The pool's nodes in the order of this strategy, where it has one."""
        if not isinstance(strategy, Ranked):
            return None
        key = strategy, function if strategy.by_function else ""
        ranking = pool.rankings.get(key)
        if ranking is None and len(pool.rankings) < MAX_RANKINGS:
            ranking = pool.rankings[key] = Ranking(
                lambda node: strategy.rank(function, node), pool.nodes, strategy.keeps_together
            )
            for node in pool.nodes:
                self._rankings_of.setdefault(node, []).append(ranking)
        return ranking

    def _strategy(self, name: str) -> Strategy:
        name = name or self._default_strategy
        if name not in self._strategies:
            self._strategies[name] = make_strategy(name)
        return self._strategies[name]

    def check_waiting(self, queues: Queues) -> None:
        """Assert that no call waits beside a free node for nothing."""
        for key, line in queues.by_key.items():
            is_free = any(
                self.has_room(node, key)
                and self.takes(node, key)
                and not any(call.family is not None and is_held_back(call, node) for call in line)
                for node in self.candidates(key)
            )
            assert not is_free or key.cost_limit or key in self.declined, "a call waits by its strategy's choice"

    def check(self) -> None:
        """Assert that what is kept of the nodes agrees with them."""
        for (nodes, _), pool in self._pool_of.items():
            assert all(self.nodes.get(node.node_id) is node for node in nodes), "a pool's nodes are known"
            for ranking in pool.rankings.values():
                ranking.check()
        self.keeping.check()
        self.circuits.check()

    def expected_cost(self, node: Node, key: QueueKey) -> float:
        """What such a call is expected to cost there; 0 where none has run yet."""
        return _cost(node, key)

    def is_affordable(self, node: Node, key: QueueKey) -> bool:
        """Whether that is within the call's limit."""
        return _is_affordable(node, key)

    # ---- what is missing -----------------------------------------------------------------------------------------

    def has_place(self, key: QueueKey) -> bool:
        """Whether a node here could run calls of this key, perhaps later."""
        return any(_is_affordable(node, key) and not node.is_draining for node in self.candidates(key))

    def may_come_to(self, key: QueueKey) -> bool:
        """The same, whatever it costs."""
        return any(not node.is_draining for node in self.candidates(key))

    def problem(self, call: Call) -> pb.ErrorInfo | None:
        """Why no node here will ever run this call, or None."""
        key = call.key
        if self.has_place(key):
            return None
        candidates = self.candidates(key)
        if candidates:
            affordable = [node for node in candidates if _is_affordable(node, key)]
            return all_drain(call.title, affordable) if affordable else _too_dear(call, candidates)
        if key.node_id and key.node_id not in self.nodes:
            there = ", ".join(sorted(name for name in self.nodes if key.allows(name))) or "none"
            text = f"node '{key.node_id[:200]}' isn't connected to this gateway; connected are: {there}"
            return pb.ErrorInfo(code="node_gone", message=text)
        if not self.nodes:
            return pb.ErrorInfo(code="no_node", message=f"'{call.title}' can't run: {_NOBODY}")
        serving = self._serving(key)
        if serving:
            return self.rings.why_not(call, serving) or never_fits(call, serving)
        if key.allowed_nodes and self._serving(key._replace(allowed_nodes=())):
            text = f"'{call.title}' can't run: its token allows nodes {', '.join(key.allowed_nodes[:5])} only, and none of them "
            return pb.ErrorInfo(code="no_node", message=text + "could run it")
        if key.is_code:
            return self._no_environments(call) if key.builds else self._wrong_python(key)
        return self._unknown_function(key)

    def close_names(self, function: str, node_id: str = "") -> list[str]:
        """Offered names that look like this one."""
        names = {name for node in self.nodes.values() if node_id in ("", node.node_id) for name in node.offers}
        by_lower = {name.lower(): name for name in sorted(names)}
        found = difflib.get_close_matches(function[:200].lower(), list(by_lower), n=3, cutoff=0.6)
        return [by_lower[name] for name in found]

    def _wrong_python(self, key: QueueKey) -> pb.ErrorInfo:
        theirs = ", ".join(
            f"{node.node_id} has {minor(node.session.runtime.python)}"
            for node in self.nodes.values()
            if key.node_id in ("", node.node_id) and key.allows(node.node_id)
        )
        return pb.ErrorInfo(
            code="environment_mismatch",
            message=f"this code was made by Python {key.python} and runs on no other version: {theirs}. Call a function "
            f"that is registered on the node, or use Python {key.python} there",
        )

    def _no_environments(self, call: Call) -> pb.ErrorInfo:
        key = call.key
        theirs = "; ".join(
            f"{node.node_id}: {why_it_builds_none(node)}"
            for node in list(self.nodes.values())[:MAX_NAMED]
            if key.node_id in ("", node.node_id) and key.allows(node.node_id)
        )
        return pb.ErrorInfo(
            code="no_node",
            message=f"'{call.title}' says which packages it needs, and no node builds environments for that: {theirs}. "
            "Install uv there (pip install 'easyremote[environments]'), or leave out requirements",
        )

    def _unknown_function(self, key: QueueKey) -> pb.ErrorInfo:
        where = f"node '{key.node_id}'" if key.node_id else "this gateway"
        close = self.close_names(key.function, key.node_id)
        hint = f"; did you mean {' or '.join(close)}?" if close else "; none of its nodes offers a similar name"
        return pb.ErrorInfo(
            code="function_not_found",
            message=f"no function '{key.function[:200]}' on {where}{hint}",
            details={"close_names": "\n".join(close)},
        )


def circuit_of(key: QueueKey) -> str:
    """The name under which failures of such calls are kept."""
    return CODE if key.is_code else key.function


def queue_key(submit: pb.Submit) -> QueueKey:
    is_code = submit.HasField("code")
    options = submit.options
    limit = options.cost_limit if options.cost_limit > 0 else 0.0
    needs = asked(options.needs) if options.HasField("needs") else None
    builds = is_code and submit.code.spec.HasField("environment")
    python = submit.code.python if is_code and not builds else ""  # an environment has the version that is needed
    epoch = epoch_of(submit.seal) if submit.HasField("seal") else b""
    allowed = tuple(submit.allowed_nodes) if submit.allowed_nodes else ()
    return QueueKey(submit.function, options.node_id, python, is_code, limit, needs, epoch, allowed, builds)


def fits(node: Node, key: QueueKey, pool: Pool) -> bool:
    """Whether the node has now what calls of this key need there."""
    terms = pool.terms.get(node) if pool.terms is not None else None
    if terms is None:
        return node.has_credit
    is_kept = node.keeper == key
    free = node.free_slots if is_kept else max(node.free_slots - node.room.kept.slots, 0)
    return node.takes_calls and node.room.fits(terms, free, is_kept)


def is_held_back(call: Call, node: Node) -> bool:
    """Whether a call made by a call isn't sent ahead there: whoever has the slot that it would wait for may wait for it."""
    is_child = call.family is not None and call.family.parent is not None
    is_full = node.free_slots < 1 and 0 < node.lent <= node.beside
    return is_child and is_full and admission_of(node, call.key) is None


def minor(version: str) -> str:
    return ".".join(version.split(".")[:2])


def _can_run(node: Node, key: QueueKey) -> bool:
    if key.node_id and key.node_id != node.node_id:
        return False
    if key.allowed_nodes and not key.allows(node.node_id):
        return False
    if key.is_code:
        return has_python(node, key) and (node.builds or not key.builds)
    return key.function in node.offers


def has_python(node: Node, key: QueueKey) -> bool:
    """Whether it has the version that the call's code was made by, where that matters."""
    return not key.python or minor(node.session.runtime.python) == key.python


def why_it_builds_none(node: Node) -> str:
    """For people."""
    return node.why_it_builds_none or "its EasyRemote is too old for it"


def _cost(node: Node, key: QueueKey) -> float:
    """What a call is expected to cost there; 0 where it never ran, so that it is tried once."""
    return node.expected_s(key.function) * node.price


def _is_affordable(node: Node, key: QueueKey) -> bool:
    return key.cost_limit == 0 or _cost(node, key) <= key.cost_limit


def _pressure(load: pb.Load) -> float:
    """The larger part in use of processors and memory, in tenths: it moves by itself. Nonsense counts as nothing."""
    cpu = load.cpu_percent / 100
    memory = load.memory_used_bytes / load.memory_total_bytes if load.memory_total_bytes else 0.0
    return max(int(10 * part) / 10 if 0 <= part <= 1 else 0.0 for part in (cpu, memory))


def _too_dear(call: Call, candidates: Sequence[Node]) -> pb.ErrorInfo:
    cheapest = min(candidates, key=lambda node: _cost(node, call.key))
    cost = _cost(cheapest, call.key)
    return pb.ErrorInfo(
        code="cost_limit",
        message=f"no node runs '{call.title}' within cost_limit={call.key.cost_limit:g}; the cheapest is "
        f"'{cheapest.node_id}' at an expected {cost:g}",
        details={"cheapest_node": cheapest.node_id, "cheapest_cost": f"{cost:g}"},
    )
