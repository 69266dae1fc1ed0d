"""What a push reads from: an installed site, or a bundle whose signatures hold. Either way, proven bytes."""

import hashlib
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Protocol

from airgap.errors import InputError, IntegrityError, MissingPartError
from airgap.isolated.generation import load_member
from airgap.isolated.site import Site
from airgap.layout import BundledArtifact, blob_path
from airgap.media import Media
from airgap.model import Sha256, Sha384
from airgap.oci import MAX_MANIFEST, Descriptor
from airgap.store import CHUNK, host_errors
from airgap.verify import Contents, Signed
from airgap.workers import Stopped

Fill = Callable[[memoryview], int]
"""Fills a buffer from a file and returns the count, 0 at the end."""


class Source(Protocol):
    """Artifacts by name, and the blobs they are made of."""

    @property
    def where(self) -> Path:
        """What errors name."""

    @property
    def artifacts(self) -> Mapping[str, BundledArtifact]: ...

    def holds(self, digest: Sha256) -> bool: ...

    def read(self, digest: Sha256) -> bytes:
        """A manifest or index, proven. Raises IntegrityError."""

    def open(self, digest: Sha256) -> AbstractContextManager[Fill]:
        """A blob, to be proven by whoever reads it. Raises IntegrityError or HostError."""

    def sha384(self, digest: Sha256) -> Sha384 | None:
        """What was signed for a blob; None where that was checked when it was installed."""


class SiteSource:
    """The current generation of a site."""

    def __init__(self, site: Site) -> None:
        """Raises InputError where nothing is installed, IntegrityError when its documents are damaged."""
        site.require_installed()
        self._site = site
        self.where = site.root
        members = [load_member(site, bundle) for bundle in site.record().bundles]
        self.artifacts = {b.artifact.name: b for member in members for b in member.artifacts}

    def holds(self, digest: Sha256) -> bool:
        return self._site.store.holds(digest)

    def read(self, digest: Sha256) -> bytes:
        return self._site.store.read(digest, max_bytes=MAX_MANIFEST)

    @contextmanager
    def open(self, digest: Sha256) -> Iterator[Fill]:
        path = self._site.store.path(digest)
        with host_errors(path), open(path, "rb", buffering=0) as stream:
            yield lambda buffer: stream.readinto(buffer) or 0

    def sha384(self, digest: Sha256) -> Sha384 | None:
        return None


class BundleSource:
    """A bundle on media, after its signatures and documents were verified (`airgap.verify`)."""

    def __init__(self, media: Media, signed: Signed, contents: Contents) -> None:
        self._media = media
        self._blobs = signed.statement.blobs
        self._travelling = signed.statement.travelling
        self._documents = contents.documents
        self.where = media.root
        self.artifacts = {bundled.artifact.name: bundled for bundled in contents.artifacts}

    def holds(self, digest: Sha256) -> bool:
        return digest in self._blobs

    def read(self, digest: Sha256) -> bytes:
        if digest in self._documents:
            return self._documents[digest]
        raise IntegrityError(f"{digest}: a manifest that the bundle's documents do not name")

    def open(self, digest: Sha256) -> AbstractContextManager[Fill]:
        if digest not in self._travelling:
            raise MissingPartError(
                f"{self.where} is a delta: blob {digest} does not travel, and the registry lacks it",
                remedy="install it, then push from the site",
            )
        return self._media.open(blob_path(digest))

    def sha384(self, digest: Sha256) -> Sha384 | None:
        return self._blobs[digest].sha384


def find_artifact(source: Source, name: str) -> BundledArtifact:
    """Raises InputError naming the artifacts there are."""
    if name not in source.artifacts:
        there = ", ".join(sorted(source.artifacts)) or "none"
        raise InputError(f"{source.where} holds no artifact {name!r}; its artifacts: {there}")
    return source.artifacts[name]


class BlobReader:
    """One blob, read in order and hashed on the way; its last chunk is given out only if all is right.

    So whoever receives a damaged blob receives less than the whole, and keeps nothing of it. A context
    manager, for one thread.
    """

    def __init__(self, source: Source, blob: Descriptor, stop: threading.Event) -> None:
        self._source = source
        self._blob = blob
        self._stop = stop
        self._signed = source.sha384(blob.digest)
        self._file = ExitStack()
        self._fill: Fill | None = None
        self._begin()

    def __enter__(self) -> "BlobReader":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

    def chunks(self, start: int, end: int) -> Iterator[bytes]:
        """The bytes from `start` to before `end`; going back reads and hashes from the beginning.

        Raises IntegrityError before the last byte of the blob when it is not what was promised, HostError
        when it cannot be read, Stopped when the work was given up.
        """
        if start < self._position:
            self._begin()
        while self._position < start:
            self._read(start)
        while self._position < end:
            yield self._read(end)

    def _begin(self) -> None:
        self._file.close()
        self._fill = None
        self._position = 0
        self._sha256, self._sha384 = hashlib.sha256(), hashlib.sha384()

    def _read(self, end: int) -> bytes:
        if self._stop.is_set():
            raise Stopped("stopped")
        if self._fill is None:
            self._fill = self._file.enter_context(self._source.open(self._blob.digest))
        buffer = bytearray(min(CHUNK, end - self._position))
        count = self._fill(memoryview(buffer))
        if not count:
            raise self._damaged(f"it ends after {self._position} bytes")
        del buffer[count:]
        self._sha256.update(buffer)
        if self._signed:
            self._sha384.update(buffer)
        self._position += count
        if self._position == self._blob.size:
            self._judge()
        return bytes(buffer)

    def _judge(self) -> None:
        signed = self._sha384.hexdigest() if self._signed else None
        if self._sha256.hexdigest() != self._blob.digest or signed != self._signed:
            raise self._damaged("its bytes are others")

    def _damaged(self, found: str) -> IntegrityError:
        name = self._source.where / blob_path(self._blob.digest)
        return IntegrityError(
            f"{name} is not the {self._blob.size} bytes that were signed: {found}",
            remedy="nothing of it was pushed: install the bundle again, or copy it again from its source",
        )
