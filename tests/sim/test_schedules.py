"""Faults at any time, chosen by Hypothesis, which then looks for the smallest schedule that breaks a promise."""

from hypothesis import HealthCheck, given, note, settings
from hypothesis import strategies as st

from easyremote.testing import Fault, Plan, simulate
from easyremote.testing.sim import FAULTS, GENTLE_FAULTS, with_schedule
from tests.sim.plans import SEEDS

some = settings(
    max_examples=max(SEEDS // 6, 1), deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)

SMALL = Plan(nodes=2, clients=1, slots=1, calls=10, active_s=6.0, large=0.3)


def schedules(kinds: tuple[str, ...], longest_s: float) -> st.SearchStrategy[list[Fault]]:
    fault = st.builds(
        Fault,
        at_s=st.floats(0.3, 6.0).map(lambda value: round(value, 3)),
        kind=st.sampled_from(kinds),
        target=st.integers(0, 3),
        lasts_s=st.floats(0.0, longest_s).map(lambda value: round(value, 3)),
    )
    return st.lists(fault, max_size=6)


@some
@given(seed=st.integers(0, 10**6), schedule=schedules(FAULTS, 9.0))
def test_any_schedule_of_faults_keeps_every_promise(seed: int, schedule: list[Fault]) -> None:
    note(f"seed {seed}")
    simulate(seed, with_schedule(SMALL, schedule))


@some
@given(seed=st.integers(0, 10**6), schedule=schedules(GENTLE_FAULTS[:-2], 1.5))
def test_any_schedule_of_short_faults_costs_no_call_anything(seed: int, schedule: list[Fault]) -> None:
    note(f"seed {seed}")
    simulate(seed, with_schedule(Plan(nodes=2, clients=1, calls=10, active_s=6.0, large=0.3, gentle=True), schedule))
