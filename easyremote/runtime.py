"""What this process is: versions and names that peers are told."""

from __future__ import annotations

import contextlib
import functools
import os
import platform
import re
import socket
import sys

from easyremote._version import __version__
from easyremote.wire.v1 import gateway_pb2 as pb


def python_minor() -> str:
    """ "3.11": bytecode and pickled functions travel only between equal ones."""
    return ".".join(platform.python_version_tuple()[:2])


@functools.cache
def _fixed() -> pb.Runtime:
    return pb.Runtime(
        python=platform.python_version(),
        implementation=platform.python_implementation().lower(),
        easyremote=__version__,
        cloudpickle=_version("cloudpickle"),
        numpy=_version("numpy"),
        platform=f"{platform.system().lower()}-{platform.machine()}",
        host=socket.gethostname(),
    )


_ids: list[bytes] = []
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_ids.clear)  # a child must not give out the same ones


def random_id() -> bytes:
    """16 random bytes of the system's generator, which is asked for many at a time."""
    while True:
        try:
            return _ids.pop()
        except IndexError:
            more = os.urandom(16 * 256)
            _ids.extend(more[start : start + 16] for start in range(0, len(more), 16))


def this_runtime() -> pb.Runtime:
    """A record of this process for a Hello."""
    runtime = pb.Runtime()
    runtime.CopyFrom(_fixed())
    runtime.pid = os.getpid()
    return runtime


def _version(package: str) -> str:
    """Its version, by the name of its folder of metadata; empty where it isn't installed.

    Without `importlib.metadata`, which loads half of the mail library: 2 MB in every process.
    """
    for folder in sys.path:
        with contextlib.suppress(OSError):
            for name in os.listdir(folder or "."):
                if match := re.fullmatch(rf"{package}-([^-]+)\.(dist|egg)-info", name, re.IGNORECASE):
                    return match[1]
    return ""
