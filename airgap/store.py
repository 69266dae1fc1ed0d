"""Blobs named by their sha256: hashed while written, under a temporary name, fsynced, renamed.

Ordering invariant: a name under `blobs/sha256/` appears by rename only, after its bytes were
hashed and fsynced; whatever else lies in the store may be deleted at any time.
"""

import errno
import hashlib
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from itertools import cycle
from pathlib import Path
from typing import BinaryIO, Protocol

from airgap.errors import HostError, IntegrityError
from airgap.model import Sha256

CHUNK = 1024 * 1024
"""Bytes per read and write everywhere: large enough that Python's overhead vanishes, small in memory."""

FILE_MODE = 0o644


WRITEBACK = 32 * 1024 * 1024
"""Bytes after which the kernel is told to begin writing, so that an fsync finds little left to wait for."""


WORTH_THREADS = 8 * 1024 * 1024
"""Bytes of a file from which on it is worth while to hash aside."""


class Hasher(Protocol):
    """What hashlib makes."""

    def update(self, data: memoryview, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Blob:
    """Bytes that exist: their digest and their number."""

    sha256: Sha256
    size: int


def emptiness(directory: Path) -> str:
    """What to say of a directory that looks as one that is not mounted, or misspelt; '' of any other."""
    try:
        there = "" if os.listdir(directory) else "is empty"
    except FileNotFoundError:
        there = "does not exist"
    except OSError:
        return ""
    return f"that directory {there}: see that its disk is mounted and its name right" if there else ""


@contextmanager
def host_errors(path: Path) -> Iterator[None]:
    """Turn the operating system's refusal into a HostError that names `path` and what to do."""
    try:
        yield
    except OSError as error:
        raise HostError(
            f"{error.filename2 or error.filename or path}: {error.strerror or error}", remedy=_remedy(error)
        ) from error


def _remedy(error: OSError) -> str:
    return {
        errno.ENOSPC: "free space on that file system, or inodes (df -i), then run the same command again",
        errno.EDQUOT: "raise the quota or free space, then run the same command again",
        errno.ENOENT: "see that its directory is there, and that the disk it lies on is mounted",
        errno.EIO: "that disk fails or is gone: see what dmesg says of it",
        errno.EROFS: "the file system is read-only: mount it writable, or choose another place",
        errno.EACCES: "run as a user who may write there, or choose another place",
        errno.EPERM: "run as a user who may write there, or choose another place",
    }.get(error.errno or 0, "")


class Store:
    """A content-addressed directory: `blobs/sha256/<hex>`, and `partial/` for what is not whole yet."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.partial = root / "partial"
        self._blobs = root / "blobs" / "sha256"
        self._prefix = f"{self._blobs}/"

    def prepare(self) -> None:
        """Create the directories. Raises HostError."""
        with host_errors(self.root):
            self._blobs.mkdir(parents=True, exist_ok=True)
            self.partial.mkdir(parents=True, exist_ok=True)

    def path(self, digest: Sha256) -> Path:
        return self._blobs / digest

    def holds(self, digest: Sha256, size: int | None = None) -> bool:
        """Whether the blob is here (and has `size` bytes); its bytes are judged by whoever signs."""
        try:
            found = os.lstat(f"{self._prefix}{digest}")  # a Path would cost more than the call
        except OSError:
            return False
        return size is None or found.st_size == size

    def read(self, digest: Sha256, *, max_bytes: int) -> bytes:
        """A small blob whole, rehashed. Raises IntegrityError when absent, larger or changed."""
        try:
            with open(self.path(digest), "rb") as stream:
                data = stream.read(max_bytes + 1)
        except OSError as error:
            raise IntegrityError(f"blob {digest} cannot be read: {error.strerror}") from None
        if len(data) > max_bytes or hashlib.sha256(data).hexdigest() != digest:
            raise IntegrityError(f"blob {digest} in {self.root} is not the bytes it is named for")
        return data

    def add_bytes(self, data: bytes) -> Blob:
        """Store a small document. Raises HostError."""
        digest = Sha256(hashlib.sha256(data).hexdigest())
        if not self.holds(digest, len(data)):
            temporary = self.partial / f"{digest}.{os.getpid()}"
            with host_errors(temporary):
                with open(temporary, "wb") as stream:
                    stream.write(data)
                self.adopt(temporary, digest)
        return Blob(digest, len(data))

    def add_stream(self, stream: BinaryIO, *, name: str, expected: Sha256 | None = None) -> Blob:
        """Copy `stream` in, hashing on the way. `name` tells temporary files apart.

        When the digest is not the `expected` one nothing is kept; the caller compares and reports.
        Raises HostError.
        """
        hasher = hashlib.sha256()
        temporary = self.partial / f"{hashlib.sha256(name.encode()).hexdigest()}.{os.getpid()}"
        size = 0
        with host_errors(temporary):
            try:
                with open(temporary, "wb") as out:
                    while chunk := stream.read(CHUNK):
                        hasher.update(chunk)
                        out.write(chunk)
                        size += len(chunk)
                digest = Sha256(hasher.hexdigest())
                if expected in (None, digest):
                    self.adopt(temporary, digest)
            finally:
                temporary.unlink(missing_ok=True)
        return Blob(digest, size)

    def adopt(self, temporary: Path, digest: Sha256) -> None:
        """Give a finished file, whose bytes the caller has hashed, its name. Raises HostError."""
        with host_errors(temporary):
            descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW)
            try:
                os.fchmod(descriptor, FILE_MODE)
                os.fsync(descriptor)
            finally:
                os.close(descriptor)
            os.replace(temporary, self.path(digest))
            fsync_directory(self._blobs)


def pour(
    read: Callable[[memoryview], int],
    size: int,
    buffer: memoryview,
    *,
    hashers: Sequence[Hasher],
    out: int | None,
    go_on: Callable[[int], bool],
    begin: int = 0,
) -> int:
    """Up to `size` bytes from `read` into hashers, and where it is given into the descriptor `out`.

    `go_on` is told of each count of bytes and says whether the rest matters; `begin` is where `out`
    stands. Returns how many bytes there were. The hashers of a large file work in threads of their own.
    """
    done = begun = 0
    large = size >= WORTH_THREADS
    buffers = cycle((buffer, memoryview(bytearray(len(buffer)))) if large else (buffer,))
    with _fed_aside(hashers) if large else nullcontext(partial(_feed, hashers)) as feed:
        while count := read(data := next(buffers)[: size - done]):
            feed(data := data[:count])
            if out is not None:
                write_all(out, data)
            done += count
            if not go_on(count):
                break
            if out is not None and done - begun >= WRITEBACK:
                begin_writeback(out, begin + begun, done - begun)
                begun = done
    return done


def _feed(hashers: Sequence[Hasher], data: memoryview) -> None:
    for hasher in hashers:
        hasher.update(data)


@contextmanager
def _fed_aside(hashers: Sequence[Hasher]) -> Iterator[Callable[[memoryview], None]]:
    """What feeds each hasher in its own thread, while the caller writes those bytes and reads the next.

    Once it has been called with a buffer, the one before is free again; at the end everything is hashed.
    """
    pending: list[Future[None]] = []
    with ThreadPoolExecutor(max(1, len(hashers)), "hashing") as threads:

        def feed(data: memoryview) -> None:
            for future in pending:
                future.result()
            pending[:] = [threads.submit(hasher.update, data) for hasher in hashers]

        yield feed
        for future in pending:
            future.result()


def begin_writeback(descriptor: int, begin: int, length: int) -> None:
    """Linux writes dirty pages on this advice, without waiting; `length` 0 means up to the end."""
    try:
        os.posix_fadvise(descriptor, begin, length, os.POSIX_FADV_DONTNEED)
    except OSError as error:
        if error.errno != errno.ESPIPE:  # a pipe has no pages to write
            raise


def write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def fsync_directory(path: Path) -> None:
    """Make renames and links in `path` durable (POSIX leaves a directory's entries to its own fsync)."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_durably(path: Path, data: bytes, *, mode: int = FILE_MODE) -> None:
    """Replace a small file whole or not at all: temporary beside it, fsync, rename. Raises HostError."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with host_errors(path):
        try:
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, mode)
            with open(descriptor, "wb") as stream:
                os.fchmod(descriptor, mode)  # whatever the umask
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
            os.replace(temporary, path)
            fsync_directory(path.parent)
        finally:
            temporary.unlink(missing_ok=True)
