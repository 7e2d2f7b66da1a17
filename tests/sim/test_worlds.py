"""Many worlds of each kind keep every promise. SIM_SEEDS says how many there are in all, SIM_FIRST_SEED where they begin."""

from dataclasses import replace

import pytest

from easyremote.testing import Plan, Violation, simulate
from tests.sim.plans import PLANS, seeds


@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("name", PLANS)
def test_every_promise_is_kept(name: str) -> None:
    failures = {}
    for seed in seeds():
        try:
            simulate(seed, PLANS[name])
        except Violation as violation:
            failures[seed] = violation
    if failures:
        seed, violation = next(iter(failures.items()))
        pytest.fail(
            f"seeds {list(failures)} of {seeds()} broke a promise; SIM_FIRST_SEED={seed} SIM_SEEDS=1 repeats the first\n"
            f"{violation}"
        )


def test_calls_end_in_every_way() -> None:
    """The worlds are worth simulating: in a few of them calls succeed, fail, are lost, are begun again, run out of time."""
    outcomes: set[str] = set()
    begun: set[int] = set()
    for seed in range(12):
        world = simulate(seed, PLANS["unreliable nodes"])
        outcomes |= {asked.outcomes[0] for asked in world.calls.values() if asked.outcomes}
        begun |= {len(asked.executions) for asked in world.calls.values()}
    assert {"value", "remote", "lost", "cancelled", "deadline", "function_not_found", "node_gone"} <= outcomes
    assert {0, 1, 2} <= begun


def test_a_node_goes_on_fetching_the_arguments_of_a_job_when_the_gateway_is_back() -> None:
    """Regression: the gateway that came next had them under another name, and the job ended as lost."""
    plan = Plan(gentle=True, jobs=1.0, large=1.0, nodes=2, slots=4, calls=30, faults=("crash_gateway",), fault_count=1)
    for seed in range(5):
        simulate(seed, replace(plan, fault_lasts_s=(0.0, 1.0)))


@pytest.mark.parametrize(
    ("plan", "seed"),
    [
        # a call that a gateway before may have given to a node was refused as if it were new, and told that it hadn't run
        ("few calls at the gateway", 23),
        ("few calls at the gateway", 70),
        ("few calls at the gateway", 111),
        # a call that waited for its parent's slot left its queue, and nobody looked at those behind it
        ("families of short calls", 292),
        # a second copy went where the first had failed before; it is at another node by then, so it may
        ("everything together", 438),
        # a stopped call that runs together with others takes a moment to end, and others are sent meanwhile
        ("calls that need much, everything", 787),
    ],
)
def test_a_world_that_broke_a_promise_once_keeps_it(plan: str, seed: int) -> None:
    simulate(seed, PLANS[plan])
