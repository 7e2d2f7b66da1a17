"""A pretend client: the real session core, and consumers as patient or slow as the real `Call` may be."""

from __future__ import annotations

import json
from collections import deque
from random import Random
from typing import Any, Protocol

from easyremote.bundling import CallTime, Target
from easyremote.core import client_session as core
from easyremote.testing.clock import Timer
from easyremote.testing.peers import Peer
from easyremote.testing.scripts import Asked
from easyremote.testing.sim_bundles import SimBundle, SimTask
from easyremote.testing.sim_gateway import Surroundings
from easyremote.testing.sim_pipeline import Pipeline
from easyremote.testing.sim_seals import SimSeals
from easyremote.testing.sim_values import ClientRefs
from easyremote.wire.v1 import gateway_pb2 as pb

ACK_DELAY_S = 0.02
TAKE_EVENTS = 32
TAKE_BYTES = 256 * 1024


class ClientWorld(Surroundings, Protocol):
    def call_ended(self, asked: Asked, outcome: str, may_have_run: bool = True) -> None: ...
    def item_came(self, asked: Asked, event: pb.Event) -> None: ...
    def note_bundle(self, call_id: bytes, tasks: list[Asked]) -> None: ...
    def value_came(self, client: str, data: bytes | None, expected: bytes) -> None: ...


class SimClient(Peer):
    """One process of a client."""

    core: core.ClientSession

    def __init__(self, world: ClientWorld, name: str, duplicates: float = 0.0, seals: bool = False) -> None:
        super().__init__(world, name)
        self._client_world = world
        runtime = pb.Runtime(python="3.11.7", host=name)
        self.core = core.ClientSession(world.rng.randbytes(16), runtime, seals=seals)
        self.seals = SimSeals(self.core, world.rng.randbytes(16)) if seals else None
        self.consumers: dict[bytes, Consumer | SimBundle] = {}  # of calls that haven't ended, as in Connection
        self._times: dict[str, CallTime] = {}
        self.refs = ClientRefs(self)
        self._duplicates = duplicates
        self._ack_timer: Timer | None = None

    def submit(self, asked: Asked, take_s: float) -> None:
        submit = pb.Submit(
            call_id=asked.call_id, function=asked.function, options=asked.options, hedge_of=asked.hedge_of
        )
        data = asked.script.encode()
        if asked.script.argument_bytes:
            submit.arguments.CopyFrom(self.transfers.own(asked.call_id, data))
        else:
            submit.arguments.data = data
        if asked.names:
            rng = Random(f"{self.world.rng.random()} refs")
            ref = self.refs.choose(rng.randbytes(rng.randint(10, 1500)), asked.names == "kept", rng)
            self.refs.named_by(asked.call_id, [ref])
            submit.refs.append(ref)
        if self.seals is not None:
            self.seals.seal(submit)
        self.consumers[asked.call_id] = Consumer(self, asked, take_s)
        self.core.submit(submit, self.now)
        self.core.check()
        self.flush()

    def submit_bundle(self, tasks: list[Asked], take_s: float) -> None:
        """Calls of one function that leave together."""
        target = Target(
            tasks[0].function, pb.Options(), None, True, self._times.setdefault(tasks[0].function, CallTime())
        )
        self._send_bundle(target, [SimTask(self, asked, take_s) for asked in tasks])

    def send_again(self, target: Target, members: list[Any]) -> None:
        """As `Connection` does: what comes back goes by itself, or in new bundles where calls are short."""
        tasks: list[SimTask] = [task for task, _ in members]
        room = target.time.room
        while tasks:
            part, tasks = tasks[:room], tasks[room:]
            if len(part) > 1:
                self._send_bundle(target, part)
            else:
                self.submit(part[0].asked, part[0].take_s)

    def _send_bundle(self, target: Target, tasks: list[SimTask]) -> None:
        call_id = self.world.rng.randbytes(16)
        submit = target.to_wire(call_id)
        submit.tasks.extend(task.asked.script.encode() for task in tasks)
        if self.seals is not None:
            self.seals.seal(submit)
        self.consumers[call_id] = SimBundle(self, call_id, target, tasks)
        self._client_world.note_bundle(call_id, [task.asked for task in tasks])
        self.core.submit(submit, self.now)
        self.core.check()
        self.flush()

    def cancel_task(self, asked: Asked) -> None:
        """Its user doesn't want it any more, wherever it is: in a bundle, or by itself."""
        if asked.has_ended:
            return
        if asked.call_id in self.consumers:
            self.cancel(asked.call_id, "cancelled")
            return
        for call_id, consumer in list(self.consumers.items()):
            numbers = consumer.numbers_of(asked) if isinstance(consumer, SimBundle) else ()
            if isinstance(consumer, SimBundle) and numbers:
                self.ended(asked, "cancelled")
                self._cancel_tasks(call_id, consumer, numbers)

    def _cancel_tasks(self, call_id: bytes, consumer: SimBundle, numbers: set[int]) -> None:
        if consumer.bundle.is_wanted:
            self.core.cancel_tasks(call_id, consumer.bundle.unwanted(numbers))
        else:
            self.core.cancel(call_id, "its calls were cancelled")
            self.forget(call_id)
        self.core.check()
        self.flush()

    def ended(self, asked: Asked, outcome: str) -> None:
        """A task of a bundle has."""
        self._client_world.call_ended(asked, outcome)

    def cancel(self, call_id: bytes, outcome: str) -> None:
        consumer = self.consumers.get(call_id)
        if isinstance(consumer, SimBundle):
            for asked in consumer.open_tasks():
                self.cancel_task(asked)
            return
        self.forget(call_id)
        if consumer is not None:
            self.core.cancel(call_id, outcome)
            self.core.check()
            self.flush()
            self._client_world.call_ended(consumer.asked, outcome)

    def forget(self, call_id: bytes) -> Consumer | SimBundle | None:
        """It has ended, or nobody wants it any more."""
        self.transfers.release(call_id)
        self.refs.call_ended(call_id)
        consumer = self.consumers.pop(call_id, None)
        if consumer is not None:
            consumer.stop_fetching()
        return consumer

    def goodbye(self) -> None:
        """Close, as a client that is told to."""
        for call_id in list(self.consumers):
            self.cancel(call_id, "cancelled")
        self.refs.close()
        self.core.goodbye()
        self._write()
        self.leave()

    def taken(self, call_id: bytes, attempt: int, seq: int, size: int, items: int = 1) -> None:
        self.core.taken(call_id, attempt, seq, size, items)
        self.core.check()
        self._schedule_acks()
        self.flush()  # a call that ended may have made room for another

    def perform(self, effect: Any) -> None:
        if isinstance(effect, core.Deliver):
            consumer = self.consumers.get(effect.call_id)
            if consumer is not None:
                consumer.deliver(effect.event)
        elif isinstance(effect, core.Judged):
            consumer = self.forget(effect.call_id)
            if consumer is not None:
                consumer.judged(effect.error)
        elif isinstance(effect, core.HeldBack):
            self.after(effect.wait_s, self._resume)
        elif isinstance(effect, core.SendBlob):
            self.transfers.requested(effect.fetch)
        elif isinstance(effect, core.KeysCame) and self.seals is not None:
            self.seals.came(effect.keys)
        elif isinstance(effect, core.Connected):
            self.world.note(f"{self.name} connected, resumed={effect.welcome.resumed}")
        self._schedule_acks()

    def outgoing(self, frames: list[pb.Frame]) -> list[pb.Frame]:
        """Now and then a Submit comes twice."""
        doubled: list[pb.Frame] = []
        for frame in frames:
            doubled.append(frame)
            if self._duplicates and frame.HasField("submit") and self.world.rng.random() < self._duplicates:
                doubled.append(frame)
        return doubled

    def _resume(self) -> None:
        self.core.resume(self.now)
        self.core.check()
        self.flush()

    def _schedule_acks(self) -> None:
        if self._ack_timer is None and self.core.has_acks:
            self._ack_timer = self.after(ACK_DELAY_S, self._flush_acks)

    def _flush_acks(self) -> None:
        self._ack_timer = None
        self.core.flush_acks()
        self.flush()


class Consumer:
    """Takes a call's events as the real `Call` does: what nothing waits before is taken at once, the rest one by one."""

    def __init__(self, client: SimClient, asked: Asked, take_s: float) -> None:
        self.asked = asked
        self._client = client
        self._take_s = take_s
        self._queue: deque[tuple[pb.Event, int]] = deque()
        self._items_queued = 0
        self._untold = (0, 0, 0)
        self._untold_events = 0
        self._final: tuple[int, int] | None = None
        self._final_taken = False
        self._timer: Timer | None = None
        self._pipeline = Pipeline(client, asked.call_id, "result", self._arrived)

    def deliver(self, event: pb.Event) -> None:
        self._pipeline.deliver(event)

    def judged(self, error: pb.ErrorInfo) -> None:
        """The gateway ended it."""
        self._client._client_world.call_ended(self.asked, error.code, error.may_have_run)

    def stop_fetching(self) -> None:
        self._pipeline.stop()

    def _arrived(self, event: pb.Event, data: bytes | None) -> None:
        if data is not None:
            event.result.CopyFrom(pb.Payload(data=data.rstrip()))
        self.arrive(event)

    def arrive(self, event: pb.Event) -> None:
        asked, client = self.asked, self._client
        body = event.WhichOneof("body")
        at_once = not self._items_queued and body != "item"
        size = _size_of(event)
        if body in ("result", "error"):
            self._final, self._final_taken = (event.attempt, event.seq), at_once
        elif body is not None:
            self._queue.append((event, size))
            self._items_queued += body == "item"
            self._take_soon()
        if body == "item":
            client._client_world.item_came(asked, event)
        if at_once:
            client.core.taken(asked.call_id, event.attempt, event.seq, size)
            client._schedule_acks()
        if event.result.HasField("kept"):
            rng = Random(f"{client.world.rng.random()} kept")
            client.refs.kept(event.result.kept, asked.script.value().ljust(asked.script.value_bytes), rng)
        if self._final is not None:
            client.forget(asked.call_id)
            client._client_world.call_ended(asked, _outcome_of(event, asked))
            self._take_soon()

    def _take_soon(self) -> None:
        if self._timer is None:
            self._timer = self._client.after(self._client.world.rng.uniform(0, 2 * self._take_s), self._take)

    def _take(self) -> None:
        self._timer = None
        if not self._queue:
            self._tell()
            return
        event, size = self._queue.popleft()
        self._items_queued -= event.HasField("item")
        attempt, _, untold = self._untold
        self._untold = (event.attempt, event.seq, (untold if attempt == event.attempt else 0) + size)
        self._untold_events += 1
        if self._untold_events >= TAKE_EVENTS or self._untold[2] >= TAKE_BYTES:
            self._tell()
        if self._queue or self._final is not None:
            self._take_soon()

    def _tell(self) -> None:
        attempt, seq, size = self._untold
        self._untold, self._untold_events = (0, 0, 0), 0
        if self._final is not None and not self._queue:
            attempt, seq = self._final
        if seq and not self._final_taken:
            self._final_taken = self._final is not None and not self._queue
            self._client.taken(self.asked.call_id, attempt, seq, size)


def _size_of(event: pb.Event) -> int:
    if event.HasField("item"):
        return json.loads(event.item.data)[2]
    return 10 if event.HasField("output") else 0


def _outcome_of(event: pb.Event, asked: Asked) -> str:
    if event.HasField("error"):
        return event.error.code
    if asked.options.keep:
        return "value" if event.result.HasField("kept") else "a wrong value"
    return "value" if event.result.data == asked.script.value() else "a wrong value"
