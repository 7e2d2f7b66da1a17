"""Files that are this user's alone: where they are, and how they are read and written."""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from pathlib import Path

import platformdirs

from easyremote.errors import AuthError

CONFIG_VARIABLE = "EASYREMOTE_CONFIG_DIR"
"""Set to a folder: keys, credentials and config.toml are there, instead of in the user's own configuration folder."""

STATE_VARIABLE = "EASYREMOTE_STATE_DIR"

MAX_BYTES = 1024 * 1024
"""A longer file is none of ours."""


def config_folder() -> Path:
    """Where a user's keys and settings are. It isn't made here."""
    return Path(os.environ.get(CONFIG_VARIABLE) or platformdirs.user_config_dir("easyremote"))


def state_folder() -> Path:
    """Where what is to outlive a process is. It isn't made here."""
    return Path(os.environ.get(STATE_VARIABLE) or platformdirs.user_state_dir("easyremote"))


def read_private(path: Path, what: str, max_bytes: int = MAX_BYTES) -> bytes:
    """The bytes of a file that no other user may read or change. `what` it is, for messages.

    Raises FileNotFoundError, and AuthError where others may, or can put another in its place: its secret may be known, or its
    content be another's.
    """
    descriptor = os.open(
        path, os.O_RDONLY | getattr(os, "O_NONBLOCK", 0)
    )  # a pipe in its place mustn't keep us waiting
    with os.fdopen(descriptor, "rb") as file:
        check_private(path, what, os.fstat(file.fileno()))  # of what was opened: the name may mean another file by now
        content = file.read(max_bytes + 1)
    if len(content) > max_bytes:
        raise AuthError(f"{path} isn't {what}: it has more than {max_bytes} bytes")
    return content


def check_private(path: Path, what: str, status: os.stat_result | None = None) -> None:
    """Raises AuthError where others may read or change the file, or can put another in its place."""
    status = status or path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise AuthError(f"{path} isn't {what}: it is no ordinary file; remove it")
    if os.name != "posix":  # modes say nothing there; the user's own folders are closed to others
        return
    if status.st_mode & 0o077:
        raise AuthError(
            f"{what} in {path} is open to other users (mode {stat.S_IMODE(status.st_mode):04o}). If only you can have used "
            f"it, make it yours: chmod 600 {path}; else delete it"
        )
    if status.st_uid not in (os.getuid(), 0):
        raise AuthError(f"{what} in {path} belongs to another user (uid {status.st_uid}); delete it, or move it away")
    folder = path.parent.stat()
    is_shared = (
        folder.st_mode & 0o022 and not folder.st_mode & stat.S_ISVTX
    )  # sticky: only its owner can replace a file
    if is_shared or folder.st_uid not in (os.getuid(), 0):
        raise AuthError(
            f"other users can put files into {path.parent} (mode {stat.S_IMODE(folder.st_mode):04o}, uid {folder.st_uid}), so "
            f"{what} in {path.name} may be theirs; close the folder to them: chmod 700 {path.parent}"
        )


def check_folder(folder: Path, what: str) -> None:
    """Raises AuthError where others could look into the folder that has `what`, or change what is there."""
    with contextlib.suppress(FileNotFoundError):
        status = folder.stat()
        if os.name == "posix" and (status.st_mode & 0o077 or status.st_uid != os.getuid()):
            raise AuthError(
                f"the folder of {what}, {folder}, is open to other users (mode {status.st_mode & 0o777:04o}); make it yours: "
                f"chmod 700 {folder}"
            )


def write_private(path: Path, content: bytes) -> None:
    """Replace the file, in one step: a reader finds the old one or the new one."""
    temporary = _temporary(path, content)
    temporary.replace(path)


def create_private(path: Path, content: bytes) -> bool:
    """Make the file, in one step. False: it was there, perhaps since a moment ago, and is as it was."""
    temporary = _temporary(path, content)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError:  # a file system without links: not quite one step
        if path.exists():
            return False
        temporary.replace(path)
        return True
    finally:
        temporary.unlink(missing_ok=True)
    return True


def _temporary(path: Path, content: bytes) -> Path:
    """A file beside it with this content, of mode 0600."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    return temporary
