"""What this process is: versions and names that peers are told."""

from __future__ import annotations

import functools
import os
import platform
import socket
from importlib import metadata

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


def this_runtime() -> pb.Runtime:
    """A record of this process for a Hello."""
    runtime = pb.Runtime()
    runtime.CopyFrom(_fixed())
    runtime.pid = os.getpid()
    return runtime


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return ""
