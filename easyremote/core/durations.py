"""What is learned of how long calls take."""

from __future__ import annotations

import math

SMOOTHING = 0.2
"""Weight of the newest measurement in a smoothed duration."""

SLOW_SMOOTHING = 0.05
"""The same weight where nodes are compared: it takes longer to follow, and is less easily misled."""

_SLOW_COUNT = 1 / SLOW_SMOOTHING

UNSURE = 0.7
"""Logarithm of the factor by which one measured duration may be wrong, until there are more: 2."""

CERTAIN = 2.6
"""Standard errors to either side within which what is typical is taken to be: equal nodes are hardly ever taken for unlike."""


class Duration:
    """How long runs of one function take on one node."""

    __slots__ = ("_count", "_log", "_variance", "latency_s", "mean_s", "measured_at", "typical_s")

    def __init__(self, run_s: float, has_failed: bool) -> None:
        """What is known from a run that failed holds until one succeeds."""
        self._count = 0
        self._log = self._variance = 0.0
        self.mean_s = self.typical_s = run_s  # smoothed, arithmetically and geometrically
        self.latency_s = 0.0  # as it was when the node had been idle for `measured_at` whole seconds
        self.measured_at = 0
        if not has_failed:
            self.learn(run_s)

    def learn(self, run_s: float) -> None:
        """Take in a run that succeeded. The first few weigh alike."""
        count = self._count = self._count + 1
        self.mean_s += (SMOOTHING if count > 1 else 1) * (run_s - self.mean_s)
        weight = 1 / count if count < _SLOW_COUNT else SLOW_SMOOTHING
        away = math.log(run_s) - self._log
        log = self._log = self._log + weight * away
        if count > 1:
            self._variance += weight * ((1 - weight) * away * away - self._variance)
        self.typical_s = math.exp(log)

    @property
    def spread(self) -> float:
        """Standard deviation of the logarithm, as if one more run had been wrong by `UNSURE`."""
        return math.sqrt(self._variance + (UNSURE / max(self._count, 1)) ** 2)

    @property
    def range_s(self) -> tuple[float, float]:
        """Where what is typical is likely to be."""
        if not self._count:
            return 0.0, math.inf
        weight = max(1 / self._count, SLOW_SMOOTHING / (2 - SLOW_SMOOTHING))
        error = CERTAIN * self.spread * math.sqrt(weight)
        return math.exp(self._log - error), math.exp(self._log + error)
