"""The audit of a site: every bundle of its current generation, from the site's own store.

Their documents lie in the store, the envelopes among them, so each is judged again by the root of today.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass

from airgap.audit.evidence import Audit, Subject, SubjectKind
from airgap.audit.findings import NOT_LOOKED
from airgap.audit.reading import BlobSource, read_blobs
from airgap.audit.run import Judge, Part, conclude, judge_envelope, wanted_of
from airgap.audit.volumes import Together
from airgap.decode import MAX_DOCUMENT
from airgap.isolated.arrival import Arrival
from airgap.isolated.generation import Member, load_member, stated_blobs
from airgap.isolated.site import Site
from airgap.layout import blob_path
from airgap.media import Media, MissingFileError
from airgap.model import Finding, Kind, Sha256
from airgap.oci import INDEXES, MANIFESTS
from airgap.progress import Progress
from airgap.trust.blobs import StatedBlob
from airgap.trust.statement import Statement
from airgap.units import amount
from airgap.verify import Contents, Signed, refuse
from airgap.verify_volumes import Piece
from airgap.volumes import PARTS_DIRECTORY, Item


def audit_site(
    site: Site, where: str, name: str, judging: Judge, *, progress: Progress, jobs: int | None = None
) -> Audit:
    """Audit what is in force. `name` is the site's own. What is wrong is a finding.

    Raises IntegrityError when a bundle's documents are too damaged to say what is installed, HostError when
    the site cannot be read.
    """
    members = [load_member(site, bundle) for bundle in site.record().bundles]
    return audit_members(site, members, where, name, judging, progress=progress, jobs=jobs)


def audit_members(
    site: Site,
    members: Sequence[Member],
    where: str,
    name: str,
    judging: Judge,
    *,
    progress: Progress,
    jobs: int | None = None,
) -> Audit:
    """Audit bundles whose bytes are in the site's store, in force or not yet. Raises as `audit_site` does."""
    parts = []
    found = []
    for member in members:
        bundle = member.bundle
        envelope = site.store.read(bundle.envelope, max_bytes=MAX_DOCUMENT)
        fact, wrong = judge_envelope(envelope, judging, installed=bundle.installed_at)
        found += wrong
        documents: dict[Sha256, bytes] = {}
        for bundled in member.artifacts:
            images = {
                layer.sha256
                for layer in bundled.layers
                if bundled.artifact.kind is Kind.CONTAINER and layer.media_type in (*INDEXES, *MANIFESTS)
            }
            documents |= {
                one: site.store.read(one, max_bytes=MAX_DOCUMENT) for one in {bundled.digest, *images}
            }
        parts.append(Part(fact, member.artifacts, documents))
    blobs = stated_blobs(members)
    with Media(site.root) as media:
        reading = read_blobs(media, wanted_of(parts, blobs), progress, jobs)
    facts = tuple(part.fact for part in parts)
    subject = Subject(SubjectKind.SITE, where, facts, name, site.current())
    return conclude(subject, parts, reading, found, now=judging.now, blobs=blobs)


@dataclass(frozen=True, slots=True)
class Arriving:
    """A bundle on its media whose signatures hold and whose documents are as signed."""

    media: Media
    signed: Signed
    contents: Contents
    volumes: Together | None = None
    """Where its blobs lie, if it is in volumes, of which `media` is one; what lacks, the site holds."""

    def places(self) -> Mapping[str, BlobSource]:
        """Its blobs that are not the site's, by path."""
        here, volumes = self.signed.statement.travelling, self.volumes
        return {
            str(blob_path(digest)): volumes or self.media
            for digest in here
            if volumes is None or volumes.holds(digest)
        }


def kept(arrival: Arrival, statement: Statement, top: Media) -> Iterator[tuple[Item, Piece]]:
    """What an arrival, opened as `top`, has of a bundle already. Raises HostError."""
    held = arrival.held(statement)
    for digest in held.whole:
        size = statement.travelling[digest].size
        yield Item(digest, 0, size, whole=True), Piece(top, f"bundle/{blob_path(digest)}", 0, size)
    for digest, ranges in held.ranges.items():
        for begin, end in ranges:
            piece = Piece(top, f"{PARTS_DIRECTORY}/{digest}", begin, end - begin)
            yield Item(digest, begin, end - begin, whole=False), piece


class Placed:
    """Blobs by their paths, each on the media that it lies on."""

    def __init__(self, places: Mapping[str, BlobSource]) -> None:
        self._places = places

    @property
    def readers(self) -> int:
        """As `Media.readers`: of the slowest to seek."""
        return min((media.readers for media in set(self._places.values())), default=1)

    def open(self, path: str) -> AbstractContextManager[Callable[[memoryview], int]]:
        """As `Media.open`."""
        return self._media(path).open(path)

    def open_at(self, path: str) -> AbstractContextManager[Callable[[int, int], bytes]]:
        """As `Media.open_at`."""
        return self._media(path).open_at(path)

    def _media(self, path: str) -> BlobSource:
        if path not in self._places:
            raise MissingFileError(f"{path}: missing")
        return self._places[path]


def audit_arriving(
    site: Site, held: Media, arriving: Sequence[Arriving], where: str, judging: Judge, *, progress: Progress
) -> tuple[Audit, Placed]:
    """Audit bundles that are not installed yet, with what the site, opened as `held`, has of them already.

    Also gives their blobs. Raises IntegrityError, which names each that is not as signed, and HostError when
    the media or the site cannot be read.
    """
    parts: list[Part] = []
    found: list[Finding] = []
    blobs: dict[Sha256, StatedBlob] = {}
    places: dict[str, BlobSource] = {}
    for one in arriving:
        stated = one.signed.statement
        fact, wrong = judge_envelope(one.signed.envelope, judging, one.media)
        found += wrong
        parts.append(Part(fact, one.contents.artifacts, one.contents.documents))
        blobs |= stated.blobs
        places |= one.places()
    places |= {
        path: held
        for digest in blobs
        if (path := str(blob_path(digest))) not in places and site.store.holds(digest)
    }
    here = {digest: blob for digest, blob in blobs.items() if str(blob_path(digest)) in places}
    if len(here) < len(blobs):
        absent = amount(len(blobs) - len(here), "blob")
        message = f"{absent} to be made from patches, or lacking: seen once installed"
        found.append(NOT_LOOKED.at(where, message))
    source = Placed(places)
    reading = read_blobs(source, wanted_of(parts, here), progress)
    refuse(reading.findings, ", ".join(str(one.media.root) for one in arriving))
    facts = tuple(part.fact for part in parts)
    subject = Subject(SubjectKind.SITE, where, facts, "", site.current())
    return conclude(subject, parts, reading, found, now=judging.now, blobs=blobs), source
