"""Files in shared memory, for large payloads between processes of one host and one user.

A file is named by its maker's process, so that whatever a crash leaves behind is found and removed by the next process that
uses the folder. The receiver removes a file as soon as it is mapped; the mapping lives on.
"""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import re
import secrets
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from easyremote.wire.codec import Part
from easyremote.wire.yielding import YieldingThread

T = TypeVar("T")

SHARED_MEMORY_VARIABLE = "EASYREMOTE_SHARED_MEMORY"
"""Set to 0: large payloads go through the gateway between processes of one host as well, as between machines. Set to a path,
for all processes: that folder takes the place of /dev/shm."""

_NAME = re.compile(r"(\d+)-[0-9a-f]{32}")
_boot_id_file = Path("/proc/sys/kernel/random/boot_id")


class SharedFiles:
    """The folders of this user: shared memory first, the temporary folder where that is missing or full.

    `identity` is equal for two processes exactly when they see the same first folder. `owner`: the process that the files made
    here go away with, where that isn't this one; other processes' numbers aren't known here then, so nothing is swept.
    """

    def __init__(self, roots: Sequence[Path] = (), owner: int | None = None) -> None:
        self._owner = owner
        candidates = roots or (_first_root(), Path(tempfile.gettempdir()))
        self.folders = [folder for root in candidates if (folder := _private_folder(root)) is not None]
        is_shared = self.folders and os.environ.get(SHARED_MEMORY_VARIABLE) != "0"
        self.identity = _identity(self.folders[0]) if is_shared else ""
        for folder in self.folders:
            self._sweep(folder)

    def create(self, size: int) -> tuple[str, mmap.mmap]:
        """A new file of `size` bytes, mapped for writing. Raises OSError where there isn't room."""
        return self._where_there_is_room(lambda path: self._create_in(path, size))

    def _where_there_is_room(self, make: Callable[[Path], T]) -> tuple[str, T]:
        """What `make` made at a new path in the first folder that had room, and its name."""
        name = self._new_name()
        for folder in self.folders[:-1]:
            for is_last_try in (False, True):
                try:
                    return name, make(folder / name)
                except OSError:  # it is full; once what dead processes left is gone it may not be, nor may the next one
                    if not is_last_try and not self._sweep(folder):
                        break
        return name, make(self.folders[-1] / name)

    def _create_in(self, path: Path, size: int) -> mmap.mmap:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size)  # takes the room now; a full file system would kill us later
            return mmap.mmap(descriptor, size)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)

    def write(self, parts: Sequence[Part]) -> str:
        """A new file that holds these parts, one after the other. Raises OSError where there isn't room."""
        views = [memoryview(part).cast("B") for part in parts]
        if sum(view.nbytes for view in views) < _LONG_BYTES:
            return self._write(views)
        return YieldingThread(lambda: self._write(views), self.remove).run()

    def _write(self, views: Sequence[memoryview]) -> str:
        return self._where_there_is_room(lambda path: self._write_to(path, views))[0]

    def _write_to(self, path: Path, views: Sequence[memoryview]) -> None:
        """With plain writes: pages that are mapped to be written are zeroed first, which takes as long again."""
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            size = file_bytes([view.nbytes for view in views])
            _check_room(descriptor, size)
            offset = 0
            for view in views:
                done = 0
                while done < view.nbytes:
                    done += os.pwrite(descriptor, view[done : done + _WRITE_BYTES], offset + done)
                offset += _padded(view.nbytes)
            os.truncate(descriptor, size)
        except OSError:
            path.unlink()
            raise
        finally:
            os.close(descriptor)

    def take(self, name: str, size: int) -> memoryview:
        """Map a file that another process made, and remove its name. Changes stay private to this process.

        Raises OSError when there is no such file, or it isn't `size` bytes long.
        """
        view = self.map(name, size)
        self.remove(name)
        return view

    def map(self, name: str, size: int) -> memoryview:
        """The same, but the name stays."""
        descriptor = os.open(self._path(name), os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0))
        try:
            status = os.fstat(descriptor)
            if status.st_size != size or status.st_uid != os.getuid():
                raise OSError(f"shared file '{name}' has {status.st_size} bytes, not the announced {size}")
            return memoryview(
                mmap.mmap(descriptor, size, flags=mmap.MAP_PRIVATE, prot=mmap.PROT_READ | mmap.PROT_WRITE)
            )
        finally:
            os.close(descriptor)

    def adopt(self, name: str) -> str:
        """Make a file that another process made one of this process's: its new name. Raises OSError where there is none."""
        path = self._path(name)
        new_name = self._new_name()
        path.rename(path.with_name(new_name))
        return new_name

    def _new_name(self) -> str:
        return f"{self._owner or os.getpid()}-{secrets.token_hex(16)}"

    def _sweep(self, folder: Path) -> int:
        return _sweep(folder) if self._owner is None else 0

    def has(self, name: str) -> bool:
        return any((folder / name).exists() for folder in self.folders)

    def remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            self._path(name).unlink()

    def _path(self, name: str) -> Path:
        if not _NAME.fullmatch(name):
            raise OSError(f"'{name}' is no name of a shared file")
        for folder in self.folders:
            if (folder / name).exists():
                return folder / name
        raise FileNotFoundError(f"there is no shared file '{name}'")


def _check_room(descriptor: int, size: int) -> None:
    """Raises OSError where there is less room, before any of it is taken. A file system that can't tell is tried."""
    status = os.fstatvfs(descriptor)
    if status.f_blocks > 0 and status.f_bavail * status.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def _first_root() -> Path:
    configured = os.environ.get(SHARED_MEMORY_VARIABLE, "")
    return Path(configured) if os.path.isabs(configured) else Path("/dev/shm")


def _private_folder(root: Path) -> Path | None:
    """A folder under `root` that is this user's alone, or None where there can't be one."""
    folder = root / f"easyremote-{os.getuid()}"
    try:
        folder.mkdir(mode=0o700, exist_ok=True)
        status = folder.lstat()  # a link is another's, or leads to a folder that is for something else
    except OSError:
        return None
    return folder if status.st_uid == os.getuid() and not status.st_mode & 0o077 else None


def _identity(folder: Path) -> str:
    try:
        boot = _boot_id_file.read_text().strip()
    except OSError:
        return ""
    status = folder.stat()
    return f"{boot}:{status.st_dev}:{status.st_ino}"


def _sweep(folder: Path) -> int:
    """Remove what dead processes left, and tell how many files that were."""
    removed = 0
    for path in folder.iterdir():
        match = _NAME.fullmatch(path.name)
        if match and not _is_alive(match[1]):
            with contextlib.suppress(OSError):
                path.unlink()
                removed += 1
    return removed


def _is_alive(pid: str) -> bool:
    """One that has ended and that its parent hasn't asked about, a zombie, maps nothing any more."""
    try:
        return Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()[0] != b"Z"
    except FileNotFoundError:
        return False
    except OSError:
        return True


_WRITE_BYTES = 64 * 1024 * 1024

_LONG_BYTES = 8 * 1024 * 1024

_ALIGN = 64
"""Parts begin at multiples of this, so that arrays in them are aligned for every instruction set."""


def _padded(size: int) -> int:
    return -(-size // _ALIGN) * _ALIGN


def file_bytes(part_bytes: Sequence[int]) -> int:
    """How long a file with these parts is."""
    return max(sum(_padded(size) for size in part_bytes), _ALIGN)


def split(view: memoryview, part_bytes: Sequence[int]) -> list[memoryview]:
    """The parts in a mapped file."""
    parts: list[memoryview] = []
    offset = 0
    for size in part_bytes:
        parts.append(view[offset : offset + size])
        offset += _padded(size)
    return parts
