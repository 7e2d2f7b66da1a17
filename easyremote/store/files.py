"""Files for payloads that are too large for a row, in a folder beside the journal. Their parts lie one after the other."""

from __future__ import annotations

import contextlib
import mmap
import os
import secrets
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

_WRITE_BYTES = 16 * 1024 * 1024


class PayloadFiles:
    """Names are random, 32 hex digits. A file is on disk, whole, before a row of the journal names it.

    All methods may raise OSError.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def create(self, size: int, name: str = "") -> tuple[str, int]:
        """A new file with room for so many bytes: its name, and a descriptor. Raises OSError where there isn't any."""
        name = name or secrets.token_hex(16)
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        descriptor = os.open(self._folder / name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        try:
            if size and hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, size)
        except OSError:
            os.close(descriptor)
            self.remove([name])
            raise
        return name, descriptor

    def finish(self, descriptor: int) -> None:
        """Have all that was written on disk, the name included, and close it."""
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        folder = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)

    def write(self, parts: Sequence[bytes | bytearray | memoryview]) -> str:
        """A new file with these parts, on disk."""
        views = [memoryview(part).cast("B") for part in parts]
        name, descriptor = self.create(sum(view.nbytes for view in views))
        try:
            offset = 0
            for view in views:
                for start in range(0, view.nbytes, _WRITE_BYTES):
                    piece = view[start : start + _WRITE_BYTES]
                    write_at(descriptor, piece, offset + start)
                offset += view.nbytes
        except BaseException:
            os.close(descriptor)
            self.remove([name])
            raise
        self.finish(descriptor)
        return name

    def map(self, name: str, part_bytes: Sequence[int]) -> list[memoryview]:
        """The parts of a file. Raises OSError when it isn't as long as they are together."""
        size = sum(part_bytes)
        descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if os.fstat(descriptor).st_size != size:
                raise OSError(f"the payload file {name} has another size than its journal says")
            whole = memoryview(mmap.mmap(descriptor, size, prot=mmap.PROT_READ))
        finally:
            os.close(descriptor)
        parts: list[memoryview] = []
        offset = 0
        for size in part_bytes:
            parts.append(whole[offset : offset + size])
            offset += size
        return parts

    def read(self, name: str, offset: int, size: int) -> bytes:
        descriptor = os.open(self._folder / name, os.O_RDONLY | os.O_CLOEXEC)
        try:
            return os.pread(descriptor, size, offset)
        finally:
            os.close(descriptor)

    def remove(self, names: Iterable[str]) -> None:
        for name in names:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()

    def sweep(self, wanted: Collection[str], aside: Path | None = None) -> None:
        """Remove what a process that was killed left unfinished; or, where a damaged journal may have named it, put it aside."""
        if not self._folder.is_dir():
            return
        unwanted = [path for path in self._folder.iterdir() if path.name not in wanted]
        if aside is None:
            self.remove([path.name for path in unwanted])
        elif unwanted:
            aside.mkdir(mode=0o700, parents=True, exist_ok=True)
            for path in unwanted:
                path.rename(aside / path.name)


def write_at(descriptor: int, data: bytes | memoryview, offset: int) -> None:
    """All of it: a disk that is nearly full may take a part."""
    done = 0
    while done < len(data):
        done += os.pwrite(descriptor, data[done:], offset + done)
