"""What a strategy sees, what it may be asked, and what several of them share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Protocol

UNNOTICED_S = 0.02
"""Durations up to this count as equal: the way there differs by as much, and measured noise doesn't keep nodes out of turn."""

STEP = 1.25
"""Longer ones count as equal within about this factor."""

_PER_STEP = 1 / math.log(STEP)


class Offer(Protocol):
    """What a strategy may know of a node: all fields are measured or declared, none is guessed."""

    @property
    def node_id(self) -> str: ...
    @property
    def slots(self) -> int: ...
    @property
    def price(self) -> float: ...
    @property
    def running_count(self) -> int: ...
    @property
    def last_used(self) -> int:
        """A counter that grows with each dispatch; 0: never used."""
        ...

    @property
    def pressure(self) -> float:
        """The larger part in use of its machine's processors and memory as reported last, in tenths: 0.0 to 1.0."""
        ...

    @property
    def wait_s(self) -> float:
        """How long a call sent there now would wait for a slot, when its calls take what they took; 0 where a slot is free."""
        ...

    @property
    def is_out_of_sight(self) -> bool:
        """Whether it wasn't used for so long that what is known of it may be wrong."""
        ...

    def expected_s(self, function: str) -> float:
        """Smoothed duration of this function there, in seconds; 0 when it hasn't run there yet."""
        ...

    def typical_s(self, function: str) -> float:
        """The same as a geometric mean, which a few very long runs hardly move: good for comparing nodes."""
        ...

    def typical_range_s(self, function: str) -> tuple[float, float]:
        """Where `typical_s` is likely to be, by what was measured so far and how much it varied."""
        ...

    def latency_s(self, function: str) -> float:
        """Average of the time from sending such a call there to its end, in seconds; 0: none has ended yet.

        It follows a longer one at once and shorter ones slowly, and fades while the node is idle.
        """
        ...

    def failing(self, function: str) -> float:
        """Smoothed part of such calls that failed there, or were lost with it, 0 to 1; it halves every half a minute."""
        ...

    def is_trying(self, function: str) -> bool:
        """Whether this function's first call there is under way."""
        ...

    def could_end(self, function: str, within_s: float, now: float) -> int:
        """How many more calls of this function it is expected to have ended in so long, were it to get no others."""
        ...


class Strategy(Protocol):
    """Chooses among offers; `offers` is never empty. None: rather wait until something changes."""

    def choose(self, function: str, offers: Sequence[Offer]) -> Offer | None: ...


class Ranked:
    """A strategy that gives each offer a rank, whatever the others are like, and takes the smallest; of equals the first.

    A rank changes only when the node gets a call or ends one, says anew what it offers or how loaded it is, or a tick tells that
    something about it has faded. So the gateway keeps the offers in order and needn't look at all of them for each call.
    """

    by_function: bool
    """Whether the rank depends on the function."""

    keeps_together: bool = False
    """Whether very short calls that come together may go to one node while it has free slots, though it isn't the first then."""

    def rank(self, function: str, offer: Offer) -> Any:
        raise NotImplementedError

    def choose(self, function: str, offers: Sequence[Offer]) -> Offer:
        return min(offers, key=lambda offer: self.rank(function, offer))

    def may_wait(self, function: str, offer: Offer) -> bool:
        """Whether `waits` is to be asked before this node is used; to be answered quickly."""
        return False

    def waits(
        self, function: str, offer: Offer, others: Sequence[Offer], waiting: int, waited_s: float, now: float
    ) -> bool:
        """Whether a call should rather wait for one of the others than go to this one, which has credit.

        `waiting`: calls that wait, this one included. `waited_s`: since it was first made to wait so.
        """
        return False


def step(seconds: float) -> int:
    """The same number for durations that count as equal, a larger one for longer ones."""
    return 0 if seconds <= UNNOTICED_S else round(math.log(seconds / UNNOTICED_S) * _PER_STEP)
