"""Bundles in the simulation: the client's end is the real `Bundle`, the node's end runs the real `Tasks` in virtual time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from easyremote.bundling import Bundle, Target
from easyremote.core import node_session
from easyremote.errors import CallCancelled
from easyremote.execution.tasks import Tasks
from easyremote.testing.clock import Timer
from easyremote.testing.scripts import Asked, Script
from easyremote.testing.sim_pipeline import Pipeline
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb

if TYPE_CHECKING:
    from easyremote.testing.sim_client import SimClient
    from easyremote.testing.sim_node import SimNode

GIVE_BACK_AFTER_S = 0.05


class SimTask:
    """Stands for the `Call` of one task: it has a call's end, and goes again by itself where its bundle says so."""

    def __init__(self, client: SimClient, asked: Asked, take_s: float) -> None:
        self.asked = asked
        self.take_s = take_s
        self._client = client
        self._bundle: Any = None
        self._losses = 0
        self.node = ""
        self.attempt = 0
        self.run_s = 0.0

    def done(self) -> bool:
        return self.asked.has_ended

    def _complete(self, outcome: bytes | codec.Encoded | pb.ErrorInfo, node: str, attempt: int) -> None:
        if isinstance(outcome, pb.ErrorInfo):
            self._end(outcome.code)
            return
        data = outcome if isinstance(outcome, bytes) else bytes(outcome.parts[0])
        self._end("value" if data == self.asked.script.value() else "a wrong value")

    def _judged(self, error: pb.ErrorInfo | BaseException) -> None:
        self._end(error.code if isinstance(error, pb.ErrorInfo) else "an exception")

    def _arrive(self, event: pb.Event, encoded: codec.Encoded | None) -> bool:
        return True  # what it prints

    def _end(self, outcome: str) -> None:
        if not self.done():
            self._client.ended(self.asked, outcome)


class SimBundle:
    """Takes a bundle's events as the real connection does: each is taken at once, but for those whose payload is on its way."""

    def __init__(self, client: SimClient, call_id: bytes, target: Target, tasks: list[SimTask]) -> None:
        self._client = client
        self._id = call_id
        members: Any = [(task, task.asked.script.encode()) for task in tasks]
        self.bundle = Bundle(call_id, target, members, client.send_again)
        self._pipeline = Pipeline(client, call_id, "item", self._arrived)

    def open_tasks(self) -> list[Asked]:
        """Those that haven't ended."""
        tasks: list[Any] = [task for task, _ in self.bundle._members]
        return [task.asked for task in tasks if not task.done()]

    def numbers_of(self, asked: Asked) -> set[int]:
        """The number of this task, if it is one of those here."""
        members: Any = self.bundle._members
        return {number for number, (task, _) in enumerate(members) if task.asked is asked}

    def deliver(self, event: pb.Event) -> None:
        self._pipeline.deliver(event)

    def judged(self, error: pb.ErrorInfo) -> None:
        self.bundle._judged(error)

    def stop_fetching(self) -> None:
        self._pipeline.stop()

    def _arrived(self, event: pb.Event, data: bytes | None) -> None:
        self._arrive(event, codec.Encoded("", [data.rstrip()]) if data is not None else None)

    def _arrive(self, event: pb.Event, encoded: codec.Encoded | None) -> None:
        if encoded is None and event.HasField("item"):
            encoded = codec.Encoded("", [event.item.data])
        seq, has_ended = event.seq, event.WhichOneof("body") in ("result", "error")
        self.bundle._arrive(event, encoded)
        self._client.taken(self._id, event.attempt, seq, 0, len(event.items.data) or 1)
        if has_ended:
            self._client.forget(self._id)


class TaskRun:
    """One attempt of a bundle at work."""

    def __init__(self, node: SimNode, attempt: node_session.Attempt) -> None:
        self.attempt = attempt
        self._node = node
        self._rng = node.world.rng
        self._tasks = Tasks(attempt.submit.tasks, attempt.submit.skipped_tasks)
        self._number = -1  # of the task that runs
        self._script = Script("")
        self._pack: list[bytes] = []
        self._timer: Timer | None = None
        self._began_at = node.now
        self._is_paused = self._is_stopping = self._has_ended = False

    def begin(self) -> None:
        self._node.after(GIVE_BACK_AFTER_S, self._give_back)
        self._next()

    def go_on(self) -> None:
        """Its consumer has made room."""
        if self._is_paused and not self._is_stopping:
            self._is_paused = False
            self._next()

    def skip(self, unwanted: list[int]) -> None:
        """These aren't wanted any more. Where one of them runs, the others go back and it is stopped."""
        if self._tasks.skip(unwanted) and not self._has_ended:
            self._give_back()
            self.stop("cancelled", "the client cancelled it")

    def stop(self, code: str, message: str, at_once: bool = False) -> None:
        if self._is_stopping or self._has_ended:
            return
        self._is_stopping = True
        if self._timer is not None:
            self._timer.cancel()

        def end() -> None:
            self._end(pb.Event(error=pb.ErrorInfo(code=code, message=message)))

        if at_once:
            end()
        else:
            self._node.after(self._rng.uniform(0, 0.3), end)

    def _next(self) -> None:
        """Begin the next one that is wanted."""
        while not self._is_stopping:
            if not self._node.core.window_is_open(self.attempt):
                self._flush()
                self._is_paused = True
                return
            self._number += 1
            try:
                arguments = self._tasks.take()
            except CallCancelled:
                self._emit(pb.Event(failure=pb.ErrorInfo(code="cancelled", message="cancelled before it began")))
                continue
            if arguments is None:
                busy_s = self._node.now - self._began_at
                self._end(pb.Event(result=pb.Payload(), is_exhausted=True, busy_s=busy_s))
                return
            self._script = Script.decode(arguments)
            self._node.task_began(self._script.key, self.attempt)
            if self._script.ends != "never":
                self._timer = self._node.after(self._rng.expovariate(1 / self._script.step_s), self._end_one)
            return

    def _end_one(self) -> None:
        self._timer = None
        script = self._script
        for number in range(script.outputs):
            self._emit(pb.Event(output=pb.Output(text=f"line {number}")))
        if script.ends == "crash":
            if self._rng.random() < 0.5:
                self._pack.clear()  # results that the process had no time to send
            self._end(pb.Event(error=pb.ErrorInfo(code="worker_crashed", task=self._number, may_have_run=True)))
            return
        if script.ends == "error":
            self._emit(pb.Event(failure=pb.ErrorInfo(code="remote", message=script.key)))
        elif script.value_bytes:
            value = self._node.transfers.own(self.attempt.key, script.value().ljust(script.value_bytes))
            self._emit(pb.Event(item=value))
        else:
            self._pack.append(script.value())
            if len(self._pack) == 1:
                self._node.after(self._rng.uniform(0, 0.002), self._flush)
        self._next()

    def _give_back(self) -> None:
        first = self._tasks.give_back() if not self._has_ended else None
        if first is not None:
            self._send(pb.Event(returned=pb.Returned(first=first)))  # results before it may follow it

    def _flush(self) -> None:
        if self._pack and not self._has_ended:
            data, self._pack = self._pack, []
            self._send(pb.Event(items=pb.Items(data=data)))

    def _emit(self, event: pb.Event) -> None:
        self._flush()
        self._send(event)

    def _end(self, event: pb.Event) -> None:
        if not self._has_ended:
            self._flush()
            self._has_ended = True
            self._send(event)

    def _send(self, event: pb.Event) -> None:
        self._node.emit(self, event, 0)
