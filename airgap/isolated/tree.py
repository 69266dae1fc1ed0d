"""Looking at a directory without following anything in it, and writing one durably."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path, PurePosixPath

from airgap.isolated.entries import Entry, Link
from airgap.isolated.site import DIRECTORY_MODE
from airgap.model import Sha256
from airgap.store import FILE_MODE, fsync_directory, host_errors

Inode = tuple[int, int]
"""Device and number: what two hard links have in common."""


def walk(top: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Everything below `top`, by its path relative to it; nothing is followed. Raises HostError."""
    pending = [""]
    while pending:
        directory = pending.pop()
        with host_errors(top / directory), os.scandir(top / directory) as found:
            for item in found:
                name = f"{directory}/{item.name}" if directory else item.name
                status = item.stat(follow_symlinks=False)
                if stat.S_ISDIR(status.st_mode):
                    pending.append(name)
                yield name, status


def look(path: Path) -> os.stat_result | None:
    """What lies there, a link as itself; None for nothing. Raises HostError."""
    with host_errors(path):
        try:
            return os.lstat(path)
        except FileNotFoundError:
            return None


def inode(found: os.stat_result) -> Inode:
    return found.st_dev, found.st_ino


def tree_directories(paths: Iterable[str]) -> list[PurePosixPath]:
    """Every directory that files of these paths need, parents before children; '.' is the top itself."""
    found = {PurePosixPath(".")}
    for directory in {path.rpartition("/")[0] for path in paths}:
        found.update((PurePosixPath(directory), *PurePosixPath(directory).parents))
    return sorted(found, key=lambda path: (len(path.parts), path))


def write_tree(top: Path, entries: Iterable[Entry], link: Callable[[Sha256, Path], None]) -> None:
    """Make the directory `top` of these entries, durably but for its own name. Raises HostError.

    `link` brings a blob to a path, durable already.
    """
    written = list(entries)
    directories = [top / parent for parent in tree_directories(entry.path for entry in written)]
    with host_errors(top):
        for directory in directories:
            directory.mkdir()
            directory.chmod(DIRECTORY_MODE)
        for entry in written:
            if isinstance(entry, Link):
                link(entry.sha256, top / entry.path)
            else:
                _write(top / entry.path, entry.data)
        for directory in reversed(directories):
            fsync_directory(directory)


def _write(path: Path, data: bytes) -> None:
    with open(path, "xb") as stream:
        os.fchmod(stream.fileno(), FILE_MODE)
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
