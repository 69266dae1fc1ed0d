"""Blobs from media into a site: each byte read once, hashed on the way, named only when it is durable.

The signed sha384 decides. The sha256 is checked too, at little cost: later bundles take a blob that is
here by its name, so no name may ever be wrong, not even in a statement that was signed.
"""

import hashlib
import os
import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from airgap.errors import IntegrityError
from airgap.isolated.site import Site
from airgap.layout import blob_path
from airgap.media import Media
from airgap.model import Finding, Sha256
from airgap.progress import Progress
from airgap.store import CHUNK, FILE_MODE, fsync_directory, host_errors
from airgap.trust.statement import StatedBlob
from airgap.verify import changed, misnamed, unreadable
from airgap.workers import spread

JOBS = 2
"""Threads: one hashes while the other waits for the disk; more only make a spinning medium seek."""


def copy_blobs(
    media: Media, site: Site, blobs: Mapping[Sha256, StatedBlob], progress: Progress
) -> list[Finding]:
    """Bring `blobs` into the site; one finding for each that is not the signed bytes, and is not kept.

    Every good blob stays, so a repeated run copies only the rest. Raises HostError.
    """
    largest_first = sorted(blobs.items(), key=lambda item: (-item[1].size, item[0]))
    with site.stage() as staging, progress.task("installing", sum(b.size for b in blobs.values())):
        copier = _Copier(media, site, staging, progress)
        findings = [finding for finding in spread(copier.copy, largest_first, JOBS) if finding]
        with host_errors(site.blobs):
            fsync_directory(site.blobs)
    return findings


def discard_damaged(site: Site, digests: Iterable[Sha256], progress: Progress) -> None:
    """Remove those of the site's blobs that are not the bytes they are named for. Raises HostError."""
    held = {digest: site.store.path(digest) for digest in digests if site.store.holds(digest)}

    def check(path: Path, stop: threading.Event) -> None:
        hasher = hashlib.sha256()
        buffer = memoryview(bytearray(CHUNK))
        with host_errors(path), open(path, "rb", buffering=0) as stream:
            while count := stream.readinto(buffer):
                if stop.is_set():
                    return
                hasher.update(buffer[:count])
                progress.advance(count)
            if hasher.hexdigest() != path.name:
                path.unlink()

    with progress.task("checking the site", sum(path.stat().st_size for path in held.values())):
        spread(check, held.values(), JOBS)


def keep(site: Site, documents: Mapping[Sha256, bytes]) -> None:
    """Store small documents whose bytes were verified in memory. Raises HostError."""
    with site.stage() as staging:
        for digest, data in documents.items():
            if site.store.holds(digest, len(data)):
                continue
            with host_errors(staging), open(staging / digest, "xb", buffering=0) as out:
                _write_all(out.fileno(), memoryview(data))
                _publish(out.fileno(), staging / digest, site.store.path(digest))
        with host_errors(site.blobs):
            fsync_directory(site.blobs)


@dataclass(frozen=True, slots=True)
class _Copier:
    """One run's copying; `copy` is called from several threads, a blob in each."""

    media: Media
    site: Site
    staging: Path
    progress: Progress

    def copy(self, blob: tuple[Sha256, StatedBlob], stop: threading.Event) -> Finding | None:
        digest, stated = blob
        path, temporary = blob_path(digest), self.staging / digest
        sha256, sha384 = hashlib.sha256(), hashlib.sha384()
        buffer = memoryview(bytearray(min(CHUNK, stated.size + 1)))
        size = 0
        try:
            with (
                self.media.open(path) as readinto,
                host_errors(temporary),
                open(temporary, "xb", buffering=0) as out,
            ):
                # One byte beyond the signed size is asked for: an oversized file is seen, and no more read.
                while count := readinto(buffer[: stated.size + 1 - size]):
                    if stop.is_set():
                        return None
                    size += count
                    sha256.update(buffer[:count])
                    sha384.update(buffer[:count])
                    _write_all(out.fileno(), buffer[:count])
                    self.progress.advance(count)
                if (size, sha384.hexdigest()) != (stated.size, stated.sha384):
                    temporary.unlink()
                    return changed(path, stated, size, sha384.hexdigest())
                if sha256.hexdigest() != digest:
                    temporary.unlink()
                    return misnamed(path, sha256.hexdigest())
                _publish(out.fileno(), temporary, self.site.store.path(digest))
        except IntegrityError as error:
            return unreadable(path, error)
        return None


def _write_all(descriptor: int, data: memoryview) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _publish(descriptor: int, temporary: Path, final: Path) -> None:
    os.fchmod(descriptor, FILE_MODE)
    os.fsync(descriptor)
    os.rename(temporary, final)
