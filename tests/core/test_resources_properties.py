"""Admission is exact, whatever is asked for and in whatever order it ends."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from easyremote.core.resources import Gpu, Needs, Pot, Room, Terms, lacks
from easyremote.wire.v1 import gateway_pb2 as pb
from tests.core.bench import Bench, spec

SLOTS = 4

some_needs = st.builds(
    Needs,
    slots=st.integers(1, 3),
    millicpus=st.sampled_from([0, 0, 300, 1000, 2500]),
    memory=st.sampled_from([0, 0, 10, 60]),
    gpus=st.sampled_from([0, 0, 1, 2, 3]),
    gpu_memory=st.sampled_from([0, 0, 3, 8, 16, 25]),
    labels=st.just(()),
)


@st.composite
def rooms(draw: st.DrawFn) -> Room:
    """A node with a few GPUs, some lost, some used by others."""
    room = Room({})
    room.cpus, room.memory = Pot(draw(st.sampled_from([0, 1000, 4000]))), Pot(draw(st.sampled_from([0, 64])))
    for index in range(draw(st.integers(0, 3))):
        gpu = room.gpus[index] = Gpu(draw(st.sampled_from([8, 16, 24])))
        gpu.measured("n", draw(st.integers(0, gpu.total)), 0)
        if draw(st.integers(0, 5)) == 0:
            gpu.lost_since = 0.0
            gpu.is_gone = draw(st.booleans())
    return room


def some_choice_works(room: Room, needs: Needs) -> bool:
    """By trying all sets of GPUs."""
    usable = [gpu for gpu in room.gpus.values() if gpu.lost_since is None and gpu.free() >= needs.gpu_memory]
    if needs.gpus:
        return any(all(gpu.calls == 0 for gpu in chosen) for chosen in combinations(usable, needs.gpus))
    return not needs.gpu_memory or any(not gpu.is_exclusive for gpu in usable)


@given(room=rooms(), wanted=st.lists(st.tuples(some_needs, st.integers(0, 9)), max_size=25))
def test_a_call_is_let_in_exactly_when_all_that_it_needs_is_free(room: Room, wanted: list[tuple[Needs, int]]) -> None:
    held: list[pb.Grant] = []
    for needs, ends in wanted:
        free_slots = SLOTS - sum(grant.slots for grant in held)
        fits = room.fits(Terms(needs, "", 0), free_slots)
        assert fits == (
            needs.slots <= free_slots
            and needs.millicpus <= room.cpus.total - sum(grant.millicpus for grant in held)
            and needs.memory <= room.memory.total - sum(grant.memory_bytes for grant in held)
            and some_choice_works(room, needs)
        )
        missing = lacks(room, Terms(needs, "", 0), SLOTS, free_slots)
        assert bool(missing) != fits, "what is missing is told exactly where something is"
        if fits:
            grant = room.grant(Terms(needs, "", 0))
            held.append(grant)
            room.hold(grant)
        for index, gpu in room.gpus.items():
            here = [grant for grant in held if index in grant.gpus]
            assert gpu.calls == len(here)
            assert len(here) < 2 or not any(grant.is_exclusive for grant in here)
            assert sum(grant.gpu_memory_bytes for grant in here) <= gpu.total - gpu.others
        if held and ends < 4:
            room.release(held.pop(ends % len(held)))
    while held:
        room.release(held.pop())
    assert (room.reserved, room.cpus.held, room.memory.held) == (0, 0, 0)
    assert all((gpu.held, gpu.calls, gpu.is_exclusive) == (0, 0, False) for gpu in room.gpus.values())


@given(room=rooms(), needs=some_needs)
def test_never_is_said_exactly_where_an_empty_node_would_not_do(room: Room, needs: Needs) -> None:
    empty = Room({})
    empty.cpus, empty.memory = Pot(room.cpus.total), Pot(room.memory.total)
    empty.gpus = {index: Gpu(gpu.total) for index, gpu in room.gpus.items() if not gpu.is_gone}
    is_never = any(lack.is_never for lack in lacks(room, Terms(needs, "", 0), SLOTS, SLOTS))
    assert is_never != empty.fits(Terms(needs, "", 0), SLOTS)


@given(room=rooms(), kept=some_needs, others=st.lists(some_needs, max_size=10))
def test_what_is_kept_is_there_for_whom_it_is_kept(room: Room, kept: Needs, others: list[Needs]) -> None:
    """Whoever comes later takes nothing of it, so that it fits as soon as what ran before has ended."""
    before: list[pb.Grant] = []
    for needs in others[:5]:
        terms = Terms(needs, "", 0)
        if room.fits(terms, SLOTS - sum(grant.slots for grant in before)):
            before.append(room.grant(terms))
            room.hold(before[-1])
    could = not any(lack.is_never for lack in lacks(room, Terms(kept, "", 0), SLOTS, SLOTS))
    room.keep(kept, ["slots", "cpus", "memory", "gpus", "gpu_memory"])
    later: list[pb.Grant] = []
    for needs in others[5:]:
        terms = Terms(needs, "", 0)
        free = SLOTS - sum(grant.slots for grant in (*before, *later)) - room.kept.slots
        if room.fits(terms, free):
            later.append(room.grant(terms))
            room.hold(later[-1])
    for grant in before:
        room.release(grant)
    is_usable = all(gpu.lost_since is None and not gpu.others for gpu in room.gpus.values())
    if could and is_usable:
        assert room.fits(Terms(kept, "", 0), SLOTS - sum(grant.slots for grant in later), for_kept=True)
    room.drop_kept()
    assert (room.cpus.kept, room.memory.kept) == (0, 0)
    assert all((gpu.kept, gpu.kept_whole) == (0, 0) for gpu in room.gpus.values())


@settings(max_examples=60, deadline=None)
@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["call", "call", "call", "end", "cut", "restart", "wait"]), some_needs), max_size=40
    )
)
def test_through_the_whole_core_nothing_is_given_out_twice_and_all_calls_end(steps: list[tuple[str, Needs]]) -> None:
    bench = Bench()
    capacity = pb.Capacity(millicpus=4000, memory_bytes=64)
    capacity.gpus.extend(pb.Capacity.Gpu(index=i, memory_bytes=size) for i, size in enumerate((8, 24, 16)))
    limited = spec("g")
    limited.max_concurrency = 1
    nodes = [bench.node(name, "f", limited, slots=SLOTS, state=pb.NodeState(capacity=capacity)) for name in ("a", "b")]
    client = bench.client()
    asked = 0
    for number, (step, needs) in enumerate(steps):
        if step == "call":
            wanted = pb.Needs(
                slots=needs.slots,
                millicpus=needs.millicpus,
                memory_bytes=needs.memory,
                gpus=needs.gpus,
                gpu_memory_bytes=needs.gpu_memory,
            )
            client.submit("g" if number % 3 == 0 else "f", needs=wanted, retries=5)
            asked += 1
        elif step == "end":
            for node in nodes:
                for attempt in list(node.core._running.values())[:1]:
                    node.result(attempt)
        elif step == "cut":
            nodes[number % 2].cut()
            nodes[number % 2].connect()
        elif step == "restart":
            bench.restart()
            for peer in (*nodes, client):
                peer.connect()
        else:
            bench.pass_time(1.0)
        for node in nodes:
            running = [attempt.submit.grant for attempt in node.core._running.values()]
            assert sum(attempt.slots for attempt in node.core._running.values()) <= SLOTS
            assert sum(grant.millicpus for grant in running) <= 4000
            assert sum(grant.counts_as == "g" for grant in running) <= 1
    for _ in range(200):
        if not any(node.core._running for node in nodes) and not bench.broker.leftovers():
            break
        for node in nodes:
            for attempt in list(node.core._running.values()):
                node.result(attempt)
        for event in client.events():
            if event.WhichOneof("body") in ("result", "error"):
                client.taken(event)
        bench.pass_time(1.0)
    assert [text for text in bench.broker.leftovers() if "queued" in text or "running" in text] == []
