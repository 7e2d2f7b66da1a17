"""How calls are made: the options of `Client.with_options`, and their checks."""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from easyremote import hedging, needs, retrying
from easyremote.core.fairness import MAX_PRIORITY
from easyremote.errors import UsageError
from easyremote.needs import Size
from easyremote.requirements import environment_of
from easyremote.sizes import parse_size
from easyremote.wire.v1 import gateway_pb2 as pb

MAX_TIMEOUT_S = 1e9
"""The longest timeout, some thirty years."""


@dataclass(frozen=True, slots=True)
class CallOptions:
    """How calls are made. Spans in seconds; None: not set."""

    timeout: float | None = None
    queue_timeout: float | None = None
    run_timeout: float | None = None
    node: str | None = None
    strategy: str | None = None
    cost_limit: float | None = None
    retries: int | None = None
    retry_on: tuple[str, ...] | None = None
    backoff: float | None = None
    idempotent: bool = False
    hedge: bool | str | float | None = None
    label: str | None = None
    output: bool = True
    priority: int = 0
    keep: bool = False
    explain_waiting: bool = True
    durable: bool = False
    on_interrupt: str | None = None
    send_limit: Size | None = None
    slots: int | None = None
    cpus: float | None = None
    memory: Size | None = None
    gpus: int | None = None
    gpu_memory: Size | None = None
    labels: Mapping[str, str] | None = None
    requirements: Sequence[str] | None = None
    python: str | None = None

    @classmethod
    def checked(cls, base: CallOptions, changes: Mapping[str, Any]) -> CallOptions:
        """`base` with changes. Raises UsageError for a name or a value that can't be, listing what can."""
        names = list(cls.__dataclass_fields__)
        unknown = [name for name in changes if name not in names]
        if unknown:
            raise UsageError(f"unknown option '{unknown[0]}'; known are {', '.join(names)}")
        if changes.get("retry_on") is not None:
            changes = {**changes, "retry_on": retrying.names_of(changes["retry_on"])}
        if changes.get("on_interrupt") not in (None, "cancel", "detach"):
            raise UsageError(f"on_interrupt is 'cancel' or 'detach', not {changes['on_interrupt']!r}")
        if changes.get("on_interrupt") == "detach":  # only a job can go on without whoever waits for it
            changes = {"durable": True, **changes}
        if changes.get("send_limit") is not None:
            changes = {**changes, "send_limit": parse_size(changes["send_limit"], "send_limit")}
        options = replace(base, **changes)
        if options.on_interrupt == "detach" and not options.durable:
            raise UsageError("on_interrupt='detach' leaves a call running as a job, so it can't go with durable=False")
        for name in ("timeout", "queue_timeout", "run_timeout", "cost_limit"):
            value = getattr(options, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float)) or not value > 0):
                raise UsageError(f"{name} is a number above 0, not {value!r}")
            if value is not None and name == "cost_limit" and math.inf > value > sys.float_info.max:
                raise UsageError(f"cost_limit is at most {sys.float_info.max:g}; None is without one")
            if value is not None and name != "cost_limit" and value > MAX_TIMEOUT_S:
                raise UsageError(f"{name} is at most {MAX_TIMEOUT_S:g} s, not {value!r}; None is without one")
        for name in ("idempotent", "output", "keep", "explain_waiting", "durable"):
            if not isinstance(getattr(options, name), bool):
                raise UsageError(f"{name} is True or False, not {getattr(options, name)!r}")
        options.needs()  # raises where they are wrong
        options.environment()  # likewise
        if options.retries is not None:
            retrying.check_retries(options.retries)
        if options.backoff is not None:
            retrying.check_backoff(options.backoff)
        hedging.check_hedge(options.hedge)
        if options.hedge and (options.node is not None or options.keep or options.durable):
            other = "node" if options.node is not None else "keep" if options.keep else "durable"
            raise UsageError(f"a hedged call may run on two nodes and has one value here: hedge can't go with {other}")
        priority: Any = options.priority
        if isinstance(priority, bool) or not isinstance(priority, int) or not abs(priority) <= MAX_PRIORITY:
            raise UsageError(f"priority is a whole number from {-MAX_PRIORITY} to {MAX_PRIORITY}, not {priority!r}")
        if options.keep and options.durable:
            raise UsageError("a job's result is kept at the gateway; keep=True is for other calls")
        for name in ("node", "label", "strategy"):
            value = getattr(options, name)
            if value is not None and not (isinstance(value, str) and len(value) <= 200 and value.isprintable()):
                raise UsageError(f"{name} is a text of at most 200 printable characters, not {str(value)[:60]!r}")
        return options

    @property
    def may_bundle(self) -> bool:
        """Whether calls may travel together: what limits a single one would limit them all."""
        if self.keep or self.durable or self.hedge:
            return False
        limits = (self.timeout, self.queue_timeout, self.run_timeout, self.retries, self.cost_limit, self.retry_on)
        return all(limit is None for limit in limits)

    def to_wire(self) -> pb.Options:
        return pb.Options(
            node_id=self.node or "",
            strategy=self.strategy or "",
            cost_limit=self.cost_limit or 0.0,
            timeout_s=self.timeout or 0.0,
            queue_timeout_s=self.queue_timeout or 0.0,
            run_timeout_s=self.run_timeout or 0.0,
            retries=self.retries or 0,
            retries_set=self.retries is not None,
            retry_on=self.retry_on,
            backoff_s=self.backoff,
            idempotent=self.idempotent,
            label=self.label or "",
            output=self.output,
            priority=self.priority,
            keep=self.keep,
            needs=self.needs(),
        )

    def needs(self) -> pb.Needs | None:
        """What is said of resources. Raises UsageError for what can't be."""
        return needs.to_wire({name: getattr(self, name) for name in needs.NAMES})

    def environment(self) -> pb.Environment | None:
        """What shipped functions run with; None: what their nodes have. Raises UsageError for what can't be."""
        return environment_of(self.requirements, self.python)
