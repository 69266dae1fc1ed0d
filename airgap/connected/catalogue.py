"""The releases that indexes offer, each read as deep as it takes and only once."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from packaging.version import Version

from airgap.connected.offers import Places, Release, releases
from airgap.connected.opener import Opener
from airgap.connected.simple_index import IndexFile
from airgap.errors import AirgapError
from airgap.model import Target
from airgap.readiness.reading import Seen, read_name
from airgap.readiness.search import Depth, OutOfRequests
from airgap.tags import supported_tags


@dataclass(slots=True)
class Catalogue:
    """Releases by project and version, as `places` offer them for `target`."""

    places: Places
    target: Target
    opener: Opener
    _files: dict[str, tuple[IndexFile, ...]] = field(default_factory=dict)
    _read: dict[tuple[str, Version, Depth], Seen | AirgapError] = field(default_factory=dict)

    def offers(self, project: str, *, prereleases: bool = False) -> tuple[Release, ...]:
        """Every release, the oldest first. Raises SourceError, InputError, OutOfRequests."""
        if project not in self._files:
            self._files[project] = self.places.files(project, self.opener)
        return releases(self._files[project], project, supported_tags(self.target), prereleases=prereleases)

    def releases(self, project: str, *, prereleases: bool) -> Sequence[Version]:
        return [release.version for release in self.offers(project, prereleases=prereleases)]

    def read(self, project: str, version: Version, depth: Depth) -> Seen:
        """A release. Raises InputError or SourceError, the same each time; and OutOfRequests."""
        key = project, version, depth
        if key not in self._read:
            try:
                self._read[key] = self._open(project, version, depth)
            except OutOfRequests:
                raise
            except AirgapError as error:
                self._read[key] = error
        found = self._read[key]
        if isinstance(found, AirgapError):
            raise found
        return found

    def _open(self, project: str, version: Version, depth: Depth) -> Seen:
        offered = self.offers(project, prereleases=True)
        file = next(release.file for release in offered if release.version == version)
        match depth:
            case Depth.NAME:
                return read_name(file.file, file.sha256)
            case Depth.METADATA:
                return self.places.declared(project, file, self.opener)
            case Depth.TABLES:
                return self.places.read(project, file, self.opener)
