"""Peers that lost their gateway dial again soon, and not all at once."""

from random import Random

import pytest

from easyremote.core.reconnecting import BACKOFF_CAP_S, backoff_s

PEERS = 200


def returns(outage_s: float, seed: int) -> list[float]:
    """When each peer dials first after the gateway is back, from then on."""
    rng, found = Random(seed), []
    for _ in range(PEERS):
        at, attempt = 0.0, 0
        while at < outage_s:
            attempt += 1
            at += backoff_s(attempt, rng)
        found.append(at - outage_s)
    return sorted(found)


@pytest.mark.parametrize("outage_s", [1.0, 1.5, 2.0, 3.0, 5.0, 15.0, 60.0, 600.0])
def test_200_peers_are_back_within_seconds_and_never_many_at_once(outage_s: float) -> None:
    runs = [returns(outage_s, seed) for seed in range(20)]
    assert sum(found[int(0.95 * PEERS) - 1] for found in runs) / len(runs) < 3.0
    assert max(found[-1] for found in runs) <= BACKOFF_CAP_S
    assert max(sum(began <= at < began + 1.0 for at in found) for found in runs for began in found) <= 120


def test_a_connection_that_was_cut_is_made_anew_at_once() -> None:
    rng = Random(1)
    assert max(backoff_s(1, rng) for _ in range(1000)) <= 0.1


def test_a_gateway_that_was_away_for_days_is_still_dialled() -> None:
    assert BACKOFF_CAP_S / 2 <= backoff_s(1_000_000, Random(1)) <= BACKOFF_CAP_S
