"""The worlds that are simulated, one for each class of faults."""

from __future__ import annotations

import os

from easyremote.config import GatewaySettings
from easyremote.testing import Plan
from easyremote.testing.sim import FAULTS, GENTLE_FAULTS

SHORT = (0.0, 1.5)
"""A fault that lasts no longer is over before the grace time is, reconnecting included."""

PLANS = {
    # Nothing goes wrong, or only for a moment: every call ends with its value, and was begun once.
    "no fault": Plan(gentle=True),
    "second copies": Plan(
        gentle=True, nodes=4, hedged=0.6, streams=0.1, faults=("cut_node",), fault_count=4, fault_lasts_s=SHORT
    ),
    "short cuts": Plan(gentle=True, faults=("cut_client", "cut_node"), fault_count=8, fault_lasts_s=SHORT),
    "one short cut, free slots": Plan(
        gentle=True,
        slots=24,
        once_only=0.5,
        faults=("cut_client", "cut_node"),
        fault_count=1,
        fault_lasts_s=SHORT,
        begins_within_s=4.8,  # the cut, and the backoff of who was cut off
    ),
    "gateway restart, free slots": Plan(
        gentle=True,
        slots=24,
        once_only=1.0,
        faults=("crash_gateway",),
        fault_count=1,
        fault_lasts_s=(0.0, 0.5),
        begins_within_s=4.0,  # a call with retries isn't sure to be at no node before the grace time is over
    ),
    "stalls": Plan(gentle=True, faults=("stall_client", "stall_node"), fault_count=5, fault_lasts_s=(0.0, 3.0)),
    "broken transfer streams": Plan(gentle=True, large=0.8, faults=("detach_client", "detach_node"), fault_count=12),
    "short gateway restart": Plan(
        gentle=True, once_only=0.5, faults=("crash_gateway",), fault_count=1, fault_lasts_s=(0.0, 1.0)
    ),
    "interpreter locks that are held": Plan(
        gentle=True, once_only=0.5, faults=("hold_client", "hold_node"), fault_count=5, fault_lasts_s=(0.5, 30.0)
    ),
    "gateway restarts that are announced": Plan(
        gentle=True, once_only=0.5, faults=("drain_gateway",), fault_count=1, fault_lasts_s=(0.0, 1.0)
    ),
    "nodes that drain": Plan(gentle=True, once_only=0.5, pinned=0.0, faults=("drain_node",), fault_count=4),
    "nodes that drain, short calls": Plan(
        gentle=True, calls=60, once_only=0.5, pinned=0.0, streams=0.0, slots=1, faults=("drain_node",), fault_count=6
    ),
    "doubled submissions": Plan(
        gentle=True, duplicates=0.4, faults=("cut_client",), fault_count=3, fault_lasts_s=SHORT
    ),
    "everything gentle": Plan(
        gentle=True, nodes=2, calls=40, large=0.3, faults=GENTLE_FAULTS[:-2], fault_count=20, fault_lasts_s=SHORT
    ),
    "jobs, short cuts of nodes": Plan(
        gentle=True, jobs=0.7, once_only=0.5, faults=("cut_node",), fault_count=8, fault_lasts_s=SHORT
    ),
    "jobs, short gateway restart": Plan(
        gentle=True, jobs=0.7, once_only=0.5, faults=("crash_gateway",), fault_count=1, fault_lasts_s=(0.0, 1.0)
    ),
    "jobs, whatever happens": Plan(
        jobs=0.6,
        once_only=0.4,
        large=0.3,
        faults=(
            "crash_gateway",
            "freeze_gateway",
            "drain_gateway",
            "cut_node",
            "mute_node",
            "crash_node",
            "freeze_node",
        ),
        fault_count=6,
    ),
    "errors that are retried": Plan(gentle=True, retried=0.7),
    "errors that are retried, and short cuts": Plan(
        gentle=True, retried=0.7, faults=("cut_client", "cut_node"), fault_count=8, fault_lasts_s=SHORT
    ),
    "bundles, no fault": Plan(gentle=True, calls=4, bundles=4),
    "bundles, short cuts": Plan(
        gentle=True, calls=4, bundles=5, faults=("cut_client", "cut_node"), fault_count=8, fault_lasts_s=SHORT
    ),
    "bundles, everything gentle": Plan(
        gentle=True,
        nodes=2,
        calls=4,
        bundles=5,
        large=0.3,
        faults=GENTLE_FAULTS[:-2],
        fault_count=15,
        fault_lasts_s=SHORT,
        duplicates=0.1,
    ),
    "calls that run together, short cuts": Plan(
        gentle=True,
        calls=40,
        together={"f": 2, "g": 4},
        faults=("cut_client", "cut_node"),
        fault_count=6,
        fault_lasts_s=SHORT,
    ),
    "values that stay": Plan(
        gentle=True, refs=0.6, kept=0.4, faults=GENTLE_FAULTS[:-2], fault_count=15, fault_lasts_s=SHORT
    ),
    "values that stay, gateway restart": Plan(
        gentle=True,
        refs=0.6,
        kept=0.4,
        once_only=0.5,
        faults=("crash_gateway", "drain_gateway"),
        fault_count=1,
        fault_lasts_s=(0.0, 1.0),
    ),
    "calls that need much, short faults": Plan(
        gentle=True,
        calls=50,
        slots=4,
        needy=0.7,
        gpus=(16, 24, 8),
        most={"f": 2},
        faults=("cut_client", "cut_node", "stall_node"),
        fault_count=8,
        fault_lasts_s=SHORT,
    ),
    "calls that need much, gateway restarts": Plan(
        gentle=True,
        nodes=2,
        calls=40,
        slots=4,
        needy=0.7,
        gpus=(16, 24),
        most={"f": 1, "g": 3},
        once_only=0.5,
        faults=("crash_gateway",),
        fault_count=1,
        fault_lasts_s=(0.0, 1.0),
    ),
    "sealed calls, no fault": Plan(gentle=True, sealed=3, bundles=2, jobs=0.2),
    "sealed calls, short faults": Plan(
        gentle=True,
        sealed=3,
        bundles=2,
        jobs=0.2,
        retried=0.3,
        refs=0.3,
        kept=0.2,
        faults=GENTLE_FAULTS[:-2],
        fault_count=15,
        fault_lasts_s=SHORT,
    ),
    "sealed calls, gateway restarts": Plan(
        gentle=True,
        sealed=3,
        jobs=0.4,
        once_only=0.5,
        faults=("crash_gateway", "drain_gateway"),
        fault_count=1,
        fault_lasts_s=(0.0, 1.0),
    ),
    # Longer than the grace time: calls may be lost, but never doubled, mixed up, forgotten or left over.
    "long cuts": Plan(faults=("cut_client", "cut_node"), fault_count=6),
    "silence": Plan(faults=("mute_client", "mute_node"), fault_count=5),
    "gateway crashes": Plan(once_only=0.5, faults=("crash_gateway",), fault_count=3),
    "gateway crashes and cuts": Plan(
        nodes=2, calls=40, large=0.3, once_only=0.5, faults=("crash_gateway", "cut_node", "cut_client"), fault_count=15
    ),
    "node crashes": Plan(faults=("crash_node",), fault_count=5),
    "client crashes": Plan(faults=("crash_client",), fault_count=4),
    "frozen processes": Plan(faults=("freeze_node", "freeze_client", "freeze_gateway"), fault_count=5),
    "leaving": Plan(faults=("leave_node", "leave_client"), fault_count=6),
    "draining": Plan(
        nodes=4, calls=60, once_only=0.5, faults=("drain_node", "rest_node", "cut_node", "cut_client"), fault_count=12
    ),
    "draining and gateway restarts": Plan(
        nodes=3,
        calls=40,
        once_only=0.5,
        faults=("drain_node", "rest_node", "drain_gateway", "cut_node", "cut_client"),
        fault_count=12,
        fault_lasts_s=(0.0, 4.0),
    ),
    "broken nodes": Plan(
        nodes=4, calls=80, once_only=0.3, streams=0.2, faults=("break_node", "cut_node", "crash_node"), fault_count=10
    ),
    "changing offers": Plan(faults=("change_offers",), fault_count=10),
    "unreliable nodes": Plan(
        clients=1,
        calls=40,
        large=0.3,
        faults=("crash_node", "leave_node", "freeze_node", "mute_node", "cut_node"),
        fault_count=20,
    ),
    "bundles, crashes": Plan(
        calls=4, bundles=5, crashing=4.0, cancelled=0.3, faults=("crash_node", "crash_gateway"), fault_count=6
    ),
    "bundles, everything": Plan(
        nodes=2, calls=4, bundles=6, crashing=2.0, large=0.3, cancelled=0.3, faults=FAULTS, fault_count=15
    ),
    "calls that run together, everything": Plan(
        calls=40, together={"f": 2, "h": 5}, faults=FAULTS, fault_count=10, duplicates=0.1
    ),
    "calls that need much, everything": Plan(
        calls=60,
        slots=4,
        needy=0.7,
        gpus=(16, 24, 8),
        most={"g": 2},
        together={"h": 3},
        bundles=2,
        faults=FAULTS,
        fault_count=14,
        duplicates=0.1,
    ),
    "GPUs that come and go": Plan(
        calls=60, needy=0.9, gpus=(16, 24), faults=("unplug_node", "crash_node", "cut_node"), fault_count=14
    ),
    "few calls at the gateway": Plan(
        calls=60,
        nested=0.3,
        prioritized=0.5,
        faults=FAULTS,
        fault_count=8,
        settings=GatewaySettings(max_queued_calls=5, max_client_bytes=2000),
    ),
    "everything": Plan(faults=FAULTS, fault_count=10, duplicates=0.1),
    "everything, often": Plan(nodes=2, calls=40, large=0.3, faults=FAULTS, fault_count=30, fault_lasts_s=(0.0, 4.0)),
    "everything, and second copies": Plan(nodes=4, hedged=0.6, streams=0.1, faults=FAULTS, fault_count=12),
    "everything, and errors that are retried": Plan(retried=0.6, faults=FAULTS, fault_count=12, duplicates=0.1),
    "values that stay, everything": Plan(
        nodes=2, calls=40, refs=0.6, kept=0.4, large=0.2, faults=FAULTS, fault_count=20, fault_lasts_s=(0.0, 8.0)
    ),
    "everything together": Plan(
        nodes=4,
        calls=50,
        bundles=2,
        needy=0.3,
        gpus=(16, 24),
        most={"g": 2},
        together={"h": 3},
        nested=0.3,
        prioritized=0.4,
        retried=0.3,
        hedged=0.2,
        refs=0.3,
        kept=0.2,
        once_only=0.3,
        faults=FAULTS,
        fault_count=16,
        duplicates=0.1,
    ),
    "families of short calls": Plan(
        calls=80,
        slots=1,
        streams=0.1,
        nested=0.6,
        retried=0.3,
        prioritized=0.4,
        together={"h": 3},
        faults=("drain_node", "rest_node", "break_node", "cut_node", "crash_gateway", "crash_node"),
        fault_count=12,
        fault_lasts_s=(0.0, 4.0),
    ),
    "sealed calls, everything": Plan(
        nodes=4, calls=40, sealed=2, bundles=2, jobs=0.3, retried=0.2, refs=0.2, faults=FAULTS, fault_count=16
    ),
    "everything to one node": Plan(nodes=1, clients=1, slots=1, calls=20, streams=0.6, faults=FAULTS, fault_count=12),
}

SEEDS = int(os.environ.get("SIM_SEEDS", "300"))
"""Worlds to simulate in all."""

FIRST_SEED = int(os.environ.get("SIM_FIRST_SEED", "0"))


def seeds() -> range:
    """The seeds of one plan."""
    return range(FIRST_SEED, FIRST_SEED + max(SEEDS // len(PLANS), 1))
