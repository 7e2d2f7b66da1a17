"""The simulation can be trusted: it repeats itself, and it notices what is wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest

from easyremote.bundling import Bundle
from easyremote.core import client_session
from easyremote.core.attempts import Attempts
from easyremote.core.client_session import ClientSession
from easyremote.core.node_session import NodeSession
from easyremote.core.records import Call
from easyremote.core.recovering import Recovering
from easyremote.core.relay import Relay
from easyremote.core.submissions import Submissions
from easyremote.core.transitions import CallEvent
from easyremote.testing import Plan, Violation, simulate
from easyremote.testing.sim_gateway import SimGateway
from easyremote.testing.sim_node import Run
from easyremote.testing.wires import Direction
from tests.sim.plans import PLANS

EVERYTHING = PLANS["everything"]


def test_the_same_seed_gives_the_same_world() -> None:
    first, second, other = (simulate(seed, EVERYTHING).digest.hexdigest() for seed in (7, 7, 8))
    assert first == second != other


@pytest.mark.slow
def test_the_same_seed_gives_the_same_world_in_another_process() -> None:
    """Nothing depends on the order of a set, which differs from process to process."""
    script = (
        "from easyremote.testing import simulate; from tests.sim.plans import PLANS;"
        "print(simulate(7, PLANS['everything']).digest.hexdigest())"
    )
    digests = {
        subprocess.run(
            [sys.executable, "-c", script],
            env=os.environ | {"PYTHONHASHSEED": seed},
            stdout=subprocess.PIPE,
            text=True,
            check=True,
        ).stdout
        for seed in ("1", "2")
    }
    assert digests == {simulate(7, EVERYTHING).digest.hexdigest() + "\n"}


def test_a_violation_names_its_seed_and_tells_what_happened_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Run, "stop", a_run_that_ignores_stop)
    with pytest.raises(Violation, match="seed 3: ") as caught:
        simulate(3, Plan(endless=1.0, calls=3))
    for words in ("left over", "begins call 1 attempt 1", "ends with cancelled"):
        assert words in str(caught.value)


# ---- what is broken on purpose is found ------------------------------------------------------------------------------

Sabotage = Callable[[pytest.MonkeyPatch], None]


def without(owner: type, method: str) -> Sabotage:
    """The method does nothing."""
    return lambda patch: patch.setattr(owner, method, lambda *_, **__: None)


def instead(owner: type, method: str, replacement: Any) -> Sabotage:
    return lambda patch: patch.setattr(owner, method, replacement)


def lose_frames(patch: pytest.MonkeyPatch) -> None:
    """A wire that isn't one: a batch in two hundred is lost."""
    arrive = Direction._arrive

    def arrive_mostly(self: Direction) -> None:
        if self._batches and self._wire._rng.random() < 0.005:
            self._batches.popleft()
        else:
            arrive(self)

    patch.setattr(Direction, "_arrive", arrive_mostly)


def mix_up(patch: pytest.MonkeyPatch) -> None:
    """The second frame of a batch overtakes the first."""
    put = SimGateway._put

    def overtake(self: SimGateway, conn: int, frame: Any) -> None:
        put(self, conn, frame)
        outbox = self._outboxes.get(conn, [])
        if len(outbox) > 1:
            outbox[-1], outbox[-2] = outbox[-2], outbox[-1]

    patch.setattr(SimGateway, "_put", overtake)


def ignore_repeats(patch: pytest.MonkeyPatch) -> None:
    """An event that was taken before isn't acknowledged again."""
    on_event = client_session._HANDLERS["event"]

    def on_new_event(self: ClientSession, event: Any) -> None:
        call = self._open.get(event.call_id)
        if call is None or event.attempt != call.attempt or event.seq > call.taken_seq:
            on_event(self, event)

    patch.setitem(client_session._HANDLERS, "event", on_new_event)


def attempt_starts_unasked(self: NodeSession, attempt: Any) -> None:
    self._waiting.append(attempt)


def held_calls_just_run(self: Recovering, call: Call) -> None:
    call.to(CallEvent.HOLD_EXPIRED)
    self._dispatching.enqueue(call)


def a_run_that_ignores_stop(self: Run, code: str, message: str, at_once: bool = False) -> None:
    pass


def an_end_too_late(self: Bundle, outcome: Any) -> None:
    """Each task gets the outcome of the one before it."""
    self._members[self._done][0]._complete(getattr(self, "before", outcome), self._node, self._attempt)
    self._done += 1
    self.before = outcome  # type: ignore[attr-defined]


SABOTAGES: dict[str, tuple[str, Sabotage]] = {
    "frames get lost": ("no fault", lose_frames),
    "frames overtake each other": ("no fault", mix_up),
    "lost acknowledgements are not repeated": ("short cuts", ignore_repeats),
    "a node that comes back keeps what it lacks": ("short cuts", without(Recovering, "not_there")),
    "old attempts are not told to forget": ("long cuts", without(Attempts, "forget_at")),
    "calls without retries start unasked": (
        "gateway crashes",
        instead(NodeSession, "_announce", attempt_starts_unasked),
    ),
    "held calls just run": ("gateway crashes and cuts", instead(Recovering, "_hold_expired", held_calls_just_run)),
    "an end counts as delivered when it isn't": (
        "long cuts",
        instead(Call, "end_has_passed", property(lambda self: self.state.value == "ended")),
    ),
    "owners that come back aren't asked again": ("everything gentle", without(Relay, "ask_again")),
    "those who wait for lost payloads aren't told": ("unreliable nodes", without(Relay, "attempt_left")),
    "runs ignore that they are to stop": ("no fault", instead(Run, "stop", a_run_that_ignores_stop)),
    "abandoned calls are not cancelled": ("no fault", without(Attempts, "cancel_at")),
    "what a client no longer wants goes on": ("short cuts", without(Submissions, "on_synced")),
    "tasks that aren't wanted run on": ("bundles, no fault", without(Attempts, "skip_tasks")),
    "tasks that come back are forgotten": ("bundles, no fault", without(Bundle, "_go_again")),
    "the results of a bundle are mixed up": ("bundles, no fault", instead(Bundle, "_end_one", an_end_too_late)),
    "items are forgotten when a node is lost": ("node crashes", instead(Call, "sent_item", False)),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SABOTAGES)
def test_what_is_broken_on_purpose_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    plan, sabotage = SABOTAGES[name]
    sabotage(monkeypatch)
    for seed in range(150):
        try:
            simulate(seed, PLANS[plan])
        except Violation:
            return
    pytest.fail("150 worlds didn't notice")
