"""Whose call is next: by priority, and by what each client has had."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from easyremote.core.fairness import AGEING_S, LOOKED_AT
from easyremote.core.node_session import Attempt
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, new_id


class Asker:
    """A client that remembers its calls."""

    def __init__(self, bench: Bench) -> None:
        self.peer = bench.client()
        self.asked: set[bytes] = set()

    def submit(self, function: str = "f", **options: object) -> bytes:
        call_id = self.peer.submit(function, **options)  # type: ignore[arg-type]
        self.asked.add(call_id)
        return call_id


class Line:
    """A node with one slot, and the order in which it gets calls."""

    def __init__(self, bench: Bench, *functions: str, name: str = "n") -> None:
        self.bench = bench
        self.node = bench.node(name, *functions)
        self.running: Attempt | None = None

    def next(self, took_s: float = 1.0) -> bytes | None:
        """End what runs, after so long, and tell what is next; None: nothing."""
        if self.running is not None:
            self.bench.now += took_s
            self.node.result(self.running)
        started = self.node.started()
        assert len(started) <= 1
        self.running = started[0] if started else None
        return self.running.call_id if self.running is not None else None


def test_a_single_call_goes_before_the_flood_of_another_client() -> None:
    bench = Bench(silence_s=1e9)
    line = Line(bench)
    flood, other = Asker(bench), Asker(bench)
    for _ in range(50):
        flood.submit()
    assert line.next() in flood.asked
    single = other.submit()
    assert line.next() == single
    assert line.next() in flood.asked


def test_the_flood_doesn_t_delay_a_call_of_another_function_either() -> None:
    bench = Bench(silence_s=1e9)
    line = Line(bench, "f", "g")
    flood, other = Asker(bench), Asker(bench)
    for _ in range(50):
        flood.submit("f")
    assert line.next() in flood.asked
    single = other.submit("g")
    assert line.next() == single


def test_what_a_client_had_while_it_was_alone_is_not_held_against_it() -> None:
    bench = Bench(silence_s=1e9)
    line = Line(bench)
    early, late = Asker(bench), Asker(bench)
    early.submit()
    line.next()
    assert line.next(took_s=3600) is None
    for _ in range(5):
        late.submit()
    line.next()
    single = early.submit()
    assert line.next() == single


def test_short_calls_get_as_much_time_as_long_ones_and_so_more_turns() -> None:
    bench = Bench(silence_s=1e9)
    line = Line(bench, "short", "long")
    one, two = Asker(bench), Asker(bench)
    for _ in range(60):
        one.submit("short"), two.submit("long")
    had: Counter[str] = Counter()
    call = line.next()
    for _ in range(33):
        who, took_s = ("short", 1.0) if call in one.asked else ("long", 10.0)
        had[who] += took_s
        call = line.next(took_s)
    assert had["long"] >= 20  # type: ignore[operator]
    assert abs(had["short"] - had["long"]) <= 11


def test_a_bundle_counts_for_its_tasks() -> None:
    bench = Bench(silence_s=1e9)
    line = Line(bench)
    many, few = Asker(bench), Asker(bench)
    few.submit()
    line.next()
    assert line.next() is None  # one takes a second
    for _ in range(3):
        submit = pb.Submit(call_id=new_id(), function="f", tasks=[b"x"] * 5)
        many.asked.add(submit.call_id)
        many.peer.core.submit(submit, bench.now)
    bench.settle()
    for _ in range(8):
        few.submit()
    order = ""
    call = line.next()
    while call is not None:
        order += "m" if call in many.asked else "f"
        call = line.next(5.0 if call in many.asked else 1.0)
    assert order.startswith("mfffff")
    assert order.count("m") == 3


def test_calls_that_run_again_keep_their_place_among_those_of_their_client() -> None:
    bench = Bench(silence_s=1e9)
    gone, line = bench.node("gone", slots=2), Line(bench)
    asker, other = Asker(bench), Asker(bench)
    calls = [asker.submit() for _ in range(5)]
    lost = {attempt.call_id for attempt in gone.started()}
    assert len(lost) == 2
    line.next()
    single = other.submit()
    gone.core.goodbye("")
    bench.settle()
    waiting = [call for call in calls if call not in lost and call != line.running.call_id]  # type: ignore[union-attr]
    order = [line.next() for _ in range(5)]
    assert single in order[:2]
    order.remove(single)
    assert set(order[:2]) == lost
    assert order[2:] == waiting


@pytest.mark.parametrize("functions", [("f", "f"), ("f", "g")])
def test_a_higher_priority_goes_first_whatever_the_function(functions: tuple[str, str]) -> None:
    bench = Bench(silence_s=1e9)
    line = Line(bench, "f", "g")
    asker, other = Asker(bench), Asker(bench)
    asker.submit()
    line.next()
    plain = asker.submit(functions[0])
    low = other.submit(functions[1], priority=-3)
    high, higher = asker.submit(functions[1], priority=5), other.submit(functions[0], priority=9)
    assert [line.next() for _ in range(4)] == [higher, high, plain, low]


def test_a_low_priority_is_not_starved() -> None:
    """It rises by a point every ten seconds, until one of its calls has had a turn."""
    bench = Bench(silence_s=1e9)
    line = Line(bench)
    asker = Asker(bench)
    for _ in range(200):
        asker.submit(priority=2)
    low = [asker.submit() for _ in range(3)]
    turns = [number for number in range(100) if line.next() in low]
    assert len(turns) == 3
    assert turns[0] > 2 * AGEING_S - 2
    assert all(2 * AGEING_S - 2 <= after - before <= 2 * AGEING_S + 2 for before, after in pairwise(turns))


def test_priorities_out_of_range_count_as_the_nearest() -> None:
    bench = Bench(silence_s=1e9)
    line = Line(bench)
    asker = Asker(bench)
    asker.submit()
    line.next()
    calls = [asker.submit(priority=priority) for priority in (-(2**31), -100, 100, 2**31 - 1)]
    assert [line.next() for _ in range(4)] == [calls[2], calls[3], calls[0], calls[1]]


@given(
    seed=st.integers(0, 10**6),
    clients=st.integers(2, 6),
    nodes=st.integers(1, 3),
)
@settings(deadline=None, max_examples=30)
def test_clients_whose_calls_wait_get_the_same_to_within_a_call(seed: int, clients: int, nodes: int) -> None:
    """Seconds of work that each client got of a node, while all of them had calls waiting."""
    rng = Random(seed)
    bench = Bench(silence_s=1e9)
    functions = {f"f{i}": rng.choice([0.1, 1.0, 7.0]) for i in range(3)}
    lines = [Line(bench, *functions, name=f"n{number}") for number in range(nodes)]
    askers = [Asker(bench) for _ in range(clients)]
    for asker in rng.sample(askers, clients):
        for _ in range(60):
            asker.submit(rng.choice(list(functions)), settle=False)
    bench.settle()
    for line in lines:
        line.next()
    had = [[0.0] * clients for _ in lines]
    began = [bench.now] * nodes
    longest = 0.0
    for _ in range(50):
        number = rng.randrange(nodes)
        running = lines[number].running
        assert running is not None
        who = next(n for n, asker in enumerate(askers) if running.call_id in asker.asked)
        lines[number].next(functions[running.submit.function])
        took_s, began[number] = bench.now - began[number], bench.now
        had[number][who] += took_s
        longest = max(longest, took_s)
    for amounts in had:
        assert max(amounts) - min(amounts) <= 2 * longest + 1e-6  # a call of each


def test_of_very_many_clients_each_has_its_turn() -> None:
    bench = Bench(silence_s=1e9)
    line = Line(bench)
    askers = [Asker(bench) for _ in range(LOOKED_AT + 40)]
    for asker in askers:
        asker.submit(), asker.submit()
    order = [line.next() for _ in askers]
    assert all(any(call in asker.asked for call in order) for asker in askers[1:])
