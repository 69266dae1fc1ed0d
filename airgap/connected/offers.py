"""Where a wheels set's packages may come from, and which releases of a project are offered there."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path
from urllib.parse import urlsplit
from urllib.request import url2pathname

from packaging.specifiers import SpecifierSet
from packaging.version import Version
from requests.auth import AuthBase

from airgap.connected.index import login_for
from airgap.connected.opener import Opener
from airgap.connected.resolver_protocol import Question, ask
from airgap.connected.simple_index import IndexFile, choose, project_page, read_page, version_of
from airgap.connected.transfer import public_url
from airgap.errors import InputError
from airgap.manifest import WheelsRequest
from airgap.readers.source import FileSource
from airgap.readers.zip import Archive
from airgap.readiness.reading import Seen, read_package
from airgap.store import CHUNK
from airgap.tags import WheelName, normalized_name


@dataclass(frozen=True, slots=True)
class Release:
    """A version of a project, and its wheel that the target would take, else one for another target."""

    version: Version
    file: IndexFile


@dataclass(frozen=True, slots=True)
class Places:
    """Indexes as written, logins included; pages of links; local directories."""

    indexes: tuple[str, ...] = field(repr=False)
    pages: tuple[str, ...] = field(default=(), repr=False)
    directories: tuple[Path, ...] = ()

    @classmethod
    def of(cls, request: WheelsRequest, directory: Path) -> "Places":
        """Those of a request; `directory` is what its paths are relative to."""
        pages, directories = [], []
        for place in request.find_links:
            parts = urlsplit(place)
            if parts.scheme in ("http", "https"):
                pages.append(place)
            else:
                path = Path(url2pathname(parts.path)) if parts.scheme == "file" else directory / place
                directories.append(path)
        indexes = (request.index_url or default_index(), *request.extra_index_urls)
        return cls(indexes, tuple(pages), tuple(directories))

    @property
    def logins(self) -> tuple[str, ...]:
        return (*self.indexes, *self.pages)

    def __str__(self) -> str:
        return " and ".join([*map(public_url, self.logins), *map(str, self.directories)])

    def files(self, project: str, opener: Opener) -> tuple[IndexFile, ...]:
        """Every wheel of a project. Raises SourceError or InputError."""
        files: list[IndexFile] = [file for path in self.directories for file in _listed(path)]
        transfer = opener.context.transfer
        pages = [project_page(public_url(i), project, transfer, self._login(i)) for i in self.indexes]
        pages += [read_page(public_url(p), project, transfer, self._login(p)) for p in self.pages]
        for page in pages:
            opener.count(page.traffic)
            files += page.files
        return tuple(files)

    def read(self, project: str, file: IndexFile, opener: Opener) -> Seen:
        """A wheel's METADATA and, for an engine, its tables. Raises InputError or SourceError."""
        if local := _local(file.url):
            digest = file.sha256 or _sha256(local)
            return read_package(Archive(opener.local(local, digest), file.file), file.file, whole=True)
        auth = self._login(file.url)
        source = opener.remote(file.url, auth, size=file.size, digest=file.sha256)
        return opener.package(project, file.file, source, file.url, auth)

    def declared(self, project: str, file: IndexFile, opener: Opener) -> Seen:
        """A wheel's METADATA; more where it is not offered apart. Raises InputError or SourceError."""
        alone = None
        if not _local(file.url):
            alone = opener.metadata(file.file, file.url, file.sha256, self._login(file.url))
        return alone or self.read(project, file, opener)

    def _login(self, url: str) -> AuthBase | None:
        return login_for(url, self.logins)


def default_index() -> str:
    """The user's own, from pip's settings: what a manifest without one means."""
    return ask(Question()).index_url


def releases(
    files: tuple[IndexFile, ...], project: str, tags: tuple[str, ...], *, prereleases: bool = False
) -> tuple[Release, ...]:
    """The versions of a project, the oldest first; yanked files (PEP 592) are left out, as pip does."""
    offered = [
        (version, file)
        for file in files
        if normalized_name(file.name.name) == normalized_name(project)
        and not file.yanked
        and (version := version_of(file.name.version)) is not None
        and (prereleases or not version.is_prerelease)
    ]
    offered.sort(key=lambda item: item[0])
    found = []
    for version, group in groupby(offered, key=lambda item: item[0]):
        best = choose(tuple(file for _, file in group), project, SpecifierSet(), tags)
        assert best, "it is a version of that project"
        found.append(Release(version, best))
    return tuple(found)


def _listed(directory: Path) -> Iterator[IndexFile]:
    """The wheels of a find-links directory."""
    for path in sorted(directory.glob("*.whl")):
        try:
            name = WheelName.parse(path.name)
        except InputError:
            continue
        yield IndexFile(name, path.name, path.absolute().as_uri(), "", None)


def _local(url: str) -> Path | None:
    parts = urlsplit(url)
    return Path(url2pathname(parts.path)) if parts.scheme == "file" else None


def _sha256(path: Path) -> str:
    """Of a regular file. Raises InputError."""
    hasher = hashlib.sha256()
    with FileSource(path) as source:
        for start in range(0, source.size, CHUNK):
            hasher.update(source.read(start, min(CHUNK, source.size - start)))
    return hasher.hexdigest()
