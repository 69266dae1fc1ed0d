"""Opens the bytes that `check` reads: of a bundle or the store, local files, and by ranges the rest."""

import os
from collections.abc import Collection, Sequence
from contextlib import ExitStack
from pathlib import Path
from threading import Lock
from types import TracebackType
from typing import BinaryIO, Self
from urllib.parse import urlsplit

from requests.auth import AuthBase

from airgap.connected import containers
from airgap.connected.kept import Kept
from airgap.connected.ranges import RemoteSource, fetch_metadata
from airgap.connected.serving_code import GivenCode
from airgap.connected.source import Context
from airgap.connected.transfer import Download
from airgap.errors import InputError
from airgap.layout import blob_path
from airgap.model import ContainerArtifact, Local, LockedFile, Remote, Sha256
from airgap.readers.source import FileSource, Source
from airgap.readers.zip import Archive
from airgap.readiness.reading import ENGINES, Seen, read_metadata, read_package
from airgap.tags import normalized_name
from airgap.units import human_bytes

MISSES = 3
"""Wheels in a row of which a server has no METADATA apart; then it is not asked for more."""


IMAGE_LIMIT = 2 * 1024**3
"""Bytes of one image that are fetched to read it, unless a person says otherwise."""


class Opener:
    """Opens files where their bytes are: in the bundle, in the store, locally, else by ranges.

    A context manager; `traffic` counts what was fetched. Without a bundle the store is asked first, and
    for the blobs that are `elsewhere`: those that a delta does not carry. Of an image that is not here at
    most `image_limit` bytes are fetched, and kept in the store.
    """

    def __init__(
        self,
        context: Context,
        bundle: Path | None = None,
        elsewhere: Collection[Sha256] = (),
        *,
        image_limit: int = IMAGE_LIMIT,
        code: Sequence[GivenCode] = (),
    ) -> None:
        self.context = context
        self.code = tuple(code)
        """Code that serves on the packages, as a person named it."""
        self._image_limit = image_limit
        self._bundle = bundle
        self._elsewhere = frozenset(elsewhere)
        self._open = ExitStack()
        self._remote: list[RemoteSource] = []
        self._metadata = 0
        self._counting = Lock()
        self._kept = context.store.root / "ranges"
        self._missed: dict[str, int] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._open.close()

    @property
    def traffic(self) -> int:
        return self._metadata + sum(source.traffic for source in self._remote)

    def locked(self, file: LockedFile, auth: AuthBase | None) -> Source:
        """A file of a lock. Raises InputError or SourceError."""
        path = self.here(file)
        if path:
            return self._sized(self.local(path, file.sha256), file)
        if isinstance(file.origin, Remote):
            return self.remote(file.origin.url, auth, size=file.size, digest=file.sha256)
        raise InputError(
            f"{file.path}: is made while the bundle is built, and is not in the store",
            remedy="run: airgap build, then check the bundle",
        )

    def here(self, file: LockedFile) -> Path | None:
        """Where the bytes of a locked file lie on this host, None where nobody has fetched them."""
        if self._bundle:
            absent = file.sha256 in self._elsewhere
            return self.context.store.path(file.sha256) if absent else self._bundle / blob_path(file.sha256)
        if self.context.store.holds(file.sha256, file.size):
            return self.context.store.path(file.sha256)
        match file.origin:
            case Local(path=path, member=""):
                return self.context.directory / path
        return None

    def bring(self, artifact: ContainerArtifact, blobs: Collection[Sha256]) -> None:
        """Make blobs of an image be here: those that are not are fetched, proven, and kept for `build`.

        Raises InputError where they are more than the limit or may not be fetched, and what fetching raises.
        """
        missing = [file for file in artifact.files if file.sha256 in blobs and self.here(file) is None]
        if not missing:
            return
        if self._bundle:
            raise InputError(
                f"{artifact.name}: {len(missing)} of its blobs are not in the bundle",
                remedy="they are in the bundle it was made after: check the lock instead",
            )
        left = sum(
            self.context.transfer.outstanding(Download(file.origin.url, "", file.sha256, file.size))
            for file in missing
            if isinstance(file.origin, Remote)
        )
        if left > self._image_limit:
            raise InputError(
                f"{artifact.name}: {human_bytes(left)} of it are not here, more than the"
                f" {human_bytes(self._image_limit)} that check fetches to read an image",
                remedy=f"--image-limit {-(-left // 10**9)}GB, or run: airgap build, then check again",
            )
        containers.fetch(artifact, self.context, {file.sha256 for file in missing})
        self.count(left)

    def local(self, path: Path, digest: str) -> FileSource:
        return self._open.enter_context(FileSource(path, digest=digest))

    def stream(self, file: LockedFile) -> BinaryIO:
        """A file that is `here`, from its start; the caller closes it. Raises InputError."""
        path = self.here(file)
        assert path, "the caller looked"
        try:
            # A FIFO without a writer would block for ever.
            found = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
        except OSError as error:
            raise InputError(f"{path}: cannot be read: {error.strerror}") from None
        return os.fdopen(found, "rb")

    def remote(
        self, url: str, auth: AuthBase | None, *, size: int | None = None, digest: str = ""
    ) -> RemoteSource:
        kept = Kept(self._kept, url, digest)
        source = RemoteSource(url, self.context.transfer, auth, size=size, digest=digest, kept=kept)
        with self._counting:
            self._remote.append(source)
        return source

    def package(self, name: str, file: str, source: Source, url: str, auth: AuthBase | None) -> Seen:
        """A wheel's METADATA, apart where its index offers that (PEP 658), and an engine's tables."""
        if isinstance(source, RemoteSource) and normalized_name(name) not in ENGINES:
            alone = self.metadata(file, url, source.digest, auth)
            if alone:
                return alone
        return read_package(Archive(source, file), file, whole=isinstance(source, FileSource))

    def metadata(self, file: str, url: str, digest: str, auth: AuthBase | None) -> Seen | None:
        """A wheel's METADATA as its index offers it apart; None where it does not, or did not before."""
        kept = Kept(self._kept, f"{url}.metadata", digest)
        for begin, size, data in kept.parts():
            if (begin, size) == (0, len(data)):
                return read_metadata(data, file, digest)
        server = urlsplit(url).netloc
        if self._missed.get(server, 0) >= MISSES:
            return None
        found = fetch_metadata(url, self.context.transfer, auth)
        if found is None:
            self._missed[server] = self._missed.get(server, 0) + 1
            return None
        self._missed[server] = 0
        self.count(len(found))
        kept.keep(0, len(found), found)
        return read_metadata(found, file, digest)

    def count(self, traffic: int) -> None:
        """Traffic of requests that no source made."""
        with self._counting:
            self._metadata += traffic

    def _sized(self, source: FileSource, file: LockedFile) -> FileSource:
        if source.size != file.size:
            raise InputError(
                f"{file.path}: expected {file.size} bytes, as locked; found {source.size}",
                remedy="run: airgap lock, or for a bundle: airgap verify",
            )
        return source
