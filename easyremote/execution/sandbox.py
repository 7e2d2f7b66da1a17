"""Workers in a sandbox of bubblewrap's: they see the system, Python and what their node's owner shows them, and change nothing.

In it are: the system's folders, this Python and its packages (read-only), a home and temporary folder that are empty and go
away with the worker, the folder in which large values are handed over, GPUs, and the worker's own processes. There is no
network unless it is allowed. What isn't a sandbox's to prevent: the kernel is shared, and so are processors, memory (but see
`worker_memory`) and GPUs; values that are handed over at the same moment lie in one folder for all workers of the node's user.
"""

from __future__ import annotations

import glob
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from easyremote import discovery
from easyremote.errors import UsageError
from easyremote.execution.variables import is_of_the_session
from easyremote.security.files import config_folder

OWNER_VARIABLE = "EASYREMOTE_SANDBOX_PID"
"""The process, as the rest of the machine knows it, that the sandboxed worker ends with."""

_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/etc", "/opt", "/nix", "/gnu", "/sys")
_DEVICES = ("/dev/nvidia*", "/dev/dri", "/dev/kfd", "/dev/dxg")
_OUTSIDE_ETC = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt")
_PROBE_S = 20.0
_INSTALL = "install it (on Debian and Ubuntu: sudo apt-get install bubblewrap)"


@dataclass(frozen=True, slots=True)
class Sandbox:
    """What workers may do beside computing. `network`: reach the network, this machine's services included. `read`, `write`:
    more files and folders that they see, and that they may change. `env`: names of the node's environment variables that they see
    beside those for computing (PATH, CUDA_*, OMP_*, …), such as "HF_TOKEN"."""

    network: bool = False
    read: Sequence[str | os.PathLike[str]] = ()
    write: Sequence[str | os.PathLike[str]] = ()
    env: Sequence[str] = ()


def check(sandbox: Sandbox) -> None:
    """Raises UsageError where this machine can't do it, with what to do, or where a folder to be shown isn't there."""
    for path in (*sandbox.read, *sandbox.write):
        if not os.path.isabs(path) or not os.path.exists(path):
            raise UsageError(
                f"the sandbox can't show '{os.fspath(path)}': it isn't the absolute path of a file or folder"
            )
    _check_names(sandbox.env)
    if sys.platform != "linux":
        raise UsageError(
            "a sandbox needs Linux: it is made with bubblewrap. Leave sandbox away, or run the node in a container"
        )
    program = shutil.which("bwrap")
    if program is None:
        raise UsageError(
            f"a sandbox needs the program bwrap of bubblewrap, which isn't here: {_INSTALL}, or leave sandbox away"
        )
    command = [program, *_arguments(sandbox, ()), "--", sys.executable, "-I", "-c", ""]
    try:
        done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=_PROBE_S)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise UsageError(f"a sandbox can't be made: {program} can't be run: {error}") from None
    if done.returncode:
        said = done.stderr.strip().splitlines()
        raise UsageError(
            f"a sandbox can't be made here; bwrap says: {said[-1] if said else f'exit code {done.returncode}'}. It needs user "
            "namespaces: see the settings kernel.unprivileged_userns_clone and kernel.apparmor_restrict_unprivileged_userns, and "
            "in a container its seccomp profile; or leave sandbox away"
        )


def _check_names(env: Sequence[str]) -> None:
    if isinstance(env, str):
        raise UsageError("env is a list of names of variables, such as ['HF_TOKEN']")
    for name in env:
        if not re.fullmatch(r"\w+", name):
            name = name.partition("=")[0]  # what follows may be a secret
            raise UsageError(f"env has names of variables, whose values are the node's own, and '{name}' is none alone")
        if is_of_the_session(name) or name.startswith("EASYREMOTE_"):
            raise UsageError(
                f"env can't have {name}: that variable leads to what is its owner's alone, and stays there"
            )


def command(sandbox: Sandbox, folders: Iterable[Path], program: Sequence[str]) -> list[str]:
    """What runs a program in it. `folders`: where large values are handed over.

    The shell is there to tell the program its number outside, where its files are looked after.
    """
    script = f'exec bwrap --setenv {OWNER_VARIABLE} "$$" "$@"'
    return ["/bin/sh", "-c", script, "sh", *_arguments(sandbox, folders), "--", *program]


def _arguments(sandbox: Sandbox, folders: Iterable[Path]) -> list[str]:
    home = os.path.realpath(os.path.expanduser("~"))
    made = [
        "--die-with-parent",
        "--unshare-user",
        "--unshare-pid",
        "--unshare-ipc",
        "--unshare-uts",
        "--unshare-cgroup-try",
    ]
    made += ["--cap-drop", "ALL"]
    if not sandbox.network:
        made.append("--unshare-net")
    for path in _SYSTEM:
        if os.path.islink(path):
            made += ["--symlink", os.readlink(path), path]
        else:
            made += ["--ro-bind-try", path, path]
    made += ["--proc", "/proc", "--dev", "/dev"]
    for path in (path for pattern in _DEVICES for path in sorted(glob.glob(pattern))):
        made += ["--dev-bind", path, path]
    for path in ("/tmp", "/var/tmp", "/run", home):
        made += ["--tmpfs", path]
    shown = _shown(home)
    for path in shown:
        made += ["--ro-bind", path, path]
    for path in _hidden(shown):
        made += ["--tmpfs", path] if os.path.isdir(path) else ["--ro-bind", "/dev/null", path]
    if sandbox.network:
        for path in filter(os.path.exists, map(os.path.realpath, _OUTSIDE_ETC)):
            made += ["--ro-bind", path, path]
    for path in (os.fspath(path) for path in sandbox.read):
        made += ["--ro-bind", path, path]
    for path in (*(os.fspath(path) for path in sandbox.write), *map(str, folders)):
        made += ["--bind", path, path]
    inside = os.getcwd()
    made += ["--chdir", inside if any(_is_in(inside, path) for path in shown) else "/tmp"]
    return [*made, "--setenv", "TMPDIR", "/tmp"]


def _shown(home: str) -> list[str]:
    """Folders of this Python, its packages and the owner's modules, outer ones first; never the whole home folder."""
    python = [sys.prefix, sys.base_prefix, os.path.dirname(os.path.realpath(sys.executable))]
    packages = [os.fspath(entry) or os.getcwd() for entry in sys.path if isinstance(entry, (str, os.PathLike))]
    libraries = os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep)
    wanted = {os.path.abspath(path) for path in (*python, *packages, *filter(None, libraries)) if os.path.exists(path)}
    wanted |= {os.path.realpath(path) for path in wanted}
    found: list[str] = []
    for path in sorted(wanted, key=lambda path: (path.count("/"), path)):
        is_too_much = _is_in(home, path) or path in ("/tmp", "/var", "/home", "/dev/shm")
        if not is_too_much and not any(_is_in(path, outer) for outer in (*_SYSTEM, *found)):
            found.append(path)
    return found


def _hidden(shown: Sequence[str]) -> list[str]:
    """What lies in a folder that is shown and isn't for everybody: the gateways' and this user's own secrets, and what of /etc
    others may not read, where the node runs as root."""
    own = {discovery.runtime_folder(), discovery.state_folder(), config_folder()}
    found = [str(path) for path in own if path.exists() and any(_is_in(str(path), outer) for outer in shown)]
    for folder, names, files in os.walk("/etc"):
        closed = [name for name in names if not _is_for_all(os.path.join(folder, name), 0o005)]
        names[:] = [name for name in names if name not in closed]
        closed += [name for name in files if not _is_for_all(os.path.join(folder, name), 0o004)]
        found += [os.path.join(folder, name) for name in closed]
    return found


def _is_for_all(path: str, bits: int) -> bool:
    try:
        mode = os.lstat(path).st_mode
    except OSError:
        return True  # it is gone
    return os.path.islink(path) or mode & bits == bits


def _is_in(path: str, folder: str) -> bool:
    return path == folder or path.startswith(folder.rstrip("/") + "/")
