"""Short calls that travel together.

What a call costs on its way (a frame, a place in a queue, a hand-off between threads at each hop) is many times what a tiny
function needs. So calls of one function that are waiting to be sent at the same moment, and are known to be short, go as one
call on the wire, a *bundle*, whose events are the results of its tasks in their order. Each of them is still a call of its own
here: it is cancelled, retried and reported by itself. A bundle that turns out to take long gives back what hasn't begun.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from easyremote.calls import Call
from easyremote.errors import EasyRemoteError, from_code
from easyremote.wire import codec
from easyremote.wire.v1 import gateway_pb2 as pb

BUNDLE_S = 0.002
"""How long the tasks of one bundle are expected to run together."""

MAX_TASKS = 1024
"""Tasks in one bundle."""

MAX_TASK_BYTES = 64 * 1024
"""Arguments of all tasks of one bundle, together."""

MAX_LOSSES = 3
"""A call whose bundle was lost goes again so many times."""

_SHORT_S = BUNDLE_S / 2
_WEIGHT = 0.3
_OVERHEAD_S = 4e-6
"""What a task costs besides its function: its arguments are unpickled, its result pickled."""


class CallTime:
    """How long the calls of one function take, learned from each end. Read from any thread, written on the loop."""

    def __init__(self) -> None:
        self.mean_s = 0.0  # 0: nothing is known
        self.is_single = False  # it is a stream, or something else that doesn't go into a bundle

    @property
    def is_known(self) -> bool:
        return self.mean_s > 0 or self.is_single

    @property
    def room(self) -> int:
        """Tasks that a bundle may have now; 1: calls go by themselves."""
        if self.is_single or not 0 < self.mean_s < _SHORT_S:
            return 1
        return min(int(BUNDLE_S / self.mean_s), MAX_TASKS)

    def ended(self, result: pb.Event, tasks: int) -> None:
        """A call, or a call with so many tasks, has ended."""
        if result.is_exhausted and not tasks:
            self.is_single = True
        else:
            self.learn(result.busy_s or result.run_s, tasks or 1)

    def slow(self) -> None:
        """They take longer than they did."""
        self.learn(10 * _SHORT_S)

    def learn(self, run_s: float, tasks: int = 1) -> None:
        """`tasks` runs took `run_s` together. A larger number weighs more."""
        each_s = run_s / tasks + _OVERHEAD_S
        weight = min(_WEIGHT + 0.1 * (tasks - 1), 0.9) if self.mean_s else 1.0
        self.mean_s += weight * (each_s - self.mean_s)


@dataclass(slots=True, eq=False)
class Target:
    """What calls of one function that are made in the same way have in common. `options` is read, never changed."""

    title: str
    options: pb.Options
    code: tuple[pb.Code, codec.Encoded] | None = None
    may_bundle: bool = False
    time: CallTime = field(default_factory=CallTime)
    hedging: Any = None  # a `hedging.Hedging`, where its calls get second copies
    sealed_code: Any = None  # a `sealing.Prepared`: its code, sealed, where that is large
    code_digest: str = ""  # as sealed calls state it

    def to_wire(self, call_id: bytes) -> pb.Submit:
        """A submission without its arguments, and without its code's payload."""
        if self.code is None:
            return pb.Submit(call_id=call_id, function=self.title, options=self.options)
        return pb.Submit(call_id=call_id, code=self.code[0], options=self.options)


Member = tuple[Call, bytes]
"""A call with its arguments."""

Again = Callable[[Target, list[Member]], None]


class Bundle:
    """Stands where a `Call` stands for the connection, and gives each of its calls what is theirs. Runs on the loop."""

    def __init__(self, call_id: bytes, target: Target, members: list[Member], again: Again) -> None:
        self._id = call_id
        self._target = target
        self._members = members
        self._again = again
        self._done = 0  # tasks whose end has come
        self._node = self._version = ""
        self._attempt = 0
        for number, (call, _) in enumerate(members):
            call._bundle = self, number

    def unwanted(self, numbers: set[int]) -> list[int]:
        """Those of these tasks that haven't ended."""
        return [number for number in sorted(numbers) if self._done <= number < len(self._members)]

    @property
    def is_wanted(self) -> bool:
        """Whether anyone waits for one of the tasks that haven't ended."""
        return any(not call.done() for call, _ in self._members[self._done :])

    def _arrive(self, event: pb.Event, encoded: codec.Encoded | None) -> bool:
        if event.HasField("started"):
            self._node = event.started.node_id
            self._version = event.started.version
        self._attempt = event.attempt
        body = event.WhichOneof("body")
        if body == "items":
            content_type = event.items.content_type
            for data in event.items.data:
                self._end_one(codec.Encoded(content_type, [data], len(data)) if content_type else data)
        elif body == "item" and encoded is not None:
            self._end_one(encoded)
        elif body == "failure":
            self._end_one(event.failure)
        elif body == "returned":
            rest = self._members[event.returned.first :]
            del self._members[event.returned.first :]
            self._target.time.slow()
            self._go_again(rest)
        elif body == "result":
            self._target.time.ended(event, max(self._done, 1))
            for call, _ in self._members:
                call.run_s = event.busy_s / len(self._members)
            self._judged(from_code("remote_protocol", "the node ended a bundle of calls before all had a result"))
        elif body == "error":
            self._judged(event.error)
        elif body is not None and self._done < len(self._members):
            event.seq = 0  # the bundle acknowledges it
            self._members[self._done][0]._arrive(event, encoded)
        if self._node and self._done < len(self._members):
            running = self._members[self._done][0]
            running.node, running.attempt = self._node, self._attempt
        return True

    def _end_one(self, outcome: bytes | codec.Encoded | pb.ErrorInfo) -> None:
        if self._done < len(self._members):
            self._members[self._done][0].function_version = self._version
            self._members[self._done][0]._complete(outcome, self._node, self._attempt)
            self._done += 1

    def _judged(self, error: pb.ErrorInfo | BaseException) -> None:
        """The bundle ended, or will never run. What had begun has failed; the rest goes again where that may help."""
        done, self._done = self._done, len(self._members)
        rest = self._members[done:]
        if not rest:
            return
        code = error.code if isinstance(error, (pb.ErrorInfo, EasyRemoteError)) else ""
        if code == "lost" and error.details.get("retries") != "0":  # pyright: ignore[reportAttributeAccessIssue] - has a code
            self._go_again(rest, error)
        elif isinstance(error, pb.ErrorInfo) and code in ("worker_crashed", "remote"):
            ran = max(error.task - done, 0) if code == "worker_crashed" else 0  # results before it may be lost with it
            if ran < len(rest):
                rest[ran][0]._judged(error)
            self._go_again([*rest[:ran], *rest[ran + 1 :]])
        else:
            for call, _ in rest:
                call._judged(error)

    def _go_again(self, members: list[Member], lost: pb.ErrorInfo | BaseException | None = None) -> None:
        going: list[Member] = []
        for call, arguments in members:
            call._bundle = None
            call._losses += lost is not None
            if lost is not None and call._losses > MAX_LOSSES:
                call._judged(lost)
            elif not call.done():
                going.append((call, arguments))
        if going:
            self._again(self._target, going)
