"""Calls of a simulated world that say what they need, and what no node may ever have at work together."""

from __future__ import annotations

from collections import Counter
from random import Random

from easyremote.testing.sim_node import SimNode
from easyremote.wire.v1 import gateway_pb2 as pb


def draw_needs(work: Random, slots: int, gpus: tuple[int, ...]) -> pb.Needs:
    """Something that every node of the world has."""
    needs = pb.Needs()
    if work.random() < 0.3:
        needs.slots = work.randint(1, slots)
    if work.random() < 0.3:
        needs.millicpus = work.choice((100, 500, 1000))
    kind = work.choice(("none", "part", "part", "whole", "whole with memory")) if gpus else "none"
    if kind.startswith("whole"):
        needs.gpus = work.randint(1, len(gpus))
    if kind == "part":
        needs.gpu_memory_bytes = work.randint(1, max(gpus))
    elif kind == "whole with memory":
        needs.gpu_memory_bytes = work.randint(1, sorted(gpus, reverse=True)[needs.gpus - 1])
    return needs


def overcommitted(node: SimNode) -> str:
    """What runs there beyond what there is, in words; empty: nothing does.

    Attempts count that the gateway has given up and that are still stopping: their memory isn't free.
    """
    grants = [run.attempt.submit.grant for run in node.runs.values() if run.attempt.is_granted]
    slots = sum(run.attempt.slots for run in node.runs.values())
    if slots > node.slots:
        return f"{slots} of {node.slots} slots are in use"
    for index, total in enumerate(node.gpus):
        here = [grant for grant in grants if index in grant.gpus]
        if len(here) > 1 and any(grant.is_exclusive for grant in here):
            return f"GPU {index} is one call's alone and has {len(here)}"
        used = sum(grant.gpu_memory_bytes for grant in here)
        if used > total:
            return f"{used} of {total} bytes of GPU {index} are in use"
    return ""


def too_many(node: SimNode, most: dict[str, int]) -> str:
    """The function that is at work more often than it allows, in words; empty: none is."""
    known = [run.attempt for run in node.runs.values() if not run.attempt.stopping and run.attempt.is_granted]
    counts = Counter(attempt.submit.grant.counts_as for attempt in known)
    found = [f"{counts[name]} calls of {name}, not {limit}" for name, limit in most.items() if counts[name] > limit]
    return "; ".join(found)
