"""Frozen settings. Every span and size names its unit; every bound says what happens at it."""

from __future__ import annotations

from dataclasses import dataclass

DEFAULT_PORT = 8080
PROTOCOL_VERSION = 1

FEATURE_DRAIN = "drain"
"""What a peer that knows Drain, HandedBack and Withdrawn says of itself."""

FEATURE_SEAL = "seal"
"""What a client that can seal its calls says, and a gateway that knows NodeKeys and Keyring."""

FEATURE_ASK = "ask"
"""What a gateway that brings a Reply to its node says."""

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
class JobSettings:
    """What a gateway keeps of jobs. See docs/jobs.md.

    `max_jobs`: jobs kept at once, ended ones included; one more is refused with `OverloadedError`, after those that were
    collected have made room. `max_open_jobs`: jobs that are with the scheduler at once; the others wait on disk.
    `max_output_bytes`: output and displays kept of one job; the oldest go first. `max_job_bytes`: all that is kept of one job,
    arguments and values included; a job that brings more fails. `max_total_bytes`: of all jobs; then new ones are refused and
    running ones wait. `expires_after_s`: how long a job that has ended is kept, and how long one may wait for a node, when
    nothing else is said; `expires_after_collected_s`: the same once its result was collected.
    """

    max_jobs: int = 100_000
    max_open_jobs: int = 2000
    max_output_bytes: int = 64 * 1024 * 1024
    max_job_bytes: int = 16 * 1024**3
    max_total_bytes: int = 64 * 1024**3
    expires_after_s: float = 7 * 86400.0
    expires_after_collected_s: float = 86400.0


@dataclass(frozen=True, slots=True)
class GatewaySettings:
    """What a gateway can be told.

    `heartbeat_s`: every peer sends something at least this often. `silence_s`: a connection that was silent this long is
    taken for dead, unless its process is known to live: then after `hold_s`, since a function may hold the interpreter lock for
    long. `grace_s`: a peer whose connection broke may come back within this time and find its calls running.
    `max_queued_calls`: calls waiting for a node, per client; one more is refused with `OverloadedError`.
    `max_client_bytes`, `max_waiting_bytes`: what the waiting calls of one client, and of all, may hold here; then further ones of
    that client, or of all, are refused. Large arguments stay with their client and don't count.
    `max_sessions`: peers connected at once; one more is refused. `max_strangers`, `max_strangers_per_address`: connections on
    which no token was shown yet, in all and from one address; `stranger_s`: how long one may go without. Those beyond are closed.
    """

    heartbeat_s: float = 2.0
    silence_s: float = 6.0
    hold_s: float = 120.0
    grace_s: float = 5.0
    max_queued_calls: int = 4096
    max_client_bytes: int = 64 * 1024 * 1024
    max_waiting_bytes: int = 256 * 1024 * 1024
    max_sessions: int = 10_000
    max_strangers: int = 1024
    max_strangers_per_address: int = 64
    stranger_s: float = 10.0
    default_retries: int = 3
    default_strategy: str = "smart_adaptive"
    jobs: JobSettings = JobSettings()


@dataclass(frozen=True, slots=True)
class WindowSettings:
    """How far a call's producer may run ahead of its consumer before it is paused."""

    max_events: int = 256
    max_bytes: int = 4 * 1024 * 1024
