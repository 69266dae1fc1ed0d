"""A model in a local directory: which files it is, and their sha256."""

import hashlib
import os
import stat
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from airgap.errors import InputError, SourceError
from airgap.model import BundlePath, Sha256, bundle_path, path_collisions
from airgap.progress import Progress
from airgap.store import CHUNK, Blob

HASHERS = 4
"""Threads: hashing releases the interpreter, and one core cannot keep up with one NVMe drive."""


@dataclass(frozen=True, slots=True)
class LocalFile:
    """One file of the directory: its path in the model, where its bytes are, how many they were."""

    path: BundlePath
    source: Path
    size: int


def walk(root: Path) -> list[LocalFile]:
    """Every regular file below `root`, sorted by path.

    A symlink counts as the file it names when that lies below `root`, or, in a snapshot of a hub
    cache, among the cache's blobs. Raises SourceError when `root` cannot be read, InputError when it
    is no directory, or naming every link that leads elsewhere, special file and unsafe name.
    """
    if not root.is_dir():
        found = "a file" if root.exists() else "nothing"
        raise InputError(
            f"{root}: expected the directory of a model, found {found}",
            remedy="correct the model's path; it is relative to the manifest",
        )
    inside = _trees(root.resolve())
    files, problems = [], []
    for entry in _entries(root):
        name = entry.relative_to(root).as_posix()
        try:
            files.append(_judge(entry, bundle_path(name), inside))
        except InputError as error:
            problems.append(error.message)
    problems += path_collisions(file.path for file in files)
    if problems:
        raise InputError(
            f"{root}: {len(problems)} entries cannot travel",
            problems=problems,
            remedy="copy the model's own files into a directory of their own",
        )
    return sorted(files, key=lambda file: file.path)


def hash_all(files: Sequence[LocalFile], progress: Progress) -> list[Blob]:
    """The sha256 and size of each file, in order; progress advances. Raises SourceError."""
    stop = threading.Event()

    def one(file: LocalFile) -> Blob:
        return _hash(file.source, progress, stop)

    with ThreadPoolExecutor(HASHERS) as pool:
        try:
            return list(pool.map(one, files))
        finally:
            # On an error or Ctrl-C the pool is joined: let its threads leave large files at once.
            stop.set()


def is_hidden(path: str) -> bool:
    """Whether any component begins with a dot, as `.git` and `.cache` do."""
    return any(part.startswith(".") for part in PurePosixPath(path).parts)


def _trees(root: Path) -> tuple[Path, ...]:
    """Where a link may lead: the directory, and the blobs of the hub cache it is a snapshot in."""
    blobs = root.parent.parent / "blobs"
    return (root, blobs) if root.parent.name == "snapshots" and blobs.is_dir() else (root,)


def _entries(root: Path) -> Iterator[Path]:
    def fail(error: OSError) -> None:
        raise SourceError(f"{error.filename}: cannot be read: {error.strerror}")

    for directory, subdirectories, names in os.walk(root, onerror=fail):
        # A link to a directory is listed among the directories, and never walked into.
        links = [name for name in subdirectories if os.path.islink(os.path.join(directory, name))]
        yield from (Path(directory, name) for name in (*names, *links))


def _judge(entry: Path, path: BundlePath, inside: tuple[Path, ...]) -> LocalFile:
    found = os.lstat(entry)
    source = entry
    if stat.S_ISLNK(found.st_mode):
        source = entry.parent / os.readlink(entry)
        real = Path(os.path.realpath(source))  # Path.resolve raises RuntimeError at a loop
        if not any(real.is_relative_to(tree) for tree in inside):
            raise InputError(f"{path!r} is a link that leads out of the directory, to {str(source)!r}")
        try:
            found = os.lstat(source)
        except OSError:
            raise InputError(f"{path!r} is a link to {str(source)!r}, which is not there") from None
    if not stat.S_ISREG(found.st_mode):
        raise InputError(f"{path!r} is {_kind(found.st_mode)}; expected a regular file")
    return LocalFile(path, source, found.st_size)


def _kind(mode: int) -> str:
    kinds = {
        stat.S_IFLNK: "a link to a link",
        stat.S_IFDIR: "a link to a directory",
        stat.S_IFIFO: "a FIFO",
        stat.S_IFSOCK: "a socket",
        stat.S_IFBLK: "a device",
        stat.S_IFCHR: "a device",
    }
    return kinds.get(stat.S_IFMT(mode), "no regular file")


def _hash(path: Path, progress: Progress, stop: threading.Event) -> Blob:
    hasher, size = hashlib.sha256(), 0
    try:
        with open(path, "rb", buffering=0) as stream:
            while not stop.is_set() and (chunk := stream.read(CHUNK)):
                hasher.update(chunk)
                size += len(chunk)
                progress.advance(len(chunk))
    except OSError as error:
        raise SourceError(f"{path}: cannot be read: {error.strerror}") from None
    return Blob(Sha256(hasher.hexdigest()), size)
