"""Blobs from media into a site: each byte read once, hashed on the way, named only when it is durable.

The signed sha384 decides. A blob that is here already is taken by its name only when a generation's
statement vouches for the same sha384 under it; any other is hashed first (`discard_damaged`).
"""

import hashlib
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TypeVar

from airgap.errors import IntegrityError
from airgap.isolated.site import Site
from airgap.layout import blob_path
from airgap.media import Media
from airgap.model import Finding, Sha256
from airgap.progress import Progress
from airgap.store import FILE_MODE, begin_writeback, fsync_directory, host_errors, pour, write_all
from airgap.trust.blobs import StatedBlob
from airgap.verify import changed, unreadable
from airgap.workers import cores, spread

JOBS = min(4, max(2, cores()))
"""Threads: some hash while others wait for the disk; more gain nothing."""

CHUNK = 256 * 1024
"""Bytes per read: what was just read is still in the CPU's second-level cache when it is hashed."""

BATCH_FILES = 256
BATCH_BYTES = 256 * 1024 * 1024
"""A batch is written whole before its first fsync, so that the disk settles it in few journal commits."""

Read = Callable[[memoryview], int]
"""Fills a buffer, and returns how many bytes it got: 0 at the end."""

Open = Callable[[], AbstractContextManager[Read]]

Item = TypeVar("Item")

Job = tuple[Sha256, StatedBlob]


def copy_blobs(
    media: Media, site: Site, blobs: Mapping[Sha256, StatedBlob], progress: Progress
) -> list[Finding]:
    """Bring `blobs` into the site; one finding for each that is not the signed bytes, and is not kept.

    Every good blob stays, so a repeated run copies only the rest. Raises HostError.
    """
    largest_first = sorted(blobs.items(), key=lambda item: (-item[1].size, item[0]))
    findings: list[Finding] = []
    with site.stage() as staging, progress.task("installing", sum(b.size for b in blobs.values())):
        copier = Copier(site.blobs, staging, progress)
        jobs = min(JOBS, media.readers)

        def copy(job: Job, stop: threading.Event) -> Finding | None:
            return copier.copy_blob(media, *job, stop)

        for batch in batches(largest_first, lambda job: job[1].size):
            try:
                findings += (finding for finding in spread(copy, batch, jobs) if finding)
            finally:  # also when the media fail: a repeated run copies only the rest
                copier.publish()
    return findings


def discard_damaged(site: Site, blobs: Mapping[Sha256, StatedBlob], progress: Progress) -> set[Sha256]:
    """Remove those of `blobs` that the site holds and that are not the stated bytes; returns them.

    Raises HostError.
    """
    held = [(digest, stated) for digest, stated in blobs.items() if site.store.holds(digest)]

    def check(job: Job, stop: threading.Event) -> Sha256 | None:
        digest, stated = job
        path = site.store.path(digest)
        hasher = hashlib.sha384()
        buffer = memoryview(bytearray(CHUNK))
        with host_errors(path), open(path, "rb", buffering=0) as stream:
            while count := stream.readinto(buffer):
                if stop.is_set():
                    return None
                hasher.update(buffer[:count])
                progress.advance(count)
            if hasher.hexdigest() != stated.sha384:
                path.unlink()
                return digest
        return None

    with progress.task("checking the site", sum(stated.size for _, stated in held)):
        return {digest for digest in spread(check, held, JOBS) if digest}


def keep(site: Site, documents: Mapping[Sha256, bytes]) -> None:
    """Store small documents whose bytes were verified in memory. Raises HostError."""
    with site.stage() as staging:
        for digest, data in documents.items():
            if _holds_exactly(site, digest, data):
                continue
            with host_errors(staging), open(staging / digest, "xb", buffering=0) as out:
                write_all(out.fileno(), memoryview(data))
                os.fchmod(out.fileno(), FILE_MODE)
                os.fsync(out.fileno())
                os.rename(staging / digest, site.store.path(digest))
        with host_errors(site.blobs):
            fsync_directory(site.blobs)


def _holds_exactly(site: Site, digest: Sha256, data: bytes) -> bool:
    try:
        return site.store.read(digest, max_bytes=len(data)) == data
    except IntegrityError:
        return False


def batches(jobs: Sequence[Item], size_of: Callable[[Item], int]) -> Iterator[list[Item]]:
    """So few that they are soon durable, so many that this costs little."""
    batch: list[Item] = []
    size = 0
    for job in jobs:
        batch.append(job)
        size += size_of(job)
        if len(batch) == BATCH_FILES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class Copier:
    """Blobs on their way into the directory `blobs`; several threads call `copy`, for a blob each."""

    blobs: Path
    staging: Path
    progress: Progress
    whole: list[Sha256] = field(default_factory=list)
    """Blobs in staging that are hashed and not durable yet."""
    own: threading.local = field(default_factory=threading.local)
    """Each thread's buffer: a fresh one for every small file would cost more than reading it."""

    def copy_blob(
        self, media: Media, digest: Sha256, stated: StatedBlob, stop: threading.Event
    ) -> Finding | None:
        """`copy` of a blob where a bundle has it."""
        path = blob_path(digest)
        return self.copy(path, digest, stated, partial(media.open, path), stop)

    def copy(
        self, path: str, digest: Sha256, stated: StatedBlob, opened: Open, stop: threading.Event
    ) -> Finding | None:
        """Write a blob into staging, hashing it; nothing is left there of one that is not as signed."""
        temporary = self.staging / digest
        with host_errors(temporary), open(temporary, "xb", buffering=0) as out:
            finding = self.pour(path, stated, opened, stop, out=out.fileno())
            if finding is None and not stop.is_set():
                os.fchmod(out.fileno(), FILE_MODE)
                self.whole.append(digest)
                return None
            temporary.unlink()
        return finding

    def pour(
        self, path: str, stated: StatedBlob, opened: Open, stop: threading.Event, *, out: int, begin: int = 0
    ) -> Finding | None:
        """Write a file into `out`, which stands at `begin`, hashing it; None if it is the stated bytes.

        One byte beyond the stated size is asked for: an oversized file is seen, and no more of it read.
        """
        hasher = hashlib.sha384()
        buffer = self._buffer()

        def go_on(count: int) -> bool:
            self.progress.advance(count)
            return not stop.is_set()

        try:
            with opened() as read:
                size = pour(read, stated.size, buffer, hashers=[hasher], out=out, go_on=go_on, begin=begin)
                if stop.is_set():
                    return None
                size += read(buffer[:1])
        except IntegrityError as error:
            return unreadable(path, error)
        if (size, hasher.hexdigest()) != (stated.size, stated.sha384):
            return changed(path, stated, size, hasher.hexdigest())
        begin_writeback(out, begin, stated.size)
        return None

    def publish(self) -> None:
        """Make the whole blobs durable, then give them their names, which are durable afterwards too."""
        spread(self._settle, self.whole, JOBS)
        with host_errors(self.staging):
            for digest in self.whole:
                os.rename(self.staging / digest, self.blobs / digest)
            if self.whole:
                fsync_directory(self.blobs)
        self.whole.clear()

    def _settle(self, digest: Sha256, stop: threading.Event) -> None:
        temporary = self.staging / digest
        with host_errors(temporary):
            descriptor = os.open(temporary, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def _buffer(self) -> memoryview:
        if not hasattr(self.own, "buffer"):
            self.own.buffer = memoryview(bytearray(CHUNK))
        found: memoryview = self.own.buffer
        return found
