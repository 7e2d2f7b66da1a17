"""Calls whose truth is known: how often each was begun stands in a file, and what it must give is known beforehand."""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

from easyremote import Call, CallCancelled, CallLost, Client, EasyRemoteError


@dataclass
class Asked:
    """A call, what it must give, and its endings as a done-callback saw them."""

    key: str
    call: Call[Any]
    value: Any
    once_only: bool
    asked_at: float
    endings: list[float] = field(default_factory=list[float])


@dataclass
class Outcome:
    """What trials found. `worst`: the figure that the promise bounds. `late`: violations that are only a matter of time, which a
    machine with other work to do may cause."""

    trials: int = 0
    violations: list[str] = field(default_factory=list[str])
    late: list[str] = field(default_factory=list[str])
    worst: float = 0.0
    notes: dict[str, float] = field(default_factory=dict[str, float])

    def add(self, other: Outcome) -> None:
        self.trials += other.trials
        self.violations += other.violations
        self.late += other.late
        self.worst = max(self.worst, other.worst)
        for name, number in other.notes.items():
            self.notes[name] = self.notes.get(name, 0) + number

    def note(self, name: str, number: float = 1) -> None:
        self.notes[name] = self.notes.get(name, 0) + number


class Load:
    """Makes calls through one client and judges their ends."""

    _made = 0

    def __init__(self, client: Client, marks: Path, rng: Random) -> None:
        self.client = client
        self.rng = rng
        self.calls: list[Asked] = []
        self._marks = marks
        self._readers: deque[threading.Thread] = deque()

    def submit(self, count: int, once_only: float = 0.5, streams: float = 0.3, longest_s: float = 0.3) -> None:
        for _ in range(count):
            self._submit_one(self.rng.random() < once_only, self.rng.random() < streams, longest_s)

    def _submit_one(self, once_only: bool, is_stream: bool, longest_s: float) -> None:
        Load._made += 1
        key = f"call-{os.getpid()}-{Load._made}"
        client = self.client.with_options(retries=0) if once_only else self.client
        asked_at = monotonic()
        if is_stream:
            items = self.rng.randint(1, 60)
            step_s = self.rng.uniform(0, longest_s / items)
            call: Call[Any] = client.submit("count", str(self._marks), key, items, step_s)
            asked = Asked(key, call, list(range(items)), once_only, asked_at)
        else:
            call = client.submit("work", str(self._marks), key, self.rng.uniform(0, longest_s))
            asked = Asked(key, call, key, once_only, asked_at)
        self.calls.append(asked)
        call.add_done_callback(lambda _: asked.endings.append(monotonic()))
        reader = threading.Thread(target=self._read, args=(asked,), daemon=True)  # so that streams go on
        reader.start()
        self._readers.append(reader)

    def _read(self, asked: Asked) -> None:
        with contextlib.suppress(BaseException):  # judged later
            asked.call.result()

    def settle(self, within_s: float, gentle: bool = False, retried: bool = False) -> Outcome:
        """Wait for all ends and judge them.

        `gentle`: what happened must cost no call anything. `retried`: a call that may run again, and has delivered no item, must
        succeed.
        """
        until = monotonic() + within_s
        while self._readers:
            self._readers.popleft().join(max(until - monotonic(), 0.0))
        outcome = Outcome(trials=len(self.calls))
        for asked in self.calls:
            self._judge(asked, gentle, retried, outcome)
        self.calls.clear()
        return outcome

    def runs(self, key: str) -> int:
        path = self._marks / key
        return path.read_bytes().count(b"\n") if path.exists() else 0

    def _judge(self, asked: Asked, gentle: bool, retried: bool, outcome: Outcome) -> None:
        def broken(text: str) -> None:
            kind = "retries=0" if asked.once_only else "with retries"
            outcome.violations.append(f"{asked.key} ({asked.call.function}, {kind}): {text}")

        runs = self.runs(asked.key)
        if not asked.call.done():
            asked.call.cancel()
            broken(f"it hasn't ended; it was begun {runs} times")
            return
        outcome.worst = max(outcome.worst, asked.endings[0] - asked.asked_at if asked.endings else 0.0)
        if len(asked.endings) != 1:
            broken(f"it ended {len(asked.endings)} times")
        if asked.once_only and runs > 1:
            broken(f"it was begun {runs} times")
        error = asked.call.exception()
        if error is None:
            outcome.note("succeeded")
            if asked.call.result() != asked.value:
                broken(f"it gave {asked.call.result()!r:.200} instead of {asked.value!r:.200}")
            if runs == 0:
                broken("it gave a result without having run")
            if runs > 1:
                outcome.note("run again")
                if gentle:
                    broken(f"it was begun {runs} times")
        elif gentle or (retried and not asked.once_only and asked.call.function == "work"):
            broken(f"it ended with {type(error).__name__}: {error}")
        elif isinstance(error, CallLost):
            outcome.note("lost, and said so")
            if runs and not error.may_have_run:
                broken(f"it says that it hasn't run, and was begun {runs} times")
        elif not isinstance(error, EasyRemoteError) or isinstance(error, CallCancelled):
            broken(f"it ended with {type(error).__name__}: {error}")
        else:
            outcome.note(f"ended with {type(error).__name__}")
