"""gRPC options, in one place because gRPC ignores a misspelt one in silence. Each is tested by its effect.

Liveness is not left to HTTP/2 pings alone, which C threads answer while Python hangs: see the heartbeats of the sessions. A peer
whose heartbeats stay away while its pings are answered is waited for longer than one that answers nothing.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc.aio

from easyremote.transport.streams import MAX_MESSAGE_BYTES

END_OF_STREAM: Any = grpc.aio.EOF  # pyright: ignore[reportAttributeAccessIssue] - its stubs lack it

_BOTH = [
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
]

HANDSHAKE_S = 5
"""A connection that hasn't got through TLS and the beginning of HTTP/2 by then is closed."""

IDLE_S = 30
"""A connection without any RPC is closed after so long; a session is one."""

SERVER_OPTIONS = [
    *_BOTH,
    # A peer whose Python says nothing counts as alive as long as its gRPC answers these, so a dead one has to be noticed by them:
    # 4 s after the last it sent, and 4 s for the answer.
    ("grpc.keepalive_time_ms", 4_000),
    ("grpc.keepalive_timeout_ms", 4_000),
    ("grpc.http2.ping_timeout_ms", 4_000),
    ("grpc.so_reuseport", 0),  # else a second gateway binds the same port and gets half of the calls
    ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ("grpc.max_concurrent_streams", 256),
    ("grpc.server_handshake_timeout_ms", HANDSHAKE_S * 1000),
    ("grpc.max_connection_idle_ms", IDLE_S * 1000),
]

SPARE_DESCRIPTORS = 200
"""What a gateway keeps for its own files, out of those that the system lets it open."""


def max_connections(max_sessions: int) -> int:
    """How many connections a gateway has at once, those of strangers included; one more is closed when it comes. A session has a
    second one while it transfers, and as many again may be on their way in or out."""
    wanted = 4 * max_sessions
    try:
        import resource
    except ImportError:  # Windows
        return wanted
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return wanted if soft == resource.RLIM_INFINITY else min(wanted, max(soft - SPARE_DESCRIPTORS, soft // 2))


CHANNEL_OPTIONS = [
    *_BOTH,
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 5_000),
    ("grpc.http2.ping_timeout_ms", 5_000),
    ("grpc.use_local_subchannel_pool", 1),  # a channel is a connection of its own
    ("grpc.initial_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 3_000),
    ("grpc.enable_http_proxy", 0),  # a proxy for web pages doesn't lead to a gateway
]


def is_being_cancelled() -> bool:
    """Whether the running task was told to end. A CancelledError without that means that the RPC it waits for was cancelled,
    which gRPC reports in the same way."""
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
