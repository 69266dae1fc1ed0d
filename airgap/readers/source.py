"""Where the readers' bytes come from: anything of known size that can be read at an offset.

A reader asks for what it needs and for no more, so the same one reads a blob on disk, a member of an
archive, and a file on a server of which only a few ranges are ever fetched.
"""

import os
import stat
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import Protocol

from airgap.errors import InputError


class Readable(Protocol):
    """What can be read forward: at most `count` bytes, none at the end."""

    def read(self, count: int, /) -> bytes: ...


class Source(Protocol):
    """Bytes that do not change. `digest` is their sha256 in hex, '' when nobody has said it."""

    @property
    def size(self) -> int: ...

    @property
    def digest(self) -> str: ...

    def read(self, start: int, count: int) -> bytes:
        """Exactly `count` bytes from offset `start`. Raises InputError where they are not all inside."""
        ...


class Files(Protocol):
    """A tree of files: the members of a wheel, or the packages of an image. Paths are `/`-separated."""

    @property
    def digest(self) -> str:
        """sha256 of what holds them, for evidence; '' when unknown."""
        ...

    def paths(self) -> Collection[str]: ...

    def read(self, path: str, max_bytes: int) -> bytes:
        """One file whole. Raises InputError when it is not there or larger than `max_bytes`."""
        ...


def inside(size: int, start: int, count: int, what: str) -> None:
    """Raises InputError unless `count` bytes from `start` lie within `size` bytes."""
    if start < 0 or count < 0 or start + count > size:
        raise InputError(f"{what}: expected bytes {start} to {start + count}, found {size} bytes in all")


class BytesSource:
    """Bytes in memory."""

    def __init__(self, data: bytes, *, digest: str = "", what: str = "bytes") -> None:
        self.digest = digest
        self._data = data
        self._what = what

    @property
    def size(self) -> int:
        return len(self._data)

    def read(self, start: int, count: int) -> bytes:
        inside(self.size, start, count, self._what)
        return self._data[start : start + count]


class FileSource:
    """A regular file, open until the context ends. Raises InputError when it is not one."""

    def __init__(self, path: Path, *, digest: str = "") -> None:
        self.digest = digest
        self._path = path
        try:
            # A FIFO without a writer would block for ever.
            self._descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        found = os.fstat(self._descriptor)
        self._size = found.st_size
        if not stat.S_ISREG(found.st_mode):
            self.close()
            raise InputError(f"{path}: expected a regular file")

    @property
    def size(self) -> int:
        return self._size

    def read(self, start: int, count: int) -> bytes:
        inside(self._size, start, count, str(self._path))
        data = bytearray()
        while len(data) < count:
            try:
                piece = os.pread(self._descriptor, count - len(data), start + len(data))
            except OSError as error:
                raise InputError(f"{self._path}: cannot be read: {error.strerror}") from None
            if not piece:
                raise InputError(f"{self._path}: became shorter than {self._size} bytes while it was read")
            data += piece
        return bytes(data)

    def close(self) -> None:
        os.close(self._descriptor)

    def __enter__(self) -> "FileSource":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
