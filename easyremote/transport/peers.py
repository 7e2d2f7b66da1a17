"""What the system knows of the process at the other end of a Unix socket."""

from __future__ import annotations

import contextlib
import socket
import struct
from typing import Any

_CREDENTIALS = struct.Struct("3i")  # Linux: process, user, group


def peer_pid(sock: Any) -> int | None:
    """Its process id, as this process would see it; None where the system doesn't tell, or it is out of sight."""
    option = getattr(socket, "SO_PEERCRED", None)
    if sock is None or option is None:
        return None
    with contextlib.suppress(OSError):
        pid, _, _ = _CREDENTIALS.unpack(sock.getsockopt(socket.SOL_SOCKET, option, _CREDENTIALS.size))
        return pid or None
    return None


def is_running(pid: int) -> bool:
    """Whether it runs or waits for something. One that was stopped (SIGSTOP) or has died doesn't."""
    import psutil

    with contextlib.suppress(psutil.Error, OSError):
        status = psutil.Process(pid).status()
        return status not in (
            psutil.STATUS_STOPPED,
            psutil.STATUS_TRACING_STOP,
            psutil.STATUS_ZOMBIE,
            psutil.STATUS_DEAD,
        )
    return False
