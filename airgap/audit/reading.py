"""Every blob of a bundle, read once: hashed against what was signed, and looked into on the way.

What was seen is believed only once the digest is known to be the signed one; what was seen of other bytes
is thrown away, and the difference is the finding.
"""

import hashlib
import threading
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

from airgap.audit import findings, licences, secrets
from airgap.audit.look import Contents, Looker, Role
from airgap.audit.processes import Workers, possible
from airgap.audit.streams import Forward, Peeking, Seeking
from airgap.audit.turns import Turns
from airgap.audit.types import HEAD, PICKLE_NAMES, recognised
from airgap.audit.wheel_seen import kept_of_wheel, read_seen
from airgap.errors import InputError, IntegrityError
from airgap.layout import blob_path
from airgap.model import Finding, Sha256
from airgap.progress import Progress
from airgap.readers.safetensors import PREFIX, header_end
from airgap.readers.zip import Archive
from airgap.trust.blobs import StatedBlob
from airgap.verify import HASH_CHUNK, changed, unreadable
from airgap.workers import run_all


class BlobSource(Protocol):
    """Where blobs are read from, by their paths in a bundle: one medium, or several together."""

    @property
    def readers(self) -> int:
        """As `Media.readers`."""

    def open(self, path: str) -> AbstractContextManager[Callable[[memoryview], int]]:
        """As `Media.open`."""

    def open_at(self, path: str) -> AbstractContextManager[Callable[[int, int], bytes]]:
        """As `Media.open_at`."""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A blob, what it was declared to be, and the paths that it has in its artifacts, at least one.

    `keep` is how many bytes of it are kept whole, if it has no more.
    """

    digest: Sha256
    stated: StatedBlob
    role: Role
    names: tuple[str, ...]
    keep: int = 0

    @property
    def name(self) -> str:
        """The first that a loader would unpickle, if any, else the first."""
        return next((name for name in self.names if name.lower().endswith(PICKLE_NAMES)), self.names[0])


@dataclass(frozen=True, slots=True)
class Reading:
    """What was seen of each blob that is as signed, what is wrong with the others, and the bytes read."""

    contents: Mapping[Sha256, Contents]
    findings: tuple[Finding, ...]
    read: int


@dataclass(frozen=True, slots=True)
class Seen:
    """What was seen of one blob, and `count` bytes read of it; only `finding` where it is not as signed."""

    digest: Sha256
    contents: Contents | None
    finding: Finding | None
    count: int


def read_blobs(
    media: BlobSource, wanted: list[Wanted], progress: Progress, jobs: int | None = None
) -> Reading:
    """Read `jobs` of them at once (default: one per CPU). Raises HostError when the media cannot be read."""
    jobs = jobs or media.readers
    stop = threading.Event()
    workers = Workers(_apart, media, stop) if _worth_processes(wanted, jobs) else None
    turns = _turns(wanted, jobs if workers else max(1, jobs // 2))

    def look() -> Seen:
        with turns.next() as one:
            seen = workers.ask(one, progress) if workers and _is_packed(one) else None
            return seen or _look(media, one, progress, stop)

    with progress.task("auditing", sum(one.stated.size for one in wanted)), workers or nullcontext():
        seen = run_all([*[look] * len(wanted), *_rules(wanted)], jobs, stop, grace=None)
    blobs = sorted(filter(None, seen), key=lambda one: one.digest)
    return Reading(
        {seen.digest: seen.contents for seen in blobs if seen.contents},
        tuple(seen.finding for seen in blobs if seen.finding),
        sum(seen.count for seen in blobs),
    )


WORTH_PROCESSES = 128 * 1024 * 1024
"""Packed bytes; with fewer, threads are done before processes have started."""

_PACKED_NAMES = (".zip", ".whl", ".tar", ".tgz", ".gz", ".xz", ".bz2", ".zst", ".npz")


def _is_packed(one: Wanted) -> bool:
    """By what it is called alone: what is not, is looked into all the same, only later."""
    return one.role in (Role.WHEEL, Role.LAYER) or one.name.lower().endswith(_PACKED_NAMES)


def _worth_processes(wanted: list[Wanted], jobs: int) -> bool:
    """Threads unpack one at a time, but for what C does of it, and that feeds two cores."""
    packed = [one.stated.size for one in wanted if _is_packed(one)]
    return jobs > 2 and len(packed) > 1 and sum(packed) >= WORTH_PROCESSES and possible()


def _rules(wanted: Iterable[Wanted]) -> list[Callable[[], None]]:
    """What loads the rules that the conclusion goes by: for a thread that has no blob left to read."""
    roles = {one.role for one in wanted}
    named = [licences.load] if roles & {Role.WHEEL, Role.MODEL, Role.LAYER} else []
    return [*named, secrets.load] if roles & {Role.MODEL, Role.FILE, Role.LAYER} else named


def _turns(wanted: Iterable[Wanted], packed_at_once: int) -> Turns[Wanted]:
    """The largest first, so that no thread is left alone with it in the end."""
    by_size = sorted(wanted, key=lambda one: -one.stated.size)
    packed = [one for one in by_size if _is_packed(one)]
    return Turns(packed, [one for one in by_size if not _is_packed(one)], packed_at_once)


_own = threading.local()


def _look(media: BlobSource, one: Wanted, progress: Progress, stop: threading.Event) -> Seen:
    if not hasattr(_own, "buffer"):  # a fresh one for every small file costs page faults
        _own.buffer = memoryview(bytearray(HASH_CHUNK))
    blob = _Blob(one, progress, stop)
    blob.read(media, _own.buffer)
    return Seen(one.digest, None if blob.finding else blob.contents, blob.finding, blob.count)


def _apart(media: BlobSource, one: Wanted, progress: Progress) -> Seen:
    """In a process of its own, which is killed when it is to stop."""
    return _look(media, one, progress, threading.Event())


class _StopError(InputError):
    """Another thread has failed: what is left to read does not matter."""


class _Blob:
    """One blob while it is read."""

    def __init__(self, wanted: Wanted, progress: Progress, stop: threading.Event) -> None:
        self.wanted = wanted
        self.contents = Contents(wanted.role)
        self.finding: Finding | None = None
        self.count = 0
        self._hasher = hashlib.sha384()
        self._progress = progress
        self._stop = stop

    def read(self, media: BlobSource, buffer: memoryview) -> None:
        path, stated = str(blob_path(self.wanted.digest)), self.wanted.stated
        try:
            with media.open(path) as readinto:
                left = stated.size + 1

                def capped(into: memoryview) -> int:
                    nonlocal left
                    got = readinto(into[:left])
                    left -= got
                    return got

                forward = Forward(capped, self._see, buffer)
                stream = Peeking(forward, lambda data: None)
                kind = recognised(stream.peek, stated.size, self.wanted.name)
                if kind == "zip" and self.wanted.role is not Role.LAYER:
                    self._zip(media, path, stream.peek(HEAD))
                else:
                    self._forward(stream, forward, kind)
        except _StopError:
            return
        except IntegrityError as error:
            self.finding = unreadable(path, error)
            return
        if (self.count, self._hasher.hexdigest()) != (stated.size, stated.sha384):
            self.finding = changed(path, stated, self.count, self._hasher.hexdigest())

    def _forward(self, stream: Peeking, forward: Forward, kind: str) -> None:
        """What is read from its start. Weights are hashed at the speed of hashing: their header is enough."""
        looker = self._looker(kind, lambda path, depth: 0 if depth else self.wanted.keep)
        if kind == "safetensors":
            self._header(stream, looker)
        else:
            looker.forward(stream, kind, self.wanted.stated.size)
        forward.drain()
        self.contents = looker.seen

    def _header(self, stream: Peeking, looker: Looker) -> None:
        try:
            end = header_end(stream.peek(PREFIX), self.wanted.stated.size, self.wanted.name)
        except InputError as error:
            looker.seen.notice(findings.MALFORMED, "", error.message.removeprefix(f"{self.wanted.name}: "))
            return
        looker.seen.kept[""] = stream.peek(end)

    def _zip(self, media: BlobSource, path: str, head: bytes) -> None:
        """An archive's directory is at its end; `head` has been hashed already."""
        is_wheel = self.wanted.role is Role.WHEEL
        looker = self._looker("zip", kept_of_wheel if is_wheel else lambda path, depth: 0)
        self._progress.advance(-self.count)
        self._hasher, self.count = hashlib.sha384(), 0
        size, name = self.wanted.stated.size, self.wanted.name
        with media.open_at(path) as read_at:
            source = Seeking(read_at, size, self._see, name, head)
            try:
                archive = Archive(source, name)
                if is_wheel:
                    looker.seen.wheel = read_seen(archive, name)
                source.begin()
                looker.archive(archive)
            except (InputError, IntegrityError) as error:
                self._raise_if_stopped(error)
                looker.seen.notice(findings.MALFORMED, "", error.message.removeprefix(f"{name}: "))
            try:
                source.finish()
            except InputError as error:  # shorter than it should be: its digest says so
                self._raise_if_stopped(error)
            self._see(read_at(size, 1))
        self.contents = looker.seen

    def _looker(self, kind: str, keep: Callable[[str, int], int]) -> Looker:
        looker = Looker(self.wanted.role, self.wanted.name, self.wanted.stated.size, keep)
        looker.seen.type = kind
        return looker

    def _raise_if_stopped(self, error: InputError | IntegrityError) -> None:
        if isinstance(error, _StopError):
            raise error

    def _see(self, data: bytes | memoryview) -> None:
        self._hasher.update(data)
        self.count += len(data)
        self._progress.advance(len(data))
        if self._stop.is_set():
            raise _StopError("stopped")
