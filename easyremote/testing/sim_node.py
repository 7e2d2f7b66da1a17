"""A pretend node: the real session core, and runs that take virtual time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

from easyremote.config import WindowSettings
from easyremote.core import node_session as core
from easyremote.testing import sim_seals
from easyremote.testing.clock import Timer
from easyremote.testing.peers import Peer
from easyremote.testing.scripts import Script
from easyremote.testing.sim_bundles import TaskRun
from easyremote.testing.sim_gateway import Surroundings
from easyremote.testing.sim_transfers import Incoming
from easyremote.testing.sim_values import NodeStore, Value
from easyremote.wire.v1 import gateway_pb2 as pb

TICK_S = 0.02
LATER_TICK_S = 0.1
"""Where every attempt has said that it began, there are only deadlines to look after."""


class NodeWorld(Surroundings, Protocol):
    def run_began(self, node: SimNode, attempt: core.Attempt) -> None: ...
    def task_began(self, node: SimNode, name: str, attempt: core.Attempt) -> None: ...
    def offers_confirmed(self, node: SimNode) -> None: ...


class SimNode(Peer):
    """One process of a node. Each attempt runs its script, waits where the window is closed, and stops when told to."""

    core: core.NodeSession

    def __init__(
        self,
        world: NodeWorld,
        name: str,
        slots: int,
        functions: Iterable[str],
        python: str = "3.11.7",
        together: Mapping[str, int] | None = None,
        gpus: Sequence[int] = (),
        most: Mapping[str, int] | None = None,
        is_sealed: bool = False,
    ):
        """`together`: functions whose calls run together, with their `batch`; here each of those has a run of its own.

        `gpus`: the memory of each, in bytes. `most`: functions with their `max_concurrency`. `is_sealed`: it takes only sealed
        calls.
        """
        super().__init__(world, name)
        self._node_world = world
        self.slots = slots
        self._together = together or {}
        self.functions = list(functions)
        self.runs: dict[tuple[bytes, int], Run | TaskRun] = {}
        self.confirmed_revision = 0
        runtime = pb.Runtime(python=python, host=name, pid=world.rng.randrange(1, 30000))
        state = pb.NodeState(node_id=name, slots=slots, capacity=pb.Capacity(millicpus=1000 * slots))
        state.capacity.gpus.extend(pb.Capacity.Gpu(index=i, memory_bytes=size) for i, size in enumerate(gpus))
        self.is_sealed = is_sealed
        if is_sealed:
            state.MergeFrom(sim_seals.state_of(name))
        self.gpus = tuple(gpus)
        self._most = most or {}
        self.core = core.NodeSession(world.rng.randbytes(16), runtime, state, WindowSettings())
        self.revision = self.core.offer(self._specs())
        self.store = NodeStore(self)
        self._ticks = False
        self.broken_until = 0.0  # its workers die until then, by the world's time

    def offer(self, functions: Iterable[str]) -> None:
        self.functions = list(functions)
        self.revision = self.core.offer(self._specs())
        self.flush()

    def lose_gpu(self, index: int, is_lost: bool) -> None:
        """Report that a GPU can't be used any more, or can again."""
        lost = "GPU is lost" if is_lost else ""
        self.core.report(pb.Load(gpus=[pb.Load.Gpu(index=index, memory_total_bytes=self.gpus[index], lost=lost)]))
        self.flush()

    def goodbye(self) -> None:
        """Stop what runs, say goodbye, end: as a node that is told to stop."""
        for run in list(self.runs.values()):
            run.stop("cancelled", "the node is stopping", at_once=True)
        self.core.goodbye("stopping")
        self._write()
        self.leave()

    def drain(self, grace_s: float, gone: Callable[[], None]) -> None:
        """Take no new calls and end when those that run have ended, or after `grace_s`; then `gone()` is called."""
        if not self.core.is_leaving:
            self.core.leave(self.now)
            self.flush()
            self._drain_on(self.now + grace_s, gone)

    def _drain_on(self, until: float, gone: Callable[[], None]) -> None:
        if self.core.held_count and self.now < until:
            self.after(0.05, lambda: self._drain_on(until, gone))
            return
        for run in self.runs.values():
            self.core.disown(run.attempt)
        self.goodbye()
        gone()

    @property
    def running_count(self) -> int:
        return sum(
            run.attempt.slots > 0 for run in self.runs.values()
        )  # those that run together, or for another, need none

    def together_count(self, function: str) -> int:
        """Calls of it that run together, without those that are stopping: whoever stopped them sends others meanwhile."""
        known = [run.attempt.submit.function for run in self.runs.values() if not run.attempt.stopping]
        return sum(function == name in self._together for name in known)

    def perform(self, effect: Any) -> None:
        if isinstance(effect, core.Start):
            self._begin(effect.attempt)
        elif isinstance(effect, core.Stop):
            run = self.runs.get(effect.attempt.key)
            if run is not None:
                run.stop(effect.code, effect.message)
        elif isinstance(effect, core.StopTasks):
            run = self.runs.get(effect.attempt.key)
            if isinstance(run, TaskRun):
                run.skip(effect.tasks)
        elif isinstance(effect, core.WindowOpened):
            run = self.runs.get(effect.attempt.key)
            if run is not None:
                run.go_on()
        elif isinstance(effect, core.Release):
            self.transfers.release(effect.attempt.key)
            self.store.settle(effect.attempt.key)
        elif isinstance(effect, core.Discard):
            self.store.discard(effect.ref_ids)
        elif isinstance(effect, core.SendBlob):
            self.transfers.requested(effect.fetch)
        elif isinstance(effect, core.OffersConfirmed):
            self.confirmed_revision = effect.revision
            self._node_world.offers_confirmed(self)
        elif isinstance(effect, core.Joined):
            self.world.note(f"{self.name} joined, resumed={effect.welcome.resumed}")
        elif isinstance(effect, core.Rejected):
            self.world.note(f"{self.name} rejected: {effect.refused.code}")

    def task_began(self, name: str, attempt: core.Attempt) -> None:
        self._node_world.task_began(self, name, attempt)

    def emit(self, run: Run | TaskRun, event: pb.Event, size: int) -> None:
        effects = self.core.emit(run.attempt, event, size, self.now)
        if run.attempt.has_ended:
            self.runs.pop(run.attempt.key, None)
            if isinstance(run, Run):
                run.let_go()
        self.feed(effects)

    def _specs(self) -> list[pb.FunctionSpec]:
        return [
            pb.FunctionSpec(
                name=name,
                version="1",
                load_balancing=True,
                batch=self._together.get(name, 0),
                max_concurrency=self._most.get(name, 0),
            )
            for name in self.functions
        ]

    def _begin(self, attempt: core.Attempt) -> None:
        if self.is_sealed:
            sim_seals.check(self.name, attempt.submit)
        run = self.runs[attempt.key] = TaskRun(self, attempt) if attempt.submit.tasks else Run(self, attempt)
        self._node_world.run_began(self, attempt)
        run.begin()
        if not self._ticks:
            self._ticks = True
            self.after(TICK_S, self._tick)

    def _tick(self) -> None:
        effects = self.core.tick(self.now)
        if effects or self.core.outbox:  # else nothing has changed that could be checked
            self.feed(effects)
        self._ticks = not self.core.is_idle
        if self._ticks:
            is_new = any(run.attempt.seq == 0 for run in self.runs.values())
            self.after(TICK_S if is_new else LATER_TICK_S, self._tick)


class Run:
    """One attempt at work. Arguments that didn't come with the call are fetched first."""

    def __init__(self, node: SimNode, attempt: core.Attempt) -> None:
        self.attempt = attempt
        self._node = node
        self._rng = node.world.rng
        self._events: list[tuple[pb.Event, int]] = []
        self._script = Script("")
        self._timer: Timer | None = None
        self._fetching: Incoming | None = None
        self._value: Value | None = None
        self._is_stopping = False

    def begin(self) -> None:
        if self._node.world.schedule.now < self._node.broken_until:
            died = pb.Event(error=pb.ErrorInfo(code="worker_crashed", message="its worker died"))
            self._node.after(self._rng.uniform(0, 0.05), lambda: self._emit(died, 0))
            return
        for ref in self.attempt.submit.refs:  # at most one
            self._value = self._node.store.use(ref, self._value_here)
            return
        self._fetch()

    def let_go(self) -> None:
        """Of the value that it named."""
        if self._value is not None:
            value, self._value = self._value, None
            self._node.store.done_with(value, self._value_here)

    def _value_here(self, is_there: bool) -> None:
        if self.attempt.has_ended or self._is_stopping:
            return
        if is_there:
            self._fetch()
        else:
            self._emit(pb.Event(error=pb.ErrorInfo(code="ref_lost")), 0)

    def _fetch(self) -> None:
        arguments = self.attempt.submit.arguments
        if arguments.HasField("blob"):
            self._fetching = self._node.transfers.fetch(self.attempt.call_id, arguments, self._fetched)
        else:
            self._fetched(arguments.data)

    def go_on(self) -> None:
        """Do the next step after a while, if there is one and none is under way."""
        if self._timer is None and self._events and not self._is_stopping:
            self._timer = self._node.after(self._rng.expovariate(1 / self._script.step_s), self._step)

    def stop(self, code: str, message: str, at_once: bool = False) -> None:
        """Ends with this error soon, or with what it was about to end with when that is sooner."""
        if self._is_stopping:
            return
        self._is_stopping = True
        if self._timer is not None:
            self._timer.cancel()
        if self._fetching is not None:
            self._node.transfers.give_up(self._fetching)
        event, size = pb.Event(error=pb.ErrorInfo(code=code, message=message)), 0
        if self._is_at_last_event and self._rng.random() < 0.5:
            event, size = self._events[-1]
        if at_once:
            self._emit(event, size)
        else:
            self._node.after(self._rng.uniform(0, 0.3), lambda: self._emit(event, size))

    def _fetched(self, data: bytes | None) -> None:
        self._fetching = None
        if data is None:
            self._emit(pb.Event(error=pb.ErrorInfo(code="lost", message="its arguments can't be had any more")), 0)
            return
        self._script = Script.decode(data)
        self._events = self._script.events(self.attempt.number)
        self.go_on()

    @property
    def _is_at_last_event(self) -> bool:
        return len(self._events) == 1 and self._script.ends != "never"

    def _step(self) -> None:
        self._timer = None
        if not self._is_at_last_event and not self._node.core.window_is_open(self.attempt):
            return  # WindowOpened goes on
        self._emit(*self._events.pop(0))
        self.go_on()

    def _emit(self, event: pb.Event, size: int) -> None:
        if event.HasField("result") and self.attempt.submit.options.keep:
            kept = self._node.store.keep(self.attempt.key, event.result.data.ljust(self._script.value_bytes))
            event.result.CopyFrom(pb.Payload(kept=kept))
        elif event.HasField("result") and self._script.value_bytes:
            padded = event.result.data.ljust(self._script.value_bytes)
            event.result.CopyFrom(self._node.transfers.own(self.attempt.key, padded))
        self._node.emit(self, event, size)
