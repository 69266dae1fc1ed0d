"""A bundle directory on media that nobody trusts yet: names listed, bytes read, nothing followed.

Whoever wrote the media chose every name and every file type on it, and may pull it out at any
moment. So: each path component is opened with O_NOFOLLOW relative to its parent (POSIX openat), only
regular files are read, with O_NONBLOCK so that a FIFO cannot hang, and no more than the signed size
plus one byte is ever read. A wrong type or size is a fact for the caller to judge; only a read that
the host cannot do (media gone, EIO, permission) is an error here.
"""

import errno
import os
import stat
import threading
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Protocol

from airgap.errors import HostError, InputError, IntegrityError
from airgap.workers import cores

KEPT_DIRECTORIES = 32
"""Directories that stay open, so that their files are opened in one step; a bundle has four."""

OPTICAL = 11
"""Major number of disc drives (Linux, devices.txt). `rotational` would not do: virtual disks say it too."""

MAX_LOOKED_AT, MAX_NAMED = 100, 4
"""Names looked at, and bundles named, where a directory turns out to be none."""

STATEMENT = "bundle.dsse.json"
"""By this file a directory is known as a bundle's, for messages; `layout` has the format."""

VOLUME_MARKS = ("volume.json", "SHA384SUMS", "parts")
"""By any of these names a directory means to be a volume; `volumes` has the format."""

LOST_AND_FOUND = "lost+found"
"""What mke2fs makes at the root of every file system."""

MEDIA_REMEDY = "put the media back or clean it, then run the same command again; finished work is kept"


class EntryType(StrEnum):
    """What lies under a name; the value is the word in messages."""

    FILE = "file"
    DIRECTORY = "directory"
    LINK = "symbolic link"
    FIFO = "FIFO"
    SOCKET = "socket"
    DEVICE = "device"


@dataclass(frozen=True, slots=True)
class Entry:
    """One name on the media; `size` in bytes, 0 unless it is a file."""

    path: str
    type: EntryType
    size: int


class NotAFileError(IntegrityError):
    """A link, FIFO, device, socket or directory lies where a regular file was promised."""


class MissingFileError(IntegrityError):
    """Nothing lies under a promised name."""


class Readable(Protocol):
    """Whatever small files of a bundle can be read from."""

    def read(self, path: str, *, max_bytes: int) -> bytes:
        """As `Media.read`."""


class Media:
    """An open bundle directory; a context manager. Safe to share between threads.

    Directories are held by descriptor from the first time they are entered: whatever is put in their
    place meanwhile, no link among it is followed. Raises InputError when `root` is not a directory,
    HostError when it cannot be opened.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self._kept: dict[str, int] = {}
        self._keeping = threading.Lock()
        try:
            self._root = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            raise InputError(
                f"{root}: expected a bundle directory, found nothing of that name",
                remedy=f"name the directory that holds {STATEMENT}; see that its medium is mounted",
            ) from None
        except NotADirectoryError:
            raise InputError(
                f"{root}: expected a bundle directory, found a file",
                remedy="an ISO image is mounted first; a tar of volumes is read by"
                f" airgap receive - --site DIR < FILE; else name the directory that holds {STATEMENT}",
            ) from None
        except OSError as error:
            raise _media_error(root, error) from error

    @classmethod
    def inherited(cls, root: Path, held: Mapping[str, int]) -> "Media":
        """What another process has open, by the descriptors that it left to this one: see `held`."""
        media = cls.__new__(cls)
        media.root = root
        media._kept = dict(held)
        media._keeping = threading.Lock()
        media._root = media._kept.pop("")
        return media

    def held(self) -> dict[str, int]:
        """The directories that are open, by their paths; the root is ''."""
        with self._keeping:
            return {"": self._root, **self._kept}

    def __enter__(self) -> "Media":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for descriptor in (self._root, *self._kept.values()):
            os.close(descriptor)

    @property
    def readers(self) -> int:
        """How many files are best read at once: one where a drive would spend its time seeking."""
        device = os.major(os.fstat(self._root).st_dev)
        return 1 if device == OPTICAL else cores()

    def entries(self, descend: Collection[str]) -> Iterator[Entry]:
        """Every name in the root and in the directories named in `descend`, which are listed themselves too.

        A directory outside `descend` is named, not entered: one name is enough to refuse it. An empty
        `lost+found`, as ext4 has it, is passed over. Raises HostError when the media cannot be read.
        """
        pending = [""]
        while pending:
            directory = pending.pop()
            for entry in self._list(directory):
                if entry.path == LOST_AND_FOUND and self._is_empty_directory(entry):
                    continue
                yield entry
                if entry.type is EntryType.DIRECTORY and entry.path in descend:
                    pending.append(entry.path)

    def names(self, directory: str, *, at_most: int) -> list[str]:
        """What lies in a directory, unsorted; none when it is not there.

        Raises IntegrityError when it is no directory or holds more, HostError when it cannot be read.
        """
        try:
            with self._directory(directory) as descriptor, os.scandir(descriptor) as found:
                names = [entry.name for entry in islice(found, at_most + 1)]
        except FileNotFoundError:
            return []
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise IntegrityError(f"{directory}: expected a directory, found something else") from None
            raise _media_error(self.root / directory, error) from error
        if len(names) > at_most:
            raise IntegrityError(f"{directory}: more than {at_most} names")
        return names

    def read(self, path: str, *, max_bytes: int) -> bytes:
        """At most `max_bytes` + 1 bytes of a regular file, so that the caller sees an oversized one.

        Raises MissingFileError, NotAFileError or HostError.
        """
        parts: list[bytes] = []
        left = max_bytes + 1
        with self.open(path) as readinto:
            buffer = bytearray(min(left, 1024 * 1024))
            while left and (count := readinto(memoryview(buffer)[:left])):
                parts.append(bytes(buffer[:count]))
                left -= count
        return b"".join(parts)

    @contextmanager
    def open(self, path: str, start: int = 0) -> "Iterator[Callable[[memoryview], int]]":
        """Open one regular file; yields a function that fills a buffer and returns the count, 0 at the end.

        It begins at byte `start`. Raises MissingFileError, NotAFileError or HostError.
        """
        descriptor = self._open_file(path)
        if start:
            os.lseek(descriptor, start, os.SEEK_SET)

        def readinto(buffer: memoryview) -> int:
            try:
                return os.readv(descriptor, [buffer])
            except OSError as error:
                raise _media_error(self.root / path, error) from error

        try:
            yield readinto
        finally:
            os.close(descriptor)

    @contextmanager
    def open_at(self, path: str) -> "Iterator[Callable[[int, int], bytes]]":
        """Open one regular file; yields a function from offset and count to these bytes, fewer at the end.

        Raises MissingFileError, NotAFileError or HostError.
        """
        whole = self.root / path
        descriptor = self._open_file(path)

        def read_at(start: int, count: int) -> bytes:
            parts: list[bytes] = []
            try:
                while count and (data := os.pread(descriptor, count, start)):
                    parts.append(data)
                    start, count = start + len(data), count - len(data)
            except OSError as error:
                raise _media_error(whole, error) from error
            return b"".join(parts)

        try:
            yield read_at
        finally:
            os.close(descriptor)

    def _open_file(self, path: str) -> int:
        directory, _, name = path.rpartition("/")
        try:
            with self._directory(directory) as parent:
                # A device is refused before it is opened: opening some of them already acts.
                _require_file(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode, path)
                flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
                descriptor = os.open(name, flags, dir_fd=parent)
        except FileNotFoundError:
            raise MissingFileError(f"{path}: missing") from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
                raise NotAFileError(f"{path}: not a regular file") from None
            raise _media_error(self.root / path, error) from error
        try:
            _require_file(os.fstat(descriptor).st_mode, path)
        except NotAFileError:
            os.close(descriptor)
            raise
        return descriptor

    @contextmanager
    def _directory(self, path: str) -> Iterator[int]:
        """A descriptor of a directory below the root, no component of which is a link."""
        kept = self._kept.get(path) if path else self._root
        if kept is not None:
            yield kept
            return
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        current = os.dup(self._root)
        try:
            for part in path.split("/"):
                following = os.open(part, flags, dir_fd=current)
                os.close(current)
                current = following
            with self._keeping:
                if path not in self._kept and len(self._kept) < KEPT_DIRECTORIES:
                    self._kept[path] = os.dup(current)
            yield current
        finally:
            os.close(current)

    def _is_empty_directory(self, entry: Entry) -> bool:
        """Not one that this user may not look into: what nobody has seen is not passed over."""
        if entry.type is not EntryType.DIRECTORY:
            return False
        try:
            return not self.names(entry.path, at_most=1)
        except (IntegrityError, HostError):
            return False

    def _list(self, directory: str) -> Iterator[Entry]:
        prefix = f"{directory}/" if directory else ""
        try:
            with self._directory(directory) as descriptor, os.scandir(descriptor) as found:
                for item in found:
                    status = item.stat(follow_symlinks=False)
                    kind = _entry_type(status.st_mode)
                    yield Entry(prefix + item.name, kind, status.st_size if kind is EntryType.FILE else 0)
        except OSError as error:
            raise _media_error(self.root / directory, error) from error


def shown(path: str) -> str:
    r"""A file name as text: bytes that are not UTF-8, which Python carries as lone surrogates, as `\xff`."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_volume(media: Media) -> bool:
    """Whether a directory means to be a volume rather than a whole bundle. Raises HostError."""
    return any(entry.path in VOLUME_MARKS for entry in media.entries(()))


def not_a_bundle(media: Media, *, also: str = "") -> InputError:
    """What to say where no statement lies: a medium that is not mounted and a copy that lies one directory
    deeper look alike at first. `also` names what else may be given. Raises HostError.
    """
    entries = list(islice(media.entries(()), MAX_LOOKED_AT))
    if not entries:
        return InputError(
            f"{media.root}: not a bundle: this directory is empty",
            remedy="see that the medium is in and mounted there",
        )
    directories = (entry.path for entry in entries if entry.type is EntryType.DIRECTORY)
    deeper = [str(media.root / path) for path in directories if _has_statement(media, path)]
    return InputError(
        f"{media.root}: not a bundle: it has no {STATEMENT}",
        remedy=f"name the directory that holds it: {shown(', '.join(sorted(deeper)[:MAX_NAMED]))}"
        if deeper
        else f"name the directory that holds it{also}; a bundle without it was never signed",
    )


def _has_statement(media: Media, directory: str) -> bool:
    try:
        media.read(f"{directory}/{STATEMENT}", max_bytes=0)
    except (IntegrityError, HostError):
        return False
    return True


def _require_file(mode: int, path: str) -> None:
    if not stat.S_ISREG(mode):
        raise NotAFileError(f"{path}: expected a regular file, found a {_entry_type(mode)}")


def _entry_type(mode: int) -> EntryType:
    types = {
        stat.S_IFREG: EntryType.FILE,
        stat.S_IFDIR: EntryType.DIRECTORY,
        stat.S_IFLNK: EntryType.LINK,
        stat.S_IFIFO: EntryType.FIFO,
        stat.S_IFSOCK: EntryType.SOCKET,
    }
    return types.get(stat.S_IFMT(mode), EntryType.DEVICE)


def _media_error(path: Path, error: OSError) -> HostError:
    remedy = (
        "run as a user who may read the media" if error.errno in (errno.EACCES, errno.EPERM) else MEDIA_REMEDY
    )
    return HostError(f"{path}: cannot be read: {error.strerror or error}", remedy=remedy)
