"""Blobs from media into a site: each byte read once, hashed on the way, named only when it is durable.

The signed sha384 decides. A blob that is here already is taken by its name only when a generation's
statement vouches for the same sha384 under it; any other is hashed first (`discard_damaged`).
"""

import hashlib
import os
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from airgap.errors import IntegrityError
from airgap.isolated.site import Site
from airgap.layout import blob_path
from airgap.media import Media
from airgap.model import Finding, Sha256
from airgap.progress import Progress
from airgap.store import FILE_MODE, fsync_directory, host_errors
from airgap.trust.statement import StatedBlob
from airgap.verify import changed, unreadable
from airgap.workers import spread

JOBS = 2
"""Threads: one hashes while the other waits for the disk; more only make a spinning medium seek."""

CHUNK = 256 * 1024
"""Bytes per read: what was just read is still in the CPU's second-level cache when it is hashed."""

BATCH_FILES = 256
BATCH_BYTES = 256 * 1024 * 1024
"""A batch is written whole before its first fsync, so that the disk settles it in few journal commits."""

WRITEBACK = 32 * 1024 * 1024
"""Bytes after which the kernel is told to begin writing, so that an fsync finds little left to wait for."""

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
        copier = Copier(media, site, staging, progress)
        for batch in _batches(largest_first):
            try:
                findings += (finding for finding in spread(copier.copy, batch, JOBS) if finding)
            finally:  # also when the media fail: a repeated run copies only the rest
                copier.publish()
        with host_errors(site.blobs):
            fsync_directory(site.blobs)
    return findings


def discard_damaged(site: Site, blobs: Mapping[Sha256, StatedBlob], progress: Progress) -> None:
    """Remove those of `blobs` that the site holds and that are not the stated bytes. Raises HostError."""
    held = [(digest, stated) for digest, stated in blobs.items() if site.store.holds(digest)]

    def check(job: Job, stop: threading.Event) -> None:
        digest, stated = job
        path = site.store.path(digest)
        hasher = hashlib.sha384()
        buffer = memoryview(bytearray(CHUNK))
        with host_errors(path), open(path, "rb", buffering=0) as stream:
            while count := stream.readinto(buffer):
                if stop.is_set():
                    return
                hasher.update(buffer[:count])
                progress.advance(count)
            if hasher.hexdigest() != stated.sha384:
                path.unlink()

    with progress.task("checking the site", sum(stated.size for _, stated in held)):
        spread(check, held, JOBS)


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


def _batches(jobs: Sequence[Job]) -> Iterator[list[Job]]:
    batch: list[Job] = []
    size = 0
    for job in jobs:
        batch.append(job)
        size += job[1].size
        if len(batch) == BATCH_FILES or size >= BATCH_BYTES:
            yield batch
            batch, size = [], 0
    if batch:
        yield batch


@dataclass(frozen=True, slots=True)
class Copier:
    """One run's copying into `staging`; `copy` is called from several threads, a blob in each."""

    media: Media
    site: Site
    staging: Path
    progress: Progress
    whole: list[Sha256] = field(default_factory=list)
    """Blobs in staging that are hashed and not durable yet."""
    own: threading.local = field(default_factory=threading.local)
    """Each thread's buffer: a fresh one for every small file would cost more than reading it."""

    def copy(self, blob: Job, stop: threading.Event) -> Finding | None:
        """Write a blob into staging, hashing it; nothing is left there of one that is not as signed."""
        digest, stated = blob
        path, temporary = blob_path(digest), self.staging / digest
        hasher = hashlib.sha384()
        size = 0
        try:
            with (
                self.media.open(path) as readinto,
                host_errors(temporary),
                open(temporary, "xb", buffering=0) as out,
            ):
                buffer, begun = self._buffer(), 0
                # One byte beyond the signed size is asked for: an oversized file is seen, and no more read.
                while count := readinto(buffer[: stated.size + 1 - size]):
                    if stop.is_set():
                        return None
                    size += count
                    hasher.update(buffer[:count])
                    write_all(out.fileno(), buffer[:count])
                    self.progress.advance(count)
                    if size - begun >= WRITEBACK:
                        _begin_writeback(out.fileno(), begun, size - begun)
                        begun = size
                if (size, hasher.hexdigest()) != (stated.size, stated.sha384):
                    temporary.unlink()
                    return changed(path, stated, size, hasher.hexdigest())
                os.fchmod(out.fileno(), FILE_MODE)
                _begin_writeback(out.fileno(), begun, 0)
            self.whole.append(digest)
        except IntegrityError as error:
            return unreadable(path, error)
        return None

    def publish(self) -> None:
        """Make the whole blobs durable, then give them their names."""
        spread(self._settle, self.whole, JOBS)
        with host_errors(self.staging):
            for digest in self.whole:
                os.rename(self.staging / digest, self.site.store.path(digest))
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


def _begin_writeback(descriptor: int, begin: int, length: int) -> None:
    """Linux writes dirty pages on this advice, without waiting; `length` 0 means up to the end."""
    os.posix_fadvise(descriptor, begin, length, os.POSIX_FADV_DONTNEED)


def write_all(descriptor: int, data: memoryview) -> None:
    """A write may take less than it is given."""
    while data:
        data = data[os.write(descriptor, data) :]
