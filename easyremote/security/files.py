"""Files that are this user's alone: where they are, and how they are read and written."""

from __future__ import annotations

import contextlib
import os
import secrets
from pathlib import Path

import platformdirs

from easyremote.errors import AuthError

CONFIG_VARIABLE = "EASYREMOTE_CONFIG_DIR"
"""Set to a folder: keys, credentials and config.toml are there, instead of in the user's own configuration folder."""


def config_folder() -> Path:
    """Where a user's keys and settings are. It isn't made here."""
    return Path(os.environ.get(CONFIG_VARIABLE) or platformdirs.user_config_dir("easyremote"))


def read_private(path: Path, what: str) -> bytes:
    """The bytes of a file that no other user may read or change. `what` it is, for messages.

    Raises FileNotFoundError, and AuthError where others may: its secret may be known, or its content be another's.
    """
    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if os.name == "posix" and status.st_mode & 0o077:
            mode = status.st_mode & 0o777
            raise AuthError(
                f"{what} in {path} is open to other users (mode {mode:04o}). If only you can have used it, make it yours: "
                f"chmod 600 {path}; else delete it"
            )
        if os.name == "posix" and status.st_uid not in (os.getuid(), 0):
            raise AuthError(
                f"{what} in {path} belongs to another user (uid {status.st_uid}); delete it, or move it away"
            )
        return file.read()


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
