"""A seeded world: one gateway, nodes and clients with their real cores, virtual time, and faults.

`simulate(seed, plan)` makes a world, lets it run until nothing is left to do, and checks every promise on the way:

- `check()` of a core after everything that it did;
- each call ends exactly once at its client, and with its own value where it succeeds;
- a stream's items come once, in order, without gaps;
- each call in a bundle is a call of its own in all this, whatever becomes of the bundle;
- a call with `retries=0` begins at most once;
- no call has a GPU alone that another one has, nor more of its memory than there is, and no function is at work more often than
  it allows;
- a node that takes only sealed calls begins none that it can't open, and is given no other node's admissions;
- a node runs no more attempts than it has slots, and no attempt that is past its call's deadline is begun;
- where slots are free, no call waits longer than `begins_within_s`;
- what a node registers is confirmed only when calls find it, and in the end it is;
- in the end nothing is left: no call at the gateway, no attempt at a node, no open call at a client;
- where the plan's faults are `gentle` (shorter than the grace time), every call that its user let run ends with its value and
  was begun once.

The same seed and plan give the same trace, in any process.
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from random import Random

from easyremote.config import GatewaySettings
from easyremote.core.node_session import Attempt
from easyremote.testing.clock import Schedule
from easyremote.testing.peers import Peer
from easyremote.testing.scripts import Asked, Execution, Script
from easyremote.testing.sim_client import SimClient
from easyremote.testing.sim_gateway import SimGateway
from easyremote.testing.sim_keeper import Disk, SimKeeper
from easyremote.testing.sim_needs import draw_needs, overcommitted, too_many
from easyremote.testing.sim_node import SimNode
from easyremote.wire.v1 import gateway_pb2 as pb

FUNCTIONS = ("f", "g", "h")

GENTLE_FAULTS = (
    "cut_client",
    "cut_node",
    "stall_client",
    "stall_node",
    "detach_client",
    "detach_node",
    "hold_client",
    "hold_node",
    "crash_gateway",
    "drain_gateway",
)
"""Faults that cost no call anything when they are short."""

FAULTS = (
    *GENTLE_FAULTS,
    "mute_client",
    "mute_node",
    "crash_node",
    "crash_client",
    "freeze_gateway",
    "freeze_node",
    "freeze_client",
    "leave_node",
    "leave_client",
    "drain_node",
    "rest_node",
    "break_node",
    "unplug_node",
    "change_offers",
)


class Violation(AssertionError):
    """A promise was broken."""


@dataclass(frozen=True, slots=True)
class Fault:
    """Something goes wrong at `at_s` with the `target`-th peer of its kind, and is over `lasts_s` later."""

    at_s: float
    kind: str
    target: int
    lasts_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a world is made of and what it is to suffer.

    `faults` names the kinds to draw from, `fault_count` how many; `schedule` gives them exactly instead. Parts of calls:
    `cancelled` by their user, `timed` with a timeout,
    `once_only` with retries=0, `pinned` to a node, `streams`, `prioritized`, `nested`.
    """

    nodes: int = 3
    clients: int = 2
    slots: int = 2
    calls: int = 24
    active_s: float = 12.0
    faults: tuple[str, ...] = ()
    fault_count: int = 0
    fault_lasts_s: tuple[float, float] = (0.1, 12.0)
    schedule: tuple[Fault, ...] = ()
    gentle: bool = False
    cancelled: float = 0.1
    timed: float = 0.1
    once_only: float = 0.25
    pinned: float = 0.1
    streams: float = 0.4
    endless: float = 0.05
    waiting: float = 0.1  # with a queue timeout
    prioritized: float = 0.1
    needy: float = 0.0  # that say what they need
    gpus: tuple[int, ...] = ()  # of each node: the memory of each GPU, in bytes
    most: dict[str, int] = field(default_factory=dict[str, int])  # functions with their `max_concurrency`
    bundles: int = 0  # each of many short calls, that leave together
    crashing: float = 0.0  # weight of tasks of bundles that take their process with them
    together: dict[str, int] = field(
        default_factory=dict[str, int]
    )  # functions whose calls run together: their `batch`
    nested: float = 0.1  # as if another call had made them, which may run, or not
    large: float = 0.15  # arguments or values that are fetched
    jobs: float = 0.0  # part of calls that the gateway keeps
    hedged: float = 0.0  # get a second copy after a while
    retried: float = 0.0  # fail at first, with an error after which they are to run again
    duplicates: float = 0.0
    refs: float = 0.0  # name a value that stays with its client, or on the node that made it
    kept: float = 0.0  # have their result stay on its node
    sealed: int = 0  # the first so many nodes take only sealed calls, and all clients seal
    begins_within_s: float = float("inf")  # where slots are free, no call may wait longer
    check_every: int = 1  # how often the gateway's invariants are checked, in steps of it; more for large worlds
    settings: GatewaySettings = field(default_factory=GatewaySettings)


def simulate(seed: int, plan: Plan) -> World:
    """Run a world to its end. Raises Violation, with the seed and the last things that happened."""
    world = World(seed, plan)
    try:
        world.run()
    except Exception as error:
        raise Violation(f"seed {seed}: {type(error).__name__}: {error}\nplan: {plan}\n{world.tail()}") from error
    return world


class World:
    """See the module. `note` writes its trace; `digest` sums it up."""

    def __init__(self, seed: int, plan: Plan) -> None:
        self.seed = seed
        self.plan = plan
        self.rng = Random(seed)
        self.digest = hashlib.sha256()
        self.log: deque[str] = deque(maxlen=400)
        self.schedule = Schedule()
        self.schedule.now = 100.0
        self.gateway = SimGateway(self, plan.settings, plan.check_every)
        self.nodes = [self._new_node(f"n{index}") for index in range(plan.nodes)]
        self.clients = [self._new_client(f"c{index}") for index in range(plan.clients)]
        self.disk = Disk()
        self.keeper = self._new_keeper() if plan.jobs else None
        self.calls: dict[bytes, Asked] = {}
        self._tasks: dict[str, Asked] = {}  # of bundles, by name
        self._bundles: set[bytes] = set()  # ids; only looked into
        self._planned: list[bytes] = []
        self._queries = 0
        self._settles_after = self.schedule.now + plan.active_s
        work = Random(f"{seed} work")  # so that calls stay the same when the schedule of faults is changed
        for index in range(plan.calls):
            self._plan_call(f"call {index}", work)
        for index in range(plan.bundles):
            self._plan_bundle(f"bundle {index}", work)
        for fault in plan.schedule or self._draw_faults():
            self._plan_fault(fault)

    def note(self, text: str) -> None:
        line = f"{self.schedule.now - 100:9.4f}  {text}"
        self.log.append(line)
        self.digest.update(line.encode())

    def tail(self, lines: int = 80) -> str:
        return "\n".join(list(self.log)[-lines:])

    # ---- running -------------------------------------------------------------------------------------------------

    def run(self, patience_s: float = 90.0) -> None:
        """Until nothing is left to do; a Violation when that takes too long."""
        until = self._settles_after
        while self.schedule.now < until:
            self.schedule.run_next()
        until = self.schedule.now + patience_s
        while self._leftovers():
            if self.schedule.now > until:
                raise Violation(f"left over: {'; '.join(self._leftovers())}")
            look_again_at = self.schedule.now + 0.5
            while self.schedule.now < look_again_at:
                self.schedule.run_next()
        self._check_ends()

    def _leftovers(self) -> list[str]:
        """What should not be there when everybody has done their part."""
        left = [
            f"{asked.name} hasn't ended" for asked in self.calls.values() if not asked.has_ended and not asked.is_orphan
        ]
        left += self.gateway.broker.leftovers()
        left += [f"{node.name} holds {node.core.held_count} attempts" for node in self.nodes if node.core.held_count]
        left += [f"{node.name} runs {len(node.runs)}" for node in self.nodes if node.runs]
        left += [f"not all know what {node.name} offers" for node in self.nodes if not self._is_known(node)]
        left += [text for peer in self._peers() for text in peer.transfers.leftovers()]
        left += [text for node in self.nodes for text in node.store.leftovers()]
        left += [text for client in self.clients for text in client.refs.leftovers()]
        clients = (*self.clients, *self._keepers())
        left += [f"{c.name} has {c.core.open_count} calls open" for c in clients if c.core.open_count]
        return left

    def _keepers(self) -> list[SimKeeper]:
        return [self.keeper] if self.keeper is not None else []

    def _peers(self) -> list[Peer]:
        return [*self.nodes, *self.clients, *self._keepers()]

    def _is_known(self, node: SimNode) -> bool:
        """Whether its last registration was confirmed, and calls find it."""
        offers = self.gateway.broker.offers_of(node.name)
        return node.confirmed_revision == node.revision and offers == sorted(node.functions)

    def _check_ends(self) -> None:
        for asked in self.calls.values():
            if asked.is_orphan or asked.hedge_of or (asked.script.failing and asked.deadline is not None):
                continue  # one that has no time to wait ends with its error, a second copy with whatever comes of it
            if self.plan.gentle and asked.outcomes[0] not in ("cancelled", "deadline"):
                expected, runs = asked.expected(self.plan.settings.default_retries)
                begun = len(asked.executions)
                if asked.script.items and asked.script.failing and begun > runs:
                    continue  # its items were lost on their way, so it could be run again after its error
                self._expect(asked.outcomes == [expected], f"{asked.name} ended with {asked.outcomes}, not {expected}")
                self._expect(begun == runs, f"{asked.name} was begun {begun} times, not {runs}")

    def _expect(self, condition: bool, text: str) -> None:
        if not condition:
            raise Violation(text)

    # ---- what peers report ---------------------------------------------------------------------------------------

    def run_began(self, node: SimNode, attempt: Attempt) -> None:
        self._expect(node.running_count <= node.slots, f"{node.name} runs {node.running_count} of {node.slots}")
        function = attempt.submit.function
        together, most = node.together_count(function), 2 * self.plan.together.get(function, 0)
        self._expect(not together or together <= most, f"{node.name} has {together} calls of {function}, not {most}")
        problem = overcommitted(node) or too_many(node, self.plan.most)
        self._expect(not problem, f"{node.name}: {problem}")
        if attempt.call_id not in self._bundles:
            self._begun(node, self.calls[attempt.call_id], attempt)

    def _begun(self, node: SimNode, asked: Asked, attempt: Attempt) -> None:
        self.note(f"{node.name} begins {asked.name} attempt {attempt.number}")
        asked.executions.append(Execution(node.name, attempt.number, self.schedule.now))
        waited_s = self.schedule.now - asked.asked_at
        self._expect(waited_s < self.plan.begins_within_s, f"{asked.name} began only after {waited_s:.1f} s")
        once = asked.is_once_only or (self.plan.gentle and not asked.script.failing)
        self._expect(len(asked.executions) == 1 or not once, f"{asked.name} is begun again: {asked.executions}")
        first = self.calls.get(asked.hedge_of)
        if first is not None and first.executions and len(asked.executions) == 1:
            last = first.executions[-1]  # it may have failed there, and be elsewhere by now
            is_here = last.node == node.name and (first.call_id, last.attempt) in node.runs
            self._expect(not is_here or last.begun_at > asked.asked_at, f"{asked.name} is begun beside its first copy")
        if asked.deadline is not None:
            late_s = self.schedule.now - asked.deadline
            self._expect(late_s < self._transit_slack_s(), f"{asked.name} is begun {late_s:.3f} s after its deadline")

    def _transit_slack_s(self) -> float:
        """How much later than its deadline a call may begin: clocks can't be compared, so time on the way isn't counted."""
        slow = any(word in kind for kind in self._fault_kinds() for word in ("stall", "freeze", "hold"))
        return 1e9 if slow else 0.6

    def _fault_kinds(self) -> Sequence[str]:
        return [fault.kind for fault in self.plan.schedule] or self.plan.faults

    def offers_confirmed(self, node: SimNode) -> None:
        """Until something else goes wrong, calls find what was confirmed."""
        is_there = self.gateway.is_alive and node.wire is not None and not node.wire.is_dead
        if is_there and node.confirmed_revision == node.revision:
            offers = self.gateway.broker.offers_of(node.name)
            self._expect(
                offers == sorted(node.functions), f"{node.name} was told that {node.functions} are found: {offers}"
            )

    def item_came(self, asked: Asked, event: pb.Event) -> None:
        expected = asked.script.item(len(asked.items))
        self._expect(event.item.data == expected, f"{asked.name}: {event.item.data!r} came as item {len(asked.items)}")
        asked.items.append(event.item.data)

    def value_came(self, client: str, data: bytes | None, expected: bytes) -> None:
        self.note(f"{client} got a value: {'it is lost' if data is None else len(data)}")
        self._expect(data is None or data == expected, f"{client} got a wrong value")
        self._expect(data is not None or not self.plan.gentle, f"{client} couldn't get a value")

    def call_ended(self, asked: Asked, outcome: str, may_have_run: bool = True) -> None:
        self.note(f"{asked.name} ends with {outcome}")
        is_known = (
            may_have_run or not asked.executions or asked.name in self._tasks
        )  # a task that goes again is another call
        self._expect(is_known, f"{asked.name} has run, and {outcome} says that it hasn't")
        asked.outcomes.append(outcome)
        self._expect(len(asked.outcomes) == 1, f"{asked.name} ended more than once: {asked.outcomes}")
        self._expect(outcome != "a wrong value", f"{asked.name} got another call's value")
        if outcome == "value":
            count = asked.script.items
            self._expect(len(asked.items) == count, f"{asked.name} ended after {len(asked.items)} of {count} items")

    # ---- calls ---------------------------------------------------------------------------------------------------

    def _plan_call(self, name: str, work: Random) -> None:
        plan = self.plan
        is_endless = work.random() < plan.endless
        is_stream = work.random() < plan.streams
        script = Script(
            name,
            items=work.randint(1, 30) if is_stream else 0,
            outputs=work.choice((0, 0, 1, 3)),
            item_bytes=work.choice((0, 1000, 300_000, 2_000_000)),
            step_s=work.choice((0.001, 0.01, 0.1, 0.1, 0.4 if is_stream else 2.0)),
            ends="never" if is_endless else work.choice(("value", "value", "value", "value", "error")),
            argument_bytes=work.randint(500, 2500) if work.random() < plan.large else 0,
            value_bytes=work.randint(500, 2500) if work.random() < plan.large else 0,
        )
        options = pb.Options()
        if work.random() < plan.once_only:
            options.retries_set = True
        elif work.random() < 0.3:
            options.retries_set, options.retries = True, work.randint(1, 4)
        if work.random() < plan.pinned:
            options.node_id = f"n{work.randrange(plan.nodes)}"
        if work.random() < plan.waiting:
            options.queue_timeout_s = work.choice((0.5, 5.0, 20.0))
        if work.random() < plan.prioritized:
            options.priority = work.choice((-5, 1, 5))
        if work.random() < plan.timed:
            options.timeout_s = work.choice((0.05, 0.5, 3.0, 10.0))
        if work.random() < plan.nested and self._planned:
            options.parent_id = work.choice(self._planned)
        if plan.needy and work.random() < plan.needy:
            options.needs.CopyFrom(draw_needs(work, plan.slots, plan.gpus))
        gives_up_after = work.uniform(0.0, 5.0) if work.random() < plan.cancelled or is_endless else None
        take_s = work.choice((0.001, 0.001, 0.02, 0.2))
        at = work.uniform(0.5, plan.active_s)
        client, call_id = work.randrange(plan.clients), work.randbytes(16)
        self._planned.append(call_id)
        function = work.choice(FUNCTIONS)
        if plan.retried and work.random() < plan.retried:
            script = replace(script, failing=work.randint(1, 4))
            options.retry_on.append("Flaky")
            options.backoff_s = work.choice((0.0, 0.1, 1.0))
        asked = Asked(call_id, function, script, options, 0.0, "")
        if plan.refs or plan.kept:
            asked.names = work.choice(("put", "kept")) if work.random() < plan.refs else ""
            options.keep = not script.items and work.random() < plan.kept
        minds_the_clock = work.random() < 0.5
        if plan.jobs and work.random() < plan.jobs:
            self._at(at, lambda: self._ask_job(asked, gives_up_after))
            return
        self._at(at, lambda: self._ask(asked, client, take_s, gives_up_after, minds_the_clock))

    def _ask_job(self, asked: Asked, gives_up_after: float | None) -> None:
        """Somebody submits a job, and perhaps cancels it, while there is a gateway that could answer."""
        keeper = self.keeper
        if keeper is None or not keeper.is_alive or self.schedule.now < keeper.frozen_until:
            return
        asked.client, asked.asked_at = keeper.name, self.schedule.now
        self.calls[asked.call_id] = asked
        self.note(f"{asked.name} is kept as a job")
        if asked.options.timeout_s > 0:
            asked.deadline = self.schedule.now + asked.options.timeout_s
        keeper.keep(asked)
        if gives_up_after is not None:
            self._at(self.schedule.now - 100 + gives_up_after, lambda: self._end_job(asked))

    def _end_job(self, asked: Asked) -> None:
        keeper = self.keeper
        if keeper is None or not keeper.is_alive:
            self._at(self.schedule.now - 100 + 1.0, lambda: self._end_job(asked))
        else:
            keeper.end(asked.call_id, "cancelled")

    def _plan_bundle(self, name: str, work: Random) -> None:
        plan = self.plan
        function, client, at = work.choice(FUNCTIONS), work.randrange(plan.clients), work.uniform(0.5, plan.active_s)
        usual_s = work.choice((0.0001, 0.001, 0.005, 0.05))
        tasks: list[tuple[Asked, float | None]] = []
        for number in range(work.choice((2, 5, 12, 30))):
            script = Script(
                f"{name} task {number}",
                outputs=int(work.random() < 0.1),
                step_s=usual_s if work.random() < 0.9 else 0.2,
                ends=work.choices(("value", "error", "crash", "never"), (90, 8, plan.crashing, 40 * plan.endless))[0],
                value_bytes=work.randint(500, 2500) if work.random() < plan.large / 3 else 0,
            )
            is_cancelled = script.ends == "never" or work.random() < plan.cancelled / 2
            gives_up_after = work.expovariate(1 / usual_s) if is_cancelled else None
            tasks.append((Asked(work.randbytes(16), function, script, pb.Options(), 0.0, ""), gives_up_after))
        self._at(at, lambda: self._ask_bundle(tasks, client))

    def _ask_bundle(self, tasks: list[tuple[Asked, float | None]], client_index: int) -> None:
        client = self.clients[client_index]
        if not client.is_alive or self.schedule.now < client.frozen_until:
            return
        for asked, gives_up_after in tasks:
            asked.client, asked.asked_at = client.name, self.schedule.now
            self.calls[asked.call_id] = self._tasks[asked.name] = asked
            if gives_up_after is not None:
                client.after(gives_up_after, lambda asked=asked: client.cancel_task(asked))
        client.submit_bundle([asked for asked, _ in tasks], 0.001)

    def note_bundle(self, call_id: bytes, tasks: list[Asked]) -> None:
        self.note(f"{tasks[0].client} submits a bundle of {len(tasks)}, from {tasks[0].name} to {tasks[-1].name}")
        self._bundles.add(call_id)

    def task_began(self, node: SimNode, name: str, attempt: Attempt) -> None:
        """The same for a task of a bundle."""
        self._begun(node, self._tasks[name], attempt)

    def _ask(self, asked: Asked, client_index: int, take_s: float, gives_up_after: float | None, minds: bool) -> None:
        client = self.clients[client_index]
        if not client.is_alive or self.schedule.now < client.frozen_until:
            return
        asked.client, asked.asked_at = client.name, self.schedule.now
        self.calls[asked.call_id] = asked
        self.note(f"{client.name} submits {asked.name}")
        if asked.options.timeout_s > 0:
            asked.deadline = self.schedule.now + asked.options.timeout_s
            if minds:  # somebody waits for it, and gives up at its deadline
                client.after(asked.options.timeout_s, lambda: client.cancel(asked.call_id, "deadline"))
        client.submit(asked, take_s)
        if self.plan.hedged and not asked.hedge_of and not asked.script.items and self.rng.random() < self.plan.hedged:
            copy = Asked(
                self.rng.randbytes(16), asked.function, asked.script, pb.Options(), 0.0, "", hedge_of=asked.call_id
            )
            client.after(self.rng.uniform(0.0, 1.0), lambda: self._ask(copy, client_index, take_s, 2.0, False))
        if gives_up_after is not None:
            client.after(gives_up_after, lambda: client.cancel(asked.call_id, "cancelled"))

    # ---- faults --------------------------------------------------------------------------------------------------

    def _draw_faults(self) -> list[Fault]:
        plan, rng = self.plan, Random(f"{self.seed} faults")
        if not plan.faults:
            return []
        return [
            Fault(
                rng.uniform(0.3, plan.active_s),
                rng.choice(plan.faults),
                rng.randrange(1000),
                rng.uniform(*plan.fault_lasts_s) if rng.random() < 0.7 else plan.fault_lasts_s[0],
            )
            for _ in range(plan.fault_count)
        ]

    def _plan_fault(self, fault: Fault) -> None:
        self._settles_after = max(self._settles_after, 100.0 + fault.at_s + fault.lasts_s)
        self._at(fault.at_s, lambda: self._inject(fault))

    def _inject(self, fault: Fault) -> None:
        what, _, whom = fault.kind.partition("_")
        self.note(f"fault: {fault.kind} {fault.target} for {fault.lasts_s:.3f} s")
        if whom == "gateway":
            self._trouble_gateway(what, fault.lasts_s)
            return
        if what == "change":
            self._change_offers(fault)
            return
        peers: list[Peer] = [*(self.nodes if whom == "node" else self.clients)]
        peer = peers[fault.target % len(peers)]
        if not peer.is_alive or (self.plan.gentle and not peer.is_up):
            return  # two short faults in a row would make a long one
        if what == "unplug":
            self._lose_gpu(self.nodes[fault.target % len(self.nodes)], fault)
        elif what == "break":
            self.nodes[self.nodes.index(peer)].broken_until = self.schedule.now + fault.lasts_s  # type: ignore[arg-type]
        elif what in ("drain", "rest"):
            self._drain(self.nodes[self.nodes.index(peer)], what, fault.lasts_s)  # type: ignore[arg-type]
        elif what == "cut":
            self._cut(peer, fault.lasts_s)
        elif what == "mute":
            self._mute(peer, fault.lasts_s)
        elif what == "stall":
            if peer.wire is not None:
                peer.wire.stalled_until = self.schedule.now + fault.lasts_s
        elif what == "detach":
            self._detach(peer)
        elif what == "freeze":
            peer.freeze(fault.lasts_s)
        elif what == "hold":
            peer.hold(fault.lasts_s)
        else:
            self._end(peer, fault.lasts_s, is_clean=what == "leave")

    def _cut(self, peer: Peer, lasts_s: float) -> None:
        """Both ends notice, each in its own time; what is on its way is lost."""
        peer.unreachable_until = self.schedule.now + lasts_s
        if peer.wire is not None and not peer.wire.is_dead:
            wire = peer.wire
            wire.die()
            latest = 0.4 if self.plan.gentle else 2.0
            self.gateway.notice(wire, self.rng.uniform(0, latest))
            peer.notice(wire, self.rng.uniform(0, latest))
        if self.rng.random() < 0.5:
            self._detach(peer)

    def _lose_gpu(self, node: SimNode, fault: Fault) -> None:
        """One of its GPUs can't be used for a while. Nobody knows that it is back before the node says so."""
        if node.gpus:
            index = fault.target // len(self.nodes) % len(node.gpus)
            node.lose_gpu(index, is_lost=True)
            node.after(fault.lasts_s, lambda: node.lose_gpu(index, is_lost=False))

    def _detach(self, peer: Peer) -> None:
        """Its transfer stream breaks, which is a connection of its own."""
        stream = peer.transfers.stream
        if stream is not None and not stream.is_dead:
            stream.die()
            peer.transfers.notice(stream, self.rng.uniform(0, 0.4))

    def _mute(self, peer: Peer, lasts_s: float) -> None:
        """The connection swallows everything and nobody is told."""
        peer.unreachable_until = self.schedule.now + lasts_s
        for wire in (peer.wire, peer.transfers.stream):
            if wire is not None:
                wire.die()

    def _end(self, peer: Peer, away_s: float, is_clean: bool) -> None:
        """The process ends; another one takes its place, under the same name when it is a node."""
        if is_clean and isinstance(peer, SimNode | SimClient):
            peer.goodbye()
        else:
            peer.crash()
            if peer.wire is not None:
                peer.wire.die()
                self.gateway.notice(peer.wire, self.rng.uniform(0, 1.0))
        for asked in self.calls.values():
            asked.is_orphan = asked.is_orphan or (asked.client == peer.name and not is_clean)
        self._at(self.schedule.now - 100 + away_s, lambda: self._replace(peer))

    def _drain(self, node: SimNode, what: str, lasts_s: float) -> None:
        """A node is told to end, or somebody asks the gateway to give it no new calls for a while."""
        if what == "rest":
            self._ask_gateway(pb.Query(drain_node=pb.Query.DrainNode(node_id=node.name)))
            self._at(self.schedule.now - 100 + lasts_s, lambda: self._ask_gateway(pb.Query(resume_node=node.name)))
            return
        if self.plan.gentle and any(not other.is_alive or other.core.is_leaving for other in self.nodes):
            return  # calls would find no node
        grace_s = 1e9 if self.plan.gentle else lasts_s
        away_s = self.rng.uniform(0.0, 2.0)
        node.drain(grace_s, lambda: self._at(self.schedule.now - 100 + away_s, lambda: self._replace(node)))

    def _ask_gateway(self, query: pb.Query) -> None:
        self._queries += 1
        query.query_id = self._queries
        for client in self.clients:
            if client.is_alive:
                client.core.query(query)
                client.flush()
                return

    def _replace(self, peer: Peer) -> None:
        if isinstance(peer, SimNode):
            node = self._new_node(peer.name)
            self.nodes[self.nodes.index(peer)] = node
        elif isinstance(peer, SimClient):
            name = f"{peer.name}'"
            self.clients[self.clients.index(peer)] = self._new_client(name)

    def _trouble_gateway(self, what: str, lasts_s: float) -> None:
        if not self.gateway.is_alive:
            return
        if what == "freeze":
            self.gateway.freeze(lasts_s)
            for keeper in self._keepers():
                keeper.freeze(lasts_s)
            return
        if what == "drain":
            self.gateway.drain()
            gateway = self.gateway
            lasts_s /= 2
            gateway.after(lasts_s, lambda: self._crash_gateway(lasts_s))
            return
        self._crash_gateway(lasts_s)

    def _crash_gateway(self, lasts_s: float) -> None:
        self.gateway.crash()
        for keeper in self._keepers():
            keeper.crash()
        self._at(self.schedule.now - 100 + lasts_s, self._restart_gateway)

    def _restart_gateway(self) -> None:
        self.note("the gateway is back")
        self.gateway = SimGateway(self, self.plan.settings, self.plan.check_every)
        if self.keeper is not None:
            self.keeper = self._new_keeper()

    def _change_offers(self, fault: Fault) -> None:
        node = self.nodes[fault.target % len(self.nodes)]
        if node.is_alive:
            rng = Random(fault.target)
            node.offer(name for name in FUNCTIONS if rng.random() < 0.6)

    # ---- making peers --------------------------------------------------------------------------------------------

    def _new_node(self, name: str) -> SimNode:
        offered = FUNCTIONS
        if not self.plan.gentle:
            offered = tuple(f for f in FUNCTIONS if name == "n0" or self.rng.random() < 0.7)
        plan = self.plan
        is_sealed = int(name[1:]) < plan.sealed
        node = SimNode(
            self, name, plan.slots, offered, together=plan.together, gpus=plan.gpus, most=plan.most, is_sealed=is_sealed
        )
        if not plan.gentle:
            node.store.max_idle = 3
        return node

    def _new_client(self, name: str) -> SimClient:
        return SimClient(self, name, self.plan.duplicates, seals=self.plan.sealed > 0)

    def _new_keeper(self) -> SimKeeper:
        return SimKeeper(self, "keeper", self.disk, [f"n{index}" for index in range(self.plan.sealed)])

    def _at(self, at_s: float, work) -> None:
        self.schedule.at(100.0 + at_s, None, work)


def with_schedule(plan: Plan, schedule: Sequence[Fault]) -> Plan:
    """The same plan with exactly these faults."""
    return replace(plan, schedule=tuple(schedule))
