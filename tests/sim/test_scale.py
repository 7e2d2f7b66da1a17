"""Hundreds of nodes in one world."""

import pytest

from easyremote.testing import Plan, simulate
from tests.sim.plans import SEEDS

NODES = 1000 if SEEDS > 1000 else 200


@pytest.mark.slow
@pytest.mark.timeout(0)
def test_many_unreliable_nodes_keep_every_promise() -> None:
    plan = Plan(
        nodes=NODES,
        clients=10,
        calls=4 * NODES,
        active_s=10.0,
        large=0.02,
        pinned=0.02,
        faults=("cut_node", "crash_node", "mute_node", "freeze_node", "cut_client"),
        fault_count=NODES // 5,
        fault_lasts_s=(0.1, 8.0),
        check_every=200,
    )
    world = simulate(1, plan)
    outcomes = [asked.outcomes[0] for asked in world.calls.values()]
    assert outcomes.count("value") > len(outcomes) / 2
