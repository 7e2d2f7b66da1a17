"""What EasyRemote wants to reach, as ratios within one run, and how far it came. What isn't measured in a run isn't judged."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

Median = Callable[[str, str], float | None]
"""A system's median of a figure, None when it has none."""

HEADS = ("goal", "owner's thread", "worker process")
_PLACES = ("thread", "worker")

_ANY_GRPC_RELAY = ("relay-grpc-uvloop", "relay-grpc-asyncio", "relay-grpc-threads")
_ANY_RAY = ("ray-actor", "ray-task")
_WITH_GATEWAY = (*_ANY_RAY, "dask", "dask-actor", "ipyparallel", "ipyparallel-balanced", "easyremote-2")


@dataclass(frozen=True, slots=True)
class Goal:
    """EasyRemote's `figure` beside the best of `others`.

    `at_least`: times as good (as quick, as small). `at_most`: times the other's figure, or, with nobody to compare, the figure
    itself. `over_tcp`: as between machines, else on one host. `than`: another figure of EasyRemote's own to divide by.
    """

    text: str
    figure: str
    others: tuple[str, ...] = ()
    at_least: float | None = None
    at_most: float | None = None
    over_tcp: bool = False
    than: str = ""


@dataclass(frozen=True, slots=True)
class Judged:
    """A goal with what was seen: for each place where functions run, a ratio (or a figure) and whether that is enough."""

    text: str
    ratios: dict[str, float | None]
    reached: dict[str, bool | None]

    def row(self) -> list[str]:
        return [self.text, *(self._cell(place) for place in _PLACES)]

    def _cell(self, place: str) -> str:
        ratio = self.ratios[place]
        if ratio is None:
            return "–"
        return f"{ratio:,.3g} {'✓' if self.reached[place] else '✗'}"


GOALS = (
    Goal(
        "(a) p50 at most 1.3 × the best bare gRPC relay's, over TCP",
        "latency_p50_ms",
        _ANY_GRPC_RELAY,
        at_most=1.3,
        over_tcp=True,
    ),
    Goal("(a) the same on one host", "latency_p50_ms", _ANY_GRPC_RELAY, at_most=1.3),
    Goal("(a) p50 ≥ 10 × quicker than Dask", "latency_p50_ms", ("dask",), at_least=10),
    Goal("(a) p50 ≥ 2 × quicker than a Ray task", "latency_p50_ms", ("ray-task",), at_least=2),
    Goal("(a) p50 below nats's: times quicker", "latency_p50_ms", ("nats",), at_least=1),
    Goal("(b) in flight ≥ 2 × nats", "in_flight_per_s", ("nats",), at_least=2),
    Goal("(b) in flight ≥ 10 × Ray", "in_flight_per_s", _ANY_RAY, at_least=10),
    Goal("(b) in flight ≥ 40 × Dask", "in_flight_per_s", ("dask",), at_least=40),
    Goal("(b) in flight above rpyc", "in_flight_per_s", ("rpyc",), at_least=1),
    Goal("(c) map ≥ 2 × Pyro5's batch", "map_per_s", ("pyro5",), at_least=2),
    Goal("(c) map ≥ 2 × Pyro5's batch with msgpack", "map_per_s", ("pyro5-msgpack",), at_least=2),
    Goal("(c) map ≥ 20 × Ray", "map_per_s", _ANY_RAY, at_least=20),
    Goal("(c) map ≥ 100 × Dask", "map_per_s", ("dask",), at_least=100),
    Goal("(c) map within 10 × of ipyparallel's one chunk", "map_per_s", ("ipyparallel",), at_least=0.1),
    Goal("(d) stream ≥ 2 × nats", "stream_per_s", ("nats",), at_least=2),
    Goal("(e) first echo of 64 MiB on one host ≥ 4 × Ray", "echo_64_mib_first_mb_per_s", _ANY_RAY, at_least=4),
    Goal("(e) first echo of 64 MiB on one host ≥ 2 × Dask", "echo_64_mib_first_mb_per_s", ("dask",), at_least=2),
    Goal("(e) second echo of 64 MiB on one host ≥ 4 × Ray", "echo_64_mib_mb_per_s", _ANY_RAY, at_least=4),
    Goal("(e) second echo of 64 MiB on one host ≥ 2 × Dask", "echo_64_mib_mb_per_s", ("dask",), at_least=2),
    Goal("(e) echo of 1 GiB on one host ≥ 4 × Ray", "echo_1_gib_mb_per_s", _ANY_RAY, at_least=4),
    Goal("(e) echo of 1 GiB on one host ≥ 2 × Dask", "echo_1_gib_mb_per_s", ("dask",), at_least=2),
    Goal(
        "(e) second echo of 64 MiB over TCP ≥ 80 % of the bare gRPC relay",
        "echo_64_mib_mb_per_s",
        _ANY_GRPC_RELAY,
        at_least=0.8,
        over_tcp=True,
    ),
    Goal("(e) gateway's extra memory at 1 GiB, one host: ≤ 64 MiB (67.1 MB)", "gateway_extra_mb", at_most=67.1),
    Goal(
        "(e) gateway's extra memory at 1 GiB, over TCP: ≤ 64 MiB (67.1 MB)",
        "gateway_extra_mb",
        at_most=67.1,
        over_tcp=True,
    ),
    Goal("(f) first result under 1.0 s", "first_result_s", at_most=1.0),
    Goal("(f) quicker than every Python peer with a gateway or scheduler", "first_result_s", _WITH_GATEWAY, at_least=1),
    Goal(
        "(g) memory below Dask's, Ray's, ipyparallel's and the old easyremote's", "memory_mb", _WITH_GATEWAY, at_most=1
    ),
    Goal("(g) memory at most 1.6 × nats's", "memory_mb", ("nats",), at_most=1.6),
    Goal("(h) p99 beside a transfer ≤ 3 × at rest, one host", "busy_p99_ms", at_most=3, than="rest_p99_ms"),
    Goal(
        "(h) p99 beside a transfer ≤ 3 × at rest, over TCP",
        "busy_p99_ms",
        at_most=3,
        than="rest_p99_ms",
        over_tcp=True,
    ),
)


def judged(median: Median) -> list[Judged]:
    """Those goals for which something was measured."""
    every = (_judge(goal, median) for goal in GOALS)
    return [goal for goal in every if any(ratio is not None for ratio in goal.ratios.values())]


def _judge(goal: Goal, median: Median) -> Judged:
    ratios = {place: _ratio(goal, place, median) for place in _PLACES}
    reached = {place: None if ratio is None else _is_reached(goal, ratio) for place, ratio in ratios.items()}
    return Judged(goal.text, ratios, reached)


def _is_reached(goal: Goal, ratio: float) -> bool:
    if goal.at_least is not None:
        return ratio >= goal.at_least
    assert goal.at_most is not None
    return ratio <= goal.at_most


def _ratio(goal: Goal, place: str, median: Median) -> float | None:
    name = f"easyremote-{place}" + ("-tcp" if goal.over_tcp else "")
    ours = median(name, goal.figure)
    if ours is None:
        return None
    if goal.than:
        rest = median(name, goal.than)
        return ours / rest if rest else None
    if not goal.others:
        return ours
    theirs = [value for other in goal.others if (value := median(other, goal.figure)) is not None]
    if not theirs:
        return None
    if goal.figure.endswith("_per_s"):
        return ours / max(theirs)
    return ours / min(theirs) if goal.at_most is not None else min(theirs) / ours
