"""A host of a `Network`: `python tests/chaos/host.py FD ADDRESS`, run in a network namespace of its own. It makes the end of the
cable, hands it over through the socket FD, and keeps the namespace until it is killed or its parent dies."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import socket
import struct
import subprocess
import sys

TUNSETIFF, IFF_TUN, IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


def main() -> None:
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
    out = socket.socket(fileno=int(sys.argv[1]))
    cable = os.open("/dev/net/tun", os.O_RDWR)
    fcntl.ioctl(cable, TUNSETIFF, struct.pack("16sH22x", b"cable", IFF_TUN | IFF_NO_PI))
    for command in (
        "ip link set lo up",
        f"ip addr add {sys.argv[2]}/24 dev cable",
        "ip link set cable mtu 1400 up",
    ):
        subprocess.run(command.split(), check=True)
    socket.send_fds(out, [b"ready"], [cable])
    os.close(cable)
    signal.pause()


if __name__ == "__main__":
    main()
