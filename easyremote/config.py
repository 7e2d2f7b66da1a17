"""Frozen settings. Every span and size names its unit; every bound says what happens at it."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_PORT = 8080
PROTOCOL_VERSION = 1

FEATURE_DRAIN = "drain"
"""What a peer that knows Drain, HandedBack and Withdrawn says of itself."""

DRAIN_GRACE_S = 30.0
"""A node that is told to end gives the calls that run on it so much time."""

GATEWAY_DRAIN_GRACE_S = 10.0
"""A gateway that is told to end does the same. Running calls survive its restart in any case."""

INLINE_BYTES = 64 * 1024
"""Payloads up to this size travel inside their frame; larger ones stay with their owner and are fetched."""

CHUNK_BYTES = 512 * 1024
"""Size of the pieces in which a large payload travels."""

TRANSFER_WINDOW_BYTES = 8 * 1024 * 1024
"""How much of one large payload may be on its way at once; also what the gateway holds of it at most."""

BATCH_BYTES = 1024 * 1024
"""A batch is closed at this size; what is left over goes into the next one."""

TRACEBACK_BYTES = 256 * 1024
"""A remote traceback longer than this is cut in the middle, and says so."""


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What a gateway can be told.

    `heartbeat_s`: every peer sends something at least this often. `silence_s`: a connection that was silent this long is
    taken for dead. `grace_s`: a peer whose connection broke may come back within this time and find its calls running.
    `max_queued_calls`: calls waiting for a node, per client; one more is refused with `OverloadedError`.
    `max_sessions`: peers connected at once; one more is refused.
    """

    heartbeat_s: float = 2.0
    silence_s: float = 6.0
    grace_s: float = 5.0
    max_queued_calls: int = 4096
    max_sessions: int = 10_000
    default_retries: int = 3
    default_strategy: str = "smart_adaptive"


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """How far a call's producer may run ahead of its consumer before it is paused."""

    max_events: int = 256
    max_bytes: int = 4 * 1024 * 1024
