"""What a pretend function does, and what its caller may expect of it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field

from easyremote.wire.v1 import gateway_pb2 as pb


@dataclass(frozen=True, slots=True)
class Script:
    """A function that prints, yields and ends. It travels as the call's arguments.

    `ends`: "value", "error", "crash" (with the process that it runs in) or "never" (only when it is stopped); attempts with
    numbers up to `failing` end with an error that is retriable. `item_bytes` is what an item weighs in the window; it isn't
    really that large. `argument_bytes` and `value_bytes` are, and are fetched when they aren't 0.
    """

    key: str
    items: int = 0
    outputs: int = 0
    item_bytes: int = 0
    step_s: float = 0.05
    ends: str = "value"
    argument_bytes: int = 0
    value_bytes: int = 0
    failing: int = 0

    def encode(self) -> bytes:
        return json.dumps(asdict(self)).encode().ljust(self.argument_bytes)

    @classmethod
    def decode(cls, data: bytes) -> Script:
        return cls(**json.loads(data))

    def events(self, attempt: int) -> list[tuple[pb.Event, int]]:
        """Each event that this attempt emits, and what it weighs."""
        told = [(pb.Event(output=pb.Output(text=f"line {i}")), 10) for i in range(self.outputs)]
        items = [(pb.Event(item=pb.Payload(data=self.item(i))), self.item_bytes) for i in range(self.items)]
        both = [event for pair in zip(told, items, strict=False) for event in pair]
        rest = told[len(items) :] + items[len(told) :]
        return both + rest + self._last(attempt)

    def item(self, index: int) -> bytes:
        return json.dumps([self.key, index, self.item_bytes]).encode()

    def value(self) -> bytes:
        return f"value of {self.key}".encode()

    def _last(self, attempt: int) -> list[tuple[pb.Event, int]]:
        if attempt <= self.failing:
            return [(pb.Event(error=pb.ErrorInfo(code="remote", message=self.key, retriable=True)), 0)]
        if self.ends == "crash":
            return [(pb.Event(error=pb.ErrorInfo(code="worker_crashed", message=self.key, may_have_run=True)), 0)]
        if self.ends == "error":
            return [(pb.Event(error=pb.ErrorInfo(code="remote", message=self.key)), 0)]
        if self.ends == "value":
            return [(pb.Event(result=pb.Payload(data=self.value()), is_exhausted=self.items > 0), 0)]
        return []


@dataclass(slots=True)
class Execution:
    """One run that a node began."""

    node: str
    attempt: int
    begun_at: float


@dataclass(slots=True)
class Asked:
    """A call as its client's user sees it, and all that happened to it."""

    call_id: bytes
    function: str
    script: Script
    options: pb.Options
    asked_at: float
    client: str
    deadline: float | None = None
    items: list[bytes] = field(default_factory=list)
    outcomes: list[str] = field(default_factory=list)  # its ends; more than one is a fault
    executions: list[Execution] = field(default_factory=list)
    is_orphan: bool = False  # its client crashed
    names: str = ""  # a value that it names: "put" or "kept"; empty: none
    hedge_of: bytes = b""  # it is a second copy of this call

    @property
    def name(self) -> str:
        return self.script.key

    @property
    def has_ended(self) -> bool:
        return bool(self.outcomes)

    def retries(self, default: int) -> int:
        """Attempts that it may have beyond the first."""
        return self.options.retries if self.options.retries_set else default

    def expected(self, default_retries: int) -> tuple[str, int]:
        """How it ends where nothing goes wrong but itself, and after how many runs."""
        script = self.script
        runs = 1 + min(script.failing, 0 if script.items else self.retries(default_retries))
        if script.ends == "crash":
            return "worker_crashed", runs
        return "remote" if runs <= script.failing or script.ends == "error" else "value", runs

    @property
    def is_once_only(self) -> bool:
        return self.options.retries_set and self.options.retries == 0
